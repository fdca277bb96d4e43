"""A dry run for people: hosts best first, every finding with its remedy, and what to do next."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from virt_preflight.controller.answers import Finding, Severity, Side, Unanswered
from virt_preflight.controller.depth import Depth, shallowest
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.controller.naming import listed
from virt_preflight.controller.ranking import Candidate
from virt_preflight.controller.render.amounts import count, memory, seconds
from virt_preflight.controller.render.forms import Form, Look
from virt_preflight.controller.render.grouping import (
    Block,
    Fold,
    Item,
    blocks,
    folded,
    source_block,
)
from virt_preflight.controller.render.painting import (
    STYLE_BY_VERDICT,
    Part,
    columns,
    indented,
    paint,
    unbroken,
    words,
)
from virt_preflight.controller.render.sentences import (
    about,
    could_not_tell,
    fleet_sentence,
    libvirt_says,
    shallower,
    why,
)
from virt_preflight.controller.render.silence import named, next_steps

MARK_BY_SEVERITY = {
    Severity.BLOCKER: ("✗", "red"),
    Severity.RISK: ("!", "yellow"),
    Severity.NOTE: ("·", "dim"),
}
NOT_KNOWN = ("?", "magenta")
NOBODY_ANSWERED = "not found: no host answered, any may have it"
FIRST_ONLY = "libvirt names the first thing that it refuses: ask again once that is mended."
# For the one open question that leaves most others open with it.
CURE_BY_CHECK = {
    "daemon.not-answering": "See why libvirtd hangs on that host (systemctl status libvirtd"
    " virtqemud), restart it, and ask again: guests go on running meanwhile.",
}


def dry_run_table(run: DryRun, form: Form, look: Look) -> str:
    """The whole page."""
    return paint(list(_parts(run, form)), look)


def _parts(run: DryRun, form: Form) -> Iterator[Part]:
    yield words(head(run))
    yield ""
    yield indented(_wide_hosts(run) if form is Form.WIDE else _hosts(run))
    yield from _shallower(run, form)
    for block in _blocks(run):
        yield ""
        yield words(_heading(block, run, form), "bold")
        yield indented(_items(block, form))
    yield from _first_refusals(run)
    yield from next_steps(_steps(run), form)
    yield ""
    yield words(fleet_sentence(run))
    yield from _next_step(run)


def head(run: DryRun) -> str:
    """`db1 on h1 · 4 vCPUs · takes 8 GiB · depth facts · 5 hosts asked in 0.21 s`."""
    guest = run.name or "the guest"
    if run.source is not None:
        parts = [f"{guest} on {run.source}"]
    else:
        nowhere = "running nowhere yet"
        parts = [f"{guest}, {nowhere if run.from_file else NOBODY_ANSWERED}"]
    if run.claims:
        parts += [count(run.claims.vcpus, "vCPU"), f"takes {memory(run.claims.memory_kib)}"]
    parts.append(_depths(run))
    if run.only:
        parts.append(f"only {listed(run.only)}")
    if run.skip:
        parts.append(f"without {listed(run.skip)}")
    parts.append(f"{count(len(run.candidates), 'host')} asked in {seconds(run.took_ms)}")
    return " · ".join(parts)


def _depths(run: DryRun) -> str:
    """As deep as the hosts were asked, and what was asked for where that is deeper."""
    depths = [one.depth for one in run.candidates if one.silent is None]
    if not depths:
        return f"depth {run.depth} asked for"
    as_wanted = [depth for depth in depths if shallowest((depth, run.depth)) is run.depth]
    if len(as_wanted) == len(depths):
        return f"depth {run.depth}"
    if as_wanted:
        return f"depth {run.depth} on {len(as_wanted)} of {len(depths)} hosts, see below"
    reached = [str(depth) for depth in Depth if depth in depths]
    reached += ["unknown"] if None in depths else []
    return f"depth {' or '.join(reached)} ({run.depth} asked for, see below)"


def _hosts(run: DryRun) -> Table:
    table = columns("HOST", "VERDICT", "FREE", "WHY", right=["FREE"])
    for one in run.candidates:
        table.add_row(words(one.host), _verdict(one), _free(one), words(why(one)))
    return table


def _wide_hosts(run: DryRun) -> Table:
    numbers = ("RANK", "SCORE", "FREE", "AFTER", "TOTAL", "FACTS", "CHECKS")
    table = columns("HOST", "VERDICT", "DEPTH", *numbers, "WHY", right=numbers)
    for one in run.candidates:
        table.add_row(
            words(one.host),
            _verdict(one),
            str(one.depth or "-"),
            _or_dash(one.rank),
            _or_dash(one.score),
            _free(one),
            "-" if one.free_after_kib is None else memory(one.free_after_kib),
            "-" if one.capacity is None else memory(one.capacity.memory_total_kib),
            "-" if one.facts_age_ms is None else seconds(one.facts_age_ms),
            _or_dash(one.checks_asked or None),
            words(why(one)),
        )
    return table


def _verdict(one: Candidate) -> Text:
    return Text(one.verdict.name, style=STYLE_BY_VERDICT[one.verdict])


def _free(one: Candidate) -> str:
    return "-" if one.capacity is None else memory(one.capacity.memory_free_kib)


def _or_dash(number: float | None) -> str:
    return "-" if number is None else f"{number}"


def _shallower(run: DryRun, form: Form) -> Iterator[Part]:
    """Hosts that were not asked as deep as wanted: their verdict rests on less."""
    hosts_by_why: dict[str, list[str]] = {}
    for one in run.candidates:
        if said := shallower(one, run.depth):
            hosts_by_why.setdefault(said, []).append(one.host)
    if hosts_by_why:
        yield ""
    for said, hosts in hosts_by_why.items():
        yield indented(words(f"{named(hosts, form)}: {said}", "yellow"))


def _blocks(run: DryRun) -> list[Block]:
    found = blocks(run.candidates, run.source_report)
    if run.source is None or run.source_report is None:
        return found
    at_source = source_block(run.source, run.source_report)
    return [at_source, *found] if at_source.items else found


def _first_refusals(run: DryRun) -> Iterator[Part]:
    """Facts name all that does not agree; what only libvirt found may have more behind it."""
    found = [finding for one in run.candidates for finding in one.findings]
    if any(
        one.libvirt_error and one.severity is Severity.BLOCKER and one.depth is not Depth.FACTS
        for one in found
    ):
        yield ""
        yield words(FIRST_ONLY, "dim")


def _heading(block: Block, run: DryRun, form: Form) -> str:
    if block.hosts == (run.source,):
        return f"{run.source}, the source: whatever the destination"
    return named(block.hosts, form)


def _items(block: Block, form: Form) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    if form is Form.WIDE:
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in folded(block.items):
        label = Text.assemble(_mark(item), " ", words(_label(item)))
        depth = [words(_depth(item))] if form is Form.WIDE else []
        table.add_row(label, *depth, _text(item, form))
    return table


def _mark(item: Item | Fold) -> tuple[str, str]:
    if isinstance(item, Finding):
        return MARK_BY_SEVERITY[item.severity]
    return NOT_KNOWN


def _label(item: Item | Fold) -> str:
    return count(len(item.items), "check") if isinstance(item, Fold) else item.check


def _depth(item: Item | Fold) -> str:
    """Which depth found it, or could not."""
    found = [one.depth for one in item.items] if isinstance(item, Fold) else [item.depth]
    return ", ".join(depth for depth in Depth if depth in found) or "-"


def _text(item: Item | Fold, form: Form) -> Text:
    match item:
        case Finding():
            return _finding(item)
        case Unanswered():
            return _unanswered(item)
        case Fold():
            return _fold(item, form)


def _finding(finding: Finding) -> Text:
    lines = [words(about(finding) + _waived(finding))]
    if said := libvirt_says(finding):
        lines.append(words(said))
    if finding.remedy:
        lines.append(words(finding.remedy, "dim"))
    where = " (on the source)" if finding.side is Side.SOURCE else ""
    lines += (words(f"# {command}{where}", "cyan") for command in finding.commands)
    return Text("\n").join(lines)


def _unanswered(one: Unanswered) -> Text:
    lines = [words(could_not_tell(one) + _waived(one)), *_cure([one])]
    return Text("\n").join(lines)


def _fold(fold: Fold, form: Form) -> Text:
    lines = [words(f"unanswered: {fold.cause}" + _waived(fold.items[0])), *_cure(fold.items)]
    if form is Form.WIDE:
        checks = dict.fromkeys(one.check for one in fold.items)
        lines.append(words(", ".join(checks), "dim"))
    return Text("\n").join(lines)


def _cure(open_questions: Sequence[Unanswered]) -> Iterator[Text]:
    """What would let them be answered, where that is known."""
    for check in dict.fromkeys(one.check for one in open_questions):
        if check in CURE_BY_CHECK:
            yield words(CURE_BY_CHECK[check], "dim")


def _waived(item: Item) -> str:
    return " · waived" if item.waived else ""


def _steps(run: DryRun) -> dict[str, str]:
    """What to do about each silent host; who was not asked waits for the source."""
    return {
        (run.source if one.unasked and run.source else one.host): one.next_step
        for one in run.candidates
    }


def _next_step(run: DryRun) -> Iterator[Part]:
    best = run.candidates[0]
    command = run.command_by_host.get(best.host)
    if command is not None:
        yield unbroken(f"To move it: {command}")
