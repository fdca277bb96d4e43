"""Connections to agents are there before a question, and come back by themselves."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controller.fakes import FakeAgent, running
from tests.controller.test_commands import DESCRIBED
from tests.replayed import RECORDINGS
from tests.service.controllers import controller, until
from tests.service.relay import relayed
from tests.service.test_announcing import NOBODY, Visitor, heard
from virt_preflight.controller.agents import Agents, Key, key_of
from virt_preflight.controller.fleet import Fleet, FleetHost
from virt_preflight.controller.roll import Roll
from virt_preflight.controller.scribe import Scribe
from virt_preflight.controller.settings import Announced
from virt_preflight.controller.store.memory import MemoryStore
from virt_preflight.controller.warming import AT_ONCE, warmed

AGENT = Path(sys.executable).parent / "virt-preflight-agent"


def path_of(address: str) -> str:
    return address.removeprefix("unix:")


def test_hosts_are_connected_before_anybody_asks() -> None:
    with (
        running(FakeAgent("h1", {"DescribeHost": DESCRIBED})) as fleet,
        relayed(path_of(fleet.addresses["h1"])) as relay,
        controller(f"h1={relay.address}") as address,
    ):
        until(lambda: relay.made == 1)
        for _ in range(3):
            assert heard(address)
        assert relay.made == 1
    assert fleet["h1"].requests("DescribeHost") == [b""] * 3


def test_a_connection_that_was_cut_is_made_again_before_the_next_question() -> None:
    with (
        running(FakeAgent("h1", {"DescribeHost": DESCRIBED})) as fleet,
        relayed(path_of(fleet.addresses["h1"])) as relay,
        controller(f"h1={relay.address}") as address,
    ):
        until(lambda: relay.made == 1)
        relay.cut()
        until(lambda: relay.made == 2)
        assert heard(address)
        assert relay.made == 2


@contextlib.contextmanager
def replaying(path: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(AGENT), "replay", str(RECORDINGS / "h1"), "--listen", f"unix:{path}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as agent:
        try:
            yield agent
        finally:
            agent.kill()


def test_an_agent_that_was_killed_and_started_again_is_connected_before_the_next_question() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="vp-") as place,
        relayed(f"{place}/h1") as relay,
        controller(f"h1={relay.address}") as address,
    ):
        with replaying(f"{place}/h1"):
            until(lambda: relay.open, within_s=40)
            assert heard(address)
        until(lambda: not relay.open)
        assert not heard(address)
        with replaying(f"{place}/h1"):
            until(lambda: relay.open, within_s=40)
            made = relay.made
            assert heard(address)
            assert relay.made == made


def test_a_host_is_connected_when_it_announces_itself_and_let_go_when_it_is_forgotten() -> None:
    soon = Announced(forget_after_days=1 / 86_400)
    with (
        running(FakeAgent("h1", {"DescribeHost": DESCRIBED})) as fleet,
        relayed(path_of(fleet.addresses["h1"])) as relay,
        controller(NOBODY, announced=soon) as address,
    ):
        visitor = Visitor(address)
        visitor.comes("h1", relay.address)
        until(lambda: relay.open)
        visitor.goes()
        until(lambda: not relay.open)
    assert fleet["h1"].heard == []


def test_a_host_whose_address_changes_is_connected_where_it_is_now() -> None:
    with (
        running(FakeAgent("h1", {"DescribeHost": DESCRIBED})) as fleet,
        relayed(path_of(fleet.addresses["h1"])) as old,
        relayed(path_of(fleet.addresses["h1"])) as new,
        controller(NOBODY) as address,
    ):
        visitor = Visitor(address)
        visitor.comes("h1", old.address)
        until(lambda: old.open)
        visitor.goes()
        again = Visitor(address)
        until(lambda: _came(again, new.address))
        until(lambda: new.open and not old.open)
        again.goes()


def _came(visitor: Visitor, address: str) -> bool:
    """The controller may not have noticed yet that the stream before has ended."""
    with contextlib.suppress(Exception):
        visitor.comes("h1", address)
        return True
    return False


class Counted(Agents):
    """Takes a moment for each connection, and counts how many are being made at a time."""

    def __init__(self) -> None:
        super().__init__(at_most=1000)
        self.now, self.most = 0, 0
        self.connected_to: set[Key] = set()

    async def connected(self, host: FleetHost, within_s: float) -> bool:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        self.connected_to.add(key_of(host))
        return True

    async def lost(self, host: FleetHost) -> None:
        await asyncio.Event().wait()


async def test_a_large_fleet_is_not_connected_all_at_once() -> None:
    hosts = tuple(FleetHost(name=f"h{n}", address=f"h{n}:1") for n in range(300))
    agents = Counted()
    async with Scribe(MemoryStore) as scribe:
        roll = Roll(Fleet(hosts=hosts), scribe, at_most=0)
        async with warmed(roll, agents):
            async with asyncio.timeout(20):
                while len(agents.connected_to) < len(hosts):
                    await asyncio.sleep(0.01)
    assert agents.most == AT_ONCE


async def test_where_there_is_no_room_a_connection_is_not_kept() -> None:
    with running(FakeAgent("h1", {}), FakeAgent("h2", {})) as fleet:
        h1, h2 = (FleetHost(name=name, address=at) for name, at in fleet.addresses.items())
        async with Agents(at_most=1) as agents:
            assert await agents.connected(h1, 5)
            assert not await agents.connected(h2, 5)
            await agents.drop(key_of(h1))
            assert await agents.connected(h2, 5)


async def test_a_host_that_does_not_answer_is_given_up_in_time() -> None:
    """The kernel accepts, and nobody says anything."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        host = FleetHost(name="h1", address=f"127.0.0.1:{deaf.getsockname()[1]}")
        async with Agents(at_most=1) as agents, asyncio.timeout(10):
            assert not await agents.connected(host, 0.2)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "unix:/nowhere", "no-such-host.invalid:1"])
async def test_a_host_that_cannot_be_reached_is_given_up(address: str) -> None:
    async with Agents(at_most=1) as agents, asyncio.timeout(20):
        assert not await agents.connected(FleetHost(name="h1", address=address), 10)
