"""A rehearsal over real gRPC: the agents are real, their libvirt and their files are played."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from tests.agent.fake import FakeSource
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.fence import Fence, Fenced
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.service import AgentServicer, serve
from virt_preflight.agent.sources import FileStat, LibvirtRefused, Refused, User
from virt_preflight.agent.sources.rehearsing import Played, Refusal, Rehearsing, Script, Step
from virt_preflight.controller import wire
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import Attended, Heard, Silent
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.fleet import FleetHost
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import Questions
from virt_preflight.treaty.listening import Listening
from virt_preflight.v1 import agent_pb2, agent_pb2_grpc, guest_pb2, report_pb2

UUID = "11111111-2222-4333-8444-555555555555"
NVRAM = "/var/lib/libvirt/qemu/nvram/db1_VARS.fd"
GUEST = guest_pb2.Guest(
    domain_xml=(
        f"<domain type='kvm'><name>db1</name><uuid>{UUID}</uuid>"
        f"<memory>65536</memory><os><type>hvm</type><nvram>{NVRAM}</nvram></os></domain>"
    ).encode()
)
CAPABILITIES = (
    "<capabilities><host><secmodel><model>dac</model>"
    "<baselabel type='kvm'>+107:+108</baselabel></secmodel></host></capabilities>"
)
WORDS = "Cannot get interface MTU on 'br9': No such device"


@dataclass(kw_only=True)
class Theatre:
    """What is played, what it leaves, and who sweeps."""

    source: FakeSource
    files: dict[str, FileStat]
    played: Played = field(default_factory=Played)
    removed: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def rehearse(self, script: Script, within_s: float) -> Played:
        self.files[NVRAM] = FileStat(
            kind="file", size_bytes=1, mode=0o600, uid=0, gid=0, device=1, inode=1
        )
        return self.played

    def write_down(self, uuid: str, notes: str) -> None:
        if uuid in self.notes:
            raise Refused("another rehearsal of the guest is under way")
        self.notes[uuid] = notes

    def written_down(self) -> Mapping[str, str]:
        return self.notes

    def cross_out(self, uuid: str) -> None:
        self.notes.pop(uuid, None)

    def remove_file(self, path: str) -> None:
        self.removed.append(path)

    def remove_directory(self, path: str) -> None:
        raise AssertionError(path)

    def remove_volume(self, path: str) -> None:
        raise AssertionError(path)

    def give_back(self, path: str, uid: int, gid: int) -> None:
        raise AssertionError(path)

    def remembered(self, path: str) -> Mapping[str, bytes]:
        raise AssertionError(path)

    def remember(self, path: str, remembered: Mapping[str, bytes]) -> None:
        raise AssertionError(path)


@pytest.fixture
def theatre() -> Theatre:
    db1 = {"name": "db1", "uuid": UUID, "id": 3, "state": "running", "persistent": True}
    files: dict[str, FileStat] = {}
    answers: dict[tuple[str, ...], str] = {
        ("domains",): "[]",
        ("domain-jobs", UUID): json.dumps({"job": ""}),
        ("capabilities",): CAPABILITIES,
        ("version",): json.dumps({"libvirt": 9_000_000, "qemu": 7_002_000}),
    }
    theatre = Theatre(
        source=FakeSource(
            stats=files, answers=answers, users={"107": User(name="qemu", uid=107, gid=108)}
        ),
        files=files,
    )
    answers["lives here",] = json.dumps([db1])
    return theatre


@pytest_asyncio.fixture
async def address(tmp_path: Path, theatre: Theatre) -> AsyncIterator[str]:
    async with served(tmp_path, theatre, facts_of(theatre)) as address:
        yield address


def facts_of(theatre: Theatre) -> FactStore:
    return FactStore(source=theatre.source, catalogue=catalogue(), clock=time.monotonic)


@asynccontextmanager
async def served(tmp_path: Path, theatre: Theatre, store: FactStore) -> AsyncIterator[str]:
    servicer = AgentServicer(
        host="h2",
        store=store,
        policy=Policy(),
        rehearsing=Rehearsing(rehearser=theatre, broom=theatre),
    )
    server = await serve(servicer, Listening(plain=(f"unix:{tmp_path}/agent.sock",)))
    yield f"unix:{tmp_path}/agent.sock"
    await server.stop(None)


def attend(guest: guest_pb2.Guest = GUEST) -> wire.Call[Attended]:
    return wire.attend(
        guest.SerializeToString(), MigrationOptions(live=True, p2p=True), Questions()
    )


async def removed(theatre: Theatre) -> list[str]:
    """What was swept away, and some time for that."""
    for _ in range(100):
        if theatre.removed:
            break
        await asyncio.sleep(0.05)
    return theatre.removed


def leave_nvram(theatre: Theatre) -> None:
    theatre.rehearse(None, 0)  # type: ignore[arg-type]


async def test_when_the_attendance_ends_all_is_as_before(
    address: str, theatre: Theatre, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "virt_preflight.audit")
    async with (
        Agents(1) as agents,
        agents.attended(FleetHost(name="h2", address=address), attend(), 5) as attended,
    ):
        assert attended == Attended()
        leave_nvram(theatre)
        assert not theatre.removed
    # It was waited for.
    assert theatre.removed == [NVRAM]
    async with asyncio.timeout(10):
        while not caplog.records:
            await asyncio.sleep(0.01)
    told = caplog.records[0].__dict__
    assert (told["method"], told["guests"]) == ("AttendRehearsal", "db1")


async def test_what_could_not_be_put_back_is_said_and_logged(
    address: str,
    theatre: Theatre,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: str) -> None:
        raise Refused(f"{path}: access denied by policy")

    monkeypatch.setattr(theatre, "remove_file", refuse)
    left: list[str] = []
    async with (
        Agents(1) as agents,
        agents.attended(FleetHost(name="h2", address=address), attend(), 5, left.extend),
    ):
        leave_nvram(theatre)
    assert left == [f"removed {NVRAM}: {NVRAM}: access denied by policy"]
    (told,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert told == (
        f"left undone after the rehearsal of db1: removed {NVRAM}: {NVRAM}: access denied by policy"
    )


async def test_a_guest_that_names_a_path_outside_of_the_policy_is_neither_rehearsed_nor_tried(
    tmp_path: Path, theatre: Theatre
) -> None:
    store = facts_of(theatre)
    fence = Fence(source=theatre.source, storage=("/srv/vm",), clock=time.monotonic)
    store.looking = Fenced(source=theatre.source, fence=fence)
    outside = guest_pb2.Guest(domain_xml=GUEST.domain_xml.replace(NVRAM.encode(), b"/etc/shadow"))
    asked = Questions(depth=Depth.REHEARSAL)
    async with served(tmp_path, theatre, store) as address, Agents(1) as agents:
        h2 = FleetHost(name="h2", address=address)
        async with agents.attended(h2, attend(outside), 5) as attended:
            assert isinstance(attended, Attended)
            assert attended.refused.startswith("/etc/shadow: outside what this host lets be probed")
        call = wire.prepare(
            outside.SerializeToString(), MigrationOptions(), asked, wire.unplayed(attended.refused)
        )
        told = await agents.ask(h2, call, 5)
    assert isinstance(told, Heard)
    assert told.said.depth is Depth.LIBVIRT
    assert told.said.shallower_because.count("/etc/shadow: outside what this host lets") == 2


async def test_when_the_caller_vanishes_all_is_as_before_too(
    address: str, theatre: Theatre
) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stream = agent_pb2_grpc.AgentServiceStub(channel).AttendRehearsal()
        await stream.write(agent_pb2.AttendRehearsalRequest.FromString(attend().request))
        first = await stream.read()
        assert isinstance(first, agent_pb2.AttendRehearsalResponse)
        assert first.WhichOneof("said") == "ready"
        leave_nvram(theatre)
        stream.cancel()
    assert await removed(theatre) == [NVRAM]


async def test_when_the_callers_time_is_up_all_is_as_before_too(
    address: str, theatre: Theatre
) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stream = agent_pb2_grpc.AgentServiceStub(channel).AttendRehearsal(timeout=0.6)
        await stream.write(agent_pb2.AttendRehearsalRequest.FromString(attend().request))
        first = await stream.read()
        assert isinstance(first, agent_pb2.AttendRehearsalResponse)
        assert first.WhichOneof("said") == "ready"
        leave_nvram(theatre)
        assert await removed(theatre) == [NVRAM]


async def test_what_a_killed_agent_has_noted_its_successor_puts_back(
    address: str, theatre: Theatre
) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stream = agent_pb2_grpc.AgentServiceStub(channel).AttendRehearsal()
        await stream.write(agent_pb2.AttendRehearsalRequest.FromString(attend().request))
        await stream.read()
        noted = dict(theatre.notes)
    successor = Theatre(source=theatre.source, files=theatre.files, notes=noted)
    leave_nvram(successor)
    store = FactStore(source=theatre.source, catalogue=catalogue(), clock=time.monotonic)
    AgentServicer(
        host="h2",
        store=store,
        policy=Policy(),
        rehearsing=Rehearsing(rehearser=successor, broom=successor),
    ).tidy_up()
    assert await removed(successor) == [NVRAM]


async def test_a_guard_is_told_and_nothing_is_swept(address: str, theatre: Theatre) -> None:
    theatre.files["/etc/libvirt/hooks/qemu"] = FileStat(
        kind="file", size_bytes=1, mode=0o755, uid=0, gid=0, device=1, inode=2
    )
    host = FleetHost(name="h2", address=address)
    async with Agents(1) as agents, agents.attended(host, attend(), 5) as attended:
        leave_nvram(theatre)
    assert isinstance(attended, Attended)
    assert attended.refused == "libvirtd would run /etc/libvirt/hooks/qemu: --allow hooks"
    assert not theatre.removed


async def test_nobody_allows_what_there_is_not(address: str) -> None:
    questions = Questions(allow=("hook",))
    call = wire.attend(GUEST.SerializeToString(), MigrationOptions(live=True, p2p=True), questions)
    host = FleetHost(name="h2", address=address)
    async with Agents(1) as agents, agents.attended(host, call, 5) as attended:
        assert isinstance(attended, Silent)
        assert "nothing is called 'hook', only hooks, open-vswitch" in attended.why


async def test_a_guest_that_is_none_is_refused(address: str) -> None:
    host = FleetHost(name="h2", address=address)
    bad = attend(guest_pb2.Guest(domain_xml=b"<domain/>"))
    async with Agents(1) as agents, agents.attended(host, bad, 5) as attended:
        assert isinstance(attended, Silent)
        assert "has no <name>" in attended.why


async def test_a_host_that_is_not_there_does_not_attend(tmp_path: Path) -> None:
    host = FleetHost(name="h2", address=f"unix:{tmp_path}/nobody.sock")
    async with Agents(1) as agents, agents.attended(host, attend(), 5) as attended:
        assert isinstance(attended, Silent)


async def test_the_source_plays_and_the_destination_weighs(address: str, theatre: Theatre) -> None:
    theatre.source.answers["domains",] = theatre.source.answers["lives here",]  # type: ignore[index]
    error = LibvirtRefused(WORDS, 38, 0)
    theatre.played = Played(refusal=Refusal(step=Step.PREPARE, error=error))
    async with grpc.aio.insecure_channel(address) as channel:
        agent: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(channel)
        played = await agent.RehearseDryRun(
            agent_pb2.RehearseDryRunRequest(domain="db1", destination_uri="qemu+tcp://h2/system")
        )
        answer = await agent.PrepareDryRun(
            agent_pb2.PrepareDryRunRequest(
                guests=[GUEST],
                questions=guest_pb2.Questions(depth=guest_pb2.DEPTH_REHEARSAL),
                rehearsals=[played.rehearsal],
            )
        )
    (report,) = answer.reports
    assert report.depth == guest_pb2.DEPTH_REHEARSAL
    (finding,) = (one for one in report.findings if one.libvirt_error)
    assert (finding.check, finding.libvirt_error) == ("nics.bridge-absent", WORDS)
    assert finding.severity == report_pb2.SEVERITY_BLOCKER
    assert finding.remedy


async def test_a_guest_that_runs_nowhere_cannot_be_rehearsed_and_the_report_says_so(
    address: str,
) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        agent: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(channel)
        answer = await agent.PrepareDryRun(
            agent_pb2.PrepareDryRunRequest(
                guests=[GUEST], questions=guest_pb2.Questions(depth=guest_pb2.DEPTH_REHEARSAL)
            )
        )
    (report,) = answer.reports
    assert report.depth < guest_pb2.DEPTH_REHEARSAL
    why = "a guest that runs nowhere cannot be rehearsed: its own host would have to play it"
    assert f"the rehearsal: {why}" in report.shallower_because


async def test_a_guest_with_a_host_that_nobody_rehearsed_is_said_to_be_so(address: str) -> None:
    at_home = guest_pb2.Guest()
    at_home.CopyFrom(GUEST)
    at_home.origin.host.name = "h1"
    async with grpc.aio.insecure_channel(address) as channel:
        agent: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(channel)
        answer = await agent.PrepareDryRun(
            agent_pb2.PrepareDryRunRequest(
                guests=[at_home], questions=guest_pb2.Questions(depth=guest_pb2.DEPTH_REHEARSAL)
            )
        )
    (report,) = answer.reports
    assert "the rehearsal: nobody played it" in report.shallower_because


@pytest.mark.parametrize(
    "request_",
    [
        agent_pb2.RehearseDryRunRequest(domain="db1"),
        agent_pb2.RehearseDryRunRequest(destination_uri="qemu+tcp://h2/system"),
    ],
)
async def test_what_a_rehearsal_cannot_do_without_is_named(
    address: str, request_: agent_pb2.RehearseDryRunRequest
) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        agent: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agent.RehearseDryRun(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
