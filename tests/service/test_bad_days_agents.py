"""Agents are killed or frozen while a controller stays up: they are missed in time, and come back.

The answer comes at the caller's time, names who is missing and why, and nothing is started again
but what was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.replayed import RECORDINGS
from tests.service.controllers import best, controller, missing, until
from virt_preflight.controller.client import Controller, Ranking
from virt_preflight.controller.question import GuestFile

AGENT = Path(sys.executable).parent / "virt-preflight-agent"
GUEST = GuestFile(name="db1", xml=(RECORDINGS / "guests/db1.xml").read_bytes())
HOSTS = ("h2", "h3")
WITHIN_S = 4.0
# A busy machine's.
MORE_S = 15.0


@contextmanager
def agent(place: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A recorded host's agent, once it answers."""
    command = [str(AGENT), "replay", str(RECORDINGS / name), "--listen", f"unix:{place}/{name}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            assert "answers at" in started.stderr.readline()
            yield started
        finally:
            started.kill()


def ask(asked: Controller) -> Ranking:
    """By the time that it has."""
    began = time.monotonic()
    ranking = asked.rank(GUEST, within_s=WITHIN_S)
    assert time.monotonic() - began < WITHIN_S + MORE_S
    assert ranking.hosts == len(HOSTS)
    return ranking


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_an_agent_that_is_gone_is_missing_with_the_reason_and_comes_back(
    tmp_path: Path, how: signal.Signals
) -> None:
    addresses = ",".join(f"{name}=unix:{tmp_path}/{name}" for name in HOSTS)
    with ExitStack() as agents, controller(addresses) as at, Controller(at) as asked:
        started = {name: agents.enter_context(agent(tmp_path, name)) for name in HOSTS}
        until(lambda: best(ask(asked)) == list(HOSTS), within_s=60)
        os.kill(started["h3"].pid, how)
        for _ in range(2):
            during = ask(asked)
            assert best(during) == ["h2"]
            (why,) = missing(during).values()
            assert set(missing(during)) == {"h3"}
            if how is signal.SIGSTOP:
                assert why.startswith("no answer within ")
            else:
                assert why
        if how is signal.SIGSTOP:
            os.kill(started["h3"].pid, signal.SIGCONT)
        else:
            started["h3"].wait(30)
            agents.enter_context(agent(tmp_path, "h3"))
        until(lambda: not missing(ask(asked)), within_s=60)
        assert best(ask(asked)) == list(HOSTS)
