import time

import pytest

from virt_preflight.agent.domain import complete, read_domain
from virt_preflight.agent.xml import MAX_BYTES, BadXml, bitmap, kib, number, parse

BOMB = (
    b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(
        b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"&a;" * 10)
        for n in range(12)
    )
    + b"]><domain><name>&a11;</name></domain>"
)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"garbage", "line 1: Start tag expected"),
        (b"\xff\xfe\x00", "line 1: "),
        (b"<domain><name>g</name>", "line 1: "),
        (b"<domain>\n<name>g</title>", "line 2: Opening and ending tag mismatch"),
        (b"<network><name>n</name></network>", "line 1: <network>: the root element is no <dom"),
        (b"<domain/>", "line 1: <domain>: has no <name>"),
        (b"<domain><name> </name></domain>", "has no <name>"),
        (b"<domain><name>../x</name></domain>", "must hold no /"),
        (b"<domain><name>x</name><uuid>nonsense</uuid></domain>", "is no UUID"),
        (b"<domain>" + b"<a>" * 10_000 + b"</a>" * 10_000 + b"</domain>", "Excessive depth"),
        (b"<domain>" + b"x" * MAX_BYTES + b"</domain>", f"at most {MAX_BYTES} are read"),
        (BOMB, "line 1: "),
        (b"<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain><name>x</name></domain>", "type decl"),
    ],
)
def test_bad_xml_is_one_sentence_that_says_where(document: bytes, why: str) -> None:
    started = time.monotonic()
    with pytest.raises(BadXml) as caught:
        read_domain(document)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 5


WHOLE = """<domain type='kvm'>
<name>g</name>
<memory>1024</memory>
<os><type>hvm</type></os>
</domain>"""


@pytest.mark.parametrize(
    ("part", "instead", "why"),
    [
        (" type='kvm'", "", "line 1: <domain>: has no attribute type, as in <domain type='kvm'>"),
        (" type='kvm'", " type=''", "line 1: <domain>: has no attribute type"),
        ("<memory>1024</memory>", "", "line 1: <domain>: has no <memory>"),
        ("<memory>1024", "<memory>0", "line 3: <memory>: is 0"),
        ("<memory>1024", "<memory>much", "line 3: <memory>: its text is 'much', wanted a number"),
        ("<memory>", "<memory unit='parsec'>", "line 3: <memory>: unit 'parsec' is not known"),
        ("<os><type>hvm</type></os>", "", "line 1: <domain>: has no <os> with a <type>"),
        ("<type>hvm</type>", "", "line 4: <os>: has no <type>, as <type>hvm</type>"),
        ("<type>hvm</type>", "<type> </type>", "line 4: <os>: has no <type>"),
    ],
)
def test_what_no_libvirt_does_without_is_named_with_its_place(
    part: str, instead: str, why: str
) -> None:
    with pytest.raises(BadXml) as caught:
        complete(read_domain(WHOLE.replace(part, instead)))
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("", ""),
        ("<memory>1024</memory>", "<cpu><numa><cell memory='1024'/></numa></cpu>"),
        ("<os><type>hvm</type></os>", "<bootloader>/usr/bin/pygrub</bootloader>"),
    ],
    ids=["as it is", "memory in cells", "paravirtual"],
)
def test_what_libvirt_can_make_up_may_be_left_out(part: str, instead: str) -> None:
    domain = read_domain(WHOLE.replace(part, instead) if part else WHOLE)
    assert complete(domain) is domain


def test_a_uuid_is_written_in_one_way() -> None:
    assert read_domain(
        "<domain><name>x</name><uuid>AAAAAAAABBBBCCCCDDDD000000000001</uuid></domain>"
    ).uuid == ("aaaaaaaa-bbbb-cccc-dddd-000000000001")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("<memory>1024</memory>", 1024),
        ("<memory unit='b'>1025</memory>", 2),
        ("<memory unit='GB'>1</memory>", 976563),
        ("<memory unit='GiB'> 2 </memory>", 2 * 1024 * 1024),
    ],
)
def test_memory_is_scaled_as_libvirt_does(document: str, expected: int) -> None:
    assert kib(parse(document)) == expected


@pytest.mark.parametrize("document", ["<memory/>", "<memory>-1</memory>", "<memory>٣</memory>"])
def test_what_is_no_number_is_refused_with_its_place(document: str) -> None:
    with pytest.raises(BadXml, match="line 1: <memory>: its text is"):
        number(parse(document))


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(BadXml, match="unit 'parsec' is not known"):
        kib(parse("<memory unit='parsec'>1</memory>"))


def test_bitmaps_are_read_as_libvirt_does() -> None:
    assert bitmap("0-3,^2,8") == {0, 1, 3, 8}


@pytest.mark.parametrize("text", ["", "a", "3-1", "0-99999999", "^1-2", "1,,2"])
def test_what_is_no_bitmap_is_refused(text: str) -> None:
    with pytest.raises(BadXml):
        bitmap(text)
