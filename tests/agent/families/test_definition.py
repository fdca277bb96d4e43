from __future__ import annotations

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.definition import (
    KEPT as PLACE,
)
from virt_preflight.agent.families.definition import (
    GuestWords,
    KeptPlace,
    StoredWords,
    ToBeKept,
    guest_words,
    kept_place,
    known_stored_words,
    known_words,
    no_place,
    not_told,
    stored_refused,
    stored_words,
    to_be_kept,
    word_unknown,
)
from virt_preflight.agent.families.versions import SCHEMA
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.sources import FileStat, Want

KEPT = MigrationOptions(persistent=True)
NEW = "<devices><audio id='1' type='pipewire'/></devices>"
# As the schema of libvirt 11.3 has it, shortened; 9.0 has it not.
KNOWS = FakeSource(
    texts={SCHEMA: "<value>pipewire</value><element name='xmm_input'/><element name=\"ps2\">"}
)
OLDER = FakeSource(texts={SCHEMA: "<value>spice</value><element name='ps4'/>"})


def read(inside: str) -> GuestWords | None:
    return guest_words(read_domain(f"<domain><name>g</name>{inside}</domain>"))


def stored(inside: str, options: MigrationOptions = KEPT) -> StoredWords | None:
    xml = f"<domain><name>g</name>{inside}</domain>".encode()
    return stored_words(GuestOrigin(host_name="h1", host_uuid="1", stored_xml=xml), options)


def test_what_every_libvirt_knows_is_not_looked_for() -> None:
    assert (
        read(
            "<cpu mode='custom'/><features><hyperv mode='custom'><relaxed state='on'/></hyperv>"
            "</features><devices><audio id='1' type='none'/><sound model='ich9'/></devices>"
        )
        is None
    )


def test_a_value_that_came_later_is_refused() -> None:
    words = read(NEW)
    assert words is not None
    (problem,) = word_unknown(known_words(OLDER, words))
    assert problem == Problem(
        subject="<audio type='pipewire'>", wanted="known to libvirt", found="not in its schema"
    )


def test_a_hyperv_feature_that_came_later_is_refused() -> None:
    words = read("<features><hyperv mode='custom'><xmm_input state='on'/></hyperv></features>")
    assert words is not None
    (problem,) = word_unknown(known_words(OLDER, words))
    assert isinstance(problem, Problem)
    assert problem.subject == "<hyperv><xmm_input>"
    assert not list(word_unknown(known_words(KNOWS, words)))


def test_a_value_that_the_schema_has_is_known() -> None:
    words = read(NEW)
    assert words is not None
    assert not list(word_unknown(known_words(KNOWS, words)))


def test_what_is_kept_travels_only_with_persistent() -> None:
    assert stored(NEW, MigrationOptions()) is None
    assert stored("<devices/>") is None
    assert stored_words(GuestOrigin(host_name="h1", host_uuid="1"), KEPT) is None


def test_what_is_kept_is_refused_as_what_runs() -> None:
    words = stored(f"{NEW}<features><ps2 state='on'/></features>")
    assert words is not None
    refusals = list(stored_refused(known_stored_words(OLDER, words)))
    assert [one.subject for one in refusals] == ["<audio type='pipewire'>", "<features><ps2>"]


def test_what_is_kept_passes_where_its_words_are_known() -> None:
    words = stored(f"{NEW}<features><ps2 state='on'/></features>")
    assert words is not None
    assert not list(stored_refused(known_stored_words(KNOWS, words)))


def test_a_definition_that_the_source_could_not_give_is_left_open() -> None:
    origin = GuestOrigin(host_name="h1", host_uuid="1", unlearned={"stored_xml": "hung"})
    (left,) = not_told(origin, KEPT)
    assert left == CouldNotTell(subject="the guest's stored definition", why="hung")


def test_a_definition_that_does_not_travel_is_not_missed() -> None:
    origin = GuestOrigin(host_name="h1", host_uuid="1", unlearned={"stored_xml": "hung"})
    assert not list(not_told(origin, MigrationOptions()))
    assert not list(not_told(GuestOrigin(host_name="h1", host_uuid="1"), KEPT))


def place(kind: str = "dir", *, writable: bool = True) -> KeptPlace:
    found = FileStat(kind=kind, size_bytes=0, mode=0o700, uid=0, gid=0, device=1, inode=1)
    return kept_place(
        FakeSource(stats={PLACE: found}, mays={(PLACE, Want.WRITE, "root"): writable})
    )


def test_a_definition_that_cannot_be_written_ends_the_move_when_all_has_arrived() -> None:
    (problem,) = no_place(ToBeKept(), place(writable=False))
    assert isinstance(problem, Problem)
    assert (problem.subject, problem.found) == (
        f"directory {PLACE}",
        "libvirtd may not write there",
    )
    (other,) = no_place(ToBeKept(), place("file"))
    assert isinstance(other, Problem)
    assert other.found == "no directory"


def test_where_libvirtd_may_write_or_makes_the_directory_a_definition_is_kept() -> None:
    assert not list(no_place(ToBeKept(), place()))
    assert not list(no_place(ToBeKept(), kept_place(FakeSource())))


def test_what_only_runs_is_not_written_down() -> None:
    assert to_be_kept(MigrationOptions()) is None
    assert to_be_kept(KEPT) == ToBeKept()
    assert no_place.offline
