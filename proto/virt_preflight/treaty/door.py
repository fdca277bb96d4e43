"""The door of a server: who comes in, how many at a time, and who may ask what.

The one place where roles and limits are held to and where the audit is written, for each method of
each service, so that no method can be forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from virt_preflight.treaty import audit, questions
from virt_preflight.treaty.callers import Caller, caller_of
from virt_preflight.treaty.calls import code_of
from virt_preflight.treaty.neighbours import Neighbours
from virt_preflight.treaty.roles import Role, Roles
from virt_preflight.treaty.turnstile import TooManyError, Turnstile

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

# Of google.rpc.ErrorInfo.
DOMAIN = "virt-preflight"


@dataclass(slots=True)
class _Visit:
    """What the audit is told of one call."""

    outcome: str = ""
    guests: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Door(grpc.aio.ServerInterceptor):
    """Stands before all methods of a server."""

    roles: Roles
    turnstile: Turnstile
    # Who may come from this machine, and is asked about at each call.
    neighbours: Neighbours
    _guarded: dict[str, Handler] = field(default_factory=dict)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The same method, behind the door."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(questions.HEALTH):
            return handler  # nobody's, or everybody's
        known = self._guarded.get(method)
        if known is None:
            known = self._guarded[method] = self._before(method, handler)
        return known

    def _before(self, method: str, handler: Handler) -> Handler:
        packed = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if not handler.response_streaming:
            assert not handler.request_streaming, "no method takes a stream and answers once"
            answer = self._once(method, handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(answer, **packed)
        if handler.request_streaming:
            both = self._streaming(method, handler.stream_stream, lambda _: None)
            return grpc.stream_stream_rpc_method_handler(both, **packed)
        answers = self._streaming(method, handler.unary_stream, lambda request: request)
        return grpc.unary_stream_rpc_method_handler(answers, **packed)

    def _once(self, method: str, behaviour: Any) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            async with self._entered(method, request, context) as visit:
                response = await behaviour(request, context)
                visit.outcome = questions.outcome(response)
                visit.guests = questions.guests_in(response, visit.guests)
                return response

        return answer

    def _streaming(self, method: str, behaviour: Any, first: Callable[[Any], Any]) -> Any:
        async def answers(request: Any, context: Context) -> AsyncIterator[Any]:
            async with (
                self._entered(method, first(request), context) as visit,
                aclosing(behaviour(request, context)) as said,
            ):
                async for response in said:
                    visit.outcome = questions.outcome(response) or visit.outcome
                    visit.guests = questions.guests_in(response, visit.guests)
                    yield response

        return answers

    async def _caller(self, context: Context) -> Caller:
        peer, shown = unquote(context.peer()), context.auth_context()
        secret = "x509_pem_cert" in shown
        user = None if secret else await self.neighbours.owner(peer.partition(":")[2])
        return caller_of(peer, shown, user)

    @asynccontextmanager
    async def _entered(self, method: str, request: Any, context: Context) -> AsyncIterator[_Visit]:
        """Inside for as long as the block lasts, if he may; noted in any case."""
        began = time.monotonic()
        caller = await self._caller(context)
        role = self.roles.of(caller)
        asked = questions.asked(method, request)
        visit = _Visit(guests=asked.guests)
        named = audit.naming()
        try:
            if asked.role is not None and not (role and role.includes(asked.role)):
                visit.outcome = "PERMISSION_DENIED"
                await _deny(context, caller, role, asked.role, asked.depth)
            with self.turnstile.entered(caller.counted) if asked.counts else nullcontext():
                yield visit
        except TooManyError as error:
            visit.outcome = "RESOURCE_EXHAUSTED"
            info = error_details_pb2.ErrorInfo(reason="TOO_MANY", domain=DOMAIN)
            await _refuse(context, code_pb2.RESOURCE_EXHAUSTED, str(error), info)
        except BaseException as error:
            visit.outcome = _ended(context, error)
            raise
        finally:
            audit.note(
                caller=caller.name,
                role=str(role or "none"),
                method=method.rpartition("/")[2],
                depth=asked.depth,
                guests=questions.listed(named) or visit.guests,
                outcome=visit.outcome or "OK",
                took_ms=round((time.monotonic() - began) * 1000),
            )


async def _deny(
    context: Context, caller: Caller, role: Role | None, wanted: Role, depth: str
) -> NoReturn:
    has = f"has the role {role}" if role else "has no role"
    at = f" at the depth {depth}" if depth else ""
    info = error_details_pb2.ErrorInfo(
        reason="ROLE_MISSING",
        domain=DOMAIN,
        metadata={"caller": caller.name, "role": wanted},
    )
    message = f"{caller.name} {has}, and this{at} takes the role {wanted}: {_way(caller)}"
    await _refuse(context, code_pb2.PERMISSION_DENIED, message, info)


def _way(caller: Caller) -> str:
    """To a higher role."""
    if caller.certified:
        return "[roles] of the configuration here may give it to that name"
    return (
        "ask as root on this machine or over its Unix socket, or by a certificate; or have [roles]"
        " of the configuration here give it to `local`"
    )


async def _refuse(
    context: Context, code: int, message: str, info: error_details_pb2.ErrorInfo
) -> NoReturn:
    status = status_pb2.Status(code=code, message=message)
    status.details.add().Pack(info)
    packed = rpc_status.to_status(status)
    await context.abort(packed.code, packed.details, packed.trailing_metadata)
    raise AssertionError("abort raises")


def _ended(context: Context, error: BaseException) -> str:
    match error:
        case grpc.aio.AbortError():
            return code_of(context)
        case asyncio.CancelledError() | GeneratorExit():
            return "CANCELLED"
        case _:
            return "UNKNOWN"
