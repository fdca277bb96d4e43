"""The agent over real gRPC, for hosts as they were recorded."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.service import GUESTS_AT_MOST, AgentServicer, serve
from virt_preflight.agent.sources.recording import load
from virt_preflight.treaty.listening import Listening
from virt_preflight.v1 import agent_pb2, agent_pb2_grpc, guest_pb2, report_pb2

RECORDINGS = Path(__file__).parents[1] / "recordings"
GUEST = (RECORDINGS / "guests/db1.xml").read_bytes()


@pytest_asyncio.fixture
async def channel(
    tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[grpc.aio.Channel]:
    """To an agent of a recorded host: h2, or the one that the test names."""
    name = getattr(request, "param", "h2")
    store = FactStore(source=load(RECORDINGS / name), catalogue=catalogue(), clock=time.monotonic)
    servicer = AgentServicer(host=name, store=store, policy=Policy())
    server = await serve(servicer, Listening(plain=(f"unix:{tmp_path}/agent.sock",)))
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/agent.sock") as opened:
        yield opened
    await server.stop(None)


def agent(channel: grpc.aio.Channel) -> agent_pb2_grpc.AgentServiceAsyncStub:
    return agent_pb2_grpc.AgentServiceStub(channel)


def guest(xml: bytes = GUEST) -> guest_pb2.Guest:
    return guest_pb2.Guest(domain_xml=xml)


async def refusal(
    channel: grpc.aio.Channel, request: agent_pb2.PrepareDryRunRequest
) -> BadRequest.FieldViolation:
    """The one field that the agent objects to."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agent(channel).PrepareDryRun(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)
    assert status is not None
    detail = BadRequest()
    assert status.details[0].Unpack(detail)
    (violation,) = detail.field_violations
    return violation


async def test_a_host_that_can_take_the_guest_is_clear(channel: grpc.aio.Channel) -> None:
    answer = await agent(channel).PrepareDryRun(agent_pb2.PrepareDryRunRequest(guests=[guest()]))
    (report,) = answer.reports
    assert (report.host, report.guest_name) == ("h2", "db1")
    assert report.verdict == report_pb2.VERDICT_CLEAR, report
    assert report.checks_asked + report.checks_not_applicable > 100
    assert report.claims.memory_kib > 256 * 1024
    assert report.capacity.memory_free_kib > 0


@pytest.mark.parametrize("channel", ["h4"], indirect=True)
async def test_a_host_with_a_lesser_cpu_names_what_it_lacks(channel: grpc.aio.Channel) -> None:
    answer = await agent(channel).PrepareDryRun(agent_pb2.PrepareDryRunRequest(guests=[guest()]))
    (report,) = answer.reports
    assert report.verdict == report_pb2.VERDICT_BLOCKED
    (finding,) = (one for one in report.findings if one.check == "cpu.features-absent")
    assert finding.lasting


@pytest.mark.parametrize("channel", ["h4"], indirect=True)
async def test_a_waived_finding_stays_and_does_not_count(channel: grpc.aio.Channel) -> None:
    answer = await agent(channel).PrepareDryRun(
        agent_pb2.PrepareDryRunRequest(
            guests=[guest()],
            questions=guest_pb2.Questions(only=["cpu"], waive=["cpu.features-absent"]),
        )
    )
    (report,) = answer.reports
    assert report.verdict == report_pb2.VERDICT_CLEAR
    assert [finding.waived for finding in report.findings] == [True]


async def test_many_guests_are_answered_in_their_order(channel: grpc.aio.Channel) -> None:
    other = GUEST.replace(b"<name>db1</name>", b"<name>db2</name>")
    answer = await agent(channel).PrepareDryRun(
        agent_pb2.PrepareDryRunRequest(guests=[guest(), guest(other)])
    )
    assert [report.guest_name for report in answer.reports] == ["db1", "db2"]


@pytest.mark.parametrize("channel", ["h1"], indirect=True)
async def test_a_guest_that_lives_here_is_given_with_its_origin(channel: grpc.aio.Channel) -> None:
    begun = await agent(channel).BeginDryRun(
        agent_pb2.BeginDryRunRequest(
            domain="db1", options=guest_pb2.MigrationOptions(live=True, unsafe=True)
        )
    )
    assert b"<name>db1</name>" in begun.guest.domain_xml
    origin = begun.guest.origin
    assert origin.versions.libvirt == 9_000_000
    assert len(origin.host_model.features) > 20
    assert {file.path: file.size_bytes for file in origin.files}["/srv/shared/db1.qcow2"] > 0
    assert begun.report.verdict == report_pb2.VERDICT_CLEAR
    assert {finding.side for finding in begun.report.findings} <= {report_pb2.SIDE_SOURCE}


@pytest.mark.parametrize("channel", ["h1"], indirect=True)
async def test_unshared_storage_holds_a_guest_back(channel: grpc.aio.Channel) -> None:
    begun = await agent(channel).BeginDryRun(agent_pb2.BeginDryRunRequest(domain="db1"))
    assert "disks.unsafe" in {finding.check for finding in begun.report.findings}


async def test_a_guest_that_is_not_here_is_not_found(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agent(channel).BeginDryRun(agent_pb2.BeginDryRunRequest(domain="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "h2 has no domain 'nobody'"


@pytest.mark.parametrize("channel", ["h1"], indirect=True)
@pytest.mark.parametrize("by", ["name", "id", "uuid"])
async def test_a_guest_is_found_as_virsh_finds_it(channel: grpc.aio.Channel, by: str) -> None:
    (one,) = (await agent(channel).ListDomains(agent_pb2.ListDomainsRequest())).domains
    asked = str(getattr(one, by))
    found = await agent(channel).ListDomains(agent_pb2.ListDomainsRequest(domain=asked))
    assert [domain.name for domain in found.domains] == ["db1"]


@pytest.mark.parametrize(
    ("request_", "field", "part"),
    [
        (agent_pb2.PrepareDryRunRequest(), "guests", "0 guests"),
        (
            agent_pb2.PrepareDryRunRequest(guests=[guest()] * (GUESTS_AT_MOST + 1)),
            "guests",
            f"wanted 1 to {GUESTS_AT_MOST}",
        ),
        (
            agent_pb2.PrepareDryRunRequest(guests=[guest(), guest(b"<domain>\n<name")]),
            "guests[1].domain_xml",
            "line 2: ",
        ),
        (
            agent_pb2.PrepareDryRunRequest(
                guests=[guest()], questions=guest_pb2.Questions(only=["cpus"])
            ),
            "questions.only",
            "no check or family 'cpus'",
        ),
        (
            agent_pb2.PrepareDryRunRequest(
                guests=[guest()],
                questions=guest_pb2.Questions(depth=99),  # type: ignore[arg-type]
            ),
            "questions.depth",
            "99 is not known",
        ),
        (
            agent_pb2.PrepareDryRunRequest(
                guests=[guest()], options=guest_pb2.MigrationOptions(xml=b"no xml")
            ),
            "options.xml",
            "line 1: ",
        ),
    ],
    ids=["none", "too many", "bad xml", "unknown family", "unknown depth", "bad --xml"],
)
async def test_a_bad_request_names_the_field(
    channel: grpc.aio.Channel,
    request_: agent_pb2.PrepareDryRunRequest,
    field: str,
    part: str,
) -> None:
    violation = await refusal(channel, request_)
    assert violation.field == field
    assert part in violation.description


async def test_a_caller_without_time_is_answered_all_the_same(channel: grpc.aio.Channel) -> None:
    """Of recordings every answer comes at once; a deadline that has passed is gRPC's to tell."""
    answer = await agent(channel).PrepareDryRun(
        agent_pb2.PrepareDryRunRequest(
            guests=[guest()], questions=guest_pb2.Questions(max_age=Duration())
        ),
        timeout=30,
    )
    assert len(answer.reports) == 1


async def test_the_host_describes_itself(channel: grpc.aio.Channel) -> None:
    told = await agent(channel).DescribeHost(agent_pb2.DescribeHostRequest())
    assert told.host.name == "h2"
    assert (told.architecture, told.versions.libvirt) == ("x86_64", 9_000_000)
    assert len(told.class_digest) == 16
    assert not told.unlearned


async def test_every_check_is_listed(channel: grpc.aio.Channel) -> None:
    listed = await agent(channel).ListChecks(agent_pb2.ListChecksRequest())
    assert [one.check for one in listed.checks] == [one.id for one in catalogue().checks]


async def test_health_is_told(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for name in ("", "virt_preflight.v1.AgentService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
