import datetime as dt

import pytest
import trustme

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.families.transport import (
    DestinationDaemon,
    SeenDaemon,
    destination_daemon,
    no_connection,
    seen_daemon,
)
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.sources import Absent, FileStat, Refused, SourceError, Unreadable

NOW_S = 1_800_000_000.0
CA = trustme.CA()
TLS = DestinationDaemon(host="h2", port=16514, tls="usual")
TCP = DestinationDaemon(host="h2", port=16509)
TIME = {"/proc/stat": f"btime {NOW_S:.0f}\n", "/proc/uptime": "0.0 0.0\n"}
AUTHORITY, CLIENT = "/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/clientcert.pem"


@pytest.mark.parametrize(
    ("uri", "daemon"),
    [
        ("qemu+tls://h2/system", TLS),
        ("qemu://h2/system", TLS),
        ("qemu+tcp://h2/system", TCP),
        ("qemu+tcp://h2:1234/system", DestinationDaemon(host="h2", port=1234)),
        (
            "qemu+tls://h2/system?pkipath=/a",
            DestinationDaemon(host="h2", port=16514, tls="elsewhere"),
        ),
        (
            "qemu+unix:///system?socket=/run/h2.sock",
            DestinationDaemon(host="", port=0, socket="/run/h2.sock"),
        ),
        ("qemu+unix:///system", None),
        ("qemu+unix:///system?socket=h2", None),
        ("qemu+ssh://h2/system", None),
        ("qemu:///system", None),
        ("qemu+tcp://h2:x/system", None),
        ("", None),
    ],
)
def test_whom_libvirtd_connects_to_is_read_from_the_uri(
    uri: str, daemon: DestinationDaemon | None
) -> None:
    assert destination_daemon(MigrationOptions(p2p=True, desturi=uri)) == daemon
    assert destination_daemon(MigrationOptions(direct=True, p2p=False, desturi=uri)) is None


def client(*, years: int = 1) -> str:
    ends = dt.datetime.fromtimestamp(NOW_S, dt.UTC) + dt.timedelta(365 * years)
    issued = CA.issue_cert("h1", not_before=ends - dt.timedelta(3650), not_after=ends)
    return issued.cert_chain_pems[0].bytes().decode()


def holding(texts: dict[str, str], error: SourceError | None = None) -> SeenDaemon:
    port = {("h2", 16514): error}
    return seen_daemon(FakeSource(reaches=port, texts={**TIME, **texts}), TLS)


BOTH = {AUTHORITY: CA.cert_pem.bytes().decode(), CLIENT: client()}


def test_a_libvirtd_that_listens_and_good_certificates_are_fine() -> None:
    assert not list(no_connection(TLS, holding(BOTH)))
    plain = FakeSource(reaches={("h2", 16509): None})
    assert not list(no_connection(TCP, seen_daemon(plain, TCP)))


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (Refused("h2 port 16514: connection refused"), "h2 port 16514: connection refused"),
        (Absent("h2: Name or service not known"), "h2: Name or service not known"),
    ],
)
def test_nobody_who_listens_is_sure(error: SourceError, found: str) -> None:
    (problem,) = no_connection(TLS, holding(BOTH, error))
    assert isinstance(problem, Problem)
    assert problem.found == found


@pytest.mark.parametrize(
    "error", [Refused("h2 port 16514: no answer within 1 s"), Unreadable("no right")]
)
def test_silence_is_not_sure(error: SourceError) -> None:
    (left,) = no_connection(TLS, holding(BOTH, error))
    assert isinstance(left, CouldNotTell)


def test_certificates_that_libvirt_itself_refuses_are_told() -> None:
    (problem,) = no_connection(TLS, holding({CLIENT: BOTH[CLIENT]}))
    assert isinstance(problem, Problem)
    assert problem.found == f"{AUTHORITY} is not there"
    (problem,) = no_connection(TLS, holding({**BOTH, CLIENT: client(years=-1)}))
    assert isinstance(problem, Problem)
    assert "expired on 2026-" in problem.found


def test_without_one_of_its_own_or_with_what_is_none_it_is_left_open() -> None:
    for texts in ({AUTHORITY: BOTH[AUTHORITY]}, {**BOTH, CLIENT: "hello"}):
        (left,) = no_connection(TLS, holding(texts))
        assert isinstance(left, CouldNotTell)


@pytest.mark.parametrize(
    ("kind", "found"), [("", "not there"), ("file", "a file"), ("socket", None)]
)
def test_a_socket_that_leads_to_libvirtd_has_to_be_there(kind: str, found: str | None) -> None:
    daemon = DestinationDaemon(host="", port=0, socket="/run/h2.sock")
    there = FileStat(kind=kind, size_bytes=0, mode=0o600, uid=0, gid=0, device=1, inode=1)
    seen = seen_daemon(FakeSource(stats={"/run/h2.sock": there} if kind else {}), daemon)
    told = list(no_connection(daemon, seen))
    if found is None:
        assert not told
        return
    (problem,) = told
    assert isinstance(problem, Problem)
    assert (problem.subject, problem.found) == ("libvirtd at socket /run/h2.sock", found)


def test_a_socket_that_may_not_be_looked_at_is_left_open() -> None:
    daemon = DestinationDaemon(host="", port=0, socket="/run/h2.sock")
    seen = seen_daemon(FakeSource(stats={"/run/h2.sock": Unreadable("no right")}), daemon)
    assert seen == SeenDaemon(doubt="no right")
