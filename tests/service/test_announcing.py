"""Hosts announce themselves to a controller, over real gRPC: who is let in, kept, and listed."""

import contextlib
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from tests.controller.fakes import FakeAgent, running
from tests.controller.samples import destination, source
from tests.controller.test_commands import DESCRIBED
from tests.replayed import RECORDINGS
from tests.service.controllers import PROGRAM, controller, program, until
from tests.service.relay import relayed
from virt_preflight.controller.answers import Heard, Silent
from virt_preflight.controller.client import Controller
from virt_preflight.controller.fleet import Fleet, FleetHost
from virt_preflight.controller.settings import Announced, Limits
from virt_preflight.controller.trouble import NothingToAskError
from virt_preflight.v1 import fleet_pb2, fleet_pb2_grpc

AGENT = Path(sys.executable).parent / "virt-preflight-agent"
NOBODY = Fleet(hosts=())
OFTEN = Announced(hear_every_s=0.1)


class Visitor:
    """An agent's stream, message by message."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._channel = (
            grpc.insecure_channel(address)
            if credentials is None
            else grpc.secure_channel(address, credentials)
        )
        self._says: queue.Queue[fleet_pb2.AnnounceRequest | None] = queue.Queue()
        self._answers = fleet_pb2_grpc.FleetServiceStub(self._channel).Announce(
            iter(self._says.get, None), timeout=30
        )

    def says(self, message: fleet_pb2.AnnounceRequest) -> fleet_pb2.AnnounceResponse:
        self._says.put(message)
        return next(self._answers)

    def comes(
        self, name: str, address: str = "unix:/nowhere", **labels: str
    ) -> fleet_pb2.AnnounceResponse:
        return self.says(presence(name=name, address=address, labels=labels))

    def goes(self) -> None:
        self._says.put(None)
        assert list(self._answers) == []
        self._channel.close()

    def cut(self) -> None:
        self._says.put(None)
        self._channel.close()

    def ending(self) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as ended:
            next(self._answers)
        self.cut()
        error: grpc.RpcError = ended.value
        return error


HEARTBEAT = fleet_pb2.AnnounceRequest(heartbeat=fleet_pb2.Heartbeat())


def presence(
    name: str = "h1",
    address: str = "unix:/nowhere",
    agent_version: str = "0.1.0",
    labels: Mapping[str, str] | None = None,
) -> fleet_pb2.AnnounceRequest:
    said = fleet_pb2.Presence(
        name=name, address=address, agent_version=agent_version, labels=labels
    )
    return fleet_pb2.AnnounceRequest(presence=said)


def status_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and the first field that is named, if any."""
    status = rpc_status.from_call(error)
    info, bad = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    fields = [one.field for one in bad.field_violations]
    return error.code(), info.reason, fields[0] if fields else ""


def refusal(address: str, said: fleet_pb2.AnnounceRequest) -> tuple[grpc.StatusCode, str, str]:
    visitor = Visitor(address)
    with pytest.raises(grpc.RpcError) as refused:
        visitor.says(said)
    visitor.cut()
    return status_of(refused.value)


def listed(address: str) -> dict[str, FleetHost]:
    with Controller(address) as asked:
        return {host.name: host for host, _ in asked.hosts(timeout_s=2)}


# ---------------------------------------------------------------------------- who is let in


def test_a_host_that_announces_itself_is_asked_like_one_of_the_fleet_file() -> None:
    with (
        running(source(), destination("h2")) as fleet,
        controller(f"h1={fleet.addresses['h1']}") as address,
    ):
        visitor = Visitor(address)
        answer = visitor.comes("h2", fleet.addresses["h2"], rack="r2")
        assert answer.hear_every.seconds == 30
        with Controller(address) as asked:
            ranking = asked.rank("db1")
            (_, h2) = [host for host, _ in asked.hosts()]
            assert [host.name for host, _ in asked.hosts(labels=["rack=r2"])] == ["h2"]
        visitor.goes()
    assert [one.host for one in ranking.best] == ["h2"]
    assert h2.labels == (("rack", "r2"),)
    assert h2.last_seen is not None


def test_a_controller_that_knows_no_host_says_so() -> None:
    with controller(NOBODY) as address, Controller(address) as asked:
        assert asked.hosts() == []
        for question in (lambda: asked.rank("db1"), asked.checks):
            with pytest.raises(NothingToAskError, match="no host is known yet"):
                question()


def test_what_the_fleet_file_says_goes_before_what_a_host_says_of_itself() -> None:
    written = FleetHost(name="h1", address="unix:/written", labels=(("rack", "r1"),))
    with controller(Fleet(hosts=(written,))) as address:
        visitor = Visitor(address)
        visitor.comes("h1", "unix:/announced", rack="r9", zone="z1")
        host = listed(address)["h1"]
        visitor.goes()
    assert (host.address, host.labels) == ("unix:/written", (("rack", "r1"), ("zone", "z1")))
    assert host.last_seen is not None


def test_hosts_of_the_fleet_file_come_first_and_are_not_announced() -> None:
    written = FleetHost(name="z9", address="unix:/z9")
    with controller(Fleet(hosts=(written,))) as address:
        visitors = [Visitor(address) for _ in range(2)]
        visitors[0].comes("h2")
        visitors[1].comes("h1")
        hosts = listed(address)
        for visitor in visitors:
            visitor.goes()
    assert list(hosts) == ["z9", "h1", "h2"]
    assert hosts["z9"].last_seen is None


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (HEARTBEAT, "presence"),
        (fleet_pb2.AnnounceRequest(), "presence"),
        (presence(name=""), "presence.name"),
        (presence(name="h1\nERROR"), "presence.name"),
        (presence(name="h1;reboot"), "presence.name"),
        (presence(name="-oProxyCommand=x"), "presence.name"),
        (presence(name="h" * 254), "presence.name"),
        (presence(name="h\u202e1"), "presence.name"),
        (presence(address=""), "presence.address"),
        (presence(address="unix:"), "presence.address"),
        (presence(address="http://h1/x"), "presence.address"),
        (presence(address="h1:0"), "presence.address"),
        (presence(address="h1:65536"), "presence.address"),
        (presence(address="0.0.0.0:50551"), "presence.address"),
        (presence(address="[::]:50551"), "presence.address"),
        (presence(address="h" * 400), "presence.address"),
        (presence(labels={"": "x"}), "presence.labels"),
        (presence(labels={"a=b": "x"}), "presence.labels"),
        (presence(labels={"rack": "\x1b[2J"}), "presence.labels"),
        (presence(labels={"rack": "x" * 129}), "presence.labels"),
        (presence(labels={"k" * 129: "x"}), "presence.labels"),
        (presence(labels={f"k{n}": "x" for n in range(33)}), "presence.labels"),
        (presence(agent_version="x" * 65), "presence.agent_version"),
        (presence(agent_version="0.1\n"), "presence.agent_version"),
    ],
    ids=lambda it: "" if isinstance(it, fleet_pb2.AnnounceRequest) else it,
)
def test_what_is_wrong_with_an_announcement_is_told_with_its_field(
    address_of_one: str, said: fleet_pb2.AnnounceRequest, field: str
) -> None:
    told = refusal(address_of_one, said)
    assert told == (grpc.StatusCode.INVALID_ARGUMENT, "MISUSED", field)
    assert listed(address_of_one) == {}


@pytest.fixture(scope="module")
def address_of_one() -> Iterator[str]:
    with controller(NOBODY) as address:
        yield address


def test_a_message_that_is_too_large_is_refused(address_of_one: str) -> None:
    labels = {f"k{n}": "x" * 10_000 for n in range(7)}
    told = refusal(address_of_one, presence(labels=labels))
    assert told == (grpc.StatusCode.INVALID_ARGUMENT, "MISUSED", "presence")


def test_a_second_presence_on_one_stream_is_refused() -> None:
    with controller(NOBODY) as address:
        visitor = Visitor(address)
        visitor.comes("h1")
        with pytest.raises(grpc.RpcError) as refused:
            visitor.comes("h2")
        visitor.cut()
        assert status_of(refused.value)[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert list(listed(address)) == ["h1"]


def test_two_agents_of_one_name_are_one_too_many_until_the_first_is_gone() -> None:
    with controller(NOBODY) as address:
        first = Visitor(address)
        first.comes("h1", "unix:/one")
        assert refusal(address, presence("h1", "unix:/other")) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "NAME_TAKEN",
            "",
        )
        assert listed(address)["h1"].address == "unix:/one"
        first.goes()
        second = Visitor(address)
        until(lambda: not isinstance(_tried(second, "h1", "unix:/other"), Exception))
        assert listed(address)["h1"].address == "unix:/other"
        second.goes()


def _tried(visitor: Visitor, name: str, address: str) -> object:
    try:
        return visitor.comes(name, address)
    except grpc.RpcError as error:
        return error


def test_an_agent_that_comes_anew_takes_the_place_of_its_own_old_stream() -> None:
    """As after a cut that the controller has not noticed yet."""
    with controller(NOBODY) as address:
        old, new = Visitor(address), Visitor(address)
        old.comes("h1")
        new.comes("h1")
        assert status_of(old.ending())[:2] == (grpc.StatusCode.ABORTED, "REPLACED")
        assert list(listed(address)) == ["h1"]
        new.goes()


def test_only_so_many_hosts_are_kept_and_known_ones_may_come_back() -> None:
    with controller(NOBODY, limits=Limits(announced_hosts=2)) as address:
        first, second = Visitor(address), Visitor(address)
        first.comes("h1")
        second.comes("h2")
        second.goes()
        until(lambda: refusal(address, presence("h3"))[1] == "TOO_MANY")
        again = Visitor(address)
        again.comes("h2")
        assert list(listed(address)) == ["h1", "h2"]
        again.goes()
        first.goes()


def test_where_nobody_may_announce_himself_only_the_fleet_file_counts() -> None:
    written = Fleet(hosts=(FleetHost(name="h1", address="unix:/h1"),))
    with controller(written, announced=Announced(hosts="refuse")) as address:
        told = refusal(address, presence("h2"))
        assert told == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED", "")
        assert list(listed(address)) == ["h1"]


def test_who_opens_a_stream_and_falls_silent_is_let_go_and_stays_listed() -> None:
    with controller(NOBODY, announced=OFTEN) as address:
        visitor = Visitor(address)
        visitor.comes("h1")
        visitor.says(HEARTBEAT)
        assert status_of(visitor.ending())[:2] == (grpc.StatusCode.DEADLINE_EXCEEDED, "SILENT")
        assert list(listed(address)) == ["h1"]


def test_a_heartbeat_is_kept_as_the_time_when_the_host_was_last_seen() -> None:
    with controller(NOBODY, announced=OFTEN) as address:
        visitor = Visitor(address)
        visitor.comes("h1")
        came = listed(address)["h1"].last_seen
        assert came is not None

        def seen_later() -> bool:
            visitor.says(HEARTBEAT)
            seen = listed(address)["h1"].last_seen
            return seen is not None and seen > came

        until(seen_later)
        visitor.goes()


def test_a_host_that_is_silent_for_too_long_is_forgotten() -> None:
    a_second = 1 / 86_400
    with controller(
        NOBODY, announced=Announced(hear_every_s=0.1, forget_after_days=a_second)
    ) as address:
        there, gone = Visitor(address), Visitor(address)
        there.comes("h1")
        gone.comes("h2")
        gone.goes()

        def only_one_is_left() -> bool:
            there.says(HEARTBEAT)
            return list(listed(address)) == ["h1"]

        until(only_one_is_left)
        there.goes()


def test_a_watcher_sees_hosts_come_and_go() -> None:
    a_second = 1 / 86_400
    settings = Announced(forget_after_days=a_second)
    with (
        running(FakeAgent("h1", {"DescribeHost": DESCRIBED})) as fleet,
        controller(f"h1={fleet.addresses['h1']}", announced=settings) as address,
        Controller(address) as asked,
        contextlib.closing(asked.watch_hosts(within_s=30)) as changes,
    ):
        assert [host.name for host, _ in next(changes)] == ["h1"]
        visitor = Visitor(address)
        visitor.comes("h2")
        came = next(changes)
        assert [(host.name, type(answer)) for host, answer in came] == [("h2", Silent)]
        visitor.goes()
        gone = next(changes)
        while not gone.gone:
            gone = next(changes)
        assert (list(gone), gone.gone) == ([], ("h2",))


# ------------------------------------------------------------------------------- what is kept


def test_after_a_restart_the_hosts_are_known_at_once(tmp_path: Path) -> None:
    store = tmp_path / "controller.db"
    with controller(NOBODY, store=store) as address:
        visitor = Visitor(address)
        visitor.comes("h1", "unix:/h1", rack="r1")
        before = listed(address)
        visitor.goes()
    with controller(NOBODY, store=store) as address:
        assert listed(address) == before


def test_a_controller_that_stops_ends_the_streams_and_says_so() -> None:
    with controller(NOBODY) as address:
        visitor = Visitor(address)
        visitor.comes("h1")
    assert status_of(visitor.ending())[:2] == (grpc.StatusCode.UNAVAILABLE, "STOPPING")


def test_a_killed_controller_has_kept_whatever_it_acknowledged(tmp_path: Path) -> None:
    """Agents come in all the time; what was answered before the kill is known after it."""
    listen, config = f"unix:{tmp_path}/c", tmp_path / "controller.toml"
    config.write_text(f'store = "{tmp_path}/controller.db"\n')
    acknowledged = []
    with program("--config", str(config), listen=listen) as service:
        visitors = [Visitor(listen) for _ in range(20)]
        killing = threading.Timer(0.2, service.kill)
        killing.start()
        for number, visitor in enumerate(visitors * 50):
            try:
                if number < len(visitors):
                    visitor.comes(f"h{number:02}")
                    acknowledged.append(f"h{number:02}")
                else:
                    visitor.says(HEARTBEAT)
            except grpc.RpcError:
                break
        killing.join()
    (tmp_path / "c").unlink(missing_ok=True)
    with program("--config", str(config), listen=listen):
        assert set(acknowledged) <= set(listed(listen))
    assert acknowledged


def test_a_store_that_cannot_be_used_is_one_line_and_left_alone(tmp_path: Path) -> None:
    store = tmp_path / "controller.db"
    store.write_text("not a database, and of some length " * 20)
    config = tmp_path / "controller.toml"
    config.write_text(f'store = "{store}"\n')
    ended = subprocess.run(
        [AGENT.with_name("virt-preflight"), "serve", "--config", config, "--listen",
         f"unix:{tmp_path}/c"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, f"virt-preflight: {store}: is not a database\n")
    assert store.read_text().startswith("not a database")


# ------------------------------------------------------------------------ agents themselves


@contextlib.contextmanager
def agent(
    place: Path, listen: str, controllers: str, more: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A recorded host whose agent announces it as h1."""
    config = place / "agent.toml"
    config.write_text(
        f'[announce]\ncontrollers = [{controllers}]\nlabels = {{rack = "r1"}}\n{more}'
    )
    command = [str(AGENT), "replay", str(RECORDINGS / "h1"), "--config", str(config)]
    command += ["--listen", listen]
    log = place / "agent.log"
    with log.open("a") as written, subprocess.Popen(command, stderr=written, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
def place() -> Iterator[Path]:
    """For sockets: pytest's own directories may make their paths too long."""
    with tempfile.TemporaryDirectory(prefix="vp-") as made:
        yield Path(made)


def free_port() -> int:
    with socket.socket() as trying:
        trying.bind(("127.0.0.1", 0))
        port: int = trying.getsockname()[1]
        return port


def heard(address: str) -> bool:
    with Controller(address) as asked:
        return any(isinstance(answer, Heard) for _, answer in asked.hosts(timeout_s=2))


def test_an_agent_is_known_to_all_its_controllers_whenever_they_start(
    tmp_path: Path, place: Path
) -> None:
    """One is down when the agent starts; the other is started again in the meantime."""
    first, second = f"unix:{place}/c1", f"unix:{place}/c2"
    with agent(tmp_path, f"unix:{place}/h1", f'"{first}", "{second}"') as running_agent:
        with controller(NOBODY, listen=first):
            until(lambda: heard(first), within_s=30)
            host = listed(first)["h1"]
            assert (host.address, host.labels) == (f"unix:{place}/h1", (("rack", "r1"),))
        with controller(NOBODY, listen=first), controller(NOBODY, listen=second):
            until(lambda: heard(first) and heard(second), within_s=60)
        running_agent.send_signal(signal.SIGTERM)
        assert running_agent.wait(10) == 0
    said = (tmp_path / "agent.log").read_text().splitlines()
    about_first = [line for line in said if f" {first}:" in line]
    assert all(one != other for one, other in pairwise(about_first)), "each change is told once"
    assert any(f"announced to {first}: h1 at unix:{place}/h1" in line for line in said)
    assert not any("Traceback" in line for line in said)


def test_a_killed_agent_is_listed_with_the_reason_and_comes_back_by_itself(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with controller(NOBODY) as address:
        with agent(tmp_path, listen, f'"{address}"') as first:
            until(lambda: heard(address), within_s=30)
            first.kill()
            first.wait()
            with Controller(address) as asked:
                ((host, answer),) = asked.hosts(timeout_s=5)
            assert host.name == "h1"
            assert isinstance(answer, Silent)
            assert answer.why in ("connection refused", "connection lost", "connection reset")
        with agent(tmp_path, listen, f'"{address}"'):
            until(lambda: heard(address), within_s=30)


def test_an_agent_that_is_refused_says_why_once_and_answers_on(tmp_path: Path, place: Path) -> None:
    listen = f"unix:{place}/h1"
    with (
        controller(NOBODY, announced=Announced(hosts="refuse")) as address,
        agent(tmp_path, listen, f'"{address}"'),
    ):
        log = tmp_path / "agent.log"
        until(lambda: "not announced to" in log.read_text(), within_s=30)
        time.sleep(2.5)  # it has tried again meanwhile
        told = [line for line in log.read_text().splitlines() if "announced" in line]
        with controller(f"h1={listen}") as other:
            assert heard(other)
    (line,) = told
    assert line == (
        f"WARNING not announced to {address}: not kept: nobody may announce himself here: only the"
        " fleet file counts"
    )


def test_a_stream_that_is_cut_is_opened_again(tmp_path: Path, place: Path) -> None:
    """Through a relay that drops all connections once: as a firewall that forgets them does."""
    with (
        controller(NOBODY) as address,
        relayed(address.removeprefix("unix:")) as relay,
        agent(tmp_path, f"unix:{place}/h1", f'"{relay.address}"'),
    ):
        until(lambda: heard(address), within_s=30)
        assert relay.made == 1
        relay.cut()
        until(lambda: relay.made == 2, within_s=30)
        until(lambda: heard(address))
    assert "not announced to 127.0.0.1" in (tmp_path / "agent.log").read_text()


# --------------------------------------------------------------------------- the fleet file


def test_on_sighup_the_fleet_file_is_read_again_and_a_bad_one_changes_nothing(
    tmp_path: Path,
) -> None:
    fleet, listen = tmp_path / "fleet.toml", f"unix:{tmp_path}/c"
    fleet.write_text('[[host]]\nname = "h1"\naddress = "unix:/nowhere"\n')
    with program("--fleet", str(fleet), listen=listen) as service:
        assert list(listed(listen)) == ["h1"]
        fleet.write_text('[[host]]\nname = "h2"\naddress = "unix:/nowhere"\n')
        service.send_signal(signal.SIGHUP)
        assert "it has 1 hosts" in _line(service, "read the fleet file again")
        assert list(listed(listen)) == ["h2"]
        fleet.write_text('[[host]]\nnames = "h3"\n')
        service.send_signal(signal.SIGHUP)
        told = _line(service, "the fleet stays")
        assert re.search(rf"the fleet stays as it was: {fleet}: line 2: host\[0\]\.names:", told), (
            told
        )
        assert list(listed(listen)) == ["h2"]


def _line(service: subprocess.Popen[str], part: str) -> str:
    """The next line of its log that says so."""
    assert service.stderr is not None
    return next(line for line in service.stderr if part in line)


def test_a_fleet_file_without_a_host_is_taken_where_hosts_may_announce_themselves(
    tmp_path: Path,
) -> None:
    fleet, config, listen = tmp_path / "fleet.toml", tmp_path / "c.toml", f"unix:{tmp_path}/c"
    fleet.write_text('[uris]\nconnect = "qemu+ssh://root@{host}/system"\n')
    with program("--fleet", str(fleet), listen=listen) as service:
        assert listed(listen) == {}
        fleet.write_text('[uris]\nconnect = "qemu:///system"\n')
        service.send_signal(signal.SIGHUP)
        assert "uris.connect: has no {host}" in _line(service, "the fleet stays")
    config.write_text('[announced]\nhosts = "refuse"\n')
    alone = [str(PROGRAM), "serve", "--config", str(config), "--fleet", str(fleet)]
    fleet.write_text("[defaults]\nin_flight = 2\n")
    refused = subprocess.run(alone, capture_output=True, text=True, check=False, timeout=60)
    assert (refused.returncode, "no host is listed" in refused.stderr) == (1, True)


def test_without_a_fleet_file_it_starts_where_hosts_may_announce_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VIRT_PREFLIGHT_FLEET", raising=False)
    with program(listen=f"unix:{tmp_path}/c"):
        assert listed(f"unix:{tmp_path}/c") == {}
