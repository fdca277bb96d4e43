"""What was found, said in a sentence: for one finding, for one host, for the whole fleet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from virt_preflight.controller.answers import Finding, Side, Unanswered, Verdict
from virt_preflight.controller.depth import Depth, shallowest
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.controller.naming import listed
from virt_preflight.controller.ranking import TAKES_IT, Candidate, weigh, weigh_unanswered
from virt_preflight.controller.render.amounts import count
from virt_preflight.controller.render.grouping import Fold, folded

REASONS_SHOWN = 6


def difference(finding: Finding) -> str:
    """`wanted bridge br-prod, found no such link`."""
    parts = (("wanted", finding.wanted), ("found", finding.found))
    return ", ".join(f"{word} {value}" for word, value in parts if value)


def about(finding: Finding) -> str:
    """The difference with what of the guest it is about, or the title when there is neither."""
    return ": ".join(filter(None, (finding.subject, difference(finding)))) or finding.title


def could_not_tell(one: Unanswered) -> str:
    """`could not tell: interface 52:54:00:aa:bb:cc: no answer from libvirt`."""
    return ": ".join(filter(None, ("could not tell", one.subject, one.why)))


def libvirt_says(finding: Finding) -> str:
    """libvirt's own words on one line, where they are not what was found anyway."""
    said = " ".join(finding.libvirt_error.split())
    return "" if said in " ".join(finding.found.split()) else f"libvirt: {said}"


def why(one: Candidate) -> str:
    """The weightiest thing that speaks against a host, and how many more there are.

    What the source found stands in every host's row, and in full below: it must not hide what the
    host has itself, or that it has nothing.
    """
    if one.silent is not None:
        return one.silent
    against = sorted((it for it in _against(one) if it.weight > Verdict.CLEAR), key=_weightiest)
    at_source = [it for it in against if it.side is Side.SOURCE]
    here = [it for it in against if it.side is not Side.SOURCE]
    if at_source and here and at_source[0].weight >= here[0].weight:
        return f"source: {at_source[0].title}; here: {here[0].lead}{_more(len(against) - 2)}"
    if here:
        return f"{here[0].lead}{_more(len(against) - 1)}"
    if at_source:
        return f"source: {at_source[0].title}{_more(len(against) - 1)}; here: nothing"
    if one.verdict > Verdict.CLEAR:
        return "its agent says so and gives no reason"
    return _in_passing(one)


def shallower(one: Candidate, wanted: Depth) -> str:
    """That a host was not asked as deep as wanted, and why; empty when it was."""
    if one.silent is not None:
        return ""
    if one.depth is None and not one.shallower:
        return "does not say how deep it was asked"
    if not one.shallower and shallowest((one.depth, wanted)) is wanted:
        return ""
    depth = one.depth or "that this version has no name for"
    return f"asked at depth {depth}: {_together(one.shallower) or 'no reason given'}"


def _together(reasons: str) -> str:
    """`Begin: no libvirt; Prepare: no libvirt` as `Begin, Prepare: no libvirt`."""
    asks_by_reason: dict[str, list[str]] = {}
    for part in filter(None, reasons.split("; ")):
        ask, _, reason = part.removeprefix("source: ").partition(": ")
        asks_by_reason.setdefault(reason, []).append(ask)
    return "; ".join(
        ": ".join(filter(None, (", ".join(asks), reason)))
        for reason, asks in asks_by_reason.items()
    )


def fleet_sentence(run: DryRun) -> str:
    """The one line that explains the fleet."""
    clear, risky, unsure, silent, unasked, blocked = _parted(run.candidates)
    total = len(run.candidates)
    guest = run.name or "the guest"
    takers = f"{clear or risky} of {count(total, 'host')} can take {guest}{_as_asked(run)}"
    if clear and risky:
        takers += f", {risky} more at a risk"
    elif risky:
        takers += ", but at a risk"
    if blocked == total:
        return f"{takers}: {_reasons(run)}.{_but_for_the_source(run)}"
    sentences = [takers]
    if blocked:
        sentences.append(f"{blocked} cannot: {_reasons(run)}")
    if unsure:
        sentences.append(f"{unsure} could not tell")
    if silent:
        sentences.append(f"{silent} did not answer")
    if unasked:
        sentences.append(f"{unasked} could not be asked")
    return ". ".join(sentences) + "."


def _as_asked(run: DryRun) -> str:
    """What a yes does not cover: checks that were not asked, findings that were waived."""
    takers = [one for one in run.candidates if one.takes_it]
    if not takers:
        return ""
    bounds = ["as far as was asked"] if run.only or run.skip else []
    marks = [it.waived for one in takers for it in one.findings]
    if any(marks) or any(it.waived for one in takers for it in one.unanswered):
        bounds.append("but for what was waived")
    return "".join(f", {bound}" for bound in bounds)


def _but_for_the_source(run: DryRun) -> str:
    """Hosts that nothing but the source keeps the guest from: where to go once that is mended."""
    free = [one.host for one in run.candidates if one.here in TAKES_IT]
    return f" Nothing but what {run.source} has keeps it from {listed(free)}." if free else ""


def _parted(candidates: Sequence[Candidate]) -> tuple[int, int, int, int, int, int]:
    """How many are clear, risky, unsure, silent, not asked and blocked."""
    verdicts = [one.verdict for one in candidates if one.silent is None]
    unasked = sum(one.unasked for one in candidates)
    return (
        verdicts.count(Verdict.CLEAR),
        verdicts.count(Verdict.RISKY),
        verdicts.count(Verdict.UNSURE),
        len(candidates) - len(verdicts) - unasked,
        unasked,
        verdicts.count(Verdict.BLOCKED),
    )


def _reasons(run: DryRun) -> str:
    shown = [f"{reason.hosts} × {reason.title}" for reason in run.reasons[:REASONS_SHOWN]]
    if len(run.reasons) > REASONS_SHOWN:
        shown.append(f"{len(run.reasons) - REASONS_SHOWN} more reasons")
    return ", ".join(shown) or "no reason given"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Objection:
    """One thing against a host: in two or three words, and in full."""

    weight: Verdict
    side: Side
    title: str
    lead: str


def _against(one: Candidate) -> Iterator[_Objection]:
    for finding in one.findings:
        lead = ": ".join(filter(None, (finding.title, difference(finding))))
        yield _Objection(weight=weigh(finding), side=finding.side, title=finding.title, lead=lead)
    for side in Side:
        for item in folded([lack for lack in one.unanswered if lack.side is side]):
            if isinstance(item, Fold):
                title = f"{count(len(item.items), 'check')} could not tell"
                weight = max(map(weigh_unanswered, item.items))
                yield _Objection(
                    weight=weight, side=side, title=title, lead=f"{title} ({item.cause})"
                )
            elif isinstance(item, Unanswered):
                title = f"could not tell: {item.title}"
                weight = weigh_unanswered(item)
                yield _Objection(
                    weight=weight, side=side, title=title, lead=f"{title} ({item.why})"
                )


def _weightiest(it: _Objection) -> int:
    return -it.weight


def _more(number: int) -> str:
    return f", and {number} more" if number else ""


def _in_passing(one: Candidate) -> str:
    """What does not count is still worth a word."""
    marks = [it.waived for it in one.findings] + [it.waived for it in one.unanswered]
    waived, notes = marks.count(True), marks.count(False)
    said = [count(notes, "note")] if notes else []
    return ", ".join(said + ([f"{waived} waived"] if waived else []))
