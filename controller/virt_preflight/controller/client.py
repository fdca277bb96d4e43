"""A client of the controller for schedulers and scripts: typed, and nothing to be awaited.

It is a synchronous one: schedulers ask from threads of their own (Nova's, a web server's), and need
no event loop for it. It may be shared among threads.

    with Controller("127.0.0.1:50552") as controller:
        ranking = controller.rank("db1", best=3, within_s=2.0)
        for host in ranking.best:
            print(host.host, host.verdict.name, host.score, host.command)

Errors are those of `trouble`: NoSuchGuestError, NothingToAskError, BadFieldError (your request),
RefusedByHostsError, NobodyAnsweredError; BusyError and ServiceError for the controller itself.
"""

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from virt_preflight.controller import exchange
from virt_preflight.controller.asking import Watch, unwatched
from virt_preflight.controller.catalogue import Catalogue
from virt_preflight.controller.desk import Described
from virt_preflight.controller.exchange import Ranked
from virt_preflight.controller.fleet import FleetHost, Trust
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.printable import one_line
from virt_preflight.controller.question import Asked, GuestFile, Question, Questions
from virt_preflight.controller.ranking import Reason
from virt_preflight.controller.trouble import (
    BadFieldError,
    CannotRunError,
    NobodyAnsweredError,
    NoSuchGuestError,
    NothingToAskError,
    RefusedByHostsError,
)
from virt_preflight.controller.unreached import CONTROLLER, unreached
from virt_preflight.treaty import request_id
from virt_preflight.treaty.addresses import host_of
from virt_preflight.treaty.certificates import BadCertificateError
from virt_preflight.treaty.identities import Handshakes
from virt_preflight.treaty.rebuffs import rebuff
from virt_preflight.v1 import controller_pb2, controller_pb2_grpc

# A ranking of 10,000 hosts has about 3 MB, a list of as many 5; gRPC alone takes no more than 4.
ANSWER_AT_MOST = 256 * 1024 * 1024
CHANNEL = (
    ("grpc.max_receive_message_length", ANSWER_AT_MOST),
    ("grpc.enable_http_proxy", 0),
    # A service that does not answer a ping for 10 s is given up, however long the answer may take.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A service that was away is found again within a second; gRPC would wait up to two minutes,
    # and have every question refused that long.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
# What a scheduler asks by default: as old as the agents let their facts become.
SWIFT = Questions(max_age_s=None)
Stub = controller_pb2_grpc.ControllerServiceStub
Metadata = tuple[tuple[str, str], ...]
TROUBLE_BY_REASON = {
    "NO_SUCH_GUEST": NoSuchGuestError,
    "NOTHING_TO_ASK": NothingToAskError,
    "NOBODY_ANSWERED": NobodyAnsweredError,
}


class ServiceError(CannotRunError):
    """The controller itself gave no answer. Says which and why."""


class BusyError(ServiceError):
    """The controller has as much to do as its limits allow, or the request is too large for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The best hosts for one guest, and what is missing."""

    name: str
    uuid: str
    # The host that has it; empty for one that runs nowhere yet.
    source: str
    best: tuple[Ranked, ...]
    # Hosts that were asked about, and how many of them can take the guest.
    hosts: int
    takers: int
    # Hosts that were not heard in time, or could not tell.
    missing: tuple[Ranked, ...]
    reasons: tuple[Reason, ...]


@dataclass(slots=True)
class _Line:
    """A connection, and how many calls are under way on it."""

    channel: grpc.Channel
    credentials: grpc.ChannelCredentials | None
    calls: int = 0


class Changes(list[tuple[FleetHost, Described]]):
    """Hosts that came or changed, and the names of those that are there no more."""

    def __init__(
        self, hosts: Iterable[tuple[FleetHost, Described]], *, gone: tuple[str, ...]
    ) -> None:
        super().__init__(hosts)
        self.gone = gone


class Controller:
    """One controller, over one connection that is kept."""

    def __init__(self, address: str, trust: Trust = Trust()) -> None:  # noqa: B008 - it is frozen
        """By TLS beyond loopback where there are certificates, as `trust` has it."""
        self._address = address
        self._insecure = trust.insecure
        self._handshakes = Handshakes(trust.tls)
        self._lock = threading.Lock()
        self._line: _Line | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._line is not None:
            self._line.channel.close()

    def rank(
        self,
        guest: str | GuestFile,
        *,
        best: int = 0,
        within_s: float | None = None,
        from_host: str | None = None,
        to_hosts: Sequence[str] = (),
        labels: Sequence[str] = (),
        options: MigrationOptions = MigrationOptions(),  # noqa: B008 - it is frozen
        questions: Questions = SWIFT,
    ) -> Ranking:
        """The best hosts for a guest, all that can take it where `best` is 0.

        After `within_s` seconds the answer is what there is by then, `missing` saying what is not.
        """
        question = Question(
            guest=guest,
            from_host=from_host,
            to_hosts=tuple(to_hosts),
            labels=tuple(labels),
            options=options,
            questions=questions,
        )
        request = controller_pb2.RankRequest(
            guest=exchange.choice_message(guest),
            move=exchange.move_message(question, None),
            best=best,
        )
        with self._asking() as (stub, metadata):
            said = stub.Rank(request, timeout=within_s, metadata=metadata)
        return Ranking(
            name=said.name.name,
            uuid=said.name.uuid,
            source=said.name.source,
            best=tuple(map(exchange.ranked_of, said.best)),
            hosts=said.hosts,
            takers=said.takers,
            missing=tuple(map(exchange.ranked_of, said.missing)),
            reasons=tuple(map(exchange.reason_of, said.reasons)),
        )

    def dry_run(
        self,
        question: Question,
        *,
        timeout_s: float | None = None,
        within_s: float | None = None,
        watch: Watch = unwatched,
    ) -> tuple[Asked, dict[str, str]]:
        """All that was said, and the command for each host that can take the guest.

        `timeout_s` is for one host; `watch` is told how many hosts are asked, and of each answer.
        """
        request = controller_pb2.DryRunRequest(
            guests=[exchange.choice_message(question.guest)],
            move=exchange.move_message(question, timeout_s),
        )
        found = controller_pb2.Found()
        answers: list[controller_pb2.HostAnswer] = []
        count = unwatched("", 0)
        with self._asking() as (stub, metadata):
            call = stub.DryRun(request, timeout=within_s, metadata=metadata)
            for said in call:
                match said.WhichOneof("said"):
                    case "found":
                        found, count = said.found, watch("asking", said.found.hosts)
                    case "answer":
                        answers.append(said.answer)
                        count()
                    case "ranking":
                        # Nothing more comes; to leave before the end would be to call it off.
                        with suppress(grpc.RpcError):
                            next(call, None)
                        asked = exchange.asked_of(found, answers, said.ranking)
                        commands = {it.host: it.command for it in said.ranking.candidates}
                        return asked, {host: it for host, it in commands.items() if it}
        raise ServiceError(f"{self._called}: its answer ended before the ranking")

    def hosts(
        self,
        *,
        labels: Sequence[str] = (),
        timeout_s: float | None = None,
        within_s: float | None = None,
    ) -> list[tuple[FleetHost, Described]]:
        """Each host of the fleet that has these labels, and what it says of itself."""
        request = controller_pb2.ListHostsRequest(
            labels=labels, timeout=exchange.timeout_message(timeout_s)
        )
        with self._asking() as (stub, metadata):
            said = stub.ListHosts(request, timeout=within_s, metadata=metadata)
        return list(map(exchange.host_of, said.hosts))

    def watch_hosts(
        self, *, labels: Sequence[str] = (), within_s: float | None = None
    ) -> Generator["Changes", None, None]:
        """At first all hosts, then those that came, went, or of which something has changed.

        For ever, or until you close it (`contextlib.closing`), or until `within_s` has passed.
        """
        with self._asking() as (stub, metadata):
            call = stub.WatchHosts(
                controller_pb2.WatchHostsRequest(labels=labels),
                timeout=within_s,
                metadata=metadata,
            )
            try:
                for said in call:
                    yield Changes(map(exchange.host_of, said.hosts), gone=tuple(said.gone))
            finally:
                call.cancel()

    def checks(self, *, timeout_s: float | None = None, within_s: float | None = None) -> Catalogue:
        """Every check, as the agent lists them that answers first."""
        request = controller_pb2.DescribeChecksRequest(timeout=exchange.timeout_message(timeout_s))
        with self._asking() as (stub, metadata):
            said = stub.DescribeChecks(request, timeout=within_s, metadata=metadata)
        return exchange.catalogue_of(said)

    @property
    def _called(self) -> str:
        return _called(self._address)

    @contextmanager
    def _asking(self) -> Iterator[tuple[Stub, Metadata]]:
        """With what to send beside the request: the id of the question, by which logs name it."""
        about = request_id.current() or request_id.new()
        line = self._entered()
        try:
            yield Stub(line.channel), ((request_id.KEY, about),)
        except grpc.RpcError as error:
            secret = line.credentials is not None
            raise _trouble(self._address, error, about, secret=secret) from error
        finally:
            with self._lock:
                line.calls -= 1
                if line.calls == 0 and line is not self._line:
                    line.channel.close()

    def _entered(self) -> _Line:
        """The line to ask over, a new one where our certificate is new. Leaving is the caller's."""
        try:
            credentials = self._handshakes.credentials(self._address, insecure=self._insecure)
        except BadCertificateError as error:
            raise ServiceError(f"{self._called}: not asked: {error}") from error
        with self._lock:
            old = self._line
            if old is None or old.credentials is not credentials:
                self._line = _Line(_channel(self._address, credentials), credentials)
                if old is not None and old.calls == 0:
                    old.channel.close()
            assert self._line is not None, "it was just made"
            self._line.calls += 1
            return self._line


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    if credentials is None:
        return grpc.insecure_channel(address, options=CHANNEL)
    return grpc.secure_channel(address, credentials, options=CHANNEL)


def _called(address: str) -> str:
    return f"controller at {address}"


def _trouble(address: str, error: Any, about: str, *, secret: bool) -> Exception:
    """What a status means, in the words that the same trouble has without a service."""
    called = _called(address)
    reason, fields = _details(error)
    message = error.details() or ""
    if reason == "MISUSED" and fields:
        return BadFieldError(*fields[0])
    if reason == "REFUSED_BY_HOSTS":
        return RefusedByHostsError(message, fields)
    if reason in TROUBLE_BY_REASON:
        return TROUBLE_BY_REASON[reason](message)
    match error.code():
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return BusyError(f"{called}: {one_line(message)}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServiceError(f"{called}: no answer in time")
        case grpc.StatusCode.UNIMPLEMENTED:
            return ServiceError(f"{called}: is none, or one of another version")
        case grpc.StatusCode.UNAVAILABLE if told := rebuff(
            message, host_of(address), secret=secret
        ):
            step = told.next_step.format(who="the controller")
            return ServiceError(f"{called}: {told.why}. {step}")
        case grpc.StatusCode.UNAVAILABLE if known := unreached(
            message, CONTROLLER, host_of(address), address
        ):
            return ServiceError(f"{called}: unavailable: {'. '.join(filter(None, known))}")
        case grpc.StatusCode.UNKNOWN | grpc.StatusCode.INTERNAL as code:
            why = f"{code.name.lower()}: {one_line(message)}"
            return ServiceError(f"{called}: {why} (its log says more: request {about})")
        case code:
            why = f"{code.name.lower().replace('_', ' ')}: {one_line(message)}"
            return ServiceError(f"{called}: {why}")


def _details(error: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The reason and the fields, where the status has them."""
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):
        return "", ()
    reason = ""
    fields: list[tuple[str, str]] = []
    info, bad = ErrorInfo(), BadRequest()
    for detail in status.details if status else ():
        if detail.Is(ErrorInfo.DESCRIPTOR) and detail.Unpack(info):
            reason = info.reason
        elif detail.Is(BadRequest.DESCRIPTOR) and detail.Unpack(bad):
            fields += ((one.field, one.description) for one in bad.field_violations)
    return reason, tuple(fields)
