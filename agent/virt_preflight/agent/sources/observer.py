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


class Failed(Enum):
    """Why the deputy's answer is none."""

    UNREACHED = "unreached"  # nobody listens at its socket, or the line was cut
    GARBLED = "garbled"  # what came back cannot be read
    UNREADABLE = "unreadable"  # it could not look, either


class SourceObserver(Protocol):
    """Called from many threads, and never to wait."""

    def libvirt_answered(self, question: str, seconds: float) -> None:
        """libvirt gave an answer or an error to one of the source's questions, be it too late."""
        ...

    def deputy_answered(self, call: str, seconds: float, failed: Failed | None) -> None:
        """The deputy was asked by one of its words, be it too late; `failed` if in vain."""
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

    def deputy_answered(self, call: str, seconds: float, failed: Failed | None) -> None:
        """Nothing."""

    def given_up(self, whom: Hashable, why: GivenUp) -> None:
        """Nothing."""

    def came_back(self, whom: Hashable) -> None:
        """Nothing."""


UNOBSERVED = Unobserved()
