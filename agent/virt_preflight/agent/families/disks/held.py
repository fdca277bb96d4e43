"""Images to copy into that somebody on the host has open: QEMU's locks keep a second one out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import Problem, Problems, check
from virt_preflight.agent.fact import Pace, look
from virt_preflight.agent.families.disks.guest import GuestDisks, copied
from virt_preflight.agent.families.disks.identity import LOCAL, SeenIdentities, difference
from virt_preflight.agent.families.disks.images import SeenDisks
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import FileStat, Source

LOCKS = "/proc/locks"
# Bytes that QEMU locks (RAW_LOCK_PERM_BASE, RAW_LOCK_SHARED_BASE and the bits of BLK_PERM_WRITE and
# BLK_PERM_RESIZE, block/file-posix.c): one that is written to, resized, kept from other writers.
WRITES, RESIZES, NO_OTHER_WRITER = 100 + 1, 100 + 3, 200 + 1
# A format that keeps its own tables wants to be their only writer; raw leaves that to the guest.
RAW_IS_REFUSED_BY = frozenset((NO_OTHER_WRITER,))
TABLES_ARE_REFUSED_BY = frozenset((WRITES, RESIZES, NO_OTHER_WRITER))
# Fields of a line: "1: OFDLCK ADVISORY READ -1 08:01:1234 201 201" (fs/locks.c).
KIND, FILE, START, END = 1, 5, 6, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLocks:
    """By path of an image, on a file system of the host's own, those bytes that are locked.

    By the source's own QEMU, perhaps, where the file is one that both hosts have.
    """

    by_path: Mapping[str, frozenset[int]]


@look(Pace.MOVING)
def seen_locks(
    source: Source, identities: SeenIdentities, seen: SeenDisks, options: MigrationOptions
) -> SeenLocks | None:
    """As the kernel lists them: nothing is opened. A lock over NFS is told by its server alone."""
    if not options.copies_storage:
        return None
    held = locked_bytes(source.text(LOCKS))
    return SeenLocks(
        by_path={
            path: held.get(in_the_table(found), frozenset())
            for path, identity in identities.by_path.items()
            if identity.file_system in LOCAL and isinstance(found := seen.files.get(path), FileStat)
        }
    )


def in_the_table(found: FileStat) -> str:
    """A file as the table has it; st_dev as glibc packs it (gnu_dev_major, gnu_dev_minor)."""
    major = (found.device >> 8 & 0xFFF) | (found.device >> 32 & ~0xFFF)
    minor = (found.device & 0xFF) | (found.device >> 12 & 0xFFFFFF00)
    return f"{major:02x}:{minor:02x}:{found.inode}"


def locked_bytes(table: str) -> Mapping[str, frozenset[int]]:
    """By file, as "08:01:1234", which of those bytes somebody has locked, to read or to write.

    flock(2) and leases are in nobody's way; a line with an arrow only waits for a lock.
    """
    held: dict[str, frozenset[int]] = {}
    for line in table.splitlines():
        fields = line.split()
        if len(fields) != END + 1 or fields[KIND] not in ("OFDLCK", "POSIX"):
            continue
        start, end = fields[START], fields[END]
        if not start.isdigit() or not (end == "EOF" or end.isdigit()):
            continue
        last = NO_OTHER_WRITER if end == "EOF" else int(end)
        within = frozenset(byte for byte in TABLES_ARE_REFUSED_BY if int(start) <= byte <= last)
        held[fields[FILE]] = held.get(fields[FILE], frozenset()) | within
    return held


@check(
    "disks.copy-into-held",
    Severity.BLOCKER,
    title="somebody has the image to copy into open",
    remedy="End what uses the image on the host, or copy into another one (--xml).",
)
def copy_into_held(
    guest: GuestDisks,
    seen: SeenDisks,
    identities: SeenIdentities,
    locks: SeenLocks,
    origin: GuestOrigin,
    options: MigrationOptions,
) -> Problems:
    """QEMU locks an image that it has open, and a second one may not write to it.

    Another guest of the host, qemu-nbd or qemu-img. Error: "unable to execute QEMU command
    'block-export-add': Block node is read-only". Only told where the file is not the source's own,
    which the source's QEMU has locked, and where locks are the host's: not on NFS and the like.
    """
    for disk in guest.disks:
        members = seen.chains[disk.target].members
        if not copied(disk, options) or disk.readonly or not members:
            continue
        path = members[0].path
        here, there = identities.by_path.get(path), origin.identity_by_path.get(path)
        if here is None or there is None or not difference(here, there):
            continue
        refused_by = RAW_IS_REFUSED_BY if members[0].format == "raw" else TABLES_ARE_REFUSED_BY
        if locks.by_path.get(path, frozenset()) & refused_by:
            yield Problem(
                subject=disk.subject,
                wanted=f"{path} in nobody's use",
                found="locked by somebody who has it open",
                commands=(f"grep :{here.inode} {LOCKS}",),
            )
