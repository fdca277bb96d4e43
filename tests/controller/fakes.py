"""Agents that answer over real gRPC on a unix socket whatever a test tells them to."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.code_pb2 import INVALID_ARGUMENT
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from virt_preflight.controller.wire import SERVICE
from virt_preflight.treaty.identities import ServerIdentity
from virt_preflight.v1 import agent_pb2


@dataclass(frozen=True)
class Fails:
    """Answers with a status instead of a message; `objects_to` makes it a BadRequest."""

    code: grpc.StatusCode
    details: str = ""
    objects_to: tuple[tuple[str, str], ...] = ()


class Hangs:
    """Never answers while the test runs."""


Said = Message | bytes | Fails | Hangs


@dataclass(frozen=True)
class Attends:
    """Attends a rehearsal and tidies up; or does not get so far before all is over."""

    ready: bool = True
    tidies: bool = True


# A function is called for each request.
Script = Said | Attends | Callable[[bytes], Said]


@dataclass
class FakeAgent:
    """One scripted answer a method; what was asked is kept in `heard`."""

    name: str
    script: dict[str, Script]
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    # The other end of each call's connection; it tells connections apart only over TCP.
    callers: list[str] = field(default_factory=list)

    def requests(self, method: str) -> list[bytes]:
        return [request for asked, request in self.heard if asked == method]


@dataclass
class FakeFleet:
    """The sockets of running fake agents, as `--hosts` takes them."""

    agents: dict[str, FakeAgent]
    addresses: dict[str, str]
    # The same agents where each connection has a port of its own, so that they can be counted.
    tcp_addresses: dict[str, str]

    @property
    def hosts(self) -> str:
        return ",".join(f"{name}={address}" for name, address in self.addresses.items())

    def __getitem__(self, name: str) -> FakeAgent:
        return self.agents[name]


def objects(*problems: tuple[str, str]) -> Fails:
    return Fails(grpc.StatusCode.INVALID_ARGUMENT, "bad request", problems)


@contextmanager
def running(*agents: FakeAgent, absent: tuple[str, ...] = ()) -> Iterator[FakeFleet]:
    """Serve the agents; the hosts in `absent` have an address where nobody listens."""
    # Not below pytest's own directory: a socket's path may be 107 bytes long, no more.
    place = Path(tempfile.mkdtemp(prefix="vp-"))
    ended = threading.Event()
    served = [_serve(agent, place, ended) for agent in agents]
    names = sorted((*(agent.name for agent in agents), *absent))
    try:
        yield FakeFleet(
            agents={agent.name: agent for agent in agents},
            addresses={name: f"unix:{place}/{name}" for name in names},
            tcp_addresses={
                agent.name: f"127.0.0.1:{port}"
                for agent, (_, port) in zip(agents, served, strict=True)
            },
        )
    finally:
        ended.set()
        for server, _ in served:
            server.stop(grace=None).wait()
        shutil.rmtree(place)


@contextmanager
def by_tls(agent: FakeAgent, identity: ServerIdentity) -> Iterator[str]:
    """Serve the agent with that certificate on a port of loopback, which is given."""
    ended = threading.Event()
    server = _server(agent, ended)
    port = server.add_secure_port("127.0.0.1:0", identity.credentials())
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        ended.set()
        server.stop(grace=None).wait()


def _server(agent: FakeAgent, ended: threading.Event) -> grpc.Server:
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        method: grpc.stream_stream_rpc_method_handler(_attendance(agent, method, script))
        if isinstance(script, Attends)
        else grpc.unary_unary_rpc_method_handler(_behaviour(agent, method, script, ended))
        for method, script in agent.script.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return server


def _serve(agent: FakeAgent, place: Path, ended: threading.Event) -> tuple[grpc.Server, int]:
    server = _server(agent, ended)
    server.add_insecure_port(f"unix:{place}/{agent.name}")
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def _behaviour(
    agent: FakeAgent, method: str, script: Script, ended: threading.Event
) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        agent.heard.append((method, request))
        agent.callers.append(context.peer())
        assert not isinstance(script, Attends), "that is a stream"
        said = script(request) if callable(script) else script
        match said:
            case Hangs():
                ended.wait(30)
                return b""
            case Fails():
                _fail(said, context)
            case bytes():
                return said
            case Message():
                return said.SerializeToString()

    return answer


def _attendance(
    agent: FakeAgent, method: str, script: Attends
) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    """Keeps in `heard` when its caller has ended his side ("ended") and when all is "over"."""

    def attend(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        over = threading.Event()

        def end() -> None:
            agent.heard.append(("over", b""))
            over.set()

        if not context.add_callback(end):
            end()
        agent.heard.append((method, next(requests)))
        if not script.ready:
            over.wait(60)
            return
        ready = agent_pb2.AttendRehearsalResponse(ready=agent_pb2.RehearsalReady())
        yield ready.SerializeToString()
        with suppress(Exception):  # gRPC's own for a caller that is gone is not public
            for _ in requests:
                pass
        agent.heard.append(("ended", b""))
        if not script.tidies:
            over.wait(60)
            return
        tidied = agent_pb2.AttendRehearsalResponse(tidied=agent_pb2.RehearsalTidied())
        yield tidied.SerializeToString()

    return attend


def _fail(script: Fails, context: grpc.ServicerContext) -> NoReturn:
    if not script.objects_to:
        context.abort(script.code, script.details)
    bad = BadRequest()
    for field_name, description in script.objects_to:
        bad.field_violations.add(field=field_name, description=description)
    details = AnyMessage()
    details.Pack(bad)
    status = Status(code=INVALID_ARGUMENT, message=script.details, details=[details])
    context.abort_with_status(rpc_status.to_status(status))
