"""Brings what libvirt said together with what the checks found, under the same ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from virt_preflight.agent.check import AnyCheck
from virt_preflight.agent.hearing import Hearings, Said
from virt_preflight.agent.report import Finding, Unanswered
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
    answered: set[str] = set()
    for _, said in hearings.said():
        check = check_by_id.get(said.check)
        if check is None:
            continue
        answered |= {said.check, *said.alike}
        known = _known(findings, said)
        if known is None:
            findings.append(finding(check, said.problem, waived, lasting=False))
            continue
        findings[known] = _beside(findings[known], said, check)
    return replace(
        outcome,
        findings=worst_first(findings),
        unanswered=tuple(
            left
            for left in outcome.unanswered
            if left.check not in answered and not _decided(left, hearings)
        ),
    )


def _beside(known: Finding, said: Said, check: AnyCheck) -> Finding:
    """Our words with libvirt's. The deeper it was asked, the nearer they are to a migration's."""
    severity = check.severity if said.problem.severity is None else said.problem.severity
    return replace(
        known,
        libvirt_error=said.problem.libvirt_error or known.libvirt_error,
        severity=max(known.severity, severity),
    )


def _known(findings: Sequence[Finding], said: Said) -> int | None:
    """The place of the finding that means the same.

    libvirt ends with its first error: what it refuses under an id that is found already is that,
    best the one whose subject it names, else one that it has not spoken of. What is not in its
    words, but seen in what it made of the guest, may be many: there the subject decides.
    """
    words = said.problem.libvirt_error
    of_check = [number for number, one in enumerate(findings) if one.check == said.check]
    if not words:
        same = [number for number in of_check if findings[number].subject == said.problem.subject]
        return next(iter(same), None)
    if said.check == "libvirt.refused":  # no id at all: only the same words are the same fault
        return next((at for at in of_check if findings[at].libvirt_error == words), None)
    alike = [number for number, one in enumerate(findings) if one.check in said.alike]
    named = [number for number in of_check if _named(findings[number].subject, words)]
    unspoken = [number for number in of_check if not findings[number].libvirt_error]
    return next(iter((*named, *unspoken, *of_check, *alike)), None)


def _named(subject: str, words: str) -> bool:
    """Whether libvirt's words hold the last word of the subject: a path, a bridge, an address."""
    parts = subject.split()
    return bool(parts) and parts[-1] in words


def _decided(left: Unanswered, hearings: Hearings) -> bool:
    """Whether libvirt was asked the very question, and had nothing against the guest."""
    return any(left.check in hearing.decides for hearing in hearings.heard)
