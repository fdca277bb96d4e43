"""Whether a path leads to the same file or device on both hosts, whatever it is called there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import Problem, Problems, check
from virt_preflight.agent.fact import Pace, look
from virt_preflight.agent.families.disks.guest import GuestDisks, copied
from virt_preflight.agent.families.disks.images import SeenDisks
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import FileIdentity, GuestOrigin
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import FileStat, Source, SourceError

# File systems of one host: two hosts that have the same file there have the same disk mounted.
LOCAL = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "overlay", "tmpfs")
)
# Whose inode numbers are the server's or the cluster's own, and so the same on every host. Those of
# cifs may be made up by each client (mount option noserverino), those of most FUSE are.
NUMBERED_BY_SERVER = frozenset(
    ("nfs", "nfs4", "ceph", "fuse.ceph-fuse", "fuse.glusterfs", "gfs2", "ocfs2", "gpfs", "lustre")
)
# A file that NFS exports has there the inode number that it has on the server's own file system.
NFS = frozenset(("nfs", "nfs4"))
BLOCK = "/sys/dev/block"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenIdentities:
    """By path, for the image that each disk writes to; absent where nothing tells."""

    by_path: Mapping[str, FileIdentity]


@look(Pace.MOVING)
def seen_identities(source: Source, guest: GuestDisks, seen: SeenDisks) -> SeenIdentities | None:
    """None for a guest without disks that are paths of the host."""
    tops = {
        chain.members[0].path for disk in guest.disks if (chain := seen.chains[disk.target]).members
    }
    identities = {
        path: identity
        for path in sorted(tops)
        if isinstance(found := seen.files.get(path), FileStat)
        and (identity := identity_of(source, path, found)) is not None
    }
    return SeenIdentities(by_path=identities) if tops else None


def identity_of(source: Source, path: str, found: FileStat) -> FileIdentity | None:
    """None when the host tells nothing that another host would understand."""
    if found.kind == "block":
        serial = device_serial(source, found.rdev)
        return FileIdentity(serial=serial) if serial else None
    if found.kind != "file":
        return None
    try:
        kind = source.file_system(path)
    except SourceError:
        return None
    if kind not in LOCAL | NUMBERED_BY_SERVER:
        return None
    return FileIdentity(file_system=kind, inode=found.inode, born_ns=found.born_ns)


def device_serial(source: Source, rdev: str) -> str:
    """What the kernel knows a block device by, wherever it is plugged in; "" when by nothing.

    `wwid` is the unit's own (SCSI, NVMe), with the partition of it; a multipath device's is in the
    name that device mapper has for it, as is the UUID of a logical volume.
    """
    if mapped := _line(source, f"{BLOCK}/{rdev}/dm/uuid"):
        # multipath-tools: "mpath-" and the WWID as udev writes it, 3600... for naa.600...
        if unit := re.fullmatch(r"mpath-([238])([0-9a-f]+)", mapped):
            return f"{ {'2': 'eui', '3': 'naa', '8': 'scsi'}[unit[1]] }.{unit[2]}"
        # Only what LVM and multipath write is of the storage: other names are the host's own.
        return mapped if mapped.startswith(("LVM-", "mpath-")) else ""
    partition = _line(source, f"{BLOCK}/{rdev}/partition")
    unit_of = f"{BLOCK}/{rdev}/.." if partition else f"{BLOCK}/{rdev}"
    for name in ("device/wwid", "wwid"):
        wwid = " ".join(_line(source, f"{unit_of}/{name}").split())
        if wwid:
            return f"{wwid} partition {partition}" if partition else wwid
    return ""


def _line(source: Source, path: str) -> str:
    try:
        return source.text(path).strip()
    except SourceError:
        return ""


def difference(here: FileIdentity, there: FileIdentity) -> str:
    """What shows that it is another one; "" when it is the same one, or nothing tells."""
    if here.serial or there.serial:
        # The same unit may go by two kinds of names: only two of a kind can be held together.
        if _kind_of(here.serial) == _kind_of(there.serial) and here.serial != there.serial:
            return f"{here.serial}, on the source {there.serial}"
        return ""
    if not _comparable(here.file_system, there.file_system):
        return ""
    if here.inode != there.inode:
        return (
            f"inode {here.inode} on {here.file_system}, "
            f"on the source {there.inode} on {there.file_system}"
        )
    if here.born_ns and there.born_ns and here.born_ns != there.born_ns:
        return "a file that was made at another moment"
    return ""


def surely_same(here: FileIdentity, there: FileIdentity) -> bool:
    """Whether nothing else is left: a unit's own name, or inode number and moment of birth."""
    if here.serial and here.serial == there.serial:
        return True
    return (
        _comparable(here.file_system, there.file_system)
        and here.inode == there.inode
        and 0 < here.born_ns == there.born_ns
    )


def _comparable(here: str, there: str) -> bool:
    """Whether the inode numbers of two file systems can be those of one file."""
    both = {here, there}
    if len(both) == 1:
        return here in LOCAL | NUMBERED_BY_SERVER
    return both <= NFS | LOCAL


def _kind_of(serial: str) -> str:
    """naa, eui, t10, LVM-, ...: "" for none."""
    match = re.match(r"(?:naa|eui|t10|scsi|nvme|uuid)\.|LVM-|mpath-", serial)
    return match[0] if match else ("other" if serial else "")


@check(
    "disks.another-file",
    Severity.RISK,
    title="another file than the source's at the same path",
    remedy="Make sure that both hosts see the same storage there, or copy the disk "
    "(--copy-storage-all).",
    phase=Phase.AFTER,
)
def another_file(
    guest: GuestDisks,
    seen: SeenDisks,
    identities: SeenIdentities,
    origin: GuestOrigin,
    options: MigrationOptions,
) -> Problems:
    """libvirt goes by paths: the guest moves, and finds another disk under its feet.

    What it wrote last is not there, and what it still has in its memory it writes into a file
    system that is not its own. Files are told apart by inode number and time of birth where those
    mean the same on both hosts - on local file systems, NFS, Ceph, GlusterFS and the like, not on
    cifs and most of FUSE - and block devices by WWN, NVMe name, or UUID of the logical volume.
    Where that tells nothing, this says nothing. Read-only disks may be copies, and are left alone.
    """
    for disk in guest.disks:
        members = seen.chains[disk.target].members
        if not members or disk.readonly or copied(disk, options):
            continue
        path = members[0].path
        here, there = identities.by_path.get(path), origin.identity_by_path.get(path)
        if here is None or there is None:
            continue
        if differs := difference(here, there):
            yield Problem(
                subject=disk.subject,
                wanted=f"the same {path} as on {origin.host_name}",
                found=differs,
            )
