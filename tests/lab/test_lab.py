"""Every scenario: is it what it was written for, was the verdict true, and did asking leave traces.

`pytest -m lab` as root, at the depths that leave nothing even for a moment: all four take over an
hour, and are what `make lab-score` plays. VIRT_PREFLIGHT_LAB_DEPTHS=trial,rehearsal
asks at others, VIRT_PREFLIGHT_LAB_TRUTH_ONLY=1 at none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab.hosts import Lab
from tests.lab.machine import LabError
from tests.lab.scenarios import SCENARIOS, Scenario
from tests.lab.scenarios.classes import NOT_NEWEST, SCENARIO_BY_CLASS
from tests.lab.score import Outcome, ask_cli, fault_of, misshapen, play, why_skipped
from tests.lab.tally import Score
from virt_preflight.agent.catalogue import catalogue

pytestmark = pytest.mark.lab

DEPTHS = tuple(os.environ.get("VIRT_PREFLIGHT_LAB_DEPTHS", "facts,libvirt").split(","))
TRUTH_ONLY = os.environ.get("VIRT_PREFLIGHT_LAB_TRUTH_ONLY") == "1"


def staged(lab: Lab, scenario: Scenario) -> Outcome:
    """Played, and once more when it was not the story that it was written for.

    That says nothing of our verdict: a busy machine may cost QEMU its time when a guest is made.
    """
    try:
        outcome = play(lab, scenario, ask=None if TRUTH_ONLY else ask_cli, depths=DEPTHS)
    except LabError:
        outcome = None
    if outcome is not None and outcome.as_meant is None:
        return outcome
    return play(lab, scenario, ask=None if TRUTH_ONLY else ask_cli, depths=DEPTHS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_the_verdict_is_true(scenario: Scenario, lab: Lab, score: Score) -> None:
    if why := why_skipped(scenario, lab):
        score.skipped.append((scenario, why))
        pytest.skip(f"NOT ON THIS MACHINE: {why}")
    outcome = staged(lab, scenario)
    if faults := list(faults_of(outcome)):
        # A busy machine may cost an answer its deadline. What is wrong is wrong twice; what is
        # not stands in the score, so that nobody takes it for calm.
        outcome = staged(lab, scenario)
        if not list(faults_of(outcome)):
            score.unstable.append((scenario, "; ".join(faults)))
    score.outcomes.append(outcome)
    assert list(faults_of(outcome)) == []


def faults_of(outcome: Outcome) -> Iterator[str]:
    """Each way in which it is not as it has to be."""
    if outcome.as_meant:
        yield outcome.as_meant
    for depth, said in outcome.depths.items():
        for misshape in misshapen(said.whole):
            yield f"{depth}: the JSON is not as published: {misshape}"
        wrong = fault_of(outcome.scenario, depth, said, outcome.truth)
        if wrong is not None:
            yield f"{wrong}; truth: {outcome.truth} {outcome.error}"
    for trace in outcome.traces:
        yield f"asking left a trace: {trace}"
    for left in outcome.leftovers:
        yield f"the hosts are not clean for the next scenario: {left}"


def test_every_scenario_has_a_name_of_its_own() -> None:
    names = [scenario.id for scenario in SCENARIOS]
    assert len(names) == len(set(names))


def test_every_scenario_names_checks_that_there_are() -> None:
    known = {check.id for check in catalogue().checks}
    assert not [
        (scenario.id, check)
        for scenario in SCENARIOS
        for check in scenario.checks
        if check not in known
    ]


def test_a_third_of_the_scenarios_migrate() -> None:
    migrating = [scenario for scenario in SCENARIOS if scenario.expect == "migrates"]
    assert len(migrating) * 3 >= len(SCENARIOS)


def test_every_class_of_faults_has_its_scenario() -> None:
    known = {scenario.id for scenario in SCENARIOS}
    assert len(SCENARIO_BY_CLASS) == 93
    assert set(SCENARIO_BY_CLASS.values()) <= known
    # On both releases, or with a reason.
    newest = {name for name in SCENARIO_BY_CLASS.values() if f"{name}-newest" in known}
    assert newest | set(NOT_NEWEST) == set(SCENARIO_BY_CLASS.values())
    assert not newest & set(NOT_NEWEST)
