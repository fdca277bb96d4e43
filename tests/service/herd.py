"""What it costs a controller that many hosts announce themselves, over real streams.

`python -m tests.service.herd --hosts 10000` has simulated agents, in a few processes, announce to
one controller as real agents do, by the agent's own code and all at the same moment; then lets
heartbeats flow, kills the controller and starts it again. Prints what its metrics say of it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from prometheus_client.parser import text_string_to_metric_families

from tests.service.controllers import PROGRAM
from tests.treaty.test_exposition import free_address, scrape
from virt_preflight.agent.announcement import Announcement
from virt_preflight.agent.announcing import announcing
from virt_preflight.treaty.tls import ClientTls

PREFIX = "virt_preflight_controller_"
# Two connections for each host and some more, in the controller and among those who announce.
FILES_PER_HOST = 2
OTHER_FILES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """What was measured."""

    hosts: int
    files_at_rest: int
    files: int
    resident_at_rest_kib: float
    resident_kib: float
    known_within_s: float
    connected_within_s: float
    # Processor seconds for each second in which heartbeats came.
    busy: float
    heartbeats_per_s: float
    back_within_s: float
    # The most that came back within one second.
    at_once: int

    @property
    def host_kib(self) -> float:
        """Memory for each host: its stream, its connection and what is known of it."""
        return (self.resident_kib - self.resident_at_rest_kib) / self.hosts

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.hosts} hosts",
            f"all announced after {self.known_within_s:.1f} s",
            f"all connected after {self.connected_within_s:.1f} s",
            f"{self.resident_at_rest_kib / 1024:.0f} MiB without hosts",
            f"{self.resident_kib / 1024:.0f} MiB with them, {self.host_kib:.0f} KiB a host",
            f"{self.files_at_rest} open files without hosts, {self.files} with them",
            f"{self.heartbeats_per_s:.0f} heartbeats a second: {self.busy:.2f} of a processor",
            f"killed and started again: all back after {self.back_within_s:.1f} s",
            f"at most {self.at_once} of them in one second",
        ]


def measure(hosts: int, processes: int, watched_s: float, every_s: float) -> Herd:
    """Raises AssertionError where not all come, or come back."""
    with tempfile.TemporaryDirectory(prefix="vp-") as place, ExitStack() as ending:
        listen, metrics = free_address(), free_address()
        config = Path(place) / "controller.toml"
        config.write_text(
            f'listen = ["{listen}"]\nmetrics = "{metrics}"\nstore = "{place}/controller.db"\n'
            f"[announced]\nhear_every_s = {every_s}\n[limits]\nannounced_hosts = {hosts}\n"
        )
        with controller(config, metrics):
            rest = told(metrics)
            began = time.monotonic()
            for first in range(0, hosts, share := -(-hosts // processes)):
                ending.enter_context(agents(first, min(share, hosts - first), listen))
            until(metrics, lambda now: now["announcing"] == hosts)
            known_within_s = time.monotonic() - began
            until(metrics, lambda now: now["process_open_fds"] >= FILES_PER_HOST * hosts)
            connected_within_s = time.monotonic() - began
            before, full_from = told(metrics), time.monotonic()
            time.sleep(watched_s)
            full = told(metrics)
            watched_s = time.monotonic() - full_from
        with controller(config, metrics):
            began, at_once, last = time.monotonic(), 0, 0
            while (back := int(told(metrics)["announcing"])) < hosts:
                at_once, last = max(at_once, back - last), back
                assert time.monotonic() - began < 600, f"{back} of {hosts} have come back"
                time.sleep(1)
            back_within_s = time.monotonic() - began
    return Herd(
        hosts=hosts,
        files_at_rest=int(rest["process_open_fds"]),
        files=int(full["process_open_fds"]),
        resident_at_rest_kib=rest["process_resident_memory_bytes"] / 1024,
        resident_kib=full["process_resident_memory_bytes"] / 1024,
        known_within_s=known_within_s,
        connected_within_s=connected_within_s,
        busy=(full["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]) / watched_s,
        heartbeats_per_s=hosts / every_s,
        back_within_s=back_within_s,
        at_once=max(at_once, hosts - last),
    )


def told(metrics: str) -> dict[str, float]:
    """The controller's metrics that have no labels."""
    return {
        sample.name.removeprefix(PREFIX): sample.value
        for family in text_string_to_metric_families(scrape(metrics))
        for sample in family.samples
        if not sample.labels
    }


def until(metrics: str, true: Callable[[dict[str, float]], bool], within_s: float = 600) -> None:
    """Wait for what the metrics are to say."""
    ends = time.monotonic() + within_s
    while not true(now := told(metrics)):
        assert time.monotonic() < ends, now
        time.sleep(0.2)


@contextmanager
def controller(config: Path, metrics: str) -> Iterator[None]:
    """`virt-preflight serve`; killed at the end, as a machine that fails would have it."""
    command = [str(PROGRAM), "serve", "--config", str(config)]
    # Into a file: a pipe that nobody reads would hold it up as soon as it is full.
    with (
        config.with_suffix(".log").open("a") as log,
        subprocess.Popen(command, stderr=log) as started,
    ):
        try:
            ends = time.monotonic() + 60
            while not answers(metrics):
                assert started.poll() is None, config.with_suffix(".log").read_text()
                assert time.monotonic() < ends, "it did not start"
                time.sleep(0.1)
            yield
        finally:
            started.kill()


def answers(metrics: str) -> bool:
    """Whether anybody is there."""
    with suppress(OSError):
        return bool(scrape(metrics))
    return False


@contextmanager
def agents(first: int, count: int, listen: str) -> Iterator[None]:
    """A process with so many hosts; they are gone at the end."""
    command = [sys.executable, "-m", "tests.service.herd", "--be", str(first), str(count), listen]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as started:
        try:
            yield
        finally:
            started.kill()


async def be(first: int, count: int, listen: str) -> None:
    """Hosts that announce themselves, until standard input ends."""
    # That a controller is gone is what is tried here: ten thousand need not say so.
    logging.disable(logging.WARNING)
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncExitStack() as ending:
        for number in range(first, first + count):
            announcement = Announcement(
                controllers=(listen,),
                name=f"h{number:05}",
                address=f"127.0.0.1:{port}",
                labels=(("rack", f"r{number % 40}"), ("storage", "ssd")),
            )
            await ending.enter_async_context(announcing(announcement, ClientTls(), insecure=False))
        await asyncio.to_thread(sys.stdin.read)


def more_files(wanted: int) -> None:
    """As many as that, where this user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--watched", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--every", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--be", nargs=3, metavar=("FIRST", "COUNT", "CONTROLLER"))
    given = parser.parse_args(arguments)
    if given.be:
        first, count, listen = given.be
        asyncio.run(be(int(first), int(count), listen))
        return
    more_files(FILES_PER_HOST * given.hosts + OTHER_FILES)
    found = measure(given.hosts, given.processes, given.watched, given.every)
    print("\n".join(found.lines()))


if __name__ == "__main__":
    main()
