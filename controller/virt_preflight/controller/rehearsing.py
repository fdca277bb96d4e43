"""Rehearsals: the source plays them towards one destination after the other, each of which attends.

A guest can be at one destination at a time only, be it for a moment; so there is never a second
rehearsal of it under way. What comes of each goes to its destination's agent, unread.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from virt_preflight.controller import wire
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import Late, Report, Severity, Side, Silent
from virt_preflight.controller.fanout import Pace
from virt_preflight.controller.fleet import FleetHost, Uris, uri_of
from virt_preflight.controller.question import Question

# A rehearsal takes 0.6 s, one with much memory or storage to allocate a few.
ENOUGH_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """The guest, where it lives, and what is asked about it."""

    guest: bytes
    uuid: str
    home: FleetHost
    question: Question
    uris: Uris


async def rehearse_all(
    play: Play,
    source_report: Report,
    destinations: Sequence[FleetHost],
    agents: Agents,
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
                    came[host.name] = await _rehearse(play, host, agents, left_s)
            except TimeoutError:
                came[host.name] = Late(host=host.name, why=f"no answer within {left_s:.3g} s")
        on_answer()
    return came


def why_not(source_report: Report) -> str:
    """libvirt has refused to let the guest leave: it would do so again, for every destination."""
    for one in source_report.findings:
        blocks = one.severity is Severity.BLOCKER and one.side is Side.SOURCE
        if blocks and one.libvirt_error:
            return f"libvirt does not let the guest leave: {one.libvirt_error}"
    return ""


async def _rehearse(play: Play, host: FleetHost, agents: Agents, within_s: float) -> bytes | Silent:
    question = play.question
    attend = wire.attend(play.guest, question.options, question.questions)
    async with agents.attended(host, attend, within_s) as attended:
        if isinstance(attended, Silent):
            return wire.unplayed(f"{host.name} does not attend: {attended.why}")
        if attended.refused:
            return wire.unplayed(attended.refused)
        call = wire.rehearse(
            play.uuid,
            question.options,
            question.questions,
            question.options.desturi or uri_of(play.uris.migrate, host.name),
            attended.keep_owner_of,
        )
        played = await agents.ask(play.home, call, within_s)
    if isinstance(played, Silent):
        return wire.unanswered(f"{play.home.name}: {played.why}")
    return played.said
