"""What keeps a guest's disks from being opened on the host that it comes to."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.disks.guest import (
    Disk,
    GuestDisks,
    copied,
    dropped_when_missing,
)
from virt_preflight.agent.families.disks.images import (
    Broken,
    DiskOpenings,
    Member,
    SeenDisks,
    SeenImage,
)
from virt_preflight.agent.families.disks.openings import Opening
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import FileStat

# What stat(2) has to find for each kind of layer; a pool's volume may be either.
KINDS_THAT_FIT = {
    # QEMU: "'file' driver requires '%s' to be a regular file", and "host_device" no file.
    "file": ("file",),
    "volume": ("file", "block", "dir"),
    "block": ("block", "char"),
    "dir": ("dir",),
    "vhostuser": ("socket",),
    "vhostvdpa": ("char",),
    "nvme": ("dir",),
    "data": ("file", "block"),
}
NAME_OF_KIND = {
    "block": "block device",
    "dir": "directory",
    "vhostuser": "socket",
    "vhostvdpa": "vDPA device",
    "nvme": "NVMe controller",
}


@check(
    "disks.missing",
    Severity.BLOCKER,
    title="a disk is not there",
    remedy="Mount the storage that it is on at the same path, or copy it (--copy-storage-all); "
    "eject a medium that is only on the source (virsh change-media GUEST TARGET --eject).",
)
def missing(guest: GuestDisks, seen: SeenDisks, options: MigrationOptions) -> Problems:
    """The image, device or socket of each disk has to be where the domain XML says.

    Errors: "Cannot access storage file '%s'" (qemuDomainDetermineDiskChain, qemu/qemu_domain.c),
    "unable to stat: %s" (security/security_dac.c), "Could not open '%s'" (QEMU). `startupPolicy`
    helps at a migration only where it is optional or requisite, for cdrom and floppy alone:
    see disks.dropped. A disk that is to be copied need not be there.
    """
    for disk, top, found in _tops(guest, seen):
        if copied(disk, options) and found is None:
            continue
        if isinstance(found, Unknown):
            yield CouldNotTell(subject=disk.subject, why=found.why)
        elif found is None and not dropped_when_missing(disk):
            yield Problem(
                subject=disk.subject,
                wanted=f"{NAME_OF_KIND.get(top.kind, 'file')} {top.path}",
                found="nothing there",
            )
        elif found is not None and found.kind not in KINDS_THAT_FIT.get(top.kind, (found.kind,)):
            yield Problem(
                subject=disk.subject,
                wanted=f"{NAME_OF_KIND.get(top.kind, 'file')} {top.path}",
                found=f"a {found.kind}",
            )


@check(
    "disks.dropped",
    Severity.RISK,
    title="a medium is left behind",
    remedy="Put the medium where the guest can find it, if it still needs it.",
    phase=Phase.AFTER,
)
def dropped(guest: GuestDisks, seen: SeenDisks) -> Problems:
    """A cdrom or floppy with startupPolicy optional or requisite, whose medium is not there.

    The guest moves and finds the drive empty (qemuDomainCheckDiskStartupPolicy,
    qemu/qemu_domain.c).
    """
    for disk in guest.disks:
        if not dropped_when_missing(disk):
            continue
        volume = seen.volumes.get((disk.top.pool, disk.top.volume), "")
        if volume is None or seen.files.get(disk.top.path, "") is None:
            yield Problem(
                subject=disk.subject,
                wanted=disk.top.said,
                found=f"nothing there: with startupPolicy {disk.startup_policy} libvirt ejects it",
            )


@check(
    "disks.backing-missing",
    Severity.BLOCKER,
    title="a backing image is not there",
    remedy="Mount the storage of the backing image at the same path, or flatten the disk on the "
    "source first (virsh blockpull GUEST TARGET).",
)
def backing_missing(guest: GuestDisks, seen: SeenDisks) -> Problems:
    """Every image below a disk's own is opened too, however deep; so is a data file beside one.

    Error: "Cannot access backing file '%s' of storage file '%s'", from
    virStorageSourceReportBrokenChain (storage_file/storage_source.c), or QEMU's "Could not open
    '%s'".
    """
    for disk in guest.disks:
        for member in seen.chains[disk.target].members:
            if member.depth == 0 and member.kind != "data":
                continue
            found = seen.files.get(member.path)
            subject = _layer_subject(disk, member)
            if isinstance(found, Unknown):
                yield CouldNotTell(subject=subject, why=found.why)
            elif found is None:
                yield Problem(subject=subject, wanted=member.path, found="nothing there")
        opaque = seen.chains[disk.target].opaque
        if opaque:
            yield CouldNotTell(subject=disk.subject, why=f"backing {opaque} was not followed")


@check(
    "disks.backing-format",
    Severity.BLOCKER,
    title="format of a backing image not recorded",
    remedy="Record the format of the backing image in the image above it.",
)
def backing_format(guest: GuestDisks, seen: SeenDisks) -> Problems:
    """libvirt does not guess the format of a backing image that has a backing image itself.

    Errors: "format of backing image '%s' of image '%s' was not specified in the image metadata",
    "backing store for %s is self-referential or too deeply nested"
    (virStorageSourceGetMetadataRecurse, storage_file/storage_source.c).
    """
    for disk in guest.disks:
        chain = seen.chains[disk.target]
        for above, below in chain.unrecorded:
            image = seen.images.get(below)
            format_ = image.format if isinstance(image, SeenImage) else "FORMAT"
            yield Problem(
                subject=disk.subject,
                wanted=f"the format of {below} recorded in {above}",
                found="none recorded",
                commands=(f"qemu-img rebase -u -b {quote(below)} -F {format_} {quote(above)}",),
            )
        if chain.too_deep:
            yield Problem(
                subject=disk.subject, wanted="at most 200 images in a chain", found="more than 200"
            )


@check(
    "disks.wrong-format",
    Severity.BLOCKER,
    title="an image of another format",
    remedy="Put the right image at that path, or correct <driver type=...> in the guest's XML.",
)
def wrong_format(guest: GuestDisks, seen: SeenDisks) -> Problems:
    """QEMU opens an image as what the XML, or the image above it, says it is, and as nothing else.

    Error: "Image is not in qcow2 format" (block/qcow2.c, and alike in others).
    """
    for disk in guest.disks:
        for member in seen.chains[disk.target].members:
            image = seen.images.get(member.path)
            subject = _layer_subject(disk, member)
            if isinstance(image, Unknown):
                yield CouldNotTell(subject=subject, why=image.why)
            elif isinstance(image, Broken):
                yield Problem(
                    subject=subject, wanted=f"{member.format} {member.path}", found=image.why
                )
            elif image and member.format not in ("", "raw", "luks", "fat", image.format):
                yield Problem(
                    subject=subject,
                    wanted=f"{member.format} {member.path}",
                    found=f"a {image.format} image",
                )


@check(
    "disks.taken-for-raw",
    Severity.RISK,
    title="a formatted image taken for raw",
    remedy="Put the raw image there that the source has, or give the XML the right format.",
    phase=Phase.AFTER,
)
def taken_for_raw(guest: GuestDisks, seen: SeenDisks, origin: GuestOrigin) -> Problems:
    """Raw on the source, and here a qcow2 file: the guest moves, and reads garbage.

    An image that is as large as on the source is left alone: a guest may keep images on its disk.
    """
    for disk, member, image in _uncopied(guest, seen, MigrationOptions()):
        if member.format != "raw" or image.format == "raw":
            continue
        size = origin.bytes_by_path.get(member.path)
        if size is not None and size != image.bytes:
            yield Problem(
                subject=disk.subject,
                wanted=f"raw {member.path} of {size} bytes",
                found=f"a {image.format} file of {image.bytes} bytes",
            )


@check(
    "disks.wrong-size",
    Severity.RISK,
    title="a disk of another size than on the source",
    remedy="Make sure that both hosts see the same disk: mount the same storage, rescan the LUN.",
    phase=Phase.AFTER,
)
def wrong_size(
    guest: GuestDisks, seen: SeenDisks, origin: GuestOrigin, options: MigrationOptions
) -> Problems:
    """The same path, but another size: it is hardly the same disk, or a LUN that was not rescanned.

    libvirt does not look; the guest moves and writes to whatever is there.
    """
    for disk, member, image in _uncopied(guest, seen, options):
        size = origin.bytes_by_path.get(member.path)
        if size is None or image.bytes is None or size == image.bytes:
            continue
        if member.format == image.format:
            yield Problem(
                subject=disk.subject,
                wanted=f"{size} bytes, as on the source",
                found=f"{image.bytes} bytes at {member.path}",
            )


@check(
    "disks.unreadable",
    Severity.BLOCKER,
    title="QEMU may not open a disk",
    remedy="Let the user that QEMU runs as read the file and search the directories above it.",
)
def unreadable(guest: GuestDisks, openings: DiskOpenings, seen: SeenDisks) -> Problems:
    """QEMU opens all images as its own user, after libvirtd gave it those that it may give.

    With dynamic_ownership = 1 libvirtd changes the owner of the files, except where a DAC label
    says relabel='no', the file system is read-only or squashes root. It never changes their mode,
    nor the directories above. Errors: "Could not open '%s': Permission denied" (QEMU), "Cannot
    access backing file '%s' of storage file '%s' (as uid:%u, gid:%u)" (libvirt).
    """
    for disk, member, answer in _opened(guest, openings, seen):
        subject = _layer_subject(disk, member)
        if isinstance(answer, Unknown):
            yield CouldNotTell(subject=subject, why=answer.why)
        elif answer.reads is None:
            yield CouldNotTell(
                subject=subject,
                why=f"whether libvirtd can give {answer.user.name} a file on {answer.file_system}",
            )
        elif answer.shut_directory:
            yield Problem(
                subject=subject,
                wanted=f"{member.path} within reach of {answer.user.name}",
                found=f"{answer.user.name} may not search {answer.shut_directory}",
                commands=(
                    f"setfacl -m u:{quote(answer.user.name)}:x {quote(answer.shut_directory)}",
                ),
            )
        elif not answer.reads:
            yield Problem(
                subject=subject,
                wanted=f"{member.path} readable for {answer.user.name}",
                found=answer.found,
            )


@check(
    "disks.unwritable",
    Severity.BLOCKER,
    title="QEMU may not write to a disk",
    remedy="Let the user that QEMU runs as write to the file.",
    phase=Phase.FINISH,
)
def unwritable(guest: GuestDisks, openings: DiskOpenings, seen: SeenDisks) -> Problems:
    """An incoming QEMU opens its disks for reading; it asks to write when the guest is to run.

    So this shows when all memory was sent. Error: "unable to execute QEMU command 'cont': Could
    not open '%s': Permission denied".
    """
    for disk, member, answer in _opened(guest, openings, seen):
        if disk.readonly or member.depth or isinstance(answer, Unknown) or answer.reads is not True:
            continue
        if answer.writes is None:
            yield CouldNotTell(
                subject=disk.subject,
                why=f"whether libvirtd can give {answer.user.name} a file on {answer.file_system}",
            )
        elif not answer.writes:
            yield Problem(
                subject=disk.subject,
                wanted=f"{member.path} writable for {answer.user.name}",
                found=answer.found,
            )


def _tops(
    guest: GuestDisks, seen: SeenDisks
) -> Iterator[tuple[Disk, Member, FileStat | Unknown | None]]:
    """Each disk that is a path of this host, with what is there."""
    for disk in guest.disks:
        members = seen.chains[disk.target].members
        if members and members[0].depth == 0:
            yield disk, members[0], seen.files.get(members[0].path)


def _uncopied(
    guest: GuestDisks, seen: SeenDisks, options: MigrationOptions
) -> Iterator[tuple[Disk, Member, SeenImage]]:
    """Each disk that both hosts should see alike, with the image of its top."""
    for disk, member, _ in _tops(guest, seen):
        image = seen.images.get(member.path)
        if isinstance(image, SeenImage) and not copied(disk, options):
            yield disk, member, image


def _opened(
    guest: GuestDisks, openings: DiskOpenings, seen: SeenDisks
) -> Iterator[tuple[Disk, Member, Opening | Unknown]]:
    for disk in guest.disks:
        for member in seen.chains[disk.target].members:
            answer = openings.openings.get((disk.target, member.path))
            if answer is not None:
                yield disk, member, answer


def _layer_subject(disk: Disk, member: Member) -> str:
    if member.kind == "data":
        return f"{disk.subject}, data file"
    if member.depth == 0:
        return disk.subject
    return f"{disk.subject}, backing image {member.depth}"
