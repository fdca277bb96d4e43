import threading
import time

import pytest

from virt_preflight.agent.sources import Absent, Unreadable
from virt_preflight.agent.sources.patience import Patience


def test_an_answer_is_handed_over() -> None:
    assert Patience(time.monotonic).ask("somebody", 5, lambda: 7) == 7


def test_an_error_that_is_an_answer_stays_one() -> None:
    def nothing_there() -> None:
        raise Absent("not there")

    with pytest.raises(Absent, match="not there"):
        Patience(time.monotonic).ask("somebody", 5, nothing_there)


def test_any_other_error_is_no_answer() -> None:
    with pytest.raises(Unreadable, match="division"):
        Patience(time.monotonic).ask("somebody", 5, lambda: 1 // 0)


def test_one_who_hangs_costs_one_deadline_and_one_thread() -> None:
    patience, release = Patience(time.monotonic), threading.Event()
    before = threading.active_count()
    with pytest.raises(Unreadable, match=r"no answer from the mount within 0.05 s"):
        patience.ask("the mount", 0.05, release.wait)
    for _ in range(20):
        with pytest.raises(Unreadable, match="the mount has not answered for"):
            patience.ask("the mount", 5, lambda: 1)
    assert threading.active_count() <= before + 1
    assert patience.ask("somebody else", 5, lambda: 1) == 1
    release.set()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert patience.ask("the mount", 5, lambda: 2) == 2
        except Unreadable:
            time.sleep(0.01)
        else:
            return
    pytest.fail("who answers again is not asked again")


def test_all_questions_of_one_caller_together_are_bounded() -> None:
    patience, release = Patience(time.monotonic), threading.Event()
    with patience.within(0.05):
        with pytest.raises(Unreadable, match="no answer"):
            patience.ask("a", 60, release.wait)
        with pytest.raises(Unreadable, match="no time left to ask b"):
            patience.ask("b", 60, lambda: 1)
    assert patience.ask("b", 5, lambda: 1) == 1
    release.set()
