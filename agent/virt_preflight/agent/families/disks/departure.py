"""What the source finds of a guest's disks before it lets the guest go (Begin)."""

from __future__ import annotations

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.disks.guest import GuestDisks, copied
from virt_preflight.agent.families.disks.images import SeenDisks, SeenImage
from virt_preflight.agent.families.disks.sharing import SeenSharing
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Severity, Side

# Drivers that add a migration blocker (migrate_add_blocker in QEMU's block/*.c).
IMMOVABLE_FORMATS = frozenset(("qcow", "vdi", "vmdk", "vhdx", "vpc", "parallels"))


@check(
    "disks.unsafe",
    Severity.BLOCKER,
    title="a disk is not on shared storage",
    remedy="If the storage is shared though libvirt cannot see it, say --unsafe or list it in "
    "shared_filesystems of qemu.conf (libvirt 10.8 and newer). If it is not, copy the disk "
    "(--copy-storage-all) or move it to shared storage.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def unsafe(guest: GuestDisks, seen: SeenSharing, options: MigrationOptions) -> Problems:
    """libvirt lets a disk go only from file systems that it knows to be shared between hosts.

    It looks at the top image of each disk that is a file, and takes block devices and network disks
    for shared. Read-only disks, empty drives and copied disks are fine. Error: "Migration without
    shared storage is unsafe" (qemuMigrationSrcIsSafe, qemu/qemu_migration.c).
    """
    if options.unsafe:
        return
    for disk in guest.disks:
        if disk.readonly or copied(disk, options):
            continue
        if disk.top.kind == "nvme":
            yield Problem(
                subject=disk.subject, wanted="shared storage", found="an NVMe disk of this host"
            )
        sharing = seen.disks.get(disk.target)
        if isinstance(sharing, Unknown):
            yield CouldNotTell(subject=disk.subject, why=sharing.why)
        elif sharing is not None and not sharing.shared:
            yield Problem(
                subject=disk.subject,
                wanted="a file system that libvirt knows to be shared",
                found=f"{disk.top.said} on {sharing.file_system}",
            )


@check(
    "disks.transient",
    Severity.BLOCKER,
    title="a transient disk cannot move",
    remedy="Stop the guest, or remove <transient/> from the disk and start it anew.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def transient(guest: GuestDisks) -> Problems:
    """What is written to a transient disk lies in an overlay of this host alone.

    Error: "migration with transient disk is not supported" (qemuMigrationSrcIsAllowed,
    qemu/qemu_migration.c).
    """
    for disk in guest.disks:
        if disk.transient:
            yield Problem(subject=disk.subject, wanted="a disk that stays", found="<transient/>")


@check(
    "disks.immovable-format",
    Severity.BLOCKER,
    title="QEMU cannot migrate a disk of that format",
    remedy="Convert the disk to qcow2 or raw (virsh blockcopy while it runs, qemu-img when it does "
    "not).",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def immovable_format(guest: GuestDisks, seen: SeenDisks) -> Problems:
    """Some drivers of QEMU keep state that they cannot hand over, be it for a backing image.

    Error: "The %s format used by node '%s' does not support live migration" (QEMU's block/*.c,
    reported as a blocked reason by qemuMigrationSrcIsAllowed).
    """
    for disk in guest.disks:
        for member in seen.chains[disk.target].members:
            image = seen.images.get(member.path)
            format_ = member.format or (image.format if isinstance(image, SeenImage) else "")
            if format_ in IMMOVABLE_FORMATS:
                yield Problem(
                    subject=disk.subject,
                    wanted="qcow2 or raw",
                    found=f"{member.path} is a {format_} image",
                )
