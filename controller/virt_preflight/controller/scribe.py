"""Writes down for many at once: what comes in while the store is busy goes into its next turn.

Ten thousand hosts that are heard every half minute are more than three hundred changes a second,
and each turn of a store waits for a disk.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from virt_preflight.controller.store import Change, KeptHost, Store

# Of one turn: what all wait for is bounded.
AT_A_TIME = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A change, what follows from it, and who waits for it."""

    change: Change
    then: Callable[[], None]
    kept: asyncio.Future[None]


class Scribe:
    """The one who uses the store, in a thread: the event loop never waits for a disk."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._lines: list[_Line] = []
        self._writing: asyncio.Task[None] | None = None
        # What keeps the store from keeping anything; told once when it begins, and when it ends.
        self._trouble = ""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        try:
            self._store = await loop.run_in_executor(self._thread, self._open_store)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._writing is not None:
            await self._writing
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    async def hosts(self) -> tuple[KeptHost, ...]:
        """All that are kept."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._store.hosts)

    async def write(self, change: Change, then: Callable[[], None] = lambda: None) -> None:
        """Returns when it is kept, or raises the StoreError that says why it is not.

        `then` is called as soon as it is kept, even where whoever asked for it waits no longer.
        """
        kept = asyncio.get_running_loop().create_future()
        self._lines.append(_Line(change=change, then=then, kept=kept))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await kept

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._lines:
            lines, self._lines = self._lines[:AT_A_TIME], self._lines[AT_A_TIME:]
            changes = [line.change for line in lines]
            try:
                await loop.run_in_executor(self._thread, self._store.keep, changes)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
                self._tell(str(error) or type(error).__name__)
                for line in lines:
                    if not line.kept.done():
                        line.kept.set_exception(error)
                continue
            self._tell("")
            for line in lines:
                line.then()
                if not line.kept.done():
                    line.kept.set_result(None)

    def _tell(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            logging.error("what hosts announce is not kept: %s", trouble)
        else:
            logging.info("what hosts announce is kept again")
