"""The door over real gRPC, before services whose answers a test chooses."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tests.treaty.pki import issue
from virt_preflight.treaty import audit
from virt_preflight.treaty.door import Door
from virt_preflight.treaty.identities import ServerIdentity
from virt_preflight.treaty.neighbours import Neighbours
from virt_preflight.treaty.roles import Role, Roles
from virt_preflight.treaty.turnstile import Turnstile
from virt_preflight.v1 import agent_pb2, agent_pb2_grpc, guest_pb2, report_pb2

US = f"ipv4:127.0.0.1 uid={os.geteuid()}"
TRIAL = guest_pb2.Questions(depth=guest_pb2.DEPTH_TRIAL)


class Servicer(agent_pb2_grpc.AgentServiceServicer):
    """Answers at once, but for rehearsals, which last until the caller ends them."""

    async def PrepareDryRun(  # noqa: N802
        self, request: Any, context: Any
    ) -> agent_pb2.PrepareDryRunResponse:
        if request.guests:
            audit.about(["db1\n"] * len(request.guests))
        report = report_pb2.Report(verdict=report_pb2.VERDICT_CLEAR)
        return agent_pb2.PrepareDryRunResponse(reports=[report])

    async def BeginDryRun(  # noqa: N802
        self, request: Any, context: Any
    ) -> agent_pb2.BeginDryRunResponse:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such domain")
        raise AssertionError

    async def ListDomains(  # noqa: N802
        self, request: Any, context: Any
    ) -> agent_pb2.ListDomainsResponse:
        raise RuntimeError("a bug")

    async def AttendRehearsal(  # noqa: N802
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[agent_pb2.AttendRehearsalResponse]:
        yield agent_pb2.AttendRehearsalResponse(ready=agent_pb2.RehearsalReady())
        async for _ in request_iterator:
            pass
        yield agent_pb2.AttendRehearsalResponse(tidied=agent_pb2.RehearsalTidied())


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


# What a tunnel of ssh does on the machine where it ends: its connection is its user's.
TUNNEL = """
import encodings.idna, os, select, socket, sys
os.setuid(int(sys.argv[1]))
entrance = socket.create_server(("127.0.0.1", 0))
print(entrance.getsockname()[1], flush=True)
there = entrance.accept()[0]
back = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
other = {there: back, back: there}
while True:
    for one in select.select(list(other), [], [], 60)[0]:
        said = one.recv(65536)
        if not said:
            sys.exit()
        other[one].sendall(said)
"""


@contextmanager
def by_way_of(user: int, port: int) -> Iterator[str]:
    """An address that leads to that port, through a process of another user."""
    command = (sys.executable, "-I", "-S", "-c", TUNNEL, str(user), str(port))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tunnel:
        assert tunnel.stdout is not None
        try:
            yield f"127.0.0.1:{int(tunnel.stdout.readline())}"
        finally:
            tunnel.kill()


@asynccontextmanager
async def opened(
    roles: Roles, *, in_all: int = 99, per_caller: int = 99, tls: Path | None = None, port: int = 0
) -> AsyncIterator[grpc.aio.Channel]:
    """A server behind a door, and a channel to it; with TLS the caller is "O=..., CN=alice"."""
    at = f"127.0.0.1:{port or free_port()}"
    door = Door(
        roles=roles,
        turnstile=Turnstile(in_all=in_all, per_caller=per_caller),
        neighbours=Neighbours((at,)),
    )
    server = grpc.aio.server(interceptors=[door], options=[("grpc.so_reuseport", 0)])
    agent_pb2_grpc.add_AgentServiceServicer_to_server(Servicer(), server)  # type: ignore[abstract]
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    if tls is None:
        server.add_insecure_port(at)
        channel = grpc.aio.insecure_channel(at)
    else:
        ca = trustme.CA()
        identity = ServerIdentity(issue(tls / "h1", ca, "127.0.0.1"))
        ours = issue(tls / "alice", ca, "alice.example.org", common_name="alice")
        server.add_secure_port(at, identity.credentials())
        shown = (ours.ca.read_bytes(), ours.key.read_bytes(), ours.cert.read_bytes())
        credentials = grpc.ssl_channel_credentials(*shown)
        channel = grpc.aio.secure_channel(at, credentials)
    await server.start()
    async with channel:
        yield channel
    await server.stop(None)


def stub(channel: grpc.aio.Channel) -> agent_pb2_grpc.AgentServiceAsyncStub:
    return agent_pb2_grpc.AgentServiceStub(channel)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, ErrorInfo]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return caught.value.code(), caught.value.details() or "", info


async def test_a_certificate_alone_makes_a_viewer(tmp_path: Path) -> None:
    async with opened(Roles(), tls=tmp_path) as channel:
        code, said, info = await refusal(
            stub(channel).PrepareDryRun(agent_pb2.PrepareDryRunRequest())
        )
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert said.endswith(
        "CN=alice has the role viewer, and this at the depth default takes the role scheduler: "
        "[roles] of the configuration here may give it to that name"
    )
    assert (info.reason, info.domain) == ("ROLE_MISSING", "virt-preflight")
    assert info.metadata["role"] == "scheduler"
    assert info.metadata["caller"].endswith("CN=alice")


async def test_a_pattern_gives_a_role_up_to_its_depth(tmp_path: Path) -> None:
    async with opened(Roles(scheduler=("DNS:alice.*",)), tls=tmp_path) as channel:
        await stub(channel).PrepareDryRun(agent_pb2.PrepareDryRunRequest())
        deep = agent_pb2.PrepareDryRunRequest(questions=TRIAL)
        code, said, _ = await refusal(stub(channel).PrepareDryRun(deep))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "has the role scheduler, and this at the depth trial takes the role admin" in said


async def test_whoever_no_pattern_means_may_ask_nothing_but_health(tmp_path: Path) -> None:
    async with opened(Roles(viewer=()), tls=tmp_path) as channel:
        code, said, _ = await refusal(stub(channel).ListChecks(agent_pb2.ListChecksRequest()))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "CN=alice has no role, and this takes the role viewer: " in said
        healthy: Any = health_pb2_grpc.HealthStub(channel)
        await healthy.Check(health_pb2.HealthCheckRequest())


async def test_a_rehearsal_is_not_attended_for_a_viewer() -> None:
    async with opened(Roles(local=Role.SCHEDULER)) as channel:
        stream = stub(channel).AttendRehearsal()
        code, said, _ = await refusal(stream.read())
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "takes the role admin" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user: NOT TESTED")
@pytest.mark.parametrize("netlink", ["allowed", "denied"])
async def test_another_user_of_this_machine_is_a_scheduler_and_told_what_to_do(
    netlink: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if netlink == "denied":
        monkeypatch.setattr("virt_preflight.treaty.neighbours.NETLINK_SOCK_DIAG", -1)
    caplog.set_level(logging.INFO, "virt_preflight.audit")
    port = free_port()
    deep = agent_pb2.PrepareDryRunRequest(questions=TRIAL)
    async with opened(Roles(), port=port) as ours:
        with by_way_of(4711, port) as entrance:
            async with grpc.aio.insecure_channel(entrance) as theirs:
                await stub(theirs).PrepareDryRun(agent_pb2.PrepareDryRunRequest())
                code, said, info = await refusal(stub(theirs).PrepareDryRun(deep))
        await stub(ours).PrepareDryRun(deep)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert said == (
        "ipv4:127.0.0.1 uid=4711 has the role scheduler, and this at the depth trial takes the role"
        " admin: ask as root on this machine or over its Unix socket, or by a certificate; or have"
        " [roles] of the configuration here give it to `local`"
    )
    assert info.reason == "ROLE_MISSING"
    who = [(one.__dict__["caller"], one.__dict__["role"]) for one in caplog.records]
    assert who == [
        ("ipv4:127.0.0.1 uid=4711", "scheduler"),
        ("ipv4:127.0.0.1 uid=4711", "scheduler"),
        ("ipv4:127.0.0.1 uid=0", "admin"),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user: NOT TESTED")
async def test_another_user_is_an_admin_where_the_table_says_so_of_local_callers() -> None:
    port = free_port()
    async with opened(Roles(local=Role.ADMIN), port=port):
        with by_way_of(4711, port) as entrance:
            async with grpc.aio.insecure_channel(entrance) as theirs:
                await stub(theirs).PrepareDryRun(agent_pb2.PrepareDryRunRequest(questions=TRIAL))


async def test_beyond_the_limits_it_is_resource_exhausted_at_once() -> None:
    async with opened(Roles(), per_caller=1) as channel:
        inside = stub(channel).AttendRehearsal()
        await inside.read()
        code, said, info = await refusal(
            stub(channel).PrepareDryRun(agent_pb2.PrepareDryRunRequest())
        )
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert said == f"1 requests of uid={os.geteuid()} are under way already: try again later"
        assert info.reason == "TOO_MANY"
        await inside.done_writing()
        tidied = await inside.read()
        assert isinstance(tidied, agent_pb2.AttendRehearsalResponse)
        assert tidied.HasField("tidied")
        assert await inside.read() is grpc.aio.EOF
        await stub(channel).PrepareDryRun(agent_pb2.PrepareDryRunRequest())


async def test_of_all_callers_together_no_more_are_let_in_either() -> None:
    async with opened(Roles(), in_all=1) as channel:
        inside = stub(channel).AttendRehearsal()
        await inside.read()
        code, said, _ = await refusal(stub(channel).ListDomains(agent_pb2.ListDomainsRequest()))
        assert (code, said) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "1 requests are under way already: try again later",
        )
        inside.cancel()


async def test_each_question_is_one_line_with_what_came_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "virt_preflight.audit")
    async with opened(Roles(local=Role.SCHEDULER), per_caller=2) as channel:
        agent = stub(channel)
        await agent.PrepareDryRun(agent_pb2.PrepareDryRunRequest(guests=[guest_pb2.Guest()]))
        for call in (
            agent.BeginDryRun(agent_pb2.BeginDryRunRequest(domain="db2")),
            agent.ListDomains(agent_pb2.ListDomainsRequest()),
            agent.PrepareDryRun(agent_pb2.PrepareDryRunRequest(questions=TRIAL)),
        ):
            with pytest.raises(grpc.aio.AioRpcError):
                await call
    told = [
        tuple(
            getattr(record, key)
            for key in ("caller", "role", "method", "depth", "guests", "outcome")
        )
        for record in caplog.records
        if record.name == "virt_preflight.audit"
    ]
    who = (US, "scheduler")
    assert sorted(told) == [
        (*who, "BeginDryRun", "default", "db2", "NOT_FOUND"),
        (*who, "ListDomains", "", "", "UNKNOWN"),
        (*who, "PrepareDryRun", "default", "db1\\n", "CLEAR"),
        (*who, "PrepareDryRun", "trial", "0 as XML", "PERMISSION_DENIED"),
    ]


async def test_of_many_guests_as_many_are_named_as_a_line_is_to_have(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "virt_preflight.audit")
    async with opened(Roles()) as channel:
        for count in (20, 0):
            guests = [guest_pb2.Guest()] * count
            await stub(channel).PrepareDryRun(agent_pb2.PrepareDryRunRequest(guests=guests))
    many, none = (record.__dict__["guests"] for record in caplog.records)
    assert many == " ".join([*["db1\\n"] * 8, "and 12 more"])
    assert none == "0 as XML"


async def test_a_call_that_is_given_up_is_noted_as_such(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "virt_preflight.audit")
    async with opened(Roles()) as channel:
        inside = stub(channel).AttendRehearsal()
        await inside.read()
        inside.cancel()
        async with asyncio.timeout(10):
            while not caplog.records:
                await asyncio.sleep(0.01)
    assert caplog.records[0].__dict__["outcome"] == "CANCELLED"
