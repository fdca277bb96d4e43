"""Ask many hosts at once, and let no host's trouble become the others'."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from virt_preflight.controller.answers import Heard, Late, Silent
from virt_preflight.controller.fleet import FleetHost

T = TypeVar("T")
Answer = Heard[T] | Silent
# Puts the question to one host. It may raise TimeoutError: the host let its time pass.
Ask = Callable[[FleetHost], Awaitable[Heard[T] | Silent]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long to wait for one host and for all of them, and how many to ask at a time."""

    each_s: float
    all_s: float
    in_flight: int


async def as_they_answer(
    hosts: Iterable[FleetHost], ask: Ask[T], pace: Pace
) -> AsyncGenerator[Heard[T] | Silent, None]:
    """One answer for every host, in the order in which they come in.

    A host's own time starts when it is asked, not while it waits for others to finish.
    """
    asked = list(hosts)
    answered: asyncio.Queue[Heard[T] | Silent] = asyncio.Queue()
    async with _asking(asked, ask, pace, answered.put_nowait):
        for _ in asked:
            yield await answered.get()


@asynccontextmanager
async def _asking(
    asked: Sequence[FleetHost],
    ask: Ask[T],
    pace: Pace,
    told: Callable[[Heard[T] | Silent], None],
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """The tasks that ask; `told` is called for each answer. With the block's end nobody asks on."""
    waiting = iter(asked)
    ends = asyncio.get_running_loop().time() + pace.all_s

    async def ask_in_turn() -> None:
        for host in waiting:
            told(await _ask_one(host, ask, pace, ends))

    # As many tasks as questions under way: a thousand that wait for their turn cost time too.
    tasks = [asyncio.create_task(ask_in_turn()) for _ in range(min(pace.in_flight, len(asked)))]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask_all(
    hosts: Iterable[FleetHost],
    ask: Ask[T],
    pace: Pace,
    on_answer: Callable[[Heard[T] | Silent], None] = lambda _: None,
) -> list[Heard[T] | Silent]:
    """Every host's answer, in the order of the hosts. `on_answer` is called as each comes in."""
    asked = list(hosts)
    answer_by_host: dict[str, Heard[T] | Silent] = {}

    def told(answer: Heard[T] | Silent) -> None:
        answer_by_host[answer.host] = answer
        on_answer(answer)

    async with _asking(asked, ask, pace, told) as tasks:
        await asyncio.gather(*tasks)
    return [answer_by_host[host.name] for host in asked]


async def first_heard(
    hosts: Iterable[FleetHost],
    ask: Ask[T],
    pace: Pace,
    on_answer: Callable[[Heard[T] | Silent], None] = lambda _: None,
) -> Heard[T] | list[Silent]:
    """The first answer that is one; when there is none, why each host was silent."""
    silent: list[Silent] = []
    async with aclosing(as_they_answer(hosts, ask, pace)) as answers:
        async for answer in answers:
            on_answer(answer)
            if isinstance(answer, Heard):
                return answer
            silent.append(answer)
    return silent


async def _ask_one(host: FleetHost, ask: Ask[T], pace: Pace, ends: float) -> Heard[T] | Silent:
    now = asyncio.get_running_loop().time
    own_end = now() + pace.each_s
    if now() < ends:
        try:
            async with asyncio.timeout_at(min(own_end, ends)):
                return await ask(host)
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - one host's trouble, whatever it is, is its own
            why = f"could not be asked: {type(error).__name__}: {error}"
            return Silent(host=host.name, why=why)
    if own_end <= ends:
        return Late(
            host=host.name,
            why=f"no answer within {pace.each_s:g} s",
            next_step=f"See whether {host.name} is up and {host.address} can be reached from here;"
            " --timeout waits longer.",
        )
    return Late(
        host=host.name,
        why=f"no answer within the {round(pace.all_s, 2):g} s for all hosts",
        next_step="Name fewer hosts with --to, or raise deadline_s in the fleet file.",
    )
