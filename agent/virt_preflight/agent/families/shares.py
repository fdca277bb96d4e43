"""Directories of the host that a guest mounts: virtiofs and 9p."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, Unknown, look, need
from virt_preflight.agent.families.chardevs.host import kinds_of
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Source
from virt_preflight.agent.xml import attribute

# Read and tried: 9.0 refuses every virtiofs, 11.3 those whose virtiofsd cannot hand its state over.
ALWAYS_REFUSED, SOMETIMES_ALLOWED = 9_000_999, 11_003_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One shared directory; `socket`: somebody else runs its virtiofsd."""

    tag: str
    virtiofs: bool
    directory: str
    socket: str = ""
    binary: str = ""

    @property
    def subject(self) -> str:
        """As the operator would name it."""
        return f"{'virtiofs' if self.virtiofs else '9p'} {self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestShares:
    """A guest that shares directories with its host."""

    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenShares:
    """What is at the directories, sockets and programs: its kind, "" nothing."""

    kind_by_path: Mapping[str, str | Unknown]


@need
def guest_shares(domain: Domain) -> GuestShares | None:
    """`<filesystem>`; without a driver it is 9p."""
    shares = tuple(
        Share(
            tag=attribute(element, "target", "dir") or "?",
            virtiofs=attribute(element, "driver", "type") == "virtiofs",
            directory=attribute(element, "source", "dir") or "",
            socket=attribute(element, "source", "socket") or "",
            binary=attribute(element, "binary", "path") or "",
        )
        for element in domain.root.findall("devices/filesystem")
    )
    return GuestShares(shares=shares) if shares else None


@look(Pace.MOVING)
def seen_shares(source: Source, guest: GuestShares) -> SeenShares:
    """Of this host."""
    paths = {
        path
        for share in guest.shares
        for path in (share.directory, share.socket, share.binary)
        if path
    }
    return SeenShares(kind_by_path=kinds_of(source, sorted(paths)))


@check(
    "shares.virtiofs-stays",
    Severity.BLOCKER,
    title="virtiofs holds the guest",
    remedy="Unmount the share in the guest and detach it before the guest moves.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def virtiofs_stays(guest: GuestShares, versions: HostVersions) -> Problems:
    """virtiofsd keeps the state of a mount: which files are open.

    libvirt 9.0 keeps every such guest, 11.3 lets it go when virtiofsd is somebody else's, or says
    of itself that it can hand its state over (migrate-precopy).
    Error: "migration with virtiofs device is not supported" or "migration with this virtiofs device
    is not supported" (qemuMigrationSrcIsAllowed, qemu/qemu_migration.c).
    """
    for share in guest.shares:
        if not share.virtiofs:
            continue
        if versions.libvirt <= ALWAYS_REFUSED:
            yield Problem(
                subject=share.subject, wanted="no virtiofs", found="this libvirt never lets it go"
            )
        elif versions.libvirt < SOMETIMES_ALLOWED:
            yield CouldNotTell(subject=share.subject, why="not every libvirt lets virtiofs go")
        else:
            yield CouldNotTell(
                subject=share.subject, why="only virtiofsd knows whether it hands its state over"
            )


@check(
    "shares.mounted",
    Severity.BLOCKER,
    title="whether the guest has a 9p share mounted",
    remedy="Unmount the share in the guest before it moves.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def mounted(guest: GuestShares) -> Problems:
    """QEMU keeps a guest that has the share mounted, and lets go one that has not.

    Error: "Migration is disabled when VirtFS export path '/srv' is mounted in the guest using
    mount_tag 'x'" (QEMU, hw/9pfs/9p.c).
    """
    for share in guest.shares:
        if not share.virtiofs:
            yield CouldNotTell(subject=share.subject, why="only QEMU knows whether it is mounted")


@check(
    "shares.no-directory",
    Severity.BLOCKER,
    title="the shared directory is not there",
    remedy="Make or mount the directory on the host, with the same content.",
)
def no_directory(guest: GuestShares, seen: SeenShares) -> Problems:
    """The destination shares the directory of that very path.

    Error: "cannot initialize fsdev 'fsdev-fs0': failed to open '/srv': No such file or directory"
    (QEMU) or "the virtiofs export directory '/srv' does not exist" (qemuVirtioFSStart,
    qemu/qemu_virtiofs.c).
    """
    for share in guest.shares:
        if not share.directory or share.socket:
            continue
        match seen.kind_by_path.get(share.directory):
            case "dir":
                continue
            case Unknown(why):
                yield CouldNotTell(subject=share.subject, why=why)
            case kind:
                yield Problem(
                    subject=share.subject,
                    wanted=f"directory {share.directory}",
                    found=f"a {kind}" if kind else "not there",
                    commands=(f"ls -ld {shlex.quote(share.directory)}",),
                )


@check(
    "shares.no-server",
    Severity.BLOCKER,
    title="nobody serves the share",
    remedy="Start the virtiofsd of that socket, or install that virtiofsd.",
)
def no_server(guest: GuestShares, seen: SeenShares) -> Problems:
    """virtiofsd is started by libvirt from the path that the guest names, or is there already.

    Error: "virtiofsd binary '...' is not executable" (qemuVirtioFSStart) or QEMU's "Failed to
    connect to '...': No such file or directory".
    """
    for share in guest.shares:
        path = share.socket or share.binary
        if not (share.virtiofs and path):
            continue
        kind = seen.kind_by_path.get(path)
        if isinstance(kind, Unknown):
            yield CouldNotTell(subject=share.subject, why=kind.why)
        elif not kind:
            yield Problem(subject=share.subject, wanted=path, found="not there")
