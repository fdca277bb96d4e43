"""Who is told what comes of questions: for metrics. It decides nothing."""

from typing import Any, Protocol

from virt_preflight.controller.answers import Heard, Silent
from virt_preflight.controller.dryrun import DryRun


class HostObserver(Protocol):
    """Told of each question to a host but those of a rehearsal, which agents tell of themselves."""

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
