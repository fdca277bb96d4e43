from __future__ import annotations

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.transport import (
    MigrationSocket,
    SeenSocket,
    migration_socket,
    no_place_for_socket,
    no_socket,
    seen_socket,
)
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.sources import FileStat, User, Want

SOCKET = MigrationSocket(path="/srv/m/a.sock")
QEMU = QemuUser(user=User(name="qemu", uid=107, gid=107), dynamic_ownership=True)


def found(kind: str) -> FileStat:
    return FileStat(kind=kind, size_bytes=0, mode=0o755, uid=0, gid=0, device=1, inode=1)


def seen(
    socket: str = "", directory: str = "dir", *, searches: bool = True, writes: bool = True
) -> SeenSocket:
    kinds = {"/srv/m/a.sock": socket, "/srv/m": directory}
    ways = {(path, Want.EXECUTE, "qemu"): True for path in ("/", "/srv")}
    ways |= {
        ("/srv/m", Want.EXECUTE, "qemu"): searches,
        ("/srv/m", Want.WRITE, "qemu"): writes,
    }
    stats = {path: found(kind) for path, kind in kinds.items() if kind}
    return seen_socket(FakeSource(stats=stats, mays=ways), SOCKET, QEMU)


@pytest.mark.parametrize(
    ("uri", "socket"),
    [
        ("unix:///srv/m/a.sock", SOCKET),
        ("unix:/srv/m/a.sock", SOCKET),
        ("unix:", None),
        ("tcp://h2", None),
        ("", None),
    ],
)
def test_the_path_is_read_from_the_uri(uri: str, socket: MigrationSocket | None) -> None:
    assert migration_socket(MigrationOptions(migrateuri=uri)) == socket


def test_a_socket_that_is_not_there_yet_may_still_be_made() -> None:
    (open_,) = no_socket(SOCKET, seen())
    assert isinstance(open_, CouldNotTell)
    assert open_.subject == "--migrateuri /srv/m/a.sock"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (seen("file"), "a file"),
        (seen(directory=""), "not there"),
        (seen(directory="file"), "a file"),
    ],
)
def test_where_no_socket_can_be_the_source_connects_to_nobody(there: SeenSocket, said: str) -> None:
    (problem,) = no_socket(SOCKET, there)
    assert isinstance(problem, Problem)
    assert problem.found == said


def test_a_socket_on_the_source_is_taken_for_the_way_to_the_destination() -> None:
    assert not list(no_socket(SOCKET, seen("socket")))


def test_the_destinations_qemu_needs_a_directory_to_make_its_socket_in() -> None:
    (problem,) = no_place_for_socket(SOCKET, seen(directory=""))
    assert isinstance(problem, Problem)
    assert problem.commands == ("mkdir -p /srv/m",)
    assert not list(no_place_for_socket(SOCKET, seen()))


@pytest.mark.parametrize("there", [seen(searches=False), seen(writes=False)])
def test_a_directory_that_is_shut_to_qemus_user_takes_no_socket(there: SeenSocket) -> None:
    (problem,) = no_place_for_socket(SOCKET, there)
    assert isinstance(problem, Problem)
    assert problem.found == "qemu may not make anything in /srv/m"
