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


@check(
    "libvirt.element-unknown",
    Severity.RISK,
    title="this libvirt drops a part of the guest",
    remedy="Upgrade libvirt there, or take what it does not know out of the guest beforehand.",
    phase=Phase.PREPARE,
)
def element_unknown(hearings: Hearings) -> Problems:
    """A libvirt passes over elements and attributes that it does not know, without a word.

    The guest arrives without them. Where one changes a device, as page_per_vq does, the stream
    does not fit and the migration ends with "Bad config data".
    """
    for _, said in hearings.said():
        if said.check == "libvirt.element-unknown":
            yield said.problem


@check(
    "libvirt.left-out",
    Severity.NOTE,
    title="not a part of the trial",
    remedy="Ask at the depth `rehearsal` to have it prepared as well.",
    phase=Phase.PREPARE,
)
def left_out(hearings: Hearings) -> Problems:
    """A trial leaves out what it could not take back, or what others than this host would notice.

    Devices that the host would have to give up, programs and scripts beside QEMU, ports of virtual
    switches. For these the facts alone speak.
    """
    for _, said in hearings.said():
        if said.check == "libvirt.left-out":
            yield said.problem
