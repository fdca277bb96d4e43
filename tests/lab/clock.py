"""The guest's own clock: how long it stood still at most, as it writes its counter down itself.

A guest that does nothing but write the time-stamp counter to its serial port leaves a gap wherever
it did not run: because it was paused, or because the machine had no CPU for it.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab import faults, guests
from tests.lab.guests import SHARED, Disk, Guest
from tests.lab.hosts import Host, Lab
from tests.lab.machine import LabError
from tests.lab.programs import TICK, TICKER

# Each host has a /tmp of its own: a rehearsal's QEMU writes to another file.
TICKS = "/tmp/ticks"
TICKING = Guest(
    name="ticking",
    disks=(Disk(path=f"{SHARED}/ticking.raw", format="raw", on="nowhere"),),
    devices=f"<serial type='file'><source path='{TICKS}' append='on'/></serial>",
)
PROGRAM = faults.booting(TICKING.disks[0].path, TICKER)
TICKS_WITHIN_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A guest that ticks; `hz` is how fast its counter goes."""

    file: Path
    hz: float

    def longest_gap_ms(self, act: Callable[[], object]) -> float:
        """The longest time for which the guest stood still while something was done."""
        before = self.file.stat().st_size
        act()
        return longest_gap(stamps(self.file, since=before)) / self.hz * 1000


@contextlib.contextmanager
def ticking(lab: Lab, source: Host) -> Iterator[Clock]:
    """A guest that ticks on that host."""
    faults.apply(source, PROGRAM)
    try:
        guests.start(source, TICKING, lab)
        file = source.files / TICKS.lstrip("/")
        until = time.monotonic() + TICKS_WITHIN_S
        while not file.exists() or file.stat().st_size < 100 * TICK:
            if time.monotonic() > until:
                raise LabError(f"{TICKING.name} does not tick")
            time.sleep(0.1)
        yield Clock(file=file, hz=pace(file))
    finally:
        for host in lab.hosts.values():
            guests.remove(host, TICKING.name)
            (host.files / TICKS.lstrip("/")).unlink(missing_ok=True)
        faults.undo(source, PROGRAM)


def pace(file: Path) -> float:
    """The counter's ticks in a second of ours."""
    marks: list[tuple[float, int]] = []
    for _ in range(2):
        marks.append((time.monotonic(), stamps(file, since=file.stat().st_size - 8 * TICK)[-1]))
        time.sleep(1)
    (began, first), (ended, last) = marks
    return (last - first) / (ended - began)


def stamps(file: Path, *, since: int) -> list[int]:
    """What was written after that place, and the last one before it."""
    with file.open("rb") as opened:
        opened.seek(max(0, since // TICK - 1) * TICK)
        raw = opened.read()
    whole = len(raw) // TICK
    return list(struct.unpack(f"<{whole}Q", raw[: whole * TICK]))


def longest_gap(counted: list[int]) -> int:
    gaps = [later - earlier for earlier, later in itertools.pairwise(counted)]
    if not gaps or min(gaps) < 0:
        raise LabError("the guest's clock does not go forward: a byte was lost, or it stands")
    return max(gaps)
