"""The agent: what a dry run costs above an empty call, what its checks cost, what it weighs."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from time import process_time

import grpc

from tests.bench.hosts import Examined, loaded
from tests.bench.measure import Figure, Missed, in_turns, timed, timed_call
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.check import AnyCheck, Problems
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.dryrun import Asked, dry_run, given
from virt_preflight.agent.factstore import FactStore, Question
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Side
from virt_preflight.agent.runner import Outcome, examine
from virt_preflight.agent.sources import Source
from virt_preflight.v1 import agent_pb2, agent_pb2_grpc, guest_pb2

LIVE = MigrationOptions(live=True, p2p=True)
# Enough to find the pair that is the most work, however many are recorded.
PAIRS_AT_MOST = 64
TEST_HYPERVISOR = "test:///default"
MIB = 1024 * 1024
# The emptiest call that an agent answers.
HEALTH = "/grpc.health.v1.Health/Check"
Method = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A guest that is to come to a host."""

    host: Path
    guest: str
    document: bytes
    store: FactStore
    domain: Domain

    def question(self) -> Question:
        return self.store.question(given(self.domain, Policy(), LIVE, None))


async def checks(examined: Examined, rounds: int) -> tuple[list[Figure], Pair]:
    """The checks over facts that are known; and the pair for which they take longest."""
    asked = [check for check in catalogue().checks if check.side is Side.DESTINATION]
    idle = [_idle(check) for check in asked]
    slowest: tuple[float, Pair] | None = None
    for pair in _pairs(examined):
        question = pair.question()
        took = await in_turns(5, timed(partial(_examine, asked, question), process_time), NOTHING)
        if slowest is None or took.measured_s > slowest[0]:
            slowest = took.measured_s, pair
    assert slowest is not None
    pair = slowest[1]
    question = pair.question()
    known = await in_turns(
        rounds,
        timed(partial(_examine, asked, question), process_time),
        timed(partial(_examine, idle, question), process_time),
    )
    whole = await in_turns(rounds, timed(partial(_dry_run, pair), process_time), NOTHING)
    where = f"{pair.guest} on {pair.host.name}"
    return [
        Figure(
            name=f"agent: {len(asked)} checks over known facts",
            measured=known.measured_s * 1000,
            unit="ms",
            target=2.0,
            beside="of processor time; as many that look at nothing:"
            f" {known.baseline_s * 1000:.2f} ms ({where})",
        ),
        Figure(
            name="agent: a guest's XML read, its facts, all checks",
            measured=whole.measured_s * 1000,
            unit="ms",
            beside="of processor time; the host's facts known, no gRPC",
        ),
    ], pair


def _pairs(examined: Examined) -> list[Pair]:
    found = []
    for directory, recording in zip(examined.hosts, loaded(examined.hosts), strict=True):
        for name, document in examined.guests.items():
            # A clock that stands still: what was learned once stays fresh.
            store = FactStore(source=recording, catalogue=catalogue(), clock=lambda: 0.0)
            found.append(
                Pair(
                    host=directory,
                    guest=name,
                    document=document,
                    store=store,
                    domain=read_domain(document),
                )
            )
    return found[:: -(-len(found) // PAIRS_AT_MOST)]


def _examine(asked: list[AnyCheck], question: Question) -> Outcome:
    return examine(asked, question.known)


def _idle(check: AnyCheck) -> AnyCheck:
    def nothing(source: Source) -> Problems:
        yield from ()

    return replace(check, asks=(Source,), function=nothing)


def _dry_run(pair: Pair) -> object:
    return dry_run(
        pair.store,
        read_domain(pair.document),
        host="bench",
        policy=Policy(),
        options=LIVE,
        asked=Asked(),
    )


NOTHING = timed(lambda: None)


async def call(pair: Pair, rounds: int) -> list[Figure | Missed]:
    """PrepareDryRun beside an empty call, over one channel to one agent; then what it weighs."""
    async with _agent("replay", str(pair.host)) as (process, channel):
        empty: Method = channel.unary_unary(HEALTH)
        agent = agent_pb2_grpc.AgentServiceStub(channel)
        question = agent_pb2.PrepareDryRunRequest(
            guests=[guest_pb2.Guest(domain_xml=pair.document)],
            options=guest_pb2.MigrationOptions(live=True, p2p=True),
        )
        # As `check` asks: every fact learned anew.
        anew = agent_pb2.PrepareDryRunRequest()
        anew.CopyFrom(question)
        anew.questions.max_age.SetInParent()
        nothing = timed_call(lambda: empty(b""))
        warm = await in_turns(rounds, timed_call(lambda: agent.PrepareDryRun(question)), nothing)
        cold = await in_turns(
            max(3, rounds // 4), timed_call(lambda: agent.PrepareDryRun(anew)), nothing
        )

        def spent() -> float:
            return _processor_s(process.pid)

        work = await in_turns(
            rounds,
            timed_call(lambda: agent.PrepareDryRun(question), spent),
            timed_call(lambda: empty(b""), spent),
        )
        resident = _resident_mib(process.pid)
    return [
        Figure(
            name="agent: PrepareDryRun above an empty call, facts known",
            measured=warm.more_s * 1000,
            unit="ms",
            target=3.0,
            beside=f"empty call: {warm.baseline_s * 1000:.2f} ms",
        ),
        Figure(
            name="agent: its processor time for that",
            measured=work.more_s * 1000,
            unit="ms",
            beside=f"empty call: {work.baseline_s * 1000:.2f} ms",
        ),
        Figure(
            name="agent: PrepareDryRun above it, every fact read anew as `check` asks",
            measured=cold.more_s * 1000,
            unit="ms",
            beside=f"empty call: {cold.baseline_s * 1000:.2f} ms; of a recording, which waits for"
            " nobody",
        ),
        Figure(
            name="agent: resident memory of `replay` after those questions",
            measured=resident,
            unit="MiB",
            beside=f"a bare Python: {_bare_python_mib():.0f} MiB; some {5 * rounds // 2} questions",
        ),
        await _serving(question, rounds),
    ]


async def _serving(question: agent_pb2.PrepareDryRunRequest, questions: int) -> Figure | Missed:
    name = "agent: resident memory of `serve` with libvirt"
    if find_spec("libvirt") is None:
        return Missed(name=name, why="libvirt-python is not installed here")
    async with _agent("serve", "--connect", TEST_HYPERVISOR) as (process, channel):
        agent = agent_pb2_grpc.AgentServiceStub(channel)
        for _ in range(questions):
            await agent.PrepareDryRun(question)
        return Figure(
            name=name,
            measured=_resident_mib(process.pid),
            unit="MiB",
            target=80.0,
            beside=f"a bare Python: {_bare_python_mib():.0f} MiB; libvirt's own test hypervisor,"
            f" {questions} questions",
        )


@asynccontextmanager
async def _agent(*command: str) -> AsyncIterator[tuple[Popen[bytes], grpc.aio.Channel]]:
    """A real agent of its own process, which ends with the block."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = Path(scratch) / "agent.toml"
        settings.touch()
        at = f"unix:{scratch}/agent.sock"
        words = [*command, "--config", str(settings), "--listen", at]
        with Popen(
            [sys.executable, "-m", "virt_preflight.agent.cli", *words], stderr=DEVNULL
        ) as process:
            try:
                async with grpc.aio.insecure_channel(at) as channel:
                    await _answering(process, channel)
                    yield process, channel
            finally:
                process.terminate()


async def _answering(process: Popen[bytes], channel: grpc.aio.Channel) -> None:
    empty: Method = channel.unary_unary(HEALTH)
    ends = time.monotonic() + 60
    while time.monotonic() < ends and process.poll() is None:
        try:
            await empty(b"", wait_for_ready=True, timeout=1)
        except grpc.aio.AioRpcError:
            continue
        # Until the host's facts are learned ahead.
        await agent_pb2_grpc.AgentServiceStub(channel).DescribeHost(agent_pb2.DescribeHostRequest())
        return
    raise RuntimeError("the agent did not start")


def _resident_mib(process_id: int) -> float:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _processor_s(process_id: int) -> float:
    """Of all its threads, to the nanosecond (proc(5): the first number of schedstat)."""
    tasks = Path(f"/proc/{process_id}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _bare_python_mib() -> float:
    script = "import sys; print('.', flush=True); sys.stdin.read()"
    with Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE) as bare:
        assert bare.stdout is not None
        bare.stdout.readline()
        found = _resident_mib(bare.pid)
        bare.terminate()
    return found
