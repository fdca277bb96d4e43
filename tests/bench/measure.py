"""What is measured is measured in turns with its baseline, so that both meet the same machine.

Machines are shared and noisy: a figure is a median over rounds, compared with its baseline of the
same rounds, and never a reason to fail.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

# Does the thing once and gives the seconds that it took.
Timed = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. Without a target it is for information."""

    name: str
    measured: float
    unit: str
    target: float | None = None
    # What it was held against, in the words and units of the baseline itself.
    beside: str

    @property
    def outcome(self) -> str:
        if self.target is None:
            return ""
        return "met" if self.measured <= self.target else "over"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"outcome": self.outcome}


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Something that could not be measured here, and what is missing for it."""

    name: str
    why: str


async def in_turns(rounds: int, measured: Timed, baseline: Timed) -> Pairs:
    """Both, `rounds` times, each beginning in its turn; a first round is not counted."""
    found, beside = [], []
    for number in range(rounds + 1):
        if number % 2:
            one = await measured()
            other = await baseline()
        else:
            other = await baseline()
            one = await measured()
        if number:
            found.append(one)
            beside.append(other)
    return Pairs(measured=found, baseline=beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Seconds of each round, the thing measured and its baseline."""

    measured: list[float]
    baseline: list[float]

    @property
    def measured_s(self) -> float:
        return statistics.median(self.measured)

    @property
    def baseline_s(self) -> float:
        return statistics.median(self.baseline)

    @property
    def ratio(self) -> float:
        """The median of the rounds' own ratios: what slows a whole round down slows both."""
        pairs = zip(self.measured, self.baseline, strict=True)
        return statistics.median(one / other for one, other in pairs)

    @property
    def more_s(self) -> float:
        """The median of the rounds' own differences."""
        pairs = zip(self.measured, self.baseline, strict=True)
        return statistics.median(one - other for one, other in pairs)


def timed(do: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Timed:
    """By the clock on the wall, or by another such as the processor time of a process.

    What others do on this machine meanwhile is not counted in processor time.
    """

    async def once() -> float:
        started = clock()
        do()
        return clock() - started

    return once


def timed_call(
    do: Callable[[], Awaitable[object]], clock: Callable[[], float] = time.perf_counter
) -> Timed:
    """The same of something that is awaited."""

    async def once() -> float:
        started = clock()
        await do()
        return clock() - started

    return once
