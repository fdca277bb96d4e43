"""Keeps what is known of the host, each fact at its pace; finds a question's facts by type."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from virt_preflight.agent.catalogue import Catalogue
from virt_preflight.agent.fact import AnyProvider, Kind, Pace, Unknown
from virt_preflight.agent.runner import Known
from virt_preflight.agent.sources import Source
from virt_preflight.agent.sources.stage import Stage

# A fact that stays until a reboot or an upgrade is still read anew now and then: a package may be
# upgraded, a file be edited, without libvirtd being restarted.
FIXED_MAX_AGE_S = 60.0
MOVING_MAX_AGE_S = 1.0
# Kept answers to looks, one for each emulator, machine type and the like that guests have.
LOOKS_AT_MOST = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A fact with the moment it was learned, on the store's clock."""

    value: object | Unknown | None
    learned_at_s: float
    generation: int


@dataclass(slots=True, kw_only=True)
class FactStore:
    """One host's facts. Safe to ask from several threads; a fact is learned by one at a time."""

    source: Source
    catalogue: Catalogue
    clock: Callable[[], float]
    # Where a stand-in can be tried; None: nothing but a record of a host is there.
    stage: Stage | None = None
    # Where looks are put, which are about a guest's own things; None: to the source as well.
    looking: Source | None = None
    _haves: dict[Hashable, Held] = field(default_factory=dict)
    _looks: dict[Hashable, Held] = field(default_factory=dict)
    _locks: dict[type, threading.Lock] = field(default_factory=dict)

    def question(
        self, given: Mapping[type, object | None], max_age_s: float | None = None
    ) -> Question:
        """Facts for one guest. `max_age_s` bounds the age of moving facts; 0: of fixed ones too."""
        moving = MOVING_MAX_AGE_S if max_age_s is None else max_age_s
        fixed = 0.0 if max_age_s == 0 else FIXED_MAX_AGE_S
        started = self.clock()
        return Question(
            store=self,
            given={**given, Source: self.source},
            oldest_by_pace={Pace.MOVING: started - moving, Pace.FIXED: started - fixed},
            generation=self.source.generation(),
        )

    @property
    def for_guests(self) -> Source:
        """Where to put what is about a guest's own things."""
        return self.source if self.looking is None else self.looking

    def ages_s(self) -> dict[str, float]:
        """By family, the age of the oldest fact of the host that is kept. Nothing is learned."""
        found: dict[str, float] = {}
        for provider in self.catalogue.provider_by_type.values():
            if (held := self._haves.get(provider.gives)) is not None:
                age_s = self.age_s(held)
                found[provider.family] = max(found.get(provider.family, 0.0), age_s)
        return found

    def age_s(self, held: Held) -> float:
        """Seconds since it was learned."""
        return max(0.0, self.clock() - held.learned_at_s)

    def kept(
        self,
        provider: AnyProvider,
        key: Hashable,
        oldest_s: float,
        generation: int,
        learn: Callable[[], object | Unknown | None],
    ) -> Held:
        """The fact under that key, learned anew when it is too old or of an earlier libvirtd."""
        shelf = self._haves if provider.kind is Kind.HAVE else self._looks
        with self._locks.setdefault(provider.gives, threading.Lock()):
            held = shelf.get(key)
            if held is not None and held.generation == generation:
                # What could not be learned is tried again soon, whatever its pace.
                if isinstance(held.value, Unknown):
                    oldest_s = max(oldest_s, self.clock() - MOVING_MAX_AGE_S)
                if held.learned_at_s >= oldest_s:
                    return held
            learned_at_s = self.clock()
            held = Held(value=learn(), learned_at_s=learned_at_s, generation=generation)
            if len(shelf) >= LOOKS_AT_MOST:
                shelf.clear()
            shelf[key] = held
            return held


@dataclass(slots=True, kw_only=True)
class Question:
    """The facts that one question needs, each found out once and only when a check asks for it."""

    store: FactStore
    given: dict[type, object | None]
    oldest_by_pace: Mapping[Pace, float]
    generation: int
    _known: dict[type, Known] = field(default_factory=dict)

    def known(self, asked: type) -> Known:
        """What is known of that type of fact."""
        found = self._known.get(asked)
        if found is None:
            found = self._known[asked] = self._find_out(asked)
        return found

    def value(self, asked: type) -> Any:
        """The fact itself, Unknown, or None."""
        return self.known(asked).value

    def _find_out(self, asked: type) -> Known:
        if asked in self.given:
            return Known(value=self.given[asked], pace=Pace.FIXED)
        provider = self.store.catalogue.provider_by_type[asked]
        # A fact of the host is asked for even when it is kept: its own needs are then kept too.
        arguments = [self.known(needed).value for needed in provider.asks]
        if any(argument is None for argument in arguments):
            return Known(value=None, pace=provider.pace)
        for argument in arguments:
            if isinstance(argument, Unknown):
                return Known(value=argument, pace=provider.pace)

        looking = self.store.looking if provider.kind is Kind.LOOK else None

        def learn() -> object | Unknown | None:
            if looking is None:
                return learned(provider, arguments)
            store = self.store
            return learned(provider, [looking if it is store.source else it for it in arguments])

        match provider.kind, provider.pace:
            case (Kind.NEED, _) | (Kind.LOOK, Pace.MOVING):
                return Known(value=learn(), pace=provider.pace)
            case Kind.HAVE, _:
                key: Hashable = provider.gives
            case _:
                facts = (item for item in arguments if item is not self.store.source)
                key = (provider.gives, *facts)
        held = self.store.kept(
            provider, key, self.oldest_by_pace[provider.pace], self.generation, learn
        )
        return Known(value=held.value, pace=provider.pace, age_s=self.store.age_s(held))


def learned(provider: AnyProvider, arguments: list[object]) -> object | Unknown | None:
    """One fact that cannot be learned must not cost us the others."""
    try:
        return provider.function(*arguments)  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
        return Unknown(f"{provider.family}: {error}")
