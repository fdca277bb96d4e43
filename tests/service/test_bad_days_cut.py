"""A network that is cut between the controller and half of its fleet, and mended again.

Controller and agents each have a network of their own, with two lines between them. A line that is
cut swallows what is sent: nobody is told that the other end is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.controller.samples import DOMAIN_XML
from tests.service.controllers import PROGRAM, best, missing, until
from virt_preflight.controller.client import Controller, Ranking
from virt_preflight.controller.question import GuestFile

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NO ROOT, NO NETWORK TO CUT")

GUEST = GuestFile(name="new.xml", xml=DOMAIN_XML)
NEAR = [f"10.231.1.{number}" for number in range(2, 12)]
FAR = [f"10.231.2.{number}" for number in range(2, 12)]
# Whoever strictly looks whether he could answer drops what he could not, without a word.
STRICTLY = "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter"
SWALLOWED = "blackhole 10.231.2.1/32"
PORT = 50551
# TCP by then would repeat itself only some eleven seconds later (0.2 s, doubled each time), and a
# host that is back is not to be missing so long.
CUT_FOR_S = 14.0
BACK_WITHIN_S = 8.0
MORE_S = 20.0

AGENTS = """
import asyncio, sys
from tests.bench.simulated import stand_for
asyncio.run(stand_for(sys.argv[1:], ()))
"""


@contextmanager
def network() -> Iterator[int]:
    """A network of its own with nothing in it, by the process that holds it."""
    command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo && exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"\n"
            yield holder.pid
        finally:
            holder.kill()


def inside(network: int, *command: str) -> list[str]:
    return ["nsenter", f"--net=/proc/{network}/ns/net", "--", *command]


def ip(network: int, words: str) -> None:
    subprocess.run(inside(network, "ip", *words.split()), check=True)


@pytest.fixture
def networks() -> Iterator[tuple[int, int]]:
    """The controller's and the agents', joined by two lines."""
    with network() as controller, network() as agents:
        subprocess.run(inside(agents, "sh", "-c", STRICTLY), check=True)
        for line, addresses in ((1, NEAR), (2, FAR)):
            ip(controller, f"link add line{line} type veth peer name line{line} netns {agents}")
            ip(controller, f"address add 10.231.{line}.1/24 dev line{line}")
            for address in addresses:
                ip(agents, f"address add {address}/24 dev line{line}")
            for one in (controller, agents):
                ip(one, f"link set line{line} up")
        yield controller, agents


@pytest.fixture
def asked(networks: tuple[int, int], tmp_path: Path) -> Iterator[Controller]:
    """A controller of those agents."""
    controller, agents = networks
    addresses = [f"{address}:{PORT}" for address in (*NEAR, *FAR)]
    hosts = ",".join(f"h{number}={address}" for number, address in enumerate(addresses))
    at = f"unix:{tmp_path}/controller"
    serve = [str(PROGRAM), "serve", "--hosts", hosts, "--listen", at]
    with ExitStack() as ending:
        for command in (
            inside(agents, sys.executable, "-c", AGENTS, *addresses),
            inside(controller, *serve),
        ):
            process = ending.enter_context(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    cwd=Path(__file__).parents[2],
                )
            )
            ending.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline()
        yield ending.enter_context(Controller(at))


def test_half_a_fleet_that_is_cut_off_is_missing_and_comes_back(
    networks: tuple[int, int], asked: Controller
) -> None:
    near = {f"h{number}" for number in range(len(NEAR))}
    far = {f"h{number}" for number in range(len(NEAR), len(NEAR) + len(FAR))}
    _, agents = networks
    assert not missing(ask(asked))
    ip(agents, f"route add {SWALLOWED}")
    ends = time.monotonic() + CUT_FOR_S
    while time.monotonic() < ends:
        during = ask(asked)
        assert during.hosts == len(near | far)
        assert set(missing(during)) == far
        assert set(best(during)) <= near
    ip(agents, f"route delete {SWALLOWED}")
    until(lambda: not ask(asked).missing, within_s=BACK_WITHIN_S)


def ask(asked: Controller) -> Ranking:
    """By the time that it has, and a busy machine's."""
    started = time.monotonic()
    ranking = asked.rank(GUEST, within_s=3.0)
    assert time.monotonic() - started < 3.0 + MORE_S
    return ranking
