"""Of a thousand hosts fifty say nothing: all are in the answer, and the answer is there in time."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.simulated import address_of, more_files, network_of_this_run, standing_for
from tests.controller.samples import DOMAIN_XML
from tests.service.controllers import PROGRAM, controller, missing
from virt_preflight.controller.client import Controller
from virt_preflight.controller.fleet import Fleet, FleetHost
from virt_preflight.controller.question import GuestFile

# The last ones of the fleet: nobody takes up the connection there, or nobody is there at all.
ALL, FROZEN, REFUSING = 1000, 25, 25
ANSWERING = ALL - FROZEN - REFUSING
SILENT = {f"h{number}" for number in range(ANSWERING, ALL)}
# What two busy cores may need for a thousand answers.
MORE_S = 30.0
GUEST = GuestFile(name="new.xml", xml=DOMAIN_XML)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """A thousand hosts, of which those answer that are meant to."""
    more_files()
    half = ANSWERING // 2
    with standing_for(0, half), standing_for(half, ANSWERING - half):
        yield Fleet(
            hosts=tuple(
                FleetHost(name=f"h{number}", address=address_of(network_of_this_run(), number))
                for number in range(ALL)
            )
        )


@contextmanager
def frozen() -> Iterator[None]:
    """As with a stopped process: the kernel takes the connection, and nobody ever answers."""
    with ExitStack() as until:
        for number in range(ANSWERING, ANSWERING + FROZEN):
            host, _, port = address_of(network_of_this_run(), number).rpartition(":")
            listener = until.enter_context(socket.create_server((host, int(port))))
            listener.listen()
        yield


@pytest.mark.parametrize(
    ("each_s", "within_s"), [(60.0, 8.0), (8.0, 60.0)], ids=["the caller's time", "a host's time"]
)
def test_of_a_thousand_agents_fifty_are_silent_and_all_are_in_the_answer(
    fleet: Fleet, each_s: float, within_s: float
) -> None:
    with controller(replace(fleet, timeout_s=each_s)) as address, Controller(address) as asked:
        with frozen():
            started = time.monotonic()
            first = asked.rank(GUEST, within_s=within_s)
            took_s = time.monotonic() - started
        with standing_for(ANSWERING, FROZEN + REFUSING):
            later = asked.rank(GUEST, within_s=60)
    assert first.hosts == ALL
    assert set(missing(first)) == SILENT
    whys = Counter(why.partition(" within")[0] for why in missing(first).values())
    assert whys == {"no answer": FROZEN, "connection refused": REFUSING}
    assert took_s < min(within_s, each_s) + MORE_S
    assert (later.hosts, later.missing) == (ALL, ()), "they are back without further ado"


def test_the_command_lists_all_thousand(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "new.xml").write_bytes(DOMAIN_XML)
    hosts = "\n".join(
        f'[[host]]\nname = "{host.name}"\naddress = "{host.address}"' for host in fleet.hosts
    )
    (tmp_path / "fleet.toml").write_text(hosts)
    words = ["check", "--xml", "new.xml", "--fleet", "fleet.toml", "--timeout", "8", "-o", "json"]
    with frozen():
        ended = subprocess.run(
            [PROGRAM, *words],
            cwd=tmp_path,
            capture_output=True,
            timeout=8 + 2 * MORE_S,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)["hosts"]
    assert len({one["host"] for one in said}) == len(said) == ALL
    assert {one["host"] for one in said if one.get("silent")} == SILENT
    assert {one["verdict"] for one in said if one["host"] in SILENT} == {"UNSURE"}
