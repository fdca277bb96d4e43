"""The benchmark works. How long anything takes is not for a test to say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.measure import Figure, Pairs, in_turns

ROOT = Path(__file__).parents[2]


def test_every_figure_is_measured(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--to", str(written)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(written.read_text())
    targets = {one["name"].partition(":")[0] for one in found["figures"] if one["target"]}
    assert targets == {"agent", "controller", "command line"}
    for one in found["figures"]:
        assert one["name"] in ended.stdout
        assert one["beside"]


async def test_the_measured_thing_and_its_baseline_take_turns() -> None:
    order: list[str] = []

    async def measured() -> float:
        order.append("measured")
        return 3.0

    async def baseline() -> float:
        order.append("baseline")
        return 2.0

    found = await in_turns(2, measured, baseline)
    assert order == [
        *("baseline", "measured"),
        *("measured", "baseline"),
        *("baseline", "measured"),
    ]
    assert (found.ratio, found.more_s) == (1.5, 1.0)
    assert len(found.measured) == 2


def test_a_slow_round_slows_both_and_so_changes_no_ratio() -> None:
    found = Pairs(measured=[1.2, 12.0, 1.2], baseline=[1.0, 10.0, 1.0])
    assert found.ratio == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("target", "outcome"), [(1.5, "met"), (1.4, "met"), (1.3, "over"), (None, "")]
)
def test_a_target_is_met_or_not(target: float | None, outcome: str) -> None:
    figure = Figure(name="a", measured=1.4, unit="s", target=target, beside="b")
    assert figure.outcome == outcome
