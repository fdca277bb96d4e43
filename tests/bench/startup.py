"""How soon `virt-preflight --help` is there, beside a Python that does nothing."""

from __future__ import annotations

import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.bench.measure import Figure, in_turns, timed

PROGRAM = Path(sys.executable).with_name("virt-preflight")


async def startup(rounds: int) -> Figure:
    show, nothing = partial(_run, str(PROGRAM), "--help"), partial(_run, "-c", "pass")
    found = await in_turns(rounds, timed(show), timed(nothing))
    work = await in_turns(rounds, timed(show, _processor_s), timed(nothing, _processor_s))
    return Figure(
        name="command line: virt-preflight --help",
        measured=found.measured_s,
        unit="s",
        target=0.3,
        beside=f"python -c pass: {found.baseline_s:.3f} s; of processor time"
        f" {work.measured_s:.3f} s beside {work.baseline_s:.3f} s",
    )


def _processor_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
