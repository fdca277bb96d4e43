import pytest

from tests.agent.fake import FakeSource
from tests.agent.test_schema import GRAMMAR
from virt_preflight.agent.check import Check, CouldNotTell, Problem
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.libvirt import (
    SCHEMAS,
    KnownXml,
    element_unknown,
    known_xml,
    left_behind,
    left_out,
    refused,
)
from virt_preflight.agent.hearing import Hearing, Hearings, Said
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import SourceError, Unreadable

NOTHING_SAID = Hearings(heard=())
SCHEMA = GRAMMAR.format(
    """
    <start>
      <element name='domain'>
        <element name='name'><text/></element>
        <element name='cpu'><element name='topology'><attribute name='cores'/></element></element>
        <element name='features'><element name='acpi'><empty/></element></element>
        <element name='devices'>
          <element name='disk'>
            <element name='driver'><attribute name='name'/></element>
          </element>
        </element>
      </element>
    </start>
    """
)


def known(text: str | SourceError = SCHEMA) -> KnownXml:
    return known_xml(FakeSource(texts={f"{SCHEMAS}/domain.rng": text}))


def found(check: Check[...], inside: str, schema: KnownXml | None = None) -> list[Problem]:
    domain = read_domain(f"<domain><name>g</name>{inside}</domain>")
    problems = list(check(NOTHING_SAID, domain, schema or known()))
    assert all(isinstance(one, Problem) for one in problems)
    return problems  # type: ignore[return-value]


def test_a_part_that_libvirt_would_drop_is_named_with_what_comes_of_it() -> None:
    (problem,) = found(
        element_unknown, "<devices><disk><driver discard_no_unref='on'/></disk></devices>"
    )
    assert problem == Problem(
        subject="devices/disk/driver/@discard_no_unref",
        wanted="known to the libvirt there",
        found="not in its schema: discarded clusters of the image are given back there",
        depth=Depth.LIBVIRT,
    )


def test_the_same_part_of_two_disks_is_told_once() -> None:
    disk = "<disk><driver colour='red'/></disk>"
    assert len(found(element_unknown, f"<devices>{disk}{disk}</devices>")) == 1


@pytest.mark.parametrize(
    "inside",
    [
        "<devices><disk><driver name='qemu'/></disk></devices>",
        # What older libvirts do anyway.
        "<cpu><topology cores='2' clusters='1'/></cpu>",
        # For these there are checks of the family versions.
        "<features><ps2 state='off'/></features>",
        "<devices><pstore backend='acpi-erst'/></devices>",
        "<devices><disk><driver queue_size='512' page_per_vq='on'/></disk></devices>",
    ],
)
def test_what_is_known_or_told_elsewhere_is_not_told(inside: str) -> None:
    assert found(element_unknown, inside) == []


def test_more_than_the_usual_is_told() -> None:
    (problem,) = found(element_unknown, "<cpu><topology cores='2' clusters='2'/></cpu>")
    assert problem.subject == "cpu/topology/@clusters"


@pytest.mark.parametrize("text", [Unreadable("no right"), "<grammar", GRAMMAR.format("")])
def test_a_host_without_its_schema_is_told_so_and_none_the_worse(text: str | SourceError) -> None:
    (problem,) = found(element_unknown, "<new/>", known(text))
    assert problem.severity is Severity.NOTE


def test_what_a_schema_includes_is_read_as_well() -> None:
    texts = {
        f"{SCHEMAS}/domain.rng": GRAMMAR.format("<include href='more.rng'/>"),
        f"{SCHEMAS}/more.rng": SCHEMA,
    }
    assert found(element_unknown, "<devices/>", known_xml(FakeSource(texts=texts))) == []
    del texts[f"{SCHEMAS}/more.rng"]
    assert known_xml(FakeSource(texts=texts)).schema is None


@pytest.mark.parametrize("name", ["../../../etc/shadow", ""])
def test_no_file_elsewhere_is_read(name: str) -> None:
    texts = {f"{SCHEMAS}/domain.rng": GRAMMAR.format(f"<include href='{name}'/>")}
    assert known_xml(FakeSource(texts=texts)).schema is None


def said(check: str, words: str) -> Said:
    problem = Problem(subject="x", wanted="a", found="b", libvirt_error=words)
    return Said(check=check, problem=problem)


def hearings(*words: Said, doubt: str = "") -> Hearings:
    hearing = Hearing(ask="libvirt's Begin phase", depth=Depth.LIBVIRT, said=words, doubt=doubt)
    return Hearings(heard=(hearing,))


def test_words_that_no_check_knows_are_a_refusal_told_once() -> None:
    words = (said("libvirt.refused", "eh"), said("libvirt.refused", "eh"))
    assert [one.subject for one in refused(hearings(*words))] == ["x"]


def test_words_that_a_check_knows_are_that_checks() -> None:
    assert not list(refused(hearings(said("disks.unsafe", "eh"))))


def test_who_was_asked_and_did_not_answer_leaves_it_open() -> None:
    (left,) = refused(hearings(doubt="no answer within 2 s"))
    assert isinstance(left, CouldNotTell)
    assert (left.subject, left.why) == ("libvirt's Begin phase", "no answer within 2 s")


def test_what_a_trial_left_out_is_noted() -> None:
    assert [one.subject for one in left_out(hearings(said("libvirt.left-out", "")))] == ["x"]
    assert not list(left_out(NOTHING_SAID))


def test_a_trial_of_all_of_the_guest_notes_nothing() -> None:
    assert not list(left_out(NOTHING_SAID))


def test_what_a_rehearsal_left_on_the_host_is_told() -> None:
    heard = Hearing(ask="a rehearsal", depth=Depth.REHEARSAL, left=("removed /x: denied",))
    (told,) = left_behind(Hearings(heard=(heard,)))
    assert isinstance(told, Problem)
    assert (told.subject, told.found) == ("a rehearsal", "left undone: removed /x: denied")
    assert told.depth is Depth.REHEARSAL


def test_a_rehearsal_that_put_all_back_tells_nothing_of_it() -> None:
    assert not list(left_behind(hearings(said("libvirt.refused", "eh"))))
    assert not list(left_behind(NOTHING_SAID))
