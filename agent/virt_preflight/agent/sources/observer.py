"""Who is told how the host's own parts answer: for metrics. It decides nothing."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from typing import Protocol


class GivenUp(Enum):
    """Why there is no answer."""

    NO_ANSWER = "no-answer"  # its time is up; it hangs from here on, until it comes back
    HANGS = "hangs"  # it was not asked, for it has not answered an earlier question
    NO_TIME = "no-time"  # it was not asked, for the caller's time is used up
    TOO_MANY = "too-many"  # it was not asked, for as many others hang as may


class SourceObserver(Protocol):
    """Called from many threads, and never to wait."""

    def libvirt_answered(self, question: str, seconds: float) -> None:
        """libvirt gave an answer or an error to one of the source's questions, be it too late."""
        ...

    def given_up(self, whom: Hashable, why: GivenUp) -> None:
        """Nobody waits for an answer any more."""
        ...

    def came_back(self, whom: Hashable) -> None:
        """Whoever hung has answered at last."""
        ...


class Unobserved:
    """Nobody is told."""

    def libvirt_answered(self, question: str, seconds: float) -> None:
        """Nothing."""

    def given_up(self, whom: Hashable, why: GivenUp) -> None:
        """Nothing."""

    def came_back(self, whom: Hashable) -> None:
        """Nothing."""


UNOBSERVED = Unobserved()
