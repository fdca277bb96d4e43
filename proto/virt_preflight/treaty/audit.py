"""One line for each question: who asked what about whom, what came of it, how long it took."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextvars import ContextVar

# A name that stands in XML is known to whoever reads that, deep inside of a call.
_named: ContextVar[list[str] | None] = ContextVar("named", default=None)
LOGGER = logging.getLogger("virt_preflight.audit")
# Of one value in the line, and of one guest's name: a hostile one is not to fill a disk, nor to
# hide those after it.
VALUE_AT_MOST, NAME_AT_MOST = 256, 64


def naming() -> list[str]:
    """Guests that this call turns out to be about: filled while it is answered."""
    named: list[str] = []
    _named.set(named)
    return named


def about(guests: Iterable[str]) -> None:
    """The call that is being answered, in this context, is about these."""
    named = _named.get()
    if named is not None:
        named[:] = guests


def note(
    *,
    caller: str,
    role: str,
    method: str,
    depth: str,
    guests: Iterable[str],
    outcome: str,
    took_ms: int,
) -> None:
    """The values stand in the line and, each by itself, in the record."""
    values = {
        "caller": _plain(caller),
        "role": role,
        "method": _plain(method),
        "depth": depth,
        "guests": " ".join(_plain(name, NAME_AT_MOST) for name in guests),
        "outcome": _plain(outcome),
        "took_ms": took_ms,
    }
    line = " ".join(f'{key}="{value}"' for key, value in values.items() if value != "")
    LOGGER.info("%s", line, extra=values)


def _plain(text: str, at_most: int = VALUE_AT_MOST) -> str:
    """On one line and within quotes, whatever it holds."""
    short = text if len(text) <= at_most else f"{text[: at_most - 1]}…"
    escaped = short.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in escaped)
