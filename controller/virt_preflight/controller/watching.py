"""What changes in a fleet, for everybody who watches it: the hosts are asked once for all."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from virt_preflight.controller.answers import Capacity, Silent
from virt_preflight.controller.desk import Described, Desk
from virt_preflight.controller.fleet import FleetHost

Seen = tuple[FleetHost, Described]
KIB_PER_GIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Hosts that came or changed, and the names of those that are there no more."""

    seen: tuple[Seen, ...]
    gone: tuple[str, ...]


class HostWatch:
    """Looks at the hosts again and again while somebody watches, and only then."""

    def __init__(self, desk: Desk, every_s: float) -> None:
        self._desk = desk
        self._every_s = every_s
        self._seen: dict[str, Seen] = {}
        self._looked = asyncio.Condition()
        self._watchers = 0
        self._ended = False

    async def end(self) -> None:
        """Nobody is told anything more."""
        async with self._looked:
            self._ended = True
            self._looked.notify_all()

    async def changes(self, labels: Sequence[str]) -> AsyncGenerator[News, None]:
        """At first all hosts, then those that came, went, or of which something has changed."""
        told: dict[str, object] = {}
        async with self._watched():
            # What was seen before this watcher came may be old by hours: a look is waited for.
            while await self._next_look():
                chosen = [one for one in self._seen.values() if _has(one[0], labels)]
                now = {host.name: coarse(host, answer) for host, answer in chosen}
                news = News(
                    seen=tuple(it for it in chosen if told.get(it[0].name) != now[it[0].name]),
                    gone=tuple(sorted(told.keys() - now.keys())),
                )
                told = now
                if news.seen or news.gone:
                    yield news

    async def _next_look(self) -> bool:
        async with self._looked:
            if not self._ended:
                await self._looked.wait()
            return not self._ended

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        self._watchers += 1
        if self._watchers == 1:
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0:
                self._looking.cancel()
                await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            seen = await self._desk.hosts()
            async with self._looked:
                self._seen = {host.name: (host, answer) for host, answer in seen}
                self._looked.notify_all()
            await asyncio.sleep(self._every_s)


def coarse(host: FleetHost, answer: Described) -> object:
    """What counts as a change: not the age of facts, and of memory only whole GiB.

    Nor when an announced host was last heard, which it is all the time.
    """
    known = (host.address, host.labels, host.last_seen is not None)
    if isinstance(answer, Silent):
        return known, answer.why
    said = answer.said
    had = said.capacity
    free = had and Capacity(
        memory_total_kib=had.memory_total_kib,
        memory_free_kib=had.memory_free_kib // KIB_PER_GIB,
    )
    return known, replace(said, facts_age_ms=0, capacity=free)


def _has(host: FleetHost, labels: Sequence[str]) -> bool:
    return set(labels) <= {f"{key}={value}" for key, value in host.labels}
