"""What libvirt is asked on a destination at each depth, in order."""

from __future__ import annotations

import math

from virt_preflight.agent.asks.bounds import out_of_bounds
from virt_preflight.agent.asks.compare import compare_cpu
from virt_preflight.agent.asks.emulators import not_run
from virt_preflight.agent.asks.native import ASK, write_out
from virt_preflight.agent.asks.rehearsal import impossible
from virt_preflight.agent.asks.trial import ASK as TRIAL
from virt_preflight.agent.asks.trial import trial
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.factstore import Question
from virt_preflight.agent.hearing import Hearing, Hearings
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.treaty import allowable

# Who did not want them run by a rehearsal does not want it of a trial in its place.
RUNS_HOOKS = f"--allow {allowable.HOOKS}"
# A trial takes 0.7 s where nothing else is going on.
TRIAL_S = 1.0
# All else of one guest: 13 ms when every fact is read anew, and libvirt's own answers.
SHALLOW_S = 0.1


def at_destination(
    question: Question,
    domain: Domain,
    depth: Depth,
    rehearsed: Hearing | None = None,
    trial_within_s: float = math.inf,
) -> Hearings | None:
    """All that libvirt is asked there, down to that depth; None when it is not asked.

    `rehearsed` is what came of a rehearsal, which is played from the source; a trial has that time.
    """
    if depth is Depth.FACTS:
        return None
    if why := not_run(question):
        kept_back = Hearing(ask=ASK, depth=Depth.LIBVIRT, doubt=why)
        return Hearings(heard=(kept_back, rehearsed) if rehearsed else (kept_back,))
    source = question.store.for_guests
    written_out = write_out(source, domain, question.value(MigrationOptions))
    heard: list[Hearing | None] = [compare_cpu(question, domain), written_out]
    if depth is Depth.REHEARSAL:
        rehearsed = rehearsed or impossible(_not_played(question))
        heard.append(rehearsed)
    # A rehearsal prepares the guest itself: a stand-in shows nothing beyond that.
    if rehearsed is not None and RUNS_HOOKS in rehearsed.impossible:
        why = "it would run the host's hooks as well"
        heard.append(Hearing(ask=TRIAL, depth=Depth.TRIAL, impossible=why))
    elif depth is Depth.TRIAL or (rehearsed is not None and rehearsed.impossible):
        heard.append(_tried(question, domain, trial_within_s))
    return Hearings(heard=tuple(one for one in heard if one is not None))


def share_s(left_s: float, later: int) -> float:
    """A guest's part of the time that is left for it and as many after it: below 0 there is none.

    What those need who are not tried is theirs. Where there is too little for all, the first have
    enough, as a trial cut short tells nobody anything.
    """
    left_s -= later * SHALLOW_S
    return max(left_s / (later + 1), min(left_s, TRIAL_S))


def _tried(question: Question, domain: Domain, within_s: float) -> Hearing:
    if within_s < TRIAL_S:
        why = "no time was left for it: ask about fewer guests at once, or wait longer"
        return Hearing(ask=TRIAL, depth=Depth.TRIAL, impossible=why)
    with question.store.source.within(within_s):
        if why := out_of_bounds(question, domain):
            return Hearing(ask=TRIAL, depth=Depth.TRIAL, impossible=why)
        return trial(question, domain, question.store.stage)


def _not_played(question: Question) -> str:
    if question.value(GuestOrigin) is None:
        return "a guest that runs nowhere cannot be rehearsed: its own host would have to play it"
    return "nobody played it"
