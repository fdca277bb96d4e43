import pytest

from virt_preflight.agent.schema import included, read_schema
from virt_preflight.agent.xml import BadXml, parse

GRAMMAR = "<grammar xmlns='http://relaxng.org/ns/structure/1.0'>{}</grammar>"
TOP = GRAMMAR.format("<start><ref name='domain'/></start><include href='parts.rng'/>")
PARTS = GRAMMAR.format(
    """
    <define name='domain'>
      <element name='domain'>
        <interleave>
          <attribute name='type'/>
          <optional><element name='name'><text/></element></optional>
          <zeroOrMore><ref name='disk'/></zeroOrMore>
          <optional><element name='metadata'><ref name='any'/></element></optional>
        </interleave>
      </element>
    </define>
    <define name='disk'>
      <element name='disk'>
        <choice>
          <group>
            <attribute name='type'><value>file</value></attribute>
            <element name='source'><attribute name='file'/></element>
          </group>
          <group>
            <attribute name='type'><value>block</value></attribute>
            <element name='source'><attribute name='dev'/></element>
          </group>
        </choice>
        <element><choice><name>driver</name><name>motor</name></choice><empty/></element>
      </element>
    </define>
    <define name='disk' combine='choice'>
      <element name='disk'><element name='more'><ref name='disk'/></element></element>
    </define>
    <define name='any'>
      <element><anyName/><zeroOrMore><ref name='any'/></zeroOrMore></element>
    </define>
    """
)
SCHEMA = read_schema({"domain.rng": TOP, "parts.rng": PARTS}, "domain.rng")


def unknown(xml: str) -> list[tuple[str, str]]:
    return [(part.path, part.value) for part in SCHEMA.unknown(parse(xml))]


@pytest.mark.parametrize(
    "known",
    [
        "<domain type='kvm'><name>g</name></domain>",
        "<domain><disk type='file'><source file='/a'/><driver/><motor/></disk></domain>",
        # Not together, but each name is one that it knows: values are refused, not dropped.
        "<domain><disk type='tape'><source file='/a' dev='/b'/></disk></domain>",
        "<domain><disk><more><disk><source dev='/b'/></disk></more></disk></domain>",
        "<domain><metadata><x y='1'><z/></x></metadata></domain>",
        "<domain xmlns:q='urn:q' q:at='1'><q:commandline><q:arg/></q:commandline></domain>",
    ],
)
def test_what_it_has_a_name_for_is_known(known: str) -> None:
    assert unknown(known) == []


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("<domain colour='red'/>", [("@colour", "red")]),
        ("<domain><disk><source slot='1'/></disk></domain>", [("disk/source/@slot", "1")]),
        ("<domain><disk><name/></disk></domain>", [("disk/name", "")]),
        # With it goes all that is in it.
        ("<domain><tape speed='2'><reel/></tape></domain>", [("tape", "")]),
        ("<domain><tape/><tape/></domain>", [("tape", ""), ("tape", "")]),
    ],
)
def test_what_it_has_no_name_for_is_named_by_its_path(
    xml: str, expected: list[tuple[str, str]]
) -> None:
    assert unknown(xml) == expected


def test_a_schema_of_something_else_is_none_of_a_domain() -> None:
    with pytest.raises(BadXml, match="knows no <network>"):
        unknown("<network/>")


def test_a_file_that_is_not_there_is_missed() -> None:
    with pytest.raises(KeyError):
        read_schema({"domain.rng": TOP}, "domain.rng")


def test_files_that_include_each_other_are_read_once() -> None:
    ring = GRAMMAR.format("<include href='domain.rng'/><start><ref name='domain'/></start>")
    assert read_schema({"domain.rng": ring}, "domain.rng").definitions_by_name == {}
    assert list(included(ring)) == ["domain.rng"]
