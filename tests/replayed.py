"""Recorded hosts that answer like live ones: an agent process for each, on a Unix socket."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

RECORDINGS = Path(__file__).parent / "recordings"
HOSTS = tuple(sorted(path.parent.name for path in RECORDINGS.glob("*/recording.json")))
READY_WITHIN_S = 60


@contextmanager
def replayed(names: tuple[str, ...] = HOSTS) -> Iterator[Path]:
    """The fleet file of those hosts; they end with the block."""
    with tempfile.TemporaryDirectory(prefix="virt-preflight-") as scratch, ExitStack() as ending:
        socket_by_name = {name: Path(scratch) / f"{name}.sock" for name in names}
        agents = [
            ending.enter_context(_agent(RECORDINGS / name, socket))
            for name, socket in socket_by_name.items()
        ]
        fleet = Path(scratch) / "fleet.toml"
        fleet.write_text(
            "\n".join(
                f'[[host]]\nname = "{name}"\naddress = "unix:{socket}"\n'
                for name, socket in socket_by_name.items()
            )
        )
        _wait(list(socket_by_name.values()), agents)
        yield fleet


@contextmanager
def _agent(recording: Path, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = Path(sys.executable).parent / "virt-preflight-agent"
    command = [str(program), "replay", str(recording), "--listen", f"unix:{socket}"]
    agent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield agent
    finally:
        agent.terminate()
        agent.wait(timeout=READY_WITHIN_S)


def _wait(sockets: list[Path], agents: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not all(socket.exists() for socket in sockets):
        ended = [agent.args for agent in agents if agent.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"recorded hosts do not answer: {ended or sockets}")
        time.sleep(0.05)
