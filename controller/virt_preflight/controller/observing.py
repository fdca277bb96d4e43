"""Who is told what comes of questions: for metrics. It decides nothing."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from virt_preflight.controller.answers import Heard, Silent
from virt_preflight.controller.dryrun import DryRun


class HostObserver(Protocol):
    """Told of each question to a host."""

    def took(self, method: str, seconds: float) -> None:
        """So long a host was waited for, whatever came of it; the method as gRPC has it."""
        ...

    def answered(self, answer: Heard[Any] | Silent) -> None:
        """What came of it."""
        ...


class DryRunObserver(Protocol):
    """Told of each dry run."""

    def concluded(self, run: DryRun) -> None:
        """It has come to its end."""
        ...


class Unobserved:
    """Nobody is told."""

    def took(self, method: str, seconds: float) -> None:
        """Nothing."""

    def answered(self, answer: Heard[Any] | Silent) -> None:
        """Nothing."""

    def concluded(self, run: DryRun) -> None:
        """Nothing."""


UNOBSERVED = Unobserved()


def stopwatch(observer: HostObserver, method: str) -> Callable[[], None]:
    """To be called when the host that is asked from now on is not waited for any longer."""
    started = time.monotonic()
    return lambda: observer.took(method, time.monotonic() - started)
