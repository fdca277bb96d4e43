"""One id from the command to the controller to each agent, in the logs of all of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest

from tests.replayed import READY_WITHIN_S, RECORDINGS
from tests.service.controllers import PROGRAM, controller, until
from virt_preflight.controller import cli
from virt_preflight.controller.desk import Desk
from virt_preflight.v1 import agent_pb2, agent_pb2_grpc, controller_pb2, controller_pb2_grpc

AGENT = Path(sys.executable).parent / "virt-preflight-agent"
GUEST = RECORDINGS / "guests/db1.xml"
HOSTS = ("h1", "h2")
VARIABLE = "VIRT_PREFLIGHT_REQUEST_ID"


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def about(log: Path, request: str) -> list[dict[str, Any]]:
    """What is told of that question: one line for each call."""
    return [line for line in lines(log) if line.get("requestId") == request]


def since(log: Path, earlier: int) -> list[dict[str, Any]]:
    return lines(log)[earlier:]


def once_there(found: Callable[[], list[dict[str, Any]]], count: int) -> list[dict[str, Any]]:
    """So many lines: whoever is answered may be so a moment before it is logged."""
    until(lambda: len(found()) >= count)
    return found()


@contextmanager
def started(log: Path, *command: str) -> Iterator[None]:
    """A program that logs objects into that file, once it says that it answers."""
    with log.open("w") as to, subprocess.Popen([*command], stderr=to) as process:
        try:
            ends = time.monotonic() + READY_WITHIN_S
            while "answers at" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < ends, "it does not answer"
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Two recorded hosts and a controller, each a process with a log of its own."""
    with tempfile.TemporaryDirectory(prefix="vp-") as scratch, ExitStack() as ending:
        place = Path(scratch)
        for host in HOSTS:
            ending.enter_context(
                started(
                    place / f"{host}.log",
                    *(str(AGENT), "replay", str(RECORDINGS / host)),
                    *("--listen", f"unix:{place}/{host}", "--log-format", "json"),
                )
            )
        fleet = ",".join(f"{host}=unix:{place}/{host}" for host in HOSTS)
        serve = (str(PROGRAM), "serve", "--hosts", fleet, "--listen", f"unix:{place}/controller")
        ending.enter_context(started(place / "controller.log", *serve, "--log-format", "json"))
        yield place


def test_the_id_of_a_command_is_in_the_log_of_the_controller_and_of_each_agent(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "nightly-7")
    cli.run(["check", "--xml", str(GUEST), "--server", f"unix:{place}/controller", "-o", "name"])
    assert capsys.readouterr().err == ""
    said = once_there(lambda: about(place / "controller.log", "nightly-7"), 1)
    assert [(line["logger"], line["method"], line["guests"]) for line in said] == [
        ("virt_preflight.audit", "DryRun", "db1")
    ]
    for host in HOSTS:
        said = once_there(partial(about, place / f"{host}.log", "nightly-7"), 1)
        assert [(line["logger"], line["method"], line["guests"]) for line in said] == [
            ("virt_preflight.audit", "PrepareDryRun", "db1")
        ]


def test_without_a_controller_the_agents_are_told_the_same_id(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = ",".join(f"{host}=unix:{place}/{host}" for host in HOSTS)
    monkeypatch.delenv(VARIABLE, raising=False)
    earlier = {host: len(lines(place / f"{host}.log")) for host in HOSTS}
    cli.run(["check", "--xml", str(GUEST), "--hosts", fleet, "-o", "name"])
    ids = {
        line["requestId"]
        for host in HOSTS
        for line in once_there(partial(since, place / f"{host}.log", earlier[host]), 1)
    }
    (one,) = ids
    assert re.fullmatch("[0-9a-f]{16}", one)


@pytest.mark.parametrize(
    "metadata",
    [
        (("x-request-id", "two words"),),
        (("x-request-id", "x" * 65),),
        (("x-request-id", 'forged","level":"ERROR'),),
        (("x-request-id", "one"), ("x-request-id", "two")),
        (("x-request-id", ""),),
        (("x-request-id-bin", b"\xff\n"),),
        (),
    ],
)
def test_garbage_for_an_id_is_replaced_and_the_question_is_answered(
    place: Path, metadata: tuple[tuple[str, str], ...]
) -> None:
    earlier = {name: len(lines(place / f"{name}.log")) for name in ("controller", *HOSTS)}
    with grpc.insecure_channel(f"unix:{place}/controller") as channel:
        stub = controller_pb2_grpc.ControllerServiceStub(channel)
        answer = stub.ListHosts(controller_pb2.ListHostsRequest(), metadata=metadata)
    assert len(answer.hosts) == len(HOSTS)
    with grpc.insecure_channel(f"unix:{place}/h1") as channel:
        agent_pb2_grpc.AgentServiceStub(channel).ListDomains(
            agent_pb2.ListDomainsRequest(), metadata=metadata
        )
    (told,) = once_there(lambda: since(place / "controller.log", earlier["controller"]), 1)
    assert re.fullmatch("[0-9a-f]{16}", told["requestId"])
    first, second = once_there(lambda: since(place / "h1.log", earlier["h1"]), 2)
    assert first["requestId"] == told["requestId"], "the controller's own is passed on"
    assert re.fullmatch("[0-9a-f]{16}", second["requestId"])
    assert second["requestId"] != told["requestId"]


def test_a_question_that_is_refused_is_logged_with_its_code(place: Path) -> None:
    earlier = len(lines(place / "h1.log"))
    with grpc.insecure_channel(f"unix:{place}/h1") as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.PrepareDryRun(
                agent_pb2.PrepareDryRunRequest(), metadata=(("x-request-id", "wrong"),)
            )
    audited, failed = once_there(lambda: since(place / "h1.log", earlier), 2)
    assert (audited["requestId"], audited["outcome"]) == ("wrong", "INVALID_ARGUMENT")
    assert (failed["requestId"], failed["code"]) == ("wrong", "INVALID_ARGUMENT")


def test_an_id_of_the_scripts_own_that_is_none_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "two words")
    assert cli.run(["hosts", "--hosts", "unix:/nowhere"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"virt-preflight: ${VARIABLE}: two words: wanted 1 to 64 letters")


def test_a_fault_of_the_controllers_own_names_the_request_to_look_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> NoReturn:
        raise RuntimeError("ours")

    monkeypatch.setenv(VARIABLE, "nightly-8")
    monkeypatch.setattr(Desk, "hosts", broken)
    with controller("h1=unix:/nowhere") as address:
        assert cli.run(["hosts", "--server", address]) == 1
    assert "(its log says more: request nightly-8)" in capsys.readouterr().err


def test_the_audit_of_a_question_has_the_same_id(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "nightly-8")
    cli.run(["check", "--xml", str(GUEST), "--server", f"unix:{place}/controller", "-o", "name"])
    capsys.readouterr()

    def audited(log: Path) -> list[dict[str, Any]]:
        of_it = (line for line in lines(log) if line["logger"] == "virt_preflight.audit")
        return [line for line in of_it if line.get("requestId") == "nightly-8"]

    (said,) = once_there(partial(audited, place / "controller.log"), 1)
    assert (said["caller"], said["role"], said["method"]) == ("unix:", "admin", "DryRun")
    for host in HOSTS:
        (said,) = once_there(partial(audited, place / f"{host}.log"), 1)
        assert (said["method"], said["depth"], said["guests"]) == (
            "PrepareDryRun",
            "libvirt",
            "db1",
        )
        assert said["outcome"] in ("CLEAR", "RISKY", "UNSURE", "BLOCKED")
