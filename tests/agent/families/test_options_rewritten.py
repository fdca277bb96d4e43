"""What may change in the XML given for the destination. Each was tried in a real migration."""

from __future__ import annotations

import re

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.options import (
    DestinationXml,
    SentXml,
    changed_xml,
    changed_xml_cpu,
    changed_xml_unjudged,
    destination_xml,
    guest_essentials,
    sent_xml,
)
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.sources import SourceError

UUID = "3fc7dea1-79f1-5ef4-9c29-e46e48fcc2e3"
# virsh dumpxml --migratable of libvirt 9.0, shortened.
XML = f"""<domain type='kvm'>
  <name>g</name>
  <uuid>{UUID}</uuid>
  <memory unit='KiB'>131072</memory>
  <currentMemory unit='KiB'>131072</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <iothreads>1</iothreads>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
  </features>
  <cpu mode='host-model' check='partial'/>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='/srv/g.qcow2'/>
      <target dev='vda' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </disk>
    <interface type='bridge'>
      <mac address='52:54:00:fe:8d:61'/>
      <source bridge='br0'/>
      <model type='virtio'/>
      <rom enabled='no'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </interface>
    <serial type='file'>
      <source path='/tmp/serial.log'/>
      <target type='isa-serial' port='0'/>
    </serial>
    <serial type='tcp'>
      <source mode='bind' host='127.0.0.1' service='7777'/>
      <protocol type='raw'/>
    </serial>
    <serial type='pty'>
      <target type='isa-serial' port='1'/>
    </serial>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>
    <memballoon model='none'/>
  </devices>
</domain>
"""
CELLS = (
    "<cpu mode='host-model' check='partial'><numa>"
    "<cell id='0' cpus='0' memory='65536' unit='KiB'/>"
    "<cell id='1' cpus='1' memory='65536' unit='KiB'/></numa></cpu>"
)
HUGE = "<memoryBacking><hugepages/></memoryBacking><os>"
BASE = (
    "<backingStore type='file'><format type='qcow2'/><source file='/srv/base.qcow2'/>"
    "<backingStore/></backingStore>"
)
PLAIN = MigrationOptions()


def given(xml: str) -> DestinationXml:
    found = destination_xml(MigrationOptions(xml=xml.encode()))
    assert found is not None
    return found


def changed(*pairs: tuple[str, str], xml: str = XML) -> str:
    for old, new in pairs:
        assert old in xml, old
        xml = xml.replace(old, new, 1)
    return xml


def unjudged(here: str, there: str, options: MigrationOptions = PLAIN) -> list[CouldNotTell]:
    domain = read_domain(here)
    sent = SentXml(root=domain.root)
    found = list(changed_xml_unjudged(given(there), guest_essentials(domain), sent, options))
    assert all(isinstance(one, CouldNotTell) for one in found)
    return [one for one in found if isinstance(one, CouldNotTell)]


def test_the_guests_own_xml_is_the_same_guest() -> None:
    domain = read_domain(XML)
    sent = SentXml(root=domain.root)
    assert not list(changed_xml_unjudged(given(XML), guest_essentials(domain), sent, PLAIN))


def test_what_libvirt_has_to_judge_is_left_open() -> None:
    domain = read_domain(XML)
    sent = SentXml(root=domain.root)
    other = given(changed(("<acpi/>", "")))
    (open_,) = changed_xml_unjudged(other, guest_essentials(domain), sent, PLAIN)
    assert isinstance(open_, CouldNotTell)
    assert open_.subject == "--xml: features/acpi"


FREE = [
    ("<memory ", "<title>t</title><description>d</description><metadata><a/></metadata><memory "),
    ("<memory unit='KiB'>131072", "<memory unit='MiB'>128"),
    ("<currentMemory unit='KiB'>131072", "<currentMemory unit='KiB'>65536"),
    ("<on_crash>destroy", "<on_crash>restart"),
    ("<on_reboot>restart", "<on_reboot>destroy"),
    ("<on_poweroff>destroy", "<on_poweroff>restart"),
    ("placement='static'", "cpuset='0-1'"),
    ("placement='static'", "placement='auto'"),
    ("<os>", "<cputune><vcpupin vcpu='0' cpuset='0,77'/><emulatorpin cpuset='1'/></cputune><os>"),
    ("<os>", "<cputune><iothreadpin iothread='1' cpuset='0'/></cputune><os>"),
    ("<os>", "<numatune><memory mode='strict' nodeset='0'/></numatune><os>"),
    ("<os>", HUGE),
    (
        "<os>",
        "<memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking><os>",
    ),
    ("<emulator>/usr/bin", "<emulator>/opt/qemu/bin"),
    ("/srv/g.qcow2", "/elsewhere/g.qcow2"),
    ("type='qcow2' cache='none'", "type='raw' cache='writeback' io='threads'"),
    ("cache='none'", "cache='none' io='native'"),
    ("<source file='/srv/g.qcow2'/>", "<source file='/srv/g.qcow2' startupPolicy='optional'/>"),
    ("<target dev='vda'", f"{BASE}<target dev='vda'"),
    ("<target dev='vda'", "<backingStore/><target dev='vda'"),
    ("<source bridge='br0'/>", "<source bridge='br1'/><target dev='tap-g'/>"),
    ("/tmp/serial.log'", "/tmp/other.log' append='on'"),
    ("host='127.0.0.1' service='7777'", "host='0.0.0.0' service='7778'"),
    ("<serial type='pty'>", "<serial type='pty'><log file='/tmp/l' append='off'/>"),
    ("port='-1' autoport='yes'", "port='5950' autoport='no'"),
    ("<graphics type='vnc'", "<graphics type='vnc' passwd='secret'"),
    ("</devices>", "</devices><seclabel type='dynamic' model='dac' relabel='yes'/>"),
    ("<rom enabled='no'/>", "<!-- no boot ROM -->\n<rom enabled='no'/><alias name='net0'/>"),
]


@pytest.mark.parametrize(("old", "new"), FREE)
def test_what_only_the_host_sees_may_change_and_may_be_given_up(old: str, new: str) -> None:
    assert not unjudged(XML, changed((old, new)))
    assert not unjudged(changed((old, new)), XML)


def test_several_parts_may_change_at_once() -> None:
    disk = (
        ("<disk type='file'", "<disk type='block'"),
        ("<source file='/srv/g.qcow2'/>", "<source dev='/dev/vg/g'/>"),
        ("type='qcow2'", "type='raw'"),
    )
    nic = (
        ("<interface type='bridge'>", "<interface type='network'>"),
        ("<source bridge='br0'/>", "<source network='lan' portgroup='a'/>"),
    )
    listen = (("listen='127.0.0.1'", "listen='::'"), ("address='127.0.0.1'", "address='::'"))
    assert not unjudged(XML, changed(*disk, *nic, *listen))


def test_elements_of_different_names_may_stand_in_any_order() -> None:
    target = "<target dev='vda' bus='virtio'/>"
    assert not unjudged(
        XML, changed((target, ""), ("<driver name='qemu'", f"{target}<driver name='qemu'"))
    )


def inside(element: str) -> tuple[str, str]:
    """Another element at the top."""
    return ("<os>", f"{element}<os>")


PAGES_OF_3M = "<hugepages><page size='3' unit='M'/></hugepages>"
OPEN = [
    (("<boot dev='hd'/>", ""), "os/boot", "<boot dev='hd'>", "none"),
    (("<acpi/>", "<acpi/><apic/>"), "features/apic", "none", "<apic>"),
    (("enabled='no'", "enabled='yes'"), "devices/interface/rom/@enabled", "no", "yes"),
    (("bus='0x02'", "bus='0x05'"), "devices/disk/address/@bus", "0x02", "0x05"),
    (
        ("model type='virtio'", "model type='e1000'"),
        "devices/interface/model/@type",
        "virtio",
        "e1000",
    ),
    (("offset='utc'", "offset='localtime'"), "clock/@offset", "utc", "localtime"),
    (("<iothreads>1", "<iothreads>2"), "iothreads", "1", "2"),
    (("port='1'", "port='3'"), "devices/serial[3]/target/@port", "1", "3"),
    # It gives the guest other offloads: "saved image requires vnet_hdr=on".
    (
        ("<interface type='bridge'>", "<interface type='user'>"),
        "devices/interface/@type",
        "bridge or network",
        "user",
    ),
    # A guest that was told of a cache flushes it.
    (
        ("cache='none'", "cache='writethrough'"),
        "devices/disk/driver/@cache",
        "none",
        "writethrough",
    ),
    # Values that libvirt refuses, alone or together.
    (("cache='none'", "cache='often'"), "devices/disk/driver/@cache", "none", "often"),
    (
        ("cache='none'", "cache='writeback' io='native'"),
        "devices/disk/driver/@cache",
        "none",
        "writeback",
    ),
    (
        ("listen='127.0.0.1'>", "listen='0.0.0.0'>"),
        "devices/graphics/@listen",
        "none",
        "0.0.0.0",
    ),
    (("<on_crash>destroy", "<on_crash>smile"), "on_crash", "none", "<on_crash>"),
    (("placement='static'", "cpuset='a-b'"), "vcpu/@cpuset", "none", "a-b"),
    (
        inside("<numatune><memory mode='strikt' nodeset='0'/></numatune>"),
        "numatune",
        "none",
        "<numatune>",
    ),
    (
        inside("<numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>"),
        "numatune",
        "none",
        "<numatune>",
    ),
    (
        inside("<cputune><iothreadpin iothread='2' cpuset='0'/></cputune>"),
        "cputune",
        "none",
        "<cputune>",
    ),
    *(
        (
            inside(f"<memoryBacking>{part}</memoryBacking>"),
            "memoryBacking",
            "none",
            "<memoryBacking>",
        )
        for part in (
            "<source type='memfd'/>",
            PAGES_OF_3M,
            "<hugepages/><allocation mode='ondemand'/>",
        )
    ),
]


@pytest.mark.parametrize(("pair", "path", "guest", "there"), OPEN)
def test_the_first_other_difference_is_named(
    pair: tuple[str, str], path: str, guest: str, there: str
) -> None:
    (open_,) = unjudged(XML, changed(pair))
    assert open_.subject == f"--xml: {path}"
    assert f"the guest has {guest} and the XML has {there};" in open_.why


def test_power_off_that_restarts_and_reboot_that_destroys_do_not_go_together() -> None:
    other = changed(
        ("<on_poweroff>destroy", "<on_poweroff>restart"),
        ("<on_reboot>restart", "<on_reboot>destroy"),
    )
    assert unjudged(XML, other)


def test_postcopy_wants_pages_of_the_same_size() -> None:
    huge = changed(("<os>", HUGE))
    (open_,) = unjudged(XML, huge, MigrationOptions(postcopy=True))
    assert open_.subject == "--xml: memoryBacking"
    assert not unjudged(huge, huge, MigrationOptions(postcopy=True))


def test_memory_of_old_machines_has_another_name_once_its_cells_are_bound() -> None:
    cells = changed(("<cpu mode='host-model' check='partial'/>", CELLS))
    tuned = ("<os>", "<numatune><memnode cellid='1' mode='strict' nodeset='0'/></numatune><os>")
    assert not unjudged(cells, changed(tuned, xml=cells))
    old = cells.replace("pc-q35-7.2", "pc-q35-5.0")
    assert unjudged(old, changed(tuned, xml=old))
    assert unjudged(old, changed(("<os>", HUGE), xml=old))


def test_a_password_is_not_told() -> None:
    (open_,) = unjudged(
        XML, changed(("<graphics type='vnc'", "<graphics type='vnc' passwd='longer than eight'"))
    )
    assert open_.subject.endswith("@passwd")
    assert "longer" not in open_.why


def test_hostile_texts_are_cut_short() -> None:
    (open_,) = unjudged(XML, changed(("offset='utc'", f"offset='{'x' * 5000}'")))
    assert len(open_.why) < 400


def test_what_is_surely_refused_is_not_left_open_as_well() -> None:
    other = changed(("52:54:00:fe:8d:61", "52:54:01:fe:8d:61"))
    (problem,) = changed_xml(given(other), guest_essentials(read_domain(XML)))
    assert isinstance(problem, Problem)
    assert problem.subject == "--xml: NICs"
    assert not unjudged(XML, other)


@pytest.mark.parametrize(
    ("old", "new", "subject"),
    [
        (re.compile("<disk .*</disk>", re.DOTALL), "", "--xml: disks"),
        (re.compile("dev='vda'"), "dev='vdb'", "--xml: disks"),
        (re.compile("<interface .*</interface>", re.DOTALL), "", "--xml: NICs"),
    ],
)
def test_disks_and_nics_must_be_the_same(old: re.Pattern[str], new: str, subject: str) -> None:
    (problem,) = changed_xml(given(old.sub(new, XML)), guest_essentials(read_domain(XML)))
    assert isinstance(problem, Problem)
    assert problem.subject == subject


def test_a_mac_may_be_written_in_any_way() -> None:
    other = changed(("52:54:00:fe:8d:61", "52:54:0:FE:8D:61"))
    assert not list(changed_xml(given(other), guest_essentials(read_domain(XML))))


def test_the_running_guests_own_cpu_is_not_what_it_was_asked_for_with() -> None:
    live = changed(
        (
            "<cpu mode='host-model' check='partial'/>",
            "<cpu mode='custom' match='exact' check='full'><model>EPYC</model></cpu>",
        )
    )
    sent = SentXml(root=read_domain(XML).root)
    mode, check = changed_xml_cpu(given(live), sent)
    assert isinstance(mode, Problem)
    assert isinstance(check, Problem)
    assert (mode.subject, mode.wanted, mode.found) == ("--xml: CPU mode", "host-model", "custom")
    assert check.found == "full"
    assert not unjudged(XML, live)


def test_a_cpu_asked_for_in_the_same_way_is_fine() -> None:
    sent = SentXml(root=read_domain(XML).root)
    assert not list(changed_xml_cpu(given(XML), sent))
    assert not list(changed_xml_cpu(given("<domain"), sent))
    assert not list(changed_xml_cpu(given(changed((" check='partial'", ""))), sent))


def test_very_many_elements_take_no_long_time() -> None:
    many = "".join(f"<x{number}/><seclabel model='{number}'/>" for number in range(50_000))
    (open_,) = unjudged(XML, changed(("<os>", f"{many}<os>")))
    assert open_.subject == "--xml: x0"


def test_another_cpu_is_left_open() -> None:
    (open_,) = unjudged(
        XML,
        changed(
            ("check='partial'/>", "check='partial'><feature policy='require' name='x'/></cpu>")
        ),
    )
    assert open_.subject == "--xml: cpu/feature"


def test_the_xml_that_would_be_sent_is_asked_of_libvirt() -> None:
    domain = read_domain(XML)
    found = sent_xml(FakeSource(answers={("migratable-xml", UUID): XML}), domain, given(XML))
    assert found is not None
    assert found.root.findtext("name") == "g"
    with pytest.raises(SourceError):
        sent_xml(FakeSource(), domain, given(XML))


def test_what_is_no_domain_xml_is_not_compared() -> None:
    bad = given("<domain")
    assert sent_xml(FakeSource(), read_domain(XML), bad) is None
