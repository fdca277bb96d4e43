"""One lab for all tests that need real hosts, and the score of the scenarios that were played.

Where no lab can be, its tests are skipped, loudly; with VIRT_PREFLIGHT_LAB_REQUIRED=1 that fails
instead. VIRT_PREFLIGHT_LAB_TRUTH_ONLY=1 makes hosts without our agent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab import hosts, roots
from tests.lab.hosts import Lab
from tests.lab.machine import LabError, why_not
from tests.lab.scenarios import SCENARIOS
from tests.lab.tally import Score

TRUTH_ONLY = os.environ.get("VIRT_PREFLIGHT_LAB_TRUTH_ONLY") == "1"
REQUIRED = os.environ.get("VIRT_PREFLIGHT_LAB_REQUIRED") == "1"


def give_up(reason: str) -> None:
    if REQUIRED:
        pytest.fail(f"the lab is required, and there is none: {reason}")
    pytest.skip(f"NO LAB, NOTHING PROVED: {reason}")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Brought up for the first test that wants it, taken down after the last."""
    if reason := why_not():
        give_up(reason)
    try:
        up = hosts.up(wheels=None if TRUTH_ONLY else roots.wheels)
    except LabError as error:
        give_up(str(error))
        raise
    try:
        yield up
    finally:
        hosts.down()


@pytest.fixture(scope="session")
def score(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Score]:
    """What the scenarios add to; shown and written at the end."""
    counted = Score(lab=lab)
    yield counted
    # A part of the scenarios must not pass for the score of all.
    if len(counted.outcomes) + len(counted.skipped) == len(SCENARIOS):
        counted.write()
    show(request.config, counted)


def show(config: pytest.Config, counted: Score) -> None:
    """The score, past pytest's capturing: it is what all this was for."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if capture is not None and terminal is not None:
        with capture.global_and_fixture_disabled():
            for line in ("", *counted.lines()):
                terminal.write_line(line)
