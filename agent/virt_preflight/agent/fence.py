"""Which paths may be looked at for a guest: else whoever may ask could learn which files there are.

Only what a guest's XML or an image's header leads to is fenced in; a host's own facts are not.
"""

from __future__ import annotations

import posixpath
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import msgspec

from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.residents import residents
from virt_preflight.agent.sources import FileStat, Source, SourceError, Unreadable, User, Want
from virt_preflight.agent.xml import BadXml, Element, parse, text_of

# What checks ask about a guest by names of their own, and what libvirt and QEMU bring along: it
# tells of the host's software and devices, not of anybody's files.
OURS = (
    "/sys",
    *(
        f"/proc/{name}"
        for name in ("cpuinfo", "locks", "meminfo", "modules", "mounts", "stat", "sys")
    ),
    *(f"/dev/{name}" for name in ("kvm", "net", "userfaultfd", "vfio", "vhost-net", "vhost-vsock")),
    *(f"/dev/{name}" for name in ("hwrng", "null", "random", "urandom", "dri", "bus/usb")),
    *(f"/etc/{name}" for name in ("libvirt/qemu.conf", "libvirt/secrets", "qemu/firmware")),
    *(f"/etc/pki/{name}" for name in ("libvirt-spice", "libvirt-vnc", "qemu", "libvirt-chardev")),
    *(f"/usr/share/{name}" for name in ("libvirt", "qemu", "qemu-kvm", "seabios", "swtpm")),
    *(f"/usr/share/{name}" for name in ("AAVMF", "OVMF", "edk2", "edk2-ovmf", "ovmf")),
    *(f"/usr/share/{name}" for name in ("ipxe", "qemu-firmware", "seavgabios")),
    "/usr/lib/ipxe/qemu",
    *(f"/usr/lib{name}/qemu" for name in ("", "64", "/x86_64-linux-gnu", "/aarch64-linux-gnu")),
    "/usr/libexec",
    "/lib/modules",
    "/run/libvirt",
    "/var/run/libvirt",
    "/var/lib/libvirt/qemu",
    "/var/lib/libvirt/swtpm",
    "/var/log/libvirt/qemu",
)
# Programs, by how their names begin, and the folders that they are in.
FOLDERS = ("/usr/bin/", "/bin/")
PROGRAMS = re.compile(r"/(usr/)?bin/(qemu|kvm|swtpm|virtiofsd)[\w.-]*", re.ASCII)
# Of a guest's QEMU: whether it is older than a file.
PROCESS = re.compile(r"/proc/[0-9]+/(stat|limits)", re.ASCII)
# Where storage most often is, when the operator does not say.
USUAL = ("/dev", "/var/lib/libvirt", "/var/lib/nova", "/var/lib/openvswitch")
# A guest that lives here with a disk in one of these opens no directory for others.
NOBODYS = frozenset(
    ("/", "/boot", "/etc", "/home", "/proc", "/root", "/run", "/tmp", "/usr", "/var")  # noqa: S108
)
# As the kernel has it (MAXSYMLINKS).
LINKS_AT_MOST = 40
# How long what was found about a path, and about the host's own storage, is believed.
PATHS_FOR_S = 1.0
STORAGE_FOR_S = 60.0
PATHS_AT_MOST = 4096


class Outside(Unreadable):
    """The operator does not let that path be looked at; nothing follows from it."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: outside what this host lets be probed; to have it looked at, add its "
            "directory to storage in [policy] of agent.toml"
        )


class _Pool(msgspec.Struct):
    active: bool
    xml: str


@dataclass(kw_only=True)
class Fence:
    """The operator's directories; None: the usual ones and those that this host's guests use."""

    source: Source
    storage: tuple[str, ...] | None
    clock: Callable[[], float]
    _found: dict[str, tuple[bool, float]] = field(default_factory=dict)
    _used: tuple[tuple[str, ...], float] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lets(self, path: str) -> bool:
        """Whether it may be looked at, wherever links in it lead."""
        now = self.clock()
        with self._lock:
            known = self._found.get(path)
        if known is not None and now < known[1]:
            return known[0]
        answer = self._lets(path)
        with self._lock:
            if len(self._found) >= PATHS_AT_MOST:
                self._found.clear()
            self._found[path] = answer, now + PATHS_FOR_S
        return answer

    def _lets(self, path: str) -> bool:
        if not path.startswith("/") or "\0" in path:
            return False
        # At first as it is written: what is outside is not even followed.
        written = normal(path)
        if not self._is_inside(written, followed=False):
            return False
        led = self._led_to(path)
        return led is not None and self._is_inside(led, followed=True)

    def _is_inside(self, path: str, *, followed: bool) -> bool:
        if PROGRAMS.fullmatch(path) or PROCESS.fullmatch(path):
            return True
        # One after the other: what is in use is only asked for where nothing else lets it be.
        kinds: tuple[Callable[[], Iterable[str]], ...] = (
            (lambda: OURS, lambda: USUAL, self._in_use)
            if self.storage is None
            else (lambda: OURS, lambda: map(normal, self.storage or ()))
        )
        return any(_is_below(path, self._roots(kind(), followed=followed)) for kind in kinds)

    def _roots(self, roots: Iterable[str], *, followed: bool) -> Iterator[str]:
        """With where they lead, if what is compared has been followed: links to them are ours."""
        for root in roots:
            yield root
            if followed and (led := self._led_to(root)) is not None and led != root:
                yield led

    def is_above(self, path: str) -> bool:
        """Whether it is a directory on the way to one that may be looked at."""
        if not path.startswith("/"):
            return False
        beginning = f"{normal(path).rstrip('/')}/"
        own = (*USUAL, *self._in_use()) if self.storage is None else map(normal, self.storage)
        return any(root.startswith(beginning) for root in (*OURS, *FOLDERS, *own))

    def _led_to(self, path: str) -> str | None:
        """Where the kernel would come to, link by link; None when there is no end to them."""
        left = path.split("/")[::-1]
        done: list[str] = []
        links = 0
        while left:
            name = left.pop()
            if name in ("", "."):
                continue
            if name == "..":
                del done[-1:]
                continue
            done.append(name)
            try:
                target = self.source.link("/" + "/".join(done))
            except SourceError:
                continue  # none, or nobody can follow it
            links += 1
            if links > LINKS_AT_MOST:
                return None
            done = [] if target.startswith("/") else done[:-1]
            left += target.split("/")[::-1]
        return "/" + "/".join(done)

    def _in_use(self) -> tuple[str, ...]:
        """Directories of active pools, and of the disks of the guests that live here."""
        now = self.clock()
        used = self._used
        if used is None or now >= used[1]:
            found = {*self._pools(), *self._disks()}
            used = self._used = tuple(sorted(found - NOBODYS)), now + STORAGE_FOR_S
        return used[0]

    def _pools(self) -> Iterator[str]:
        try:
            pools = msgspec.json.decode(self.source.libvirt("pools"), type=tuple[_Pool, ...])
            for pool in pools:
                target = text_of(parse(pool.xml), "target/path") if pool.active else None
                if target is not None and target.startswith("/"):
                    yield normal(target)
        except (SourceError, msgspec.MsgspecError, BadXml):
            return

    def _disks(self) -> Iterator[str]:
        try:
            for guest in residents(self.source):
                domain = read_domain(self.source.libvirt("domain-xml", guest.uuid))
                for path in paths_in(domain.root.findall("devices/disk")):
                    yield posixpath.dirname(normal(path))
        except (SourceError, msgspec.MsgspecError, BadXml):
            return


def normal(path: str) -> str:
    """Without `//`, `.` and `..`, as the path is written."""
    return "/" + posixpath.normpath(path).lstrip("/")


def paths_in(elements: Iterable[Element]) -> Iterator[str]:
    """All that looks like a path, but for where a guest itself is to mount something."""
    for element in elements:
        for inside in element.iter():
            if not isinstance(inside.tag, str) or inside.tag == "target" or _of_terminal(inside):
                continue
            given = (str(value) for name, value in inside.attrib.items() if name != "tty")
            values = (*given, (inside.text or "").strip())
            yield from (value for value in values if value.startswith("/"))


def _of_terminal(element: Element) -> bool:
    """Where the source's terminal is: libvirt has QEMU make a new one."""
    parent = element.getparent()
    of_pty = parent is not None and parent.get("type") == "pty"
    return of_pty and element.tag == "source" and not len(element)


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(f"{root.rstrip('/')}/") for root in roots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """A Source that answers for paths inside alone; all else it hands on as it is."""

    source: Source
    fence: Fence

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """See Source."""
        return self.source.within(seconds)

    def generation(self) -> int:
        """See Source."""
        return self.source.generation()

    def text(self, path: str) -> str:
        """See Source."""
        return self.source.text(self._inside(path))

    def head(self, path: str) -> str:
        """See Source."""
        return self.source.head(self._inside(path))

    def digest(self, path: str) -> str:
        """See Source."""
        return self.source.digest(self._inside(path))

    def names(self, path: str) -> tuple[str, ...]:
        """See Source."""
        return self.source.names(self._inside(path))

    def link(self, path: str) -> str:
        """See Source."""
        return self.source.link(self._on_the_way(path))

    def stat(self, path: str) -> FileStat:
        """See Source."""
        return self.source.stat(self._on_the_way(path))

    def may(self, path: str, want: Want, user: User) -> bool:
        """See Source."""
        return self.source.may(self._on_the_way(path), want, user)

    def file_system(self, path: str) -> str:
        """See Source."""
        return self.source.file_system(self._on_the_way(path))

    def image_alone(self, path: str) -> str:
        """See Source."""
        return self.source.image_alone(self._inside(path))

    def user(self, user: str, group: str) -> User:
        """See Source."""
        return self.source.user(user, group)

    def reach(self, host: str, port: int) -> None:
        """See Source."""
        return self.source.reach(host, port)

    def resolve(self, name: str) -> tuple[str, ...]:
        """See Source."""
        return self.source.resolve(name)

    def program(self, name: str) -> str:
        """See Source."""
        return self.source.program(name)

    def bindable(self, address: str, port: int) -> bool:
        """See Source."""
        return self.source.bindable(address, port)

    def open_vswitch(self) -> str:
        """See Source."""
        return self.source.open_vswitch()

    def libvirt(self, question: str, *arguments: str) -> str:
        """See Source. An emulator is a path too, and so is what an XML for QEMU names."""
        if question in ("domain-capabilities", "compare-cpu") and arguments[0].startswith("/"):
            self._inside(arguments[0])
        if question == "native":
            for path in paths_in(_touched(arguments[0])):
                self._inside(path)
        return self.source.libvirt(question, *arguments)

    def _inside(self, path: str) -> str:
        if not self.fence.lets(path):
            raise Outside(path)
        return path

    def _on_the_way(self, path: str) -> str:
        if not self.fence.is_above(path):
            self._inside(path)
        return path


def _touched(domain_xml: str) -> tuple[Element, ...]:
    root = parse(domain_xml)
    return tuple(found for name in ("os", "devices") if (found := root.find(name)) is not None)
