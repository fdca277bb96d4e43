"""Whose a connection from this machine is: the user for whom the kernel keeps its other end.

As identd has it (RFC 1413), but asked anew at each call: ports are used again, and gRPC does not
tell when a connection ends. Without netlink, as under our systemd units, the kernel's table is
read.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from virt_preflight.treaty.addresses import Ip, unmapped

# Also where ProcSubset=pid leaves nothing else of /proc; each holds one line for a socket.
TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
# Read in 4 to 20 ms where there are few; a controller of 10,000 hosts has 10,000.
LINES_AT_MOST = 200_000
WITHIN_S = 1.0

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h
NETLINK_SOCK_DIAG = 4
NLMSG_ERROR = 2
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
ESTABLISHED, LISTENING = 1, 10
NO_COOKIE = 0xFFFFFFFF
HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBBBI2s2s16s16sIII")
ANSWER = struct.Struct("=BBBB2s2s16s16sIIIIIIII")
# Whose a connection is that is about to end. It may be the caller's, who would have his own not
# looked at so that one of root's, from the same port to another of our addresses, is taken for it.
NOBODY_KNOWS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Of a connection; `ip` is None where it may be any of this machine's."""

    ip: Ip | None
    port: int

    def matches(self, other: End) -> bool:
        """Whether that may be this one."""
        return self.port == other.port and self.ip in (None, other.ip)


def end_of(address: str) -> End | None:
    """Of `HOST:PORT`; None for what is none, as a Unix socket."""
    host, _, port = address.rpartition(":")
    if address.startswith("unix:") or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):
        return None
    try:
        ip = unmapped(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return End(ip=None, port=int(port))
    return End(ip=None if ip.is_unspecified else ip, port=int(port))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Callers on the same machine, of a server that listens plainly at these addresses."""

    plain: tuple[str, ...]
    # The table is read for one at a time, so that a crowd of callers costs one thread.
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def owner(self, address: str) -> int | None:
        """The user whose connection comes from that loopback address, as we call users here.

        None where it cannot be told: nobody there, nobody any more, or several.
        """
        ours = tuple(filter(None, map(end_of, self.plain)))
        theirs = end_of(address)
        if not ours or theirs is None or theirs.ip is None or not theirs.ip.is_loopback:
            return None
        # Where we listen at several addresses, others may come from the same port as well.
        if all(one.ip is not None for one in ours):
            asked = set(_asked(theirs, ours))
            if asked:
                return only(asked)
        try:
            async with asyncio.timeout(WITHIN_S), self._reading:
                return await asyncio.to_thread(_looked_up, theirs, ours)
        except (TimeoutError, OSError):
            return None


def only(users: Iterable[int]) -> int | None:
    """The one that they all are: who shares a port with another is not to be taken for him."""
    found = set(users)
    return found.pop() if len(found) == 1 and NOBODY_KNOWS not in found else None


def _looked_up(theirs: End, ours: tuple[End, ...]) -> int | None:
    ends = time.monotonic() + WITHIN_S
    return only(user for table in TABLES for user in listed(_lines(table, ends), theirs, ours))


def _lines(table: Path, ends: float) -> Iterator[str]:
    """Of a table that may grow while it is read. OSError where that has no end."""
    with table.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            if number > LINES_AT_MOST or time.monotonic() > ends:
                raise OSError(errno.EFBIG, "too many connections to look through")
            yield line


def listed(lines: Iterable[str], theirs: End, ours: Iterable[End]) -> Iterator[int]:
    """The users of connections from there to us, in lines of /proc/net/tcp or tcp6."""
    port = f":{theirs.port:04X} "
    for line in lines:
        if port not in line:
            continue
        _, local, remote, state, _, _, _, user, _, inode, *_ = line.split()
        # Without an inode it is nobody's, closed or not yet taken, and its user is said to be 0.
        known = int(state, 16) == ESTABLISHED and int(inode) != 0
        if int(state, 16) == LISTENING or _end(local) != theirs:
            continue
        if any(one.matches(_end(remote)) for one in ours):
            yield int(user) if known else NOBODY_KNOWS


def _end(written: str) -> End:
    """As the kernel writes an address: words in its own order, the port as a number."""
    words, port = written.split(":")
    packed = b"".join(
        struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8)
    )
    return End(ip=unmapped(ipaddress.ip_address(packed)), port=int(port, 16))


def _asked(theirs: End, ours: Iterable[End]) -> Iterator[int]:
    """The same of the kernel itself, one pair of addresses a question: some 20 us each."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
            for one in ours:
                kernel.send(question(theirs, one))
                # Answered before send(2) is over.
                said = kernel.recv(4096, socket.MSG_DONTWAIT)
                if (user := told(said, theirs, one)) is not None:
                    yield user
    except OSError:
        return  # RestrictAddressFamilies=, or a kernel without it


def question(theirs: End, ours: End) -> bytes:
    """Which socket has these two ends."""
    body = REQUEST.pack(
        _family(theirs), socket.IPPROTO_TCP, 0, 0, NO_COOKIE, *_packed(theirs, ours),
        0, NO_COOKIE, NO_COOKIE,
    )  # fmt: skip
    length = HEADER.size + len(body)
    return HEADER.pack(length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + body


def told(said: bytes, theirs: End, ours: End) -> int | None:
    """Whose it is; None where there is none, or another, as one that only listens there."""
    _, kind, *_ = HEADER.unpack_from(said)
    if kind != SOCK_DIAG_BY_FAMILY:
        return None
    family, state, _, _, *ends, _, _, _, _, _, _, user, inode = ANSWER.unpack_from(
        said, HEADER.size
    )
    if state == LISTENING or _ends(family, ends) != (theirs, ours):
        return None
    return int(user) if state == ESTABLISHED and inode != 0 else NOBODY_KNOWS


def _ends(family: int, found: Sequence[bytes]) -> tuple[End, End]:
    length = 4 if family == socket.AF_INET else 16
    ports = (int.from_bytes(port, "big") for port in found[:2])
    ips = (unmapped(ipaddress.ip_address(ip[:length])) for ip in found[2:])
    local, remote = (End(ip=ip, port=port) for ip, port in zip(ips, ports, strict=True))
    return local, remote


def _packed(*ends: End) -> Iterator[bytes]:
    """Their ports, then their addresses."""
    for one in ends:
        yield struct.pack("!H", one.port)
    for one in ends:
        assert one.ip is not None, "it is asked about two addresses"
        yield one.ip.packed.ljust(16, b"\0")


def _family(end: End) -> int:
    return socket.AF_INET if isinstance(end.ip, ipaddress.IPv4Address) else socket.AF_INET6
