import asyncio
from collections.abc import Sequence

import pytest

from virt_preflight.controller.answers import Heard, Late, Silent
from virt_preflight.controller.fanout import Pace, as_they_answer, ask_all, first_heard
from virt_preflight.controller.fleet import FleetHost

PACE = Pace(each_s=5, all_s=60, in_flight=256)
HOSTS = [FleetHost(name=f"h{number}", address=f"h{number}:1") for number in range(5)]


def names(answers: Sequence[Heard[str] | Silent]) -> list[str]:
    return [answer.host for answer in answers]


async def hello(host: FleetHost) -> Heard[str] | Silent:
    return Heard(host=host.name, said="hello")


async def for_ever(_: FleetHost) -> Heard[str] | Silent:
    await asyncio.Event().wait()
    raise AssertionError


async def test_answers_are_in_the_order_of_the_hosts_however_they_come() -> None:
    async def ask(host: FleetHost) -> Heard[str] | Silent:
        await asyncio.sleep(0.02 if host.name == "h0" else 0)
        return await hello(host)

    assert names(await ask_all(HOSTS, ask, PACE)) == ["h0", "h1", "h2", "h3", "h4"]


async def test_answers_come_as_they_are_given() -> None:
    async def ask(host: FleetHost) -> Heard[str] | Silent:
        await asyncio.sleep(0.05 if host.name == "h0" else 0)
        return await hello(host)

    assert [answer.host async for answer in as_they_answer(HOSTS, ask, PACE)][-1] == "h0"


async def test_each_answer_is_counted_as_it_comes() -> None:
    counted: list[None] = []
    await ask_all(HOSTS, hello, PACE, on_answer=lambda _: counted.append(None))
    assert len(counted) == 5


async def test_a_host_that_does_not_answer_costs_its_own_time_and_nothing_more() -> None:
    async def ask(host: FleetHost) -> Heard[str] | Silent:
        return await (for_ever if host.name == "h2" else hello)(host)

    answers = await ask_all(HOSTS, ask, Pace(each_s=0.05, all_s=60, in_flight=256))
    assert answers[2] == Late(
        host="h2",
        why="no answer within 0.05 s",
        next_step="See whether h2 is up and h2:1 can be reached from here; --timeout waits longer.",
    )
    assert sum(isinstance(answer, Heard) for answer in answers) == 4


async def test_a_question_that_breaks_makes_one_host_silent() -> None:
    async def ask(host: FleetHost) -> Heard[str] | Silent:
        if host.name == "h3":
            raise KeyError("surprise")
        return await hello(host)

    answers = await ask_all(HOSTS, ask, PACE)
    assert answers[3] == Silent(host="h3", why="could not be asked: KeyError: 'surprise'")
    assert isinstance(answers[4], Heard)


async def test_no_more_are_asked_at_a_time_than_allowed() -> None:
    under_way, most = 0, 0

    async def ask(host: FleetHost) -> Heard[str] | Silent:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return await hello(host)

    await ask_all(HOSTS, ask, Pace(each_s=5, all_s=60, in_flight=2))
    assert most == 2


async def test_those_who_wait_for_their_turn_are_no_tasks_yet() -> None:
    most = 0

    async def ask(host: FleetHost) -> Heard[str] | Silent:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        return await hello(host)

    await ask_all(HOSTS, ask, Pace(each_s=5, all_s=60, in_flight=2))
    assert most == 3  # and the one who asks


async def test_whoever_had_no_turn_in_the_time_for_all_is_not_asked() -> None:
    asked: list[str] = []

    async def ask(host: FleetHost) -> Heard[str] | Silent:
        asked.append(host.name)
        return await for_ever(host)

    await ask_all(HOSTS, ask, Pace(each_s=9, all_s=0.05, in_flight=2))
    assert asked == ["h0", "h1"]


async def test_waiting_for_a_turn_does_not_count_as_the_host_s_own_time() -> None:
    async def ask(host: FleetHost) -> Heard[str] | Silent:
        await asyncio.sleep(0.12)
        return await hello(host)

    answers = await ask_all(HOSTS, ask, Pace(each_s=0.5, all_s=60, in_flight=1))
    assert all(isinstance(answer, Heard) for answer in answers)


async def test_the_time_for_all_hosts_ends_for_those_that_had_no_turn_yet() -> None:
    answers = await ask_all(HOSTS, for_ever, Pace(each_s=9, all_s=0.05, in_flight=2))
    assert {answer.why for answer in answers if isinstance(answer, Late)} == {
        "no answer within the 0.05 s for all hosts"
    }
    assert len(answers) == 5


async def test_nobody_to_ask_is_an_answer_too() -> None:
    assert await ask_all([], hello, PACE) == []


async def test_the_first_that_answers_is_enough() -> None:
    async def ask(host: FleetHost) -> Heard[str] | Silent:
        return await (hello if host.name == "h4" else for_ever)(host)

    assert await first_heard(HOSTS, ask, PACE) == Heard(host="h4", said="hello")


async def test_when_nobody_answers_every_reason_is_given() -> None:
    async def ask(host: FleetHost) -> Heard[str] | Silent:
        return Silent(host=host.name, why="connection refused")

    answer = await first_heard(HOSTS, ask, PACE)
    assert isinstance(answer, list)
    assert sorted(names(answer)) == ["h0", "h1", "h2", "h3", "h4"]


async def test_whoever_stops_asking_leaves_no_question_running() -> None:
    asking = asyncio.create_task(ask_all(HOSTS, for_ever, PACE))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert asyncio.all_tasks() == {asyncio.current_task()}
