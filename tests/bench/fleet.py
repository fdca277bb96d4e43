"""The controller over a whole fleet, beside a bare echo of the same sizes to the same servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from tests.bench.agent import HEALTH, Method, Pair
from tests.bench.hosts import Examined
from tests.bench.measure import Figure, Missed, in_turns, timed_call
from tests.bench.pki import DOMAIN, Safety, certificates, client_tls
from tests.bench.simulated import ECHO, fleet, more_files
from virt_preflight.controller import asking, wire
from virt_preflight.controller.agents import CHANNEL, Agents
from virt_preflight.controller.asking import Asker
from virt_preflight.controller.dryrun import DryRun, conclude
from virt_preflight.controller.fanout import Pace
from virt_preflight.controller.fleet import Fleet, FleetHost, Uris
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import GuestFile, Question, Questions
from virt_preflight.treaty import request_id
from virt_preflight.treaty.identities import Handshakes

# What is open beside the connections, and of how many processes the agents are.
FILES_BESIDE = 200
PROCESSES = 4
TARGET = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question and the fleet that it goes to; `request` is what each agent is sent of it."""

    guest: GuestFile
    question: Question
    request: bytes
    fleet: Fleet

    async def of(self, agents: Agents) -> DryRun:
        """All of `check --xml` but the printing."""
        asker = Asker(fleet=self.fleet, agents=agents, pace=self.pace, brisk=self.pace)
        with request_id.asking():
            asked = await asking.ask(self.question, asker)
        run = conclude(asked, self.question, Uris(), datetime.now(UTC), took_ms=0)
        silent = [one.silent for one in run.candidates if one.silent is not None]
        if silent:
            raise RuntimeError(f"an agent of the bench was silent: {silent[0]}")
        return run

    @property
    def pace(self) -> Pace:
        return Pace(each_s=120, all_s=300, in_flight=self.fleet.in_flight)

    def connecting(self) -> Agents:
        """As a controller keeps them."""
        return Agents(at_most=len(self.fleet.hosts), tls=self.fleet.tls)

    async def of_each(self, methods: Sequence[Method], request: bytes) -> None:
        """As many calls at a time as the controller has under way, and nothing else."""
        waiting = iter(methods)

        async def in_turn() -> None:
            for method in waiting:
                await method(request)

        await asyncio.gather(*(in_turn() for _ in range(self.fleet.in_flight)))


async def fan_out(pair: Pair, agents: int, rounds: int, safety: Safety) -> list[Figure | Missed]:
    """`check` over agents that answer at once, beside an echo of the same sizes by the same."""
    name = f"controller: `check` over {agents} agents, {safety.value}"
    if agents > more_files() - FILES_BESIDE:
        return [Missed(name=name, why="the limit of open files is too low (ulimit -Hn)")]
    with standing(pair, agents, safety) as asked:
        return [*await warm(name, asked, rounds), await cold(name, asked, max(1, rounds // 3))]


async def warm(name: str, asked: Asked, rounds: int) -> list[Figure]:
    """Over connections that are there: the controller's own, and the echo goes over them too."""
    async with asked.connecting() as agents:
        await asked.of(agents)
        methods = methods_of(agents, ECHO)

        async def check() -> None:
            await asked.of(agents)

        async def echo() -> None:
            await asked.of_each(methods, asked.request)

        found = await in_turns(rounds, timed_call(check), timed_call(echo))
        worked = await in_turns(
            rounds, timed_call(check, time.process_time), timed_call(echo, time.process_time)
        )
    return [
        Figure(
            name=f"{name}, warm",
            measured=found.ratio,
            unit="× echo",
            target=TARGET,
            beside=f"{found.measured_s:.3f} s, an echo of the same sizes {found.baseline_s:.3f} s;"
            f" connections are there",
        ),
        Figure(
            name="controller: its own processor time for that",
            measured=worked.ratio,
            unit="× echo",
            beside=f"{worked.measured_s:.3f} s, the echo's client {worked.baseline_s:.3f} s",
        ),
    ]


async def cold(name: str, asked: Asked, rounds: int) -> Figure:
    """Connecting to each of them first, and hanging up at the end."""

    async def check() -> None:
        async with asked.connecting() as agents:
            await asked.of(agents)

    async def echo() -> None:
        async with bare(asked.fleet) as methods:
            await asked.of_each(methods, asked.request)

    found = await in_turns(rounds, timed_call(check), timed_call(echo))
    return Figure(
        name=f"{name}, cold",
        measured=found.ratio,
        unit="× echo",
        beside=f"{found.measured_s:.3f} s, an echo of the same sizes {found.baseline_s:.3f} s;"
        f" connections are made and ended",
    )


@asynccontextmanager
async def bare(fleet: Fleet) -> AsyncIterator[list[Method]]:
    """The echo over a channel to each, with nothing of ours about it."""
    handshakes = Handshakes(fleet.tls)
    async with AsyncExitStack() as until:
        methods: list[Method] = []
        for host in fleet.hosts:
            credentials = handshakes.credentials(host.address, insecure=host.insecure)
            channel = (
                grpc.aio.insecure_channel(host.address, options=CHANNEL)
                if credentials is None
                else grpc.aio.secure_channel(
                    host.address,
                    credentials,
                    options=(*CHANNEL, ("grpc.ssl_target_name_override", host.name)),
                )
            )
            methods.append((await until.enter_async_context(channel)).unary_unary(ECHO))
        yield methods


async def examining(pair: Pair, examined: Examined, agents: int, rounds: int) -> list[Figure]:
    """The same over agents that learn their facts anew and ask all their checks."""
    with standing(pair, agents, examined=examined) as asked:
        async with asked.connecting() as connected:
            await asked.of(connected)
            methods = methods_of(connected, HEALTH)
            found = await in_turns(
                rounds,
                timed_call(lambda: asked.of(connected)),
                timed_call(lambda: asked.of_each(methods, b"")),
            )
    return [
        Figure(
            name=f"fleet: `check` over {agents} agents that examine",
            measured=found.measured_s,
            unit="s",
            beside=f"empty calls: {found.baseline_s:.3f} s; all agents on this machine's"
            " processors",
        )
    ]


def methods_of(agents: Agents, method: str) -> list[Method]:
    """Over the connections that those agents are asked by."""
    return [kept.channel.unary_unary(method) for kept in agents._kept.values()]


@contextmanager
def standing(
    pair: Pair, agents: int, safety: Safety = Safety.PLAIN, examined: Examined | None = None
) -> Iterator[Asked]:
    """The agents, for as long as the block lasts."""
    recordings = examined.hosts if examined else ()
    with (
        certificates(safety) as folder,
        fleet(agents, min(PROCESSES, agents), recordings, folder) as addresses,
    ):
        yield asked_of(pair.guest, pair.document, addresses, folder)


def asked_of(
    name: str, document: bytes, addresses: Sequence[str], certificates: Path | None
) -> Asked:
    """Whether those agents could take that guest."""
    guest = GuestFile(name=name, xml=document)
    question = Question(
        guest=guest, options=MigrationOptions(live=True, p2p=True), questions=Questions()
    )
    call = wire.prepare(wire.homeless_guest(document), question.options, question.questions)
    hosts = tuple(
        FleetHost(name=f"compute-{number:05}.{DOMAIN}", address=address)
        for number, address in enumerate(addresses)
    )
    return Asked(
        guest=guest,
        question=question,
        request=call.request,
        fleet=Fleet(hosts=hosts, tls=client_tls(certificates)),
    )
