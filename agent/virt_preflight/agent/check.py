"""What a check is: one pure function that asks for facts by type and yields what does not agree."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, ParamSpec

from virt_preflight.agent.depth import Depth
from virt_preflight.agent.fact import asked_types, family_of
from virt_preflight.agent.report import Phase, Severity, Side

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that does not agree, in the operator's words.

    `remedy`, `severity`, `side` and `phase` are only for a problem that differs in them from its
    check.
    """

    subject: str
    wanted: str
    found: str
    remedy: str | None = None
    commands: tuple[str, ...] = ()
    severity: Severity | None = None
    side: Side | None = None
    phase: Phase | None = None
    # How deep one had to ask to find it, and libvirt's own words where libvirt was asked.
    depth: Depth = Depth.FACTS
    libvirt_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CouldNotTell:
    """The check cannot be answered for this one subject; it is for the others."""

    subject: str
    why: str
    depth: Depth = Depth.FACTS


Problems = Iterator[Problem | CouldNotTell]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Check(Generic[P]):
    """A check with all that there is to know of it. Call it as the function that it is."""

    id: str
    severity: Severity
    title: str
    remedy: str
    side: Side
    phase: Phase
    offline: bool
    explanation: str
    asks: tuple[type, ...]
    function: Callable[P, Problems]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Problems:
        """What the function itself yields: tests call it so."""
        return self.function(*args, **kwargs)

    @property
    def family(self) -> str:
        """The part of the id before the dot."""
        return self.id.partition(".")[0]


AnyCheck = Check[...]


def check(
    id: str,  # noqa: A002 - the field's own word for it
    severity: Severity,
    *,
    title: str,
    remedy: str,
    side: Side = Side.DESTINATION,
    phase: Phase = Phase.PREPARE,
    offline: bool = False,
) -> Callable[[Callable[P, Problems]], Check[P]]:
    """Make a check of a function. The id is family + fault and is for ever.

    `offline`: it also applies when a shut-off guest's definition is moved (`--offline`).
    """

    def made(function: Callable[P, Problems]) -> Check[P]:
        family, _, fault = id.partition(".")
        assert family == family_of(function), f"{id}: not in families/{family}"
        assert fault.replace("-", "_") == function.__name__, (
            f"{id}: its function is named otherwise"
        )
        return Check(
            id=id,
            severity=severity,
            title=title,
            remedy=remedy,
            side=side,
            phase=phase,
            offline=offline,
            explanation=inspect.getdoc(function) or "",
            asks=asked_types(function),
            function=function,
        )

    return made
