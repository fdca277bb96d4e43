"""Firmware of a guest: its loader, its variables, a kernel booted directly, ROMs of its devices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import need
from virt_preflight.agent.families.disks.guest import DacLabel, disk_dac, domain_dac
from virt_preflight.agent.xml import Element, attribute, text_of

# Option ROMs that QEMU gives to network cards (hw/net/*.c), by libvirt's name of the model.
ROM_BY_NIC = {
    "virtio": "efi-virtio.rom",
    "virtio-transitional": "efi-virtio.rom",
    "virtio-non-transitional": "efi-virtio.rom",
    "e1000": "efi-e1000.rom",
    "e1000-82544gc": "efi-e1000.rom",
    "e1000-82545em": "efi-e1000.rom",
    "e1000e": "efi-e1000e.rom",
    "rtl8139": "efi-rtl8139.rom",
    "ne2k_pci": "efi-ne2k_pci.rom",
    "pcnet": "efi-pcnet.rom",
    "vmxnet3": "efi-vmxnet3.rom",
}
# Of video cards (hw/display/*.c); qxl and virtio have one as the primary card only.
ROM_BY_VIDEO = {
    "vga": "vgabios-stdvga.bin",
    "cirrus": "vgabios-cirrus.bin",
    "qxl": "vgabios-qxl.bin",
    "virtio": "vgabios-virtio.bin",
    "vmvga": "vgabios-vmware.bin",
    "bochs": "vgabios-bochs-display.bin",
}
BIOS = "bios-256k.bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """`<loader>`: flash that the guest sees at its start, or a ROM in place of QEMU's own."""

    path: str
    type: str  # "pflash" or "rom"
    format: str
    readonly: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvram:
    """`<nvram>`: the guest's own variables; made from a template where it is not there."""

    path: str
    kind: str  # "file" or "block"
    format: str
    template: str
    dac: DacLabel | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFirmware:
    """All files that QEMU reads for a guest's start, beside its disks."""

    name: str
    emulator: str
    loader: Loader | None
    nvram: Nvram | None
    # (what, path): kernel, initrd, dtb, ACPI table, fw_cfg; libvirtd gives them to QEMU's user.
    boot_files: tuple[tuple[str, str], ...]
    # (device, path) of <rom file=...>; nobody gives them away.
    rom_files: tuple[tuple[str, str], ...]
    # (device, file name) of QEMU's own.
    roms: tuple[tuple[str, str], ...]
    dac: DacLabel


@need
def guest_firmware(domain: Domain) -> GuestFirmware | None:
    """None for a guest that reads no such file, as on machines whose ROMs are not known here.

    A live XML names the loader that `<os firmware='efi'>` stands for.
    """
    root = domain.root
    os_ = root.find("os")
    loader = None if os_ is None else _loader(os_)
    nvram = None if os_ is None or loader is None else _nvram(os_, loader)
    kernel = tuple(
        (what, path)
        for what in ("kernel", "initrd", "dtb")
        if (path := text_of(root, f"os/{what}")) is not None
    )
    tables = tuple(
        ("ACPI table", path)
        for table in root.findall("os/acpi/table")
        if (path := (table.text or "").strip())
    )
    blobs = tuple(
        (f"fw_cfg {entry.get('name', '')}".strip(), path)
        for entry in root.findall("sysinfo[@type='fwcfg']/entry")
        if (path := entry.get("file", ""))
    )
    rom_files = tuple(
        (_device(element), path)
        for tag in ("interface", "hostdev")
        for element in root.findall(f"devices/{tag}")
        if _has_rom(element) and (path := attribute(element, "rom", "file"))
    )
    roms = _roms(root, loader)
    if loader is None and not (kernel or tables or blobs or rom_files or roms):
        return None
    return GuestFirmware(
        name=domain.name,
        emulator=text_of(root, "devices/emulator") or "",
        loader=loader,
        nvram=nvram,
        boot_files=(*kernel, *tables, *blobs),
        rom_files=rom_files,
        roms=roms,
        dac=domain_dac(root),
    )


def _loader(os_: Element) -> Loader | None:
    element = os_.find("loader")
    path = "" if element is None else (element.text or "").strip()
    if element is None or not path:
        return None
    return Loader(
        path=path,
        type=element.get("type", "rom"),
        format=element.get("format", "raw"),
        readonly=element.get("type", "rom") == "rom" or element.get("readonly") != "no",
    )


def _nvram(os_: Element, loader: Loader) -> Nvram | None:
    """None for one on a server: libvirt leaves that to QEMU."""
    element = os_.find("nvram")
    if element is None or loader.type != "pflash":
        return None
    source = element.find("source")
    kind = element.get("type", "file")
    if source is None:
        path = (element.text or "").strip()
    else:
        path = source.get("dev" if kind == "block" else "file", "")
    if not path or kind not in ("file", "block"):
        return None
    return Nvram(
        path=path,
        kind=kind,
        format=element.get("format", "raw"),
        template=element.get("template", ""),
        dac=None if source is None else disk_dac(source),
    )


def _roms(root: Element, loader: Loader | None) -> tuple[tuple[str, str], ...]:
    """QEMU's own ROMs, for upstream's machine types: distributions' own may use others."""
    machine = attribute(root, "os/type", "machine") or ""
    upstream = re.fullmatch(r"(?:pc-i440fx|pc-q35|virt|pseries)-(\d{1,3})\.\d{1,3}", machine)
    if upstream is None:
        return ()
    roms: list[tuple[str, str]] = []
    is_pc = machine.startswith("pc-")
    # Machine types before 2.0 have another.
    if is_pc and loader is None and int(upstream[1]) >= 2:
        roms.append(("BIOS", BIOS))
    for element in root.findall("devices/interface"):
        name = ROM_BY_NIC.get(attribute(element, "model", "type") or "")
        own = attribute(element, "rom", "file") is None and element.get("type") != "hostdev"
        if name and own and _has_rom(element) and _is_pci(element):
            roms.append((_device(element), name))
    video = root.find("devices/video")
    if video is not None and is_pc and _is_pci(video):
        name = ROM_BY_VIDEO.get(attribute(video, "model", "type") or "")
        if name:
            roms.append(("video card", name))
    return tuple(roms)


def _has_rom(element: Element) -> bool:
    """Not when it is switched off, nor when the guest does not see it."""
    rom = element.find("rom")
    return rom is None or (rom.get("enabled") != "no" and rom.get("bar") != "off")


def _is_pci(element: Element) -> bool:
    return attribute(element, "address", "type") in (None, "pci")


def _device(element: Element) -> str:
    if element.tag == "interface":
        return f"interface {attribute(element, 'mac', 'address') or ''}".strip()
    alias = attribute(element, "alias", "name")
    return f"hostdev {alias}" if alias else "hostdev"
