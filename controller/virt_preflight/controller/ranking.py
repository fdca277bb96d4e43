"""The hosts best first, each with its verdict and reasons. The same answers, the same order."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from virt_preflight.controller.answers import (
    Capacity,
    Claims,
    Finding,
    Heard,
    Report,
    Severity,
    Silent,
    Unanswered,
    Unasked,
    Verdict,
)
from virt_preflight.controller.depth import Depth, shallowest

WEIGHT = {
    Severity.NOTE: Verdict.CLEAR,
    Severity.RISK: Verdict.RISKY,
    Severity.BLOCKER: Verdict.BLOCKED,
}
TAKES_IT = (Verdict.CLEAR, Verdict.RISKY)


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One host that was asked. Findings are the source's and its own, the source's first.

    A struct: of ten thousand hosts each is made, and made again with its rank.
    """

    host: str
    verdict: Verdict
    # The same by what the host itself says, whatever keeps the guest at the source.
    here: Verdict = Verdict.UNSURE
    findings: tuple[Finding, ...] = ()
    unanswered: tuple[Unanswered, ...] = ()
    capacity: Capacity | None = None
    claims: Claims | None = None
    facts_age_ms: int | None = None
    checks_asked: int = 0
    # As deep as the less deeply asked of source and host, None where that has no name here; and
    # why not as deep as wanted, empty when it is.
    depth: Depth | None = None
    shallower: str = ""
    silent: str | None = None
    # What to do about its silence, and whether that is only because nobody asked it.
    next_step: str = ""
    unasked: bool = False
    rank: int | None = None

    @property
    def takes_it(self) -> bool:
        """Whether the guest could be moved there, at a risk or without."""
        return self.verdict in TAKES_IT

    @property
    def free_after_kib(self) -> int | None:
        """Memory left for others once the guest is there; below zero it would be overcommitted."""
        if self.capacity is None or self.claims is None:
            return None
        return self.capacity.memory_free_kib - self.claims.memory_kib

    @property
    def score(self) -> float | None:
        """The share of its memory that a host has left with the guest on it, 0 to 1."""
        if not self.takes_it or self.capacity is None or self.free_after_kib is None:
            return None
        if self.capacity.memory_total_kib == 0:
            return None
        share = self.free_after_kib / self.capacity.memory_total_kib
        return round(min(1.0, max(0.0, share)), 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why hosts cannot take the guest: a check, and how many of them it blocks."""

    check: str
    title: str
    hosts: int


def rank(source: Report | None, answers: Iterable[Heard[Report] | Silent]) -> list[Candidate]:
    """Every host asked, best first.

    By verdict, then by free memory with the guest there, then by fewer findings, then by name.
    """
    ordered = sorted((candidate(source, answer) for answer in answers), key=_order)
    return [
        msgspec.structs.replace(one, rank=place) if one.takes_it else one
        for place, one in enumerate(ordered, start=1)
    ]


def candidate(source: Report | None, answer: Heard[Report] | Silent) -> Candidate:
    """One host's place in the list, still without a rank."""
    if isinstance(answer, Silent):
        return Candidate(
            host=answer.host,
            verdict=Verdict.UNSURE,
            silent=answer.why,
            next_step=answer.next_step,
            unasked=isinstance(answer, Unasked),
        )
    reports = [answer.said] if source is None else [source, answer.said]
    here = judge(answer.said)
    return Candidate(
        host=answer.host,
        verdict=here if source is None else max(judge(source), here),
        here=here,
        findings=tuple(finding for report in reports for finding in report.findings),
        unanswered=tuple(one for report in reports for one in report.unanswered),
        capacity=answer.said.capacity,
        claims=answer.said.claims,
        facts_age_ms=max(report.facts_age_ms for report in reports),
        checks_asked=sum(report.checks_asked for report in reports),
        depth=shallowest(report.depth for report in reports),
        shallower=_shallower(source, answer.said),
    )


def _shallower(source: Report | None, here: Report) -> str:
    """Why not as deep as wanted; each reason once, the source's as the source's."""
    at_source = "" if source is None else source.shallower_because
    reasons = (at_source and f"source: {at_source}", here.shallower_because)
    return "; ".join(filter(None, reasons))


def judge(report: Report) -> Verdict:
    """The worst of what a report holds and of what its agent says.

    Both count: an agent may know a reason that it cannot say in findings of ours, and a finding
    weighs what it weighs whatever the agent made of it.
    """
    found = (weigh(finding) for finding in report.findings)
    unknown = (weigh_unanswered(one) for one in report.unanswered)
    return max(report.stated, *found, *unknown, Verdict.CLEAR)


def weigh(finding: Finding) -> Verdict:
    """What one finding makes of a host. Waived, it stays in sight and weighs nothing."""
    return Verdict.CLEAR if finding.waived else WEIGHT[finding.severity]


def weigh_unanswered(one: Unanswered) -> Verdict:
    """The milder of the check's own weight and UNSURE.

    What could not be read cannot clear a host of a blocker, and a broken note cannot block one.
    """
    if one.waived:
        return Verdict.CLEAR
    if one.severity is None:
        return Verdict.UNSURE
    return min(Verdict.UNSURE, WEIGHT[one.severity])


def reasons(candidates: Sequence[Candidate]) -> list[Reason]:
    """What keeps the guest from the hosts that cannot take it, the commonest first."""
    hosts_by_check: dict[str, set[str]] = {}
    title_by_check: dict[str, str] = {}
    for one in candidates:
        for finding in one.findings:
            if weigh(finding) is Verdict.BLOCKED:
                hosts_by_check.setdefault(finding.check, set()).add(one.host)
                title_by_check.setdefault(finding.check, finding.title)
    counted = [
        Reason(check=check, title=title_by_check[check], hosts=len(hosts))
        for check, hosts in hosts_by_check.items()
    ]
    return sorted(counted, key=lambda reason: (-reason.hosts, reason.check))


def by_name(host: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts h2 before h10, as people count."""
    parts = re.findall(r"[0-9]+|[^0-9]+", host)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], host


def _order(one: Candidate) -> tuple[object, ...]:
    free = one.free_after_kib
    # Whole GiB, as shown: the few pages that come and go must not turn hosts around. What was
    # waived does not count, and yet a host without it goes first. Silent hosts come after those
    # that said why they are unsure, and unknown memory after known.
    return (
        one.verdict,
        sum(finding.waived for finding in one.findings),
        one.silent is not None,
        free is None,
        -((free or 0) // (1024 * 1024)),
        len(one.findings) + len(one.unanswered),
        by_name(one.host),
    )
