import pytest

from tests.controller.samples import BRIDGE, LACK, PASSTHROUGH, heard
from virt_preflight.controller.answers import Heard, Report, Silent
from virt_preflight.controller.exits import Exit
from virt_preflight.controller.outcome import Demand, exit_code, strict_exit_code
from virt_preflight.controller.ranking import rank

CLEAR = heard("h2")
RISKY = heard("h3", PASSTHROUGH)
UNSURE = heard("h4", unanswered=[LACK])
BLOCKED = heard("h5", BRIDGE)
SILENT = Silent(host="h6", why="connection refused")


@pytest.mark.parametrize(
    ("answers", "any_of_them", "every_one"),
    [
        ([CLEAR], Exit.OK, Exit.OK),
        ([RISKY], Exit.OK, Exit.OK),
        ([CLEAR, BLOCKED], Exit.OK, Exit.CANNOT_TAKE),
        ([CLEAR, SILENT], Exit.OK, Exit.CANNOT_TAKE),
        ([CLEAR, UNSURE], Exit.OK, Exit.CANNOT_TAKE),
        ([BLOCKED], Exit.CANNOT_TAKE, Exit.CANNOT_TAKE),
        ([BLOCKED, SILENT], Exit.CANNOT_SAY, Exit.CANNOT_SAY),
        ([UNSURE], Exit.CANNOT_SAY, Exit.CANNOT_SAY),
    ],
)
def test_a_script_learns_whether_the_guest_can_go(
    answers: list[Heard[Report] | Silent], any_of_them: Exit, every_one: Exit
) -> None:
    ranked = rank(None, answers)
    assert exit_code(ranked, Demand.ANY) is any_of_them
    assert exit_code(ranked, Demand.EVERY) is every_one


@pytest.mark.parametrize(
    ("answers", "any_of_them", "every_one"),
    [
        ([CLEAR], Exit.OK, Exit.OK),
        ([RISKY], Exit.WARNED, Exit.WARNED),
        ([CLEAR, RISKY], Exit.OK, Exit.WARNED),
        ([RISKY, BLOCKED], Exit.WARNED, Exit.CANNOT_TAKE),
        ([BLOCKED], Exit.CANNOT_TAKE, Exit.CANNOT_TAKE),
        ([UNSURE], Exit.CANNOT_SAY, Exit.CANNOT_SAY),
    ],
)
def test_strictly_only_a_clear_host_is_a_yes(
    answers: list[Heard[Report] | Silent], any_of_them: Exit, every_one: Exit
) -> None:
    ranked = rank(None, answers)
    assert strict_exit_code(ranked, Demand.ANY) is any_of_them
    assert strict_exit_code(ranked, Demand.EVERY) is every_one


def test_the_numbers_are_a_treaty_with_scripts() -> None:
    assert [int(code) for code in Exit] == [0, 1, 2, 3, 4, 5, 130]
