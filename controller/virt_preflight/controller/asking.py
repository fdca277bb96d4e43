"""The whole question: find the guest, ask its host, ask all the others."""

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from virt_preflight.controller import wire
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import (
    Begun,
    CheckDescription,
    Domain,
    Heard,
    Late,
    Listed,
    Objection,
    Refused,
    Report,
    Silent,
    Unasked,
)
from virt_preflight.controller.catalogue import Catalogue, refuse_unknown
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.fanout import Pace, ask_all, first_heard
from virt_preflight.controller.fleet import Fleet, FleetHost, is_at, selected
from virt_preflight.controller.naming import listed, told
from virt_preflight.controller.observing import UNOBSERVED, HostObserver, stopwatch
from virt_preflight.controller.options import FOR_ONE_HOST
from virt_preflight.controller.question import Asked, GuestFile, Question
from virt_preflight.controller.rehearsing import Play, Stage, rehearse_all
from virt_preflight.controller.trouble import (
    BadFieldError,
    NobodyAnsweredError,
    NoSuchGuestError,
    NothingToAskError,
    RefusedByHostsError,
)
from virt_preflight.controller.wire import Call

T = TypeVar("T")
# Where one answer is enough, there is no need to wake a whole fleet.
FIRST_OF = 8
# Of the time that is left: for looking for a guest, with hosts that may be silent, and for its
# source. What remains is for the destinations.
TO_LOOK = 1 / 3
TO_BEGIN = 1 / 2
TO_REHEARSE = 3 / 4
# Told what is being asked and of how many hosts; gives back what to call for each answer.
Watch = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of the guest before its destinations are asked, and how many those are.

    Of a guest from a file the name is known only when a host has read it.
    """

    name: str
    uuid: str
    source: str | None
    source_report: Report | None
    hosts: int


Tell = Callable[[Found | Heard[Report] | Silent], None]


def untold(_said: object) -> None:
    """Nobody is told."""


def unwatched(_what: str, _of: int) -> Callable[[], None]:
    """Nobody is told."""
    return lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A guest and the host that has it."""

    host: FleetHost
    domain: Domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Puts questions to the hosts of one fleet."""

    fleet: Fleet
    agents: Agents
    # For the question itself, which at a greater depth takes its time, and for what agents know.
    pace: Pace
    brisk: Pace
    watch: Watch = unwatched
    # Told of the guest when it is found, and of each destination's answer as it comes in.
    tell: Tell = untold
    # The event loop's time at which there must be an answer, whatever is missing in it.
    ends: float = math.inf
    observer: HostObserver = UNOBSERVED

    async def all(
        self, what: str, hosts: Sequence[FleetHost], call: Call[T], pace: Pace | None = None
    ) -> list[Heard[T] | Silent]:
        """The answer of each host, in the order of the hosts."""
        return await self.each(what, hosts, lambda _: call, pace)

    async def each(
        self,
        what: str,
        hosts: Sequence[FleetHost],
        call_of: Callable[[FleetHost], Call[T]],
        pace: Pace | None = None,
        tell: Callable[[Heard[T] | Silent], None] = untold,
    ) -> list[Heard[T] | Silent]:
        """The same where each host has a question of its own."""
        pace = self.in_time(pace or self.pace)
        count = self.watch(what, len(hosts))

        async def ask(host: FleetHost) -> Heard[T] | Silent:
            return await self.put(host, call_of(host), pace)

        def answered(answer: Heard[T] | Silent) -> None:
            count()
            self.observer.answered(answer)
            tell(answer)

        return await ask_all(hosts, ask, pace, answered)

    async def put(self, host: FleetHost, call: Call[T], pace: Pace) -> Heard[T] | Silent:
        """One question to one host."""
        stop = stopwatch(self.observer, call.method)
        try:
            return await self.agents.ask(host, call, pace.each_s)
        finally:
            stop()

    def in_time(self, pace: Pace) -> Pace:
        """The same pace as far as the time goes that is left."""
        left_s = self.ends - asyncio.get_running_loop().time()
        return replace(pace, all_s=max(0.0, left_s)) if left_s < pace.all_s else pace

    def sharing(self, part: float) -> "Asker":
        """One that leaves the rest of the time to what comes after; nobody else is to use it up."""
        now = asyncio.get_running_loop().time()
        return self if self.ends == math.inf else replace(self, ends=now + part * (self.ends - now))


async def ask_for_checks(asker: Asker) -> Catalogue:
    """The list of whichever agent answers first: all agents of a fleet know much the same."""
    refuse_nobody(asker.fleet)
    answer = await _first_to_list_checks(asker)
    if not isinstance(answer, Heard):
        raise NobodyAnsweredError(f"no agent lists its checks: {told(answer)}{_first_step(answer)}")
    return Catalogue(host=answer.host, checks=answer.said)


async def _first_to_list_checks(
    asker: Asker,
) -> Heard[tuple[CheckDescription, ...]] | list[Silent]:
    call = wire.list_checks()

    async def ask(host: FleetHost) -> Heard[tuple[CheckDescription, ...]] | Silent:
        return await asker.put(host, call, asker.brisk)

    few = replace(asker.in_time(asker.brisk), in_flight=min(FIRST_OF, asker.brisk.in_flight))
    return await first_heard(asker.fleet.hosts, ask, few, asker.observer.answered)


async def ask(question: Question, asker: Asker) -> Asked:
    """The answer of every host asked about, for one guest."""
    refuse_nobody(asker.fleet)
    refuse_strangers(question, asker.fleet)
    await _refuse_unknown_checks(question, asker)
    if isinstance(question.guest, GuestFile):
        return await _ask_about_file(question, question.guest, asker)
    return await _ask_about_guest(question, question.guest, asker)


def refuse_nobody(fleet: Fleet) -> None:
    """A fleet that has no hosts yet."""
    if not fleet.hosts:
        raise NothingToAskError(
            "no host is known yet: none is in a fleet file, and none has announced itself"
        )


def refuse_strangers(question: Question, fleet: Fleet) -> None:
    """Hosts that are named but are not of the fleet, and a move from a host to itself."""
    named = [("from_host", question.from_host), *(("to_hosts", to) for to in question.to_hosts)]
    for field, name in named:
        if name is not None and fleet.named(name) is None:
            known = listed([host.name for host in fleet.hosts])
            raise BadFieldError(field, f"{name}: not in the fleet ({known})")
    if question.from_host in question.to_hosts:
        raise BadFieldError(
            "to_hosts", f"{question.from_host}: is the host that the guest would leave"
        )


async def _refuse_unknown_checks(question: Question, asker: Asker) -> None:
    questions = question.questions
    if questions.only or questions.skip or questions.waive:
        listed_by = await _first_to_list_checks(asker.sharing(TO_LOOK))
        # Where nobody lists any, each agent that answers refuses what it does not know itself.
        if isinstance(listed_by, Heard):
            refuse_unknown(questions, listed_by.said)


async def _ask_about_guest(question: Question, name: str, asker: Asker) -> Asked:
    hosts = _where_to_look(question, asker.fleet)
    others = _to_be_named(question, asker.fleet, hosts)
    look = asker.sharing(TO_LOOK)
    call = wire.list_domains(name)
    heard = await look.all(f"looking for {name}", (*hosts, *others), call, look.brisk)
    answers = heard[: len(hosts)]
    _refuse_together(answers, question)
    silent = [answer for answer in answers if isinstance(answer, Silent)]
    if len(silent) == len(answers):
        return _nobody_answered(question, name, silent, asker.fleet)
    home = choose_home(name, hosts, answers, question)
    destinations = _destinations(question, asker.fleet, home.host)
    begun = await _begin(question, home, asker, _names_of(destinations, heard))
    if isinstance(begun, Silent):
        return _source_did_not_say(home, begun, destinations)
    found = Found(
        name=home.domain.name or begun.said.report.guest_name,
        uuid=home.domain.uuid or begun.said.report.guest_uuid,
        source=home.host.name,
        source_report=begun.said.report,
        hosts=len(destinations),
    )
    asker.tell(found)
    if question.questions.depth is Depth.REHEARSAL:
        asker = replace(asker, pace=asker.sharing(TO_REHEARSE).in_time(asker.pace))
    # Whoever waits for a dead host should wait once: those are not asked again in this run.
    late = {one.host: one for one in heard if isinstance(one, Late)}
    return Asked(
        name=found.name,
        uuid=found.uuid,
        source=found.source,
        source_report=found.source_report,
        answers=await _rehearse_and_prepare(question, home, begun.said, destinations, late, asker),
    )


def _where_to_look(question: Question, fleet: Fleet) -> tuple[FleetHost, ...]:
    named = fleet.named(question.from_host) if question.from_host else None
    return fleet.hosts if named is None else (named,)


def _to_be_named(
    question: Question, fleet: Fleet, asked: Sequence[FleetHost]
) -> tuple[FleetHost, ...]:
    """Destinations that are not looked at for the guest, and have to say what they call themselves.

    The source will be told to connect to that name, and is asked whether it knows it.
    """
    options = question.options
    if options.migrateuri or options.tunnelled or options.offline:
        return ()
    wanted = [
        host for host in fleet.hosts if host.name in question.to_hosts or not question.to_hosts
    ]
    return tuple(host for host in selected(wanted, question.labels) if host not in asked)


def _names_of(
    destinations: Sequence[FleetHost], answers: Sequence[Heard[Listed] | Silent]
) -> list[str]:
    names = {host.name for host in destinations}
    return [
        answer.said.migration_host
        for answer in answers
        if isinstance(answer, Heard) and answer.host in names and answer.said.migration_host
    ]


def _nobody_answered(
    question: Question, name: str, silent: Sequence[Silent], fleet: Fleet
) -> Asked:
    """Whether the guest can go anywhere cannot be said, and that is an answer too."""
    home = fleet.named(question.from_host) if question.from_host else None
    silent_by_host = {one.host: one for one in silent}
    not_asked = f"not asked: {told(silent)}"
    step = silent[0].next_step
    if question.from_host:
        step = f"{step} Or leave out --from: {name} may be elsewhere by now.".lstrip()
    return Asked(
        name=name,
        uuid="",
        source=question.from_host,
        source_report=None,
        answers=tuple(
            silent_by_host.get(host.name) or Unasked(host=host.name, why=not_asked, next_step=step)
            for host in _destinations(question, fleet, home)
        ),
    )


def _source_did_not_say(home: Home, silent: Silent, destinations: Sequence[FleetHost]) -> Asked:
    """Without what the guest needs there is nothing to ask a destination."""
    why = f"not asked: {home.host.name} did not say what the guest needs: {silent.why}"
    return Asked(
        name=home.domain.name,
        uuid=home.domain.uuid,
        source=home.host.name,
        source_report=None,
        answers=tuple(
            Unasked(host=host.name, why=why, next_step=silent.next_step) for host in destinations
        ),
    )


async def _ask_about_file(question: Question, file: GuestFile, asker: Asker) -> Asked:
    destinations = _destinations(question, asker.fleet, None)
    asker.tell(Found(name="", uuid="", source=None, source_report=None, hosts=len(destinations)))
    guest = wire.homeless_guest(file.xml)
    answers = await _prepare(question, guest, destinations, {}, asker)
    reports = [answer.said for answer in answers if isinstance(answer, Heard)]
    return Asked(
        name=next((report.guest_name for report in reports if report.guest_name), ""),
        uuid=next((report.guest_uuid for report in reports if report.guest_uuid), ""),
        source=None,
        source_report=None,
        answers=answers,
    )


def choose_home(
    name: str,
    hosts: Sequence[FleetHost],
    answers: Sequence[Heard[Listed] | Silent],
    question: Question,
) -> Home:
    """The one host that the guest would leave, or why there is no such host."""
    homes = [
        Home(host=host, domain=domain)
        for host, answer in zip(hosts, answers, strict=True)
        if isinstance(answer, Heard)
        for domain in answer.said.domains
    ]
    if not homes:
        silent = [answer for answer in answers if isinstance(answer, Silent)]
        raise NoSuchGuestError(_nowhere(name, silent, len(hosts), question))
    running = [home for home in homes if home.domain.active]
    if not running and not question.options.offline:
        where = listed([home.host.name for home in homes])
        raise NothingToAskError(
            f"{name} is shut off on {where}: only its definition can be moved,"
            " with --offline --persistent"
        )
    choice = running or homes
    if len(choice) > 1:
        raise NothingToAskError(_several(name, choice))
    return choice[0]


def _nowhere(name: str, silent: Sequence[Silent], of: int, question: Question) -> str:
    if question.from_host is not None:
        return f"{question.from_host} has no guest {name}"
    if not silent:
        return f"no host has a guest {name}"
    may = f"{len(silent)} of {of} hosts did not answer and may have it"
    return f"no host that answered has a guest {name}; {may}: {told(silent)}{_first_step(silent)}"


def _first_step(silent: Sequence[Silent]) -> str:
    """One sentence more: what can be done about the first of them."""
    return next((f". {one.next_step}" for one in silent if one.next_step), "")


def _several(name: str, homes: Sequence[Home]) -> str:
    hosts = list(dict.fromkeys(home.host.name for home in homes))
    if len(hosts) == 1:
        return f"{hosts[0]} has {len(homes)} guests that {name} may mean: give the UUID"
    state = "runs" if homes[0].domain.active else "is"
    return f"{name} {state} on {listed(hosts)}: say which with --from"


def _destinations(
    question: Question, fleet: Fleet, source: FleetHost | None
) -> tuple[FleetHost, ...]:
    wanted = question.to_hosts or tuple(host.name for host in fleet.hosts if host != source)
    if source is not None and source.name in wanted:
        raise BadFieldError("to_hosts", f"{source.name}: {question.guest} is there already")
    if not wanted:
        raise NothingToAskError(f"{fleet.hosts[0].name} is the only host of the fleet: none to ask")
    host_by_name = {host.name: host for host in fleet.hosts}
    destinations = selected((host_by_name[name] for name in wanted), question.labels)
    if not destinations:
        others = "none of those named" if question.to_hosts else "no other host"
        raise NothingToAskError(f"{others} has the label {' and '.join(question.labels)}")
    for option in FOR_ONE_HOST:
        if getattr(question.options, option) and len(destinations) > 1:
            raise BadFieldError(f"options.{option}", "is for one destination: name it with --to")
    if question.options.desturi:
        _refuse_another(question.options.desturi, destinations[0], fleet)
    return destinations


def _refuse_another(desturi: str, destination: FleetHost, fleet: Fleet) -> None:
    """One host would be asked, and the command would move the guest to another."""
    named = [host.name for host in fleet.hosts if is_at(host, desturi)]
    if named and destination.name not in named:
        raise BadFieldError(
            "options.desturi",
            f"{desturi}: is {listed(named)}, and {destination.name} is to be asked",
        )


async def _begin(
    question: Question, home: Home, asker: Asker, names: Sequence[str]
) -> Heard[Begun] | Silent:
    # By UUID, so that a name or an id that changes hands meanwhile cannot change the guest.
    domain = home.domain.uuid or home.domain.name
    call = wire.begin(domain, question.options, question.questions, names)
    begin = asker.sharing(TO_BEGIN)
    answers = await begin.all(f"asking {home.host.name}", [home.host], call)
    _refuse_together(answers, question)
    return answers[0]


async def _rehearse_and_prepare(
    question: Question,
    home: Home,
    begun: Begun,
    destinations: Sequence[FleetHost],
    late: dict[str, Late],
    asker: Asker,
) -> tuple[Heard[Report] | Silent, ...]:
    """At the depth `rehearsal` each destination is told what came of its own, and weighs it."""
    rehearsed: dict[str, bytes] = {}
    if question.questions.depth is Depth.REHEARSAL:
        play = Play(
            guest=begun.guest,
            uuid=home.domain.uuid,
            home=home.host,
            question=question,
            uris=asker.fleet.uris,
        )
        waiting = [host for host in destinations if host.name not in late]
        told = asker.watch("rehearsing", len(waiting))
        stage = Stage(agents=asker.agents, observer=asker.observer)
        came = await rehearse_all(play, begun.report, waiting, stage, asker.pace, told)
        late = {**late, **{one.host: one for one in came.values() if isinstance(one, Late)}}
        rehearsed = {name: one for name, one in came.items() if isinstance(one, bytes)}
    return await _prepare(question, begun.guest, destinations, late, asker, rehearsed)


async def _prepare(
    question: Question,
    guest: bytes,
    destinations: Sequence[FleetHost],
    late: dict[str, Late],
    asker: Asker,
    rehearsed: Mapping[str, bytes] = MappingProxyType({}),
) -> tuple[Heard[Report] | Silent, ...]:
    waiting = [host for host in destinations if host.name not in late]
    plain = wire.prepare(guest, question.options, question.questions)

    def call_of(host: FleetHost) -> Call[Report]:
        if (came := rehearsed.get(host.name)) is None:
            return plain
        return wire.prepare(guest, question.options, question.questions, came)

    answers = await asker.each("asking", waiting, call_of, tell=asker.tell)
    _refuse_together(answers, question)
    answer_by_host = {answer.host: answer for answer in answers}
    return tuple(late.get(host.name) or answer_by_host[host.name] for host in destinations)


def _refuse_together(answers: Sequence[Heard[T] | Silent], question: Question) -> None:
    """When every host that answers objects to the question, the question is what is wrong.

    When some can answer it, those that object are listed with the silent hosts, with their reason.
    """
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    if not refusals or any(isinstance(answer, Heard) for answer in answers):
        return
    said = "; ".join(_spoken(one, question) for one in refusals[0].objections)
    others = f" and {len(refusals) - 1} more" if len(refusals) > 1 else ""
    raise RefusedByHostsError(
        f"{said} (says {refusals[0].host}{others})",
        tuple((one.field, one.description) for one in refusals[0].objections),
    )


def _spoken(objection: Objection, question: Question) -> str:
    """An objection to a field of the request, told by the word that the user gave it with."""
    field_name, said = objection.field, objection.description
    if field_name.startswith("guests") and isinstance(question.guest, GuestFile):
        return f"{question.guest.name}: {said}"
    if field_name == "options.xml":
        return f"{question.options.xml_file}: {said}"
    if given := re.match(r"(?:options|questions)\.(\w+)", field_name):
        return f"--{given[1].replace('_', '-')}: {said}"
    return f"{field_name}: {said}" if field_name else said
