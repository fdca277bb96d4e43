from collections.abc import Iterator
from dataclasses import dataclass

from virt_preflight.agent.check import AnyCheck, CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Pace, Unknown
from virt_preflight.agent.report import Severity, Verdict, worst
from virt_preflight.agent.runner import Known, Outcome, examine


@dataclass(frozen=True)
class Wanted:
    count: int


@dataclass(frozen=True)
class There:
    count: int


def made(severity: Severity) -> AnyCheck:
    @check("test_runner.too-few", severity, title="too few", remedy="Get more.")
    def too_few(wanted: Wanted, there: There) -> Problems:
        """Counts what is there against what is wanted."""
        if there.count < 0:
            raise ValueError("less than nothing")
        if there.count == 0:
            yield CouldNotTell(subject="them", why="it is dark")
        elif there.count < wanted.count:
            yield Problem(subject="them", wanted=str(wanted.count), found=str(there.count))

    return too_few


def asked(
    severity: Severity, wanted: object, there: object, waived: tuple[str, ...] = ()
) -> Outcome:
    def known(asked_type: type) -> Known:
        value = wanted if asked_type is Wanted else there
        return Known(value=value, pace=Pace.MOVING if asked_type is There else Pace.FIXED, age_s=3)

    return examine([made(severity)], known, waived)


def verdicts(wanted: object, there: object) -> Iterator[Verdict]:
    for severity in (Severity.NOTE, Severity.RISK, Severity.BLOCKER):
        outcome = asked(severity, wanted, there)
        yield worst((*outcome.findings, *outcome.unanswered))


def test_a_problem_weighs_what_its_check_weighs() -> None:
    assert list(verdicts(Wanted(2), There(1))) == [Verdict.CLEAR, Verdict.RISKY, Verdict.BLOCKED]


def test_nothing_yielded_means_fine() -> None:
    assert list(verdicts(Wanted(2), There(2))) == [Verdict.CLEAR] * 3


def test_an_unknown_fact_never_clears_and_never_blocks() -> None:
    milder = [Verdict.CLEAR, Verdict.RISKY, Verdict.UNSURE]
    assert list(verdicts(Wanted(2), Unknown("dark"))) == milder
    assert list(verdicts(Wanted(2), There(0))) == milder


def test_a_check_that_breaks_is_unanswered_and_says_so() -> None:
    (left,) = asked(Severity.BLOCKER, Wanted(2), There(-1)).unanswered
    assert "less than nothing" in left.why
    assert left.verdict is Verdict.UNSURE


def test_not_applicable_is_not_asked() -> None:
    outcome = asked(Severity.BLOCKER, None, Unknown("dark"))
    assert (outcome.asked, outcome.not_applicable, outcome.unanswered) == (0, 1, ())


def test_a_waived_finding_stays_and_does_not_count() -> None:
    outcome = asked(Severity.BLOCKER, Wanted(2), There(1), waived=("test_runner.too-few",))
    assert outcome.findings[0].waived
    assert worst(outcome.findings) is Verdict.CLEAR


def test_a_finding_lasts_only_if_all_its_facts_do() -> None:
    assert not asked(Severity.RISK, Wanted(2), There(1)).findings[0].lasting


def test_the_oldest_fact_tells_the_age() -> None:
    assert asked(Severity.RISK, Wanted(2), There(1)).facts_age_s == 3
