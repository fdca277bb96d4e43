"""The narrow door to a host: reading verbs only, each a question with a raw answer.

Whatever stands behind it - the live machine, a recording - answers alike, so that everything else
runs and is tested without libvirt. Answers are raw (text, a few numbers): parsing is the families'.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class SourceError(Exception):
    """The question was not answered with what was asked for; the text says why."""


class Absent(SourceError):
    """A sure answer: it is not there."""


class Refused(SourceError):
    """A sure answer: the one who was asked said no."""


class LibvirtRefused(Refused):
    """libvirt said no to a guest or to a way of moving it: its words, error code and domain."""

    def __init__(self, words: str, code: int = 0, domain: int = 0) -> None:
        super().__init__(words)
        self.code = code
        self.domain = domain


class Impossible(SourceError):
    """A sure answer: this host cannot be asked that at all, be it too old or another driver."""


class Unreadable(SourceError):
    """No answer: no right to ask, no answer in time, broken. Nothing follows from it."""


class Unreached(Unreadable):
    """It is sure that no libvirtd is there to ask. Of what was asked nothing follows from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom QEMU runs as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """stat(2) of what a path leads to. `size_bytes` of a block device is the device's own."""

    kind: str  # "file", "block", "char", "dir", "socket", "fifo"
    size_bytes: int
    mode: int  # permission bits
    uid: int
    gid: int
    device: int
    inode: int
    # Of a device node: "252:0"; else "".
    rdev: str = ""
    # When the inode last changed (st_ctime), as a file does that a package replaced; 0: not told.
    changed_s: float = 0.0
    # When the file was made (stx_btime of statx(2)), which nothing changes; 0: not told.
    born_ns: int = 0


class Want(Enum):
    """What somebody wants to do with a file."""

    EXISTS = "exists"
    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"


class Source(Protocol):
    """One host. Every verb is bounded in time and raises a SourceError when it has no answer."""

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """All questions of the calling thread inside it together take no longer than that."""

    def generation(self) -> int:
        """Another number once libvirtd was restarted: what was kept of it is then asked anew."""

    def text(self, path: str) -> str:
        """The text of a small file (at most 1 MiB), undecodable bytes replaced."""

    def head(self, path: str) -> str:
        """The first 16 bytes of a file or block device, in hexadecimal; all of a shorter one."""

    def digest(self, path: str) -> str:
        """SHA-256 of a regular file of at most 64 MiB, in hexadecimal."""

    def names(self, path: str) -> tuple[str, ...]:
        """The names in a directory, sorted."""

    def link(self, path: str) -> str:
        """Where a symbolic link points, as written in it."""

    def stat(self, path: str) -> FileStat:
        """What is at the path. Absent when nothing is."""

    def may(self, path: str, want: Want, user: User) -> bool:
        """Whether the user could do that now: access(2) as that user. Absent when nothing is there.

        Directories above that the user may not search make it False, as they do for QEMU.
        """

    def file_system(self, path: str) -> str:
        """The type of the file system that the path is on, as in /proc/self/mountinfo: "nfs4"."""

    def image_alone(self, path: str) -> str:
        """JSON of `qemu-img info -U` of this image alone, its backing files not opened.

        Refused with qemu-img's words.
        """

    def user(self, user: str, group: str) -> User:
        """The user of that name or number with the group of that name or number ("" its own)."""

    def reach(self, host: str, port: int) -> None:
        """Open and close a TCP connection within a second. Refused when it is refused."""

    def resolve(self, name: str) -> tuple[str, ...]:
        """The addresses that the host's resolver has for a name, those of IPv6 included.

        Absent when it is sure that there are none, Refused when they are all this host's own.
        """

    def program(self, name: str) -> str:
        """The full path of a program in the daemon's PATH. Absent when there is none."""

    def bindable(self, address: str, port: int) -> bool:
        """Whether a TCP port could be listened on at that address now. Nothing is bound."""

    def open_vswitch(self) -> str:
        """The names of Open vSwitch's bridges, one a line, as `ovs-vsctl list-br` prints them.

        Absent without Open vSwitch, Refused with its words when its daemon does not answer.
        """

    def libvirt(self, question: str, *arguments: str) -> str:
        """One of QUESTIONS. Refused with libvirt's words, Unreadable when it does not answer.

        Unreached when it is sure that nobody would.
        """


# What libvirt can be asked, and the form of its answer. A question that libvirt answers with a no
# to the guest raises LibvirtRefused, with the code and domain of its error.
QUESTIONS = {
    "version": "JSON {libvirt, qemu}: libvirtd's and its default hypervisor's version",
    "capabilities": "XML of virConnectGetCapabilities",
    "hostname": "text of virConnectGetHostname",
    "domain-capabilities": "XML; arguments: emulator, architecture, machine, virt type",
    "domains": "JSON [{name, uuid, id or null, state, persistent}]",
    "domain-xml": "live XML of the domain with that UUID",
    "migratable-xml": "its XML as a migration sends it, without secrets; argument: UUID",
    "stored-xml": "what is kept of it for its next start, without secrets; argument: UUID",
    # job: the operation of jobStats ("migration-out", "backup", ...), "" when nothing is under way;
    # state as in domains; reason: "ioerror" when paused by one, else ""; messages: what libvirt
    # holds against the guest, in its words. null: libvirt tells not.
    "domain-jobs": "JSON {snapshots, block_jobs: [target], job, state, reason, messages: [text]}; "
    "argument: UUID",
    "networks": "JSON [{name, active, bridge, xml}]",
    "nwfilters": "JSON [{name, xml}]",
    "pools": "JSON [{name, active, xml}]",
    "pool-volumes": "JSON [name] that the active pool of that name lists, be it gone meanwhile",
    "volume": "JSON {path, xml}; arguments: pool, volume",
    "secrets": "JSON [{uuid, usage_type, usage_id, has_value: true/false/null}]",
    # Lists leave out what their reader may not see, and do not say so; a look-up does.
    "network-named": "nothing, Absent where there is none; argument: name",
    "nwfilter-named": "nothing, Absent where there is none; argument: name",
    "pool-named": "nothing, Absent where there is none; argument: name",
    "pool-at": "nothing, Absent where there is none; argument: the directory that is its target",
    "secret-known": "nothing, Absent where there is none; argument: UUID",
    "secret-for": "nothing, Absent where there is none; arguments: usage type, usage id",
    # Its domain XML, which holds secrets, is not given. No job is taken, nothing is changed.
    "begin": "migration cookie of the Begin phase; arguments: UUID, flags, JSON of its parameters",
    "compare-cpu": "nothing; arguments: emulator, architecture, machine, virt type, <cpu>",
    "native": "nothing; argument: domain XML, of which a QEMU command line is made",
}
# Of these, those whether libvirt lets a guest pass: they need a live libvirt.
ABOUT_A_GUEST = frozenset({"begin", "compare-cpu", "native"})
# And those that are only asked where a list lacks what a guest needs.
BEYOND_LISTS = frozenset(
    {"network-named", "nwfilter-named", "pool-named", "pool-at", "secret-known", "secret-for"}
)
