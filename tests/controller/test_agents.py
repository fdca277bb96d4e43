import asyncio
import socket
import threading
import time
from pathlib import Path

import grpc
import pytest

from tests.controller.fakes import Fails, FakeAgent, Hangs, Script, objects, running
from tests.controller.samples import NO_DOMAINS, UUID, domain
from virt_preflight.controller import wire
from virt_preflight.controller.agents import ANSWER_AT_MOST, Agents
from virt_preflight.controller.answers import (
    Domain,
    Heard,
    Listed,
    Objection,
    Refused,
    Silent,
    Unreached,
)
from virt_preflight.controller.fleet import FleetHost
from virt_preflight.controller.wire import Call
from virt_preflight.v1 import agent_pb2

Answer = Heard[Listed] | Silent


def ask(address: str, *, within_s: float = 5) -> Answer:
    return asyncio.run(ask_times(1, address, within_s=within_s))[0]


async def ask_times(
    times: int, *addresses: str, at_most: int = 1, within_s: float = 5
) -> list[Answer]:
    """Each address in turn, and that as often, over at most that many channels that are kept."""
    hosts = [FleetHost(name=f"h{n}", address=at) for n, at in enumerate(addresses, start=1)]
    call = wire.list_domains("db1")
    async with Agents(at_most) as agents:
        return [await agents.ask(host, call, within_s) for _ in range(times) for host in hosts]


def answer_to(script: Script, *, within_s: float = 5) -> Answer:
    with running(FakeAgent("h1", {"ListDomains": script})) as fleet:
        return ask(fleet.addresses["h1"], within_s=within_s)


def why(answer: Answer) -> str:
    assert isinstance(answer, Silent)
    return answer.why


def test_an_answer_is_heard() -> None:
    assert answer_to(domain()) == Heard(
        host="h1",
        said=Listed(domains=(Domain(name="db1", uuid=UUID, active=True),), migration_host=""),
    )


def test_the_question_goes_out_as_it_was_packed() -> None:
    agent = FakeAgent("h1", {"ListDomains": NO_DOMAINS})
    with running(agent) as fleet:
        ask(fleet.addresses["h1"])
    assert agent.requests("ListDomains") == [wire.list_domains("db1").request]


def test_a_host_that_says_it_has_no_such_guest_has_answered() -> None:
    assert answer_to(Fails(grpc.StatusCode.NOT_FOUND)) == Heard(
        host="h1", said=Listed(domains=(), migration_host="")
    )


def test_elsewhere_not_found_is_no_answer() -> None:
    call: Call[object] = Call(
        method=f"/{wire.SERVICE}/BeginDryRun", request=b"", read=lambda answer: answer
    )
    agent = FakeAgent("h1", {"BeginDryRun": Fails(grpc.StatusCode.NOT_FOUND, "no guest db1")})
    with running(agent) as fleet:
        host = FleetHost(name="h1", address=fleet.addresses["h1"])
        answer = asyncio.run(_ask_with(call, host))
    assert answer == Silent(host="h1", why="not found: no guest db1")


async def _ask_with(call: Call[object], host: FleetHost) -> object:
    async with Agents(at_most=1) as agents:
        return await agents.ask(host, call, 5)


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
    said = why(answer_to(b"\x00" * (ANSWER_AT_MOST + 1)))
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
        return (await ask_times(1, f"127.0.0.1:{port}"))[0]


def test_a_host_is_asked_again_over_the_same_connection() -> None:
    assert connections_for(times=3, at_most=1) == 1


def test_a_host_for_which_no_channel_can_be_kept_gets_one_for_each_call() -> None:
    assert connections_for(times=3, at_most=0) == 3


def connections_for(*, times: int, at_most: int) -> int:
    agent = FakeAgent("h1", {"ListDomains": NO_DOMAINS})
    with running(agent) as fleet:
        answers = asyncio.run(ask_times(times, fleet.tcp_addresses["h1"], at_most=at_most))
    assert answers == [Heard(host="h1", said=Listed(domains=(), migration_host=""))] * times
    return len(set(agent.callers))


def test_those_who_were_asked_first_keep_their_channels() -> None:
    both = [FakeAgent(name, {"ListDomains": NO_DOMAINS}) for name in ("h1", "h2")]
    with running(*both) as fleet:
        asyncio.run(ask_times(2, *fleet.tcp_addresses.values(), at_most=1))
    assert [len(set(agent.callers)) for agent in both] == [1, 2]


def test_a_host_that_was_not_reached_is_tried_anew_by_the_next_question() -> None:
    agent = FakeAgent("h1", {"ListDomains": NO_DOMAINS})
    with running(agent) as fleet:
        answers = asyncio.run(
            _ask_before_and_after(Path(fleet.addresses["h1"].removeprefix("unix:")))
        )
    assert isinstance(answers[0], Unreached)
    assert answers[0].why == "no such socket"
    assert answers[1] == Heard(host="h1", said=Listed(domains=(), migration_host=""))


async def _ask_before_and_after(there: Path) -> list[Answer]:
    later = there.with_name("later")
    host = FleetHost(name="h1", address=f"unix:{later}")
    call = wire.list_domains("db1")
    async with Agents(at_most=1) as agents:
        before = await agents.ask(host, call, 5)
        later.symlink_to(there)
        return [before, await agents.ask(host, call, 5)]


def test_no_connection_is_left_when_the_asking_is_over() -> None:
    with running(FakeAgent("h1", {"ListDomains": NO_DOMAINS})) as fleet:
        address = fleet.addresses["h1"]
        asyncio.run(ask_times(1, address))  # gRPC opens what is its own once and for all
        before = open_files()
        asyncio.run(ask_times(2, address))
        # gRPC closes in threads of its own, a moment later.
        deadline = time.monotonic() + 10
        while open_files() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert open_files() <= before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_proxy_for_the_way_out_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert why(ask("no-such-host.invalid:50551")) == "name does not resolve"


@pytest.mark.parametrize(
    ("details", "step"),
    [
        (
            "no answer from libvirtd within 2 s",
            "See why libvirtd does not answer on h1 (systemctl status libvirtd virtqemud).",
        ),
        (
            # As gRPC says it of an agent; here it is the agent who says it of his libvirtd.
            "libvirtd cannot be reached: Failed to connect socket: Connection refused",
            "See why libvirtd does not answer on h1 (systemctl status libvirtd virtqemud).",
        ),
        ("busy", ""),
    ],
)
def test_trouble_that_an_operator_can_do_something_about_says_what(details: str, step: str) -> None:
    answer = answer_to(Fails(grpc.StatusCode.UNAVAILABLE, details))
    assert isinstance(answer, Unreached)
    assert answer.next_step == step


def test_a_connection_that_is_given_up_is_not_closed_under_others() -> None:
    """One call hears that its agent is gone, while another over the same is still waited for."""
    second = threading.Event()

    def slow(_: bytes) -> agent_pb2.ListDomainsResponse:
        second.set()
        time.sleep(0.5)
        return domain()

    agent = FakeAgent(
        "h1",
        {"ListDomains": slow, "ListChecks": Fails(grpc.StatusCode.UNAVAILABLE, "Socket closed")},
    )

    async def both(host: FleetHost) -> tuple[Answer, object]:
        async with Agents(at_most=1) as agents:
            patient = asyncio.create_task(agents.ask(host, wire.list_domains("db1"), 5))
            while not second.is_set():
                await asyncio.sleep(0.01)
            hasty = await agents.ask(host, wire.list_checks(), 5)
            return await patient, hasty

    with running(agent) as fleet:
        host = FleetHost(name="h1", address=fleet.addresses["h1"])
        patient, hasty = asyncio.run(asyncio.wait_for(both(host), 10))
    assert isinstance(hasty, Unreached)
    assert isinstance(patient, Heard)
