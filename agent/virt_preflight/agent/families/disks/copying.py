"""Disks that are copied (--copy-storage-all, --copy-storage-inc): where the copies would go."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.disks.guest import Disk, GuestDisks, copied
from virt_preflight.agent.families.disks.identity import (
    SeenIdentities,
    difference,
    surely_same,
)
from virt_preflight.agent.families.disks.images import SeenDisks, SeenImage, backing_by_path
from virt_preflight.agent.families.disks.pools import SeenCopies, SeenPools, directory_of
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import FileStat

MIB = 1024 * 1024


@check(
    "disks.copy-without-pool",
    Severity.BLOCKER,
    title="no pool to make the copy in",
    remedy="Define and start a pool of type dir whose target is that directory.",
)
def copy_without_pool(
    guest: GuestDisks, seen: SeenDisks, pools: SeenPools, options: MigrationOptions
) -> Problems:
    """A copied disk that is not there yet is made as a volume of the pool that its directory is.

    Error: "no storage pool with matching target path '%s'" (qemuMigrationDstPrecreateDisk,
    qemu/qemu_migration.c).
    """
    for disk in _to_make(guest, seen, options):
        if disk.top.kind != "file" or options.copy_storage_inc:
            continue
        if pools.holding(disk.top.path) is None:
            directory = directory_of(disk.top.path)
            if (doubt := pools.doubts.get(directory)) is not None:
                yield CouldNotTell(subject=disk.subject, why=doubt.why)
                continue
            asleep = [pool for pool in pools.pools if pool.target.rstrip("/") == directory]
            yield Problem(
                subject=disk.subject,
                wanted=f"an active pool with target {directory}",
                found=f"pool {asleep[0].name} is not active" if asleep else "no such pool",
                commands=(f"virsh pool-start {quote(asleep[0].name)}",)
                if asleep
                else (f"virsh pool-create-as NAME dir --target {quote(directory)}",),
            )


@check(
    "disks.copy-needs-target",
    Severity.BLOCKER,
    title="no image to copy into",
    remedy="Make the image first, of the source's size and on the same backing image, or copy the "
    "whole disk (--copy-storage-all).",
)
def copy_needs_target(guest: GuestDisks, seen: SeenDisks, options: MigrationOptions) -> Problems:
    """libvirt makes missing images for a whole copy only, and only files and volumes of pools.

    Errors: "pre-creation of storage targets for incremental storage migration is not supported",
    "cannot precreate storage for disk type '%s'", "non-shared storage migration into '%s' target is
    not supported" (qemuMigrationDstPrecreateStorage, qemu/qemu_migration.c).
    """
    for disk in _to_make(guest, seen, options):
        if disk.top.kind in ("file", "volume") and not options.copy_storage_inc:
            continue
        if disk.top.kind == "volume":
            # libvirt does not even look whether the volume is there.
            found = "a volume, which libvirt refuses to copy into incrementally"
        else:
            found = "nothing there"
        yield Problem(subject=disk.subject, wanted=f"an image at {disk.top.said}", found=found)


@check(
    "disks.copy-of-other-size",
    Severity.BLOCKER,
    title="the image to copy into is of another size",
    remedy="Remove the image that is there, so that libvirt makes it, or make it of that size.",
    phase=Phase.PERFORM,
)
def copy_of_other_size(
    guest: GuestDisks, seen: SeenDisks, origin: GuestOrigin, options: MigrationOptions
) -> Problems:
    """A disk is mirrored into an image of just the same size; a larger one will not do either.

    Error: "Source and target image have different sizes" (block/mirror.c). Into a larger raw block
    device a libvirt since 10.0 copies all the same.
    """
    for disk in guest.disks:
        members = seen.chains[disk.target].members
        if not copied(disk, options) or not members:
            continue
        image = seen.images.get(members[0].path)
        wanted = origin.bytes_by_path.get(members[0].path)
        if not isinstance(image, SeenImage) or image.bytes is None:
            continue
        if wanted is None:
            why = f"the source does not tell the size of {members[0].path}"
            yield CouldNotTell(subject=disk.subject, why=why)
            continue
        found = seen.files.get(members[0].path)
        block = isinstance(found, FileStat) and found.kind == "block"
        if image.bytes == wanted:
            continue
        if block and members[0].format == "raw" and image.bytes > wanted:
            yield CouldNotTell(
                subject=disk.subject,
                why="the device is larger than the source's: a libvirt before 10.0 refuses it",
            )
            continue
        yield Problem(
            subject=disk.subject,
            wanted=f"{wanted} bytes, as on the source",
            found=f"{image.bytes} bytes at {members[0].path}",
        )


@check(
    "disks.copy-onto-itself",
    Severity.BLOCKER,
    title="the disk to be copied is the same on both hosts",
    remedy="Leave it out of --migrate-disks, or leave --copy-storage-... out: both hosts see it.",
    # Prepare passes where no lock reaches from host to host, and the harm comes all the same.
    phase=Phase.PERFORM,
)
def copy_onto_itself(
    guest: GuestDisks,
    seen: SeenDisks,
    identities: SeenIdentities,
    origin: GuestOrigin,
    options: MigrationOptions,
) -> Problems:
    """A disk that both hosts see would be copied onto itself, while the guest writes to it.

    Where locks reach from host to host, QEMU on the destination cannot write to it: "unable to
    execute QEMU command 'block-export-add': Block node is read-only". Where they do not, two QEMUs
    write to one image, and what the guest wrote meanwhile may be lost. A file is known to be the
    same by its inode number and time of birth; where only the number is told, it is left open.
    """
    for disk in guest.disks:
        members = seen.chains[disk.target].members
        if not copied(disk, options) or disk.readonly or not members:
            continue
        path = members[0].path
        here, there = identities.by_path.get(path), origin.identity_by_path.get(path)
        if here is None or there is None or difference(here, there):
            continue
        if surely_same(here, there):
            yield Problem(
                subject=disk.subject,
                wanted=f"another {path} than on {origin.host_name}",
                found="the same",
            )
        elif here.inode and here.inode == there.inode:
            why = f"{path} has inode number {here.inode} on both hosts: it may be the same file"
            yield CouldNotTell(subject=disk.subject, why=why)


@check(
    "disks.copy-without-base",
    Severity.RISK,
    title="an incremental copy onto an image without base",
    remedy="Put the backing image there and make the image on top of it (qemu-img create -b), "
    "or copy the whole disk (--copy-storage-all).",
    phase=Phase.AFTER,
)
def copy_without_base(
    guest: GuestDisks, seen: SeenDisks, origin: GuestOrigin, options: MigrationOptions
) -> Problems:
    """--copy-storage-inc copies the topmost image alone, and libvirt does not look below it there.

    Onto an image without backing image that does not hold the base's content itself, the guest
    finds zeros where it had data, without an error.
    """
    if not options.copy_storage_inc:
        return
    here = backing_by_path(seen)
    for disk in guest.disks:
        members = seen.chains[disk.target].members
        if not copied(disk, options) or not members:
            continue
        path = members[0].path
        image = seen.images.get(path)
        base = origin.backing_by_path.get(path)
        if base and path not in here and isinstance(image, SeenImage) and not image.backing:
            yield Problem(
                subject=disk.subject,
                wanted=f"{path} on top of {base}, as on the source",
                found="an image without backing image",
            )


@check(
    "disks.copy-into-ghost",
    Severity.BLOCKER,
    title="the pool lists an image that is gone",
    remedy="Refresh the pool, so that it forgets the image and libvirt makes it anew.",
)
def copy_into_ghost(copies: SeenCopies) -> Problems:
    """A pool that was not refreshed may still list a volume whose file is gone.

    libvirt then makes none, and fails when it labels or opens it: "unable to stat: %s: No such file
    or directory" (seen with libvirt 9.0).
    """
    for target, new in copies.files.items():
        if isinstance(new, Unknown):
            yield CouldNotTell(subject=target, why=new.why)
        elif new.listed:
            yield Problem(
                subject=target,
                wanted=f"a pool that knows that {new.path} is not there",
                found=f"pool {new.pool} lists it",
                commands=(f"virsh pool-refresh {quote(new.pool)}",),
            )


@check(
    "disks.copy-not-openable",
    Severity.BLOCKER,
    title="QEMU may not open the copy",
    remedy="Make the image beforehand, owned by the user that QEMU runs as, or set "
    "dynamic_ownership = 1 in qemu.conf.",
)
def copy_not_openable(copies: SeenCopies) -> Problems:
    """libvirt makes the image as root, mode 0600; only dynamic_ownership gives it to QEMU's user.

    Error: "Could not open '%s': Permission denied" (QEMU).
    """
    for target, new in copies.files.items():
        if isinstance(new, Unknown) or new.listed:
            continue
        if not new.searched:
            yield Problem(
                subject=target,
                wanted=f"{new.path} within reach of {new.user}",
                found=f"{new.user} may not search {new.path.rpartition('/')[0] or '/'}",
            )
        elif not new.given:
            yield Problem(
                subject=target,
                wanted=f"{new.path} that {new.user} may open",
                found="libvirt would make it as root with mode 0600, and leave it so",
            )


@check(
    "disks.copy-nowhere",
    Severity.BLOCKER,
    title="the copy cannot be made",
    remedy="Let libvirtd write to the directory (a file system mounted read-only?).",
)
def copy_nowhere(copies: SeenCopies) -> Problems:
    """libvirt's storage driver makes the image, as root.

    Error: "Child process (/usr/bin/qemu-img create ...) unexpected exit status 1: ... Read-only
    file system" (virStorageBackendCreateQemuImg).
    """
    for target, new in copies.files.items():
        if isinstance(new, Unknown) or new.listed:
            continue
        directory = directory_of(new.path)
        if isinstance(new.makes, Unknown):
            yield CouldNotTell(subject=target, why=new.makes.why)
        elif not new.makes:
            yield Problem(
                subject=target,
                wanted=f"{directory} that libvirtd may write to",
                found="it may not",
                commands=(f"findmnt -T {quote(directory)}",),
            )


@check(
    "disks.copy-too-large",
    Severity.RISK,
    title="too little space for the copy",
    remedy="Free space in the pool, or choose another host.",
    phase=Phase.PERFORM,
)
def copy_too_large(
    guest: GuestDisks,
    seen: SeenDisks,
    pools: SeenPools,
    origin: GuestOrigin,
    options: MigrationOptions,
) -> Problems:
    """Raw copies take their full size at once, qcow2 ones grow up to it.

    Errors: "cannot allocate %llu bytes in file '%s': No space left on device" (storage_util.c),
    "migration of disk %s failed: No space left on device". What is free is as the pool last counted
    it, so a raw copy that would not fit is left open.
    """
    left_by_pool: dict[str, int] = {}
    for disk in _to_make(guest, seen, options):
        pool = (
            pools.named(disk.top.pool)
            if disk.top.kind == "volume"
            else pools.holding(disk.top.path)
        )
        size = origin.bytes_by_path.get(disk.top.path)
        if pool is None or size is None or pool.available_bytes is None:
            continue
        left = left_by_pool.setdefault(pool.name, pool.available_bytes)
        left_by_pool[pool.name] = left - size
        if size <= left:
            continue
        if disk.top.format == "raw":
            why = f"needs {size // MIB} MiB, pool {pool.name} counted {left // MIB} MiB free"
            yield CouldNotTell(subject=disk.subject, why=why)
            continue
        yield Problem(
            subject=disk.subject,
            wanted=f"up to {size // MIB} MiB in pool {pool.name}",
            found=f"{max(left, 0) // MIB} MiB free",
        )


@check(
    "disks.copy-of-readonly",
    Severity.BLOCKER,
    title="read-only disk to be copied",
    remedy="Leave it out of --migrate-disks.",
)
def copy_of_readonly(guest: GuestDisks, options: MigrationOptions) -> Problems:
    """Read-only disks and empty drives can be named in --migrate-disks, but not copied.

    Error: "Cannot migrate empty or read-only disk %s" (qemuMigrationDstStartNBDServer,
    qemu/qemu_migration.c).
    """
    if not options.copies_storage:
        return
    readonly = {disk.target for disk in guest.disks if disk.readonly}
    for target in options.migrate_disks:
        if target in readonly or target in guest.empty:
            found = "read-only" if target in readonly else "empty"
            yield Problem(subject=target, wanted="a disk that can be written to", found=found)


def _to_make(guest: GuestDisks, seen: SeenDisks, options: MigrationOptions) -> Iterator[Disk]:
    """Disks that are copied and whose image is surely not there."""
    for disk in guest.disks:
        if not copied(disk, options) or disk.readonly:
            continue
        if disk.top.kind == "volume":
            # libvirt does not look for a volume's file before an incremental copy.
            known = seen.volumes.get((disk.top.pool, disk.top.volume), "")
            if known is None or options.copy_storage_inc:
                yield disk
        elif disk.top.kind != "network" and seen.files.get(disk.top.path, "") is None:
            yield disk
