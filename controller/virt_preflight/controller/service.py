"""The controller as a gRPC service: the desk's answers, within the caller's time and our limits."""

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import code_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from virt_preflight.controller import dryrun, exchange, wire
from virt_preflight.controller.answers import Heard, Report, Silent
from virt_preflight.controller.asking import Found
from virt_preflight.controller.desk import Desk, Patience, ends_in, opened_for
from virt_preflight.controller.fleet import Fleet
from virt_preflight.controller.observing import UNOBSERVED, DryRunObserver
from virt_preflight.controller.question import Asked, Question
from virt_preflight.controller.reception import SERVICE as FLEET_SERVICE
from virt_preflight.controller.reception import FleetServicer
from virt_preflight.controller.refusals import Refusal, refuse
from virt_preflight.controller.roll import Roll
from virt_preflight.controller.scribe import Scribe
from virt_preflight.controller.settings import Limits, Settings
from virt_preflight.controller.sockets import make_room_for_guests, why_full
from virt_preflight.controller.store import Store, StoreError
from virt_preflight.controller.store.memory import MemoryStore
from virt_preflight.controller.store.sqlite import SqliteStore
from virt_preflight.controller.trouble import (
    BadFieldError,
    CannotRunError,
    NobodyAnsweredError,
    NoSuchGuestError,
    NothingToAskError,
    RefusedByHostsError,
)
from virt_preflight.controller.warming import warmed
from virt_preflight.controller.watching import HostWatch
from virt_preflight.treaty.calls import Calls, Unobserved
from virt_preflight.treaty.certificates import BadCertificateError
from virt_preflight.treaty.door import Door
from virt_preflight.treaty.listening import CannotListenError, Listening, listen, listening
from virt_preflight.treaty.neighbours import Neighbours
from virt_preflight.treaty.readiness import ready
from virt_preflight.treaty.turnstile import Turnstile
from virt_preflight.v1 import controller_pb2, controller_pb2_grpc, fleet_pb2_grpc

if TYPE_CHECKING:
    from virt_preflight.controller.metrics import Metrics

Context = grpc.aio.ServicerContext[Any, Any]

# Kept back from the caller's time, so that the answer arrives while he still waits; of a short
# time a quarter.
KEPT_BACK_S = 0.2
# Guests of one request that are asked about at the same time: each asks many hosts at once.
GUESTS_AT_ONCE = 4
S_PER_DAY = 86_400
# How often it is looked whether a host was silent for too long.
LOOK_FOR_SILENT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerServicer(controller_pb2_grpc.ControllerServiceServicer):
    """Each call is a question to the one desk; what many callers ask meets at its connections."""

    desk: Desk
    limits: Limits
    watch: HostWatch
    observer: DryRunObserver = UNOBSERVED

    async def DryRun(  # noqa: N802, D102 - the treaty's own name, and its words are there
        self, request: controller_pb2.DryRunRequest, context: Context
    ) -> AsyncGenerator[controller_pb2.DryRunResponse, None]:
        async with self._answering(context):
            questions = self._questions(request)
            patience = _patience("move.timeout", request.move, context)
            async with aclosing(self._dry_runs(questions, patience)) as told:
                async for message in told:
                    yield message

    async def Rank(  # noqa: N802, D102
        self, request: controller_pb2.RankRequest, context: Context
    ) -> controller_pb2.RankResponse:
        async with self._answering(context):
            question = exchange.question_of(request.guest, "guest", request.move)
            patience = _patience("move.timeout", request.move, context)
            asked = await self.desk.dry_run(question, patience)
            return exchange.best_message(self._concluded(asked, question), request.best)
        raise AssertionError("abort raises")

    async def ListHosts(  # noqa: N802, D102
        self, request: controller_pb2.ListHostsRequest, context: Context
    ) -> controller_pb2.ListHostsResponse:
        async with self._answering(context):
            labels = exchange.labels_of("labels", request.labels)
            hosts = await self.desk.hosts(labels, _patience("timeout", request, context))
            return controller_pb2.ListHostsResponse(
                hosts=[exchange.host_message(host, answer) for host, answer in hosts]
            )
        raise AssertionError("abort raises")

    async def WatchHosts(  # noqa: N802, D102
        self, request: controller_pb2.WatchHostsRequest, context: Context
    ) -> AsyncGenerator[controller_pb2.WatchHostsResponse, None]:
        async with self._answering(context):
            labels = exchange.labels_of("labels", request.labels)
            async with aclosing(self.watch.changes(labels)) as changes:
                async for news in changes:
                    hosts = [exchange.host_message(host, answer) for host, answer in news.seen]
                    yield controller_pb2.WatchHostsResponse(hosts=hosts, gone=news.gone)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the controller is being stopped")

    async def DescribeChecks(  # noqa: N802, D102
        self, request: controller_pb2.DescribeChecksRequest, context: Context
    ) -> controller_pb2.DescribeChecksResponse:
        async with self._answering(context):
            catalogue = await self.desk.checks(_patience("timeout", request, context))
            return exchange.checks_message(catalogue)
        raise AssertionError("abort raises")

    def _questions(self, request: controller_pb2.DryRunRequest) -> list[Question]:
        most = self.limits.guests_per_request
        if not 1 <= len(request.guests) <= most:
            raise BadFieldError("guests", f"are {len(request.guests)}: wanted 1 to {most}")
        return [
            exchange.question_of(choice, f"guests[{number}]", request.move)
            for number, choice in enumerate(request.guests)
        ]

    async def _dry_runs(
        self, questions: Sequence[Question], patience: Patience
    ) -> AsyncGenerator[controller_pb2.DryRunResponse, None]:
        """What is said about each guest, as it comes in."""
        said: asyncio.Queue[controller_pb2.DryRunResponse | None] = asyncio.Queue()
        gate = asyncio.Semaphore(GUESTS_AT_ONCE)

        async def ask(number: int, question: Question) -> None:
            async with gate:
                try:
                    await self._dry_run(number, question, patience, said)
                except (BadFieldError, CannotRunError) as error:
                    if len(questions) == 1:
                        raise
                    said.put_nowait(_failed(number, error))

        async def ask_all() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for number, question in enumerate(questions):
                        group.create_task(ask(number, question))
            finally:
                said.put_nowait(None)

        asking = asyncio.create_task(ask_all())
        try:
            while (message := await said.get()) is not None:
                yield message
            try:
                await asking
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _dry_run(
        self,
        number: int,
        question: Question,
        patience: Patience,
        said: asyncio.Queue[controller_pb2.DryRunResponse | None],
    ) -> None:
        found = False
        source: Report | None = None
        told: set[str] = set()

        def tell(event: Found | Heard[Report] | Silent) -> None:
            nonlocal found, source
            if isinstance(event, Found):
                found, source = True, event.source_report
                message = exchange.found_message(event)
                said.put_nowait(controller_pb2.DryRunResponse(guest=number, found=message))
                return
            told.add(event.host)
            answer = exchange.answer_message(source, event)
            said.put_nowait(controller_pb2.DryRunResponse(guest=number, answer=answer))

        asked = await self.desk.dry_run(question, patience, tell=tell)
        if not found:
            tell(_as_found(asked))
        # Hosts that were not asked, as those that had been silent before.
        for answer in asked.answers:
            if answer.host not in told:
                tell(answer)
        ranking = exchange.ranking_message(self._concluded(asked, question))
        said.put_nowait(controller_pb2.DryRunResponse(guest=number, ranking=ranking))

    def _concluded(self, asked: Asked, question: Question) -> dryrun.DryRun:
        run = dryrun.conclude(asked, question, self.desk.fleet.uris, datetime.now(UTC), took_ms=0)
        self.observer.concluded(run)
        return run

    @asynccontextmanager
    async def _answering(self, context: Context) -> AsyncIterator[None]:
        """What ends the question early becomes the call's status."""
        try:
            yield
        except (BadFieldError, CannotRunError) as error:
            await refuse(context, refusal(error))


def refusal(error: Exception, at: str = "guest") -> Refusal:
    """What the caller is told; `at` is where in the request the guest stands."""
    match error:
        case BadFieldError():
            field = _in_request(error.field, at)
            why = f"{field}: {error.why}"
            return Refusal(
                code=code_pb2.INVALID_ARGUMENT,
                reason="MISUSED",
                message=why,
                fields=((field, error.why),),
            )
        case RefusedByHostsError():
            return Refusal(
                code=code_pb2.INVALID_ARGUMENT,
                reason="REFUSED_BY_HOSTS",
                message=str(error),
                fields=tuple((_in_request(field, at), why) for field, why in error.objections),
            )
        case NoSuchGuestError():
            return Refusal(code=code_pb2.NOT_FOUND, reason="NO_SUCH_GUEST", message=str(error))
        case NothingToAskError():
            code = code_pb2.FAILED_PRECONDITION
            return Refusal(code=code, reason="NOTHING_TO_ASK", message=str(error))
        case NobodyAnsweredError():
            return Refusal(code=code_pb2.UNAVAILABLE, reason="NOBODY_ANSWERED", message=str(error))
        case _:
            raise error


def _in_request(field: str, at: str) -> str:
    """A field of the question, or of an agent's request, as the caller's request has it."""
    if field.startswith("guests[0].domain_xml"):
        return f"{at}.file.domain_xml"
    if field == "domain":
        return f"{at}.name"
    of_the_question = ("from_host", "to_hosts", "options.", "questions.")
    return f"move.{field}" if field.startswith(of_the_question) else field


def _failed(number: int, error: BadFieldError | CannotRunError) -> controller_pb2.DryRunResponse:
    told = refusal(error, f"guests[{number}]")
    failure = controller_pb2.Failure(reason=told.reason, message=told.message)
    return controller_pb2.DryRunResponse(guest=number, failure=failure)


def _as_found(asked: Asked) -> Found:
    return Found(
        name=asked.name,
        uuid=asked.uuid,
        source=asked.source,
        source_report=asked.source_report,
        hosts=len(asked.answers),
    )


def _patience(
    field: str,
    holder: exchange.Waiting,
    context: Context,
) -> Patience:
    left_s = context.time_remaining()
    if left_s is not None:
        left_s -= min(KEPT_BACK_S, left_s / 4)
    return Patience(each_s=exchange.seconds_of(field, holder), ends=ends_in(left_s))


def _depth_of(request: object) -> str:
    """As deep as a request goes; empty for one that has no depth, or one that is not known."""
    move = getattr(request, "move", None)
    if move is None:
        return ""
    asked = move.questions.depth
    found = wire.DEPTHS.get(asked) if asked else exchange.DEFAULT_DEPTH
    return found.value if found else ""


# -------------------------------------------------------------------------------------- serving


def _metrics(settings: Settings) -> "Metrics | None":
    """They cost memory and time to start, which nobody has to pay who wants none."""
    if not settings.metrics:
        return None
    from virt_preflight.controller.metrics import Metrics

    return Metrics(version("virt-preflight"))


@contextmanager
def _exposed(metrics: "Metrics", roll: Roll, settings: Settings) -> Iterator[None]:
    from virt_preflight.treaty.exposition import CannotExpose, exposed

    metrics.of_fleet(lambda: roll.names)
    metrics.of_announcing(roll.announcing)
    try:
        with exposed(metrics.registry, settings.metrics, settings.tls, insecure=settings.insecure):
            yield
    except CannotExpose as error:
        raise CannotRunError(str(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A started service, and the fleet that it answers for."""

    server: grpc.aio.Server
    roll: Roll


def check(settings: Settings) -> None:
    """What a start would find wrong before it listens or keeps anything. Raises CannotRunError."""
    _listening(settings)
    if settings.metrics:
        from virt_preflight.treaty.exposition import CannotExpose, how_exposed

        try:
            how_exposed(settings.metrics, settings.tls, insecure=settings.insecure)
        except CannotExpose as error:
            raise CannotRunError(str(error)) from error


def _listening(settings: Settings) -> Listening:
    try:
        return listening(settings.listen, settings.tls, insecure=settings.insecure)
    except (BadCertificateError, CannotListenError) as error:
        raise CannotRunError(str(error)) from error


@asynccontextmanager
async def served(fleet: Fleet, settings: Settings) -> AsyncIterator[Serving]:
    """A started service; at the block's end it takes no more and lets what is under way finish."""
    limits = settings.limits
    room, let_in = make_room_for_guests(
        len(fleet.hosts) + limits.announced_hosts, limits.announced_hosts, fleet.in_flight
    )
    async with AsyncExitStack() as ending:
        metrics = _metrics(settings)
        scribe = await ending.enter_async_context(Scribe(lambda: _store(settings)))
        roll = Roll(
            fleet,
            scribe,
            await scribe.hosts(),
            at_most=limits.announced_hosts,
            insecure=settings.insecure,
        )
        desk = await ending.enter_async_context(
            opened_for(lambda: roll.fleet, room, metrics or UNOBSERVED)
        )
        await ending.enter_async_context(warmed(roll, desk.agents))
        await ending.enter_async_context(_forgetting(roll, settings))
        if metrics is not None:
            ending.enter_context(_exposed(metrics, roll, settings))
        watch = HostWatch(desk, settings.watch_every_s)
        reception = FleetServicer(
            roll=roll,
            settings=settings,
            turnstile=Turnstile(in_all=let_in, per_caller=let_in),
            full=why_full(let_in, limits.announced_hosts),
        )
        servicer = ControllerServicer(
            desk=desk,
            limits=limits,
            watch=watch,
            observer=metrics or UNOBSERVED,
        )
        calls = Calls(
            service=exchange.SERVICE,
            methods=exchange.METHODS,
            depth_of=_depth_of,
            observer=metrics or Unobserved(),
        )
        how = _listening(settings)
        door = Door(
            roles=settings.roles,
            turnstile=Turnstile(in_all=limits.requests, per_caller=limits.requests_per_caller),
            neighbours=Neighbours(how.plain),
        )
        server = grpc.aio.server(
            interceptors=(calls, door),
            options=[
                ("grpc.max_receive_message_length", limits.message_mib * 1024 * 1024),
                # Two controllers on one port would answer in turn.
                ("grpc.so_reuseport", 0),
                # Callers may ask this often whether we are still there.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                # One that vanished is noticed, and what it asked is asked no longer.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
            ],
        )
        controller_pb2_grpc.add_ControllerServiceServicer_to_server(servicer, server)
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(reception, server)
        healthy = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        ours = (exchange.SERVICE, FLEET_SERVICE)
        names = (*ours, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        if metrics is not None and (identity := how.identity) is not None:
            metrics.of_certificate(lambda: identity.ends)
        try:
            listen(server, how)
        except CannotListenError as error:
            raise CannotRunError(str(error)) from error
        await server.start()
        for name in ("", *ours):
            await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
        try:
            yield Serving(server=server, roll=roll)
        finally:
            await healthy.enter_graceful_shutdown()
            reception.stopping.set()
            await watch.end()
            await server.stop(grace=settings.grace_s)


def _store(settings: Settings) -> Store:
    return MemoryStore() if settings.store is None else SqliteStore.open(Path(settings.store))


@asynccontextmanager
async def _forgetting(roll: Roll, settings: Settings) -> AsyncIterator[None]:
    """While the block lasts, hosts that were silent for too long are forgotten."""
    after_s = settings.announced.forget_after_days * S_PER_DAY

    async def forget() -> None:
        while True:
            await asyncio.sleep(min(LOOK_FOR_SILENT_S, after_s / 2))
            try:
                gone = await roll.forget(after_s)
            except StoreError as error:
                logging.warning("silent hosts are not forgotten: %s", error)
                continue
            for name in gone:
                logging.info("%s was silent for too long and is forgotten", name)

    forgetting = asyncio.create_task(forget())
    try:
        yield
    finally:
        forgetting.cancel()
        await asyncio.gather(forgetting, return_exceptions=True)


async def until_stopped(
    fleet: Fleet, settings: Settings, read_again: Callable[[], Fleet] | None = None
) -> None:
    """Answers until SIGTERM or SIGINT. SIGHUP has the fleet read again."""
    stopped, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    async with served(fleet, settings) as serving:
        where = ", ".join(settings.listen)
        logging.info("%d hosts, answers at %s", len(serving.roll.fleet.hosts), where)
        ready()
        reading = asyncio.create_task(_read_again(serving.roll, again, read_again))
        await stopped.wait()
        reading.cancel()


async def _read_again(
    roll: Roll, again: asyncio.Event, read_again: Callable[[], Fleet] | None
) -> None:
    """Whenever it is asked for. What is wrong with the new file is told, and the old one holds."""
    while await again.wait():
        again.clear()
        if read_again is None:
            logging.info("there is no fleet file to read again")
            continue
        try:
            written = await asyncio.to_thread(read_again)
        except CannotRunError as error:
            logging.error("the fleet stays as it was: %s", error)
            continue
        roll.rewrite(written)
        logging.info("read the fleet file again: it has %d hosts", len(written.hosts))
