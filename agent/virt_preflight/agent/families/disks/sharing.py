"""Whether libvirt takes a disk's file system for shared: the source's own question at Begin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from virt_preflight.agent.fact import Pace, Unknown, have, look
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.disks.guest import Disk, GuestDisks
from virt_preflight.agent.families.disks.images import SeenDisks
from virt_preflight.agent.sources import FileStat, Source, SourceError, Unreadable

# virFileIsSharedFS (util/virfile.c) goes by the magic number of statfs(2), and for FUSE by the
# type in /proc/mounts; these are the types that have those numbers.
SHARED_TYPES = frozenset(
    (
        "nfs",
        "nfs4",
        "gfs2",
        "ocfs2",
        "afs",
        "smbfs",
        "cifs",
        "smb3",
        "ceph",
        "gpfs",
        "mmfs",
        "acfs",
        "fuse.glusterfs",
        "fuse.quobyte",
    )
)
LINKS_AT_MOST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedByOrder:
    """Paths that qemu.conf declares shared, and libvirt's version, which decides what counts."""

    paths: tuple[str, ...]
    libvirt_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Whether libvirt takes a path for shared, and the type of its file system."""

    shared: bool
    file_system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSharing:
    """By target, for each disk that libvirt calls a file."""

    disks: Mapping[str, Sharing | Unknown]


@have(Pace.FIXED)
def shared_by_order(source: Source, conf: QemuConf) -> SharedByOrder:
    """`shared_filesystems` of qemu.conf; a libvirt before 10.8 does not know it."""
    told = msgspec.json.decode(source.libvirt("version"), type=dict[str, int | None])
    version = told.get("libvirt")
    if version is None:
        raise Unreadable("libvirt does not tell its version")
    written = conf.value_by_key.get("shared_filesystems", "") if version >= 10_008_000 else ""
    paths = re.findall(r"[\"']([^\"']+)[\"']", written)
    return SharedByOrder(
        paths=tuple(canonical(source, path) for path in paths), libvirt_version=version
    )


@look(Pace.MOVING)
def seen_sharing(
    source: Source, guest: GuestDisks, seen: SeenDisks, order: SharedByOrder
) -> SeenSharing:
    """For the top of each chain: libvirt looks at nothing below it."""
    disks: dict[str, Sharing | Unknown] = {}
    for disk in guest.disks:
        if _is_file(disk, seen):
            try:
                disks[disk.target] = _sharing(
                    source, seen.chains[disk.target].members[0].path, order
                )
            except SourceError as error:
                disks[disk.target] = Unknown(str(error))
    return SeenSharing(disks=disks)


def _sharing(source: Source, path: str, order: SharedByOrder) -> Sharing:
    if order.paths:
        # virFileIsSharedFSOverride: the path or a directory above it is listed.
        parts = canonical(source, path)
        while True:
            if parts in order.paths:
                return Sharing(shared=True, file_system="listed in shared_filesystems")
            if parts == "/":
                break
            parts = parts.rpartition("/")[0] or "/"
    kind = source.file_system(path)
    # BeeGFS is known since 9.6.
    known = kind in SHARED_TYPES or (kind == "beegfs" and order.libvirt_version >= 9_006_000)
    return Sharing(shared=known, file_system=kind)


def _is_file(disk: Disk, seen: SeenDisks) -> bool:
    """By its XML, or a volume that is one."""
    members = seen.chains[disk.target].members
    if not members or disk.top.kind not in ("file", "volume"):
        return False
    found = seen.files.get(members[0].path)
    return disk.top.kind == "file" or (isinstance(found, FileStat) and found.kind == "file")


def canonical(source: Source, path: str) -> str:
    """The path without symbolic links, as far as they can be followed."""
    left = [part for part in reversed(path.split("/")) if part]
    done: list[str] = []
    links = 0
    while left:
        part = left.pop()
        if part == "..":
            del done[-1:]
        elif part != ".":
            done.append(part)
            try:
                target = source.link("/" + "/".join(done))
            except SourceError:
                continue
            links += 1
            if links > LINKS_AT_MOST:
                break
            done.pop()
            if target.startswith("/"):
                done.clear()
            left.extend(piece for piece in reversed(target.split("/")) if piece)
    return "/" + "/".join(done)
