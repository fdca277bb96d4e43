"""How many requests are let in at once: those beyond are turned away at the door, at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class TooManyError(Exception):
    """One more than is let in. Says whose and how many."""


class Turnstile:
    """Counts who is inside."""

    def __init__(self, *, in_all: int, per_caller: int) -> None:
        self._in_all = in_all
        self._per_caller = per_caller
        self._inside: Counter[str] = Counter()

    @contextmanager
    def entered(self, caller: str) -> Iterator[None]:
        """Inside for as long as the block lasts. Raises TooManyError."""
        if self._inside.total() >= self._in_all:
            raise TooManyError(f"{self._in_all} requests are under way already: try again later")
        if self._inside[caller] >= self._per_caller:
            raise TooManyError(
                f"{self._per_caller} requests of {caller} are under way already: try again later"
            )
        self._inside[caller] += 1
        try:
            yield
        finally:
            self._inside[caller] -= 1
            if not self._inside[caller]:
                del self._inside[caller]
