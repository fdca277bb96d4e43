"""The controller over a whole fleet, beside a bare echo of the same sizes to the same servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import grpc

from tests.bench.agent import HEALTH, Method, Pair
from tests.bench.hosts import Examined
from tests.bench.measure import Figure, Missed, in_turns, timed_call
from tests.bench.simulated import ECHO, fleet, more_files
from virt_preflight.controller import asking, wire
from virt_preflight.controller.agents import CHANNEL, Agents
from virt_preflight.controller.asking import Asker
from virt_preflight.controller.dryrun import conclude
from virt_preflight.controller.fanout import Pace
from virt_preflight.controller.fleet import Fleet, FleetHost, Uris
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import GuestFile, Question, Questions

# Two connections to each agent, ours and the baseline's, and what else is open.
FILES_FOR_ONE = 2
FILES_BESIDE = 200


async def controller(pair: Pair, agents: int, rounds: int) -> list[Figure | Missed]:
    """All of `check --xml` but the printing, over agents that answer at once."""
    fitting = min(agents, (more_files() - FILES_BESIDE) // FILES_FOR_ONE)
    name = f"controller: `check` over {fitting} agents"
    if fitting < 1:
        return [Missed(name=name, why="the limit of open files is too low (ulimit -Hn)")]
    question = _question(pair)
    async with _both(fitting, min(4, fitting), question, ECHO) as (check, echo):
        found = await in_turns(rounds, timed_call(check), timed_call(echo))
        worked = await in_turns(
            rounds, timed_call(check, time.process_time), timed_call(echo, time.process_time)
        )
    return [
        Figure(
            name=name,
            measured=found.ratio,
            unit="× echo",
            target=1.5,
            beside=f"{found.measured_s:.3f} s, an echo of the same sizes {found.baseline_s:.3f} s",
        ),
        Figure(
            name="controller: its own processor time for that",
            measured=worked.ratio,
            unit="× echo",
            beside=f"{worked.measured_s:.3f} s, the echo's client {worked.baseline_s:.3f} s",
        ),
    ]


async def examining(pair: Pair, examined: Examined, agents: int, rounds: int) -> list[Figure]:
    """The same over agents that learn their facts anew and ask all their checks."""
    async with _both(agents, 2, _question(pair), HEALTH, examined) as (check, empty):
        found = await in_turns(rounds, timed_call(check), timed_call(empty))
    return [
        Figure(
            name=f"fleet: `check` over {agents} agents that examine",
            measured=found.measured_s,
            unit="s",
            beside=f"empty calls: {found.baseline_s:.3f} s; all agents on this machine's"
            " processors",
        )
    ]


def _question(pair: Pair) -> Question:
    return Question(
        guest=GuestFile(name=pair.guest, xml=pair.document),
        options=MigrationOptions(live=True, p2p=True),
        questions=Questions(),
    )


@asynccontextmanager
async def _both(
    agents: int,
    processes: int,
    question: Question,
    baseline: str,
    examined: Examined | None = None,
) -> AsyncIterator[tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]]:
    """The check and its baseline, each over channels of its own that stay open."""
    assert isinstance(question.guest, GuestFile)
    guest = wire.homeless_guest(question.guest.xml)
    request = wire.prepare(guest, question.options, question.questions).request
    with fleet(agents, processes, examined.hosts if examined else ()) as addresses:
        hosts = tuple(
            FleetHost(name=f"compute-{number:04}", address=address)
            for number, address in enumerate(addresses)
        )
        async with AsyncExitStack() as until:
            pace = Pace(each_s=60, all_s=120, in_flight=Fleet(hosts=()).in_flight)
            asker = Asker(
                fleet=Fleet(hosts=hosts),
                agents=await until.enter_async_context(Agents(at_most=agents)),
                pace=pace,
                brisk=pace,
            )
            methods: list[Method] = [
                (
                    await until.enter_async_context(
                        grpc.aio.insecure_channel(address, options=CHANNEL)
                    )
                ).unary_unary(baseline)
                for address in addresses
            ]

            async def check() -> None:
                asked = await asking.ask(question, asker)
                run = conclude(asked, question, Uris(), datetime.now(UTC), took_ms=0)
                silent = [one.silent for one in run.candidates if one.silent is not None]
                if silent:
                    raise RuntimeError(f"an agent of the bench was silent: {silent[0]}")

            async def bare() -> None:
                await _at_most(
                    asker.pace.in_flight, methods, b"" if baseline == HEALTH else request
                )

            yield check, bare


async def _at_most(
    in_flight: int,
    methods: Sequence[Method],
    request: bytes,
) -> None:
    """As many calls at a time as the controller has under way, and nothing else."""
    waiting = iter(methods)

    async def in_turn() -> None:
        for method in waiting:
            await method(request)

    await asyncio.gather(*(in_turn() for _ in range(in_flight)))
