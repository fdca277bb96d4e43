import json

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.hostdevs import (
    GuestHostdevs,
    HostVfio,
    MdevNeed,
    PciDevice,
    PciNeed,
    ScsiNeed,
    SeenMdevs,
    SeenPci,
    SeenScsi,
    SeenUsb,
    TakenDevices,
    UsbDevice,
    UsbNeed,
    guest_hostdevs,
    host_vfio,
    mdev_absent,
    mdev_in_use,
    mdev_model,
    mdev_not_migratable,
    pci_absent,
    pci_bridge,
    pci_differs,
    pci_group_not_free,
    pci_ids_by_address,
    pci_in_use,
    pci_not_detached,
    pci_not_migratable,
    scsi_absent,
    scsi_unproved,
    seen_mdevs,
    seen_pci,
    seen_scsi,
    seen_usb,
    taken_devices,
    usb_absent,
    usb_ambiguous,
    usb_in_use,
    usb_unproved,
    usb_would_be_dropped,
    vfio_off,
    vhost_scsi_not_migratable,
)
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import FileStat, Unreadable
from virt_preflight.agent.xml import BadXml

NIC = "0000:3b:00.1"
UUID = "c2177883-f1bb-47f0-914d-32a22e3a8804"
OLD = HostVersions(libvirt=9_000_000, qemu=7_002_000)
NEW = HostVersions(libvirt=11_003_000, qemu=10_000_000)
NOBODY = TakenDevices(guest_by_pci={}, guest_by_usb={}, guest_by_mdev={}, unread={})
VF = PciDevice(ids="8086:154c", bridge=False, driver="iavf", group="12", driver_by_neighbour={})


def problems(yielded: Problems) -> list[Problem]:
    found = list(yielded)
    assert all(isinstance(one, Problem) for one in found), found
    return [one for one in found if isinstance(one, Problem)]


def unclear(yielded: Problems) -> list[CouldNotTell]:
    return [one for one in yielded if isinstance(one, CouldNotTell)]


def domain(devices: str, extra: str = "") -> Domain:
    return read_domain(
        f"<domain><name>g</name><uuid>{UUID}</uuid><devices>{devices}</devices>{extra}</domain>"
    )


def read(devices: str, extra: str = "") -> GuestHostdevs:
    guest = guest_hostdevs(domain(devices, extra))
    assert guest is not None
    return guest


def holding(*, managed: bool = True, transient: bool = False, nic: bool = False) -> GuestHostdevs:
    need = PciNeed(address=NIC, managed=managed, transient=transient, nic=nic)
    return GuestHostdevs(pci=(need,))


def there(device: PciDevice | Unknown | None) -> SeenPci:
    return SeenPci(device_by_address={NIC: device})


def device(
    driver: str = "vfio-pci", *, bridge: bool = False, neighbours: dict[str, str] | None = None
) -> PciDevice:
    return PciDevice(
        ids="8086:154c",
        bridge=bridge,
        driver=driver,
        group="12",
        driver_by_neighbour=neighbours or {},
    )


# ------------------------------------------------------------------------------ what is read

PCI_XML = """<hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio'/>
<source><address domain='0x0000' bus='0x3b' slot='0x00' function='0x1'/></source>
<alias name='hostdev0'/>
<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></hostdev>"""


def test_a_pci_device_is_named_as_sysfs_names_it() -> None:
    assert read(PCI_XML) == holding()


def test_a_nic_that_is_unplugged_first_is_marked() -> None:
    xml = """<interface type='hostdev'><mac address='52:54:00:00:00:01'/>
    <source><address type='pci' domain='0' bus='59' slot='0' function='1'/></source>
    <teaming type='transient' persistent='ua-backup0'/></interface>"""
    assert read(xml) == holding(managed=False, transient=True, nic=True)


def test_an_nvme_drive_is_a_pci_device_too() -> None:
    xml = """<disk type='nvme' device='disk'><source type='pci' managed='yes' namespace='1'>
    <address domain='0x0000' bus='0x3b' slot='0x00' function='0x1'/></source></disk>"""
    assert read(xml).pci == (PciNeed(address=NIC, managed=True, disk=True),)


def test_usb_devices_by_make_and_place() -> None:
    xml = """<hostdev mode='subsystem' type='usb' managed='no'>
    <source startupPolicy='optional' autoAddress='yes'><vendor id='0x046d'/><product id='0xc52b'/>
    <address bus='1' device='4'/></source></hostdev>"""
    assert read(xml).usb == (
        UsbNeed(ids="046d:c52b", place=(1, 4), found_by_itself=True, startup_policy="optional"),
    )


def test_mediated_scsi_and_vhost_devices_are_read() -> None:
    xml = f"""<hostdev mode='subsystem' type='mdev' model='vfio-pci'>
    <source><address uuid='{UUID.upper()}'/></source></hostdev>
    <hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host3'/>
    <address bus='0' target='1' unit='5'/></source></hostdev>
    <hostdev mode='subsystem' type='scsi_host'>
    <source protocol='vhost' wwpn='naa.5123456789abcde0'/></hostdev>"""
    assert read(xml) == GuestHostdevs(
        mdev=(MdevNeed(uuid=UUID, model="vfio-pci"),),
        scsi=(ScsiNeed(address="3:0:1:5"),),
        vhost_scsi=("naa.5123456789abcde0",),
    )


def test_a_guest_without_devices_of_the_host_needs_none() -> None:
    assert guest_hostdevs(domain("<disk type='file'/>")) is None


def test_an_address_that_is_no_number_is_named() -> None:
    with pytest.raises(BadXml, match="attribute bus is"):
        read(
            "<hostdev mode='subsystem' type='pci'><source><address bus='../..'/></source></hostdev>"
        )


def test_a_mediated_device_is_named_by_a_uuid_alone() -> None:
    with pytest.raises(BadXml, match="is no UUID"):
        read(
            "<hostdev mode='subsystem' type='mdev' model='vfio-pci'>"
            "<source><address uuid='../../../../etc'/></source></hostdev>"
        )


def test_an_option_for_vfio_by_hand_is_seen() -> None:
    extra = """<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'>
    <arg value='-global'/><arg value='vfio-pci.x-enable-migration=on'/></commandline>"""
    assert read(PCI_XML, extra).migration_set_by_hand


SYSFS = FakeSource(
    texts={
        f"/sys/bus/pci/devices/{NIC}/vendor": "0x8086\n",
        f"/sys/bus/pci/devices/{NIC}/device": "0x154c\n",
        f"/sys/bus/pci/devices/{NIC}/class": "0x020000\n",
        "/sys/bus/pci/devices/0000:3b:00.0/class": "0x020000\n",
        "/sys/bus/pci/devices/0000:3a:00.0/class": "0x060400\n",
    },
    links={
        f"/sys/bus/pci/devices/{NIC}/driver": "../../../../bus/pci/drivers/iavf",
        f"/sys/bus/pci/devices/{NIC}/iommu_group": "../../../../kernel/iommu_groups/12",
        "/sys/bus/pci/devices/0000:3b:00.0/driver": "../../../../bus/pci/drivers/i40e",
    },
    directories={
        "/sys/kernel/iommu_groups/12/devices": ("0000:3a:00.0", "0000:3b:00.0", NIC),
        "/sys/kernel/iommu_groups": ("12",),
    },
)


def test_a_pci_device_is_read_with_its_group_and_without_bridges() -> None:
    assert seen_pci(SYSFS, holding()) == there(
        PciDevice(
            ids="8086:154c",
            bridge=False,
            driver="iavf",
            group="12",
            driver_by_neighbour={"0000:3b:00.0": "i40e"},
        )
    )


def test_no_pci_device_is_told_from_an_unreadable_one() -> None:
    assert seen_pci(FakeSource(), holding()) == there(None)
    hidden = FakeSource(links={}, texts={f"/sys/bus/pci/devices/{NIC}/vendor": Unreadable("no")})
    assert seen_pci(hidden, holding()) == there(Unknown("no"))


def test_the_source_names_its_devices_and_leaves_out_what_it_cannot_read() -> None:
    assert pci_ids_by_address(domain(PCI_XML), SYSFS) == {NIC: "8086:154c"}
    assert pci_ids_by_address(domain(PCI_XML), FakeSource()) == {}
    assert pci_ids_by_address(domain(""), SYSFS) == {}


def test_vfio_needs_groups_and_the_node() -> None:
    node = FileStat(kind="char", size_bytes=0, mode=0o666, uid=0, gid=0, device=5, inode=9)
    on = FakeSource(directories=SYSFS.directories, stats={"/dev/vfio/vfio": node})
    assert host_vfio(on) == HostVfio(iommu=True, vfio=True)
    assert host_vfio(FakeSource()) == HostVfio(iommu=False, vfio=False)


def test_usb_devices_are_read_without_their_interfaces() -> None:
    at = "/sys/bus/usb/devices/1-4"
    source = FakeSource(
        directories={"/sys/bus/usb/devices": ("1-4", "1-4:1.0", "1-5")},
        texts={
            f"{at}/idVendor": "046d\n",
            f"{at}/idProduct": "c52b\n",
            f"{at}/busnum": "1\n",
            f"{at}/devnum": "4\n",
        },
    )
    guest = GuestHostdevs(usb=(UsbNeed(ids="046d:c52b"),))
    assert seen_usb(source, guest) == SeenUsb(devices=(UsbDevice(ids="046d:c52b", place=(1, 4)),))
    assert seen_usb(FakeSource(), guest) == SeenUsb(no_bus=True)
    assert seen_usb(source, holding()) is None


def test_mediated_and_scsi_devices_are_looked_up() -> None:
    guest = GuestHostdevs(
        mdev=(MdevNeed(uuid=UUID, model="vfio-pci"),), scsi=(ScsiNeed(address="3:0:1:5"),)
    )
    source = FakeSource(
        texts={
            f"/sys/bus/mdev/devices/{UUID}/mdev_type/device_api": "vfio-pci\n",
            "/sys/bus/scsi/devices/3:0:1:5/wwid": "naa.6001405\n",
        },
        directories={"/sys/bus/scsi/devices/3:0:1:5/scsi_generic": ("sg2",)},
    )
    assert seen_mdevs(source, guest) == SeenMdevs(model_by_uuid={UUID: "vfio-pci"})
    assert seen_scsi(source, guest) == SeenScsi(wwid_by_address={"3:0:1:5": "naa.6001405"})
    assert seen_mdevs(FakeSource(), guest) == SeenMdevs(model_by_uuid={UUID: None})
    assert seen_scsi(FakeSource(), guest) == SeenScsi(wwid_by_address={"3:0:1:5": None})


def others(
    *listed: dict[str, object], answers: dict[tuple[str, ...], str | Unreadable]
) -> FakeSource:
    return FakeSource(answers={("domains",): json.dumps(listed), **answers})


def test_devices_of_guests_that_run_are_taken() -> None:
    source = others(
        {"name": "db1", "uuid": "u1", "id": 3},
        {"name": "off", "uuid": "u2", "id": None},
        {"name": "g", "uuid": UUID, "id": 4},
        {"name": "hidden", "uuid": "u3", "id": 5},
        answers={
            ("domain-xml", "u1"): f"<domain><devices>{PCI_XML}</devices></domain>",
            ("domain-xml", "u3"): Unreadable("no right"),
        },
    )
    taken = taken_devices(source, holding(), domain(PCI_XML))
    assert taken.guest_by_pci == {NIC: "db1"}
    assert taken.unread == {"hidden": "no right"}


def test_nobody_is_asked_for_a_scsi_device_alone() -> None:
    guest = GuestHostdevs(scsi=(ScsiNeed(address="3:0:1:5"),))
    assert taken_devices(FakeSource(), guest, domain("")) == NOBODY


# -------------------------------------------------------------------------------- the source


def test_before_qemu_8_1_no_pci_device_migrates() -> None:
    (problem,) = problems(pci_not_migratable(holding(), there(device("mlx5_vfio_pci")), OLD))
    assert (problem.wanted, problem.found) == ("QEMU 8.1 or later", "QEMU 7.2.0")


def test_plain_vfio_pci_cannot_save_a_device() -> None:
    (problem,) = problems(pci_not_migratable(holding(), there(device()), NEW))
    assert problem.found == "driver vfio-pci"


def test_a_driver_of_its_own_may_migrate_and_only_qemu_knows() -> None:
    (left,) = unclear(pci_not_migratable(holding(), there(device("mlx5_vfio_pci")), NEW))
    assert "mlx5_vfio_pci" in left.why


def test_a_nic_that_qemu_unplugs_does_not_hold_the_guest() -> None:
    assert not list(pci_not_migratable(holding(transient=True), there(device()), OLD))


def test_what_is_set_by_hand_is_not_judged() -> None:
    guest = GuestHostdevs(pci=holding().pci, migration_set_by_hand=True)
    assert unclear(pci_not_migratable(guest, there(device()), OLD))


def test_mediated_devices_wait_for_qemu_8_1_and_those_of_s390_for_ever() -> None:
    vgpu = GuestHostdevs(mdev=(MdevNeed(uuid=UUID, model="vfio-pci"),))
    crypto = GuestHostdevs(mdev=(MdevNeed(uuid=UUID, model="vfio-ap"),))
    assert problems(mdev_not_migratable(vgpu, OLD))
    assert problems(mdev_not_migratable(crypto, NEW))


def test_a_mediated_device_with_a_new_qemu_is_qemus_to_judge() -> None:
    vgpu = GuestHostdevs(mdev=(MdevNeed(uuid=UUID, model="vfio-pci"),))
    assert unclear(mdev_not_migratable(vgpu, NEW))


def test_vhost_scsi_holds_the_guest() -> None:
    (problem,) = problems(vhost_scsi_not_migratable(GuestHostdevs(vhost_scsi=("naa.5",))))
    assert problem.subject == "vhost-scsi naa.5"


def test_a_scsi_device_through_sg_does_not_hold_the_guest() -> None:
    guest = GuestHostdevs(scsi=(ScsiNeed(address="3:0:1:5"),))
    assert not list(vhost_scsi_not_migratable(guest))


# --------------------------------------------------------------------------------------- PCI


def test_without_iommu_and_vfio_no_device_is_given() -> None:
    off, no_node = problems(vfio_off(holding(), HostVfio(iommu=False, vfio=False)))
    assert off.found == "no IOMMU groups"
    assert no_node.commands == ("modprobe vfio-pci",)


def test_usb_needs_no_iommu() -> None:
    guest = GuestHostdevs(usb=(UsbNeed(ids="046d:c52b"),))
    assert not list(vfio_off(guest, HostVfio(iommu=False, vfio=False)))
    assert not list(vfio_off(holding(), HostVfio(iommu=True, vfio=True)))


def test_an_address_where_nothing_is_is_named() -> None:
    (problem,) = problems(pci_absent(holding(), there(None)))
    assert (problem.subject, problem.found) == (f"PCI {NIC}", "nothing there")


def test_a_device_that_is_there_is_not_absent_and_an_unreadable_one_is_unclear() -> None:
    assert not list(pci_absent(holding(), there(device())))
    assert unclear(pci_absent(holding(), there(Unknown("no right"))))


def test_a_nics_device_may_come_from_a_pool_so_it_is_left_open() -> None:
    (left,) = unclear(pci_absent(holding(nic=True), there(None)))
    assert "pool" in left.why


def test_a_bridge_is_no_device() -> None:
    assert problems(pci_bridge(holding(), there(device(bridge=True))))


def test_an_endpoint_is_no_bridge() -> None:
    assert not list(pci_bridge(holding(), there(device())))
    assert not list(pci_bridge(holding(), there(None)))


def origin(ids: str = "") -> GuestOrigin:
    return GuestOrigin(host_name="h1", host_uuid="", pci_ids_by_address={NIC: ids} if ids else {})


def test_another_make_at_the_address_breaks_the_guest() -> None:
    (problem,) = problems(pci_differs(holding(), there(device()), origin("15b3:101e")))
    assert problem.severity is Severity.BLOCKER
    assert problem.wanted == "15b3:101e as at the source"


def test_another_make_of_a_nic_that_is_unplugged_first_is_a_risk() -> None:
    guest = holding(transient=True)
    (problem,) = problems(pci_differs(guest, there(device()), origin("15b3:101e")))
    assert problem.severity is Severity.RISK


def test_the_same_make_is_fine_and_an_untold_one_is_left_open() -> None:
    assert not list(pci_differs(holding(), there(device()), origin("8086:154c")))
    assert unclear(pci_differs(holding(), there(device()), origin()))


def test_an_unmanaged_device_must_be_detached_already() -> None:
    (problem,) = problems(pci_not_detached(holding(managed=False), there(device("iavf"))))
    assert problem.found == "driver iavf"
    assert problem.commands == ("virsh nodedev-detach pci_0000_3b_00_1",)


def test_a_detached_or_managed_device_is_fine() -> None:
    assert not list(pci_not_detached(holding(managed=False), there(device("mlx5_vfio_pci"))))
    assert not list(pci_not_detached(holding(), there(device("iavf"))))


def taken(**held: dict[str, str]) -> TakenDevices:
    return TakenDevices(
        guest_by_pci=held.get("pci", {}),
        guest_by_usb=dict.fromkeys([(1, 4)], held["usb"]["mouse"]) if "usb" in held else {},
        guest_by_mdev=held.get("mdev", {}),
        unread=held.get("unread", {}),
    )


def test_a_device_has_one_guest_and_so_has_its_group() -> None:
    (problem,) = problems(pci_in_use(holding(), there(device()), taken(pci={NIC: "db1"})))
    assert problem.found == "in use by db1"
    seen = there(device(neighbours={"0000:3b:00.2": "vfio-pci"}))
    (problem,) = problems(pci_in_use(holding(), seen, taken(pci={"0000:3b:00.2": "db1"})))
    assert problem.subject == "PCI 0000:3b:00.2 (same IOMMU group: 12)"


def test_devices_elsewhere_are_in_nobodys_way_and_hidden_guests_leave_it_open() -> None:
    assert not list(pci_in_use(holding(), there(device()), taken(pci={"0000:af:00.0": "db1"})))
    (left,) = unclear(pci_in_use(holding(), there(device()), taken(unread={"x": "no right"})))
    assert left.subject == "what x holds"


def test_a_neighbour_that_the_host_uses_keeps_the_group() -> None:
    seen = there(device(neighbours={"0000:3b:00.0": "i40e"}))
    (problem,) = problems(pci_group_not_free(holding(), seen))
    assert problem.found == "0000:3b:00.0 is held by i40e"


def test_idle_neighbours_and_the_guests_own_do_not_keep_the_group() -> None:
    seen = there(device(neighbours={"0000:3b:00.2": "", "0000:3b:00.3": "vfio-pci"}))
    assert not list(pci_group_not_free(holding(), seen))
    both = GuestHostdevs(
        pci=(PciNeed(address=NIC, managed=True), PciNeed(address="0000:3b:00.0", managed=True))
    )
    assert not list(
        pci_group_not_free(both, there(device("iavf", neighbours={"0000:3b:00.0": "i40e"})))
    )


# --------------------------------------------------------------------------------------- USB

MOUSE = UsbDevice(ids="046d:c52b", place=(1, 4))
TWIN = UsbDevice(ids="046d:c52b", place=(2, 7))


def usb(**need: object) -> GuestHostdevs:
    return GuestHostdevs(usb=(UsbNeed(**need),))  # type: ignore[arg-type]


def test_a_usb_device_that_is_not_plugged_in_is_missed() -> None:
    (problem,) = problems(usb_absent(usb(ids="046d:c52b"), SeenUsb()))
    assert problem.found == "not plugged in"
    assert problems(
        usb_absent(usb(ids="046d:c52b", startup_policy="optional"), SeenUsb(no_bus=True))
    )


def test_a_usb_device_may_be_missing_when_its_policy_says_so() -> None:
    assert not list(usb_absent(usb(ids="046d:c52b", startup_policy="requisite"), SeenUsb()))
    assert not list(usb_absent(usb(ids="046d:c52b"), SeenUsb(devices=(MOUSE,))))


def test_a_place_that_libvirt_found_by_itself_is_found_anew() -> None:
    moved = SeenUsb(devices=(TWIN,))
    found = usb(ids="046d:c52b", place=(1, 4), found_by_itself=True)
    assert not list(usb_absent(found, moved))
    assert unclear(usb_absent(usb(ids="046d:c52b", place=(1, 4)), moved))


def test_a_device_that_would_be_left_out_is_told() -> None:
    guest = usb(ids="046d:c52b", startup_policy="optional")
    assert problems(usb_would_be_dropped(guest, SeenUsb()))


def test_a_device_that_is_there_is_not_left_out() -> None:
    guest = usb(ids="046d:c52b", startup_policy="optional")
    assert not list(usb_would_be_dropped(guest, SeenUsb(devices=(MOUSE,))))


def test_two_of_one_make_are_one_too_many() -> None:
    (problem,) = problems(usb_ambiguous(usb(ids="046d:c52b"), SeenUsb(devices=(MOUSE, TWIN))))
    assert problem.found == "2 of that make"


def test_a_place_tells_two_of_one_make_apart() -> None:
    guest = usb(ids="046d:c52b", place=(2, 7))
    assert not list(usb_ambiguous(guest, SeenUsb(devices=(MOUSE, TWIN))))


def test_a_place_alone_proves_nothing() -> None:
    (problem,) = problems(usb_unproved(usb(place=(1, 4)), SeenUsb(devices=(MOUSE,))))
    assert problem.subject == "USB at bus 1 device 4"


def test_a_make_proves_enough() -> None:
    assert not list(usb_unproved(usb(ids="046d:c52b"), SeenUsb(devices=(MOUSE,))))


def test_a_usb_device_has_one_guest() -> None:
    guest, seen = usb(ids="046d:c52b"), SeenUsb(devices=(MOUSE,))
    (problem,) = problems(usb_in_use(guest, seen, taken(usb={"mouse": "db1"})))
    assert problem.found == "in use by db1"


def test_a_free_usb_device_is_free() -> None:
    assert not list(usb_in_use(usb(ids="046d:c52b"), SeenUsb(devices=(MOUSE,)), NOBODY))


# ----------------------------------------------------------------------- mediated and SCSI

VGPU = GuestHostdevs(mdev=(MdevNeed(uuid=UUID, model="vfio-pci"),))
LUN = GuestHostdevs(scsi=(ScsiNeed(address="3:0:1:5"),))


def test_a_mediated_device_must_be_made_first() -> None:
    assert problems(mdev_absent(VGPU, SeenMdevs(model_by_uuid={UUID: None})))
    assert unclear(mdev_absent(VGPU, SeenMdevs(model_by_uuid={UUID: Unknown("no right")})))


def test_a_mediated_device_that_is_there_is_fine() -> None:
    assert not list(mdev_absent(VGPU, SeenMdevs(model_by_uuid={UUID: "vfio-pci"})))


def test_a_mediated_device_of_another_model_is_refused() -> None:
    (problem,) = problems(mdev_model(VGPU, SeenMdevs(model_by_uuid={UUID: "vfio-ccw"})))
    assert (problem.wanted, problem.found) == ("vfio-pci", "vfio-ccw")


def test_a_mediated_device_of_that_model_is_taken() -> None:
    assert not list(mdev_model(VGPU, SeenMdevs(model_by_uuid={UUID: "vfio-pci"})))


def test_a_mediated_device_has_one_guest() -> None:
    seen = SeenMdevs(model_by_uuid={UUID: "vfio-pci"})
    assert problems(mdev_in_use(VGPU, seen, taken(mdev={UUID: "db1"})))


def test_a_free_mediated_device_is_free() -> None:
    assert not list(mdev_in_use(VGPU, SeenMdevs(model_by_uuid={UUID: "vfio-pci"}), NOBODY))


def test_a_scsi_address_without_device_is_refused() -> None:
    assert problems(scsi_absent(LUN, SeenScsi(wwid_by_address={"3:0:1:5": None})))
    assert unclear(scsi_absent(LUN, SeenScsi(wwid_by_address={"3:0:1:5": Unknown("no")})))


def test_a_scsi_address_proves_no_identity() -> None:
    seen = SeenScsi(wwid_by_address={"3:0:1:5": "naa.6001405"})
    assert not list(scsi_absent(LUN, seen))
    (problem,) = problems(scsi_unproved(LUN, seen))
    assert problem.found.startswith("naa.6001405")


def test_of_a_scsi_device_that_is_absent_nothing_need_be_proved() -> None:
    assert not list(scsi_unproved(LUN, SeenScsi(wwid_by_address={"3:0:1:5": None})))
