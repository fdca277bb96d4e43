"""Where questions are put to a fleet: the same for a command in its own process and for a service.

A desk keeps its connections to the agents for as long as it is open.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from virt_preflight.controller import asking, wire
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import Heard, HostDescription, Silent
from virt_preflight.controller.asking import Asker, Tell, Watch, untold, unwatched
from virt_preflight.controller.catalogue import Catalogue
from virt_preflight.controller.depth import LONGER_S, Depth
from virt_preflight.controller.fanout import Pace
from virt_preflight.controller.fleet import Fleet, FleetHost, selected
from virt_preflight.controller.observing import UNOBSERVED, HostObserver
from virt_preflight.controller.question import Asked, Question
from virt_preflight.controller.sockets import Room, make_room

Described = Heard[HostDescription] | Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one host is waited for, if not as the fleet has it; and when time is up."""

    each_s: float | None = None
    ends: float = math.inf


AS_THE_FLEET = Patience()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A fleet, and open connections to its agents."""

    # What the fleet is at this moment: it may change from question to question, never within one.
    now: Callable[[], Fleet]
    agents: Agents
    room: Room
    observer: HostObserver = UNOBSERVED

    @property
    def fleet(self) -> Fleet:
        """As it is at this moment."""
        return self.now()

    async def dry_run(
        self,
        question: Question,
        patience: Patience = AS_THE_FLEET,
        watch: Watch = unwatched,
        tell: Tell = untold,
    ) -> Asked:
        """The answer of every host asked about, for one guest."""
        asker = self._asker(patience, question.questions.depth, watch, tell)
        return await asking.ask(question, asker)

    async def hosts(
        self,
        labels: Iterable[str] = (),
        patience: Patience = AS_THE_FLEET,
        watch: Watch = unwatched,
    ) -> list[tuple[FleetHost, Described]]:
        """Each host that has these labels, and what it says of itself."""
        asker = self._asker(patience, Depth.FACTS, watch)
        hosts = selected(asker.fleet.hosts, labels)
        answers = await asker.all("asking", hosts, wire.describe_host(), asker.brisk)
        return list(zip(hosts, answers, strict=True))

    async def checks(self, patience: Patience = AS_THE_FLEET) -> Catalogue:
        """Every check, as the agent lists them that answers first."""
        return await asking.ask_for_checks(self._asker(patience, Depth.FACTS))

    def _asker(
        self, patience: Patience, depth: Depth, watch: Watch = unwatched, tell: Tell = untold
    ) -> Asker:
        fleet = self.fleet
        return Asker(
            fleet=fleet,
            agents=self.agents,
            pace=self._pace(fleet, patience, depth),
            brisk=self._pace(fleet, patience, Depth.FACTS),
            watch=watch,
            tell=tell,
            ends=patience.ends,
            observer=self.observer,
        )

    def _pace(self, fleet: Fleet, patience: Patience, depth: Depth) -> Pace:
        each_s = patience_s(fleet, patience.each_s, depth)
        return Pace(
            each_s=each_s,
            all_s=max(each_s, fleet.deadline_s),
            in_flight=self.room.in_flight,
        )


@asynccontextmanager
async def opened(fleet: Fleet, observer: HostObserver = UNOBSERVED) -> AsyncIterator[Desk]:
    """A desk for that fleet. Its connections end with the block."""
    room = make_room(len(fleet.hosts), fleet.in_flight)
    async with Agents(room.kept, fleet.tls) as agents:
        yield Desk(now=lambda: fleet, agents=agents, room=room, observer=observer)


@asynccontextmanager
async def opened_for(
    now: Callable[[], Fleet], room: Room, observer: HostObserver = UNOBSERVED
) -> AsyncIterator[Desk]:
    """The same for a fleet that changes, with room for as many as it may come to.

    All but its certificates: those stay the ones of the fleet with which it began.
    """
    async with Agents(room.kept, now().tls) as agents:
        yield Desk(now=now, agents=agents, room=room, observer=observer)


def patience_s(fleet: Fleet, given_s: float | None, depth: Depth) -> float:
    """How long one host is waited for. What the user says holds as it is."""
    return fleet.timeout_s + LONGER_S[depth] if given_s is None else given_s


def ends_in(seconds: float | None) -> float:
    """When that time is up, by the event loop's clock."""
    return math.inf if seconds is None else asyncio.get_running_loop().time() + seconds
