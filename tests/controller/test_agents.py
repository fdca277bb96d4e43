import asyncio
import socket
from pathlib import Path

import grpc
import pytest

from tests.controller.fakes import Fails, FakeAgent, Hangs, Script, objects, running
from tests.controller.samples import NO_DOMAINS, UUID, domain
from virt_preflight.controller import agents, wire
from virt_preflight.controller.answers import Domain, Heard, Objection, Refused, Silent
from virt_preflight.controller.fleet import FleetHost
from virt_preflight.controller.wire import Call

Answer = Heard[tuple[Domain, ...]] | Silent


def ask(address: str, *, within_s: float = 5) -> Answer:
    call = wire.list_domains("db1")
    return asyncio.run(agents.ask(FleetHost(name="h1", address=address), call, within_s))


def answer_to(script: Script, *, within_s: float = 5) -> Answer:
    with running(FakeAgent("h1", {"ListDomains": script})) as fleet:
        return ask(fleet.addresses["h1"], within_s=within_s)


def why(answer: Answer) -> str:
    assert isinstance(answer, Silent)
    return answer.why


def test_an_answer_is_heard() -> None:
    assert answer_to(domain()) == Heard(
        host="h1", said=(Domain(name="db1", uuid=UUID, active=True),)
    )


def test_the_question_goes_out_as_it_was_packed() -> None:
    agent = FakeAgent("h1", {"ListDomains": NO_DOMAINS})
    with running(agent) as fleet:
        ask(fleet.addresses["h1"])
    assert agent.requests("ListDomains") == [wire.list_domains("db1").request]


def test_a_host_that_says_it_has_no_such_guest_has_answered() -> None:
    assert answer_to(Fails(grpc.StatusCode.NOT_FOUND)) == Heard(host="h1", said=())


def test_elsewhere_not_found_is_no_answer() -> None:
    call: Call[object] = Call(
        method=f"/{wire.SERVICE}/BeginDryRun", request=b"", read=lambda answer: answer
    )
    agent = FakeAgent("h1", {"BeginDryRun": Fails(grpc.StatusCode.NOT_FOUND, "no guest db1")})
    with running(agent) as fleet:
        host = FleetHost(name="h1", address=fleet.addresses["h1"])
        answer = asyncio.run(agents.ask(host, call, 5))
    assert answer == Silent(host="h1", why="not found: no guest db1")


def test_time_that_runs_out_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        answer_to(Hangs(), within_s=0.1)


def test_an_objection_names_the_fields() -> None:
    answer = answer_to(objects(("guests[0].domain_xml", "no <name>"), ("options.dname", "is bad")))
    assert isinstance(answer, Refused)
    assert answer.objections == (
        Objection(field="guests[0].domain_xml", description="no <name>"),
        Objection(field="options.dname", description="is bad"),
    )
    assert "guests[0].domain_xml: no <name>; options.dname: is bad" in answer.why


def test_an_objection_without_details_is_one_all_the_same() -> None:
    answer = answer_to(Fails(grpc.StatusCode.INVALID_ARGUMENT, "domain is too long"))
    assert isinstance(answer, Refused)
    assert answer.objections == (Objection(field="", description="domain is too long"),)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (b"\xff\xff", "answered wrongly: its answer is not a ListDomainsResponse"),
        (Fails(grpc.StatusCode.INTERNAL, "boom"), "internal: boom"),
        (Fails(grpc.StatusCode.UNAVAILABLE, "libvirt is down"), "unavailable: libvirt is down"),
        (Fails(grpc.StatusCode.PERMISSION_DENIED), "permission denied"),
        (Fails(grpc.StatusCode.INTERNAL, "a\n b\x1b[2J" + "x" * 999), "internal: a b\\x1b[2J"),
    ],
)
def test_trouble_is_told_in_plain_words(script: Script, told: str) -> None:
    said = why(answer_to(script))
    assert said.startswith(told)
    assert len(said) < 300


def test_an_agent_that_does_not_know_the_question_says_so() -> None:
    with running(FakeAgent("h1", {})) as fleet:
        said = why(ask(fleet.addresses["h1"]))
    assert said == "no agent there that knows ListDomains"


def test_a_huge_answer_is_not_taken() -> None:
    said = why(answer_to(b"\x00" * (agents.ANSWER_AT_MOST + 1)))
    assert said.startswith("resource exhausted")


def test_a_closed_port_refuses() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert why(ask(f"127.0.0.1:{port}")) == "connection refused"


def test_a_name_that_nobody_knows_does_not_resolve() -> None:
    assert why(ask("no-such-host.invalid:50551")) == "name does not resolve"


def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert why(ask(f"unix:{tmp_path}/none.sock")) == "no such socket"


def test_a_port_that_speaks_something_else_is_no_agent() -> None:
    assert why(asyncio.run(_ask_a_web_server())) == (
        "no agent listens there: the port speaks something else"
    )


async def _ask_a_web_server() -> Answer:
    async def say_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(say_http, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        host = FleetHost(name="h1", address=f"127.0.0.1:{port}")
        return await agents.ask(host, wire.list_domains("db1"), 5)


def test_a_proxy_for_the_way_out_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert why(ask("no-such-host.invalid:50551")) == "name does not resolve"
