"""Whether a guest's character devices can be made here."""

from __future__ import annotations

import posixpath
import shlex

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.chardevs.guest import (
    GuestChardevs,
    GuestPeers,
    TcpEnd,
    UdpEnd,
)
from virt_preflight.agent.families.chardevs.host import OpenPorts, SeenChardevs, made_here
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.report import Phase, Severity


@check(
    "chardevs.no-directory",
    Severity.BLOCKER,
    title="directory absent",
    remedy="Make the directory on the host.",
)
def no_directory(guest: GuestChardevs, seen: SeenChardevs) -> Problems:
    """libvirt makes the file or the socket, but not the directory.

    Error: "Failed to create file '/var/log/guests/a.log': No such file or directory"
    (qemuProcessPrepareHostBackendChardev) or "Unable to bind to UNIX socket path '...'"
    (qemuOpenChrChardevUNIXSocket, qemu/qemu_command.c).
    """
    for end in made_here(guest):
        directory = posixpath.dirname(end.path)
        match seen.kind_by_path.get(directory):
            case "dir":
                continue
            case Unknown(why):
                yield CouldNotTell(subject=f"{end.subject}: {directory}", why=why)
            case kind:
                yield Problem(
                    subject=f"{end.subject}: {end.path}",
                    wanted=f"directory {directory}",
                    found=f"a {kind}" if kind else "not there",
                    commands=() if kind else (f"mkdir -p {shlex.quote(directory)}",),
                )


@check(
    "chardevs.path-taken",
    Severity.BLOCKER,
    title="directory in a file's place",
    remedy="Remove or rename what is there.",
)
def path_taken(guest: GuestChardevs, seen: SeenChardevs) -> Problems:
    """An old file or socket is in nobody's way, a directory is.

    Error: "Failed to create file '...': Is a directory" or "Unable to unlink ...: Is a directory".
    """
    for end in made_here(guest):
        if seen.kind_by_path.get(end.path) == "dir":
            yield Problem(
                subject=f"{end.subject}: {end.path}",
                wanted="a file or nothing",
                found="a directory",
            )


@check(
    "chardevs.device-absent",
    Severity.BLOCKER,
    title="host device absent",
    remedy="Attach the device, or move with --xml naming another.",
)
def device_absent(guest: GuestChardevs, seen: SeenChardevs) -> Problems:
    """A serial or parallel port may be one of the host's, or a named pipe.

    Error: "unable to stat: /dev/ttyS4: No such file or directory" (security_dac.c) or QEMU's
    "Could not open '/dev/ttyS4': No such file or directory".
    """
    for end in guest.devices:
        if end.pipe and all(seen.kind_by_path.get(f"{end.path}{way}") for way in (".in", ".out")):
            continue
        match seen.kind_by_path.get(end.path):
            case Unknown(why):
                yield CouldNotTell(subject=f"{end.subject}: {end.path}", why=why)
            case "":
                wanted = "a named pipe" if end.pipe else "the device"
                yield Problem(
                    subject=f"{end.subject}: {end.path}", wanted=wanted, found="not there"
                )


@check(
    "chardevs.address-not-here",
    Severity.BLOCKER,
    title="an address to listen on is not the host's",
    remedy="Listen on 0.0.0.0 or ::, or move with --xml naming an address of this host.",
)
def address_not_here(guest: GuestChardevs, seen: SeenChardevs) -> Problems:
    """QEMU listens on that address when it starts, for datagrams as for connections.

    Errors: "Failed to find an available port: Cannot assign requested address", "Failed to bind
    socket: Cannot assign requested address" (QEMU, util/qemu-sockets.c).
    """
    ends: list[TcpEnd | UdpEnd] = [end for end in guest.ports if end.listens]
    for end in (*ends, *guest.datagrams):
        match seen.local_by_host.get(end.host):
            case False:
                yield Problem(
                    subject=end.subject,
                    wanted="an address of this host",
                    found=f"{end.host}, which is not",
                )
            case Unknown(why):
                yield CouldNotTell(subject=end.subject, why=why)


@check(
    "chardevs.port-in-use",
    Severity.BLOCKER,
    title="a TCP port for a serial port is in use",
    remedy="End what listens there, or move with --xml naming another port.",
)
def port_in_use(guest: GuestChardevs, seen: SeenChardevs) -> Problems:
    """Two cannot listen on one port.

    Error: "Failed to find an available port: Address already in use" (QEMU).
    """
    for end in guest.ports:
        local = seen.local_by_host.get(end.host)
        if end.listens and local is True and seen.free_by_end.get((end.host, end.port)) is False:
            yield Problem(
                subject=end.subject,
                wanted=f"port {end.port} free on {end.host}",
                found="in use",
                commands=(f"ss -ltnp 'sport = :{end.port}'",),
            )


@check(
    "chardevs.port-reserved",
    Severity.BLOCKER,
    title="a port that the kernel keeps from QEMU's user",
    remedy="Move with --xml naming a higher port, or lower net.ipv4.ip_unprivileged_port_start.",
)
def port_reserved(guest: GuestChardevs, host: OpenPorts) -> Problems:
    """Ports below 1024 are root's, and QEMU may run as an ordinary user here.

    Error: "Failed to find an available port: Permission denied" (QEMU).
    """
    ends: list[TcpEnd | UdpEnd] = [end for end in guest.ports if end.listens]
    for end in (*ends, *guest.datagrams):
        yield from reserved(end.subject, end.port, host)


def reserved(subject: str, port: int, host: OpenPorts) -> Problems:
    """Whatever it is of a guest that is to listen at that port."""
    if 0 < port < host.start:
        yield Problem(
            subject=subject,
            wanted=f"port {port} for {host.user}",
            found=f"ports below {host.start} are root's",
            commands=(f"sysctl -w net.ipv4.ip_unprivileged_port_start={port}",),
        )


@check(
    "chardevs.peer-absent",
    Severity.BLOCKER,
    title="nobody to connect a device to",
    remedy="Start who listens there, or let QEMU retry with <reconnect enabled='yes'>.",
)
def peer_absent(guest: GuestPeers, seen: SeenChardevs, qemu: QemuUser) -> Problems:
    """QEMU connects when it starts, and gives up unless it is told to retry.

    With dynamic ownership libvirt first labels a socket file, which must be there even then.
    Error: "Failed to connect to '127.0.0.1:7788': Connection refused" (QEMU) or "unable to stat:
    /run/peer.sock: No such file or directory" (security_dac.c).
    """
    for end in guest.sockets:
        if end.retries and (end.vhost or not qemu.dynamic_ownership):
            continue
        match seen.kind_by_path.get(end.path):
            case "socket":
                continue
            case Unknown(why):
                yield CouldNotTell(subject=f"{end.subject}: {end.path}", why=why)
            case kind:
                yield Problem(
                    subject=f"{end.subject}: {end.path}",
                    wanted="a socket that somebody listens on",
                    found=f"a {kind}" if kind else "not there",
                )
    for port in guest.ports:
        if port.retries:
            continue
        where = f"{port.host} port {port.port}"
        match seen.free_by_end.get((port.host, port.port)):
            case True:
                yield Problem(subject=port.subject, wanted=f"a listener on {where}", found="nobody")
            case None:
                yield CouldNotTell(
                    subject=port.subject,
                    why=f"whether somebody listens on {where} is not tried: it would be noticed",
                )
            case Unknown(why):
                yield CouldNotTell(subject=port.subject, why=why)


@check(
    "chardevs.file-emptied",
    Severity.NOTE,
    title="a file would be emptied",
    remedy="Set append='on' for it, or keep a copy of the file.",
    phase=Phase.PREPARE,
)
def file_emptied(guest: GuestChardevs, seen: SeenChardevs) -> Problems:
    """Without append='on' the destination opens the file empty, while the source still writes it.

    On a file system that both hosts share that is the guest's own log, even if the move fails.
    """
    for end in guest.files:
        held = seen.bytes_by_path.get(end.path, 0)
        if held and not end.append:
            shared = end.path in seen.shared
            yield Problem(
                subject=f"{end.subject}: {end.path}",
                wanted="append='on', or no file yet",
                found=f"{held} bytes" + (" on shared storage" if shared else ""),
                severity=Severity.RISK if shared else None,
            )
