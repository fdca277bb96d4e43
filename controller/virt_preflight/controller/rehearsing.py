"""Rehearsals: the source plays them towards one destination after the other, each of which attends.

A guest can be at one destination at a time only, be it for a moment; so there is never a second
rehearsal of it under way. What comes of each goes to its destination's agent, unread.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from virt_preflight.controller import wire
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import Heard, Late, Report, Severity, Side, Silent
from virt_preflight.controller.fanout import Pace
from virt_preflight.controller.fleet import FleetHost, Uris, uri_of
from virt_preflight.controller.observing import UNOBSERVED, HostObserver, stopwatch
from virt_preflight.controller.question import Question

# A rehearsal takes 0.6 s, one with much memory or storage to allocate a few.
ENOUGH_S = 2.0
# Of that time, what is left to the destination to put back when the source does not answer.
TO_PUT_BACK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """The guest, where it lives, and what is asked about it."""

    guest: bytes
    uuid: str
    home: FleetHost
    question: Question
    uris: Uris


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The hosts that a play is put on with, and who is told how they answer."""

    agents: Agents
    observer: HostObserver = UNOBSERVED


async def rehearse_all(
    play: Play,
    source_report: Report,
    destinations: Sequence[FleetHost],
    stage: Stage,
    pace: Pace,
    on_answer: Callable[[], None],
) -> dict[str, bytes | Silent]:
    """For each destination what came of it, or that it did not answer."""
    now = asyncio.get_running_loop().time
    ends = now() + pace.all_s
    refused = why_not(source_report)
    came: dict[str, bytes | Silent] = {}
    for host in destinations:
        left_s = min(pace.each_s, ends - now())
        if refused or left_s < ENOUGH_S:
            why = refused or f"no time was left of the {pace.all_s:g} s for all hosts"
            came[host.name] = wire.unplayed(why)
        else:
            try:
                async with asyncio.timeout(left_s):
                    came[host.name] = await _rehearse(play, host, stage, left_s)
            except TimeoutError:
                late = Late(host=host.name, why=f"no answer within {left_s:.3g} s")
                stage.observer.answered(late)
                came[host.name] = late
        on_answer()
    return came


def why_not(source_report: Report) -> str:
    """libvirt has refused to let the guest leave: it would do so again, for every destination."""
    for one in source_report.findings:
        blocks = one.severity is Severity.BLOCKER and one.side is Side.SOURCE
        if blocks and one.libvirt_error:
            return f"libvirt does not let the guest leave: {one.libvirt_error}"
    return ""


async def _rehearse(play: Play, host: FleetHost, stage: Stage, within_s: float) -> bytes:
    now = asyncio.get_running_loop().time
    ends = now() + within_s
    question = play.question
    attend = wire.attend(play.guest, question.options, question.questions)
    left: list[str] = []
    stop = stopwatch(stage.observer, attend.method)
    async with AsyncExitStack() as leaving:
        try:
            attended = await leaving.enter_async_context(
                stage.agents.attended(host, attend, within_s, left.extend)
            )
        finally:
            stop()
        if isinstance(attended, Silent):
            stage.observer.answered(attended)
            return wire.unplayed(f"{host.name} does not attend: {attended.why}")
        if attended.refused:
            stage.observer.answered(Heard(host=host.name, said=attended))
            return wire.unplayed(attended.refused)
        call = wire.rehearse(
            play.uuid,
            question.options,
            question.questions,
            question.options.desturi or uri_of(play.uris.migrate, host.name),
            attended.keep_owner_of,
        )
        played = await _played(play.home, call, stage, ends - now() - TO_PUT_BACK_S)
    # Only now, when it has put back: who lets his time pass with that is late.
    stage.observer.answered(Heard(host=host.name, said=attended))
    came = (
        wire.unanswered(f"{play.home.name}: {played.why}")
        if isinstance(played, Silent)
        else played.said
    )
    return wire.with_left(came, left)


async def _played(
    home: FleetHost, call: wire.Call[bytes], stage: Stage, within_s: float
) -> Heard[bytes] | Silent:
    """A source that lets its time pass is late itself; its destination has attended."""
    within_s = max(0.0, within_s)
    played: Heard[bytes] | Silent
    stop = stopwatch(stage.observer, call.method)
    try:
        async with asyncio.timeout(within_s):
            played = await stage.agents.ask(home, call, within_s)
    except TimeoutError:
        played = Late(host=home.name, why=f"no answer within {within_s:.3g} s")
    finally:
        stop()
    stage.observer.answered(played)
    return played
