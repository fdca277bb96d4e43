"""What libvirt itself said when it was asked, where no other check has a name for it."""

from __future__ import annotations

from virt_preflight.agent.check import CouldNotTell, Problems, check
from virt_preflight.agent.hearing import Hearings
from virt_preflight.agent.report import Phase, Severity, Side


@check(
    "libvirt.refused",
    Severity.BLOCKER,
    title="libvirt refuses it",
    remedy="libvirt's own words say what it wants; the real migration would end with them.",
    side=Side.EITHER,
    phase=Phase.PREPARE,
)
def refused(hearings: Hearings) -> Problems:
    """libvirt was asked, and said no in words that no other check knows.

    From the depth `libvirt` on. A refusal whose words are known stands under the id of the check
    that looks for the same fault. Where libvirt was asked and did not answer, or may not be asked,
    this is left open.
    """
    for _, said in hearings.said():
        if said.check == "libvirt.refused":
            yield said.problem
    for hearing in hearings.heard:
        if hearing.doubt:
            yield CouldNotTell(subject=hearing.ask, why=hearing.doubt, depth=hearing.depth)
