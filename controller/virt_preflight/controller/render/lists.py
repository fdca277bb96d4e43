"""The fleet and the checks for people."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from rich.table import Table

from virt_preflight.controller.answers import CheckDescription, Heard, HostDescription, Silent
from virt_preflight.controller.catalogue import Catalogue
from virt_preflight.controller.fleet import Fleet, FleetHost
from virt_preflight.controller.printable import printable_lines
from virt_preflight.controller.render.amounts import count, memory, seconds
from virt_preflight.controller.render.documents import Described
from virt_preflight.controller.render.forms import Form, Look
from virt_preflight.controller.render.grouping import FOLDED_FROM, alike_cause, cause
from virt_preflight.controller.render.painting import Part, columns, indented, paint, words
from virt_preflight.controller.render.silence import next_steps

NUMBERS = ("CPUS", "FREE", "TOTAL", "GUESTS", "FACTS")
WIDE = ("ADDRESS", "OWN NAME", "UUID", "CERTIFICATE", "CLASS", "LABELS", "LAST SEEN")
# Long enough for somebody to notice, and to make another.
RENEW_WITHIN = timedelta(days=30)
# For the one cause that leaves most facts unlearned.
LIBVIRTD_SILENT = (
    "See why libvirtd does not answer on that host (systemctl status libvirtd virtqemud)."
)
VERSIONS = ("AGENT", "LIBVIRT", "QEMU")


def hosts_table(
    fleet: Fleet, answers: Sequence[Described], form: Form, look: Look, asked_at: datetime
) -> str:
    """Who answers, versions, what is free, age of facts; what a host could not learn below."""
    more = WIDE if form is Form.WIDE else ()
    table = columns("HOST", *VERSIONS, "ARCH", *NUMBERS, *more, "", right=NUMBERS)
    for host, answer in zip(fleet.hosts, answers, strict=True):
        table.add_row(*map(words, _host_row(host, answer, form, asked_at)))
    silent = sum(isinstance(answer, Silent) for answer in answers)
    said = f"{len(answers) - silent} of {count(len(answers), 'host')} answered."
    steps = {one.host: one.next_step for one in answers if isinstance(one, Silent)}
    parts = [indented(table), *_unlearned(answers), *next_steps(steps, form), "", said]
    return paint(parts, look)


def checks_table(catalogue: Catalogue, form: Form, look: Look) -> str:
    """Id, severity and title of each check; with `wide` also where it applies."""
    more = ("SIDE", "PHASE") if form is Form.WIDE else ()
    table = columns("CHECK", "SEVERITY", *more, "TITLE")
    for check in catalogue.checks:
        where = (check.side or "-", check.phase or "-") if form is Form.WIDE else ()
        table.add_row(*map(words, (check.check, _severity(check), *where, check.title)))
    listed = f"{count(len(catalogue.checks), 'check')}, as {catalogue.host} lists them."
    return paint([indented(table), "", words(listed)], look)


def explanation(check: CheckDescription, look: Look) -> str:
    """One check in full."""
    return paint(list(_explanation(check)), look)


def _explanation(check: CheckDescription) -> Iterator[Part]:
    yield words(f"{check.check}: {check.title}", "bold")
    weight = (_severity(check), check.side and f"on the {check.side}", check.phase)
    yield words(" · ".join(filter(None, weight)))
    for heading, text in (("", check.explanation), ("Remedy", check.remedy)):
        if text.strip():
            yield ""
            yield from ([words(heading, "bold")] if heading else [])
            yield from map(words, printable_lines(text.strip()))


def _host_row(
    host: FleetHost, answer: Described, form: Form, asked_at: datetime
) -> tuple[str, ...]:
    more = len(WIDE) if form is Form.WIDE else 0
    labels = ", ".join(f"{key}={value}" for key, value in host.labels) or "-"
    # Of those whose agents announced them: the others stand in the fleet file alone.
    seen = f"{host.last_seen:%Y-%m-%d %H:%M:%S}Z" if host.last_seen else "-"
    if isinstance(answer, Silent):
        address = (host.address, "-", "-", "-", "-", labels, seen)[:more]
        return host.name, *("-" for _ in range(9)), *address, answer.why
    said = answer.said
    free, total = _memory(said)
    return (
        host.name,
        said.agent or "-",
        said.libvirt or "-",
        said.qemu or "-",
        said.architecture or "-",
        str(said.cpus_online or "-"),
        free,
        total,
        "-" if said.domains_running is None else str(said.domains_running),
        seconds(said.facts_age_ms),
        *(
            host.address,
            said.name or "-",
            said.uuid or "-",
            "-" if said.certificate_ends_s is None else f"until {_day(said.certificate_ends_s)}",
            said.class_digest or "-",
            labels,
            seen,
        )[:more],
        ", ".join(_wants_a_look(said, asked_at)),
    )


def _wants_a_look(said: HostDescription, asked_at: datetime) -> Iterator[str]:
    if said.unlearned:
        yield f"{count(len(said.unlearned), 'fact')} not learned"
    ends_s = said.certificate_ends_s
    if ends_s is not None and ends_s < (asked_at + RENEW_WITHIN).timestamp():
        yield f"certificate ends on {_day(ends_s)}"


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _memory(said: HostDescription) -> tuple[str, str]:
    if said.capacity is None:
        return "-", "-"
    return memory(said.capacity.memory_free_kib), memory(said.capacity.memory_total_kib)


def _unlearned(answers: Sequence[Described]) -> Iterator[Part]:
    for answer in answers:
        if isinstance(answer, Heard) and answer.said.unlearned:
            yield ""
            yield words(answer.host, "bold")
            yield indented(_facts(answer.said.unlearned))


def _facts(unlearned: Sequence[tuple[str, str]]) -> Table:
    """One cause of many is told once, as in a dry run: a libvirtd that is down is one fact."""
    table = Table.grid(padding=(0, 2, 0, 0))
    alike: dict[str, list[tuple[str, str]]] = {}
    for fact, why in unlearned:
        alike.setdefault(alike_cause(why), []).append((fact, why))
    for lacks in alike.values():
        if len(lacks) < FOLDED_FROM:
            for fact, why in lacks:
                table.add_row(words(f"? {fact}"), words(why))
            continue
        said = cause(lacks[0][1])
        table.add_row(words(f"? {count(len(lacks), 'fact')}"), words(f"not learned: {said}"))
        if "libvirtd" in said:
            table.add_row("", words(LIBVIRTD_SILENT, "dim"))
    return table


def _severity(check: CheckDescription) -> str:
    return "-" if check.severity is None else check.severity.name
