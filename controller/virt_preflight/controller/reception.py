"""Where agents announce themselves: who comes in is looked at, kept, and then heard for ever."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import grpc
from google.rpc import code_pb2

from virt_preflight.controller import wire
from virt_preflight.controller.fleet import agent_address, host_name
from virt_preflight.controller.printable import one_line
from virt_preflight.controller.refusals import Refusal, refuse
from virt_preflight.controller.roll import NameTakenError, Presence, Roll, Visit
from virt_preflight.controller.settings import Settings
from virt_preflight.controller.store import StoreError, StoreFullError
from virt_preflight.controller.trouble import BadFieldError
from virt_preflight.treaty.addresses import is_local, is_nowhere
from virt_preflight.treaty.turnstile import TooManyError, Turnstile
from virt_preflight.treaty.words import is_label
from virt_preflight.v1 import fleet_pb2, fleet_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = fleet_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name
# 32 labels of 128 + 128 characters, of four bytes at most, are half of it.
MESSAGE_AT_MOST = 64 * 1024
# Who opens a stream has something to say.
FIRST_WITHIN_S = 10.0
# So many times the time between two heartbeats, and whoever was not heard is gone.
SILENT_AFTER = 3
# Nobody is heard more often than this: each time a disk is waited for.
HEARD_EVERY_S = 1.0
# Longer than any name with a port, or path of a socket (unix(7): 108).
ADDRESS_AT_MOST = 300
VERSION_AT_MOST = 64


class NotAllowedError(Exception):
    """This caller may not announce that host. Says why."""


class EndedError(Exception):
    """The stream is to end, with this refusal."""

    def __init__(self, told: Refusal) -> None:
        super().__init__(told.message)
        self.told = told


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetServicer(fleet_pb2_grpc.FleetServiceServicer):
    """Each stream is one agent's visit."""

    roll: Roll
    settings: Settings
    turnstile: Turnstile
    # Why no more are let in than by the turnstile; told in our own log once.
    full: str
    turned_away: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def Announce(  # noqa: N802, D102 - the treaty's own name, and its words are there
        self,
        request_iterator: AsyncIterator[fleet_pb2.AnnounceRequest],  # noqa: ARG002 - it has no end
        context: Context,
    ) -> AsyncGenerator[fleet_pb2.AnnounceResponse, None]:
        visit: Visit | None = None
        ends = _Ends()
        ends.when(self.stopping, STOPPING)
        try:
            with ExitStack() as inside:
                self._let_in(inside)
                first = await _next(context, FIRST_WITHIN_S, ends)
                if first is None:
                    return
                visit = await self.roll.enter(self._presence(first, context))
                ends.when(visit.replaced, REPLACED)
                every_s = self.settings.announced.hear_every_s
                answer = fleet_pb2.AnnounceResponse(hear_every=wire.duration(every_s))
                yield answer
                while await self._heard(context, visit, every_s, ends):
                    yield answer
        except Exception as error:  # noqa: BLE001 - what is not expected is raised again below
            await refuse(context, refusal(error))
        finally:
            ends.forget()
            if visit is not None:
                self.roll.leave(visit)

    def _let_in(self, inside: ExitStack) -> None:
        try:
            inside.enter_context(self.turnstile.entered(""))
        except TooManyError:
            if not self.turned_away.is_set():
                self.turned_away.set()
                logging.warning("an agent that announces its host is turned away: %s", self.full)
            raise TooManyError(self.full) from None

    async def _heard(self, context: Context, visit: Visit, every_s: float, ends: "_Ends") -> bool:
        """Whether it was still there, rather than gone in peace."""
        await ends.awaited(min(HEARD_EVERY_S, every_s / 2))
        said = await _next(context, every_s * SILENT_AFTER, ends)
        if said is None:
            return False
        if said.WhichOneof("says") != "heartbeat":
            raise BadFieldError("heartbeat", "is not given: only the first message is a presence")
        await self.roll.heard(visit)
        return True

    def _presence(self, said: fleet_pb2.AnnounceRequest, context: Context) -> Presence:
        if self.settings.announced.hosts == "refuse":
            raise NotAllowedError("nobody may announce himself here: only the fleet file counts")
        if (size := said.ByteSize()) > MESSAGE_AT_MOST:
            raise BadFieldError("presence", f"has {size} bytes: wanted at most {MESSAGE_AT_MOST}")
        if said.WhichOneof("says") != "presence":
            raise BadFieldError("presence", "is not given: it is to be the first message")
        given = said.presence
        peer = _peer(context)
        presence = Presence(
            name=_name(given.name),
            address=_address(given.address, peer),
            labels=self._labels(given.labels),
            agent_version=_version(given.agent_version),
        )
        _refuse_impostor(presence.name, certified_names(context), peer, self.settings)
        return presence

    def _labels(self, given: Any) -> tuple[tuple[str, str], ...]:
        limits = self.settings.limits
        if len(given) > limits.labels_per_host:
            raise BadFieldError(
                "presence.labels", f"are {len(given)}: wanted at most {limits.labels_per_host}"
            )
        for key, value in given.items():
            if max(len(key), len(value)) > limits.label_length:
                raise BadFieldError(
                    "presence.labels",
                    f"{one_line(key[:40])}: is longer than {limits.label_length} characters",
                )
            if not is_label(key, value):
                raise BadFieldError("presence.labels", f"{one_line(f'{key}={value}')} is no label")
        return tuple(sorted(given.items()))


class _Ends:
    """What ends a stream before its agent does: made once for each, for heartbeats are many."""

    def __init__(self) -> None:
        self._told_by_task: dict[asyncio.Task[bool], Refusal] = {}

    def when(self, event: asyncio.Event, told: Refusal) -> None:
        """From here on that ends it, too."""
        self._told_by_task[asyncio.create_task(event.wait())] = told

    def forget(self) -> None:
        """The stream is over."""
        for task in self._told_by_task:
            task.cancel()

    async def awaited(self, seconds: float) -> None:
        """So much time passes; raises EndedError as soon as the stream is to end."""
        await self.before(set(), seconds)

    async def before(self, coming: Iterable[asyncio.Task[Any]], seconds: float) -> None:
        """One of these has come, or the time is up; raises EndedError where an end came first."""
        await asyncio.wait(
            {*coming, *self._told_by_task},
            timeout=seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task, told in self._told_by_task.items():
            if task.done():
                raise EndedError(told)


async def _next(context: Context, within_s: float, ends: _Ends) -> fleet_pb2.AnnounceRequest | None:
    """What is said next, None at the end; raises EndedError where it is not waited for."""
    reading = asyncio.ensure_future(context.read())
    try:
        await ends.before({reading}, within_s)
        if not reading.done():
            raise EndedError(_silent(within_s))
        said = reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return None if said is grpc.aio.EOF else said


def certified_names(context: Context) -> frozenset[str] | None:
    """The names in the caller's certificate; None where he came without TLS."""
    known = context.auth_context()
    if b"ssl" not in known.get("transport_security_type", ()):
        return None
    names = known.get("x509_subject_alternative_name") or known.get("x509_common_name", ())
    return frozenset(_text(names))


def refusal(error: Exception) -> Refusal:
    """What the agent is told. Raises what nobody has foreseen."""
    match error:
        case EndedError():
            return error.told
        case BadFieldError():
            code, reason = code_pb2.INVALID_ARGUMENT, "MISUSED"
            message = f"{error.field}: {error.why}"
            fields = ((error.field, error.why),)
            return Refusal(code=code, reason=reason, message=message, fields=fields)
        case NotAllowedError():
            code, reason = code_pb2.PERMISSION_DENIED, "NOT_ALLOWED"
        case NameTakenError():
            code, reason = code_pb2.ALREADY_EXISTS, "NAME_TAKEN"
        case TooManyError():
            code, reason = code_pb2.RESOURCE_EXHAUSTED, "TOO_MANY"
        case StoreFullError():
            code, reason = code_pb2.RESOURCE_EXHAUSTED, "STORE_FULL"
        case StoreError():
            code, reason = code_pb2.UNAVAILABLE, "STORE_FAILED"
        case _:
            raise error
    return Refusal(code=code, reason=reason, message=f"not kept: {error}")


STOPPING = Refusal(
    code=code_pb2.UNAVAILABLE, reason="STOPPING", message="the controller is being stopped"
)
REPLACED = Refusal(
    code=code_pb2.ABORTED,
    reason="REPLACED",
    message="a newer stream of the same name and address took the place of this one",
)


def _silent(within_s: float) -> Refusal:
    message = f"nothing was said for {within_s:g} s"
    return Refusal(code=code_pb2.DEADLINE_EXCEEDED, reason="SILENT", message=message)


def _name(given: str) -> str:
    try:
        return host_name(given[:ADDRESS_AT_MOST])
    except ValueError as error:
        raise BadFieldError("presence.name", one_line(str(error))) from None


def _address(given: str, peer: str) -> str:
    field_name = "presence.address"
    try:
        if len(given) > ADDRESS_AT_MOST:
            raise ValueError(f"is longer than {ADDRESS_AT_MOST} characters")
        address = agent_address(given)
    except ValueError as error:
        raise BadFieldError(field_name, one_line(str(error))) from None
    if is_nowhere(address):
        raise BadFieldError(field_name, f"{address}: nobody can be reached there")
    if is_local(address) and not is_local(peer):
        # We would ask somebody on our own machine, and take him for that host.
        raise BadFieldError(field_name, f"{address}: is of its own machine only")
    return address


def _version(given: str) -> str:
    if len(given) > VERSION_AT_MOST or not given.isprintable():
        raise BadFieldError("presence.agent_version", "is no version")
    return given


def _refuse_impostor(
    name: str, certified: frozenset[str] | None, peer: str, settings: Settings
) -> None:
    if certified is None:
        if not is_local(peer) and not settings.insecure:
            raise NotAllowedError("without a certificate nobody is believed who he is")
        return
    if name.lower() not in {one.lower() for one in certified}:
        whose = ", ".join(sorted(certified)) or "nobody"
        raise NotAllowedError(f"{name}: the certificate is of {one_line(whose)}")


def _peer(context: Context) -> str:
    """The caller's address, as addresses are written elsewhere."""
    peer = unquote(context.peer())
    return peer if peer.startswith("unix:") else peer.partition(":")[2]


def _text(values: Iterable[bytes]) -> Iterable[str]:
    for value in values:
        with suppress(UnicodeDecodeError):
            yield value.decode()
