"""A refusal in libvirt's words, under the id of the check that looks for the same fault."""

from __future__ import annotations

from virt_preflight.agent.asks.translate import translate
from virt_preflight.agent.check import Problem
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.hearing import Said
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import LibvirtRefused

# VIR_ERR_OPERATION_UNSUPPORTED, libvirt/virterror.h: the question itself is beyond that hypervisor.
NOT_THERE = 84


def said_of(error: LibvirtRefused, *, depth: Depth, side: Side, phase: Phase) -> Said:
    """What is not in the table of errors stands as `libvirt.refused`: it is never lost."""
    words = str(error)
    known = translate(error.code, error.domain, words)
    return Said(
        check=known.check if known else "libvirt.refused",
        alike=known.alike if known else (),
        problem=Problem(
            subject=(known.subject if known else "") or "the guest",
            wanted=(known.wanted if known else "") or "libvirt to let it pass",
            found=(known.found if known else "") or words,
            side=side,
            phase=phase,
            # Whatever weight our own check gives to it: libvirt refuses.
            severity=Severity.BLOCKER,
            depth=depth,
            libvirt_error=words,
        ),
    )
