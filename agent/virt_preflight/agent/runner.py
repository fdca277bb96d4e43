"""Puts every check to the facts. Pure: no clock, no host, no network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from virt_preflight.agent.check import AnyCheck, CouldNotTell, Problem
from virt_preflight.agent.fact import Pace, Unknown
from virt_preflight.agent.report import Finding, Unanswered


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one type of fact; `value` is None when the guest has none of it."""

    value: object | Unknown | None
    pace: Pace
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What all checks together had to say of one guest on one host."""

    findings: tuple[Finding, ...]
    unanswered: tuple[Unanswered, ...]
    asked: int
    not_applicable: int
    facts_age_s: float


def examine(
    checks: Iterable[AnyCheck],
    known: Callable[[type], Known],
    waived: Collection[str] = (),
) -> Outcome:
    """Ask every check. One that raises is unanswered, and the others go on."""
    findings: list[Finding] = []
    unanswered: list[Unanswered] = []
    asked = not_applicable = 0
    oldest = 0.0
    for check in checks:
        facts = _applying(check, known)
        if facts is None:
            not_applicable += 1
            continue
        asked += 1
        values: list[object] = []
        missing: list[str] = []
        lasting = True
        for fact in facts:
            values.append(fact.value)
            oldest = max(oldest, fact.age_s)
            lasting = lasting and fact.pace is Pace.FIXED
            if isinstance(fact.value, Unknown):
                missing.append(fact.value.why)
        if missing:
            why = "; ".join(dict.fromkeys(missing))
            unanswered.append(_unanswered(check, CouldNotTell(subject="", why=why), waived))
            continue
        try:
            for yielded in check.function(*values):
                match yielded:
                    case Problem():
                        findings.append(finding(check, yielded, waived, lasting=lasting))
                    case CouldNotTell():
                        unanswered.append(_unanswered(check, yielded, waived))
        except Exception as error:  # noqa: BLE001 - one broken check must not cost the answer
            broken = CouldNotTell(subject="", why=f"the check itself broke: {error!r}")
            unanswered.append(_unanswered(check, broken, waived))
    return Outcome(
        findings=worst_first(findings),
        unanswered=tuple(sorted(unanswered, key=lambda left: -left.severity)),
        asked=asked,
        not_applicable=not_applicable,
        facts_age_s=oldest,
    )


def _applying(check: AnyCheck, known: Callable[[type], Known]) -> list[Known] | None:
    """The facts that it asks for; None as soon as the guest has none of one, and no more asked."""
    facts = []
    for asked_type in check.asks:
        fact = known(asked_type)
        if fact.value is None:
            return None
        facts.append(fact)
    return facts


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """In the order in which they are told; those that do not count come last."""
    return tuple(sorted(findings, key=lambda one: (one.waived, -one.severity)))


def finding(
    check: AnyCheck, problem: Problem, waived: Collection[str], *, lasting: bool
) -> Finding:
    """A problem with all that its check says of such problems."""
    return Finding(
        check=check.id,
        title=check.title,
        severity=check.severity if problem.severity is None else problem.severity,
        side=problem.side or check.side,
        phase=problem.phase or check.phase,
        subject=problem.subject,
        wanted=problem.wanted,
        found=problem.found,
        remedy=problem.remedy or check.remedy,
        commands=problem.commands,
        lasting=lasting,
        waived=check.id in waived,
        depth=problem.depth,
        libvirt_error=problem.libvirt_error,
    )


def _unanswered(check: AnyCheck, left: CouldNotTell, waived: Collection[str]) -> Unanswered:
    return Unanswered(
        check=check.id,
        title=check.title,
        severity=check.severity,
        subject=left.subject,
        why=left.why,
        waived=check.id in waived,
        depth=left.depth,
    )
