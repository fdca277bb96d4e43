"""The controller is killed while it answers, and started again: who asked knows, and asks again."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.controller.fakes import Hangs, running
from tests.controller.samples import destination, prepared, source, wire_report
from tests.service.controllers import best, program, until
from tests.service.test_bad_days_answers import Moody
from tests.service.test_bad_days_lines import DB1
from tests.service.test_controller import stub
from virt_preflight.controller import client
from virt_preflight.controller.client import Controller, ServiceError
from virt_preflight.v1 import controller_pb2


@pytest.fixture(params=["a socket", "a port"])
def listen(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where it listens, and will listen again: what a killed one leaves is in nobody's way."""
    if request.param == "a socket":
        return f"unix:{tmp_path}/c"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_stream_of_a_controller_that_is_killed_ends_with_a_clear_error(listen: str) -> None:
    moody = Moody(Hangs())
    with (
        running(source(), destination("h2"), destination("h3", PrepareDryRun=moody)) as fleet,
        stub(listen) as asked,
    ):
        request = controller_pb2.DryRunRequest(guests=[controller_pb2.GuestChoice(name="db1")])
        with program("--hosts", fleet.hosts, listen=listen) as first:
            said = asked.DryRun(request, timeout=30)
            heard = [next(said), next(said)]
            first.kill()
            with pytest.raises(grpc.RpcError) as error:
                next(said)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert [one.WhichOneof("said") for one in heard] == ["found", "answer"]
        assert heard[1].answer.host == "h2"
        moody.says = prepared(wire_report())
        with program("--hosts", fleet.hosts, listen=listen):
            again = list(asked.DryRun(request, timeout=30, wait_for_ready=True))
    hosts = [one.answer.host for one in again if one.WhichOneof("said") == "answer"]
    assert sorted(hosts) == ["h2", "h3"]
    assert again[-1].WhichOneof("said") == "ranking"


def test_a_scheduler_asks_on_with_the_client_that_it_has(listen: str) -> None:
    """Half an answer is none: the client says so, and no list that only looks whole."""
    moody = Moody(Hangs())
    with (
        running(source(), destination("h2"), destination("h3", PrepareDryRun=moody)) as fleet,
        Controller(listen) as asked,
        ThreadPoolExecutor(1) as thread,
    ):
        with program("--hosts", fleet.hosts, listen=listen) as first:
            under_way = thread.submit(asked.dry_run, DB1, within_s=30)
            until(lambda: fleet["h3"].requests("PrepareDryRun"))
            first.kill()
            with pytest.raises(ServiceError, match="unavailable"):
                under_way.result()
        with pytest.raises(ServiceError, match="unavailable"):
            asked.rank("db1", within_s=30)
        moody.says = prepared(wire_report())
        with program("--hosts", fleet.hosts, listen=listen):
            until(lambda: answers(asked), within_s=20)
            assert best(asked.rank("db1", within_s=30)) == ["h2", "h3"]


def answers(asked: Controller) -> bool:
    try:
        asked.rank("db1", within_s=30)
    except ServiceError:
        return False
    return True


def test_a_client_tries_again_soon_however_long_the_controller_was_away() -> None:
    """gRPC by itself waits longer each time, up to two minutes."""
    assert dict(client.CHANNEL)["grpc.max_reconnect_backoff_ms"] <= 1000
