from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controller.samples import BRIDGE, LACK, LEASE, PAGES, PASSTHROUGH, REMARK, heard, report
from virt_preflight.controller.answers import Heard, Report, Severity, Silent, Verdict
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.ranking import (
    Candidate,
    Reason,
    by_name,
    candidate,
    judge,
    rank,
    reasons,
)

SILENT = Silent(host="h9", why="no answer within 5 s")


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (report(), Verdict.CLEAR),
        (report(REMARK), Verdict.CLEAR),
        (report(PASSTHROUGH), Verdict.RISKY),
        (report(PASSTHROUGH, BRIDGE), Verdict.BLOCKED),
        (report(replace(BRIDGE, waived=True), PASSTHROUGH), Verdict.RISKY),
        (report(unanswered=[LACK]), Verdict.UNSURE),
        (report(unanswered=[replace(LACK, severity=Severity.RISK)]), Verdict.RISKY),
        (report(unanswered=[replace(LACK, severity=Severity.NOTE)]), Verdict.CLEAR),
        (report(unanswered=[replace(LACK, severity=None)]), Verdict.UNSURE),
        (report(unanswered=[replace(LACK, waived=True)]), Verdict.CLEAR),
        (report(unanswered=[replace(LACK, severity=None, waived=True)]), Verdict.CLEAR),
        (report(BRIDGE, unanswered=[LACK]), Verdict.BLOCKED),
    ],
)
def test_the_verdict_is_the_worst_that_counts(said: Report, verdict: Verdict) -> None:
    assert judge(said) is verdict


def test_an_agent_that_knows_worse_than_it_can_say_is_believed() -> None:
    assert judge(report(stated=Verdict.BLOCKED)) is Verdict.BLOCKED


def test_an_agent_that_makes_light_of_a_blocker_is_not() -> None:
    assert judge(report(BRIDGE, stated=Verdict.CLEAR)) is Verdict.BLOCKED


def test_what_the_source_finds_holds_for_every_destination() -> None:
    ranked = rank(report(LEASE), [heard("h2"), heard("h3", PASSTHROUGH)])
    assert [one.verdict for one in ranked] == [Verdict.BLOCKED, Verdict.BLOCKED]
    assert ranked[0].findings == (LEASE,)
    assert ranked[1].findings == (LEASE, PASSTHROUGH)


def test_what_the_source_could_not_tell_leaves_every_destination_unsure() -> None:
    one = candidate(report(unanswered=[LACK]), heard("h2"))
    assert (one.verdict, one.unanswered) == (Verdict.UNSURE, (LACK,))


def test_facts_are_as_old_as_the_oldest_of_both_sides() -> None:
    old = replace(report(), facts_age_ms=900)
    assert candidate(old, heard("h2")).facts_age_ms == 900
    assert candidate(None, heard("h2")).facts_age_ms == 120


def test_a_silent_host_is_unsure_and_keeps_its_reason() -> None:
    one = candidate(report(BRIDGE), SILENT)
    assert (one.verdict, one.silent) == (Verdict.UNSURE, "no answer within 5 s")
    assert (one.findings, one.rank, one.score) == ((), None, None)


def test_hosts_come_by_verdict_then_memory_then_findings_then_name() -> None:
    ranked = rank(
        None,
        [
            SILENT,
            heard("h6", BRIDGE, free_gib=250),
            heard("h10", free_gib=50),
            heard("h2", free_gib=50),
            heard("h3", REMARK, free_gib=50),
            heard("h4", free_gib=None),
            heard("h5", PASSTHROUGH, free_gib=200),
            heard("h7", unanswered=[LACK]),
            heard("h1", free_gib=60),
        ],
    )
    assert [one.host for one in ranked] == [
        *("h1", "h2", "h10", "h3", "h4"),
        *("h5", "h7", "h9", "h6"),
    ]
    assert [one.rank for one in ranked] == [1, 2, 3, 4, 5, 6, None, None, None]


def test_the_score_is_the_share_of_memory_left_with_the_guest_there() -> None:
    assert candidate(None, heard("h2", free_gib=136)).score == 0.5
    assert candidate(None, heard("h2", free_gib=4)).score == 0.0
    assert candidate(None, heard("h2", free_gib=None)).score is None
    assert candidate(None, heard("h2", BRIDGE)).score is None


def test_a_host_with_no_memory_at_all_has_no_score() -> None:
    answer = heard("h2", free_gib=0)
    assert answer.said.capacity is not None
    none = replace(answer.said.capacity, memory_total_kib=0)
    assert candidate(None, replace(answer, said=replace(answer.said, capacity=none))).score is None


def test_reasons_count_hosts_and_not_findings() -> None:
    second = replace(BRIDGE, subject="interface 52:54:00:00:00:02")
    ranked = rank(None, [heard("h2", BRIDGE, second), heard("h3", BRIDGE, PAGES), heard("h4")])
    assert reasons(ranked) == [
        Reason(check="nics.bridge-absent", title="bridge absent", hosts=2),
        Reason(check="pages.too-few-free", title="too few free huge pages", hosts=1),
    ]


def test_what_does_not_block_is_no_reason() -> None:
    waived = replace(BRIDGE, waived=True)
    assert reasons(rank(None, [heard("h2", PASSTHROUGH, waived, unanswered=[LACK])])) == []


def test_names_sort_as_people_count() -> None:
    assert sorted(["h10", "h2", "a", "h2b", "10", "9"], key=by_name) == [
        *("9", "10", "a", "h2", "h2b", "h10")
    ]


Answer = Heard[Report] | Silent

HOSTS = st.lists(
    st.builds(
        lambda number, free, kind: heard(f"h{number}", *kind, free_gib=free),
        st.integers(0, 30),
        st.none() | st.integers(0, 256),
        st.sampled_from([(), (BRIDGE,), (PASSTHROUGH,), (REMARK, PAGES)]),
    )
    | st.builds(lambda number: Silent(host=f"h{number}", why="gone"), st.integers(31, 40)),
    unique_by=lambda answer: answer.host,
    max_size=12,
)


@given(HOSTS, st.randoms(use_true_random=False))
def test_the_order_of_the_answers_never_matters(answers: list[Answer], random: Random) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)
    assert rank(None, shuffled) == rank(None, answers)


@given(HOSTS)
def test_no_host_is_ever_lost_and_no_worse_one_comes_first(answers: list[Answer]) -> None:
    ranked = rank(None, answers)
    assert {one.host for one in ranked} == {answer.host for answer in answers}
    verdicts = [one.verdict for one in ranked]
    assert verdicts == sorted(verdicts)
    assert all(_has_rank_only_if_it_takes_it(one) for one in ranked)


def _has_rank_only_if_it_takes_it(one: Candidate) -> bool:
    return (one.rank is not None) == one.takes_it


def test_a_host_is_as_deep_as_the_less_deeply_asked_of_source_and_host() -> None:
    shallow = replace(report(), depth=Depth.FACTS, shallower_because="Begin: libvirt is too old")
    here = replace(report(), depth=Depth.LIBVIRT, shallower_because="trial: no such driver")
    one = candidate(shallow, Heard(host="h2", said=here))
    assert one.depth is Depth.FACTS
    assert one.shallower == "source: Begin: libvirt is too old; trial: no such driver"
    assert candidate(None, Heard(host="h2", said=here)).shallower == "trial: no such driver"
    assert candidate(report(), heard("h2")).shallower == ""


def test_a_depth_that_has_no_name_here_may_be_any() -> None:
    odd = replace(report(), depth=None)
    assert candidate(odd, heard("h2")).depth is None
