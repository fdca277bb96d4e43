from __future__ import annotations

from virt_preflight.agent.asks.rehearsal_xml import rewritten
from virt_preflight.agent.xml import Element, parse

GUEST = b"""<domain><name>db1</name><devices>
<disk type='file'><source file='/srv/a.img'><seclabel model='dac' relabel='yes'/></source></disk>
<disk type='block'><source dev='/dev/vg/b'/></disk>
<disk type='file'><source file='/srv/c.img'>
<seclabel model='selinux' relabel='yes'/></source></disk>
<serial type='file'><source path='/var/log/db1.log' append='off'/></serial>
<console type='pty'><source path='/dev/pts/3'/><log file='/var/log/console.log'/></console>
<channel type='unix'><source mode='bind' path='/run/c.sock'/></channel>
</devices></domain>"""


def root(*keep: str) -> Element:
    return parse(rewritten(GUEST, keep))


def at(found: Element, path: str) -> Element:
    element = found.find(path)
    assert element is not None
    return element


def labels(found: Element, number: int) -> list[tuple[str | None, str | None]]:
    source = found.findall("devices/disk/source")[number]
    return [(label.get("model"), label.get("relabel")) for label in source.findall("seclabel")]


def test_log_files_are_appended_to() -> None:
    found = root()
    assert at(found, "devices/serial/source").get("append") == "on"
    assert at(found, "devices/console/log").get("append") == "on"


def test_what_is_no_log_file_is_left_as_it_is() -> None:
    found = root()
    assert at(found, "devices/console/source").items() == [("path", "/dev/pts/3")]
    assert "append" not in at(found, "devices/channel/source").attrib


def test_a_disk_that_qemu_may_open_keeps_its_owner() -> None:
    found = root("/srv/a.img", "/dev/vg/b", "/srv/c.img")
    assert labels(found, 0) == [("dac", "no")]
    assert labels(found, 1) == [("dac", "no")]
    # Other security models have their own say.
    assert labels(found, 2) == [("selinux", "yes"), ("dac", "no")]


def test_a_disk_that_it_may_not_open_is_handed_over_as_a_migration_does() -> None:
    found = root("/srv/other.img")
    assert labels(found, 0) == [("dac", "yes")]
    assert labels(found, 1) == []


def test_nothing_else_is_changed() -> None:
    plain = b"<domain><name>db1</name><devices><emulator>/q</emulator></devices></domain>"
    assert rewritten(plain, ()).split(b"\n")[-1] == plain
