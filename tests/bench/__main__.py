"""`python -m tests.bench`: measures, prints a table, writes build/bench.json."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import agent, fleet, startup, weight
from tests.bench.hosts import examined
from tests.bench.measure import Figure, Missed
from tests.bench.pki import Safety

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How often each thing is done, and over how many agents."""

    calls: int
    starts: int
    # How many simulated agents, and how often they are all asked.
    fleets: tuple[tuple[int, int], ...]
    examining: int
    examinings: int
    weighings: int


WHOLE = Effort(
    calls=200,
    starts=15,
    fleets=((1_000, 15), (10_000, 5)),
    examining=100,
    examinings=5,
    weighings=3,
)
QUICK = Effort(calls=3, starts=1, fleets=((20, 1),), examining=4, examinings=1, weighings=1)


async def measure(effort: Effort) -> tuple[list[Figure | Missed], str]:
    """Every figure, and what stood in for what is not there yet."""
    with tempfile.TemporaryDirectory() as scratch:
        there = examined(Path(scratch))
        found: list[Figure | Missed] = []
        in_process, pair = await agent.checks(there, effort.calls)
        found += in_process
        found += await agent.call(pair, effort.calls)
        for agents, rounds in effort.fleets:
            for safety in Safety:
                found += await fleet.fan_out(pair, agents, rounds, safety)
            with fleet.standing(pair, agents) as asked:
                found.append(weight.weight(asked, effort.weighings))
        found += await fleet.examining(pair, there, effort.examining, effort.examinings)
        found.append(await startup.startup(effort.starts))
    return found, there.missing


def table(found: Sequence[Figure | Missed]) -> str:
    """A line for each, the baseline below it."""
    wide = max(len(one.name) for one in found)
    lines = [f"{'':{wide}}  {'measured':>15}  {'target':>7}"]
    for one in found:
        match one:
            case Figure():
                target = "" if one.target is None else f"{one.target:g}"
                measured = f"{one.measured:.2f} {one.unit}"
                lines.append(f"{one.name:{wide}}  {measured:>15}  {target:>7}  {one.outcome}")
                lines.append(f"    {one.beside}")
            case Missed():
                lines.append(f"{one.name:{wide}}  not measured: {one.why}")
    return "\n".join(lines)


def document(found: Sequence[Figure | Missed], missing: str) -> dict[str, object]:
    """The same as JSON, with the machine it was measured on."""
    return {
        "measuredAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {
            "cpus": os.cpu_count(),
            "loadAverage": os.getloadavg(),
            "python": platform.python_version(),
        },
        "missing": missing,
        "figures": [one.as_json() for one in found if isinstance(one, Figure)],
        "notMeasured": [asdict(one) for one in found if isinstance(one, Missed)],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: does it work at all")
    parser.add_argument("--to", type=Path, default=ROOT / "build/bench.json", metavar="FILE")
    parsed = parser.parse_args(arguments)
    found, missing = asyncio.run(measure(QUICK if parsed.quick else WHOLE))
    print(table(found))
    if missing:
        print(missing)
    parsed.to.parent.mkdir(parents=True, exist_ok=True)
    parsed.to.write_text(json.dumps(document(found, missing), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
