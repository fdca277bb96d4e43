"""The fleet as it is now: the hosts of the fleet file, and those whose agents announced themselves.

Of a host that is in both, the fleet file's address holds, and of two labels with one key the fleet
file's: what the operator wrote down goes before what a host says of itself.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from virt_preflight.controller.fleet import Fleet, FleetHost
from virt_preflight.controller.scribe import Scribe
from virt_preflight.controller.store import Forget, KeptHost, Remember, Seen
from virt_preflight.treaty.turnstile import TooManyError


class NameTakenError(Exception):
    """Another agent of that name is there. Says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What an agent says of its host."""

    name: str
    address: str
    labels: tuple[tuple[str, str], ...]
    agent_version: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Visit:
    """An agent's stream, for as long as it lasts."""

    presence: Presence
    # Set when a newer stream of the same agent took its place.
    replaced: asyncio.Event = field(default_factory=asyncio.Event)


class Roll:
    """Who is there. Announced hosts are in it once they are kept, and until they are forgotten."""

    def __init__(
        self,
        written: Fleet,
        scribe: Scribe,
        kept: Iterable[KeptHost] = (),
        *,
        at_most: int,
        insecure: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._written = written
        self._scribe = scribe
        self._kept = {host.name: host for host in kept}
        self._at_most = at_most
        # Whether hosts that are not written down are asked without TLS.
        self._insecure = insecure
        self._clock = clock
        self._began = clock()
        self._visits: dict[str, Visit] = {}
        # New ones that are not kept yet.
        self._arriving = 0
        # None: to be put together anew. It is asked for less often than hosts are heard.
        self._hosts: dict[str, FleetHost] | None = None
        self._fleet: Fleet | None = None
        # Of the fleet as it was last put together. All that another thread may read.
        self.names: tuple[str, ...] = ()
        self._changed = asyncio.Event()

    @property
    def fleet(self) -> Fleet:
        """As it is at this moment; a question keeps to it from beginning to end."""
        if self._hosts is None:
            self._hosts = {host.name: host for host in self._called()}
            self.names = tuple(self._hosts)
            self._fleet = None
        if self._fleet is None:
            self._fleet = replace(self._written, hosts=tuple(self._hosts.values()))
        return self._fleet

    def announcing(self) -> int:
        """How many hosts' agents are there. Any thread may ask."""
        return len(self._visits)

    async def changed(self) -> None:
        """Returns when hosts came, went or moved since this was last asked."""
        await self._changed.wait()
        self._changed.clear()

    def rewrite(self, written: Fleet) -> None:
        """The fleet file says something else now."""
        self._written = written
        self._anew()

    async def enter(self, presence: Presence) -> Visit:
        """An agent is there, and what it says is kept. The visit is to be left at its end."""
        name = presence.name
        before = self._visits.get(name)
        if before is not None and before.presence.address != presence.address:
            raise NameTakenError(f"{name} is announced already, at {before.presence.address}")
        arrives = name not in self._kept and before is None
        if arrives and len(self._kept) + self._arriving >= self._at_most:
            raise TooManyError(f"{self._at_most} hosts are announced already, and no more are kept")
        visit = self._visits[name] = Visit(presence=presence)
        if before is not None:
            before.replaced.set()
        self._arriving += arrives
        host = KeptHost(
            name=name,
            address=presence.address,
            labels=presence.labels,
            agent_version=presence.agent_version,
            seen_at=self._now(),
        )
        try:
            await self._scribe.write(Remember(host=host), then=lambda: self._take(host))
        except BaseException:
            self.leave(visit)
            raise
        finally:
            self._arriving -= arrives
        return visit

    async def heard(self, visit: Visit) -> None:
        """It is still there, and that is kept."""
        name, now = visit.presence.name, self._now()
        await self._scribe.write(Seen(name=name, at=now), then=lambda: self._see(name, now))

    def leave(self, visit: Visit) -> None:
        """Its stream has ended. It stays in the fleet, and may be back any moment."""
        if self._visits.get(visit.presence.name) is visit:
            del self._visits[visit.presence.name]

    async def forget(self, after_s: float) -> list[str]:
        """Hosts that were silent for so long are in the fleet no more; their names.

        While there was no controller nobody could be heard, so that does not count as silence.
        """
        ends = self._clock() - after_s
        gone = [
            name
            for name, host in self._kept.items()
            if name not in self._visits and max(host.seen_at, self._began) < ends
        ]
        for name in gone:
            await self._scribe.write(Forget(name=name), then=partial(self._drop, name))
        return gone

    def _called(self) -> Iterator[FleetHost]:
        """Those of the fleet file in its order, then the others by their names."""
        listed = {host.name for host in self._written.hosts}
        for host in self._written.hosts:
            yield _both(host, self._kept[host.name]) if host.name in self._kept else host
        for name in sorted(self._kept.keys() - listed):
            kept = self._kept[name]
            yield FleetHost(
                name=name,
                address=kept.address,
                labels=kept.labels,
                insecure=self._insecure,
                last_seen=_moment(kept.seen_at),
            )

    def _take(self, host: KeptHost) -> None:
        before = self._kept.get(host.name)
        self._kept[host.name] = host
        if before is None or replace(before, seen_at=host.seen_at) != host:
            self._anew()
        else:
            self._see(host.name, host.seen_at)

    def _see(self, name: str, now: int) -> None:
        if (host := self._kept.get(name)) is None:
            return
        self._kept[name] = replace(host, seen_at=now)
        if self._hosts is not None and name in self._hosts:
            self._hosts[name] = replace(self._hosts[name], last_seen=_moment(now))
            self._fleet = None

    def _drop(self, name: str) -> None:
        if name not in self._visits and self._kept.pop(name, None) is not None:
            self._anew()

    def _anew(self) -> None:
        self._hosts = None
        self._changed.set()

    def _now(self) -> int:
        return int(self._clock())


def _both(written: FleetHost, kept: KeptHost) -> FleetHost:
    labels = dict(kept.labels) | dict(written.labels)
    return replace(written, labels=tuple(sorted(labels.items())), last_seen=_moment(kept.seen_at))


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
