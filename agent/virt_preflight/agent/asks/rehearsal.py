"""A rehearsal, on the source: the guest's own Begin and Prepare for real, then cancelled."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import partial
from secrets import token_hex

from virt_preflight.agent.asks.decided import DECIDED_BY_REHEARSAL
from virt_preflight.agent.asks.flags import (
    destination_flags,
    parameters_of,
    refused_in_perform,
    rehearsal_flags,
)
from virt_preflight.agent.asks.readback import lost
from virt_preflight.agent.asks.refusals import said_of
from virt_preflight.agent.asks.rehearsal_xml import rewritten
from virt_preflight.agent.check import Problem
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.families.transport.ways import host_and_port
from virt_preflight.agent.hearing import Hearing, Said
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Side
from virt_preflight.agent.residents import Resident
from virt_preflight.agent.sources import Impossible, Source, SourceError
from virt_preflight.agent.sources.rehearsing import (
    Knock,
    Parameters,
    Played,
    Refusal,
    Rehearser,
    Script,
    Step,
    Way,
    Whole,
)

ASK = "the rehearsal"
PREPARED = (Side.DESTINATION, Phase.PREPARE)
# Whose fault it is, and where in a migration, when libvirt says no at that step.
PART_BY_STEP: dict[Step, tuple[Side, Phase]] = {
    Step.BEGIN: (Side.SOURCE, Phase.BEGIN),
    Step.CONNECT: (Side.SOURCE, Phase.PREPARE),
    Step.PREPARE: PREPARED,
    Step.FINISH: PREPARED,
}
CHECK_BY_WAY = {
    Way.UNKNOWN_NAME: ("transport.unknown-name", "a name that the source can resolve"),
    Way.NO_WAY: ("transport.no-way", "a way from the source to it"),
}


def rehearse(
    source: Source,
    rehearser: Rehearser,
    guest: Resident,
    options: MigrationOptions,
    *,
    destination_uri: str,
    keep_owner_of: Collection[str],
    within_s: float,
) -> Hearing:
    """Never raises for what guest or hosts are like."""
    refused = unfit(guest, options) or under_way(source, guest)
    if refused:
        return impossible(refused)
    script = script_of(guest, options, destination_uri, keep_owner_of)
    try:
        return heard(rehearser.rehearse(script, within_s), options)
    except Impossible as error:
        return impossible(str(error))
    except SourceError as error:
        return Hearing(ask=ASK, depth=Depth.REHEARSAL, doubt=str(error))


def impossible(why: str) -> Hearing:
    """It cannot or must not be rehearsed."""
    return Hearing(ask=ASK, depth=Depth.REHEARSAL, impossible=why)


def unfit(guest: Resident, options: MigrationOptions) -> str:
    """Why this guest with these options cannot be rehearsed; empty when it can."""
    if options.offline:
        return "a move with --offline has no Prepare that could be cancelled: it would arrive"
    if guest.state == "shut off":
        return "the guest is shut off"
    if not guest.uuid:
        return "the guest has no UUID"
    return ""


def under_way(source: Source, guest: Resident) -> str:
    """Why not now: a real migration of the guest is under way."""
    try:
        job = json.loads(source.libvirt("domain-jobs", guest.uuid)).get("job") or ""
    except (SourceError, ValueError) as error:
        return f"whether it is being migrated could not be told: {error}"
    return "it is being migrated" if str(job).startswith("migration") else ""


def script_of(
    guest: Resident,
    options: MigrationOptions,
    destination_uri: str,
    keep_owner_of: Collection[str],
) -> Script:
    """What is played: the true guest, with the flags and parameters of the real migration."""
    flags = rehearsal_flags(options)
    parameters = frozen(parameters_of(options))
    arrives_as = options.dname or guest.name
    return Script(
        uuid=guest.uuid,
        arrives_as=arrives_as,
        destination_uri=destination_uri,
        begin_flags=int(flags),
        begin_parameters=parameters,
        prepare_flags=int(destination_flags(flags)),
        prepare_parameters={**parameters, "destination_name": arrives_as},
        whole=whole_of(options),
        only_whole="a tunnel is made by the two libvirtds" if options.tunnelled else "",
        rewritten=partial(rewritten, keep_owner_of=frozenset(keep_owner_of)),
        lost=lost,
        address=partial(address_of, asked=options.migrateuri),
        knock=knock_for(options),
    )


def knock_for(options: MigrationOptions) -> Knock:
    """What a QEMU that waits for a guest with these options can bear."""
    if options.tls:
        return Knock.LET_GO
    return Knock.NOT_AT_ALL if options.parallel else Knock.HELD


def whole_of(options: MigrationOptions) -> Whole:
    """With a token of its own, so that no other error can be taken for it."""
    token = f"DRY-RUN-REACHED-PERFORM-{token_hex(8)}"
    flags, parameters = refused_in_perform(options, token)
    return Whole(flags=int(flags), parameters=frozen(parameters), token=token)


def frozen(given: Mapping[str, str | int | list[str]]) -> Parameters:
    """Lists as tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }


def address_of(uri: str, asked: str = "") -> tuple[str, int] | None:
    """Host and port of `tcp://host:port`, `tcp:host:port`, `rdma://...`; None of any other.

    `asked` is what the caller gave (--migrateuri): Prepare gives none when that names a port.
    """
    scheme, _, rest = (uri or asked).partition(":")
    host, port = host_and_port(rest) if scheme == "tcp" else (None, None)
    return (host, port) if host and port else None


def heard(played: Played, options: MigrationOptions) -> Hearing:
    """What was played, in our words."""
    refusal = played.refusal
    if refusal is not None and refusal.step is Step.CONNECT and not options.p2p:
        # The client connects there, not the source.
        return impossible(f"the source does not reach {Step.CONNECT.value}: {refusal.error}")
    said = (
        *(_said(refusal) for refusal in ([refusal] if refusal else [])),
        *_said_of_way(played),
        *_said_of_loss(played),
    )
    passed = refusal is None
    return Hearing(
        ask=ASK,
        depth=Depth.REHEARSAL,
        said=said,
        decides=DECIDED_BY_REHEARSAL if passed else frozenset(),
    )


def _said(refusal: Refusal) -> Said:
    side, phase = PART_BY_STEP[refusal.step]
    return said_of(refusal.error, depth=Depth.REHEARSAL, side=side, phase=phase)


def _said_of_way(played: Played) -> tuple[Said, ...]:
    if played.way not in CHECK_BY_WAY:
        return ()
    check, wanted = CHECK_BY_WAY[played.way]
    problem = Problem(
        subject=f"the migration's address, {played.way_to}",
        wanted=wanted,
        found=played.way_words,
        side=Side.SOURCE,
        phase=Phase.PERFORM,
        depth=Depth.REHEARSAL,
    )
    return (Said(check=check, problem=problem),)


def _said_of_loss(played: Played) -> tuple[Said, ...]:
    return tuple(
        Said(
            check="libvirt.element-unknown",
            problem=Problem(
                subject=path,
                wanted="kept by the destination's libvirt",
                found="dropped without a word",
                depth=Depth.REHEARSAL,
            ),
        )
        for path in played.lost
    )
