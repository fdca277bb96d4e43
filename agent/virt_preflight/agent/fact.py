"""Facts: what a guest needs, what a host has, what a host says of one guest's own things.

A fact is a frozen dataclass. One function gives each, and says by its parameters what it needs to
give it; so a check, too, only names the facts that it wants, by their types.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that could not be learned. It never clears a host and never blocks it."""

    why: str


class Pace(Enum):
    """How soon a fact may be another."""

    FIXED = "fixed"  # until the host is rebooted, upgraded or configured anew
    MOVING = "moving"  # at any moment


class Kind(Enum):
    """Where a fact comes from."""

    NEED = "need"  # read from the guest's domain XML: no host is asked
    HAVE = "have"  # the host's own, learned ahead of any question
    LOOK = "look"  # the host's answer about this guest's own things: its files, its devices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Provider(Generic[P, T]):
    """The one function that gives a type of fact. Call it as the function that it is."""

    function: Callable[P, T]
    kind: Kind
    pace: Pace
    gives: type
    asks: tuple[type, ...]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function itself gives: tests call it so."""
        return self.function(*args, **kwargs)

    @property
    def family(self) -> str:
        """The topic that it belongs to: the name of its module."""
        return family_of(self.function)


AnyProvider = Provider[..., Any]


def need(function: Callable[P, T]) -> Provider[P, T]:
    """What a guest needs, from its domain XML; None when it has none of it."""
    return _provider(function, Kind.NEED, Pace.FIXED)


def have(pace: Pace) -> Callable[[Callable[P, T]], Provider[P, T]]:
    """What the host has. Learned ahead, kept, and read anew at its pace."""
    return lambda function: _provider(function, Kind.HAVE, pace)


def look(pace: Pace) -> Callable[[Callable[P, T]], Provider[P, T]]:
    """What the host says of one guest's things. A FIXED answer is kept by what was asked."""
    return lambda function: _provider(function, Kind.LOOK, pace)


def _provider(function: Callable[P, T], kind: Kind, pace: Pace) -> Provider[P, T]:
    hints = get_type_hints(function)
    gives = fact_type(hints.pop("return"))
    return Provider(
        function=function, kind=kind, pace=pace, gives=gives, asks=asked_types(function)
    )


def asked_types(function: Callable[..., Any]) -> tuple[type, ...]:
    """The facts that a function wants, by the types of its parameters, in their order."""
    hints = get_type_hints(function)
    hints.pop("return", None)
    return tuple(fact_type(hint) for hint in hints.values())


def fact_type(hint: Any) -> type:
    """The fact in an annotation: `HostPages` in `HostPages`, `HostPages | None`."""
    if isinstance(hint, types.UnionType):
        (hint,) = (arm for arm in get_args(hint) if arm not in (types.NoneType, Unknown))
    found = get_origin(hint) or hint
    assert isinstance(found, type), f"{hint} is no type of fact"
    return found


def family_of(function: Callable[..., Any]) -> str:
    """The last word of the module's name that is not a part of a family package."""
    words = function.__module__.split(".")
    if "families" in words:
        return words[words.index("families") + 1]
    return words[-1]
