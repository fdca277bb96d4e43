"""Whether the devices that a guest holds let it go, and whether the destination has them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.hostdevs.guest import GuestHostdevs, PciNeed, UsbNeed
from virt_preflight.agent.families.hostdevs.host import (
    HostVfio,
    PciDevice,
    SeenMdevs,
    SeenPci,
    SeenScsi,
    SeenUsb,
    TakenDevices,
    UsbDevice,
)
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Severity, Side

# QEMU 8.1 made VFIO migration depend on the device alone; before, a device never migrated unless
# it was told to by hand (x-enable-migration, hw/vfio/pci.c).
VFIO_MIGRATES_SINCE = 8_001_000
LET_GO_FIRST = (
    "Detach the device from the guest before it moves and attach one on the destination after. A "
    "NIC can be paired with a virtio one (<teaming>): QEMU then does both by itself."
)

POOL = "its XML does not say whether the device comes from a network's pool, which gives another"


def is_vfio(driver: str) -> bool:
    """vfio-pci itself, or a variant of it for one make of device, as mlx5_vfio_pci."""
    return "vfio" in driver


def present(guest: GuestHostdevs, seen: SeenPci) -> Iterator[tuple[PciNeed, PciDevice]]:
    """The guest's PCI devices that are there and could be read."""
    for need in guest.pci:
        device = seen.device_by_address.get(need.address)
        if isinstance(device, PciDevice):
            yield need, device


def blamed(need: PciNeed, problem: Problem) -> Problem | CouldNotTell:
    """A NIC's device may be another on the destination: libvirt's plain XML does not tell.

    It shows `<interface type='hostdev'>` for a running guest, be the device named or lent by a
    network (virDomainNetDefFormat, conf/domain_conf.c).
    """
    return CouldNotTell(subject=problem.subject, why=POOL) if need.nic else problem


def written(version: int) -> str:
    """8_001_002 as "8.1.2"."""
    return f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}"


# --------------------------------------------------------------------------------- the source


@check(
    "hostdevs.pci-not-migratable",
    Severity.BLOCKER,
    title="a PCI device that cannot be migrated",
    remedy=LET_GO_FIRST,
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def pci_not_migratable(guest: GuestHostdevs, seen: SeenPci, versions: HostVersions) -> Problems:
    """QEMU keeps a guest where it is while it holds a device whose state it cannot carry over.

    That takes QEMU 8.1 and a kernel driver for that make of device: plain vfio-pci cannot save a
    device's state (it sets no mig_ops, drivers/vfio/pci/vfio_pci.c in Linux). A NIC that QEMU
    unplugs by itself (teaming, transient) does not hold the guest.
    Error: "cannot migrate domain: VFIO device doesn't support migration" or "0000:3b:00.0: VFIO
    migration is not supported in kernel" (qemuMigrationSrcIsAllowed, qemu/qemu_migration.c).
    """
    for need in guest.pci:
        if need.transient or need.disk:
            continue
        device = seen.device_by_address.get(need.address)
        subject = f"PCI {need.address}"
        if versions.qemu < VFIO_MIGRATES_SINCE:
            if guest.migration_set_by_hand:
                yield CouldNotTell(subject=subject, why="its XML sets enable-migration by hand")
            else:
                yield Problem(
                    subject=subject,
                    wanted="QEMU 8.1 or later",
                    found=f"QEMU {written(versions.qemu)}",
                )
        elif isinstance(device, PciDevice) and device.driver == "vfio-pci":
            yield Problem(
                subject=subject,
                wanted="a driver that can save the device's state, or a transient device",
                found="driver vfio-pci",
            )
        else:
            driver = device.driver if isinstance(device, PciDevice) else "not known"
            yield CouldNotTell(
                subject=subject, why=f"only QEMU knows whether the device migrates, driver {driver}"
            )


@check(
    "hostdevs.mdev-not-migratable",
    Severity.BLOCKER,
    title="a mediated device that cannot be migrated",
    remedy="Detach the device from the guest before it moves and attach one on the destination.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def mdev_not_migratable(guest: GuestHostdevs, versions: HostVersions) -> Problems:
    """A mediated device migrates only when its driver can save its state, and with QEMU 8.1.

    Those of s390 (vfio-ap, vfio-ccw) never do.
    Error: "cannot migrate domain: non-migratable device: ..." or "VFIO device doesn't support
    migration" (qemuMigrationSrcIsAllowed, qemu/qemu_migration.c).
    """
    for need in guest.mdev:
        subject = f"mediated device {need.uuid}"
        if need.model in ("vfio-ap", "vfio-ccw"):
            yield Problem(
                subject=subject, wanted="a device that migrates", found=f"a {need.model} device"
            )
        elif versions.qemu >= VFIO_MIGRATES_SINCE or guest.migration_set_by_hand:
            yield CouldNotTell(
                subject=subject, why="only QEMU knows whether the device's driver can migrate it"
            )
        else:
            yield Problem(
                subject=subject, wanted="QEMU 8.1 or later", found=f"QEMU {written(versions.qemu)}"
            )


@check(
    "hostdevs.vhost-scsi-not-migratable",
    Severity.BLOCKER,
    title="vhost-scsi cannot be migrated",
    remedy="Give the guest a virtio-scsi controller with disks instead.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def vhost_scsi_not_migratable(guest: GuestHostdevs) -> Problems:
    """The kernel serves the guest's SCSI commands, and its state cannot be read out.

    Error: "cannot migrate domain: vhost-scsi does not support migration in all cases" (QEMU,
    hw/scsi/vhost-scsi.c).
    """
    for wwpn in guest.vhost_scsi:
        yield Problem(subject=f"vhost-scsi {wwpn}", wanted="no vhost-scsi", found="vhost-scsi")


# ---------------------------------------------------------------------------- PCI, destination


@check(
    "hostdevs.vfio-off",
    Severity.BLOCKER,
    title="the host gives no devices to guests",
    remedy="Turn the IOMMU on in firmware and kernel command line, and load vfio-pci.",
)
def vfio_off(guest: GuestHostdevs, host: HostVfio) -> Problems:
    """PCI and mediated devices are given to guests by VFIO, which needs an IOMMU that is on.

    Error: "host doesn't support passthrough of host PCI devices" or "Mediated host device
    assignment requires VFIO support" (qemu/qemu_hostdev.c).
    """
    if not (guest.pci or guest.mdev):
        return
    if guest.pci and not host.iommu:
        yield Problem(subject="IOMMU", wanted="on", found="no IOMMU groups")
    if not host.vfio:
        yield Problem(
            subject="VFIO",
            wanted="/dev/vfio/vfio",
            found="not there",
            remedy="Load the module vfio-pci.",
            commands=("modprobe vfio-pci",),
        )


@check(
    "hostdevs.pci-absent",
    Severity.BLOCKER,
    title="PCI device not there",
    remedy="Move with --xml naming a device of this host, or take a network with a device pool.",
)
def pci_absent(guest: GuestHostdevs, seen: SeenPci) -> Problems:
    """The destination takes the device at the very address that it has at the source.

    Error: "Device 0000:3b:00.0 not found: could not access /sys/bus/pci/devices/0000:3b:00.0/
    config" (virPCIDeviceNew, util/virpci.c).
    """
    for need in guest.pci:
        device = seen.device_by_address.get(need.address)
        if device is None:
            absent = Problem(
                subject=f"PCI {need.address}", wanted="the guest's device", found="nothing there"
            )
            yield blamed(need, absent)
        elif isinstance(device, Unknown):
            yield CouldNotTell(subject=f"PCI {need.address}", why=device.why)


@check(
    "hostdevs.pci-bridge",
    Severity.BLOCKER,
    title="a PCI bridge, not a device",
    remedy="Move with --xml naming a device of this host.",
)
def pci_bridge(guest: GuestHostdevs, seen: SeenPci) -> Problems:
    """What sits at that address here is a bridge, and bridges are not given to guests.

    Error: "Non-endpoint PCI devices cannot be assigned to guests"
    (virHostdevPreparePCIDevicesImpl, hypervisor/virhostdev.c).
    """
    for need, device in present(guest, seen):
        if device.bridge:
            bridge = Problem(
                subject=f"PCI {need.address}", wanted="an endpoint", found=f"bridge {device.ids}"
            )
            yield blamed(need, bridge)


@check(
    "hostdevs.pci-differs",
    Severity.RISK,
    title="another PCI device at that address",
    remedy="Move with --xml naming a device of this host that is like the source's.",
)
def pci_differs(guest: GuestHostdevs, seen: SeenPci, origin: GuestOrigin) -> Problems:
    """libvirt takes whatever is at the address: it does not compare it with the source's.

    The state of another make of device cannot be loaded, and the migration fails at its end. A NIC
    that is unplugged first (teaming, transient) is merely another one afterwards.
    """
    for need, device in present(guest, seen):
        ids = origin.pci_ids_by_address.get(need.address)
        if ids is None:
            yield CouldNotTell(
                subject=f"PCI {need.address}", why="the source did not say what device it is"
            )
        elif ids != device.ids:
            differs = Problem(
                subject=f"PCI {need.address}",
                wanted=f"{ids} as at the source",
                found=device.ids,
                severity=Severity.RISK if need.transient else Severity.BLOCKER,
            )
            yield blamed(need, differs)


@check(
    "hostdevs.pci-not-detached",
    Severity.BLOCKER,
    title="PCI device held by a driver of the host",
    remedy="Detach the device from the host first.",
)
def pci_not_detached(guest: GuestHostdevs, seen: SeenPci) -> Problems:
    """With managed='no' somebody else must have bound the device to vfio-pci beforehand.

    Error: "Unmanaged PCI device 0000:3b:00.0 must be manually detached from the host"
    (virHostdevPreparePCIDevicesImpl, hypervisor/virhostdev.c).
    """
    for need, device in present(guest, seen):
        if not need.managed and not is_vfio(device.driver) and device.driver != "pci-stub":
            name = "pci_" + need.address.replace(":", "_").replace(".", "_")
            held = Problem(
                subject=f"PCI {need.address}",
                wanted="bound to vfio-pci",
                found=f"driver {device.driver}" if device.driver else "no driver",
                commands=(f"virsh nodedev-detach {shlex.quote(name)}",),
            )
            yield blamed(need, held)


@check(
    "hostdevs.pci-in-use",
    Severity.BLOCKER,
    title="PCI device in use by another guest",
    remedy="Detach the device from the other guest, or choose another device with --xml.",
)
def pci_in_use(guest: GuestHostdevs, seen: SeenPci, taken: TakenDevices) -> Problems:
    """A device has one guest, and so has its whole IOMMU group.

    Error: "PCI device 0000:3b:00.0 is in use by driver QEMU, domain db1"
    (virHostdevIsPCINodeDeviceUsed, hypervisor/virhostdev.c).
    """
    for need, device in present(guest, seen):
        group = (need.address, *(device.driver_by_neighbour or {}))
        for address in group:
            if address in taken.guest_by_pci:
                also = "" if address == need.address else f" (same IOMMU group: {device.group})"
                in_use = Problem(
                    subject=f"PCI {address}{also}",
                    wanted="free",
                    found=f"in use by {taken.guest_by_pci[address]}",
                )
                yield blamed(need, in_use)
    if guest.pci:
        yield from _unread(taken)


def _unread(taken: TakenDevices) -> Problems:
    for name, why in taken.unread.items():
        yield CouldNotTell(subject=f"what {name} holds", why=why)


@check(
    "hostdevs.pci-group-not-free",
    Severity.BLOCKER,
    title="IOMMU group not free",
    remedy="Bind all of the group to vfio-pci: what is in it can only be given away together.",
)
def pci_group_not_free(guest: GuestHostdevs, seen: SeenPci) -> Problems:
    """The devices of an IOMMU group could reach each other's memory, so the host may keep none.

    Error: "vfio 0000:3b:00.0: group 12 is not viable. Please ensure all devices within the
    iommu_group are bound to their vfio bus driver." (QEMU, hw/vfio).
    """
    managed = {need.address for need in guest.pci if need.managed}
    for need, device in present(guest, seen):
        for address, driver in sorted((device.driver_by_neighbour or {}).items()):
            if driver in ("", "pci-stub") or is_vfio(driver) or address in managed:
                continue
            not_free = Problem(
                subject=f"PCI {need.address}",
                wanted=f"IOMMU group {device.group} free of the host's drivers",
                found=f"{address} is held by {driver}",
            )
            yield blamed(need, not_free)


# ----------------------------------------------------------------------------------------- USB


def matching(need: UsbNeed, seen: SeenUsb) -> list[UsbDevice]:
    """The devices that libvirt would take (virHostdevFindUSBDevice, hypervisor/virhostdev.c)."""
    by_ids = [device for device in seen.devices if need.ids in ("", device.ids)]
    if need.place is None:
        return by_ids
    there = [device for device in by_ids if device.place == need.place]
    return there or (by_ids if need.found_by_itself and need.ids else [])


def elsewhere(need: UsbNeed, seen: SeenUsb) -> list[UsbDevice]:
    """Devices of that make at another place, when libvirt might have chosen the place itself.

    A running guest's plain XML does not say who chose it; its migratable XML does.
    """
    if not (need.ids and need.place) or need.found_by_itself:
        return []
    return [device for device in seen.devices if device.ids == need.ids]


@check(
    "hostdevs.usb-absent",
    Severity.BLOCKER,
    title="USB device not there",
    remedy="Plug the device in here, or detach it from the guest first.",
)
def usb_absent(guest: GuestHostdevs, seen: SeenUsb) -> Problems:
    """A USB device is looked for by vendor and product, by bus and device, or by both.

    With startupPolicy optional or requisite it may be missing when a guest arrives.
    Error: "Did not find USB device 046d:c52b" (util/virusb.c); "cannot open directory
    '/sys/bus/usb/devices'" where the kernel has no USB, whatever the policy.
    """
    for need in guest.usb:
        if seen.no_bus:
            yield Problem(subject=need.subject, wanted="the device", found="no USB on this host")
        elif not matching(need, seen) and need.startup_policy == "mandatory":
            if elsewhere(need, seen):
                yield CouldNotTell(
                    subject=need.subject,
                    why="it is at another place, and the XML does not say who chose the place",
                )
            else:
                yield Problem(subject=need.subject, wanted="the device", found="not plugged in")


@check(
    "hostdevs.usb-would-be-dropped",
    Severity.RISK,
    title="the guest would lose a USB device",
    remedy="Plug the device in here before the guest moves.",
    phase=Phase.AFTER,
)
def usb_would_be_dropped(guest: GuestHostdevs, seen: SeenUsb) -> Problems:
    """A missing device that may be missing (startupPolicy) is left out, and nobody is told."""
    for need in guest.usb:
        if need.startup_policy != "mandatory" and not seen.no_bus and not matching(need, seen):
            yield Problem(
                subject=need.subject,
                wanted="the device",
                found=f"not plugged in, startupPolicy {need.startup_policy}",
            )


@check(
    "hostdevs.usb-ambiguous",
    Severity.BLOCKER,
    title="several USB devices of that make",
    remedy="Name the one that is meant by bus and device with --xml, or unplug the others.",
)
def usb_ambiguous(guest: GuestHostdevs, seen: SeenUsb) -> Problems:
    """By vendor and product alone, libvirt must find exactly one device.

    Error: "Multiple USB devices for 46d:c52b, use <address> to specify one"
    (virHostdevFindUSBDevice, hypervisor/virhostdev.c).
    """
    for need in guest.usb:
        found = matching(need, seen)
        if len(found) > 1:
            yield Problem(
                subject=need.subject, wanted="one device", found=f"{len(found)} of that make"
            )


@check(
    "hostdevs.usb-unproved",
    Severity.RISK,
    title="a USB device by its place alone",
    remedy="Name the device by vendor and product.",
    phase=Phase.AFTER,
)
def usb_unproved(guest: GuestHostdevs, seen: SeenUsb) -> Problems:
    """Bus and device are numbers that a host gives as things are plugged in.

    What has them here is most likely not what has them at the source, and libvirt does not compare.
    """
    for need in guest.usb:
        if not need.ids and (found := matching(need, seen)):
            yield Problem(
                subject=need.subject,
                wanted="the device that the guest has at the source",
                found=f"{found[0].ids} is there, which nobody compares",
            )


@check(
    "hostdevs.usb-in-use",
    Severity.BLOCKER,
    title="USB device in use by another guest",
    remedy="Detach the device from the other guest first.",
)
def usb_in_use(guest: GuestHostdevs, seen: SeenUsb, taken: TakenDevices) -> Problems:
    """A USB device has one guest.

    Error: "USB device 001:004 is in use by driver QEMU, domain db1" (virHostdevMarkUSBDevices,
    hypervisor/virhostdev.c).
    """
    for need in guest.usb:
        found = matching(need, seen)
        if len(found) == 1 and found[0].place in taken.guest_by_usb:
            yield Problem(
                subject=need.subject,
                wanted="free",
                found=f"in use by {taken.guest_by_usb[found[0].place]}",
            )
    yield from _unread(taken)


# ------------------------------------------------------------------------- mediated devices


@check(
    "hostdevs.mdev-absent",
    Severity.BLOCKER,
    title="mediated device not there",
    remedy="Make a mediated device of that UUID and the source's type on this host.",
)
def mdev_absent(guest: GuestHostdevs, seen: SeenMdevs) -> Problems:
    """A mediated device is taken by its UUID, and libvirt does not make it.

    Error: "mediated device '...' not found" (virMediatedDeviceNew, util/virmdev.c).
    """
    for need in guest.mdev:
        model = seen.model_by_uuid.get(need.uuid)
        if model is None:
            yield Problem(
                subject=f"mediated device {need.uuid}",
                wanted="made, of the same type as at the source",
                found="not there",
                commands=("virsh nodedev-list --cap mdev_types",),
            )
        elif isinstance(model, Unknown):
            yield CouldNotTell(subject=f"mediated device {need.uuid}", why=model.why)


@check(
    "hostdevs.mdev-model",
    Severity.BLOCKER,
    title="mediated device of another model",
    remedy="Make the mediated device anew, of the source's type.",
)
def mdev_model(guest: GuestHostdevs, seen: SeenMdevs) -> Problems:
    """The device's own interface must be the one that the guest is given.

    Error: "invalid device API 'vfio-pci' for device ...: device only supports 'vfio-ccw'"
    (virMediatedDeviceCheckModel, util/virmdev.c).
    """
    for need in guest.mdev:
        model = seen.model_by_uuid.get(need.uuid)
        if isinstance(model, str) and need.model and model != need.model:
            yield Problem(subject=f"mediated device {need.uuid}", wanted=need.model, found=model)


@check(
    "hostdevs.mdev-in-use",
    Severity.BLOCKER,
    title="mediated device in use by another guest",
    remedy="Detach the device from the other guest first.",
)
def mdev_in_use(guest: GuestHostdevs, seen: SeenMdevs, taken: TakenDevices) -> Problems:
    """A mediated device has one guest.

    Error: "mediated device ... is in use by driver QEMU, domain db1" (virMediatedDeviceIsUsed,
    util/virmdev.c).
    """
    for need in guest.mdev:
        if need.uuid in taken.guest_by_mdev and seen.model_by_uuid.get(need.uuid) is not None:
            yield Problem(
                subject=f"mediated device {need.uuid}",
                wanted="free",
                found=f"in use by {taken.guest_by_mdev[need.uuid]}",
            )
    yield from _unread(taken)


# ---------------------------------------------------------------------------------------- SCSI


@check(
    "hostdevs.scsi-absent",
    Severity.BLOCKER,
    title="SCSI device not there",
    remedy="Attach the LUN here under that adapter and address, or move with --xml naming its own.",
)
def scsi_absent(guest: GuestHostdevs, seen: SeenScsi) -> Problems:
    """A SCSI device is taken by adapter, bus, target and unit, through its sg node.

    Error: "SCSI device '3:0:1:5': could not access ..." or "cannot open directory
    '/sys/bus/scsi/devices/3:0:1:5/scsi_generic'" (util/virscsi.c).
    """
    for need in guest.scsi:
        wwid = seen.wwid_by_address.get(need.address)
        if wwid is None:
            yield Problem(
                subject=f"SCSI {need.address}", wanted="a device with an sg node", found="none"
            )
        elif isinstance(wwid, Unknown):
            yield CouldNotTell(subject=f"SCSI {need.address}", why=wwid.why)


@check(
    "hostdevs.scsi-unproved",
    Severity.RISK,
    title="a SCSI device by its place alone",
    remedy="See that both hosts show the same identity (WWID) under that address.",
    phase=Phase.AFTER,
)
def scsi_unproved(guest: GuestHostdevs, seen: SeenScsi) -> Problems:
    """Adapters are numbered by each host: the same address may lead to another LUN.

    libvirt does not compare, and a guest that writes to another LUN destroys it.
    """
    for need in guest.scsi:
        if isinstance(wwid := seen.wwid_by_address.get(need.address), str):
            yield Problem(
                subject=f"SCSI {need.address}",
                wanted="the same LUN as at the source",
                found=f"{wwid or 'one without identity'} is there, which nobody compares",
                commands=(f"cat {shlex.quote(f'/sys/bus/scsi/devices/{need.address}/wwid')}",),
            )
