from __future__ import annotations

import pytest
from lxml import etree

from virt_preflight.agent.asks.cookie import cookie_of, cookie_without
from virt_preflight.agent.xml import BadXml

NAME, UUID = "virt-preflight-dry-run-0a1b2c3d", "99999999-8888-7777-6666-555555555555"
HOST_UUID = "3cc0d625-dd48-55fd-ad54-61030cfd7aff"


def begun(inside: str = "", capabilities: str = "<capabilities/>", **changed: str) -> bytes:
    told = {"hostname": "h1", "hostuuid": HOST_UUID, **changed}
    return (
        "<qemu-migration><name>db1</name><uuid>11111111-2222-3333-4444-555555555555</uuid>"
        + "".join(f"<{tag}>{text}</{tag}>" for tag, text in told.items())
        + f"{inside}{capabilities}</qemu-migration>\n\0"
    ).encode()


def made(cookie: bytes) -> etree._Element:
    return etree.fromstring(cookie_of(cookie, name=NAME, uuid=UUID))


def test_name_and_uuid_become_the_standins() -> None:
    root = made(begun())
    assert (root.findtext("name"), root.findtext("uuid")) == (NAME, UUID)


def test_the_host_that_it_comes_from_stays() -> None:
    root = made(begun())
    assert (root.findtext("hostname"), root.findtext("hostuuid")) == ("h1", HOST_UUID)


def test_what_libvirt_must_know_stays() -> None:
    root = made(begun("<feature name='lockstate'/>"))
    assert [one.get("name") for one in root.findall("feature")] == ["lockstate"]


def test_the_live_cpu_stays_without_numa_cells() -> None:
    root = made(begun("<cpu mode='custom'><model>EPYC</model><numa><cell id='0'/></numa></cpu>"))
    assert root.findtext("cpu/model") == "EPYC"
    assert root.find("cpu/numa") is None


def test_qemus_capabilities_stay() -> None:
    told = "<capabilities><cap name='xbzrle' auto='no'/><cap name='a' auto='evil'/></capabilities>"
    listed = made(begun(capabilities=told)).findall("capabilities/cap")
    assert [(one.get("name"), one.get("auto")) for one in listed] == [
        ("xbzrle", "no"),
        ("a", "no"),
    ]


@pytest.mark.parametrize(
    "inside",
    [
        "<nbd port='1'><disk target='vda' capacity='99999999999'/></nbd>",
        "<lockstate driver='sanlock'><leases>x</leases></lockstate>",
        "<blockDirtyBitmaps><disk target='vda'/></blockDirtyBitmaps>",
        "<domain type='kvm'><name>other</name></domain>",
        "<graphics type='spice' port='1' listen='x'/>",
        "<network><interface vporttype='openvswitch'/></network>",
        "<whatever/>",
    ],
)
def test_nothing_else_is_handed_to_libvirt(inside: str) -> None:
    assert {child.tag for child in made(begun(inside))} == {
        "name",
        "uuid",
        "hostname",
        "hostuuid",
        "capabilities",
    }


@pytest.mark.parametrize(
    "cookie",
    [
        b"",
        b"\0",
        b"not xml",
        b"<domain/>",
        b"<!DOCTYPE q [<!ENTITY a 'b'>]><qemu-migration/>",
        b"<qemu-migration>" + b"x" * 300_000 + b"</qemu-migration>",
        begun(capabilities=""),
        begun(hostname="a\nb"),
        begun(hostname=""),
        begun(hostuuid="zz"),
        begun("<feature/>"),
        begun("<feature name='a b'/>"),
        begun(capabilities="<capabilities><cap/></capabilities>"),
    ],
)
def test_a_cookie_that_is_none_is_not_passed_on(cookie: bytes) -> None:
    with pytest.raises(BadXml):
        cookie_of(cookie, name=NAME, uuid=UUID)


def test_a_cookie_always_has_capabilities_without_which_libvirtd_dies() -> None:
    root = etree.fromstring(cookie_without(name=NAME, uuid=UUID))
    assert root.find("capabilities") is not None


def test_a_guest_of_no_host_comes_from_one_that_there_is_not() -> None:
    first, second = (etree.fromstring(cookie_without(name=NAME, uuid=UUID)) for _ in range(2))
    assert first.findtext("hostuuid") != second.findtext("hostuuid")


def test_a_known_host_is_named_so_that_libvirt_can_refuse_its_own_guest() -> None:
    made = cookie_without(name=NAME, uuid=UUID, host="h1", host_uuid=HOST_UUID)
    assert etree.fromstring(made).findtext("hostuuid") == HOST_UUID


def test_a_host_name_that_is_none_is_not_passed_on() -> None:
    root = etree.fromstring(cookie_without(name=NAME, uuid=UUID, host="h1 <evil>"))
    assert root.findtext("hostname") == "virt-preflight"
