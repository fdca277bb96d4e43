from __future__ import annotations

import pytest
from lxml import etree

from virt_preflight.agent.asks.belongings import Setting, files_of
from virt_preflight.agent.asks.standin import StandIn, standin_for
from virt_preflight.agent.domain import Domain, read_domain

NAME, UUID = "virt-preflight-dry-run-0a1b2c3d", "99999999-8888-7777-6666-555555555555"
OWN_UUID = "11111111-2222-3333-4444-555555555555"
SETTING = Setting(uid=107, gid=108)
DISK = "<disk type='file' device='disk'><source file='/srv/a.qcow2'/><target dev='vda'/>{}</disk>"
NIC = (
    "<interface type='bridge'><mac address='52:54:00:aa:bb:cc'/><source bridge='br0'/>{}"
    "</interface>"
)


def guest(devices: str = "", top: str = "", system: str = "") -> Domain:
    return read_domain(
        f"<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        f"<name>db1</name><uuid>{OWN_UUID}</uuid><memory unit='GiB'>64</memory>"
        f"<currentMemory unit='GiB'>60</currentMemory>{top}<os>{system}</os>"
        f"<devices>{devices}</devices></domain>"
    )


def made(domain: Domain, setting: Setting = SETTING) -> StandIn:
    return standin_for(domain, name=NAME, uuid=UUID, setting=setting)


def root_of(standin: StandIn) -> etree._Element:
    return etree.fromstring(standin.domain_xml)


def device(text: str, setting: Setting = SETTING) -> etree._Element | None:
    return next(iter(root_of(made(guest(text), setting)).find("devices")), None)  # type: ignore[arg-type]


# ------------------------------------------------------------------- who it is, how large it is


def test_it_has_a_name_and_a_uuid_of_its_own() -> None:
    root = root_of(made(guest()))
    assert [root.findtext("name"), root.findtext("uuid")] == [NAME, UUID]


def test_the_guest_itself_is_not_changed() -> None:
    domain = guest(DISK)
    before = etree.tostring(domain.root)
    made(domain)
    assert etree.tostring(domain.root) == before


def test_it_takes_32_mib_whatever_the_guest_takes() -> None:
    root = root_of(made(guest(top="<maxMemory slots='4' unit='TiB'>1</maxMemory><memtune/>")))
    assert [root.findtext("memory"), root.findtext("currentMemory")] == ["32768", "32768"]
    assert root.find("maxMemory") is None
    assert root.find("memtune") is None


def test_cells_share_it_and_those_without_memory_stay_without() -> None:
    cells = "<cell id='0' memory='8' unit='GiB'/><cell id='1' memory='8' unit='GiB'/><cell id='2'/>"
    root = root_of(made(guest(top=f"<cpu><numa>{cells}</numa></cpu>")))
    assert [one.get("memory") for one in root.findall("cpu/numa/cell")] == ["8192", "8192", None]
    assert root.findtext("memory") == "16384"


def test_it_takes_no_pages_and_locks_nothing() -> None:
    backing = "<memoryBacking><hugepages/><locked/><allocation mode='immediate'/><nosharepages/>"
    root = root_of(made(guest(top=f"{backing}</memoryBacking>")))
    assert [child.tag for child in root.find("memoryBacking")] == ["nosharepages"]  # type: ignore[union-attr]


def test_plugged_memory_is_left_out_and_said() -> None:
    standin = made(guest("<memory model='dimm'/>"))
    assert root_of(standin).find("devices/memory") is None
    assert standin.left_out == (("memory dimm", "dimm: a stand-in has 32 MiB of memory in all"),)


def test_the_firmware_tells_it_its_own_uuid() -> None:
    told = f"<sysinfo><system><entry name='uuid'>{OWN_UUID}</entry></system></sysinfo>"
    assert root_of(made(guest(top=told))).findtext("sysinfo/system/entry") == UUID


def test_words_about_it_are_words_about_the_guest() -> None:
    standin = made(guest(NIC.format("")))
    mac = root_of(standin).find("devices/interface/mac").get("address")  # type: ignore[union-attr]
    assert mac != "52:54:00:aa:bb:cc"
    said = standin.spoken(f"{NAME} {UUID} with {mac} at fe{mac[2:]}")  # type: ignore[index]
    assert said == f"db1 {OWN_UUID} with 52:54:00:aa:bb:cc at fe:54:00:aa:bb:cc"


# --------------------------------------------------------------------------- files and owners


def test_libvirt_gives_it_no_file() -> None:
    label = root_of(made(guest())).find("seclabel")
    assert label is not None
    assert [label.get(key) for key in ("type", "model", "relabel")] == ["static", "dac", "no"]
    assert label.findtext("label") == "+107:+108"


def test_a_guest_with_a_user_of_its_own_keeps_it() -> None:
    own = "<seclabel type='static' model='dac'><label>+1:+2</label></seclabel>"
    assert root_of(made(guest(top=own))).findtext("seclabel/label") == "+1:+2"


def test_models_that_write_labels_write_none() -> None:
    own = "<seclabel type='dynamic' model='selinux' relabel='yes'/>"
    setting = Setting(uid=0, gid=0, labelling=frozenset({"selinux"}))
    labels = root_of(made(guest(top=own), setting)).findall("seclabel[@model='selinux']")
    assert [one.get("type") for one in labels] == ["none"]


def test_a_model_that_the_host_lacks_is_still_asked_for() -> None:
    own = "<seclabel type='dynamic' model='apparmor' relabel='yes'/>"
    assert root_of(made(guest(top=own))).find("seclabel[@model='apparmor']") is not None


def test_a_disk_stays_with_its_file() -> None:
    assert device(DISK.format("")).find("source").get("file") == "/srv/a.qcow2"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "disk",
    [
        DISK.format("<transient/>"),
        "<disk type='nvme'><source type='pci'/><target dev='vda'/></disk>",
        "<disk type='vhostuser'><source type='unix' path='/x'/><target dev='vda'/></disk>",
    ],
)
def test_a_disk_that_would_take_or_make_something_is_left_out(disk: str) -> None:
    standin = made(guest(disk))
    assert root_of(standin).find("devices/disk") is None
    assert [what for what, _ in standin.left_out] == ["disk vda"]


def test_a_disk_that_libvirt_would_have_to_give_away_is_left_out() -> None:
    shut = Setting(uid=107, gid=108, shut=frozenset({"/srv/a.qcow2"}))
    assert device(DISK.format(""), shut) is None


def test_a_disk_that_is_copied_is_left_out() -> None:
    assert device(DISK.format(""), Setting(uid=0, gid=0, copied=frozenset({"vda"}))) is None


def test_a_log_that_is_there_is_appended_to() -> None:
    there = Setting(uid=0, gid=0, present=frozenset({"/srv/a.log"}))
    serial = device("<serial type='file'><source path='/srv/a.log'/></serial>", there)
    assert serial.find("source").attrib == {"path": "/srv/a.log", "append": "on"}  # type: ignore[union-attr]


def test_a_log_that_is_not_there_is_made_beside_it() -> None:
    standin = made(guest("<serial type='file'><source path='/srv/a.log'/></serial>"))
    path = root_of(standin).find("devices/serial/source").get("path")  # type: ignore[union-attr]
    assert path == f"/srv/{NAME}-0.log"
    assert standin.files == (path,)
    assert standin.spoken(f"'{path}'") == "'/srv/a.log'"


def test_a_socket_is_made_beside_the_guests_own() -> None:
    standin = made(guest("<channel type='unix'><source mode='bind' path='/srv/a'/></channel>"))
    path = root_of(standin).find("devices/channel/source").get("path")  # type: ignore[union-attr]
    assert path == f"/srv/{NAME}-0.sock"
    assert standin.files == (path,)


def test_a_folder_too_long_for_another_name_is_not_tried() -> None:
    folder = "/" + "d" * 90
    standin = made(guest(f"<channel type='unix'><source mode='bind' path='{folder}/a'/></channel>"))
    assert root_of(standin).find("devices/channel/source").get("path") is None  # type: ignore[union-attr]
    assert standin.files == ()


@pytest.mark.parametrize(
    "chardev",
    [
        "<serial type='tcp'><source mode='connect' host='10.0.0.1' service='1'/></serial>",
        "<channel type='unix'><source mode='connect' path='/a'/></channel>",
        "<serial type='udp'><source mode='connect' host='a' service='1'/></serial>",
        "<serial type='dev'><source path='/dev/ttyS0'/></serial>",
        "<serial type='pipe'><source path='/a'/></serial>",
    ],
)
def test_nobody_is_called_and_no_port_of_the_host_is_taken(chardev: str) -> None:
    assert device(chardev) is None


def test_a_port_that_is_listened_on_is_tried() -> None:
    assert (
        device("<serial type='tcp'><source mode='bind' host='0' service='1'/></serial>") is not None
    )


def test_variables_that_are_there_are_opened_as_they_are() -> None:
    there = Setting(uid=0, gid=0, present=frozenset({"/n/db1_VARS.fd"}))
    standin = made(guest(system="<nvram>/n/db1_VARS.fd</nvram>"), there)
    assert root_of(standin).findtext("os/nvram") == "/n/db1_VARS.fd"
    assert standin.files == ()


@pytest.mark.parametrize(
    "nvram", ["<nvram>/n/db1.fd</nvram>", "<nvram><source file='/n/db1.fd'/></nvram>"]
)
def test_variables_that_are_not_there_are_made_beside_them(nvram: str) -> None:
    standin = made(guest(system=nvram))
    assert standin.files == (f"/n/{NAME}_VARS.fd",)
    assert standin.files[0].encode() in standin.domain_xml


def test_a_kernel_that_libvirt_would_have_to_give_away_is_left_out() -> None:
    booted = "<kernel>/k</kernel><initrd>/i</initrd><cmdline>x</cmdline>"
    shut = Setting(uid=107, gid=108, shut=frozenset({"/i"}))
    standin = made(guest(system=booted), shut)
    assert not len(root_of(standin).find("os"))  # type: ignore[arg-type]
    assert [what for what, _ in standin.left_out] == ["kernel", "initrd"]


def test_files_to_look_for() -> None:
    chain = "<backingStore type='file'><source file='/srv/b'/><backingStore/></backingStore>"
    found = files_of(
        guest(
            DISK.format(chain) + "<serial type='file'><source path='/l'/><log file='/m'/></serial>",
            system="<kernel>/k</kernel><nvram>/n</nvram>",
        ).root
    )
    assert [*found] == [
        ("/srv/a.qcow2", True),
        ("/srv/b", False),
        ("/k", False),
        ("/n", True),
        ("/l", True),
        ("/m", True),
    ]


# ------------------------------------------------------------------------------------ devices


@pytest.mark.parametrize(
    "taken",
    [
        "<hostdev mode='subsystem' type='pci'/>",
        "<interface type='hostdev'/>",
        "<interface type='vdpa'/>",
        "<interface type='vhostuser'/>",
        "<interface type='mcast'/>",
        "<interface type='direct'><source dev='eth0' mode='passthrough'/></interface>",
        "<interface type='ethernet'><target dev='tap0' managed='no'/></interface>",
        "<interface type='user'><backend type='passt'/></interface>",
        NIC.format("<virtualport type='openvswitch'/>"),
        "<shmem name='a'/>",
        "<tpm><backend type='passthrough'/></tpm>",
        "<filesystem type='mount'><driver type='virtiofs'/></filesystem>",
        "<input type='evdev'><source dev='/dev/input/event0'/></input>",
        "<smartcard mode='host'/>",
        "<rng><backend model='egd' type='tcp'/></rng>",
        "<graphics type='dbus'/>",
        "<pstore backend='acpi-erst'><path>/p</path></pstore>",
        "<lease/>",
    ],
)
def test_what_others_would_notice_is_left_out_and_said(taken: str) -> None:
    standin = made(guest(taken))
    assert not len(root_of(standin).find("devices"))  # type: ignore[arg-type]
    assert len(standin.left_out) == 1


@pytest.mark.parametrize(
    "kept",
    [
        NIC.format("<model type='virtio'/>"),
        "<interface type='network'><source network='lan'/></interface>",
        "<interface type='direct'><source dev='eth0' mode='bridge'/></interface>",
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
        "<filesystem type='mount'><driver type='path'/></filesystem>",
        "<input type='tablet' bus='usb'/>",
        "<rng><backend model='random'>/dev/urandom</backend></rng>",
        "<graphics type='vnc' port='5900'/>",
        "<video><model type='qxl'/></video>",
        "<something-new/>",
    ],
)
def test_everything_else_is_tried(kept: str) -> None:
    standin = made(guest(kept))
    assert len(root_of(standin).find("devices")) == 1  # type: ignore[arg-type]
    assert standin.left_out == ()


def test_a_nic_that_cannot_be_plugged_in_is_left_out_by_its_place() -> None:
    setting = Setting(uid=0, gid=0, unpluggable={1: "somebody else would hear of it"})
    standin = made(guest(NIC.format("") + NIC.format("")), setting)
    assert len(root_of(standin).findall("devices/interface")) == 1
    assert standin.left_out == (("interface 52:54:00:aa:bb:cc", "somebody else would hear of it"),)


def test_places_of_nics_count_passed_through_ones_not() -> None:
    setting = Setting(uid=0, gid=0, unpluggable={0: "why"})
    standin = made(guest("<interface type='hostdev'/>" + NIC.format("")), setting)
    assert [why for _, why in standin.left_out][-1] == "why"


def test_a_nic_changes_no_mtu_and_runs_no_script() -> None:
    standin = made(guest(NIC.format("<mtu size='1500'/><script path='/evil'/>")))
    nic = root_of(standin).find("devices/interface")
    assert nic is not None
    assert [child.tag for child in nic] == ["mac", "source"]
    assert [what for what, _ in standin.left_out] == ["script of interface 52:54:00:aa:bb:cc"]


def test_audio_is_written_to_no_file() -> None:
    audio = device("<audio id='1' type='file' path='/x.wav'/>")
    assert audio is not None
    assert sorted(audio.attrib.items()) == [("id", "1"), ("type", "none")]


def test_a_tpm_has_its_own_state() -> None:
    tpm = device("<tpm><backend type='emulator'><source type='dir' path='/t'/></backend></tpm>")
    assert tpm is not None
    assert tpm.find("backend/source") is None


def test_arguments_for_qemu_are_not_passed_on() -> None:
    given = "<qemu:commandline><qemu:arg value='-chardev'/></qemu:commandline>"
    standin = made(guest(top=given))
    assert b"-chardev" not in standin.domain_xml
    assert [what for what, _ in standin.left_out] == ["qemu:commandline"]


def test_the_hosts_cache_is_not_shared_out_anew() -> None:
    tuned = "<cputune><cachetune vcpus='0'/><vcpupin vcpu='0' cpuset='0'/></cputune>"
    root = root_of(made(guest(top=tuned)))
    assert [child.tag for child in root.find("cputune")] == ["vcpupin"]  # type: ignore[union-attr]
