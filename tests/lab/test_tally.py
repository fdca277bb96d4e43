"""How answers are counted; without any host."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab.hosts import Lab
from tests.lab.scenarios.scenario import fails, migrates
from tests.lab.score import DEPTHS, Foretold, Outcome, Truth, fault_of
from tests.lab.tally import Row, Score, count, kept, only_deeper, table


def row(name: str, truth: Truth, *verdicts: str) -> Row:
    said = {
        depth: Foretold(verdict=verdict, ms=10 * at)
        for at, (depth, verdict) in enumerate(zip(DEPTHS, verdicts, strict=False), start=1)
    }
    return Row(scenario=name, source="h1", destination="h2", truth=truth, error="", said=said)


ROWS = (
    row("a", "fails", "BLOCKED", "BLOCKED"),
    row("b", "fails", "CLEAR", "BLOCKED"),
    row("c", "fails", "UNSURE", "UNSURE"),
    row("d", "migrates", "RISKY", "BLOCKED"),
)


def test_each_depth_is_counted_by_itself() -> None:
    facts, libvirt = (count(ROWS, depth) for depth in ("facts", "libvirt"))
    assert (facts.foretold, facts.failing, facts.migrating) == (1, 3, 1)
    assert (facts.missed, facts.false_alarms, facts.unsure) == (("b",), (), ("c",))
    assert (libvirt.foretold, libvirt.missed, libvirt.false_alarms) == (2, (), ("d",))
    assert (facts.median_ms, libvirt.median_ms) == (10, 20)


def test_the_table_has_a_line_for_each_depth_that_was_asked() -> None:
    assert table(ROWS)[2:] == [
        "| `facts` | 1 of 3 | 1 | 0 of 1 | 1 | 10 ms |",
        "| `libvirt` | 2 of 3 | 0 | 1 of 1 | 1 | 20 ms |",
    ]


def test_what_only_a_deeper_depth_caught_is_listed() -> None:
    assert [(found.scenario, depth) for found, depth in only_deeper(ROWS)] == [("b", "libvirt")]


def test_a_true_answer_has_no_fault() -> None:
    assert fault_of(fails("x", says=""), "facts", Foretold(verdict="BLOCKED"), "fails") is None
    assert fault_of(migrates("x"), "facts", Foretold(verdict="RISKY"), "migrates") is None


def test_a_missed_failure_is_a_fault_from_the_depth_that_has_to_know() -> None:
    late = fails("x", says="", told_from="trial", beyond="why")
    for depth, faulty in (("facts", False), ("libvirt", False), ("trial", True)):
        assert (fault_of(late, depth, Foretold(verdict="CLEAR"), "fails") is not None) == faulty


def test_a_false_alarm_is_a_fault_at_every_depth() -> None:
    late = fails("x", says="", told_from="trial", beyond="why")
    assert fault_of(late, "facts", Foretold(verdict="BLOCKED"), "migrates") is not None


def test_unsure_is_a_fault_unless_nobody_could_be_sure() -> None:
    unsure = Foretold(verdict="UNSURE")
    assert fault_of(migrates("x"), "facts", unsure, "migrates") is not None
    assert fault_of(migrates("x", unsure_ok="why"), "rehearsal", unsure, "migrates") is None
    sure_later = migrates("x", unsure_ok="why", told_from="libvirt")
    assert fault_of(sure_later, "facts", unsure, "migrates") is None
    assert fault_of(sure_later, "libvirt", unsure, "migrates") is not None


def scored() -> Score:
    lab = Lab(
        name="lab", run=Path("/"), switch_pid=0, accelerator="kvm", lesser=(), agent="serving"
    )
    late = fails("late", "disks.missing", says="", told_from="trial", beyond="nobody could")
    return Score(
        lab=lab,
        outcomes=[
            Outcome(
                scenario=late,
                truth="fails",
                error="it did",
                depths={
                    "facts": Foretold(verdict="CLEAR", ms=3),
                    "trial": Foretold(verdict="BLOCKED", checks=("libvirt.refused",), ms=700),
                },
                traces=("facts h2: file /tmp/a is new",),
            ),
        ],
        skipped=[(migrates("elsewhere"), "no such kernel")],
    )


def test_a_score_that_is_kept_gives_the_same_table(tmp_path: Path) -> None:
    score = scored()
    score.write(tmp_path / "build" / "score.json")
    assert table(kept(tmp_path / "build" / "score.json")) == table(score.rows)
    report = json.loads((tmp_path / "build" / "score.json").read_text())
    assert report["depths"]["trial"]["foretold"] == 1
    assert report["only_deeper"] == {"late": "trial"}
    assert report["skipped"] == {"elsewhere": "no such kernel"}


def test_all_that_is_not_as_it_should_be_is_said() -> None:
    said = "\n".join(scored().lines())
    for part in (
        "1 scenarios under KVM: 1 fail, 0 migrate",
        "facts: missed: late: it did",
        "trial: by another check: late: wanted disks.missing, found libvirt.refused",
        "only from depth trial: late: libvirt.refused: nobody could",
        "trace: late: facts h2: file /tmp/a is new",
        "SKIPPED elsewhere: no such kernel",
    ):
        assert part in said
