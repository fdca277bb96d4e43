"""Which of a host's devices a guest holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from virt_preflight.agent.domain import UUID, Domain, canonical_uuid
from virt_preflight.agent.fact import need
from virt_preflight.agent.xml import BadXml, Element, attribute, where

QEMU_NAMESPACE = "{http://libvirt.org/schemas/domain/qemu/1.0}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PciNeed:
    """A PCI device by address.

    `transient`: QEMU unplugs it before it migrates (`<teaming type='transient'>`). `nic`: it is an
    `<interface>`'s. `disk`: it is an NVMe drive that QEMU itself drives, none that the guest sees.
    """

    address: str  # "0000:3b:00.0"
    managed: bool
    transient: bool = False
    nic: bool = False
    disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbNeed:
    """A USB device, by vendor and product, by place, or by both.

    `found_by_itself`: libvirt had looked the place up, and would look it up again (autoAddress).
    """

    ids: str = ""  # "046d:c52b"
    place: tuple[int, int] | None = None  # bus, device
    found_by_itself: bool = False
    startup_policy: str = "mandatory"

    @property
    def subject(self) -> str:
        """As the operator would name it."""
        bus_and_device = f"bus {self.place[0]} device {self.place[1]}" if self.place else ""
        return " at ".join(part for part in (f"USB {self.ids}".strip(), bus_and_device) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class MdevNeed:
    """A mediated device."""

    uuid: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiNeed:
    """A SCSI device of a host's adapter: "3:0:1:5" of adapter scsi_host3."""

    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHostdevs:
    """A guest that holds devices of its host.

    `vhost_scsi`: the WWPNs of vhost-scsi targets. `migration_set_by_hand`: its XML hands QEMU an
    option on whether VFIO devices migrate.
    """

    pci: tuple[PciNeed, ...] = ()
    usb: tuple[UsbNeed, ...] = ()
    mdev: tuple[MdevNeed, ...] = ()
    scsi: tuple[ScsiNeed, ...] = ()
    vhost_scsi: tuple[str, ...] = ()
    migration_set_by_hand: bool = False


@need
def guest_hostdevs(domain: Domain) -> GuestHostdevs | None:
    """`<hostdev>`, `<interface type='hostdev'>` and `<disk type='nvme'>`."""
    found = hostdevs_of(domain.root)
    if found == GuestHostdevs():
        return None
    by_hand = any(
        "enable-migration" in str(value)
        for child in domain.root
        if str(child.tag).startswith(QEMU_NAMESPACE)
        for element in child.iter()
        for value in element.attrib.values()
    )
    return replace(found, migration_set_by_hand=by_hand)


def hostdevs_of(root: Element) -> GuestHostdevs:
    """Also of the guests that run on a host already."""
    hostdevs = root.findall("devices/hostdev[@mode='subsystem']")
    by_type: dict[str, list[Element]] = {}
    for hostdev in hostdevs:
        by_type.setdefault(hostdev.get("type", ""), []).append(hostdev)
    nics = root.findall("devices/interface[@type='hostdev']")
    return GuestHostdevs(
        pci=(
            *(_pci(device) for device in (*by_type.get("pci", ()), *nics)),
            *(_nvme(disk) for disk in root.findall("devices/disk[@type='nvme']")),
        ),
        usb=tuple(_usb(hostdev) for hostdev in by_type.get("usb", ())),
        mdev=tuple(_mdev(hostdev) for hostdev in by_type.get("mdev", ())),
        scsi=tuple(
            _scsi(hostdev)
            for hostdev in by_type.get("scsi", ())
            if hostdev.find("source/adapter") is not None
        ),
        vhost_scsi=tuple(
            attribute(hostdev, "source", "wwpn") or "" for hostdev in by_type.get("scsi_host", ())
        ),
    )


def _pci(device: Element) -> PciNeed:
    teaming = device.find("teaming")
    return PciNeed(
        address=pci_address(device.find("source/address"), device),
        # virDomainHostdevDefParseXML: no is the default.
        managed=device.get("managed") == "yes",
        transient=teaming is not None and teaming.get("type") == "transient",
        nic=device.tag == "interface",
    )


def _nvme(disk: Element) -> PciNeed:
    source = disk.find("source")
    return PciNeed(
        address=pci_address(disk.find("source/address"), disk),
        managed=source is not None and source.get("managed") == "yes",
        disk=True,
    )


def pci_address(address: Element | None, device: Element) -> str:
    """As sysfs writes it. Raises BadXml."""
    if address is None:
        raise BadXml(f"{where(device)}: has no PCI address")
    domain, bus, slot, function = (
        _unsigned(address, name) for name in ("domain", "bus", "slot", "function")
    )
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _unsigned(element: Element, name: str) -> int:
    """virXMLPropUInt with base 0: hexadecimal with 0x, else decimal; absent is 0."""
    text = element.get(name, "0").strip()
    if not re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}|\d{1,10}", text, re.ASCII):
        raise BadXml(f"{where(element)}: attribute {name} is {text!r}, wanted a number")
    return int(text, 16 if text[:2].lower() == "0x" else 10)


def _mdev(hostdev: Element) -> MdevNeed:
    uuid = attribute(hostdev, "source/address", "uuid") or ""
    if not UUID.fullmatch(uuid):
        raise BadXml(f"{where(hostdev)}: {uuid!r} is no UUID")
    return MdevNeed(uuid=canonical_uuid(uuid), model=hostdev.get("model", ""))


def _usb(hostdev: Element) -> UsbNeed:
    vendor, product = hostdev.find("source/vendor"), hostdev.find("source/product")
    address = hostdev.find("source/address")
    ids = ""
    if vendor is not None and product is not None:
        ids = f"{_unsigned(vendor, 'id'):04x}:{_unsigned(product, 'id'):04x}"
    place = None
    if address is not None:
        place = (_unsigned(address, "bus"), _unsigned(address, "device"))
    return UsbNeed(
        ids=ids,
        place=place,
        found_by_itself=attribute(hostdev, "source", "autoAddress") == "yes",
        startup_policy=attribute(hostdev, "source", "startupPolicy") or "mandatory",
    )


def _scsi(hostdev: Element) -> ScsiNeed:
    adapter = attribute(hostdev, "source/adapter", "name") or ""
    address = hostdev.find("source/address")
    # virSCSIDeviceGetAdapterId, util/virscsi.c: scsi_host and a number.
    match = re.fullmatch(r"(?:scsi_)?host(\d{1,6})", adapter, re.ASCII)
    if match is None or address is None:
        raise BadXml(f"{where(hostdev)}: adapter {adapter!r} is no scsi_host with an address")
    bus, target, unit = (_unsigned(address, name) for name in ("bus", "target", "unit"))
    return ScsiNeed(address=f"{match[1]}:{bus}:{target}:{unit}")
