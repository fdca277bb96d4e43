"""What came of a rehearsal goes from agent to agent, and the controller changes nothing in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from virt_preflight.agent.asks.rehearsal import ASK
from virt_preflight.agent.check import Problem
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.hearing import Hearing, Said
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.wire import rehearsal, rehearsal_message
from virt_preflight.controller import wire as controller
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import Questions
from virt_preflight.v1 import agent_pb2, guest_pb2

LIVE = MigrationOptions(live=True, p2p=True)
QUESTIONS = Questions()

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
PROBLEMS = st.builds(
    Problem,
    subject=WORDS,
    wanted=WORDS,
    found=WORDS,
    severity=st.sampled_from([None, *Severity]),
    side=st.sampled_from([None, Side.SOURCE, Side.DESTINATION]),
    phase=st.sampled_from([None, *Phase]),
    depth=st.just(Depth.REHEARSAL),
    libvirt_error=WORDS,
)
HEARINGS = st.builds(
    Hearing,
    ask=st.just(ASK),
    depth=st.just(Depth.REHEARSAL),
    said=st.lists(
        st.builds(
            Said, check=WORDS, problem=PROBLEMS, alike=st.lists(WORDS, max_size=3).map(tuple)
        ),
        max_size=3,
    ).map(tuple),
    doubt=WORDS,
    impossible=WORDS,
    decides=st.frozensets(WORDS, max_size=4),
)


@given(HEARINGS)
def test_what_a_rehearsal_heard_and_decided_arrives_by_way_of_the_controller(
    told: Hearing,
) -> None:
    played = agent_pb2.RehearseDryRunResponse(rehearsal=rehearsal_message(told))
    guest = guest_pb2.Guest().SerializeToString()
    # The controller carries it from the one to the other as it came.
    carried = controller.rehearse("u", LIVE, QUESTIONS, "qemu:///system", ()).read(
        played.SerializeToString()
    )
    call = controller.prepare(guest, LIVE, QUESTIONS, carried)
    (heard,) = agent_pb2.PrepareDryRunRequest.FromString(call.request).rehearsals
    assert rehearsal(heard) == told
