"""What a host has of the devices that a guest holds, and which other guests hold them already."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, Unknown, have, look
from virt_preflight.agent.families.hostdevs.guest import GuestHostdevs, guest_hostdevs, hostdevs_of
from virt_preflight.agent.sources import Absent, Source, SourceError
from virt_preflight.agent.xml import BadXml, parse

PCI = "/sys/bus/pci/devices"
USB = "/sys/bus/usb/devices"
MDEV = "/sys/bus/mdev/devices"
SCSI = "/sys/bus/scsi/devices"
GROUPS = "/sys/kernel/iommu_groups"
# What libvirt looks at, too (qemuHostdevHostSupportsPassthroughVFIO, qemu/qemu_hostdev.c).
VFIO = "/dev/vfio/vfio"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostVfio:
    """Whether devices can be given to guests here at all."""

    iommu: bool
    vfio: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """A PCI device; `driver` is empty when none holds it, `group` when it is in no IOMMU group."""

    ids: str  # "8086:154c"
    bridge: bool
    driver: str
    group: str = ""
    # The drivers of the others in its IOMMU group, bridges left out, by address.
    driver_by_neighbour: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPci:
    """The guest's PCI addresses on this host; None: nothing is there."""

    device_by_address: Mapping[str, PciDevice | Unknown | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbDevice:
    """A USB device that is plugged in."""

    ids: str
    place: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenUsb:
    """All USB devices; `no_bus`: the kernel knows of no USB at all."""

    devices: tuple[UsbDevice, ...] = ()
    no_bus: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMdevs:
    """The model ("vfio-pci") of each of the guest's mediated devices; None: not there."""

    model_by_uuid: Mapping[str, str | Unknown | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenScsi:
    """The identity (WWID, "" without one) of each SCSI address; None: no device, or no sg node."""

    wwid_by_address: Mapping[str, str | Unknown | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenDevices:
    """Who runs here and holds what: names of guests. `unread`: why, by guests that hide it."""

    guest_by_pci: Mapping[str, str]
    guest_by_usb: Mapping[tuple[int, int], str]
    guest_by_mdev: Mapping[str, str]
    unread: Mapping[str, str]


@have(Pace.FIXED)
def host_vfio(source: Source) -> HostVfio:
    """The IOMMU groups and the nodes that libvirt and QEMU open."""
    try:
        groups = source.names(GROUPS)
    except Absent:
        groups = ()
    try:
        source.stat(VFIO)
    except Absent:
        return HostVfio(iommu=bool(groups), vfio=False)
    return HostVfio(iommu=bool(groups), vfio=True)


@look(Pace.MOVING)
def seen_pci(source: Source, guest: GuestHostdevs) -> SeenPci | None:
    """Drivers are bound and virtual functions made at any moment."""
    if not guest.pci:
        return None
    return SeenPci(
        device_by_address={
            need.address: _or_why(_pci_device, source, need.address) for need in guest.pci
        }
    )


def _or_why(ask: Callable[[Source, str], T], source: Source, name: str) -> T | Unknown | None:
    """One device that cannot be read must not cost the others."""
    try:
        return ask(source, name)
    except Absent:
        return None
    except SourceError as error:
        return Unknown(str(error))


def _pci_device(source: Source, address: str) -> PciDevice:
    """Raises Absent when nothing is there."""
    at = f"{PCI}/{address}"
    group = _link_name(source, f"{at}/iommu_group")
    neighbours: dict[str, str] = {}
    for other in source.names(f"{GROUPS}/{group}/devices") if group else ():
        if other != address and not _is_bridge(source, f"{PCI}/{other}"):
            neighbours[other] = _link_name(source, f"{PCI}/{other}/driver")
    return PciDevice(
        ids=_pci_ids(source, at),
        bridge=_is_bridge(source, at),
        driver=_link_name(source, f"{at}/driver"),
        group=group,
        driver_by_neighbour=neighbours,
    )


def _pci_ids(source: Source, at: str) -> str:
    return ":".join(source.text(f"{at}/{name}").strip()[2:] for name in ("vendor", "device"))


def _is_bridge(source: Source, at: str) -> bool:
    """By its class: host bridges have an endpoint's header, PCI and CardBus bridges have not."""
    return source.text(f"{at}/class").strip()[:6] in ("0x0604", "0x0607", "0x0609")


def _link_name(source: Source, path: str) -> str:
    """The last word of a link in sysfs; empty without such a link."""
    try:
        return posixpath.basename(source.link(path))
    except Absent:
        return ""


def pci_ids_by_address(domain: Domain, source: Source) -> Mapping[str, str]:
    """For GuestOrigin: "vendor:product" of the guest's PCI devices on the host where it runs.

    A device that cannot be read is left out: no id is not another id.
    """
    guest = guest_hostdevs(domain)
    ids: dict[str, str] = {}
    for need in guest.pci if guest is not None else ():
        try:
            ids[need.address] = _pci_ids(source, f"{PCI}/{need.address}")
        except SourceError:
            continue
    return ids


@look(Pace.MOVING)
def seen_usb(source: Source, guest: GuestHostdevs) -> SeenUsb | None:
    """As libvirt reads it (virUSBDeviceSearch, util/virusb.c); interfaces have a colon."""
    if not guest.usb:
        return None
    try:
        names = source.names(USB)
    except Absent:
        return SeenUsb(no_bus=True)
    devices = []
    for name in names:
        if ":" in name:
            continue
        try:
            vendor, product, bus, device = (
                source.text(f"{USB}/{name}/{item}").strip()
                for item in ("idVendor", "idProduct", "busnum", "devnum")
            )
        except Absent:
            # Pulled out between the list and the question.
            continue
        devices.append(UsbDevice(ids=f"{vendor}:{product}", place=(int(bus), int(device))))
    return SeenUsb(devices=tuple(devices))


@look(Pace.MOVING)
def seen_mdevs(source: Source, guest: GuestHostdevs) -> SeenMdevs | None:
    """Each by its UUID: the type's own device_api is the model that it can be given as."""
    if not guest.mdev:
        return None
    return SeenMdevs(
        model_by_uuid={need.uuid: _or_why(_mdev_model, source, need.uuid) for need in guest.mdev}
    )


def _mdev_model(source: Source, uuid: str) -> str:
    return source.text(f"{MDEV}/{uuid}/mdev_type/device_api").strip()


@look(Pace.MOVING)
def seen_scsi(source: Source, guest: GuestHostdevs) -> SeenScsi | None:
    """libvirt takes the sg node (virSCSIDeviceGetSgName, util/virscsi.c)."""
    if not guest.scsi:
        return None
    return SeenScsi(
        wwid_by_address={need.address: _or_why(_wwid, source, need.address) for need in guest.scsi}
    )


def _wwid(source: Source, address: str) -> str:
    """Raises Absent when the device or its sg node is not there."""
    source.names(f"{SCSI}/{address}/scsi_generic")
    try:
        return source.text(f"{SCSI}/{address}/wwid").strip()
    except Absent:
        return ""


@look(Pace.MOVING)
def taken_devices(source: Source, guest: GuestHostdevs, domain: Domain) -> TakenDevices:
    """From the XML of the guests that run here; the question is dear, and only asked when needed.

    A guest that is only defined holds nothing.
    """
    pci: dict[str, str] = {}
    usb: dict[tuple[int, int], str] = {}
    mdev: dict[str, str] = {}
    unread: dict[str, str] = {}
    if not (guest.pci or guest.usb or guest.mdev):
        return TakenDevices(guest_by_pci={}, guest_by_usb={}, guest_by_mdev={}, unread={})
    for other in json.loads(source.libvirt("domains")):
        if other["id"] is None or other["uuid"] == domain.uuid:
            continue
        name = str(other["name"])
        try:
            held = hostdevs_of(parse(source.libvirt("domain-xml", other["uuid"])))
        except Absent:
            continue
        except (SourceError, BadXml) as error:
            unread[name] = str(error)
            continue
        pci.update((device.address, name) for device in held.pci)
        usb.update((device.place, name) for device in held.usb if device.place)
        mdev.update((device.uuid, name) for device in held.mdev)
    return TakenDevices(guest_by_pci=pci, guest_by_usb=usb, guest_by_mdev=mdev, unread=unread)
