from virt_preflight.agent.asks.decided import DECIDED_BY_REHEARSAL
from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.fact import Pace
from virt_preflight.agent.families.libvirt import refused
from virt_preflight.agent.hearing import Hearing, Hearings, Said
from virt_preflight.agent.report import Phase, Severity, Side, Verdict
from virt_preflight.agent.runner import Known, Outcome, examine
from virt_preflight.agent.weighing import weighed


class Guest:
    """A fact, so that the checks below have one to ask for."""


@check("test_weighing.absent", Severity.BLOCKER, title="absent", remedy="make it")
def absent(_guest: Guest) -> Problems:
    """Two bridges are missing."""
    yield Problem(subject="bridge br1", wanted="br1", found="none")
    yield Problem(subject="bridge br2", wanted="br2", found="none")


@check("test_weighing.slow", Severity.RISK, title="slow", remedy="wait")
def slow(_guest: Guest) -> Problems:
    """Only a risk, as far as facts go."""
    yield Problem(subject="disk vda", wanted="fast", found="slow")


@check(
    "test_weighing.left-open",
    Severity.BLOCKER,
    title="open",
    remedy="ask",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def left_open(_guest: Guest) -> Problems:
    """Nobody can tell from facts."""
    yield CouldNotTell(subject="vda", why="who knows")


@check("test_weighing.undecided", Severity.BLOCKER, title="undecided", remedy="wait")
def undecided(_guest: Guest) -> Problems:
    """Of the default side and phase, and nobody has listed it anywhere."""
    yield CouldNotTell(subject="vdb", why="not before it arrives")


CHECKS = (absent, slow, left_open, undecided, refused)


def outcome(hearings: Hearings) -> Outcome:
    given = {Guest: Guest(), Hearings: hearings}
    found = examine(CHECKS, lambda asked: Known(value=given[asked], pace=Pace.FIXED))
    return weighed(found, hearings, CHECKS, ())


def heard(*hearings: Hearing) -> Outcome:
    return outcome(Hearings(heard=hearings))


def hearing(*said: Said, depth: Depth = Depth.LIBVIRT) -> Hearing:
    return Hearing(ask="libvirt's word", depth=depth, said=said)


def said(
    check: str,
    words: str,
    *,
    subject: str = "the guest",
    depth: Depth = Depth.LIBVIRT,
    alike: tuple[str, ...] = (),
) -> Said:
    problem = Problem(
        subject=subject,
        wanted="pass",
        found="no",
        severity=Severity.BLOCKER,
        depth=depth,
        libvirt_error=words,
    )
    return Said(check=check, problem=problem, alike=alike)


def errors(found: Outcome, check: str) -> dict[str, str]:
    return {one.subject: one.libvirt_error for one in found.findings if one.check == check}


def open_in(found: Outcome) -> set[str]:
    return {one.check for one in found.unanswered}


def test_libvirts_words_stand_beside_the_finding_whose_subject_they_name() -> None:
    found = heard(hearing(said("test_weighing.absent", "no bridge 'br2'")))
    assert errors(found, "test_weighing.absent") == {
        "bridge br1": "",
        "bridge br2": "no bridge 'br2'",
    }
    assert {one.depth for one in found.findings} == {Depth.FACTS}, "facts found it first"


def test_words_that_name_none_stand_beside_the_first() -> None:
    found = heard(hearing(said("test_weighing.absent", "no such device")))
    assert errors(found, "test_weighing.absent")["bridge br1"] == "no such device"


def test_the_same_fault_said_at_two_depths_is_one_finding_in_the_deepers_words() -> None:
    shallow = hearing(said("test_weighing.absent", "br2: absent"))
    deep = hearing(said("test_weighing.absent", "br2: gone", depth=Depth.TRIAL), depth=Depth.TRIAL)
    found = heard(shallow, deep)
    assert errors(found, "test_weighing.absent") == {"bridge br1": "", "bridge br2": "br2: gone"}


def test_what_facts_took_for_a_risk_and_libvirt_refuses_is_a_blocker() -> None:
    found = heard(hearing(said("test_weighing.slow", "too slow")))
    (one,) = [one for one in found.findings if one.check == "test_weighing.slow"]
    assert (one.severity, one.wanted) == (Severity.BLOCKER, "fast")


def test_what_facts_did_not_find_is_a_finding_of_its_own() -> None:
    found = heard(hearing(said("test_weighing.left-open", "it is not so", subject="vdb")))
    (one,) = [one for one in found.findings if one.check == "test_weighing.left-open"]
    assert (one.subject, one.depth, one.libvirt_error) == ("vdb", Depth.LIBVIRT, "it is not so")
    assert "test_weighing.left-open" not in open_in(found), "and the question is answered"


def test_the_same_words_for_another_fault_go_to_the_one_that_facts_found() -> None:
    found = heard(hearing(said("libvirt.refused", "x", alike=("test_weighing.slow",))))
    assert errors(found, "libvirt.refused") == {"the guest": "x"}, "no id at all is no alias"
    found = heard(hearing(said("test_weighing.left-open", "x", alike=("test_weighing.slow",))))
    assert errors(found, "test_weighing.slow") == {"disk vda": "x"}
    assert errors(found, "test_weighing.left-open") == {}


def test_words_that_nobody_knows_are_told_once() -> None:
    found = heard(hearing(said("libvirt.refused", "eh")), hearing(said("libvirt.refused", "eh")))
    assert errors(found, "libvirt.refused") == {"the guest": "eh"}
    assert len([one for one in found.findings if one.check == "libvirt.refused"]) == 1


def test_parts_that_libvirt_dropped_are_told_one_by_one() -> None:
    dropped = [said("test_weighing.slow", "", subject=part) for part in ("a", "b", "a")]
    found = heard(hearing(*dropped))
    assert list(errors(found, "test_weighing.slow")) == ["a", "b", "disk vda"]


def test_all_that_facts_found_stays() -> None:
    found = heard(hearing(said("test_weighing.absent", "br1")))
    assert len(found.findings) == 3


def test_a_question_that_libvirt_decided_is_closed() -> None:
    decided = Hearing(
        ask="Begin", depth=Depth.LIBVIRT, decides=frozenset({"test_weighing.left-open"})
    )
    assert "test_weighing.left-open" in open_in(heard())
    assert "test_weighing.left-open" not in open_in(heard(decided))


def test_a_blocker_that_a_rehearsal_cannot_decide_stays_open() -> None:
    played = Hearing(ask="the rehearsal", depth=Depth.REHEARSAL, decides=DECIDED_BY_REHEARSAL)
    left = next(one for one in heard(played).unanswered if one.check == "test_weighing.undecided")
    assert left.verdict is Verdict.UNSURE


def test_who_decided_something_else_leaves_it_open() -> None:
    other = Hearing(ask="Prepare", depth=Depth.TRIAL, decides=frozenset({"test_weighing.absent"}))
    assert "test_weighing.left-open" in open_in(heard(other))


def test_an_ask_without_an_answer_leaves_the_verdict_open() -> None:
    found = heard(Hearing(ask="Begin", depth=Depth.LIBVIRT, doubt="no answer within 2 s"))
    (one,) = [one for one in found.unanswered if one.check == "libvirt.refused"]
    assert (one.subject, one.why) == ("Begin", "no answer within 2 s")
    assert one.severity is Severity.BLOCKER
