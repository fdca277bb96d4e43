"""A migration by way of UNIX sockets (`--migrateuri unix:///run/db1.sock`): one on each host."""

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Pace, look, need
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.disks.openings import shut_place
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Absent, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSocket:
    """The path that the destination's QEMU listens at, and the source's connects to."""

    path: str

    @property
    def directory(self) -> str:
        """Where it is made."""
        return posixpath.dirname(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSocket:
    """What is at the path, and where it would be made: kinds, "" nothing."""

    kind: str
    directory_kind: str
    # Whom QEMU runs as, and the directory that he may not search or write to.
    user: str = ""
    shut: str = ""


@need
def migration_socket(options: MigrationOptions) -> MigrationSocket | None:
    """None for other ways, and for a path that is none."""
    scheme, _, rest = options.migrateuri.partition(":")
    path = "/" + rest.lstrip("/")
    return MigrationSocket(path=path) if scheme == "unix" and rest.strip("/") else None


@look(Pace.MOVING)
def seen_socket(source: Source, socket: MigrationSocket, qemu: QemuUser) -> SeenSocket:
    """Nobody connects: who listens would notice."""
    kind, directory_kind = (_kind(source, path) for path in (socket.path, socket.directory))
    shut = ""
    if directory_kind == "dir":
        shut = shut_place(source, socket.path, qemu.user)
    return SeenSocket(kind=kind, directory_kind=directory_kind, user=qemu.user.name, shut=shut)


def _kind(source: Source, path: str) -> str:
    try:
        return source.stat(path).kind
    except Absent:
        return ""


@check(
    "transport.no-socket",
    Severity.BLOCKER,
    title="no socket that leads to the destination",
    remedy="Carry the socket over to the destination before the guest is moved (ssh -L, socat), or "
    "move by TCP.",
    side=Side.SOURCE,
    phase=Phase.PERFORM,
)
def no_socket(socket: MigrationSocket, seen: SeenSocket) -> Problems:
    """With --migrateuri unix: the source connects to a socket of its own host.

    Somebody has to carry what goes in there to the destination, and may begin with it at the last
    moment: one that is not there yet is left open. Error: "Failed to connect socket to
    '/run/db1.sock': No such file or directory", when all is prepared.
    """
    if seen.kind == "socket":
        return
    subject = f"--migrateuri {socket.path}"
    if seen.kind:
        yield Problem(subject=subject, wanted="a socket", found=f"a {seen.kind}")
    elif seen.directory_kind != "dir":
        yield Problem(
            subject=subject,
            wanted=f"directory {socket.directory}",
            found=f"a {seen.directory_kind}" if seen.directory_kind else "not there",
        )
    else:
        yield CouldNotTell(
            subject=subject, why="not there on the source, unless somebody makes it until then"
        )


@check(
    "transport.no-place-for-socket",
    Severity.BLOCKER,
    title="no place for the migration's socket",
    remedy="Make the directory, and let the user that QEMU runs as write to it.",
)
def no_place_for_socket(socket: MigrationSocket, seen: SeenSocket) -> Problems:
    """With --migrateuri unix: the destination's QEMU makes the socket that it waits at.

    Error: "unable to execute QEMU command 'migrate-incoming': Failed to bind socket to
    /run/db1.sock: No such file or directory" or "... Permission denied".
    """
    subject = f"--migrateuri {socket.path}"
    if seen.directory_kind != "dir":
        yield Problem(
            subject=subject,
            wanted=f"directory {socket.directory}",
            found=f"a {seen.directory_kind}" if seen.directory_kind else "not there",
            commands=() if seen.directory_kind else (f"mkdir -p {shlex.quote(socket.directory)}",),
        )
    elif seen.shut:
        yield Problem(
            subject=subject,
            wanted=f"{socket.directory} open to {seen.user}",
            found=f"{seen.user} may not make anything in {seen.shut}",
        )
