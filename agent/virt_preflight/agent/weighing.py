"""Brings what libvirt said together with what the checks found, under the same ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from virt_preflight.agent.check import AnyCheck
from virt_preflight.agent.hearing import Hearings, Said
from virt_preflight.agent.report import Finding, Severity, Unanswered
from virt_preflight.agent.runner import Outcome, finding, worst_first


def weighed(
    outcome: Outcome, hearings: Hearings, checks: Iterable[AnyCheck], waived: Collection[str]
) -> Outcome:
    """The outcome with libvirt's answers in it. `checks`: those that were asked for.

    What facts found already keeps our words and remedy and gets libvirt's beside them; a question
    that facts left open is closed where libvirt answered it, with a refusal or without one.
    """
    check_by_id = {check.id: check for check in checks}
    findings = list(outcome.findings)
    unanswered = list(outcome.unanswered)
    for _, said in hearings.said():
        check = check_by_id.get(said.check)
        if check is None or any(_is_of(one, said) for one in findings):
            continue
        known = _known(findings, said)
        if known is None:
            findings.append(finding(check, said.problem, waived, lasting=False))
        else:
            findings[known] = replace(
                findings[known],
                libvirt_error=said.problem.libvirt_error,
                severity=max(findings[known].severity, check.severity),
            )
        unanswered = [left for left in unanswered if left.check != said.check]
    settled = frozenset().union(*(hearing.settles for hearing in hearings.heard))
    return replace(
        outcome,
        findings=worst_first(findings),
        unanswered=tuple(left for left in unanswered if not _settled(left, check_by_id, settled)),
    )


def _is_of(one: Finding, said: Said) -> bool:
    """The check itself gave it already, as those of the family `libvirt` do."""
    return (
        one.check == said.check
        and one.depth == said.problem.depth
        and one.libvirt_error == said.problem.libvirt_error
        and one.subject == said.problem.subject
    )


def _known(findings: list[Finding], said: Said) -> int | None:
    """The place of the finding that means the same: best the one whose subject libvirt names."""
    same = [
        number
        for number, one in enumerate(findings)
        if one.check == said.check and not one.libvirt_error
    ]
    named = [number for number in same if _named(findings[number].subject, said)]
    return next(iter((*named, *same)), None)


def _named(subject: str, said: Said) -> bool:
    """Whether libvirt's words hold the last word of the subject: a path, a bridge, an address."""
    words = subject.split()
    return bool(words) and words[-1] in said.problem.libvirt_error


def _settled(
    left: Unanswered, check_by_id: dict[str, AnyCheck], settled: frozenset[object]
) -> bool:
    """A blocker of a part of the migration that libvirt went through is no blocker."""
    check = check_by_id.get(left.check)
    if check is None or left.severity is not Severity.BLOCKER:
        return False
    return check.family != "libvirt" and (check.side, check.phase) in settled
