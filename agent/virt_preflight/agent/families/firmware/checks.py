"""What of a guest's firmware keeps it from arriving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from shlex import quote

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.firmware.guest import BIOS, GuestFirmware
from virt_preflight.agent.families.firmware.host import (
    FirmwareDigests,
    FirmwareOpenings,
    FlashFormats,
    NvramToMake,
    SeenFirmware,
)
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import FileStat

SAME_PACKAGES = "Install the same version of the firmware packages on both hosts."


@check(
    "firmware.missing",
    Severity.BLOCKER,
    title="a firmware file is not there",
    remedy="Install the package that it belongs to, or put the file at the same path.",
)
def missing(guest: GuestFirmware, seen: SeenFirmware) -> Problems:
    """Loader, kernel and the like are files of each host, and libvirt does not look for them.

    Errors of QEMU: "Could not open '%s': No such file or directory", "could not load PC BIOS '%s'",
    "failed to find romfile '%s'"; of libvirt, for kernel, initrd, fw_cfg: "unable to stat: %s".
    """
    for what, path in _files(guest):
        found = seen.files.get(path)
        if isinstance(found, Unknown):
            yield CouldNotTell(subject=what, why=found.why)
        elif found is None:
            yield Problem(subject=what, wanted=path, found="nothing there")
    nvram = guest.nvram
    if nvram is not None and nvram.kind == "block" and seen.files.get(nvram.path) is None:
        yield Problem(subject="NVRAM", wanted=f"block device {nvram.path}", found="nothing there")


@check(
    "firmware.unreadable",
    Severity.BLOCKER,
    title="QEMU may not open a firmware file",
    remedy="Let the user that QEMU runs as read the file and search the directories above it.",
)
def unreadable(guest: GuestFirmware, seen: SeenFirmware, openings: FirmwareOpenings) -> Problems:
    """QEMU opens them as its own user; libvirtd gives it NVRAM and kernel, no loader and no ROM.

    Errors of QEMU: "Could not open '%s': Permission denied", "could not load PC BIOS '%s'", "failed
    to find romfile '%s'".
    """
    named = [*_files(guest), *([("NVRAM", guest.nvram.path)] if guest.nvram else [])]
    own = [(device, path) for device, name in guest.roms if (path := seen.roms.get(name))]
    for what, path in dict.fromkeys((*named, *own)):
        answer = openings.openings.get(path)
        if answer is None:
            continue
        if isinstance(answer, Unknown):
            yield CouldNotTell(subject=what, why=answer.why)
        elif answer.reads is None:
            why = f"whether libvirtd can give {answer.user.name} a file on {answer.file_system}"
            yield CouldNotTell(subject=what, why=why)
        elif not answer.reads:
            shut = answer.shut_directory
            yield Problem(
                subject=what,
                wanted=f"{path} readable for {answer.user.name}",
                found=f"{answer.user.name} may not search {shut}" if shut else answer.found,
            )


@check(
    "firmware.unwritable",
    Severity.BLOCKER,
    title="QEMU may not write the guest's variables",
    remedy="Let the user that QEMU runs as write to the file.",
    phase=Phase.FINISH,
)
def unwritable(guest: GuestFirmware, openings: FirmwareOpenings) -> Problems:
    """NVRAM is opened for writing when the guest is to run, after all memory was sent.

    Error: "unable to execute QEMU command 'cont': Could not open '%s': Permission denied".
    """
    written = [] if guest.nvram is None else [("NVRAM", guest.nvram.path)]
    if guest.loader is not None and not guest.loader.readonly:
        written.append(("loader", guest.loader.path))
    for what, path in written:
        answer = openings.openings.get(path)
        if answer is None or isinstance(answer, Unknown) or answer.reads is not True:
            continue
        if answer.writes is None:
            why = f"whether libvirtd can give {answer.user.name} a file on {answer.file_system}"
            yield CouldNotTell(subject=what, why=why)
        elif not answer.writes:
            yield Problem(
                subject=what,
                wanted=f"{path} writable for {answer.user.name}",
                found=answer.found,
            )


@check(
    "firmware.no-template",
    Severity.BLOCKER,
    title="nothing to make the guest's variables from",
    remedy="Install the template, or copy the NVRAM file from the source; its content comes with "
    "the guest, only its size counts.",
)
def no_template(guest: GuestFirmware, making: NvramToMake) -> Problems:
    """Where the NVRAM file is not there, libvirt makes it from its template.

    Errors: "unable to find any master var store for loader: %s", "Failed to open file '%s': No such
    file or directory" (qemuPrepareNVRAM, qemu/qemu_process.c). A file that is there needs none.
    """
    if guest.nvram is None or guest.loader is None:
        return
    if isinstance(making.template, Unknown):
        yield CouldNotTell(subject="NVRAM", why=making.template.why)
    elif not making.template:
        yield Problem(
            subject="NVRAM",
            wanted=f"{guest.nvram.path}, or a template for {guest.loader.path}",
            found="neither",
        )
    elif not making.found:
        yield Problem(
            subject="NVRAM",
            wanted=f"{guest.nvram.path}, or its template {making.template}",
            found="neither",
        )


@check(
    "firmware.nvram-folder",
    Severity.BLOCKER,
    title="no place for the guest's variables",
    remedy="Make the directory, and let the user that QEMU runs as search it.",
)
def nvram_folder(making: NvramToMake) -> Problems:
    """libvirt makes the NVRAM file, but not the directory that it is in.

    Errors: "Failed to create file '%s.new': No such file or directory" (virFileRewrite,
    util/virfile.c); "Could not open '%s': Permission denied" (QEMU).
    """
    if making.directory_fault:
        yield Problem(
            subject="NVRAM",
            wanted=f"directory {making.directory}",
            found=making.directory_fault,
            commands=(f"mkdir -p {quote(making.directory)}",),
        )
    elif making.shut:
        yield Problem(
            subject="NVRAM",
            wanted=f"{making.directory} within reach of {making.user}",
            found=f"{making.user} may not search it",
        )


@check(
    "firmware.other-size",
    Severity.BLOCKER,
    title="firmware of another size",
    remedy=SAME_PACKAGES,
    phase=Phase.FINISH,
)
def other_size(guest: GuestFirmware, seen: SeenFirmware, origin: GuestOrigin) -> Problems:
    """Flash and ROM are memory of the guest: what comes from the source has to fit exactly.

    Error: "Size mismatch: system.flash0: 0x1e0000 != 0x1df000: Invalid argument", "load of
    migration failed" (QEMU, migration/ram.c). The content comes from the source. ROMs of devices
    are rounded up to a power of two.
    """
    exact = [("loader", guest.loader.path)] if guest.loader else []
    if guest.nvram is not None:
        exact.append(("NVRAM", guest.nvram.path))
    for what, path in exact:
        yield from _compared(what, path, seen.sizes.get(path), origin, int)
    for what, path in guest.rom_files:
        yield from _compared(what, path, seen.sizes.get(path), origin, power_of_two)


@check(
    "firmware.template-of-other-size",
    Severity.BLOCKER,
    title="NVRAM template of another size",
    remedy=SAME_PACKAGES + " Or copy the NVRAM file from the source.",
    phase=Phase.FINISH,
)
def template_of_other_size(
    guest: GuestFirmware, making: NvramToMake, origin: GuestOrigin
) -> Problems:
    """An NVRAM file that libvirt makes is as large as its template, and has to fit like one.

    Error: "Size mismatch: system.flash1: 0x20000 != 0x40000: Invalid argument" (QEMU).
    """
    if guest.nvram is not None and making.bytes is not None:
        yield from _compared("NVRAM", guest.nvram.path, making.bytes, origin, int)


@check(
    "firmware.rom-of-other-size",
    Severity.BLOCKER,
    title="QEMU's ROM of another size",
    remedy=SAME_PACKAGES,
    phase=Phase.FINISH,
)
def rom_of_other_size(guest: GuestFirmware, seen: SeenFirmware, origin: GuestOrigin) -> Problems:
    """The BIOS and the ROMs of network and video cards come with QEMU, SeaBIOS and iPXE.

    They are memory of the guest. The BIOS has to be of the same size, the others, rounded up to a
    power of two, too. Error: "Size mismatch: 0000:00:03.0/virtio-net-pci.rom: 0x40000 != 0x80000:
    Invalid argument"; where one is missing, "failed to find romfile '%s'".
    """
    for device, name in dict.fromkeys(guest.roms):
        path = seen.roms.get(name)
        if path is None:
            yield CouldNotTell(subject=device, why=f"{name} was not found where QEMUs look for it")
            continue
        rounded = int if name == BIOS else power_of_two
        yield from _compared(device, path, seen.sizes.get(path), origin, rounded, name)


@check(
    "firmware.other-content",
    Severity.RISK,
    title="a file to boot from has another content",
    remedy="Put the source's file there, or know what the guest will boot next time.",
    phase=Phase.AFTER,
)
def other_content(guest: GuestFirmware, digests: FirmwareDigests, origin: GuestOrigin) -> Problems:
    """What runs by now comes from the source; what QEMU holds ready for a reboot is the host's own.

    So at its next reboot the guest boots the kernel and the initrd of the host that it is on, and
    reads its fw_cfg files. A loader in flash comes with the guest, until it is powered off.
    """
    named = [(what, path, Severity.RISK) for what, path in guest.boot_files]
    if guest.loader is not None:
        named.append(("loader", guest.loader.path, Severity.NOTE))
    for what, path, severity in named:
        here, there = digests.by_path.get(path), origin.digest_by_path.get(path)
        if here is None or there is None or here == there:
            continue
        if doubt := origin.unlearned.get(path):
            yield CouldNotTell(subject=what, why=f"{doubt}, and is another one here")
            continue
        yield Problem(
            subject=what,
            wanted=f"{path} as on {origin.host_name}",
            found="another content",
            severity=severity,
            commands=(f"sha256sum {quote(path)}",),
        )


@check(
    "firmware.format-unknown",
    Severity.BLOCKER,
    title="libvirt takes the flash for raw",
    remedy="Upgrade libvirt on the host, or give the guest raw flash and restart it.",
    phase=Phase.FINISH,
)
def format_unknown(
    guest: GuestFirmware, seen: SeenFirmware, formats: FlashFormats, origin: GuestOrigin
) -> Problems:
    """Loader and variables may be qcow2, which older libvirts drop: QEMU opens the file as raw.

    Flash is then as large as the file, and what comes from the source does not fit. Error: "Size
    mismatch: system.flash1: 0x84000 != 0x30000: Invalid argument" (QEMU), "job 'migration out'
    failed: Channel error: Input/output error". Variables that are not there it makes, raw, from
    their template, and those fit. Held against the schema that the host's libvirt came with.
    """
    if formats.known:
        return
    for what, flash in (("loader", guest.loader), ("NVRAM", guest.nvram)):
        if flash is None or flash.format == "raw":
            continue
        found, wanted = seen.files.get(flash.path), origin.bytes_by_path.get(flash.path)
        if isinstance(found, FileStat) and wanted is None:
            why = f"the source does not tell the size of {flash.path}"
            yield CouldNotTell(subject=what, why=why)
        elif isinstance(found, FileStat) and found.size_bytes != wanted:
            yield Problem(
                subject=what,
                wanted=f"a libvirt that knows {flash.format} flash",
                found=f"one that takes {flash.path} for raw",
            )


def power_of_two(size: int) -> int:
    """The next power of two (pow2ceil, in pci_add_option_rom of QEMU's hw/pci/pci.c)."""
    return 1 << max(size - 1, 0).bit_length()


def _compared(
    what: str,
    path: str,
    size: int | Unknown | None,
    origin: GuestOrigin,
    rounded: Callable[[int], int],
    key: str = "",
) -> Iterator[Problem | CouldNotTell]:
    """A file's size here and on the source, by its path or by the name that it has there."""
    wanted = origin.bytes_by_path.get(key or path)
    if size is None:
        return
    if isinstance(size, Unknown):
        yield CouldNotTell(subject=what, why=size.why)
    elif wanted is None:
        yield CouldNotTell(subject=what, why=f"the source does not tell the size of {key or path}")
    elif rounded(wanted) != rounded(size):
        doubt = origin.unlearned.get(key or path)
        if doubt:
            yield CouldNotTell(subject=what, why=f"{doubt}, and is of another size here")
            return
        yield Problem(
            subject=what,
            wanted=f"{path} of {wanted} bytes, as on the source",
            found=f"{size} bytes",
        )


def _files(guest: GuestFirmware) -> list[tuple[str, str]]:
    """Files that have to be there, whatever the host has otherwise."""
    loader = [("loader", guest.loader.path)] if guest.loader else []
    return [*loader, *guest.boot_files, *guest.rom_files]
