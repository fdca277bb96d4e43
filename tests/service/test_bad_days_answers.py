"""Agents that answer garbage, or too late: never a wrong verdict.

Each is one host of a fleet. The others' answers are as ever, its own is missing with the reason,
and once it answers as it should it counts again, with nobody started anew.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message

from tests.controller.fakes import Fails, Said, objects, running
from tests.controller.samples import WIRE_BRIDGE, destination, prepared, source, wire_report
from tests.controller.test_commands import DESCRIBED
from tests.service.controllers import best, controller, missing
from virt_preflight.controller.client import Controller

# What a busy machine may need beyond the time that was given.
MORE_S = 20.0

NOISE = random.Random(4).randbytes(4096)
GARBAGE: dict[str, Said] = {
    "random bytes": NOISE,
    "nothing": b"",
    "half a message": prepared(wire_report(WIRE_BRIDGE)).SerializeToString()[:-9],
    "the answer to another question": DESCRIBED,
    "two reports for one guest": prepared(wire_report(), wire_report()),
    "17 MiB": bytes(17 * 2**20),
    "an error without words": Fails(grpc.StatusCode.UNKNOWN),
    "an error in words of its own": Fails(grpc.StatusCode.DATA_LOSS, "\x1b[2J" + "no " * 400),
    "an objection to no field": objects(("", "")),
}


@dataclass
class Moody:
    """Answers whatever `says` holds at the time, after a pause."""

    says: Said
    pause_s: float = 0.0

    def __call__(self, _request: bytes) -> Said:
        time.sleep(self.pause_s)
        return self.says


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_a_destination_that_answers_garbage_is_missing_until_it_answers(said: Said) -> None:
    moody = Moody(said)
    with (
        running(source(), destination("h2", PrepareDryRun=moody), destination("h3")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        first = asked.rank("db1", within_s=MORE_S)
        moody.says = prepared(wire_report())
        second = asked.rank("db1", within_s=MORE_S)
    assert best(first) == ["h3"]
    assert list(missing(first)) == ["h2"]
    assert missing(first)["h2"]
    assert missing(first)["h2"].isprintable()
    assert best(second) == ["h2", "h3"]
    assert not second.missing


NO_OBJECTION = {name: said for name, said in GARBAGE.items() if name != "an objection to no field"}


@pytest.mark.parametrize("said", NO_OBJECTION.values(), ids=NO_OBJECTION)
def test_a_source_that_answers_garbage_makes_no_verdict(said: Said) -> None:
    """What the guest needs is not known then: every host is missing, and none is CLEAR."""
    whole = source().script["BeginDryRun"]
    assert isinstance(whole, Message)
    moody = Moody(said)
    with (
        running(source(BeginDryRun=moody), destination("h2"), destination("h3")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        first = asked.rank("db1", within_s=MORE_S)
        assert sorted(missing(first)) == ["h2", "h3"]
        assert all("h1 did not say" in why for why in missing(first).values())
        moody.says = whole
        assert best(asked.rank("db1", within_s=MORE_S)) == ["h2", "h3"]


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_garbage_about_who_has_the_guest_hides_no_guest(said: Said) -> None:
    with (
        running(source(), destination("h2", ListDomains=said), destination("h3")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        assert "h3" in best(asked.rank("db1", within_s=MORE_S))


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_a_host_that_describes_itself_in_garbage_is_still_listed(said: Said) -> None:
    with (
        running(
            destination("h1", DescribeHost=DESCRIBED), destination("h2", DescribeHost=said)
        ) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        told = asked.hosts(within_s=MORE_S)
    assert [host.name for host, _ in told] == ["h1", "h2"]


def test_a_slow_agent_is_missing_at_the_callers_time_and_there_when_it_is_quicker() -> None:
    slow = Moody(prepared(wire_report()), pause_s=8.0)
    with (
        running(source(), destination("h2", PrepareDryRun=slow), destination("h3")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        started = time.monotonic()
        first = asked.rank("db1", within_s=4.0)
        assert time.monotonic() - started < 4.0 + MORE_S
        slow.pause_s = 0.0
        second = asked.rank("db1", within_s=MORE_S)
    assert best(first) == ["h3"]
    assert "no answer within" in missing(first)["h2"]
    assert best(second) == ["h2", "h3"]
