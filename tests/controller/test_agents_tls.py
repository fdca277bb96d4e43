"""Calls to agents over real TLS on loopback, with certificates of authorities made for the test."""

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from tests.controller.fakes import FakeAgent, by_tls, running
from tests.controller.samples import UUID, domain
from tests.treaty.pki import PAST, issue
from virt_preflight.controller import wire
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import Domain, Heard, Listed, Silent, Unreached
from virt_preflight.controller.fleet import FleetHost
from virt_preflight.treaty import certificates
from virt_preflight.treaty.certificates import Files
from virt_preflight.treaty.identities import ServerIdentity
from virt_preflight.treaty.rebuffs import CLOSED_ON_PLAIN
from virt_preflight.treaty.tls import ClientTls
from virt_preflight.v1 import agent_pb2

Answer = Heard[Listed] | Silent
HEARD = Heard(
    host="h1",
    said=Listed(domains=(Domain(name="db1", uuid=UUID, active=True),), migration_host=""),
)


@pytest.fixture(name="ca", scope="module")
def _ca() -> trustme.CA:
    return trustme.CA()


def agent() -> FakeAgent:
    return FakeAgent("h1", {"ListDomains": domain()})


def shown(files: Files) -> ClientTls:
    return ClientTls(
        ca=str(files.ca), client_cert=str(files.cert), client_key=str(files.key), loopback=True
    )


def ask(address: str, tls: ClientTls, *, name: str = "h1", insecure: bool = False) -> Answer:
    async def asking() -> Answer:
        async with Agents(1, tls) as agents:
            host = FleetHost(name=name, address=address, insecure=insecure)
            return await agents.ask(host, wire.list_domains("db1"), 5)

    return asyncio.run(asking())


def told(answer: Answer) -> tuple[str, str]:
    assert isinstance(answer, Silent), answer
    return answer.why, answer.next_step


def test_an_agent_is_heard_by_the_name_that_its_certificate_has(
    tmp_path: Path, ca: trustme.CA
) -> None:
    ours = shown(issue(tmp_path / "op", ca, "operator"))
    with by_tls(agent(), ServerIdentity(issue(tmp_path / "h1", ca, "h1"))) as address:
        assert ask(address, ours) == HEARD


def test_where_a_certificate_has_no_other_names_the_common_name_counts(
    tmp_path: Path, ca: trustme.CA
) -> None:
    ours = shown(issue(tmp_path / "op", ca, "operator"))
    theirs = ServerIdentity(issue(tmp_path / "h1", ca, common_name="h1"))
    with by_tls(agent(), theirs) as address:
        assert ask(address, ours) == HEARD
        why, _ = told(ask(address, ours, name="h2"))
        assert why == "its certificate is for another name than h2"


def test_a_certificate_for_another_name_is_not_believed(tmp_path: Path, ca: trustme.CA) -> None:
    ours = shown(issue(tmp_path / "op", ca, "operator"))
    theirs = ServerIdentity(issue(tmp_path / "h1", ca, "h1", "127.0.0.1", common_name="h2"))
    with by_tls(agent(), theirs) as address:
        assert told(ask(address, ours, name="h2")) == (
            "its certificate is for another name than h2",
            "Call it as its certificate does, or give the agent on h2 one of the name you use.",
        )


def test_an_agent_of_another_authority_is_not_believed(tmp_path: Path, ca: trustme.CA) -> None:
    ours = shown(issue(tmp_path / "op", ca, "operator"))
    theirs = ServerIdentity(issue(tmp_path / "h1", trustme.CA(), "h1"))
    with by_tls(agent(), theirs) as address:
        assert told(ask(address, ours)) == (
            "its certificate is not by our authority",
            "Have one authority sign all certificates, or name the agent on h1's as `ca` in [tls].",
        )


@pytest.mark.parametrize(
    ("begins", "why"),
    [(-5, "its certificate has expired"), (5, "its certificate is not valid yet")],
)
def test_an_agent_out_of_its_certificates_time_is_not_believed(
    tmp_path: Path, ca: trustme.CA, monkeypatch: pytest.MonkeyPatch, begins: int, why: str
) -> None:
    ours = shown(issue(tmp_path / "op", ca, "operator"))
    first = PAST + timedelta(days=9 + begins)
    files = issue(tmp_path / "h1", ca, "h1", not_before=first, not_after=first + timedelta(days=1))
    # An agent does not start with such a one; it may come to have it while it runs.
    with monkeypatch.context() as agents:
        agents.setattr(certificates, "_untimely", lambda *_: None)
        theirs = ServerIdentity(files)
    with by_tls(agent(), theirs) as address:
        assert told(ask(address, ours)) == (
            why,
            "Give the agent on h1 a new certificate, and see that the clocks agree.",
        )


def test_who_shows_a_certificate_of_another_authority_is_not_heard(
    tmp_path: Path, ca: trustme.CA
) -> None:
    stranger = issue(tmp_path / "op", trustme.CA(), "operator")
    theirs = issue(tmp_path / "h1", ca, "h1")
    stranger.ca.write_bytes(stranger.ca.read_bytes() + theirs.ca.read_bytes())
    asked = agent()
    with by_tls(asked, ServerIdentity(theirs)) as address:
        assert told(ask(address, shown(stranger))) == (
            "it closed the connection after the handshake: it may not take our certificate",
            "See whether ours has expired, or is not by the authority that the agent on h1 knows.",
        )
    assert not asked.heard


def test_without_tls_an_agent_with_tls_is_not_reached(tmp_path: Path, ca: trustme.CA) -> None:
    with by_tls(agent(), ServerIdentity(issue(tmp_path / "h1", ca, "h1"))) as address:
        for plain in (
            ask(address, ClientTls()),
            ask(address, shown(issue(tmp_path / "op", ca, "o")), insecure=True),
        ):
            assert told(plain) == (
                "it closed the connection at once: it may want TLS, and was spoken to without",
                CLOSED_ON_PLAIN.next_step,
            )


def test_by_tls_an_agent_without_tls_is_not_reached(tmp_path: Path, ca: trustme.CA) -> None:
    with running(agent()) as fleet:
        ours = shown(issue(tmp_path, ca, "operator"))
        assert told(ask(fleet.tcp_addresses["h1"], ours)) == (
            "it answers without TLS",
            "Give the agent on h1 a certificate, or say `insecure = true` in the fleet file.",
        )
        assert ask(fleet.tcp_addresses["h1"], ours, insecure=True) == HEARD


def test_with_a_certificate_of_no_use_nobody_is_asked(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "operator")
    files.key.unlink()
    why, next_step = told(ask("192.0.2.1:50551", shown(files)))
    assert why == f"not asked: {files.key}: no such file or directory"
    assert next_step.startswith("Give certificates in [tls]")


def test_sockets_and_loopback_need_no_certificate(tmp_path: Path) -> None:
    with running(agent()) as fleet:
        tls = ClientTls(client_cert="/nowhere/c.pem")
        assert ask(fleet.addresses["h1"], tls) == HEARD
        assert ask(fleet.tcp_addresses["h1"], tls) == HEARD


def test_a_new_certificate_of_ours_is_shown_from_the_next_call_on(
    tmp_path: Path, ca: trustme.CA
) -> None:
    """The call that is under way ends on the connection that it has."""
    ours = issue(tmp_path / "op", ca, "operator")
    begun, go_on = threading.Event(), threading.Event()

    asked = FakeAgent("h1", {"ListDomains": _slow_at_first(begun, go_on)})

    async def asking(address: str) -> tuple[Answer, Answer]:
        host = FleetHost(name="h1", address=address)
        async with Agents(1, shown(ours)) as agents:
            under_way = asyncio.create_task(agents.ask(host, wire.list_domains("db1"), 10))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            replace(ours, issue(tmp_path / "new", ca, "operator"))
            after = await agents.ask(host, wire.list_domains("db1"), 5)
            go_on.set()
            return await under_way, after

    with by_tls(asked, ServerIdentity(issue(tmp_path / "h1", ca, "h1"))) as address:
        under_way, after = asyncio.run(asking(address))
    assert under_way == HEARD
    assert after == HEARD
    assert len(set(asked.callers)) == 2


def test_a_bad_file_in_place_of_ours_does_not_end_what_works(
    tmp_path: Path, ca: trustme.CA
) -> None:
    ours = issue(tmp_path / "op", ca, "operator")

    async def asking(address: str) -> list[Answer]:
        host = FleetHost(name="h1", address=address)
        call = wire.list_domains("db1")
        async with Agents(1, shown(ours)) as agents:
            before = await agents.ask(host, call, 5)
            ours.cert.write_text("half of it")
            return [before, await agents.ask(host, call, 5)]

    with by_tls(agent(), ServerIdentity(issue(tmp_path / "h1", ca, "h1"))) as address:
        assert asyncio.run(asking(address)) == [HEARD, HEARD]


def test_a_new_certificate_of_an_agent_is_used_without_dropping_a_call(
    tmp_path: Path, ca: trustme.CA
) -> None:
    theirs = issue(tmp_path / "h1", ca, "h1")
    begun, go_on = threading.Event(), threading.Event()

    asked = FakeAgent("h1", {"ListDomains": _slow_at_first(begun, go_on)})
    ours = shown(issue(tmp_path / "op", ca, "operator"))

    async def asking(address: str) -> tuple[Answer, Answer, Answer]:
        old, new = (FleetHost(name=name, address=address) for name in ("h1", "h1-renamed"))
        async with Agents(2, ours) as agents:
            under_way = asyncio.create_task(agents.ask(old, wire.list_domains("db1"), 10))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            before = await agents.ask(new, wire.list_domains("db1"), 5)
            replace(theirs, issue(tmp_path / "new", ca, "h1-renamed"))
            after = await agents.ask(new, wire.list_domains("db1"), 5)
            go_on.set()
            return await under_way, before, after

    with by_tls(asked, ServerIdentity(theirs)) as address:
        under_way, before, after = asyncio.run(asking(address))
    assert under_way == HEARD
    assert isinstance(before, Unreached)
    assert isinstance(after, Heard)


def replace(old: Files, new: Files) -> None:
    """As a tool does it that renews certificates: file by file, each at once."""
    for before, after in ((old.key, new.key), (old.cert, new.cert)):
        shutil.copy(after, before.with_suffix(".new"))
        os.replace(before.with_suffix(".new"), before)


def _slow_at_first(
    begun: threading.Event, go_on: threading.Event
) -> Callable[[bytes], agent_pb2.ListDomainsResponse]:
    def answer(_: bytes) -> agent_pb2.ListDomainsResponse:
        if not begun.is_set():
            begun.set()
            assert go_on.wait(10)
        return domain()

    return answer
