"""The depth `trial`: the destination's own Prepare phase for a stand-in of the guest, cancelled.

libvirtd on the destination does all that it does for a guest that arrives - checks, taps, ports,
files, a QEMU that waits for a stream - and then ends it. Nobody but this host takes part.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

from virt_preflight.agent.asks.belongings import HEARD, HELD, Setting, files_of
from virt_preflight.agent.asks.cookie import cookie_of, cookie_without
from virt_preflight.agent.asks.decided import decided
from virt_preflight.agent.asks.emulators import not_run
from virt_preflight.agent.asks.flags import Migrate, flags_of
from virt_preflight.agent.asks.readback import lost
from virt_preflight.agent.asks.refusals import said_of
from virt_preflight.agent.asks.standin import StandIn, standin_for, without_disks
from virt_preflight.agent.check import Problem
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.factstore import Question
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.devices import HostSecurity
from virt_preflight.agent.families.disks import GuestDisks, SeenDisks, backing_by_path
from virt_preflight.agent.families.disks.guest import copied
from virt_preflight.agent.families.nics import NicPlugs
from virt_preflight.agent.families.nics.host import Plug
from virt_preflight.agent.hearing import Hearing, Said
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Side
from virt_preflight.agent.sources import (
    Absent,
    Impossible,
    LibvirtRefused,
    Source,
    SourceError,
    Want,
)
from virt_preflight.agent.sources.stage import STANDIN, Act, NoPhases, Stage
from virt_preflight.agent.xml import BadXml

ASK = "a trial of libvirt's Prepare phase"
# Of the user's options: whatever would change a guest, keep it, copy its disks, or needs a stream
# that the source's libvirtd carries. What is left is how the destination has to prepare.
NOT_TRIED = (
    Migrate.CHANGE_PROTECTION
    | Migrate.PERSIST_DEST
    | Migrate.OFFLINE
    | Migrate.TUNNELLED
    | Migrate.NON_SHARED_DISK
    | Migrate.NON_SHARED_INC
    # No destination is told of it (virDomainMigrateVersion3Full, libvirt-domain.c).
    | Migrate.AUTO_CONVERGE
)
# Models that write their labels to the files themselves; AppArmor's profiles are QEMU's alone.
LABELLING = frozenset({"selinux"})
# Refusals of what the stand-in alone has: they say nothing of the guest.
ABOUT_STANDINS = ("Unconfined guests are not allowed on this host",)
PREPARE = (Side.DESTINATION, Phase.PREPARE)


def trial(question: Question, domain: Domain, stage: Stage | None) -> Hearing:
    """Try, and hear what libvirt said. Never raises for what guest or host are like."""
    options = question.value(MigrationOptions)
    if stage is None:
        return _impossible("a recording prepares nothing")
    if options.offline:
        return _impossible("an offline migration starts nothing")
    if why := not_run(question):
        return _doubt(why)
    try:
        setting = _setting(question, domain, options)
        standin = standin_for(
            domain, name=f"{STANDIN}{secrets.token_hex(4)}", uuid=str(uuid4()), setting=setting
        )
        act = replace(
            _act(standin, options, question.value(GuestOrigin)),
            opened=(*sorted(setting.present), *sorted(_below(question).values())),
        )
    except BadXml as error:
        return _doubt(f"the migration cookie of the source: {error}")
    except SourceError as error:
        return _doubt(str(error))
    try:
        heard = _heard(stage.trial, act, standin)
    except NoPhases:
        shadow = without_disks(standin)
        heard = _heard(stage.shadow, replace(act, domain_xml=shadow.domain_xml), shadow)
    # An XML that no libvirt wrote is full of what libvirt writes otherwise.
    if question.value(GuestOrigin) is None or options.xml:
        kept = tuple(said for said in heard.said if said.check != "libvirt.element-unknown")
        heard = replace(heard, said=kept)
    return heard


def _heard(play: Callable[[Act], bytes], act: Act, standin: StandIn) -> Hearing:
    """Raises NoPhases."""
    left_out = tuple(
        _said("libvirt.left-out", what, wanted="all of the guest tried", found=why)
        for what, why in standin.left_out
    )
    try:
        seen = play(act)
    except LibvirtRefused as error:
        words = standin.spoken(str(error))
        if any(mark in words for mark in ABOUT_STANDINS):
            return _doubt(f"libvirt refuses the stand-in: {words}")
        refused = LibvirtRefused(words, error.code, error.domain)
        said = said_of(refused, depth=Depth.TRIAL, side=PREPARE[0], phase=PREPARE[1])
        return Hearing(ask=ASK, depth=Depth.TRIAL, said=(said, *left_out))
    except NoPhases:
        raise
    except Impossible as error:
        return _impossible(str(error))
    except SourceError as error:
        return _doubt(str(error))
    gone = tuple(
        _said("libvirt.element-unknown", where, wanted="kept by libvirt", found="dropped")
        for where in lost(act.domain_xml, seen)
    )
    return Hearing(
        ask=ASK,
        depth=Depth.TRIAL,
        said=(*gone, *left_out),
        decides=decided(standin.left_out, act.cookie),
    )


def _act(standin: StandIn, options: MigrationOptions, origin: GuestOrigin | None) -> Act:
    named = {"name": standin.name, "uuid": standin.uuid}
    if origin is not None and origin.begin_cookie:
        cookie = cookie_of(origin.begin_cookie, **named)
    elif origin is not None:
        cookie = cookie_without(**named, host=origin.host_name, host_uuid=origin.host_uuid)
    else:
        cookie = cookie_without(**named)
    # A socket's path would come to be, and stay; what is not TCP is not tried.
    tcp = options.migrateuri.startswith("tcp:")
    return Act(
        name=standin.name,
        uuid=standin.uuid,
        domain_xml=standin.domain_xml,
        cookie=cookie,
        flags=int(flags_of(options) & ~NOT_TRIED),
        parameters={"migrate_uri": options.migrateuri} if tcp else {},
        files=standin.files,
    )


def _setting(question: Question, domain: Domain, options: MigrationOptions) -> Setting:
    """Raises SourceError when it cannot be told whom QEMU runs as."""
    qemu = question.value(QemuUser)
    if isinstance(qemu, Unknown):
        raise SourceError(qemu.why)
    assert isinstance(qemu, QemuUser)
    disks = question.value(GuestDisks)
    present, shut = _files(question.store.source, domain, qemu, _below(question))
    security = question.value(HostSecurity)
    return Setting(
        uid=qemu.user.uid,
        gid=qemu.user.gid,
        present=present,
        shut=shut if qemu.dynamic_ownership else frozenset(),
        unpluggable=_unpluggable(question.value(NicPlugs)),
        labelling=security.models & LABELLING
        if isinstance(security, HostSecurity)
        else frozenset(),
        copied=frozenset(disk.target for disk in disks.disks if copied(disk, options))
        if isinstance(disks, GuestDisks)
        else frozenset(),
    )


def _below(question: Question) -> Mapping[str, str]:
    """The backing file that each image names itself, by the image's path."""
    seen = question.value(SeenDisks)
    return backing_by_path(seen) if isinstance(seen, SeenDisks) else {}


def _files(
    source: Source, domain: Domain, qemu: QemuUser, below: Mapping[str, str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Those that are there, and of these those that QEMU's user may not open now.

    `below` are the backing files that images name themselves: one that is shut shuts the image.
    """
    present: set[str] = set()
    shut: set[str] = set()
    for path, written in files_of(domain.root):
        try:
            allowed = source.may(path, Want.READ, qemu.user) and (
                not written or source.may(path, Want.WRITE, qemu.user)
            )
        except Absent:
            continue
        if path in below:
            with suppress(Absent):
                allowed = allowed and source.may(below[path], Want.READ, qemu.user)
        present.add(path)
        if not allowed:
            shut.add(path)
    return frozenset(present), frozenset(shut)


def _unpluggable(plugs: NicPlugs | Unknown | None) -> Mapping[int, str]:
    """NICs that must not be plugged in for a trial, by their place; GuestNics has no hostdev."""
    if not isinstance(plugs, NicPlugs):
        return {}
    found = {number: _unfit(plug) for number, plug in enumerate(plugs.plugs)}
    return {number: why for number, why in found.items() if why}


def _unfit(plug: Plug) -> str:
    if isinstance(plug.unplugged, Unknown):
        return f"where it would be plugged in: {plug.unplugged.why}"
    if plug.unplugged:
        return ""  # libvirt says so itself
    if plug.kind == "hostdev" or (plug.network and plug.network.mode == "passthrough"):
        return HELD
    # A port of a switch that somebody else programs, by the guest's own name.
    return HEARD if plug.virtualport or plug.virtualport is None else ""


def _said(check: str, subject: str, *, wanted: str, found: str) -> Said:
    return Said(
        check=check,
        problem=Problem(
            subject=subject,
            wanted=wanted,
            found=found,
            side=PREPARE[0],
            phase=PREPARE[1],
            depth=Depth.TRIAL,
        ),
    )


def _doubt(why: str) -> Hearing:
    return Hearing(ask=ASK, depth=Depth.TRIAL, doubt=why)


def _impossible(why: str) -> Hearing:
    return Hearing(ask=ASK, depth=Depth.TRIAL, impossible=why)
