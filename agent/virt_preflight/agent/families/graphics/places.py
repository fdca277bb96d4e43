"""What a screen's server needs of the host's files: a place for its socket, and a keymap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, look, need
from virt_preflight.agent.families.chardevs.checks import reserved
from virt_preflight.agent.families.chardevs.host import OpenPorts
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.disks.guest import DacLabel, domain_dac
from virt_preflight.agent.families.disks.openings import runs_as, shut_place
from virt_preflight.agent.families.firmware.host import data_folders
from virt_preflight.agent.families.graphics.guest import GuestGraphics
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Absent, Source
from virt_preflight.agent.xml import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSockets:
    """Sockets that the guest's QEMU makes for its screens, and whom it is said to run as."""

    paths: tuple[str, ...]
    dac: DacLabel


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSockets:
    """By path of a socket the directory that QEMU's user may not search or write to; "" none."""

    shut_by_path: Mapping[str, str]
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestKeymaps:
    """Keymaps that the guest's VNC servers are to have."""

    names: tuple[str, ...]
    emulator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenKeymaps:
    """Those that its QEMU has, and where; no folder: they were not found."""

    folder: str
    names: frozenset[str]


@need
def guest_sockets(domain: Domain, guest: GuestGraphics) -> GuestSockets | None:
    """Not those that libvirt makes a directory for."""
    paths = tuple(server.socket for server in guest.servers if server.socket)
    return GuestSockets(paths=paths, dac=domain_dac(domain.root)) if paths else None


@look(Pace.MOVING)
def seen_sockets(source: Source, guest: GuestSockets, qemu: QemuUser) -> SeenSockets:
    """QEMU makes them itself, as the user that it runs as. A directory that is absent is left."""
    user = runs_as(source, qemu, guest.dac)
    found = {}
    for path in guest.paths:
        try:
            found[path] = shut_place(source, path, user)
        except Absent:
            found[path] = ""
    return SeenSockets(shut_by_path=found, user=user.name)


@need
def guest_keymaps(domain: Domain) -> GuestKeymaps | None:
    """`<graphics type='vnc' keymap>`."""
    names = dict.fromkeys(
        name
        for screen in domain.root.findall("devices/graphics[@type='vnc']")
        if (name := screen.get("keymap", ""))
    )
    emulator = text_of(domain.root, "devices/emulator") or ""
    return GuestKeymaps(names=tuple(names), emulator=emulator) if names else None


@look(Pace.FIXED)
def seen_keymaps(source: Source, guest: GuestKeymaps) -> SeenKeymaps:
    """Beside QEMU's other files (qemu_find_file, qemu-datadir.c): the first folder counts."""
    for folder in data_folders(guest.emulator):
        try:
            names = source.names(f"{folder}/keymaps")
        except Absent:
            continue
        return SeenKeymaps(folder=f"{folder}/keymaps", names=frozenset(names))
    return SeenKeymaps(folder="", names=frozenset())


@check(
    "graphics.directory-shut",
    Severity.BLOCKER,
    title="QEMU may not make the screen's socket",
    remedy="Let the user that QEMU runs as write to the directory.",
)
def directory_shut(guest: GuestSockets, seen: SeenSockets) -> Problems:
    """QEMU itself makes the socket of a VNC or SPICE server, as its own user.

    Error: "Failed to bind socket to /srv/vnc/db1.sock: Permission denied" (QEMU).
    """
    for path in guest.paths:
        if shut := seen.shut_by_path.get(path, ""):
            yield Problem(
                subject=f"socket {path}",
                wanted=f"a directory open to {seen.user}",
                found=f"{seen.user} may not make anything in {shut}",
            )


@check(
    "graphics.keymap-absent",
    Severity.BLOCKER,
    title="keymap absent",
    remedy="Install QEMU's keymaps on the host, or take the keymap from the guest's screen.",
)
def keymap_absent(guest: GuestKeymaps, seen: SeenKeymaps) -> Problems:
    """QEMU reads the keymap of a VNC server when it starts.

    Error: "could not read keymap file: 'de'" (QEMU).
    """
    for name in guest.names:
        if not seen.folder:
            yield CouldNotTell(
                subject=f"keymap {name}", why="QEMU's keymaps were not found where QEMUs have them"
            )
        elif name not in seen.names:
            yield Problem(
                subject=f"keymap {name}", wanted=f"{seen.folder}/{name}", found="not there"
            )


@check(
    "graphics.port-reserved",
    Severity.BLOCKER,
    title="a port that the kernel keeps from QEMU's user",
    remedy="Move with --xml naming a higher port, or lower net.ipv4.ip_unprivileged_port_start.",
)
def port_reserved(guest: GuestGraphics, host: OpenPorts) -> Problems:
    """Ports below 1024 are root's, and QEMU may run as an ordinary user here.

    Error: "Failed to find an available port: Permission denied" (QEMU).
    """
    for server in guest.servers:
        for port in server.ports:
            yield from reserved(server.subject, port, host)
