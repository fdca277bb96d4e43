"""Which question this is about: one id from the command to the controller to each agent.

Whoever is asked without one gives it one. It is only for finding lines in logs again: nothing is
decided by it, and what a caller brings is taken as it is or not at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# In the metadata of a call.
KEY = "x-request-id"
# As others make theirs (UUIDs, trace ids), and nothing that could break or forge a line of a log.
WANTED = "1 to 64 letters, digits, dots, colons, dashes or underscores"
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)

_current: ContextVar[str] = ContextVar("request_id", default="")


def current() -> str:
    """The id of the question that is being worked on; empty outside of any."""
    return _current.get()


def new() -> str:
    """One that nobody else has."""
    return os.urandom(8).hex()


def is_one(text: str) -> bool:
    """Whether that can be an id."""
    return _ID.fullmatch(text) is not None


@contextmanager
def asking(given: str = "") -> Iterator[str]:
    """A question that begins here; what is asked of others within the block carries its id."""
    told = _current.set(given or current() or new())
    try:
        yield current()
    finally:
        _current.reset(told)


def taken_over(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Set for the rest of this task: the caller's id, or a new one where he has none that counts.

    Each call has a task of its own, so nothing is put back.
    """
    given = [value for key, value in metadata if key == KEY]
    one = given[0] if len(given) == 1 else ""
    _current.set(one if isinstance(one, str) and is_one(one) else new())
    return current()


def carried() -> tuple[tuple[str, str], ...]:
    """The metadata of a call that asks others about the same; a new id outside of any question."""
    return ((KEY, current() or new()),)
