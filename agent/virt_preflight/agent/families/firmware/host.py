"""Firmware files as the host sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from virt_preflight.agent.fact import Pace, Unknown, look
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.families.disks.images import read_image
from virt_preflight.agent.families.disks.openings import (
    ROOT,
    Opening,
    given_to,
    opening,
    runs_as,
    stat_or_none,
)
from virt_preflight.agent.families.disks.sharing import canonical
from virt_preflight.agent.families.firmware.guest import GuestFirmware
from virt_preflight.agent.families.versions import SCHEMA
from virt_preflight.agent.sources import Absent, FileStat, Source, SourceError, Unreadable, Want

# Where QEMU looks for its own files: Debian's, Red Hat's and SUSE's folders (--firmwarepath).
DATA_FOLDERS = (
    "/usr/share/qemu",
    "/usr/share/qemu-kvm",
    "/usr/share/seabios",
    "/usr/share/seavgabios",
    "/usr/lib/ipxe/qemu",
    "/usr/share/ipxe/qemu",
    "/usr/share/ipxe",
    "/usr/share/qemu-firmware",
)
DESCRIPTORS = ("/etc/qemu/firmware", "/usr/share/qemu/firmware")
PIDS = "/run/libvirt/qemu"
# USER_HZ, in which /proc/PID/stat counts, is 100 on all that Linux runs QEMU on.
TICKS_PER_S = 100
# DEFAULT_LOADER_NVRAM (qemu/qemu_conf.c); a distribution may have compiled in another list.
BUILT_IN_TEMPLATES = {
    "/usr/share/OVMF/OVMF_CODE.fd": "/usr/share/OVMF/OVMF_VARS.fd",
    "/usr/share/OVMF/OVMF_CODE.secboot.fd": "/usr/share/OVMF/OVMF_VARS.fd",
    "/usr/share/AAVMF/AAVMF_CODE.fd": "/usr/share/AAVMF/AAVMF_VARS.fd",
    "/usr/share/AAVMF/AAVMF32_CODE.fd": "/usr/share/AAVMF/AAVMF32_VARS.fd",
}


class _File(msgspec.Struct):
    filename: str


class _Mapping(msgspec.Struct, rename="kebab"):
    executable: _File | None = None
    nvram_template: _File | None = None


class _Descriptor(msgspec.Struct):
    mapping: _Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFirmware:
    """By path what is there (None: nothing), and how large a guest sees it.

    `roms`: by name the path of QEMU's own files, None where it was not found.
    """

    files: Mapping[str, FileStat | Unknown | None]
    sizes: Mapping[str, int | Unknown]
    roms: Mapping[str, str | None]
    # When QEMU started, where this is the host that runs the guest; None: not here, or not told.
    started_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareOpenings:
    """How QEMU could open each file, by path."""

    openings: Mapping[str, Opening | Unknown]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareDigests:
    """SHA-256 of each file that QEMU only reads, by path."""

    by_path: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashFormats:
    """Whether the host's libvirt knows that flash may be of another format than raw."""

    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NvramToMake:
    """Variables that are not there yet: what libvirt would make them from, and where.

    `template` "" means that libvirt would find none; `found` is whether it is there.
    """

    template: str | Unknown
    found: bool = False
    bytes: int | Unknown | None = None
    # What is wrong with the directory; "" when nothing is.
    directory_fault: str = ""
    directory: str = ""
    # The user that QEMU runs as, and the directory that it may not search.
    user: str = ""
    shut: str = ""


@look(Pace.FIXED)
def flash_formats(source: Source, guest: GuestFirmware) -> FlashFormats | None:
    """By its schema, which is read only for a guest that has such flash; else None."""
    if not any(flash.format != "raw" for flash in (guest.loader, guest.nvram) if flash):
        return None
    # The first element of that name is <os><nvram>, the other the device of pSeries.
    block = re.search(
        r"<element name=[\"']nvram[\"']>.*?</element>", source.text(SCHEMA), re.DOTALL
    )
    if block is None:
        raise Unreadable("libvirt's schema of <nvram> is not understood")
    return FlashFormats(known=re.search(r"pflashFormat|name=[\"']format", block[0]) is not None)


def guest_bytes(seen: SeenFirmware) -> Mapping[str, int]:
    """Sizes for GuestOrigin.bytes_by_path; QEMU's own files by their name, without folder."""
    sizes = {path: size for path, size in seen.sizes.items() if isinstance(size, int)}
    by_name = {
        name: sizes[path] for name, path in seen.roms.items() if path is not None and path in sizes
    }
    return {**sizes, **by_name}


# libvirtd gives QEMU its files when the process is there already, and that, too, is a change.
LABELLED_WITHIN_S = 30.0


def guest_doubts(seen: SeenFirmware) -> Mapping[str, str]:
    """For GuestOrigin.unlearned: files that were replaced after the guest's QEMU had read them."""
    if seen.started_s is None:
        return {}
    doubts = {
        path: f"{path} was replaced after the guest was started"
        for path, found in seen.files.items()
        if isinstance(found, FileStat) and found.changed_s > seen.started_s + LABELLED_WITHIN_S
    }
    by_name = {name: doubts[path] for name, path in seen.roms.items() if path in doubts}
    return {**doubts, **by_name}


@look(Pace.MOVING)
def seen_firmware(source: Source, guest: GuestFirmware) -> SeenFirmware:
    """Every file once."""
    paths: dict[str, str] = {path: "raw" for _, path in (*guest.boot_files, *guest.rom_files)}
    if guest.loader is not None:
        paths[guest.loader.path] = guest.loader.format
    if guest.nvram is not None:
        paths[guest.nvram.path] = guest.nvram.format
    files = {path: _stat(source, path) for path in paths}
    # QEMU looks beside the file that it is, wherever links to it stand.
    packaged = guest.emulator.startswith(PACKAGED)
    folders = data_folders(guest.emulator if packaged else canonical(source, guest.emulator))
    roms: dict[str, str | None] = {}
    for _, name in guest.roms:
        if name not in roms:
            roms[name] = None
            for folder in folders:
                found = _stat(source, f"{folder}/{name}")
                if isinstance(found, FileStat):
                    roms[name] = f"{folder}/{name}"
                    files[f"{folder}/{name}"] = found
                    break
    return SeenFirmware(
        files=files,
        sizes={
            path: _size(source, path, found, paths.get(path, "raw"))
            for path, found in files.items()
            if isinstance(found, FileStat)
        },
        roms=roms,
        started_s=_started_s(source, guest.name),
    )


PACKAGED = ("/usr/bin/", "/usr/libexec/")


def data_folders(emulator: str) -> tuple[str, ...]:
    """Where that QEMU looks for its files: a packaged one, or one that was built under a prefix."""
    if emulator.startswith(PACKAGED):
        return DATA_FOLDERS
    prefix = re.match(r"(/.*)/(?:bin|libexec)/[^/]+$", emulator)
    return (f"{prefix[1]}/share/qemu", f"{prefix[1]}/share/qemu-firmware") if prefix else ()


def _stat(source: Source, path: str) -> FileStat | Unknown | None:
    try:
        return stat_or_none(source, path)
    except SourceError as error:
        return Unknown(str(error))


def _size(source: Source, path: str, found: FileStat, format_: str) -> int | Unknown:
    if format_ == "raw":
        return found.size_bytes
    try:
        size = read_image(source.image_alone(path)).bytes
    except (SourceError, msgspec.MsgspecError) as error:
        return Unknown(str(error))
    return Unknown(f"{path}: its size is not told") if size is None else size


def _started_s(source: Source, name: str) -> float | None:
    """When the guest's QEMU was started, since the epoch; None where there is none."""
    try:
        pid = source.text(f"{PIDS}/{name}.pid").strip()
        if not re.fullmatch(r"\d{1,10}", pid, re.ASCII):
            return None
        # The second field, the program's name in brackets, may hold anything.
        fields = source.text(f"/proc/{pid}/stat").rpartition(")")[2].split()
        boot = re.search(r"^btime (\d+)$", source.text("/proc/stat"), re.MULTILINE)
    except SourceError:
        return None
    if boot is None or len(fields) < 20 or not fields[19].isdigit():
        return None
    return int(boot[1]) + int(fields[19]) / TICKS_PER_S


@look(Pace.MOVING)
def firmware_digests(
    source: Source, guest: GuestFirmware, seen: SeenFirmware
) -> FirmwareDigests | None:
    """Of files that the host has to itself and nobody writes to; None when there is none.

    One that is too large to be read through, or may not be read, is left out.
    """
    loader = [] if guest.loader is None or not guest.loader.readonly else [guest.loader.path]
    digests: dict[str, str] = {}
    for path in dict.fromkeys((*loader, *(path for _, path in guest.boot_files))):
        found = seen.files.get(path)
        if isinstance(found, FileStat) and found.kind == "file":
            try:
                digests[path] = source.digest(path)
            except SourceError:
                continue
    return FirmwareDigests(by_path=digests) if digests else None


@look(Pace.MOVING)
def firmware_openings(
    source: Source, guest: GuestFirmware, seen: SeenFirmware, qemu: QemuUser
) -> FirmwareOpenings:
    """libvirtd gives QEMU's user the variables and what is booted directly, not loader and ROMs."""
    owned = {path: given_to(source, qemu, guest.dac) for _, path in guest.boot_files}
    if guest.nvram is not None:
        owned[guest.nvram.path] = given_to(source, qemu, guest.dac, guest.nvram.dac)
    user = runs_as(source, qemu, guest.dac)
    answers: dict[str, Opening | Unknown] = {}
    for path, found in seen.files.items():
        if isinstance(found, FileStat) and found.kind in ("file", "block"):
            try:
                answers[path] = opening(source, path, found, user, owned.get(path))
            except SourceError as error:
                answers[path] = Unknown(str(error))
    return FirmwareOpenings(openings=answers)


@look(Pace.MOVING)
def nvram_to_make(
    source: Source, guest: GuestFirmware, seen: SeenFirmware, conf: QemuConf, qemu: QemuUser
) -> NvramToMake | None:
    """None when the variables are there, or the guest has none."""
    nvram, loader = guest.nvram, guest.loader
    if nvram is None or loader is None or nvram.kind != "file" or seen.files[nvram.path]:
        return None
    user = runs_as(source, qemu, guest.dac)
    directory = nvram.path.rpartition("/")[0] or "/"
    fault, shut = _directory_fault(source, directory), ""
    try:
        if not fault and not source.may(directory, Want.EXECUTE, user):
            shut = directory
    except SourceError:
        pass
    try:
        template: str | Unknown = nvram.template or template_of(source, loader.path, conf)
    except SourceError as error:
        template = Unknown(str(error))
    found = _stat(source, template) if isinstance(template, str) and template else None
    size: int | Unknown | None = None
    if isinstance(found, FileStat):
        size = _size(source, str(template), found, nvram.format)
    if isinstance(found, Unknown):
        template = found
    return NvramToMake(
        template=template,
        found=isinstance(found, FileStat),
        bytes=size,
        directory=directory,
        directory_fault=fault,
        user=user.name,
        shut=shut,
    )


def _directory_fault(source: Source, directory: str) -> str:
    try:
        found = stat_or_none(source, directory)
        if found is None:
            return "no such directory"
        if found.kind != "dir":
            return "no directory"
        return "" if source.may(directory, Want.WRITE, ROOT) else "libvirtd may not write there"
    except SourceError:
        return ""


def template_of(source: Source, loader: str, conf: QemuConf) -> str | Unknown:
    """What libvirt makes variables from when the XML names no template.

    Firmware descriptors first (qemuFirmwareFillDomain, qemu/qemu_firmware.c), then `nvram` of
    qemu.conf, which replaces the list that libvirt was compiled with. "" when there is none.
    """
    for path in _descriptors(source):
        try:
            told = msgspec.json.decode(source.text(path), type=_Descriptor).mapping
        except Absent:
            continue
        except msgspec.MsgspecError:
            continue
        if told.executable and told.nvram_template and told.executable.filename == loader:
            return told.nvram_template.filename
    written = conf.value_by_key.get("nvram")
    if written is not None:
        pairs = (pair.partition(":") for pair in re.findall(r"[\"']([^\"']+)[\"']", written))
        return next((after for before, _, after in pairs if before == loader), "")
    if loader in BUILT_IN_TEMPLATES:
        return BUILT_IN_TEMPLATES[loader]
    if loader.startswith("/usr/"):
        return Unknown(f"what libvirt was compiled to use with {loader} is not known")
    return ""


def _descriptors(source: Source) -> list[str]:
    """Paths in the order of their names; one in /etc hides one of the same name in /usr."""
    path_by_name: dict[str, str] = {}
    for folder in DESCRIPTORS:
        try:
            names = source.names(folder)
        except Absent:
            continue
        for name in names:
            if name.endswith(".json"):
                path_by_name.setdefault(name, f"{folder}/{name}")
    return [path for _, path in sorted(path_by_name.items())]
