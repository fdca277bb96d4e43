"""What was found, said in a sentence: for one finding, for one host, for the whole fleet."""

from collections.abc import Sequence

from virt_preflight.controller.answers import Finding, Side, Unanswered, Verdict
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.controller.ranking import Candidate, weigh, weigh_unanswered
from virt_preflight.controller.render.amounts import count

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


def why(one: Candidate) -> str:
    """The weightiest thing that speaks against a host, and how many more there are."""
    if one.silent is not None:
        return one.silent
    against = [
        *((weigh(finding), _lead(finding)) for finding in one.findings),
        *((weigh_unanswered(lack), _lack(lack)) for lack in one.unanswered),
    ]
    counted = sorted((it for it in against if it[0] > Verdict.CLEAR), key=lambda it: -it[0])
    if counted:
        more = f", and {len(counted) - 1} more" if len(counted) > 1 else ""
        return counted[0][1] + more
    if one.verdict > Verdict.CLEAR:
        return "its agent says so and gives no reason"
    return _in_passing(one)


def fleet_sentence(run: DryRun) -> str:
    """The one line that explains the fleet."""
    clear, risky, unsure, silent, blocked = _parted(run.candidates)
    total = len(run.candidates)
    guest = run.name or "the guest"
    takers = f"{clear or risky} of {count(total, 'host')} can take {guest}"
    if clear and risky:
        takers += f", {risky} more at a risk"
    elif risky:
        takers += ", but at a risk"
    if blocked == total:
        return f"{takers}: {_reasons(run)}."
    sentences = [takers]
    if blocked:
        sentences.append(f"{blocked} cannot: {_reasons(run)}")
    if unsure:
        sentences.append(f"{unsure} could not tell")
    if silent:
        sentences.append(f"{silent} did not answer")
    return ". ".join(sentences) + "."


def _parted(candidates: Sequence[Candidate]) -> tuple[int, int, int, int, int]:
    """How many are clear, risky, unsure, silent and blocked."""
    verdicts = [one.verdict for one in candidates if one.silent is None]
    return (
        verdicts.count(Verdict.CLEAR),
        verdicts.count(Verdict.RISKY),
        verdicts.count(Verdict.UNSURE),
        len(candidates) - len(verdicts),
        verdicts.count(Verdict.BLOCKED),
    )


def _reasons(run: DryRun) -> str:
    shown = [f"{reason.hosts} × {reason.title}" for reason in run.reasons[:REASONS_SHOWN]]
    if len(run.reasons) > REASONS_SHOWN:
        shown.append(f"{len(run.reasons) - REASONS_SHOWN} more reasons")
    return ", ".join(shown) or "no reason given"


def _lead(finding: Finding) -> str:
    where = "source" if finding.side is Side.SOURCE else ""
    return ": ".join(filter(None, (where, finding.title, difference(finding))))


def _lack(one: Unanswered) -> str:
    where = "source: " if one.side is Side.SOURCE else ""
    return f"{where}could not tell: {one.title} ({one.why})"


def _in_passing(one: Candidate) -> str:
    """What does not count is still worth a word."""
    marks = [it.waived for it in one.findings] + [it.waived for it in one.unanswered]
    waived, notes = marks.count(True), marks.count(False)
    said = [count(notes, "note")] if notes else []
    return ", ".join(said + ([f"{waived} waived"] if waived else []))
