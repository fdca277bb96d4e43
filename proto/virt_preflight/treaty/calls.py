"""What agents and controllers do with each call that they answer: name it, count it, log it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from virt_preflight.treaty import request_id

Context = grpc.aio.ServicerContext[Any, Any]
# Its stubs know only the other, blocking API.
Handler = Any
LOGGER = logging.getLogger("virt_preflight.calls")

_NAME_BY_NUMBER = {code.value[0]: code.name for code in grpc.StatusCode}


class CallObserver(Protocol):
    """Told of each call. Only our own methods, depths and gRPC's codes are ever named."""

    def began(self, method: str) -> None:
        """It is under way."""
        ...

    def ended(self, method: str, depth: str, code: str, seconds: float) -> None:
        """It was answered, or not. `depth` is empty where the method has none."""
        ...


class Unobserved:
    """Nobody is told."""

    def began(self, method: str) -> None:
        """Nothing."""

    def ended(self, method: str, depth: str, code: str, seconds: float) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls(grpc.aio.ServerInterceptor):
    """Goes before one service's methods, and before no others (health, reflection)."""

    service: str
    methods: frozenset[str]
    # How deep a request goes, by our own word for it; empty where that has no meaning.
    depth_of: Callable[[Any], str]
    observer: CallObserver = field(default_factory=Unobserved)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The method's own handler, with us around it."""
        handler = await continuation(details)
        service, _, method = details.method.lstrip("/").partition("/")
        if handler is None or service != self.service or method not in self.methods:
            return handler
        request_id.taken_over(details.invocation_metadata)
        return self._around(method, handler)

    def _around(self, method: str, handler: Handler) -> Handler:
        async def answer(request: Any, context: Context) -> Any:
            with self._answering(method, self.depth_of(request), context):
                return await handler.unary_unary(request, context)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._answering(method, self.depth_of(request), context):
                async with aclosing(handler.unary_stream(request, context)) as said:
                    async for one in said:
                        yield one

        async def converse(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            with self._answering(method, "", context):
                async with aclosing(handler.stream_stream(requests, context)) as said:
                    async for one in said:
                        yield one

        behaviour: Callable[..., Any]
        made: Callable[..., Handler]
        match handler.request_streaming, handler.response_streaming:
            case False, False:
                behaviour, made = answer, grpc.unary_unary_rpc_method_handler
            case False, True:
                behaviour, made = stream, grpc.unary_stream_rpc_method_handler
            case _:
                behaviour, made = converse, grpc.stream_stream_rpc_method_handler
        return made(behaviour, handler.request_deserializer, handler.response_serializer)

    @contextmanager
    def _answering(self, method: str, depth: str, context: Context) -> Iterator[None]:
        started = time.monotonic()
        self.observer.began(method)
        code = "UNKNOWN"
        try:
            yield
            code = code_of(context) or "OK"
        except (asyncio.CancelledError, GeneratorExit):
            left_s = context.time_remaining()
            code = "CANCELLED" if left_s is None or left_s > 0 else "DEADLINE_EXCEEDED"
            raise
        except BaseException:
            # Of an abort the code is known; whatever else is raised, gRPC makes UNKNOWN of it.
            code = code_of(context) or code
            raise
        finally:
            took_s = time.monotonic() - started
            self.observer.ended(method, depth, code, took_s)
            # What was answered the audit tells, and more of it.
            LOGGER.log(
                logging.DEBUG if code == "OK" else logging.INFO,
                "%s: %s in %.3f s",
                method,
                code,
                took_s,
                extra={"method": method, "depth": depth, "code": code, "tookMs": _ms(took_s)},
            )


def code_of(context: Context) -> str:
    """The status that was set; empty where none was, and then it is OK if nothing was raised."""
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return str(code.name)
    return _NAME_BY_NUMBER.get(code, "UNKNOWN") if code else ""


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
