"""What libvirt is asked on a destination at each depth, in order."""

from __future__ import annotations

from virt_preflight.agent.asks.compare import compare_cpu
from virt_preflight.agent.asks.native import write_out
from virt_preflight.agent.asks.rehearsal import impossible
from virt_preflight.agent.asks.trial import trial
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.factstore import Question
from virt_preflight.agent.hearing import Hearing, Hearings


def at_destination(
    question: Question,
    domain: Domain,
    depth: Depth,
    rehearsed: Hearing | None = None,
) -> Hearings | None:
    """All that libvirt is asked there, down to that depth; None when it is not asked.

    `rehearsed` is what came of a rehearsal, which is played from the source.
    """
    if depth is Depth.FACTS:
        return None
    source = question.store.for_guests
    heard: list[Hearing | None] = [compare_cpu(question, domain), write_out(source, domain)]
    if depth is Depth.REHEARSAL:
        rehearsed = rehearsed or impossible("nobody played it")
        heard.append(rehearsed)
    # A rehearsal prepares the guest itself: a stand-in shows nothing beyond that.
    if depth is Depth.TRIAL or (rehearsed is not None and rehearsed.impossible):
        heard.append(trial(question, domain, question.store.stage))
    return Hearings(heard=tuple(one for one in heard if one is not None))
