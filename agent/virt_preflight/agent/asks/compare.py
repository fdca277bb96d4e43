"""libvirt's own comparison of the guest's live CPU with what the destination can give."""

from __future__ import annotations

import re
from dataclasses import replace

from virt_preflight.agent.asks.refusals import NOT_THERE, said_of
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.factstore import Question
from virt_preflight.agent.families.cpu import GuestCpu, HostCpu, KnownCpus
from virt_preflight.agent.families.cpu.rules import (
    GIVEN_BY_KVM,
    IGNORED,
    QEMU_SHOWS_HT,
    THREADED,
    lacking,
)
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.hearing import Hearing, Said
from virt_preflight.agent.report import Phase, Side
from virt_preflight.agent.sources import Impossible, LibvirtRefused, SourceError
from virt_preflight.agent.xml import text_form, text_of

ASK = "libvirt's CPU comparison"
# qemuConnectCompareHypervisorCPU and virCPUx86Compare, in all their wordings.
NAMED = re.compile(r"provide required features: ([\w.-]+(?:, ?[\w.-]+)*)$")


def compare_cpu(question: Question, domain: Domain) -> Hearing | None:
    """virConnectCompareHypervisorCPU, incompatible ones refused, of the live CPU.

    It names the features that are missing. None when nothing follows from its answer: a CPU that
    was only asked for, or is passed through, is not what libvirt compares when a guest arrives.
    """
    cpu = domain.root.find("cpu")
    kind = domain.root.find("os/type")
    if cpu is None or kind is None or cpu.get("check") != "full":
        return None
    try:
        question.store.for_guests.libvirt(
            "compare-cpu",
            text_of(domain.root, "devices/emulator") or "",
            kind.get("arch", ""),
            kind.get("machine", ""),
            domain.root.get("type", ""),
            text_form(cpu).decode(),
        )
    except LibvirtRefused as error:
        # Of architectures that it has no rules for, and of QEMUs that tell too little.
        if error.code == NOT_THERE:
            return None
        said = said_of(error, depth=Depth.LIBVIRT, side=Side.DESTINATION, phase=Phase.PREPARE)
        left = _left(said, excused(question))
        return Hearing(ask=ASK, depth=Depth.LIBVIRT, said=(left,) if left else ())
    except Impossible as error:
        return Hearing(ask=ASK, depth=Depth.LIBVIRT, impossible=str(error))
    except SourceError as error:
        return Hearing(ask=ASK, depth=Depth.LIBVIRT, doubt=str(error))
    return Hearing(ask=ASK, depth=Depth.LIBVIRT)


def excused(question: Question) -> frozenset[str]:
    """Features that it misses though a migration would not, or of which only the source knows.

    It holds the guest against what a host-model guest would get there; a migration against what
    QEMU then turns on (virCPUx86UpdateLive), and that is more: topoext on every AMD host, in the
    lab for each guest with a CPU of that kind.
    """
    guest, host = question.value(GuestCpu), question.value(HostCpu)
    excuses = IGNORED
    if not isinstance(guest, GuestCpu) or not isinstance(host, HostCpu):
        return excuses | GIVEN_BY_KVM | THREADED
    if guest.virt_type == "kvm":
        excuses |= GIVEN_BY_KVM
        if host.qemu is None or host.qemu >= QEMU_SHOWS_HT or guest.threads == 1:
            excuses |= THREADED
    seen, known = question.value(SeenCapabilities), question.value(KnownCpus)
    if isinstance(seen, SeenCapabilities) and isinstance(known, KnownCpus):
        excuses |= lacking(guest, seen, known, host).open
    return excuses


def _left(said: Said, excuses: frozenset[str]) -> Said | None:
    """What it said less those features; None when nothing remains of it.

    It is no refusal of the guest yet: a migration holds no vendor against it, for one. So it has
    the weight that its check gives it.
    """
    said = replace(said, problem=replace(said.problem, severity=None))
    named = NAMED.search(said.problem.libvirt_error)
    if named is None:
        return said
    features = frozenset(re.split(r", ?", named[1]))
    if not features & excuses:
        return said
    if features <= excuses:
        return None
    wanted = ", ".join(sorted(features - excuses))
    return replace(said, problem=replace(said.problem, wanted=wanted))
