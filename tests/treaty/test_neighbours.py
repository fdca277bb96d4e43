from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from itertools import repeat
from pathlib import Path

import pytest

from virt_preflight.treaty import neighbours
from virt_preflight.treaty.neighbours import (
    NOBODY_KNOWS,
    End,
    Neighbours,
    end_of,
    listed,
    only,
    told,
)

# /proc/net/tcp and tcp6 of Linux 6.18, on a little-endian machine; users and inodes chosen.
HEADING = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout"
    " inode\n"
)
LINE = (
    "   0: {} {} {} 00000000:00000000 00:00000000 00000000 {:5}        0 {} 1 0000 20 4 30 10 -1\n"
)
V4, MAPPED = "0100007F:{:04X}", "0000000000000000FFFF00000100007F:{:04X}"
V6, OTHER = "00000000000000000000000001000000:{:04X}", "0200007F:{:04X}"
THEIRS = End(ip=ip_address("127.0.0.1"), port=40_000)
OURS = End(ip=ip_address("127.0.0.1"), port=50_551)
ANYWHERE = End(ip=None, port=50_551)
# What a kernel answered about a connection from 127.0.0.1:41928 to 127.0.0.1:52529 of user 1000.
DIAG = bytes.fromhex(
    "7c00000014000000010000000b490000"
    "02010000a3c8cd317f0000010000000000000000000000007f00000100000000000000000000000000000000"
    "0700000001000000000000000000000000000000e803000039300000" + "00" * 52
)  # fmt: skip
DIAG_THEIRS = End(ip=ip_address("127.0.0.1"), port=0xA3C8)
DIAG_OURS = End(ip=ip_address("127.0.0.1"), port=0xCD31)


def line(
    local: str = V4, remote: str = V4, *, state: str = "01", user: int = 1000, inode: int = 12345
) -> str:
    return LINE.format(local.format(40_000), remote.format(50_551), state, user, inode)


def users(*lines: str, ours: End = OURS, theirs: End = THEIRS) -> list[int]:
    return list(listed((HEADING, *lines), theirs, (ours,)))


def test_the_table_says_whose_a_connection_is() -> None:
    assert users(line()) == [1000]
    assert users(line(MAPPED, MAPPED)) == [1000]
    v6 = [End(ip=ip_address("::1"), port=port) for port in (50_551, 40_000)]
    assert users(line(V6, V6), ours=v6[0], theirs=v6[1]) == [1000]


@pytest.mark.parametrize(
    "other",
    [
        line(OTHER),
        line(V4, OTHER),
        line(V6, V6),
        line(state="0A"),
        line().replace(":9C40", ":9C41"),
        line().replace(":C577", ":C578"),
    ],
)
def test_no_other_connection_is_taken_for_it(other: str) -> None:
    assert users(other) == []


@pytest.mark.parametrize(
    "ending",
    [
        # Who closes his end before he is looked for is nobody, and not the user 0 that it then has.
        line(V4, OTHER, state="05", user=0, inode=0),
        line(V4, OTHER, state="01", user=0, inode=0),
        line(V4, OTHER, state="06", user=0, inode=0),
        line(V4, OTHER, state="04", user=1000),
    ],
)
def test_who_closes_his_end_is_not_taken_for_root_who_has_his_port_elsewhere(ending: str) -> None:
    found = users(line(user=0), ending, ours=ANYWHERE)
    assert found == [0, NOBODY_KNOWS]
    assert only(found) is None
    assert only([NOBODY_KNOWS]) is None


def test_who_shares_a_port_with_root_by_way_of_another_address_is_not_taken_for_root() -> None:
    both = users(line(user=0), line(V4, OTHER, user=1000), ours=ANYWHERE)
    assert both == [0, 1000]
    assert only(both) is None
    assert only([1000, 1000]) == 1000
    assert only([]) is None


def test_the_kernel_s_own_answer_says_it_too() -> None:
    assert told(DIAG, DIAG_THEIRS, DIAG_OURS) == 1000


@pytest.mark.parametrize(
    "said",
    [
        DIAG[:84] + b"\0\0\0\0" + DIAG[88:],  # it has no inode
        DIAG[:17] + b"\x04" + DIAG[18:],  # it has been closed, and not all has been sent
    ],
)
def test_of_a_connection_that_ends_the_kernel_does_not_say_whose_it_is(said: bytes) -> None:
    assert told(said, DIAG_THEIRS, DIAG_OURS) == NOBODY_KNOWS


@pytest.mark.parametrize(
    "said",
    [
        DIAG[:17] + b"\x0a" + DIAG[18:],  # it listens
        DIAG[:21] + b"\xc9" + DIAG[22:],  # another port
        bytes.fromhex("5c00000002000000010000000b490000feffffff") + bytes(72),  # ENOENT
    ],
)
def test_an_answer_about_anything_else_is_none(said: bytes) -> None:
    assert told(said, DIAG_THEIRS, DIAG_OURS) is None


@pytest.mark.parametrize(
    ("address", "end"),
    [
        ("127.0.0.1:1", End(ip=ip_address("127.0.0.1"), port=1)),
        ("[::1]:1", End(ip=ip_address("::1"), port=1)),
        ("[::ffff:127.0.0.1]:1", End(ip=ip_address("127.0.0.1"), port=1)),
        ("0.0.0.0:1", End(ip=None, port=1)),
        ("[::]:1", End(ip=None, port=1)),
        ("localhost:1", End(ip=None, port=1)),
        ("unix:/run/x:1", None),
        ("", None),
        ("127.0.0.1", None),
    ],
)
def test_an_address_is_read(address: str, end: End | None) -> None:
    assert end_of(address) == end


@contextmanager
def connected(family: int, host: str, *, to: str = "") -> Iterator[tuple[str, str]]:
    """Where we listen, and where the other end is, as gRPC would have it."""
    with (
        socket.socket(family) as listener,
        socket.socket(socket.AF_INET6 if ":" in (to or host) else socket.AF_INET) as client,
    ):
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        client.connect((to or host, port))
        with listener.accept()[0] as taken:
            ip, from_port, *_ = taken.getpeername()
            yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}", f"[{ip}]:{from_port}"


WAYS = [
    (socket.AF_INET, "127.0.0.1", ""),
    (socket.AF_INET, "0.0.0.0", "127.0.0.1"),
    (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
    (socket.AF_INET6, "::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    (socket.AF_INET6, "::1", ""),
    (socket.AF_INET6, "::", "::1"),
]


@pytest.mark.parametrize(("family", "host", "to"), WAYS)
async def test_our_own_connection_is_ours(family: int, host: str, to: str) -> None:
    with connected(family, host, to=to) as (listening, peer):
        assert await Neighbours((listening,)).owner(peer) == os.geteuid()


@pytest.mark.parametrize(("family", "host", "to"), WAYS)
async def test_without_netlink_it_is_ours_as_well(
    monkeypatch: pytest.MonkeyPatch, family: int, host: str, to: str
) -> None:
    """As under RestrictAddressFamilies=, which refuses such sockets."""
    made = socket.socket

    def refusing(asked: int = socket.AF_INET, *rest: int) -> socket.socket:
        if asked == socket.AF_NETLINK:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return made(asked, *rest)

    with connected(family, host, to=to) as (listening, peer):
        monkeypatch.setattr("virt_preflight.treaty.neighbours.socket.socket", refusing)
        assert await Neighbours((listening,)).owner(peer) == os.geteuid()


@pytest.mark.parametrize("by", ["netlink", "the table"])
async def test_who_closes_his_end_is_nobody_though_his_port_is_another_s_elsewhere(
    monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """He may still be answered, and so must not be hidden behind whoever has the port as well."""
    if by == "the table":
        monkeypatch.setattr(neighbours, "_asked", lambda _theirs, _ours: iter(()))
    with ExitStack() as until:
        doors = [
            until.enter_context(socket.create_server((f"127.0.0.{number}", 0))) for number in (1, 2)
        ]
        asker = Neighbours(tuple(_written(door.getsockname()) for door in doors))
        port = 0
        for door in doors:
            his = until.enter_context(socket.socket())
            his.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            his.bind(("127.0.0.1", port))
            his.connect(door.getsockname())
            port = his.getsockname()[1]
        assert await asker.owner(f"127.0.0.1:{port}") == os.geteuid()
        his.shutdown(socket.SHUT_WR)
        assert await asker.owner(f"127.0.0.1:{port}") is None


def _written(at: tuple[str, int]) -> str:
    return f"{at[0]}:{at[1]}"


async def test_with_netlink_no_table_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TABLES", (Path("/nowhere"),))
    with connected(socket.AF_INET, "127.0.0.1") as (listening, peer):
        assert await Neighbours((listening,)).owner(peer) == os.geteuid()


async def test_who_has_gone_is_nobody() -> None:
    with connected(socket.AF_INET, "127.0.0.1") as (listening, peer):
        pass
    assert await Neighbours((listening,)).owner(peer) is None


@pytest.mark.parametrize("peer", ["10.0.0.9:5", "[fd00::1]:5", "unix:", "", "localhost:5"])
async def test_who_does_not_come_over_loopback_is_not_looked_for(
    monkeypatch: pytest.MonkeyPatch, peer: str
) -> None:
    monkeypatch.setattr(neighbours, "_looked_up", lambda *_: pytest.fail("looked for"))
    assert await Neighbours(("0.0.0.0:50551",)).owner(peer) is None


async def test_a_table_that_cannot_be_read_makes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TABLES", (Path("/nowhere"),))
    with connected(socket.AF_INET, "0.0.0.0", to="127.0.0.1") as (listening, peer):
        assert await Neighbours((listening,)).owner(peer) is None


async def test_a_table_without_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "tcp"
    table.write_text(HEADING + "".join(repeat(line(), 20)))
    monkeypatch.setattr(neighbours, "TABLES", (table,))
    asked = Neighbours(("0.0.0.0:50551",))
    assert await asked.owner("127.0.0.1:40000") == 1000
    monkeypatch.setattr(neighbours, "LINES_AT_MOST", 10)
    assert await asked.owner("127.0.0.1:40000") is None
