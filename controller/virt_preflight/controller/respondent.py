"""Who answers a command: the agents, asked by this very process, or a controller that asks them."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from virt_preflight.controller import interrupts
from virt_preflight.controller.asking import Watch
from virt_preflight.controller.catalogue import Catalogue
from virt_preflight.controller.desk import Described, Desk, Patience, opened
from virt_preflight.controller.dryrun import DryRun, conclude
from virt_preflight.controller.fleet import Fleet, FleetHost, Trust, Uris
from virt_preflight.controller.question import Question
from virt_preflight.controller.trouble import NothingToAskError

T = TypeVar("T")
Seen = list[tuple[FleetHost, Described]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed(Generic[T]):
    """An answer, when it was asked for and how long it took."""

    said: T
    asked_at: datetime
    took_ms: int


class Respondent(Protocol):
    """What commands ask for."""

    def dry_run(self, question: Question, watch: Watch) -> DryRun:
        """The whole question about one guest."""
        ...

    def hosts(self, watch: Watch, /) -> Timed[Seen]:
        """The fleet, and what each host says of itself."""
        ...

    def checks(self) -> Catalogue:
        """Every check."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """This process asks the agents. Connections last from the first question to the last."""

    fleet: Fleet
    timeout_s: float | None

    def dry_run(self, question: Question, watch: Watch) -> DryRun:
        """The whole question about one guest."""
        timed = self._at_a_desk(lambda desk: desk.dry_run(question, self._patience, watch))
        return conclude(timed.said, question, self.fleet.uris, timed.asked_at, timed.took_ms)

    def hosts(self, watch: Watch, /) -> Timed[Seen]:
        """The fleet, and what each host says of itself."""
        return self._at_a_desk(lambda desk: desk.hosts((), self._patience, watch))

    def checks(self) -> Catalogue:
        """Every check."""
        return self._at_a_desk(lambda desk: desk.checks(self._patience)).said

    @property
    def _patience(self) -> Patience:
        return Patience(each_s=self.timeout_s)

    def _at_a_desk(self, ask: Callable[[Desk], Awaitable[T]]) -> Timed[T]:
        async def asking() -> T:
            async with opened(self.fleet) as desk:
                return await ask(desk)

        return _timed(lambda: interrupts.run(asking()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A controller that stays up asks them. What comes of it is shown in the same way."""

    address: str
    timeout_s: float | None
    trust: Trust

    def dry_run(self, question: Question, watch: Watch) -> DryRun:
        """The whole question about one guest."""
        from virt_preflight.controller.client import Controller

        with Controller(self.address, self.trust) as controller:
            timed = _timed(
                lambda: controller.dry_run(question, timeout_s=self.timeout_s, watch=watch)
            )
        asked, commands = timed.said
        run = conclude(asked, question, Uris(), timed.asked_at, timed.took_ms)
        # How virsh reaches the hosts is the controller's to know.
        return replace(run, command_by_host=commands)

    def hosts(self, _watch: Watch, /) -> Timed[Seen]:
        """The fleet, and what each host says of itself."""
        from virt_preflight.controller.client import Controller

        with Controller(self.address, self.trust) as controller:
            timed = _timed(lambda: controller.hosts(timeout_s=self.timeout_s))
        if not timed.said:
            raise NothingToAskError(
                f"controller at {self.address}: no host is known yet: none is in a fleet file,"
                " and none has announced itself"
            )
        return timed

    def checks(self) -> Catalogue:
        """Every check."""
        from virt_preflight.controller.client import Controller

        with Controller(self.address, self.trust) as controller:
            return controller.checks(timeout_s=self.timeout_s)


def _timed(ask: Callable[[], T]) -> Timed[T]:
    asked_at, started = datetime.now(UTC), time.monotonic()
    said = ask()
    return Timed(said=said, asked_at=asked_at, took_ms=round((time.monotonic() - started) * 1000))
