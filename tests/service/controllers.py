"""A controller as a service, in a thread of the test's own process or in a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from virt_preflight.controller.client import Ranking
from virt_preflight.controller.fleet import Fleet, from_names
from virt_preflight.controller.service import served
from virt_preflight.controller.settings import Announced, Limits, Settings
from virt_preflight.treaty.tls import Tls

PROGRAM = Path(sys.executable).parent / "virt-preflight"
READY_WITHIN_S = 30
LIMITS = Limits()
ANNOUNCED = Announced()
PLAIN = Tls()


@contextmanager
def controller(
    fleet: Fleet | str,
    *,
    limits: Limits = LIMITS,
    watch_every_s: float = 0.05,
    announced: Announced = ANNOUNCED,
    store: Path | None = None,
    listen: str | None = None,
    tls: Tls = PLAIN,
    metrics: str = "",
) -> Iterator[str]:
    """The address of a service for that fleet; it ends with the block."""
    known = from_names(fleet) if isinstance(fleet, str) else fleet
    with tempfile.TemporaryDirectory(prefix="vp-") as place:
        settings = Settings(
            listen=(listen or f"unix:{place}/controller",),
            store=None if store is None else str(store),
            grace_s=1,
            watch_every_s=watch_every_s,
            announced=announced,
            tls=tls,
            limits=limits,
            metrics=metrics,
        )
        ready, loop, stopped = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

        async def serve() -> None:
            async with served(known, settings):
                ready.set()
                await stopped.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            assert ready.wait(READY_WITHIN_S)
            yield settings.listen[0]
        finally:
            loop.call_soon_threadsafe(stopped.set)
            thread.join(READY_WITHIN_S)
            loop.close()


@contextmanager
def program(*arguments: str, listen: str) -> Iterator[subprocess.Popen[str]]:
    """`virt-preflight serve`, once it says that it answers."""
    command = [str(PROGRAM), "serve", "--listen", listen, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            line = started.stderr.readline()
            assert "answers at" in line, line
            yield started
        finally:
            started.kill()


def until(true: Callable[[], object], within_s: float = 10) -> None:
    """Wait until a function of no parameters says so."""
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, "it did not come to that"
        time.sleep(0.01)


def best(ranking: Ranking) -> list[str]:
    """The hosts that can take the guest, in their order."""
    return [one.host for one in ranking.best]


def missing(ranking: Ranking) -> dict[str, str]:
    """Hosts that were not heard or could not tell, and why."""
    return {one.host: one.why for one in ranking.missing}
