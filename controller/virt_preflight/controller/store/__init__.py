"""What a controller knows and does not want to forget: hosts that announced themselves.

A store is narrow, so that another kind can take its place: it is read once, and then takes changes.
What every store promises is in one suite of tests, `tests/controller/store/test_contract.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from virt_preflight.controller.trouble import CannotRunError


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHost:
    """A host as its agent announced it, and when it was last heard."""

    name: str
    address: str
    # In the order of their keys, each key once.
    labels: tuple[tuple[str, str], ...]
    agent_version: str
    # Whole seconds since 1970, by the clock of the controller that heard it.
    seen_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """The host is as it says now, whatever was known of it."""

    host: KeptHost


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """It was heard; of one that is not kept there is nothing to note."""

    name: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """It is kept no longer."""

    name: str


Change = Remember | Seen | Forget


class StoreError(CannotRunError):
    """The store did not do what it was asked to; nothing of it is done. Says where and why."""


class StoreFullError(StoreError):
    """There is no room for it; later there may be."""


class Store(Protocol):
    """Where hosts are kept. Its methods may block: they are called in a thread, one at a time."""

    def hosts(self) -> tuple[KeptHost, ...]:
        """All that are kept, in the order of their names."""
        ...

    def keep(self, changes: Sequence[Change]) -> None:
        """All changes, in this order, or with a StoreError none. Kept when it returns."""
        ...

    def close(self) -> None:
        """Nothing more is asked."""
        ...
