"""Many recorded hosts in few processes: each an agent on a Unix socket of its own.

`python -m tests.service.recorded DIRECTORY NAME...` serves h1-000, h1-001, ... until its standard
input ends. The hosts of one recording are alike, and each has its own agent.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.replayed import HOSTS, RECORDINGS
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.service import AgentServicer, serve
from virt_preflight.agent.sources.recording import load
from virt_preflight.treaty.listening import Listening

READY = "ready\n"


@contextmanager
def recorded_fleet(hosts: int, processes: int = 1) -> Iterator[Path]:
    """The fleet file of so many hosts, the recordings in turn; they end with the block."""
    names = [f"{HOSTS[number % len(HOSTS)]}-{number:03}" for number in range(hosts)]
    with tempfile.TemporaryDirectory(prefix="vp-") as place, ExitStack() as ending:
        started = [
            ending.enter_context(_process(place, names[number::processes]))
            for number in range(processes)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == READY
        fleet = Path(place) / "fleet.toml"
        # Hosts that share a process take longer than hosts that have one each.
        patient = "[defaults]\ntimeout_s = 120\ndeadline_s = 240\n\n"
        fleet.write_text(
            patient
            + "\n".join(
                f'[[host]]\nname = "{name}"\naddress = "unix:{place}/{name}"\n'
                f'labels = {{ like = "{name.partition("-")[0]}" }}\n'
                for name in names
            )
        )
        yield fleet


@contextmanager
def _process(place: str, names: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.service.recorded", place, *names]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def _serve(place: Path, names: list[str]) -> None:
    recordings = {name: load(RECORDINGS / name) for name in {it.partition("-")[0] for it in names}}
    servers = []
    for name in names:
        recording = recordings[name.partition("-")[0]]
        store = FactStore(source=recording, catalogue=catalogue(), clock=time.monotonic)
        servicer = AgentServicer(host=recording.host, store=store, policy=Policy())
        servers.append(await serve(servicer, Listening(plain=(f"unix:{place}/{name}",))))
    print(READY, end="", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2:]))
