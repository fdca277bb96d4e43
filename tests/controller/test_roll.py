"""Who is there, by the fleet file and by announcements, whatever happens in which order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest

from virt_preflight.controller.fleet import Fleet, FleetHost
from virt_preflight.controller.roll import NameTakenError, Presence, Roll
from virt_preflight.controller.scribe import Scribe
from virt_preflight.controller.store import Change, KeptHost, StoreError, StoreFullError
from virt_preflight.controller.store.memory import MemoryStore
from virt_preflight.treaty.turnstile import TooManyError

NOON = 1_790_000_000
DAY = 86_400


class Clock:
    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


class FullStore(MemoryStore):
    """Has no room while it is told so."""

    full = False
    turns = 0

    def keep(self, changes: Sequence[Change]) -> None:
        self.turns += 1
        if self.full:
            raise StoreFullError("/c.db: the disk is full")
        super().keep(changes)


def presence(name: str, address: str = "", **labels: str) -> Presence:
    return Presence(
        name=name,
        address=address or f"{name}:50551",
        labels=tuple(sorted(labels.items())),
        agent_version="0.1.0",
    )


def with_roll(
    then: Callable[[Roll, Clock, FullStore], Awaitable[None]],
    *written: FleetHost,
    kept: tuple[KeptHost, ...] = (),
    at_most: int = 9,
) -> None:
    async def run() -> None:
        store, clock = FullStore(), Clock()
        async with Scribe(lambda: store) as scribe:
            roll = Roll(Fleet(hosts=written), scribe, kept, at_most=at_most, clock=clock)
            await then(roll, clock, store)

    asyncio.run(run())


def names(roll: Roll) -> list[str]:
    return [host.name for host in roll.fleet.hosts]


def test_a_snapshot_stays_as_it_is_while_hosts_come_and_are_heard() -> None:
    async def then(roll: Roll, clock: Clock, _: FullStore) -> None:
        before = roll.fleet
        visit = await roll.enter(presence("h2", rack="r1"))
        after = roll.fleet
        clock.now += 60
        await roll.heard(visit)
        assert before.hosts == ()
        assert after.hosts == (
            FleetHost(
                name="h2",
                address="h2:50551",
                labels=(("rack", "r1"),),
                last_seen=datetime.fromtimestamp(NOON, UTC),
            ),
        )
        (host,) = roll.fleet.hosts
        assert host.last_seen == datetime.fromtimestamp(NOON + 60, UTC)

    with_roll(then)


def test_another_thread_may_read_the_names_and_has_no_fleet_put_together_by_it() -> None:
    """It would do so while hosts come, and leave behind a fleet without them."""

    async def then(roll: Roll, _: Clock, __: FullStore) -> None:
        assert names(roll) == list(roll.names) == ["h1"]
        await roll.enter(presence("h2"))
        assert list(roll.names) == ["h1"]
        assert names(roll) == list(roll.names) == ["h1", "h2"]

    with_roll(then, FleetHost(name="h1", address="h1:1"))


def test_the_fleet_file_goes_first_and_before_what_a_host_says() -> None:
    async def then(roll: Roll, _: Clock, __: FullStore) -> None:
        for name in ("h9", "h1", "h2"):
            await roll.enter(presence(name, rack="r9", zone="z"))
        assert names(roll) == ["h2", "h1", "h9"]
        h2 = roll.fleet.hosts[0]
        assert (h2.address, h2.labels) == ("written:1", (("rack", "r1"), ("zone", "z")))
        roll.rewrite(Fleet(hosts=(FleetHost(name="h0", address="h0:1"),)))
        assert names(roll) == ["h0", "h1", "h2", "h9"]
        assert roll.fleet.hosts[2].address == "h2:50551"

    with_roll(then, FleetHost(name="h2", address="written:1", labels=(("rack", "r1"),)))


def test_a_name_is_taken_while_its_agent_is_there() -> None:
    async def then(roll: Roll, _: Clock, __: FullStore) -> None:
        first = await roll.enter(presence("h1", "a:1"))
        with pytest.raises(NameTakenError, match="h1 is announced already, at a:1"):
            await roll.enter(presence("h1", "b:1"))
        assert not first.replaced.is_set()
        roll.leave(first)
        await roll.enter(presence("h1", "b:1"))
        assert roll.fleet.hosts[0].address == "b:1"

    with_roll(then)


def test_of_two_that_come_at_once_with_one_name_only_one_is_let_in() -> None:
    async def then(roll: Roll, _: Clock, __: FullStore) -> None:
        came = await asyncio.gather(
            *(roll.enter(presence("h1", f"a:{n}")) for n in range(1, 4)), return_exceptions=True
        )
        assert [isinstance(one, NameTakenError) for one in came] == [False, True, True]

    with_roll(then)


def test_an_old_stream_that_ends_late_does_not_end_the_new_one() -> None:
    async def then(roll: Roll, clock: Clock, _: FullStore) -> None:
        old = await roll.enter(presence("h1"))
        await roll.enter(presence("h1"))
        assert old.replaced.is_set()
        roll.leave(old)
        clock.now += 9 * DAY
        assert await roll.forget(DAY) == []

    with_roll(then)


def test_no_more_hosts_come_in_at_once_than_there_may_be() -> None:
    async def then(roll: Roll, _: Clock, __: FullStore) -> None:
        came = await asyncio.gather(
            *(roll.enter(presence(f"h{n}")) for n in range(5)), return_exceptions=True
        )
        assert [isinstance(one, TooManyError) for one in came] == [False] * 3 + [True] * 2
        assert names(roll) == ["h0", "h1", "h2"]

    with_roll(then, at_most=3)


def test_what_is_not_kept_is_not_in_the_fleet_and_may_come_again() -> None:
    async def then(roll: Roll, _: Clock, store: FullStore) -> None:
        visit = await roll.enter(presence("h1"))
        store.full = True
        for _again in range(
            9
        ):  # none of them takes a place from those that come when there is room
            with pytest.raises(StoreFullError):
                await roll.enter(presence("h2"))
        with pytest.raises(StoreFullError):
            await roll.heard(visit)
        assert names(roll) == ["h1"]
        store.full = False
        await roll.enter(presence("h2"))
        assert names(roll) == ["h1", "h2"]

    with_roll(then, at_most=2)


def test_a_store_in_trouble_is_logged_once_and_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def then(roll: Roll, _: Clock, store: FullStore) -> None:
        visit = await roll.enter(presence("h1"))
        store.full = True
        for _again in range(3):
            with pytest.raises(StoreFullError):
                await roll.heard(visit)
        store.full = False
        for _again in range(3):
            await roll.heard(visit)

    with caplog.at_level("INFO"):
        with_roll(then)
    assert caplog.messages == [
        "what hosts announce is not kept: /c.db: the disk is full",
        "what hosts announce is kept again",
    ]


def test_a_host_is_forgotten_when_it_was_silent_for_long_enough() -> None:
    async def then(roll: Roll, clock: Clock, _: FullStore) -> None:
        roll.leave(await roll.enter(presence("h1")))
        await roll.enter(presence("h2"))
        clock.now += DAY
        assert await roll.forget(DAY) == []
        clock.now += 1
        assert await roll.forget(DAY) == ["h1"]
        assert names(roll) == ["h2"]

    with_roll(then)


def test_a_host_of_the_fleet_file_is_forgotten_only_as_an_announced_one() -> None:
    async def then(roll: Roll, clock: Clock, _: FullStore) -> None:
        roll.leave(await roll.enter(presence("h1", zone="z")))
        clock.now += 2 * DAY
        await roll.forget(DAY)
        assert roll.fleet.hosts == (FleetHost(name="h1", address="written:1"),)

    with_roll(then, FleetHost(name="h1", address="written:1"))


def test_while_there_was_no_controller_nobody_was_silent() -> None:
    """Otherwise one that starts after a week would forget all before they can come back."""
    kept = KeptHost(name="h1", address="h1:1", labels=(), agent_version="", seen_at=NOON - 30 * DAY)

    async def then(roll: Roll, clock: Clock, _: FullStore) -> None:
        assert await roll.forget(DAY) == []
        clock.now += DAY + 1
        assert await roll.forget(DAY) == ["h1"]

    with_roll(then, kept=(kept,))


def test_a_host_that_comes_back_while_it_is_being_forgotten_stays() -> None:
    async def then(roll: Roll, clock: Clock, store: FullStore) -> None:
        roll.leave(await roll.enter(presence("h1")))
        clock.now += 2 * DAY
        forgetting = asyncio.create_task(roll.forget(DAY))
        await asyncio.sleep(0)
        await roll.enter(presence("h1"))
        await forgetting
        assert names(roll) == ["h1"]
        assert [host.name for host in store.hosts()] == ["h1"]

    with_roll(then)


def test_what_many_say_at_once_is_kept_in_few_turns() -> None:
    async def then(roll: Roll, _: Clock, store: FullStore) -> None:
        await asyncio.gather(*(roll.enter(presence(f"h{n}")) for n in range(500)))
        assert len(store.hosts()) == 500
        assert store.turns <= 3

    with_roll(then, at_most=500)


def test_a_change_is_told_to_whoever_waits_for_it() -> None:
    async def then(roll: Roll, _: Clock, __: FullStore) -> None:
        waiting = asyncio.create_task(roll.changed())
        visit = await roll.enter(presence("h1"))
        await asyncio.wait_for(waiting, 5)
        again = asyncio.create_task(roll.changed())
        await roll.heard(visit)
        await asyncio.sleep(0)
        assert not again.done(), "that it is still there is no change"
        roll.rewrite(Fleet(hosts=()))
        await asyncio.wait_for(again, 5)

    with_roll(then)


def test_a_store_that_cannot_be_opened_is_told_by_whoever_would_use_it() -> None:
    def fails() -> MemoryStore:
        raise StoreError("/c.db: is not a database")

    async def run() -> None:
        async with Scribe(fails):
            raise AssertionError("it was opened")

    with pytest.raises(StoreError, match="is not a database"):
        asyncio.run(run())
