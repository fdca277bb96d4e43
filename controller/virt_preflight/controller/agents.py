"""Calls to hosts' agents over gRPC, and in plain words why there was no answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from virt_preflight.controller.answers import Attended, Heard, Objection, Refused, Silent, Unreached
from virt_preflight.controller.fleet import FleetHost
from virt_preflight.controller.printable import one_line
from virt_preflight.controller.unreached import AGENT, unreached
from virt_preflight.controller.wire import Call, WrongAnswerError, left_behind
from virt_preflight.treaty import request_id
from virt_preflight.treaty.certificates import BadCertificateError
from virt_preflight.treaty.identities import Handshakes
from virt_preflight.treaty.rebuffs import rebuff
from virt_preflight.treaty.tls import LIBVIRTS, ClientTls

T = TypeVar("T")
# No serializers: the request is packed already, and reading the answer is wire's.
Method = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

# An answer carries at most one domain XML of 10 MiB; more than this is not an answer.
ANSWER_AT_MOST = 16 * 1024 * 1024

CHANNEL = (
    ("grpc.max_receive_message_length", ANSWER_AT_MOST),
    # Agents are in the operator's own network; http_proxy is for the way out of it.
    ("grpc.enable_http_proxy", 0),
    # A channel is one host's alone, so nothing is shared by accident.
    ("grpc.use_local_subchannel_pool", 1),
    # A host that vanished is noticed while nobody asks, so that its return is noticed too: what it
    # knew of the connection went with it. Agents let themselves be asked so every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # An attempt to connect is given up after this long, twice a question's time by default: where
    # the network was cut the kernel repeats itself less and less often.
    ("grpc.min_reconnect_backoff_ms", 10_000),
)
ON_ITS_WAY = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)

# What to do where an agent was not reached.
ROLE = "Name our certificate in [roles] of agent.toml on {name}."
MENDED = "Give certificates in [tls] of the fleet file, or put them where libvirt has them."
# Where the agent itself says that it is its libvirtd that does not answer.
LIBVIRTD = "See why libvirtd does not answer on {name} (systemctl status libvirtd virtqemud)."


# By what a channel is one host's: not by what else is known of it, which changes.
Key = tuple[str, str, bool]


def key_of(host: FleetHost) -> Key:
    """What must be the same for a channel to be that host's."""
    return host.name, host.address, host.insecure


@dataclass(kw_only=True)
class _Kept:
    """A channel that outlives its calls, and how many of those are under way."""

    key: Key
    channel: grpc.aio.Channel
    credentials: grpc.ChannelCredentials | None
    calls: int = 0
    # To make one costs a tenth of a call.
    method_by_path: dict[str, Method] = field(default_factory=dict)

    def method(self, path: str) -> Method:
        """The same object for each question of its kind."""
        if (found := self.method_by_path.get(path)) is None:
            found = self.method_by_path[path] = self.channel.unary_unary(path)
        return found

    def is_failing(self) -> bool:
        """Whether it tried to connect, in vain, and nobody has been told."""
        return self.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE


class Agents:
    """The agents that are asked, each over one channel that stays open for all its questions.

    A channel is a connection and a TLS handshake: too dear for a single question. Where
    `at_most` channels are kept already, a host's channel lasts for one call, so open sockets are
    bounded by those and the calls under way, however large the fleet.
    """

    def __init__(self, at_most: int, tls: ClientTls = LIBVIRTS) -> None:
        self._at_most = at_most
        self._handshakes = Handshakes(tls)
        self._kept: dict[Key, _Kept] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        while self._kept:
            _, kept = self._kept.popitem()
            await kept.channel.close()

    async def ask(self, host: FleetHost, call: Call[T], within_s: float) -> Heard[T] | Silent:
        """Put one question to one host. TimeoutError when `within_s` passes without an answer."""
        try:
            credentials = self._handshakes.credentials(host.address, insecure=host.insecure)
        except BadCertificateError as error:
            return _unarmed(host, error)
        kept = await self._keep(host, credentials)
        if kept is None:
            async with _channel(host, credentials) as passing:
                method: Method = passing.unary_unary(call.method)
                return await _ask(method, host, call, within_s, secret=credentials is not None)
        kept.calls += 1
        try:
            secret = credentials is not None
            answer = await _ask(kept.method(call.method), host, call, within_s, secret=secret)
            if isinstance(answer, Unreached):
                # gRPC would wait before it tries again; the next question is to connect at once.
                self._give_up(kept)
        finally:
            kept.calls -= 1
            if self._is_unused(kept):
                await kept.channel.close()
        return answer

    async def connected(self, host: FleetHost, within_s: float) -> bool:
        """Connect ahead of any question. Whether that came about, and there is room to keep it."""
        try:
            credentials = self._handshakes.credentials(host.address, insecure=host.insecure)
        except BadCertificateError:  # the next question says it
            return False
        kept = await self._keep(host, credentials)
        if kept is None:
            return False
        try:
            async with asyncio.timeout(within_s):
                while (state := kept.channel.get_state(try_to_connect=True)) in ON_ITS_WAY:
                    await kept.channel.wait_for_state_change(state)
        except TimeoutError:
            pass
        if state is not grpc.ChannelConnectivity.READY:
            self._give_up(kept)
            await self._close_if_unused(kept)
        return state is grpc.ChannelConnectivity.READY

    async def lost(self, host: FleetHost) -> None:
        """Returns when the host's connection is no more."""
        ready = grpc.ChannelConnectivity.READY
        kept = self._kept.get(key_of(host))
        while kept is not None and kept.channel.get_state() is ready:
            await kept.channel.wait_for_state_change(ready)

    async def drop(self, key: Key) -> None:
        """The host is of the fleet no more: its channel ends with the last call on it."""
        if (kept := self._kept.get(key)) is not None:
            self._give_up(kept)
            await self._close_if_unused(kept)

    async def _keep(
        self, host: FleetHost, credentials: grpc.ChannelCredentials | None
    ) -> _Kept | None:
        """The host's channel, None where there is no room for one that is kept."""
        key = key_of(host)
        kept = self._kept.get(key)
        if kept is not None and (kept.credentials is not credentials or kept.is_failing()):
            # Our certificate is another one now, and calls under way end on the channel that they
            # have; or gRPC would repeat what went wrong then, and connect again when it thinks fit.
            self._give_up(kept)
            await self._close_if_unused(kept)
            kept = self._kept.get(key)
        if kept is None and len(self._kept) < self._at_most:
            channel = _channel(host, credentials)
            kept = self._kept[key] = _Kept(key=key, channel=channel, credentials=credentials)
        return kept

    def _give_up(self, kept: _Kept) -> None:
        if self._kept.get(kept.key) is kept:
            del self._kept[kept.key]

    async def _close_if_unused(self, kept: _Kept) -> None:
        if self._is_unused(kept):
            await kept.channel.close()

    def _is_unused(self, kept: _Kept) -> bool:
        """Given up, and its last call has ended: to close it would end the calls of others."""
        return kept.calls == 0 and self._kept.get(kept.key) is not kept

    @asynccontextmanager
    async def attended(
        self,
        host: FleetHost,
        call: Call[Attended],
        within_s: float,
        tell: Callable[[Sequence[str]], None] = lambda _left: None,
    ) -> AsyncIterator[Attended | Silent]:
        """The host attends for as long as the block lasts; at its end it puts all back.

        `tell` is called then with what it could not, in words.
        """
        try:
            credentials = self._handshakes.credentials(host.address, insecure=host.insecure)
        except BadCertificateError as error:
            yield _unarmed(host, error)
            return
        async with _channel(host, credentials) as channel:
            method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
                call.method
            )
            stream = method(timeout=within_s, metadata=request_id.carried())
            try:
                await stream.write(call.request)
                first = await stream.read()
                attended = call.read(first if isinstance(first, bytes) else b"")
            except grpc.aio.AioRpcError as error:
                failed = _explained(host, call, error, secret=credentials is not None)
                assert isinstance(failed, Silent), "nobody is absent from his own rehearsal"
                yield failed
                return
            except WrongAnswerError as error:
                why = f"answered wrongly: {error}"
                yield Silent(host=host.name, why=why, next_step=_upgrade(host))
                return
            try:
                yield attended
                # What it puts back it puts back without us as well; but it is waited for, so that
                # what is asked next finds the host as it was.
                last: object = None
                with suppress(grpc.aio.AioRpcError):
                    await stream.done_writing()
                    last = await stream.read()
                tell(left_behind(last if isinstance(last, bytes) else b""))
            finally:
                # Where nobody waits any more it learns so now, and not at the end of its time.
                stream.cancel()


def _channel(host: FleetHost, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(host.address, options=CHANNEL)
    # Its certificate must have the name that the operator gave it, whatever its address.
    options = (*CHANNEL, ("grpc.ssl_target_name_override", host.name))
    return grpc.aio.secure_channel(host.address, credentials, options=options)


def _unarmed(host: FleetHost, error: BadCertificateError) -> Silent:
    return Silent(host=host.name, why=f"not asked: {one_line(str(error))}", next_step=MENDED)


async def _ask(
    method: Method, host: FleetHost, call: Call[T], within_s: float, *, secret: bool
) -> Heard[T] | Silent:
    try:
        answer = await method(call.request, timeout=within_s, metadata=request_id.carried())
    except grpc.aio.AioRpcError as error:
        return _explained(host, call, error, secret=secret)
    try:
        return Heard(host=host.name, said=call.read(answer))
    except WrongAnswerError as error:
        return Silent(host=host.name, why=f"answered wrongly: {error}", next_step=_upgrade(host))


def _explained(
    at: FleetHost, call: Call[T], error: grpc.aio.AioRpcError, *, secret: bool
) -> Heard[T] | Silent:
    host = at.name
    details = one_line(error.details() or "")
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            raise TimeoutError from error
        case grpc.StatusCode.NOT_FOUND if call.absent is not None:
            return Heard(host=host, said=call.absent)
        case grpc.StatusCode.INVALID_ARGUMENT:
            objections = _objections(error) or (Objection(field="", description=details),)
            said = "; ".join(f"{one.field}: {one.description}" for one in objections)
            return Refused(
                host=host, why=f"refused the question: {one_line(said)}", objections=objections
            )
        case grpc.StatusCode.UNAVAILABLE:
            return _unreached(at, error.details() or "", secret=secret)
        case grpc.StatusCode.UNIMPLEMENTED:
            method = call.method.rpartition("/")[2]
            why = f"no agent there that knows {method}"
            return Silent(host=host, why=why, next_step=_upgrade(at))
        case grpc.StatusCode.PERMISSION_DENIED:
            why = f"permission denied: {details}" if details else "permission denied"
            # Who came without a certificate is told by the agent itself.
            return Silent(host=host, why=why, next_step=ROLE.format(name=host) if secret else "")
        case code:
            return Silent(host=host, why=f"{_words(code)}: {details}" if details else _words(code))


def _unreached(host: FleetHost, details: str, *, secret: bool) -> Unreached:
    own_words = f"unavailable: {one_line(details)}"
    if "libvirtd" in details:
        # The agent was reached: whom it could not reach it says itself, in words like gRPC's.
        why, step = own_words, LIBVIRTD.format(name=host.name)
    elif (rebuffed := rebuff(details, host.name, secret=secret)) is not None:
        why = rebuffed.why
        step = rebuffed.next_step.format(who=f"the agent on {host.name}")
    else:
        known = unreached(details, AGENT, host.name, host.address)
        why, step = known or (own_words, "")
    return Unreached(host=host.name, why=why, next_step=step)


def _upgrade(host: FleetHost) -> str:
    return f"See which version of virt-preflight-agent answers at {host.address}."


def _words(code: grpc.StatusCode) -> str:
    return code.name.lower().replace("_", " ")


def _objections(error: grpc.aio.AioRpcError) -> tuple[Objection, ...]:
    """The fields named in a google.rpc.BadRequest, if the status carries one."""
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):
        return ()
    found: list[Objection] = []
    for detail in status.details if status else ():
        bad = BadRequest()
        if detail.Is(BadRequest.DESCRIPTOR) and detail.Unpack(bad):
            found += (
                Objection(field=one.field, description=one.description)
                for one in bad.field_violations
            )
    return tuple(found)
