"""The agent as a gRPC service: this host's answers, within the caller's time."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from virt_preflight.agent import wire
from virt_preflight.agent.asks.attendance import (
    Notes,
    Tidied,
    attend,
    attended_before,
    tidy,
)
from virt_preflight.agent.asks.putting import share_s
from virt_preflight.agent.asks.rehearsal import impossible, rehearse
from virt_preflight.agent.catalogue import unknown_names
from virt_preflight.agent.departure import departure
from virt_preflight.agent.description import describe, migration_host
from virt_preflight.agent.domain import Domain, arriving, complete, read_domain
from virt_preflight.agent.dryrun import Asked, dry_run, given
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.hearing import Hearing
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Report
from virt_preflight.agent.residents import NoSuchDomain, matching, residents
from virt_preflight.agent.settings import Limits
from virt_preflight.agent.sources import SourceError
from virt_preflight.agent.sources.rehearsing import Rehearsing
from virt_preflight.agent.xml import BadXml
from virt_preflight.treaty import audit
from virt_preflight.treaty.allowable import ALLOWABLE
from virt_preflight.treaty.calls import CallObserver, Calls, Unobserved
from virt_preflight.treaty.door import Door
from virt_preflight.treaty.identities import ServerIdentity
from virt_preflight.treaty.listening import Listening, listen
from virt_preflight.treaty.neighbours import Neighbours
from virt_preflight.treaty.roles import Roles
from virt_preflight.treaty.turnstile import Turnstile
from virt_preflight.v1 import agent_pb2, agent_pb2_grpc, guest_pb2

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]

_OURS = agent_pb2.DESCRIPTOR.services_by_name["AgentService"]
SERVICE = _OURS.full_name
METHODS = frozenset(_OURS.methods_by_name)
GUESTS_AT_MOST = 256
# 256 guests with a domain XML of 4 MiB are more than one call may bring.
MESSAGE_BYTES_AT_MOST = 64 * 1024 * 1024
# Time for looks at one host, however much the caller has: who waits longer gets no more.
WITHIN_S = 15.0
# Kept back from the caller's time, so that the answer arrives while he still waits.
KEPT_BACK_S = 0.2
THREADS = 8
ROLES = Roles()
LIMITS = Limits()


class BadRequest(Exception):
    """The caller's fault: a field and what is wrong with it."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


def untold(_: Report) -> None:
    """Nobody is told."""


@dataclass(kw_only=True)
class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    """Each call is worked on in a thread of its own; the event loop never waits for a host."""

    host: str
    store: FactStore
    policy: Policy
    # None: this agent has no libvirt of its own, as when it replays a recording.
    rehearsing: Rehearsing | None = None
    # Whose certificate it answers with; None: without TLS.
    identity: ServerIdentity | None = None
    # Told of each report that is given, in the thread that made it.
    reported: Callable[[Report], None] = untold
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS))
    # Of their own: tidying up waits for a guest to go, and nothing else is to wait with it.
    _brooms: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS))

    def tidy_up(self) -> None:
        """After rehearsals whose attendance an agent before this one did not live to end."""
        if self.rehearsing is not None:
            for noted in attended_before(self.rehearsing.broom):
                self._brooms.submit(self._tidy, noted)

    def learn_ahead(self) -> None:
        """Learn all of the host's own facts, so that the first question finds them."""
        describe(self.store, host=self.host, policy=self.policy)

    async def PrepareDryRun(  # noqa: N802, D102 - the treaty's own name, and its words are there
        self,
        request: agent_pb2.PrepareDryRunRequest,
        context: Context,
    ) -> agent_pb2.PrepareDryRunResponse:
        within_s = self._within_s(context)
        return await self._answer(context, lambda: self._prepare(request, within_s))

    async def BeginDryRun(  # noqa: N802, D102
        self,
        request: agent_pb2.BeginDryRunRequest,
        context: Context,
    ) -> agent_pb2.BeginDryRunResponse:
        return await self._answer(context, lambda: self._begin(request))

    async def RehearseDryRun(  # noqa: N802, D102
        self,
        request: agent_pb2.RehearseDryRunRequest,
        context: Context,
    ) -> agent_pb2.RehearseDryRunResponse:
        within_s = self._within_s(context)
        return await self._answer(context, lambda: self._rehearse(request, within_s))

    async def AttendRehearsal(  # noqa: N802, D102
        self,
        request_iterator: AsyncIterator[agent_pb2.AttendRehearsalRequest],
        context: Context,
    ) -> AsyncIterator[agent_pb2.AttendRehearsalResponse]:
        first = await anext(aiter(request_iterator), None)
        if first is None:
            await _refuse(context, BadRequest("guest", "is not given"))
        noted: list[Notes] = []
        tidying: asyncio.Future[Tidied] | None = None

        def note() -> str:
            found = self._attend(first)
            if isinstance(found, str):
                return found
            noted.append(found)
            if context.cancelled():
                # Nobody waits for it any more, and nobody else will put it away.
                self._brooms.submit(contextvars.copy_context().run, self._tidy, found)
            return ""

        def tidy() -> asyncio.Future[Tidied]:
            loop = asyncio.get_running_loop()
            about = contextvars.copy_context()
            return loop.run_in_executor(self._brooms, about.run, self._tidy, noted[0])

        try:
            refused = await self._answer(context, note)
            if refused:
                yield agent_pb2.AttendRehearsalResponse(refused=refused)
                return
            yield agent_pb2.AttendRehearsalResponse(
                ready=agent_pb2.RehearsalReady(keep_owner_of=sorted(noted[0].keep_owner_of))
            )
            async for _ in request_iterator:
                pass
            tidying = tidy()
            tidied = await asyncio.shield(tidying)
            yield agent_pb2.AttendRehearsalResponse(
                tidied=agent_pb2.RehearsalTidied(done=tidied.done, left=tidied.left)
            )
        finally:
            # However it ends, be it that this task is cancelled: the thread goes on.
            if noted and tidying is None:
                tidy()

    async def ListDomains(  # noqa: N802, D102
        self,
        request: agent_pb2.ListDomainsRequest,
        context: Context,
    ) -> agent_pb2.ListDomainsResponse:
        return await self._answer(context, lambda: self._list_domains(request))

    async def DescribeHost(  # noqa: N802, D102
        self,
        request: agent_pb2.DescribeHostRequest,  # noqa: ARG002 - empty as yet
        context: Context,
    ) -> agent_pb2.DescribeHostResponse:
        return await self._answer(context, self._describe)

    async def ListChecks(  # noqa: N802, D102
        self,
        request: agent_pb2.ListChecksRequest,  # noqa: ARG002 - empty as yet
        context: Context,  # noqa: ARG002 - nothing can go wrong
    ) -> agent_pb2.ListChecksResponse:
        return agent_pb2.ListChecksResponse(checks=wire.checks(self.store.catalogue.checks))

    def _prepare(
        self, request: agent_pb2.PrepareDryRunRequest, within_s: float
    ) -> agent_pb2.PrepareDryRunResponse:
        ends_s = self.store.clock() + within_s
        if not 1 <= len(request.guests) <= GUESTS_AT_MOST:
            count = len(request.guests)
            raise BadRequest("guests", f"{count} guests, wanted 1 to {GUESTS_AT_MOST}")
        asked, options = self._asked(request.questions), wire.options(request.options)
        domains = [_domain(guest, number, options) for number, guest in enumerate(request.guests)]
        audit.about(domain.name for domain in domains)
        rehearsals: list[Hearing | None] = [wire.rehearsal(one) for one in request.rehearsals]
        rehearsals = rehearsals or [None for _ in domains]
        if len(rehearsals) != len(domains):
            raise BadRequest("rehearsals", f"{len(rehearsals)} for {len(domains)} guests")
        response = agent_pb2.PrepareDryRunResponse()
        each = zip(request.guests, domains, rehearsals, strict=True)
        for later, (guest, domain, rehearsed) in zip(
            reversed(range(len(domains))), each, strict=True
        ):
            trial_within_s = share_s(ends_s - self.store.clock(), later)
            report = dry_run(
                self.store,
                domain,
                host=self.host,
                policy=self.policy,
                options=options,
                origin=wire.origin(guest.origin) if guest.HasField("origin") else None,
                asked=replace(asked, trial_within_s=trial_within_s),
                rehearsed=rehearsed,
            )
            self.reported(report)
            response.reports.append(wire.report(report))
        return response

    def _begin(self, request: agent_pb2.BeginDryRunRequest) -> agent_pb2.BeginDryRunResponse:
        if not request.domain:
            raise BadRequest("domain", "is empty")
        found = departure(
            self.store,
            request.domain,
            host=self.host,
            policy=self.policy,
            options=wire.options(request.options),
            asked=self._asked(request.questions),
            migration_hosts=request.migration_hosts,
        )
        self.reported(found.report)
        return agent_pb2.BeginDryRunResponse(
            guest=guest_pb2.Guest(
                domain_xml=found.domain_xml, origin=wire.origin_message(found.origin)
            ),
            report=wire.report(found.report),
        )

    def _rehearse(
        self, request: agent_pb2.RehearseDryRunRequest, within_s: float
    ) -> agent_pb2.RehearseDryRunResponse:
        for name in ("domain", "destination_uri"):
            if not getattr(request, name):
                raise BadRequest(name, "is empty")
        found = matching(residents(self.store.source), request.domain)
        if not found:
            raise NoSuchDomain(f"{self.host} has no domain {request.domain!r}")
        if self.rehearsing is None:
            heard = impossible("a recording has no libvirt that could play it")
        else:
            heard = rehearse(
                self.store.source,
                self.rehearsing.rehearser,
                found[0],
                wire.options(request.options),
                destination_uri=request.destination_uri,
                keep_owner_of=request.keep_owner_of,
                within_s=within_s,
            )
        return agent_pb2.RehearseDryRunResponse(rehearsal=wire.rehearsal_message(heard))

    def _attend(self, request: agent_pb2.AttendRehearsalRequest) -> Notes | str:
        """What is there before, or why it must not be."""
        if self.rehearsing is None:
            return "a recording has no libvirt that could play it"
        options = wire.options(request.options)
        domain = _domain(request.guest, 0, options)
        audit.about((domain.name,))
        origin = wire.origin(request.guest.origin) if request.guest.HasField("origin") else None
        question = self.store.question(given(domain, self.policy, options, origin), 0.0)
        allow = self._asked(request.questions).allow
        return attend(question, domain, options, origin, allow, self.rehearsing.broom)

    def _tidy(self, noted: Notes) -> Tidied:
        assert self.rehearsing is not None, "it attended"
        tidied = tidy(noted, self.store.source, self.rehearsing.broom, self.store.clock)
        for left in tidied.left:
            logging.warning("left undone after the rehearsal of %s: %s", noted.name, left)
        return tidied

    def _list_domains(self, request: agent_pb2.ListDomainsRequest) -> agent_pb2.ListDomainsResponse:
        domains = residents(self.store.source)
        if request.domain:
            domains = matching(domains, request.domain)
        return agent_pb2.ListDomainsResponse(
            domains=[wire.domain(one) for one in domains],
            migration_host=migration_host(self.store, self.policy),
        )

    def _describe(self) -> agent_pb2.DescribeHostResponse:
        found = describe(self.store, host=self.host, policy=self.policy)
        return wire.description(
            found,
            agent_version=version("virt-preflight-agent"),
            certificate_ends=None if self.identity is None else self.identity.ends,
        )

    def _asked(self, questions: guest_pb2.Questions) -> Asked:
        """Raises BadRequest for what this agent cannot ask."""
        if questions.depth and wire.depth(questions.depth) is None:
            raise BadRequest("questions.depth", f"{questions.depth} is not known to this agent")
        asked = wire.asked(questions)
        for what in sorted(asked.allow - frozenset(ALLOWABLE)):
            known = ", ".join(ALLOWABLE)
            raise BadRequest("questions.allow", f"nothing is called {what!r}, only {known}")
        for name in ("only", "skip", "waive"):
            for unknown in unknown_names(self.store.catalogue.checks, getattr(asked, name)):
                raise BadRequest(f"questions.{name}", f"no check or family {unknown!r}")
        return asked

    @staticmethod
    def _within_s(context: Context) -> float:
        left_s = context.time_remaining()
        return WITHIN_S if left_s is None else min(WITHIN_S, max(0.0, left_s - KEPT_BACK_S))

    async def _answer(self, context: Context, work: Callable[[], T]) -> T:
        within_s = self._within_s(context)

        def bounded() -> T:
            with self.store.source.within(within_s):
                return work()

        # What the thread logs is about the same question.
        about = contextvars.copy_context()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, about.run, bounded)
        except BadRequest as error:
            await _refuse(context, error)
        except NoSuchDomain as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except (SourceError, BadXml) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        raise AssertionError("abort raises")


def _domain(guest: guest_pb2.Guest, number: int, options: MigrationOptions) -> Domain:
    try:
        domain = complete(read_domain(guest.domain_xml))
    except BadXml as error:
        raise BadRequest(f"guests[{number}].domain_xml", str(error)) from None
    if not options.xml:
        return domain
    try:
        return complete(arriving(domain, options.xml))
    except BadXml as error:
        raise BadRequest("options.xml", str(error)) from None


async def _refuse(context: Context, error: BadRequest) -> NoReturn:
    """INVALID_ARGUMENT with a google.rpc.BadRequest that names the field."""
    detail = any_pb2.Any()
    detail.Pack(
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=error.name, description=error.why)
            ]
        )
    )
    status = rpc_status.to_status(
        status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=str(error), details=[detail])
    )
    context.set_trailing_metadata(status.trailing_metadata)
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises")


def depth_of(request: object) -> str:
    """As deep as a request goes; empty for one that has no depth, or one that is not known."""
    questions = getattr(request, "questions", None)
    if questions is None:
        return ""
    found = wire.depth(questions.depth) if questions.depth else wire.DEFAULT_DEPTH
    return found.spoken if found else ""


async def serve(
    servicer: AgentServicer,
    how: Listening,
    roles: Roles = ROLES,
    limits: Limits = LIMITS,
    observer: CallObserver | None = None,
) -> grpc.aio.Server:
    """A started server. Raises CannotListenError."""
    calls = Calls(
        service=SERVICE, methods=METHODS, depth_of=depth_of, observer=observer or Unobserved()
    )
    turnstile = Turnstile(in_all=limits.requests, per_caller=limits.requests_per_caller)
    door = Door(roles=roles, turnstile=turnstile, neighbours=Neighbours(how.plain))
    server = grpc.aio.server(
        interceptors=(calls, door),
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES_AT_MOST),
            # Two agents on one port would answer in turn, each for itself.
            ("grpc.so_reuseport", 0),
            # A caller who vanished while a rehearsal is attended is noticed within 10 s.
            ("grpc.keepalive_time_ms", 5_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            # A controller keeps its connection, and asks whether we are still there.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ],
    )
    agent_pb2_grpc.add_AgentServiceServicer_to_server(servicer, server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    listen(server, how)
    await server.start()
    for name in ("", SERVICE):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server
