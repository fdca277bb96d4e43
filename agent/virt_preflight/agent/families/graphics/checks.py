"""Whether the guest's screen can be shown here."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.certificates import SERVER
from virt_preflight.agent.families.graphics.guest import GuestGraphics, Server
from virt_preflight.agent.families.graphics.host import (
    GraphicsCertificates,
    HostGraphics,
    SeenGraphics,
    listening,
)
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.report import Severity


@check(
    "graphics.server-not-offered",
    Severity.BLOCKER,
    title="QEMU here has no such graphics server",
    remedy="Install the QEMU package with that server here, or restart the guest with another.",
)
def server_not_offered(guest: GuestGraphics, seen: SeenCapabilities) -> Problems:
    """QEMU may be built without spice, or its modules be packaged apart.

    Error: "spice graphics are not supported with this QEMU" (qemuValidateDomainDeviceDefGraphics,
    qemu/qemu_validate.c).
    """
    kinds = tuple(server.kind for server in guest.servers)
    yield from not_offered("graphics", kinds, seen.values.get("devices/graphics/type"))


@check(
    "graphics.video-not-offered",
    Severity.BLOCKER,
    title="QEMU here has no such video card",
    remedy="Install the QEMU package with that video card, or restart the guest with another.",
)
def video_not_offered(guest: GuestGraphics, seen: SeenCapabilities) -> Problems:
    """Video cards as qxl and virtio may be missing from a QEMU, or be packaged apart.

    Error: "domain configuration does not support video model 'qxl'"
    (qemuValidateDomainDeviceDefVideo, qemu/qemu_validate.c).
    """
    yield from not_offered("video", guest.videos, seen.values.get("devices/video/modelType"))


def not_offered(what: str, wanted: tuple[str, ...], offered: frozenset[str] | None) -> Problems:
    """Those that domain capabilities do not list; None: they list none of that sort at all."""
    for kind in dict.fromkeys(wanted):
        if offered is None:
            yield CouldNotTell(subject=f"{what} {kind}", why="libvirt does not say what it offers")
        elif kind not in offered:
            yield Problem(
                subject=f"{what} {kind}", wanted=kind, found=", ".join(sorted(offered)) or "none"
            )


@check(
    "graphics.address-not-here",
    Severity.BLOCKER,
    title="screen's address not on this host",
    remedy="Listen on 0.0.0.0, or move with --xml naming an address of this host.",
)
def address_not_here(guest: GuestGraphics, seen: SeenGraphics) -> Problems:
    """A literal address goes with the guest, and QEMU listens on it when it starts.

    Error: "Failed to bind socket: Cannot assign requested address" (QEMU).
    """
    for server in guest.servers:
        match seen.local_by_address.get(server.address) if server.offers else True:
            case False:
                yield Problem(
                    subject=server.subject,
                    wanted="an address of this host",
                    found=f"{server.address}, which is not",
                )
            case Unknown(why):
                yield CouldNotTell(subject=server.subject, why=why)


@check(
    "graphics.port-in-use",
    Severity.BLOCKER,
    title="the screen's port is in use",
    remedy="End what listens there, or move with --xml and autoport='yes'.",
)
def port_in_use(guest: GuestGraphics, host: HostGraphics, seen: SeenGraphics) -> Problems:
    """A fixed port (autoport='no') goes with the guest; two cannot listen on one.

    Error: "Failed to find an available port: Address already in use" (QEMU) or "Failed to reserve
    port 5999" (virPortAllocatorSetUsed, util/virportallocator.c).
    """
    for server, address, port in _fixed(guest, host):
        if seen.local_by_address.get(address) is False:
            continue
        match seen.free_by_end.get((address, port)):
            case False:
                yield Problem(
                    subject=server.subject,
                    wanted=f"port {port} free on {address}",
                    found="in use",
                    commands=(f"ss -ltnp 'sport = :{port}'",),
                )
            case Unknown(why):
                yield CouldNotTell(subject=server.subject, why=why)


def _fixed(guest: GuestGraphics, host: HostGraphics) -> Iterator[tuple[Server, str, int]]:
    for server in guest.servers:
        for port in server.ports:
            yield server, listening(server, host), port


@check(
    "graphics.network-unusable",
    Severity.BLOCKER,
    title="no address to be had from a network",
    remedy="Define the network here with an IP address, or listen on an address.",
)
def network_unusable(guest: GuestGraphics, seen: SeenGraphics) -> Problems:
    """With <listen type='network'> libvirt takes the address of the host in that network.

    Error: "no network with matching name 'mgmt'" or "network 'mgmt' doesn't have an IP address"
    (qemuProcessGetNetworkAddress, qemu/qemu_process.c).
    """
    for server in guest.servers:
        fault = seen.fault_by_network.get(server.network)
        if isinstance(fault, Unknown):
            yield CouldNotTell(subject=server.subject, why=fault.why)
        elif fault:
            yield Problem(subject=server.subject, wanted=f"network {server.network}", found=fault)


@check(
    "graphics.no-directory",
    Severity.BLOCKER,
    title="directory for the screen's socket absent",
    remedy="Make the directory on the host, writable for QEMU.",
)
def no_directory(guest: GuestGraphics, seen: SeenGraphics) -> Problems:
    """QEMU makes the socket, but not its directory.

    Error: "Failed to bind socket to /run/screens/v.sock: No such file or directory" (QEMU).
    """
    for server in guest.servers:
        if not server.socket:
            continue
        directory = posixpath.dirname(server.socket)
        match seen.kind_by_path.get(directory):
            case "dir":
                continue
            case Unknown(why):
                yield CouldNotTell(subject=server.subject, why=why)
            case kind:
                yield Problem(
                    subject=server.subject,
                    wanted=f"directory {directory}",
                    found=f"a {kind}" if kind else "not there",
                    commands=() if kind else (f"mkdir -p {shlex.quote(directory)}",),
                )


@check(
    "graphics.no-render-node",
    Severity.BLOCKER,
    title="the GPU's render node is not there",
    remedy="Move with --xml naming a render node of this host.",
)
def no_render_node(guest: GuestGraphics, seen: SeenGraphics) -> Problems:
    """With OpenGL the guest names a render node of the host's GPU, be it chosen by libvirt.

    Error: "unable to stat: /dev/dri/renderD129: No such file or directory" or QEMU's own.
    """
    for server in guest.servers:
        if not server.render_node:
            continue
        match seen.kind_by_path.get(server.render_node):
            case "":
                yield Problem(subject=server.subject, wanted=server.render_node, found="not there")
            case Unknown(why):
                yield CouldNotTell(subject=server.subject, why=why)


@check(
    "graphics.no-certificates",
    Severity.BLOCKER,
    title="no certificates for the screen",
    remedy="Put certificate, key and CA there for QEMU to read, or set vnc_tls or spice_tls to 0.",
)
def no_certificates(guest: GuestGraphics, host: GraphicsCertificates) -> Problems:
    """With vnc_tls or spice_tls in qemu.conf every such server of the host needs certificates.

    Error: "Unable to access credentials /etc/pki/qemu/ca-cert.pem: No such file or directory".
    """
    for kind in dict.fromkeys(server.kind for server in guest.servers if server.offers):
        if kind in host.by_kind:
            yield from host.by_kind[kind].faults(SERVER)


@check(
    "graphics.spice-tls-off",
    Severity.BLOCKER,
    title="spice with TLS alone, and TLS is off",
    remedy="Set spice_tls = 1 in qemu.conf and provide certificates.",
)
def spice_tls_off(guest: GuestGraphics, host: HostGraphics) -> Problems:
    """Secure channels need a TLS port, and the host gives none.

    Error: "spice TLS port set in XML configuration, but TLS is disabled in qemu.conf" or "Auto
    allocation of spice TLS port requested but spice TLS is disabled in qemu.conf" (qemu/).
    """
    for server in guest.servers:
        if server.wants_tls and server.offers and "spice" not in host.with_tls:
            yield Problem(subject=server.subject, wanted="spice_tls = 1", found=server.wants_tls)
