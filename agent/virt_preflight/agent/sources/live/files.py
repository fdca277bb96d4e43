"""Files as they are, and as another user would see them. Nothing is opened for writing."""

from __future__ import annotations

import ctypes
import errno
import grp
import hashlib
import os
import platform
import posixpath
import pwd
import re
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from virt_preflight.agent.sources import (
    Absent,
    FileStat,
    SourceError,
    Unreadable,
    User,
    Want,
)
from virt_preflight.agent.sources.live import capabilities

TEXT_AT_MOST = 1024 * 1024
# In an image's first 64 KiB its format, size and backing file are named.
HEADER_BYTES = 65536
HEAD_BYTES = 16
DIGEST_AT_MOST = 64 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
# struct statx of statx(2): 256 bytes; stx_mask at 0, stx_btime (s64 seconds, u32 ns) at 80.
STATX_BYTES, BTIME_AT = 256, 80
STATX_BTIME = 0x800
AT_FDCWD = -100
AT_EACCESS = 0x200
ACCESS = {
    Want.EXISTS: os.F_OK,
    Want.READ: os.R_OK,
    Want.WRITE: os.R_OK | os.W_OK,
    Want.EXECUTE: os.X_OK,
}
KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISREG, "file"),
    (stat.S_ISBLK, "block"),
    (stat.S_ISCHR, "char"),
    (stat.S_ISDIR, "dir"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISFIFO, "fifo"),
)
# setgroups(2) of the calling thread alone: glibc's own changes all threads of the process.
SETGROUPS = {"x86_64": 116, "aarch64": 159, "ppc64le": 81, "s390x": 206, "riscv64": 159}
# File systems that wait for nobody else, as those of a network and of programs do.
OWN_KINDS = frozenset(
    (
        *("bcachefs", "btrfs", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs"),
        *("iso9660", "overlay", "proc", "ramfs", "rootfs", "squashfs", "sysfs", "tmpfs"),
        *("vfat", "xfs", "zfs"),
    )
)
# path_resolution(7).
LINKS_AT_MOST = 40
LIBC = ctypes.CDLL(None, use_errno=True)


def file_error(path: str, error: OSError) -> SourceError:
    """Only that it is not there is an answer."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return Absent(f"{path}: {os.strerror(error.errno)}")
    return Unreadable(f"{path}: {error.strerror or error}")


def read_text(path: str) -> str:
    """Up to TEXT_AT_MOST bytes, those that are no UTF-8 replaced. A fifo or device is not read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Unreadable(f"{path} is no regular file")
        return file.read(TEXT_AT_MOST).decode("utf-8", "replace")


def stat_of(path: str) -> FileStat:
    """Links followed; the size of a block device is the device's own."""
    found = os.stat(path)
    kind = next((name for is_it, name in KINDS if is_it(found.st_mode)), "other")
    rdev = ""
    size = found.st_size
    if kind in ("block", "char"):
        rdev = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    if kind == "block":
        # Sectors of 512 bytes, whatever the device's own are (block/genhd.c).
        size = 512 * int(Path(f"/sys/dev/block/{rdev}/size").read_text())
    return FileStat(
        kind=kind,
        size_bytes=size,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        device=found.st_dev,
        inode=found.st_ino,
        rdev=rdev,
        changed_s=found.st_ctime,
        born_ns=born_ns(path),
    )


def born_ns(path: str) -> int:
    """When the file was made; 0 where the file system or the C library does not tell."""
    if not hasattr(LIBC, "statx"):
        return 0
    answer = ctypes.create_string_buffer(STATX_BYTES)
    if LIBC.statx(AT_FDCWD, os.fsencode(path), 0, STATX_BTIME, answer) != 0:
        return 0
    (mask,) = struct.unpack_from("=I", answer)
    seconds, nanoseconds = struct.unpack_from("=qI", answer, BTIME_AT)
    moment_ns = seconds * 1_000_000_000 + nanoseconds
    return moment_ns if mask & STATX_BTIME and 0 < moment_ns < 2**63 else 0


def file_key(path: str) -> tuple[object, ...]:
    """What tells whether the content may have changed since."""
    found = os.stat(path)
    return (path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def digest(path: str) -> str:
    """SHA-256 in hexadecimal, of a regular file that is not too large."""
    with _image(path) as descriptor:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > DIGEST_AT_MOST:
            raise Unreadable(f"{path}: only files of at most 64 MiB are read through")
        left, content = found.st_size, hashlib.sha256()
        while left > 0 and (chunk := os.read(descriptor, min(CHUNK_BYTES, left))):
            content.update(chunk)
            left -= len(chunk)
    return content.hexdigest()


def may_as(path: str, want: Want, user: User) -> bool:
    """access(2) as that user, so that ACLs, root squash and read-only mounts count as they do."""
    with acting_as(user):
        # os.access() tells no reason. AT_EACCESS goes by the ids in force, fsuid among them.
        if LIBC.faccessat(AT_FDCWD, os.fsencode(path), ACCESS[want], AT_EACCESS) == 0:
            return True
        number = ctypes.get_errno()
    if number == errno.EROFS:
        # The kernel asks for permission first, then whether the mount can be written to. A mount
        # may be read-only for us alone, by the sandbox of our unit: the host's own is meant.
        return not _read_only_on_the_host(path)
    if number in (errno.EACCES, errno.EPERM):
        return False
    raise file_error(path, OSError(number, os.strerror(number)))


def _read_only_on_the_host(path: str) -> bool:
    try:
        table = Path("/proc/1/mountinfo").read_text()
    except OSError:
        return True
    return read_only(os.path.realpath(path), table)


def read_only(path: str, table: str) -> bool:
    """Whether the mount that holds the path, or its file system, is so in that mountinfo."""
    best, found = "", True
    for line in table.splitlines():
        fields, _, rest = line.partition(" - ")
        point = _unescaped(fields.split()[4])
        below = path == point or path.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(best):
            options = {*fields.split()[5].split(","), *rest.split()[2].split(",")}
            best, found = point, "ro" in options
    return found


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """This thread alone asks the file system as that user, which takes rights of root.

    setfsuid(2) drops the file capabilities of root, and of nobody else (capabilities(7)).
    """
    if os.geteuid() == user.uid:
        yield
        return
    own = capabilities.own()
    if (capabilities.SETUID | capabilities.SETGID) & ~own.effective:
        raise Unreadable(f"only root can ask what user {user.name} may do")
    setgroups = SETGROUPS.get(platform.machine())
    if setgroups is None:
        raise Unreadable(f"asking as user {user.name} is not known on {platform.machine()}")
    own_groups = os.getgroups()
    try:
        _set_groups(setgroups, user.groups or (user.gid,))
        LIBC.setfsgid(user.gid)
        LIBC.setfsuid(user.uid)
        # setfsuid(2) has no error: asked again with an impossible id, it tells the one in force.
        if LIBC.setfsuid(-1) != user.uid:
            raise Unreadable(f"cannot ask as user {user.name}: setfsuid is not permitted")
        capabilities.put(own.for_files_of(user.uid))
        yield
    finally:
        LIBC.setfsuid(os.geteuid())
        capabilities.put(own)
        LIBC.setfsgid(os.getegid())
        _set_groups(setgroups, own_groups)


def _set_groups(number: int, groups: list[int] | tuple[int, ...]) -> None:
    array = (ctypes.c_uint32 * len(groups))(*groups)
    if LIBC.syscall(number, len(groups), array) != 0:
        raise Unreadable(f"setgroups: {os.strerror(ctypes.get_errno())}")


def look_up(user: str, group: str) -> User:
    """By name or number; the group "" is the user's own."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        if not user.isdigit():
            raise Absent(f"no user {user}") from None
        # A number needs no entry: QEMU then runs with that group alone.
        gid = _group(group) if group else int(user)
        return User(name=user, uid=int(user), gid=gid, groups=(gid,))
    gid = _group(group) if group else entry.pw_gid
    # The user's own group stays among them when qemu.conf names another (virGetGroupList).
    groups = {gid, *os.getgrouplist(entry.pw_name, entry.pw_gid)}
    return User(name=entry.pw_name, uid=entry.pw_uid, gid=gid, groups=tuple(sorted(groups)))


def _group(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise Absent(f"no group {group}") from None


def mounted(path: str) -> tuple[str, str]:
    """(mount point, type) of the file system that holds the path, asked of the kernel's table.

    The path itself is not touched: its storage may be dead.
    """
    return _holding(path, _mounts(Path("/proc/self/mountinfo").read_text()))


def holder(path: str) -> str:
    """The mount point of whoever is asked for the path, wherever links lead to.

    They are read on file systems of this machine's own alone. What lies behind another is his to
    tell, and he may be dead: a link to him would else make the disk that it lies on look so.
    """
    kind_by_point = _mounts(Path("/proc/self/mountinfo").read_text())
    waiting, at, links = _names(path), "/", 0
    while waiting:
        name = waiting.pop()
        step = posixpath.dirname(at) if name == ".." else posixpath.join(at, name)
        if _holding(step, kind_by_point)[1] not in OWN_KINDS or links == LINKS_AT_MOST:
            return _holding("/".join((step, *reversed(waiting))), kind_by_point)[0]
        try:
            target = os.readlink(step)
        except OSError:  # no link, or nothing is there
            at = step
            continue
        links += 1
        at = "/" if target.startswith("/") else at
        waiting += _names(target)
    return _holding(at, kind_by_point)[0]


def _names(path: str) -> list[str]:
    """The last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _holding(path: str, kind_by_point: Mapping[str, str]) -> tuple[str, str]:
    while path not in kind_by_point and path not in ("", "/"):
        path = path.rpartition("/")[0]
    return path or "/", kind_by_point.get(path or "/", "")


@lru_cache(maxsize=1)
def _mounts(table: str) -> Mapping[str, str]:
    """Types by mount point, escapes undone; the last one at a point is the one that is seen."""
    found = {}
    for line in table.splitlines():
        fields, _, rest = line.partition(" - ")
        found[_unescaped(fields.split()[4])] = rest.split()[0]
    return MappingProxyType(found)


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)


def head(path: str) -> str:
    """In hexadecimal."""
    with _image(path) as descriptor:
        return os.pread(descriptor, HEAD_BYTES, 0).hex()


def image_key(path: str) -> tuple[object, ...]:
    """What tells an image from another: the file, its size and the header that qemu-img reads."""
    with _image(path) as descriptor:
        found = os.fstat(descriptor)
        header = hashlib.sha256(os.pread(descriptor, HEADER_BYTES, 0)).digest()
    return (path, found.st_dev, found.st_ino, found.st_size, header)


@contextmanager
def _image(path: str) -> Iterator[int]:
    """A file or block device, open for reading; others are not read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise Unreadable(f"{path} is neither a file nor a block device")
        yield descriptor
    finally:
        os.close(descriptor)
