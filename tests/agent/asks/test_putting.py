"""Many guests in one question: each has its share of the time, and who has none is told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.agent.asks.test_trial import FakeStage
from virt_preflight.agent.asks.putting import SHALLOW_S, TRIAL_S, share_s
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.service import AgentServicer
from virt_preflight.agent.sources.patience import Patience
from virt_preflight.agent.sources.recording import load
from virt_preflight.agent.sources.stage import Act
from virt_preflight.v1 import agent_pb2, guest_pb2

RECORDINGS = Path(__file__).parents[2] / "recordings"
GUEST = guest_pb2.Guest(domain_xml=(RECORDINGS / "guests/db1.xml").read_bytes())


@dataclass(kw_only=True)
class SlowStage(FakeStage):
    """Each trial takes that long by the clock that it moves on itself."""

    takes_s: float
    now: list[float] = field(default_factory=lambda: [0.0])

    def trial(self, act: Act) -> bytes:
        self.now[0] += self.takes_s
        return super().trial(act)


def asked(guests: int, *, within_s: float, takes_s: float) -> list[tuple[int, str]]:
    """For each guest its depth, and why it is no deeper."""
    stage = SlowStage(takes_s=takes_s)
    store = FactStore(
        source=load(RECORDINGS / "h2"),
        catalogue=catalogue(),
        clock=lambda: stage.now[0],
        stage=stage,
    )
    request = agent_pb2.PrepareDryRunRequest(
        guests=[GUEST] * guests, questions=guest_pb2.Questions(depth=guest_pb2.DEPTH_TRIAL)
    )
    servicer = AgentServicer(host="h2", store=store, policy=Policy())
    reports = servicer._prepare(request, within_s).reports
    return [(one.depth, _of_the_trial(one.shallower_because)) for one in reports]


def _of_the_trial(because: str) -> str:
    """A recording has no libvirt, and says so first."""
    return "; ".join(part for part in because.split("; ") if "trial" in part)


NO_TIME = "no time was left for it: ask about fewer guests at once, or wait longer"


def test_whom_there_is_time_for_is_tried() -> None:
    assert [why for _, why in asked(3, within_s=9, takes_s=2.5)] == ["", "", ""]


def test_who_finds_no_time_says_so_and_answers_at_the_next_shallower_depth() -> None:
    first, second, third = asked(3, within_s=3, takes_s=2.5)
    assert first[1] == ""
    for depth, why in (second, third):
        assert why == f"a trial of libvirt's Prepare phase: {NO_TIME}"
        assert depth < guest_pb2.DEPTH_TRIAL


@given(
    st.lists(st.floats(0, 1.5), min_size=1, max_size=20),
    st.floats(0.1, 30),
)
def test_each_has_his_share_and_all_together_end_in_time(
    takes: list[float], within_s: float
) -> None:
    now = 0.0
    for number, wanted in enumerate(takes):
        later = len(takes) - 1 - number
        share = share_s(within_s - now, later)
        if share >= TRIAL_S:
            now += min(wanted, share)
        assert now <= max(0.0, within_s - later * SHALLOW_S) + 1e-9
        # What another leaves of his share is everybody's.
        assert share >= (within_s - later * SHALLOW_S - now) / (later + 1) - wanted - 1e-9


def test_a_share_within_the_callers_time_is_never_more_than_that() -> None:
    now = 0.0
    patience = Patience(lambda: now)
    with patience.within(2):
        with patience.within(5):
            assert patience.left_s() == 2
        with patience.within(1):
            assert patience.left_s() == 1
        assert patience.left_s() == 2, "and the rest is there again"
    assert patience.left_s() == math.inf
