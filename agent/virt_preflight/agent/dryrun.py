"""One dry run: gathers the facts, puts the checks to them, makes the report."""

from __future__ import annotations

import math
from dataclasses import dataclass

from virt_preflight.agent.asks.putting import at_destination
from virt_preflight.agent.catalogue import chosen
from virt_preflight.agent.check import AnyCheck
from virt_preflight.agent.claims import capacity_of, claims_of
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.factstore import FactStore, Question
from virt_preflight.agent.hearing import Hearing, Hearings
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Report, Side
from virt_preflight.agent.runner import examine
from virt_preflight.agent.weighing import weighed


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which checks, and how old their facts may be (seconds; None: the agent's own pace)."""

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    waive: frozenset[str] = frozenset()
    max_age_s: float | None = None
    depth: Depth = Depth.FACTS
    # How long its trial may take: others may be waiting for theirs.
    trial_within_s: float = math.inf
    # What a rehearsal may touch though others notice it: see asks/attendance.py.
    allow: frozenset[str] = frozenset()


def dry_run(
    store: FactStore,
    domain: Domain,
    *,
    host: str,
    policy: Policy,
    options: MigrationOptions,
    origin: GuestOrigin | None = None,
    asked: Asked,
    rehearsed: Hearing | None = None,
) -> Report:
    """Could this guest come here? Never raises for what guest or host are like.

    `rehearsed`: what came of its rehearsal towards this host.
    """
    question = store.question(given(domain, policy, options, origin), asked.max_age_s)
    hearings = at_destination(question, domain, asked.depth, rehearsed, asked.trial_within_s)
    return report(
        question, Side.DESTINATION, domain, hearings, host=host, options=options, asked=asked
    )


def given(
    domain: Domain, policy: Policy, options: MigrationOptions, origin: GuestOrigin | None
) -> dict[type, object | None]:
    """The facts that come with the question."""
    return {
        Domain: domain,
        Policy: policy,
        MigrationOptions: options,
        GuestOrigin: origin,
        Hearings: None,
    }


def report(
    question: Question,
    side: Side,
    domain: Domain,
    hearings: Hearings | None,
    *,
    host: str,
    options: MigrationOptions,
    asked: Asked,
) -> Report:
    """Ask that side's checks with the facts of a question. No hearings: facts alone."""
    question.given[Hearings] = hearings

    def chosen_of(side: Side) -> tuple[AnyCheck, ...]:
        return chosen(
            question.store.catalogue.checks,
            side,
            offline=options.offline,
            only=asked.only,
            skip=asked.skip,
        )

    outcome = examine(chosen_of(side), question.known, asked.waive)
    if hearings is not None:
        # libvirt on the one host may speak of what is checked on the other: it is not lost.
        of_both = (*chosen_of(Side.SOURCE), *chosen_of(Side.DESTINATION))
        outcome = weighed(outcome, hearings, tuple(dict.fromkeys(of_both)), asked.waive)
    return Report(
        host=host,
        guest_name=domain.name,
        guest_uuid=domain.uuid,
        findings=outcome.findings,
        unanswered=outcome.unanswered,
        facts_age_s=outcome.facts_age_s,
        claims=claims_of(question.value),
        capacity=capacity_of(question.value),
        checks_asked=outcome.asked,
        checks_not_applicable=outcome.not_applicable,
        depth=hearings.reached(asked.depth) if hearings else Depth.FACTS,
        shallower_because=hearings.shallower_because() if hearings else "",
    )
