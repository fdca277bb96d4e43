from __future__ import annotations

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.definition import (
    GuestWords,
    StoredWords,
    guest_words,
    known_stored_words,
    known_words,
    not_told,
    stored_refused,
    stored_words,
    word_unknown,
)
from virt_preflight.agent.families.versions import SCHEMA
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin

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
