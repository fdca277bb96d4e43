"""What is at those ends on this host; nothing is opened and nobody connected to."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from virt_preflight.agent.fact import Pace, Unknown, have, look
from virt_preflight.agent.families.chardevs.guest import FileEnd, GuestChardevs, SocketEnd
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.sources import Absent, Source, SourceError

PORT_START = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
# As /proc/self/mountinfo calls file systems that several hosts see.
SHARED_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "ceph", "gfs2", "ocfs2", "gpfs", "lustre", "beegfs"),
        *("glusterfs", "fuse.glusterfs", "fuse.ceph-fuse", "fuse.quobyte", "acfs", "afs"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenChardevs:
    """What is at those ends: the kind of file by path ("" nothing), and the ports.

    `bytes_by_path` and `shared` are of the files that are there; `local` are addresses that are the
    host's own, `free` the ends that could be listened on.
    """

    kind_by_path: Mapping[str, str | Unknown] = field(default_factory=dict)
    bytes_by_path: Mapping[str, int] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    local_by_host: Mapping[str, bool | Unknown] = field(default_factory=dict)
    free_by_end: Mapping[tuple[str, int], bool | Unknown] = field(default_factory=dict)


def kinds_of(source: Source, paths: Iterable[str]) -> Mapping[str, str | Unknown]:
    """What is at each path: "file", "dir", "socket", ...; "" nothing."""
    kinds: dict[str, str | Unknown] = {}
    for path in paths:
        try:
            kinds[path] = source.stat(path).kind
        except Absent:
            kinds[path] = ""
        except SourceError as error:
            kinds[path] = Unknown(str(error))
    return kinds


@look(Pace.MOVING)
def seen_chardevs(source: Source, guest: GuestChardevs) -> SeenChardevs:
    """Nothing is opened and nobody is connected to: it is looked at what is there."""
    paths = {end.path for end in guest.files}
    paths |= {end.path for end in guest.sockets} | {end.path for end in guest.devices}
    paths |= {posixpath.dirname(end.path) for end in made_here(guest)}
    for end in guest.devices:
        if end.pipe:
            paths |= {f"{end.path}.in", f"{end.path}.out"}
    kinds = kinds_of(source, sorted(paths))
    there = [end.path for end in guest.files if kinds[end.path] == "file"]
    local: dict[str, bool | Unknown] = {}
    free: dict[tuple[str, int], bool | Unknown] = {}
    for port in guest.ports:
        if port.listens:
            local[port.host] = could_listen(source, port.host, 0)
        if port.listens or is_loopback(port.host):
            free[port.host, port.port] = could_listen(source, port.host, port.port)
    for datagram in guest.datagrams:
        local[datagram.host] = could_listen(source, datagram.host, 0)
    return SeenChardevs(
        kind_by_path=kinds,
        bytes_by_path={path: source.stat(path).size_bytes for path in there},
        shared=frozenset(path for path in there if _is_shared(source, path)),
        local_by_host=local,
        free_by_end=free,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPorts:
    """The lowest port that the host's QEMUs may listen on; 0: all of them."""

    start: int
    user: str


@have(Pace.FIXED)
def open_ports(source: Source, qemu: QemuUser) -> OpenPorts:
    """The kernel keeps those below from ordinary users (net.ipv4.ip_unprivileged_port_start)."""
    if qemu.user.uid == 0:
        return OpenPorts(start=0, user=qemu.user.name)
    return OpenPorts(start=int(source.text(PORT_START)), user=qemu.user.name)


def is_loopback(host: str) -> bool:
    """The host itself, by address."""
    return host.startswith("127.") or host in ("::1", "localhost")


def could_listen(source: Source, host: str, port: int) -> bool | Unknown:
    """Port 0: whether the address is the host's own."""
    try:
        return source.bindable("127.0.0.1" if host == "localhost" else host, port)
    except SourceError as error:
        return Unknown(str(error))


def any_free(source: Source, ports: range) -> bool | Unknown:
    """Whether libvirt finds a port of its range that nobody listens on, by IPv4 or IPv6.

    virPortAllocatorAcquire, util/virportallocator.c: one after the other, the first is taken.
    """
    for port in ports:
        both = (could_listen(source, "::", port), could_listen(source, "0.0.0.0", port))  # noqa: S104 - looked up, not bound
        doubt = next((one for one in both if isinstance(one, Unknown)), None)
        if doubt is not None:
            return doubt
        if all(both):
            return True
    return False


def _is_shared(source: Source, path: str) -> bool:
    try:
        return source.file_system(path) in SHARED_FILE_SYSTEMS
    except SourceError:
        return False


def made_here(guest: GuestChardevs) -> Iterator[FileEnd | SocketEnd]:
    """The files and sockets that the destination makes."""
    yield from guest.files
    yield from (end for end in guest.sockets if end.listens)
