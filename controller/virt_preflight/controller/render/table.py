"""A dry run for people: hosts best first, every finding with its remedy, and what to do next."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from virt_preflight.controller.answers import Finding, Severity, Side, Unanswered
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.controller.naming import listed
from virt_preflight.controller.ranking import Candidate
from virt_preflight.controller.render.amounts import count, memory, seconds
from virt_preflight.controller.render.forms import Form, Look
from virt_preflight.controller.render.grouping import Block, Item, blocks, source_block
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
    why,
)

MARK_BY_SEVERITY = {
    Severity.BLOCKER: ("✗", "red"),
    Severity.RISK: ("!", "yellow"),
    Severity.NOTE: ("·", "dim"),
}
NOT_KNOWN = ("?", "magenta")


def dry_run_table(run: DryRun, form: Form, look: Look) -> str:
    """The whole page."""
    return paint(list(_parts(run, form)), look)


def _parts(run: DryRun, form: Form) -> Iterator[Part]:
    yield words(head(run))
    yield ""
    yield indented(_wide_hosts(run) if form is Form.WIDE else _hosts(run))
    for block in _blocks(run):
        yield ""
        yield words(_heading(block, run, form), "bold")
        yield indented(_items(block))
    yield ""
    yield words(fleet_sentence(run))
    yield from _next_step(run)


def head(run: DryRun) -> str:
    """`db1 on h1 · 4 vCPUs · 8 GiB · depth facts · 5 hosts asked in 0.21 s`."""
    guest = run.name or "the guest"
    parts = [f"{guest} on {run.source}" if run.source else f"{guest}, running nowhere yet"]
    if run.claims:
        parts += [count(run.claims.vcpus, "vCPU"), memory(run.claims.memory_kib)]
    asked = count(len(run.candidates), "host")
    parts += [f"depth {run.depth}", f"{asked} asked in {seconds(run.took_ms)}"]
    return " · ".join(parts)


def _hosts(run: DryRun) -> Table:
    table = columns("HOST", "VERDICT", "FREE", "WHY", right=["FREE"])
    for one in run.candidates:
        table.add_row(words(one.host), _verdict(one), _free(one), words(why(one)))
    return table


def _wide_hosts(run: DryRun) -> Table:
    numbers = ("RANK", "SCORE", "FREE", "AFTER", "TOTAL", "FACTS", "CHECKS")
    table = columns("HOST", "VERDICT", *numbers, "WHY", right=numbers)
    for one in run.candidates:
        table.add_row(
            words(one.host),
            _verdict(one),
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


def _blocks(run: DryRun) -> list[Block]:
    found = blocks(run.candidates, run.source_report)
    if run.source is None or run.source_report is None:
        return found
    at_source = source_block(run.source, run.source_report)
    return [at_source, *found] if at_source.items else found


def _heading(block: Block, run: DryRun, form: Form) -> str:
    if block.hosts == (run.source,):
        return f"{run.source}, the source: whatever the destination"
    return ", ".join(block.hosts) if form is Form.WIDE else listed(block.hosts)


def _items(block: Block) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in block.items:
        mark, style = _mark(item)
        text = _finding(item) if isinstance(item, Finding) else _unanswered(item)
        table.add_row(Text.assemble((mark, style), " ", words(item.check)), text)
    return table


def _mark(item: Item) -> tuple[str, str]:
    if isinstance(item, Unanswered) or item.severity not in MARK_BY_SEVERITY:
        return NOT_KNOWN
    return MARK_BY_SEVERITY[item.severity]


def _finding(finding: Finding) -> Text:
    lines = [words(about(finding) + _waived(finding))]
    if finding.libvirt_error:
        lines.append(words(f"libvirt: {finding.libvirt_error}"))
    if finding.remedy:
        lines.append(words(finding.remedy, "dim"))
    where = " (on the source)" if finding.side is Side.SOURCE else ""
    lines += (words(f"# {command}{where}", "cyan") for command in finding.commands)
    return Text("\n").join(lines)


def _unanswered(one: Unanswered) -> Text:
    return words(could_not_tell(one) + _waived(one))


def _waived(item: Item) -> str:
    return " · waived" if item.waived else ""


def _next_step(run: DryRun) -> Iterator[Part]:
    best = run.candidates[0]
    command = run.command_by_host.get(best.host)
    if command is not None:
        yield unbroken(f"To move it: {command}")
