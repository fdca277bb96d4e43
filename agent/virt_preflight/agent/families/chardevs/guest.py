"""The ends of a guest's serial ports, consoles and channels on its host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import need
from virt_preflight.agent.xml import Element, attribute

DEVICES = ("serial", "parallel", "console", "channel", "smartcard", "redirdev")
# libvirt makes these paths itself, anew on each host (qemuDomainChrDefDropDefaultPath,
# qemu/qemu_domain.c; the directory is the one that libvirt is built with).
OWN_PATH = re.compile(
    r"/(?:var/lib/libvirt/qemu/channel/target|(?:var/)?run/libvirt/qemu/channel)/"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEnd:
    """A file that libvirt makes, or empties, when the guest arrives."""

    subject: str
    path: str
    append: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketEnd:
    """A UNIX socket: made by the host (`listens`), or somebody else's."""

    subject: str
    path: str
    listens: bool
    retries: bool = False  # <reconnect enabled='yes'>
    vhost: bool = False  # a network card or disk that another process serves


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpEnd:
    """A TCP port: of the host (`listens`), or somebody else's."""

    subject: str
    host: str
    port: int
    listens: bool
    retries: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpEnd:
    """An address that datagrams are received at. QEMU shares its port with whoever allows it."""

    subject: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnd:
    """A device of the host, or a pipe (which may be two: PATH.in and PATH.out)."""

    subject: str
    path: str
    pipe: bool = False


End = TypeVar("End", FileEnd, SocketEnd, TcpEnd, UdpEnd, DeviceEnd)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestChardevs:
    """A guest with character devices that need something of the host."""

    files: tuple[FileEnd, ...] = ()
    sockets: tuple[SocketEnd, ...] = ()
    ports: tuple[TcpEnd, ...] = ()
    datagrams: tuple[UdpEnd, ...] = ()
    devices: tuple[DeviceEnd, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPeers:
    """A guest whose character devices connect to somebody."""

    sockets: tuple[SocketEnd, ...] = ()
    ports: tuple[TcpEnd, ...] = ()


@need
def guest_peers(guest: GuestChardevs) -> GuestPeers | None:
    """Of its sockets and ports those that somebody else listens on."""
    peers = GuestPeers(
        sockets=tuple(end for end in guest.sockets if not end.listens),
        ports=tuple(end for end in guest.ports if not end.listens),
    )
    return peers if peers != GuestPeers() else None


@need
def guest_chardevs(domain: Domain) -> GuestChardevs | None:
    """Also the log of any of them, an entropy daemon's socket, those of vhost-user, and of NICs."""
    files: list[FileEnd] = []
    sockets: list[SocketEnd] = []
    ports: list[TcpEnd] = []
    datagrams: list[UdpEnd] = []
    devices: list[DeviceEnd] = []
    for subject, kind, element in _chardevs(domain.root):
        source = element.find("source")
        path = "" if source is None else source.get("path", "")
        match kind:
            case "file" if source is not None:
                files.append(
                    FileEnd(subject=subject, path=path, append=source.get("append") == "on")
                )
            case "unix" if source is not None and not OWN_PATH.match(path) and path:
                sockets.append(_socket(subject, source))
            case "tcp":
                ports += _ports(subject, element)
            case "udp":
                datagrams += _bound(subject, element.findall("source[@mode='bind']"))
            case "dev":
                devices.append(DeviceEnd(subject=subject, path=path))
            case "pipe":
                devices.append(DeviceEnd(subject=subject, path=path, pipe=True))
        log = element.find("log")
        if log is not None and log.get("file"):
            append = log.get("append") == "on"
            files.append(FileEnd(subject=subject, path=log.get("file", ""), append=append))
    sockets += _vhost_user(domain.root)
    for nic in domain.root.findall("devices/interface"):
        subject = f"interface {attribute(nic, 'mac', 'address') or ''}".strip()
        ports += _nic_ports(subject, nic)
        if nic.get("type") == "udp":
            datagrams += _bound(subject, nic.findall("source/local"), "address", "port")
    # A console shows its serial port's own end once more.
    found = GuestChardevs(
        files=_once(files),
        sockets=_once(sockets),
        ports=_once(ports),
        datagrams=_once(datagrams),
        devices=_once(devices),
    )
    return found if found != GuestChardevs() else None


def _once(ends: Iterable[End]) -> tuple[End, ...]:
    by_place: dict[tuple[object, ...], End] = {}
    for end in ends:
        place = (end.host, end.port) if isinstance(end, TcpEnd | UdpEnd) else (end.path,)
        by_place.setdefault(place, end)
    return tuple(by_place.values())


def _chardevs(root: Element) -> Iterator[tuple[str, str, Element]]:
    """Subject, kind of backend, and the element that holds `<source>`."""
    for name in DEVICES:
        for number, device in enumerate(root.findall(f"devices/{name}")):
            target = attribute(device, "target", "name") or attribute(device, "target", "port")
            yield f"{name} {target or number}", device.get("type", ""), device
    for number, backend in enumerate(root.findall("devices/rng/backend[@model='egd']")):
        yield f"rng {number}", backend.get("type", ""), backend


def _socket(subject: str, source: Element) -> SocketEnd:
    return SocketEnd(
        subject=subject,
        path=source.get("path", ""),
        # virDomainChrSourceDefParseMode, conf/domain_conf.c: connect, unless it says bind.
        listens=source.get("mode") == "bind",
        retries=attribute(source, "reconnect", "enabled") == "yes",
    )


def _ports(subject: str, element: Element) -> list[TcpEnd]:
    return [
        TcpEnd(
            subject=subject,
            host=source.get("host", ""),
            port=int(source.get("service", "")),
            listens=source.get("mode") == "bind",
            retries=attribute(source, "reconnect", "enabled") == "yes",
        )
        for source in element.findall("source")
        # A service may also be a name of /etc/services; QEMU looks it up.
        if re.fullmatch(r"\d{1,5}", source.get("service", ""), re.ASCII)
    ]


def _bound(
    subject: str, sources: Iterable[Element], host: str = "host", port: str = "service"
) -> list[UdpEnd]:
    """Where libvirt is told of no address, QEMU takes all of them."""
    return [
        UdpEnd(subject=subject, host=source.get(host) or "0.0.0.0", port=_port(source.get(port)))  # noqa: S104 - it is told, not listened on
        for source in sources
    ]


def _port(written: str | None) -> int:
    """0 for any, or for one by a name of /etc/services."""
    return int(written) if written and re.fullmatch(r"\d{1,5}", written, re.ASCII) else 0


def _nic_ports(subject: str, nic: Element) -> Iterator[TcpEnd]:
    """NICs that are TCP connections: one end listens; whether somebody does nobody waits for."""
    source = nic.find("source")
    if source is not None and nic.get("type") == "server":
        yield TcpEnd(
            subject=subject,
            host=source.get("address") or "0.0.0.0",  # noqa: S104 - it is told, not listened on
            port=_port(source.get("port")),
            listens=True,
        )


def _vhost_user(root: Element) -> Iterator[SocketEnd]:
    """QEMU is the server or the client of the process that serves the device."""
    nics = root.findall("devices/interface[@type='vhostuser']")
    disks = root.findall("devices/disk[@type='vhostuser']")
    for device in (*nics, *disks):
        source = device.find("source")
        if source is None or not source.get("path"):
            continue
        name = attribute(device, "mac", "address") or attribute(device, "target", "dev") or "?"
        yield SocketEnd(
            subject=f"{device.tag} {name}",
            path=source.get("path", ""),
            listens=source.get("mode") == "server",
            retries=attribute(source, "reconnect", "enabled") == "yes",
            vhost=True,
        )
