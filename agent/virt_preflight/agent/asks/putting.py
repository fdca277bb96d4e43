"""What libvirt is asked on a destination at each depth, in order."""

from __future__ import annotations

from virt_preflight.agent.asks.compare import compare_cpu
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.factstore import Question
from virt_preflight.agent.hearing import Hearing, Hearings


def at_destination(
    question: Question,
    domain: Domain,
    depth: Depth,
) -> Hearings | None:
    """All that libvirt is asked there, down to that depth; None when it is not asked."""
    if depth is Depth.FACTS:
        return None
    source = question.store.source
    heard: list[Hearing | None] = [compare_cpu(source, domain)]
    return Hearings(heard=tuple(one for one in heard if one is not None))
