"""A rehearsal does not stop the guest: by the guest's own clock, and by what its libvirtd tells."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.clock import TICKING, Clock, longest_gap, stamps, ticking
from tests.lab.hosts import Lab, script_on
from tests.lab.machine import LabError
from tests.lab.score import Question, ask_cli, verdict_in
from tests.lab.traces import Watcher

ROUNDS = 5
# A rehearsal starts a QEMU and a Python beside a guest that never rests: on two CPUs each waits
# for the others now and then. What a pause costs is another order: Prepare alone takes 300 ms.
TIMES, SLACK_MS = 3, 60
PAUSE_S = 0.3


@pytest.fixture(scope="module")
def clock(lab: Lab) -> Iterator[Clock]:
    if lab.accelerator != "kvm":
        pytest.skip("NOT ON THIS MACHINE: under TCG the counter stands still with the guest")
    with ticking(lab, lab["h1"]) as ticks:
        yield ticks


@pytest.mark.lab
def test_a_pause_is_seen(lab: Lab, clock: Clock) -> None:
    def pause() -> None:
        name = TICKING.name
        script_on(
            lab["h1"], f"virsh -q suspend {name}; sleep {PAUSE_S}; virsh -q resume {name}; sleep .1"
        )

    assert clock.longest_gap_ms(pause) >= PAUSE_S * 1000


@pytest.mark.lab
@pytest.mark.parametrize("destination", ["h2", "h3"])
def test_a_rehearsal_does_not_stop_the_guest(lab: Lab, clock: Clock, destination: str) -> None:
    def rehearse() -> None:
        answer = ask_cli(
            lab,
            Question(
                guest=TICKING.name,
                source="h1",
                destination=destination,
                options=("--live", "--p2p", "--unsafe"),
                depth="rehearsal",
            ),
        )
        said = verdict_in(answer, destination)
        assert said.verdict in ("CLEAR", "RISKY"), answer["hosts"]

    here, there = Watcher(lab["h1"]), Watcher(lab[destination])
    try:
        pairs = [
            (clock.longest_gap_ms(lambda: time.sleep(1)), clock.longest_gap_ms(rehearse))
            for _ in range(ROUNDS)
        ]
        source, arrived = here.look()["event"], there.look()["event"]
    finally:
        here.end()
        there.end()
    told = [how for what, how in arrived.items() if what.endswith(f"lifecycle {TICKING.name}")]
    assert told.count("STARTED MIGRATED") == ROUNDS, "it was not rehearsed at all"
    assert source == {}, "the source's libvirtd told of something"
    # A rehearsal that paused the guest would do so each time; a busy machine does now and then.
    idle, rehearsed = (min(gaps) for gaps in zip(*pairs, strict=True))
    assert rehearsed <= TIMES * idle + SLACK_MS, pairs


def test_the_longest_gap_is_found(tmp_path: Path) -> None:
    written = (5, 6, 9, 10)
    (tmp_path / "ticks").write_bytes(b"".join(one.to_bytes(8, "little") for one in written) + b"x")
    assert stamps(tmp_path / "ticks", since=0) == list(written)
    assert stamps(tmp_path / "ticks", since=16) == [6, 9, 10]
    assert longest_gap(list(written)) == 3


@pytest.mark.parametrize("counted", [[], [5], [5, 4]])
def test_a_clock_that_stands_is_no_clock(counted: list[int]) -> None:
    with pytest.raises(LabError):
        longest_gap(counted)
