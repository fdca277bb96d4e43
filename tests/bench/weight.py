"""What a host weighs in the controller's memory: its channel and its answer, which are kept.

`python -m tests.bench.weight KEPT GUEST`, in a process of its own, reads addresses from standard
input, asks each of them once and prints what that left it with.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.fleet import Asked, asked_of, bare
from tests.bench.measure import Figure
from tests.bench.simulated import more_files

TARGET_KIB = 64.0


def weight(asked: Asked, rounds: int) -> Figure:
    """Above a bare channel that has made an echo of the same sizes."""
    ours = sorted(_left(asked, "agents") for _ in range(rounds))[rounds // 2]
    bare = sorted(_left(asked, "channels") for _ in range(rounds))[rounds // 2]
    hosts = len(asked.fleet.hosts)
    return Figure(
        name=f"controller: memory for a host, of {hosts}, above a bare channel's",
        measured=(ours - bare) / hosts,
        unit="KiB",
        target=TARGET_KIB,
        beside=f"channel and answer {ours / hosts:.1f} KiB, a bare channel that made an echo of the"
        f" same sizes {bare / hosts:.1f} KiB",
    )


def _left(asked: Asked, kept: str) -> float:
    """KiB of a process that keeps that."""
    addresses = "\n".join(host.address for host in asked.fleet.hosts)
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench.weight", kept, asked.guest.name],
        input=asked.guest.xml + b"\0" + addresses.encode(),
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return float(ended.stdout)


def _resident_kib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


async def _agents(asked: Asked) -> float:
    """As a service does: all channels are kept, and the answers held until they were told."""
    async with asked.connecting() as agents:
        before = _resident_kib()
        held = await asked.of(agents)
        after = _resident_kib()
        assert len(held.candidates) == len(asked.fleet.hosts)
    return after - before


async def _channels(asked: Asked) -> float:
    before = _resident_kib()
    async with bare(asked.fleet) as methods:
        await asked.of_each(methods, asked.request)
        return _resident_kib() - before


def main(words: Sequence[str]) -> None:
    more_files()
    document, _, addresses = sys.stdin.buffer.read().partition(b"\0")
    asked = asked_of(words[1], document, addresses.decode().splitlines(), None)
    print(asyncio.run(_agents(asked) if words[0] == "agents" else _channels(asked)))


if __name__ == "__main__":
    main(sys.argv[1:])
