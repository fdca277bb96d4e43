"""The score: depth by depth, how often the verdict was true, how long it took, what it missed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.hosts import Lab
from tests.lab.machine import CHECKOUT, LabError
from tests.lab.scenarios import SCENARIOS, Scenario
from tests.lab.score import DEPTHS, Ask, Foretold, Outcome, Truth, agrees, ask_cli, play
from tests.lab.score import why_skipped as why_not_here

REPORT = CHECKOUT / "build" / "lab-score.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scenario, as it is kept in the report."""

    scenario: str
    source: str
    destination: str
    truth: Truth
    error: str
    said: Mapping[str, Foretold]  # by depth
    traces: tuple[str, ...] = ()
    seconds: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How one depth did."""

    depth: str
    failing: int
    migrating: int
    foretold: int
    missed: tuple[str, ...]
    false_alarms: tuple[str, ...]
    unsure: tuple[str, ...]
    median_ms: float


def count(rows: Sequence[Row], depth: str) -> Count:
    """One depth over all scenarios that it was asked about."""
    asked = [row for row in rows if depth in row.said]

    def those(kind: str) -> tuple[str, ...]:
        agreed = ((row.scenario, agrees(row.said[depth].verdict, row.truth)) for row in asked)
        return tuple(scenario for scenario, how in agreed if how == kind)

    failing = {row.scenario for row in asked if row.truth == "fails"}
    return Count(
        depth=depth,
        failing=len(failing),
        migrating=len(asked) - len(failing),
        foretold=sum(scenario in failing for scenario in those("yes")),
        missed=those("missed"),
        false_alarms=those("false alarm"),
        unsure=those("unsure"),
        median_ms=statistics.median(row.said[depth].ms for row in asked) if asked else 0,
    )


def depths_in(rows: Sequence[Row]) -> list[str]:
    return [depth for depth in DEPTHS if any(depth in row.said for row in rows)]


def table(rows: Sequence[Row]) -> list[str]:
    """The score as Markdown, which is as good on a terminal."""
    return [
        "| depth | failures foretold | missed | false alarms | UNSURE | median time |",
        "|---|---|---|---|---|---|",
        *(in_table(count(rows, depth)) for depth in depths_in(rows)),
    ]


def in_table(one: Count) -> str:
    return (
        f"| `{one.depth}` | {one.foretold} of {one.failing} | {len(one.missed)} "
        f"| {len(one.false_alarms)} of {one.migrating} | {len(one.unsure)} "
        f"| {one.median_ms:.0f} ms |"
    )


def only_deeper(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Failures that the shallowest depth let pass, and the first depth that did not."""
    found = []
    for row in rows:
        if row.truth != "fails":
            continue
        blocked = [depth for depth in DEPTHS if verdict_at(row, depth) == "BLOCKED"]
        if blocked and row.said and blocked[0] != next(d for d in DEPTHS if d in row.said):
            found.append((row, blocked[0]))
    return found


def verdict_at(row: Row, depth: str) -> str:
    return row.said[depth].verdict if depth in row.said else ""


# ------------------------------------------------------------------------------------ in words


@dataclass(slots=True)
class Score:
    """What has been counted so far."""

    lab: Lab
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: list[tuple[Scenario, str]] = field(default_factory=list)
    # Right when played again; what was wrong the first time.
    unstable: list[tuple[Scenario, str]] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        return [row_of(outcome) for outcome in self.outcomes]

    def lines(self) -> list[str]:
        """The score, as it is printed."""
        fail = [outcome for outcome in self.outcomes if outcome.truth == "fails"]
        said = f"{len(self.outcomes)} scenarios under {self.lab.accelerator.upper()}"
        took = sum(outcome.seconds for outcome in self.outcomes)
        lines = [
            f"{said}: {len(fail)} fail, {len(self.outcomes) - len(fail)} migrate; {took:.0f} s",
            *table(self.rows),
            *self.in_detail(),
        ]
        for outcome in self.outcomes:
            if outcome.as_meant:
                lines.append(f"  not as meant: {outcome.scenario.id}: {outcome.as_meant}")
            lines += [f"  trace: {outcome.scenario.id}: {trace}" for trace in outcome.traces]
            lines += [f"  left over: {outcome.scenario.id}: {left}" for left in outcome.leftovers]
        lines += [f"  UNSTABLE {scenario.id}: {faults}" for scenario, faults in self.unstable]
        lines += [f"  SKIPPED {scenario.id}: {why}" for scenario, why in self.skipped]
        return lines

    def in_detail(self) -> Iterator[str]:
        """Each answer that was not true, and what a check is missing for."""
        told = {outcome.scenario.id: outcome for outcome in self.outcomes}
        for one in (count(self.rows, depth) for depth in depths_in(self.rows)):
            for kind, names in (
                ("missed", one.missed),
                ("false alarm", one.false_alarms),
                ("unsure", one.unsure),
            ):
                for name in names:
                    checks = ", ".join(told[name].depths[one.depth].checks)
                    yield f"  {one.depth}: {kind}: {name}: {told[name].error or checks}"
            for name, outcome in told.items():
                yield from by_another_check(name, outcome, one.depth)
        for row, depth in only_deeper(self.rows):
            why = told[row.scenario].scenario.beyond or "WHY NOT BY FACTS?"
            checks = ", ".join(row.said[depth].checks)
            yield f"  only from depth {depth}: {row.scenario}: {checks}: {why}"

    def write(self, path: Path = REPORT) -> None:
        """The score for other programs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(as_json(self), indent=1))


def by_another_check(name: str, outcome: Outcome, depth: str) -> Iterator[str]:
    if outcome.truth != "fails" or depth not in outcome.depths:
        return
    said = outcome.depths[depth]
    wanted, named = set(outcome.scenario.checks), set(said.checks)
    if said.verdict == "BLOCKED" and wanted and not wanted & named:
        yield (
            f"  {depth}: by another check: {name}: wanted {', '.join(sorted(wanted))}, "
            f"found {', '.join(sorted(named))}"
        )


def line_of(outcome: Outcome) -> str:
    """One scenario on one line."""
    said = " ".join(
        f"{depth}={foretold.verdict}({agrees(foretold.verdict, outcome.truth)})"
        for depth, foretold in outcome.depths.items()
    )
    way = f"{outcome.scenario.source}->{outcome.scenario.destination}"
    mark = "?" if outcome.as_meant else "!" if outcome.traces or outcome.leftovers else " "
    return (
        f"{mark} {outcome.scenario.id:32} {way} {outcome.truth:8} {outcome.seconds:4.1f}s "
        f"{said} {outcome.error[:150]}"
    ).rstrip()


# ---------------------------------------------------------------------------------- in a file


def row_of(outcome: Outcome) -> Row:
    return Row(
        scenario=outcome.scenario.id,
        source=outcome.scenario.source,
        destination=outcome.scenario.destination,
        truth=outcome.truth,
        error=outcome.error,
        said=outcome.depths,
        traces=outcome.traces,
        seconds=outcome.seconds,
    )


def as_json(score: Score) -> dict[str, Any]:
    rows = score.rows
    return {
        "accelerator": score.lab.accelerator,
        "depths": {depth: json_of(count(rows, depth)) for depth in depths_in(rows)},
        "only_deeper": {row.scenario: depth for row, depth in only_deeper(rows)},
        "skipped": {scenario.id: why for scenario, why in score.skipped},
        "scenarios": [
            {
                "scenario": row.scenario,
                "from": row.source,
                "to": row.destination,
                "truth": row.truth,
                "error": row.error,
                "depths": {
                    depth: {"verdict": said.verdict, "checks": list(said.checks), "ms": said.ms}
                    for depth, said in row.said.items()
                },
                "traces": list(row.traces),
                "seconds": round(row.seconds, 1),
            }
            for row in rows
        ],
    }


def json_of(one: Count) -> dict[str, Any]:
    return {
        "failing": one.failing,
        "migrating": one.migrating,
        "foretold": one.foretold,
        "missed": list(one.missed),
        "falseAlarms": list(one.false_alarms),
        "unsure": list(one.unsure),
        "medianMs": one.median_ms,
    }


def kept(path: Path = REPORT) -> list[Row]:
    """The rows of the last whole score."""
    try:
        report = json.loads(path.read_text())
        scenarios = report["scenarios"]
    except (OSError, TypeError) as error:
        raise LabError(f"no score yet, `make lab-score` makes one: {error}") from error
    return [
        Row(
            scenario=row["scenario"],
            source=row["from"],
            destination=row["to"],
            truth=row["truth"],
            error=row["error"],
            said={
                depth: Foretold(
                    verdict=said["verdict"], checks=tuple(said["checks"]), ms=said["ms"]
                )
                for depth, said in row["depths"].items()
            },
            traces=tuple(row["traces"]),
            seconds=row["seconds"],
        )
        for row in scenarios
    ]


# --------------------------------------------------------------------------------------- many


def score_all(
    lab: Lab,
    scenarios: Sequence[Scenario] = SCENARIOS,
    *,
    ask: Ask | None = ask_cli,
    depths: Sequence[str] = DEPTHS,
    tell: Callable[[str], None] = print,
) -> Score:
    """All of them, one line each; a scenario that breaks the lab is told of and skipped."""
    score = Score(lab=lab)
    for scenario in scenarios:
        if why := why_not_here(scenario, lab):
            score.skipped.append((scenario, why))
            tell(f"- {scenario.id}: SKIPPED: {why}")
            continue
        try:
            outcome = play(lab, scenario, ask=ask, depths=depths)
        except LabError as error:
            score.skipped.append((scenario, f"the lab could not play it: {error}"))
            tell(f"X {scenario.id}: {error}")
            continue
        score.outcomes.append(outcome)
        tell(line_of(outcome))
        for extra in (*outcome.traces, *outcome.leftovers):
            tell(f"    {extra}")
        if outcome.as_meant:
            tell(f"    {outcome.as_meant}")
    return score
