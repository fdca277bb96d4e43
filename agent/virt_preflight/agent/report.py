"""What comes out of a dry run: findings, questions left open, and the verdict over both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum

from virt_preflight.agent.depth import Depth


class Verdict(IntEnum):
    """Ordered from best to worst, so the verdict over many results is their max()."""

    CLEAR = 0
    RISKY = 1
    UNSURE = 2
    BLOCKED = 3


class Severity(IntEnum):
    """How much a finding weighs."""

    NOTE = 0
    RISK = 1
    BLOCKER = 2


class Side(Enum):
    """On which host the cause is, and the remedy."""

    SOURCE = "source"
    DESTINATION = "destination"
    # Of a check alone: each of its findings is of the one or the other.
    EITHER = "either"


class Phase(Enum):
    """The phase of the migration that would trip over it; AFTER: it moves and is worse off."""

    BEGIN = "begin"
    PREPARE = "prepare"
    PERFORM = "perform"
    FINISH = "finish"
    AFTER = "after"


VERDICT_OF_FINDING = {
    Severity.NOTE: Verdict.CLEAR,
    Severity.RISK: Verdict.RISKY,
    Severity.BLOCKER: Verdict.BLOCKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not agree, with the check that found it."""

    check: str
    title: str
    severity: Severity
    side: Side
    phase: Phase
    subject: str
    wanted: str
    found: str
    remedy: str
    commands: tuple[str, ...] = ()
    lasting: bool
    waived: bool = False
    depth: Depth = Depth.FACTS
    # The same in libvirt's own words, where libvirt was asked.
    libvirt_error: str = ""

    @property
    def verdict(self) -> Verdict:
        """What this finding alone makes of the host."""
        return Verdict.CLEAR if self.waived else VERDICT_OF_FINDING[self.severity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A check that could not be answered, wholly (no subject) or for one subject."""

    check: str
    title: str
    severity: Severity
    subject: str = ""
    why: str
    waived: bool = False
    depth: Depth = Depth.FACTS

    @property
    def verdict(self) -> Verdict:
        """The milder of its own weight and UNSURE: a broken NOTE cannot hold a guest back."""
        if self.waived:
            return Verdict.CLEAR
        return min(VERDICT_OF_FINDING[self.severity], Verdict.UNSURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the guest would take of the host."""

    memory_kib: int = 0
    vcpus: int = 0
    pages_by_kib: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the host has for guests: for ranking, not for a verdict."""

    memory_total_kib: int
    memory_free_kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One guest on one host."""

    host: str
    guest_name: str
    guest_uuid: str
    findings: tuple[Finding, ...]
    unanswered: tuple[Unanswered, ...]
    facts_age_s: float
    claims: Claims
    capacity: Capacity | None
    checks_asked: int
    checks_not_applicable: int
    # As deep as this host was asked, and why not deeper where that was wanted.
    depth: Depth = Depth.FACTS
    shallower_because: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst of all results."""
        return worst((*self.findings, *self.unanswered))


def worst(results: Iterable[Finding | Unanswered]) -> Verdict:
    """CLEAR when there is nothing."""
    return max((result.verdict for result in results), default=Verdict.CLEAR)
