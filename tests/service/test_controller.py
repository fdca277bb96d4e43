"""The controller as a service, over real gRPC, with agents that say what a test tells them to."""

import contextlib
import logging
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from tests.controller.fakes import Fails, FakeAgent, FakeFleet, Hangs, objects, running
from tests.controller.samples import (
    DOMAIN_XML,
    UUID,
    WIRE_BRIDGE,
    WIRE_LACK,
    WIRE_PASSTHROUGH,
    destination,
    domain,
    prepared,
    source,
    wire_report,
)
from tests.controller.test_commands import DESCRIBED
from tests.service.controllers import PROGRAM, controller, program, until
from virt_preflight.controller import cli, exchange
from virt_preflight.controller.client import BusyError, Controller, ServiceError
from virt_preflight.controller.fleet import Fleet, FleetHost, from_names
from virt_preflight.controller.question import GuestFile
from virt_preflight.controller.settings import Limits
from virt_preflight.controller.trouble import (
    BadFieldError,
    NothingToAskError,
    RefusedByHostsError,
)
from virt_preflight.v1 import (
    agent_pb2,
    controller_pb2,
    controller_pb2_grpc,
    guest_pb2,
    report_pb2,
)

DB1 = controller_pb2.GuestChoice(name="db1")
FORMS = ("table", "wide", "json", "jsonl", "yaml", "name")


@contextlib.contextmanager
def stub(address: str) -> Iterator[controller_pb2_grpc.ControllerServiceStub]:
    with grpc.insecure_channel(address) as channel:
        yield controller_pb2_grpc.ControllerServiceStub(channel)


def slowly(host: str, after_s: float) -> FakeAgent:
    def answer(_: bytes) -> agent_pb2.PrepareDryRunResponse:
        time.sleep(after_s)
        return prepared(wire_report())

    return destination(host, PrepareDryRun=answer)


def patient(fleet: FakeFleet) -> Fleet:
    """One whose hosts are waited for on a busy machine, too."""
    return replace(from_names(fleet.hosts), timeout_s=60, deadline_s=120)


# ------------------------------------------------------------------------------------ DryRun


def test_the_guest_comes_first_then_each_host_as_it_answers_then_the_ranking() -> None:
    slow = slowly("h2", 0.4)
    with (
        running(source(), slow, destination("h3", WIRE_BRIDGE)) as fleet,
        controller(fleet.hosts) as address,
        stub(address) as asked,
    ):
        said = list(asked.DryRun(controller_pb2.DryRunRequest(guests=[DB1])))
    assert [one.WhichOneof("said") for one in said] == ["found", "answer", "answer", "ranking"]
    assert said[0].found.name == controller_pb2.GuestName(name="db1", uuid=UUID, source="h1")
    assert said[0].found.hosts == 2
    assert [(one.answer.host, one.answer.verdict) for one in said[1:3]] == [
        ("h3", report_pb2.VERDICT_BLOCKED),
        ("h2", report_pb2.VERDICT_CLEAR),
    ]
    best, worst = said[3].ranking.candidates
    assert (best.host, best.rank, best.verdict) == ("h2", 1, report_pb2.VERDICT_CLEAR)
    assert best.command.startswith("virsh -c qemu+ssh://h1/system migrate --live --p2p db1")
    assert (worst.host, worst.rank, worst.command) == ("h3", 0, "")
    assert worst.checks == ["nics.bridge-absent"]
    assert [(one.check, one.hosts) for one in said[3].ranking.reasons] == [
        ("nics.bridge-absent", 1)
    ]


def test_the_first_answer_is_told_while_others_are_waited_for() -> None:
    hung = destination("h2", PrepareDryRun=Hangs())
    with (
        running(source(), hung, destination("h3")) as fleet,
        controller(fleet.hosts) as address,
        stub(address) as asked,
    ):
        started = time.monotonic()
        call = asked.DryRun(controller_pb2.DryRunRequest(guests=[DB1]), timeout=20)
        next(call)
        assert next(call).answer.host == "h3"
        assert time.monotonic() - started < 3, "the fleet waits 5 s for a host"
        call.cancel()


def test_several_guests_each_have_their_answers_and_their_own_failure() -> None:
    def of_that_name(request: bytes) -> agent_pb2.ListDomainsResponse:
        name = agent_pb2.ListDomainsRequest.FromString(request).domain
        return domain() if name == "db1" else agent_pb2.ListDomainsResponse()

    choices = [DB1, controller_pb2.GuestChoice(name="db9"), DB1]
    with (
        running(source(ListDomains=of_that_name), destination("h2")) as fleet,
        controller(fleet.hosts) as address,
        stub(address) as asked,
    ):
        said = list(asked.DryRun(controller_pb2.DryRunRequest(guests=choices)))
    by_guest = [
        [one.WhichOneof("said") for one in said if one.guest == number] for number in range(3)
    ]
    assert by_guest == [["found", "answer", "ranking"], ["failure"], ["found", "answer", "ranking"]]
    (failed,) = [one.failure for one in said if one.WhichOneof("said") == "failure"]
    assert failed == controller_pb2.Failure(
        reason="NO_SUCH_GUEST", message="no host has a guest db9"
    )


def test_what_agents_may_know_from_before_is_the_callers_choice() -> None:
    with running(source(), destination("h2")) as fleet, controller(fleet.hosts) as address:
        with stub(address) as asked:
            asked.Rank(controller_pb2.RankRequest(guest=DB1))
            anew = guest_pb2.Questions()
            anew.max_age.SetInParent()
            asked.Rank(
                controller_pb2.RankRequest(guest=DB1, move=controller_pb2.Move(questions=anew))
            )
        asked_with = [
            agent_pb2.PrepareDryRunRequest.FromString(request).questions
            for request in fleet["h2"].requests("PrepareDryRun")
        ]
    assert [one.HasField("max_age") for one in asked_with] == [False, True]
    assert {one.depth for one in asked_with} == {guest_pb2.DEPTH_LIBVIRT}


# -------------------------------------------------------------------------------------- Rank


def test_the_best_so_many_are_given_and_how_many_there_are() -> None:
    hosts = [destination(f"h{n}", free_gib=n) for n in range(10, 14)]
    with (
        running(source(), *hosts, destination("h2", WIRE_BRIDGE)) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        ranking = asked.rank("db1", best=2)
        everyone = asked.rank("db1")
    assert [one.host for one in ranking.best] == ["h13", "h12"]
    assert (ranking.hosts, ranking.takers, ranking.source) == (5, 4, "h1")
    assert [one.host for one in everyone.best] == ["h13", "h12", "h11", "h10"]
    assert [reason.check for reason in ranking.reasons] == ["nics.bridge-absent"]


def test_at_the_deadline_the_answer_has_what_there_is_and_names_who_is_missing() -> None:
    """One that never finds guests, one that never answers the question itself, one absent."""
    deaf = destination("h2", ListDomains=Hangs())
    mute = destination("h3", PrepareDryRun=Hangs())
    with (
        running(source(), deaf, mute, destination("h4"), absent=("h5",)) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        # gRPC itself would end the call at that time, and then there would be no answer.
        ranking = asked.rank("db1", within_s=4)
    assert [one.host for one in ranking.best] == ["h4"]
    assert {one.host for one in ranking.missing} == {"h2", "h3", "h5"}
    assert ranking.hosts == 4
    assert all(one.why for one in ranking.missing)


def test_hosts_are_chosen_by_their_labels() -> None:
    with running(source(), destination("h2"), destination("h3"), destination("h4")) as fleet:
        racks = {"h1": "r1", "h2": "r1", "h3": "r2", "h4": "r2"}
        labelled = Fleet(
            hosts=tuple(
                FleetHost(
                    name=name,
                    address=at,
                    labels=(("rack", racks[name]), ("ssd", "yes" if name == "h4" else "no")),
                )
                for name, at in fleet.addresses.items()
            )
        )
        with controller(labelled) as address, Controller(address) as asked:
            one = asked.rank("db1", labels=["rack=r2", "ssd=yes"])
            with pytest.raises(NothingToAskError, match="no other host has the label rack=r3"):
                asked.rank("db1", labels=["rack=r3"])
            with pytest.raises(BadFieldError, match="wanted key=value"):
                asked.rank("db1", labels=["rack"])
            listed = asked.hosts(labels=["rack=r1"])
        assert fleet["h2"].requests("PrepareDryRun") == []
    assert [it.host for it in one.best] == ["h4"]
    assert [host.name for host, _ in listed] == ["h1", "h2"]


def test_a_guest_from_a_file_has_no_source_and_no_command() -> None:
    with (
        running(destination("h1"), destination("h2")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        ranking = asked.rank(GuestFile(name="new.xml", xml=DOMAIN_XML))
    assert (ranking.name, ranking.source, ranking.takers) == ("db1", "", 2)
    assert [one.command for one in ranking.best] == ["", ""]


# ------------------------------------------------------------------------------ wrong requests


@pytest.mark.parametrize(
    ("request_", "field", "said"),
    [
        (controller_pb2.DryRunRequest(), "guests", "are 0: wanted 1 to 256"),
        (controller_pb2.DryRunRequest(guests=[DB1] * 10_000), "guests", "are 10000: wanted 1 to"),
        (
            controller_pb2.DryRunRequest(guests=[DB1, controller_pb2.GuestChoice()]),
            "guests[1]",
            "neither a name nor a file",
        ),
        (
            controller_pb2.DryRunRequest(guests=[controller_pb2.GuestChoice(name=" ")]),
            "guests[0].name",
            "is empty",
        ),
        (
            controller_pb2.DryRunRequest(
                guests=[
                    controller_pb2.GuestChoice(file=controller_pb2.GuestFile(domain_xml=b"a\n\xff"))
                ]
            ),
            "guests[0].file.domain_xml",
            "is not UTF-8 (at line 2)",
        ),
        (
            controller_pb2.DryRunRequest(
                guests=[DB1], move=controller_pb2.Move(to_hosts=["h2", "h9"])
            ),
            "move.to_hosts",
            "h9: not in the fleet (h1, h2)",
        ),
        (
            controller_pb2.DryRunRequest(
                guests=[DB1],
                move=controller_pb2.Move(
                    options=guest_pb2.MigrationOptions(live=True, offline=True)
                ),
            ),
            "move.options.live",
            "and --offline exclude each other",
        ),
        (
            controller_pb2.DryRunRequest(
                guests=[DB1],
                move=controller_pb2.Move(questions=guest_pb2.Questions(only=["nics.bridges"])),
            ),
            "move.questions.only",
            "nics.bridges: no such check",
        ),
        (
            controller_pb2.DryRunRequest(
                guests=[DB1],
                move=controller_pb2.Move(
                    questions=guest_pb2.Questions(depth=77)  # type: ignore[arg-type]
                ),
            ),
            "move.questions.depth",
            "there is no such depth",
        ),
    ],
)
def test_a_wrong_request_is_an_invalid_argument_that_names_the_field(
    request_: controller_pb2.DryRunRequest, field: str, said: str
) -> None:
    with (
        running(source(), destination("h2")) as fleet,
        controller(fleet.hosts) as address,
        stub(address) as asked,
        pytest.raises(grpc.RpcError) as error,
    ):
        list(asked.DryRun(request_))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(error.value)
    info, bad = ErrorInfo(), BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.domain, info.reason) == ("virt-preflight", "MISUSED")
    (violation,) = bad.field_violations
    assert violation.field == field
    assert said in violation.description
    assert status.message == f"{field}: {violation.description}"


def test_a_timeout_of_no_time_is_refused() -> None:
    move = controller_pb2.Move()
    move.timeout.SetInParent()
    with (
        controller("h1=unix:/nowhere") as address,
        stub(address) as asked,
        pytest.raises(grpc.RpcError, match=r"move\.timeout: 0 s: wanted more than 0"),
    ):
        asked.Rank(controller_pb2.RankRequest(guest=DB1, move=move))


def status_of(fleet: FakeFleet, code: grpc.StatusCode) -> str:
    with controller(fleet.hosts) as address, stub(address) as asked:
        with pytest.raises(grpc.RpcError) as error:
            asked.Rank(controller_pb2.RankRequest(guest=DB1))
        assert error.value.code() is code
        return str(error.value.details())


def test_a_guest_that_no_host_has_is_not_found() -> None:
    with running(destination("h1"), destination("h2")) as fleet:
        assert status_of(fleet, grpc.StatusCode.NOT_FOUND) == "no host has a guest db1"


def test_a_guest_on_two_hosts_is_a_failed_precondition() -> None:
    with running(source("h1"), source("h2"), destination("h3")) as fleet:
        said = status_of(fleet, grpc.StatusCode.FAILED_PRECONDITION)
    assert said == "db1 runs on h1, h2: say which with --from"


def test_what_all_agents_object_to_is_an_invalid_argument_in_their_words() -> None:
    refuse = objects(("guests[0].domain_xml", "no XML (at line 1)"))
    with (
        running(destination("h1", PrepareDryRun=refuse)) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
        pytest.raises(RefusedByHostsError) as error,
    ):
        asked.rank(GuestFile(name="new.xml", xml=b"<domain"))
    assert str(error.value) == "new.xml: no XML (at line 1) (says h1)"
    assert error.value.objections == (("guest.file.domain_xml", "no XML (at line 1)"),)


def test_one_hosts_trouble_is_never_the_answers_error() -> None:
    broken = destination("h2", PrepareDryRun=Fails(grpc.StatusCode.INTERNAL, "boom"))
    garbage = destination("h3", PrepareDryRun=b"\xff\xff")
    with (
        running(source(), broken, garbage, destination("h4")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        ranking = asked.rank("db1")
    assert [one.host for one in ranking.best] == ["h4"]
    assert {one.host: one.why for one in ranking.missing} == {
        "h2": "internal: boom",
        "h3": "answered wrongly: its answer is not a PrepareDryRunResponse",
    }


# ---------------------------------------------------------------------------------- the limits


def test_beyond_the_limit_of_requests_the_answer_is_at_once_resource_exhausted() -> None:
    hung = destination("h2", PrepareDryRun=Hangs())
    limits = Limits(requests=8, requests_per_caller=2)
    with (
        running(source(), hung) as fleet,
        controller(fleet.hosts, limits=limits) as address,
        stub(address) as asked,
        Controller(address) as other,
    ):
        request = controller_pb2.RankRequest(guest=DB1)
        inside = [asked.Rank.future(request, timeout=20) for _ in range(2)]
        until(lambda: len(fleet["h2"].requests("PrepareDryRun")) == 2)
        started = time.monotonic()
        with pytest.raises(BusyError, match="2 requests of unix: are under way already"):
            other.rank("db1")
        assert time.monotonic() - started < 10, "those inside have 20 s"
        for one in inside:
            one.cancel()
        until(lambda: _is_let_in(other), within_s=60)


def _is_let_in(asked: Controller) -> bool:
    try:
        asked.rank("db1", within_s=3)
    except BusyError:
        return False
    return True


def test_a_request_larger_than_the_limit_is_refused_at_once() -> None:
    with (
        running(destination("h1")) as fleet,
        controller(fleet.hosts, limits=Limits(message_mib=1)) as address,
        Controller(address) as asked,
        pytest.raises(BusyError, match="larger than max"),
    ):
        asked.rank(GuestFile(name="new.xml", xml=b" " * 2**21))


# ------------------------------------------------------------------- time, cancelling, coming back


def test_who_asked_and_left_has_nobody_asked_for_him_any_longer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "virt_preflight.calls")
    left = threading.Event()

    def attentive(_: bytes) -> agent_pb2.PrepareDryRunResponse:
        left.wait(60)
        return prepared(wire_report())

    second = [destination(f"h{n}", PrepareDryRun=attentive) for n in range(2, 6)]
    with running(source(), *second) as fleet:
        one_by_one = replace(patient(fleet), in_flight=1)
        with controller(one_by_one) as address, stub(address) as asked:
            call = asked.DryRun(controller_pb2.DryRunRequest(guests=[DB1]), timeout=60)
            until(lambda: len(_asked(fleet)) == 1, within_s=60)
            call.cancel()
            # Before that the next host may be asked: the controller does not know yet that he left.
            until(lambda: "DryRun: CANCELLED" in caplog.text, within_s=60)
            left.set()
            time.sleep(0.3)
            assert len(_asked(fleet)) == 1


def _asked(fleet: FakeFleet) -> list[bytes]:
    return [one for agent in fleet.agents.values() for one in agent.requests("PrepareDryRun")]


def test_a_host_that_went_away_comes_back_by_itself() -> None:
    with tempfile.TemporaryDirectory(prefix="vp-") as place:
        # A socket of its own, where a second agent listens when the first is gone.
        at = f"{place}/h2"
        with (
            running(source()) as fleet,
            controller(f"{fleet.hosts},h2=unix:{at}") as address,
            Controller(address) as asked,
        ):
            assert [one.host for one in asked.rank("db1").missing] == ["h2"]
            with running(destination("h2")) as late:
                Path(at).symlink_to(late.addresses["h2"].removeprefix("unix:"))
                assert [one.host for one in asked.rank("db1").best] == ["h2"]
            Path(at).unlink()
            assert [one.host for one in asked.rank("db1").missing] == ["h2"]
            with running(destination("h2")) as again:
                Path(at).symlink_to(again.addresses["h2"].removeprefix("unix:"))
                assert [one.host for one in asked.rank("db1").best] == ["h2"]


def test_connections_to_agents_outlive_a_question() -> None:
    with running(source(), destination("h2")) as fleet:
        hosts = ",".join(f"{name}={at}" for name, at in fleet.tcp_addresses.items())
        with controller(hosts) as address, Controller(address) as asked:
            for _ in range(5):
                asked.rank("db1")
        assert len(set(fleet["h2"].callers)) == 1
        assert len(fleet["h2"].callers) == 10


def test_many_ask_at_once_while_a_host_comes_and_goes() -> None:
    """A channel that is given up is not closed under those that still use it."""
    fickle = destination("h3", PrepareDryRun=Fails(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    with (
        running(source(), destination("h2"), fickle, absent=("h4",)) as fleet,
        controller(patient(fleet)) as address,
        Controller(address) as asked,
        ThreadPoolExecutor(16) as threads,
    ):
        rankings = list(threads.map(lambda _: asked.rank("db1", within_s=120), range(100)))
    assert {tuple(one.host for one in it.best) for it in rankings} == {("h2",)}
    assert {tuple(sorted(one.host for one in it.missing)) for it in rankings} == {("h3", "h4")}


# ------------------------------------------------------------------------------- the fleet


def described(host: str, **script: object) -> FakeAgent:
    return destination(host, DescribeHost=DESCRIBED, **script)  # type: ignore[arg-type]


def test_a_watcher_sees_all_hosts_and_then_what_changes() -> None:
    running_guests = [3]

    def describe(_: bytes) -> agent_pb2.DescribeHostResponse:
        said = agent_pb2.DescribeHostResponse()
        said.CopyFrom(DESCRIBED)
        said.domains_running = running_guests[0]
        # Changes each time, and is none.
        said.facts_age.FromMilliseconds(int(time.monotonic() * 1000) % 100_000)
        return said

    with (
        running(FakeAgent("h1", {"DescribeHost": describe}), described("h2")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        with contextlib.closing(asked.watch_hosts(within_s=20)) as changes:
            assert [host.name for host, _ in next(changes)] == ["h1", "h2"]
            running_guests[0] = 4
            ((host, answer),) = next(changes)
        assert (host.name, answer.said.domains_running) == ("h1", 4)  # type: ignore[union-attr]
        until(lambda: _quiet(fleet))


def _quiet(fleet: FakeFleet) -> bool:
    """Nobody watches, so nobody is asked."""
    before = len(fleet["h1"].heard)
    time.sleep(0.3)
    return len(fleet["h1"].heard) == before


def test_a_service_that_stops_ends_what_is_watched() -> None:
    with running(described("h1")) as fleet:
        with controller(fleet.hosts) as address:
            asked = Controller(address)
            changes = asked.watch_hosts(within_s=20)
            next(changes)
        with asked, pytest.raises(ServiceError, match="unavailable"):
            next(changes)


# ---------------------------------------------------- the command line, with a service and without


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "words",
    [
        ("check", "db1"),
        ("check", "db1", "--to", "h2,h3,h4", "--strict"),
        ("check", "db1", "--suspend", "--tls", "--dname", "db 2", "--skip", "pages"),
        ("check", "db1", "--depth", "facts", "--from", "h1", "--xml", "FILE"),
        ("check", "--xml", "FILE"),
        ("check", "db1", "--only", "nics", "--waive", "nics.bridge-absent", "--timeout", "2"),
        ("hosts",),
        ("checks",),
        ("explain", "nics.bridge-absent"),
    ],
    ids=" ".join,
)
def test_the_output_is_the_same_to_the_byte(
    words: tuple[str, ...], form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new.xml"
    file.write_bytes(DOMAIN_XML)
    given = [str(file) if one == "FILE" else one for one in words]
    unsure = destination("h4", PrepareDryRun=prepared(wire_report(unanswered=[WIRE_LACK])))
    newer = report_pb2.Finding(check="new.check", severity=9, phase=9, side=1)  # type: ignore[arg-type]
    hosts = [
        source(
            "h1", WIRE_PASSTHROUGH, DescribeHost=DESCRIBED, PrepareDryRun=prepared(wire_report())
        ),
        described("h2"),
        described("h3", PrepareDryRun=prepared(wire_report(WIRE_BRIDGE, newer, WIRE_PASSTHROUGH))),
        unsure,
        destination("h5", PrepareDryRun=prepared(wire_report(verdict=9))),  # type: ignore[arg-type]
    ]
    for other in hosts[1:]:
        del other.script["ListChecks"]  # the list is that of whoever answers first
    with running(*hosts, absent=("h6",)) as fleet, controller(fleet.hosts) as address:
        codes, outputs = [], []
        for where in (["--hosts", fleet.hosts], ["--server", address]):
            codes.append(cli.run([*given, "-o", form, *where]))
            outputs.append(_timeless(capsys.readouterr().out))
    assert codes[0] == codes[1]
    assert outputs[0] == outputs[1]
    assert outputs[0], "there is something to compare"


def _timeless(output: str) -> str:
    """When it was asked and how long it took is another each time."""
    output = re.sub(r'"(tookMs)": [0-9]+', r'"\1": 0', output)
    output = re.sub(r"(tookMs): [0-9]+", r"\1: 0", output)
    output = re.sub(r'askedAt"?: "?\'?[-0-9T:Z]+', "askedAt", output)
    return re.sub(r"asked in [0-9.]+ s", "asked in 0 s", output)


@pytest.mark.parametrize(
    "words",
    [
        ("db9",),
        ("db1", "--to", "h9"),
        ("db1", "--to", "h1"),
        ("db1", "--from", "h9"),
        ("db1", "--live", "--offline"),
        ("db1", "--only", "nics.bridges"),
        ("db1", "--migrateuri", "tcp://h2"),
        ("db1", "--label", "rack=r1"),
        ("db1", "--allow", "bees"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_told_in_the_same_words(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    def of_that_name(request: bytes) -> agent_pb2.ListDomainsResponse:
        name = agent_pb2.ListDomainsRequest.FromString(request).domain
        return domain() if name == "db1" else agent_pb2.ListDomainsResponse()

    refuse = objects(("questions.allow", "nothing is called 'bees'"))
    begun: dict[str, object] = {"BeginDryRun": refuse} if "bees" in words else {}
    at_home = source(ListDomains=of_that_name, **begun)  # type: ignore[arg-type]
    told = []
    with (
        running(at_home, destination("h2"), destination("h3")) as fleet,
        controller(fleet.hosts) as address,
    ):
        for where in (["--hosts", fleet.hosts], ["--server", address]):
            code = cli.run(["check", *words, *where])
            told.append((code, capsys.readouterr()))
    assert told[0] == told[1]
    assert told[0][1].err


def test_of_a_fleet_file_a_command_that_asks_a_controller_takes_the_certificates_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fleet.toml"
    words = ["hosts", "-o", "name", "--fleet", str(file)]
    with running(described("h1")) as fleet, controller(fleet.hosts) as address:
        file.write_text("[[host]]\nname = 'h9'\n")
        assert cli.run([*words, "--server", address]) == 0
        assert capsys.readouterr().out == "h1\n"
        file.write_text("[tls]\nca = '/nowhere/ca.pem'\nclient_cert = '/nowhere/c.pem'\n")
        assert cli.run([*words, "--server", "192.0.2.1"]) == 1
        assert "not asked: /nowhere/ca.pem: no such file" in capsys.readouterr().err


def test_a_controller_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check", "db1", "--server", "unix:/nowhere"]) == 1
    assert capsys.readouterr().err == (
        "virt-preflight: controller at unix:/nowhere: unavailable: no such socket. Start"
        " virt-preflight-controller there, or check that it listens at unix:/nowhere.\n"
    )
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert cli.run(["hosts", "--server", address]) == 1
    assert capsys.readouterr().err == (
        f"virt-preflight: controller at {address}: unavailable: connection refused. Start"
        f" virt-preflight-controller there, or check that it listens at {address}.\n"
    )
    assert cli.run(["hosts", "--server", "no-such-host.invalid"]) == 1
    assert capsys.readouterr().err == (
        "virt-preflight: controller at no-such-host.invalid:50552: unavailable: name does not"
        " resolve. Name it by an address: --server ADDRESS.\n"
    )


def test_a_fleet_file_goes_before_a_controller_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(described("h1")) as fleet, controller(fleet.hosts) as address:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("VIRT_PREFLIGHT_SERVER", address)
        assert cli.run(["hosts", "-o", "name"]) == 0
        file = tmp_path / "fleet.toml"
        file.write_text('[[host]]\nname = "other"\naddress = "unix:/nowhere"\n')
        monkeypatch.setenv("VIRT_PREFLIGHT_FLEET", str(file))
        assert cli.run(["hosts", "-o", "name"]) == 5
        assert cli.run(["hosts", "-o", "name", "--server", address]) == 0
    assert capsys.readouterr().out == "h1\nh1\n"


# ------------------------------------------------------------------------------ the program


def test_health_and_reflection_are_there() -> None:
    with controller("h1=unix:/nowhere") as address, grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", exchange.SERVICE):
            said = health.Check(health_pb2.HealthCheckRequest(service=service))  # type: ignore[attr-defined]
            assert said.status == health_pb2.HealthCheckResponse.SERVING
        reflected = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        names = [one.name for one in next(reflected).list_services_response.service]
    assert "virt_preflight.v1.ControllerService" in names


def test_told_to_stop_it_takes_no_more_and_finishes_what_is_under_way(tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/c"
    with (
        running(source(), slowly("h2", 1.0)) as fleet,
        program("--hosts", fleet.hosts, listen=listen) as started,
        Controller(listen) as asked,
        ThreadPoolExecutor(1) as thread,
    ):
        under_way = thread.submit(asked.rank, "db1", within_s=10)
        until(lambda: fleet["h2"].requests("PrepareDryRun"))
        started.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        with pytest.raises(ServiceError), Controller(listen) as late:
            late.rank("db1", within_s=0.5)
        assert [one.host for one in under_way.result().best] == ["h2"]
        assert started.wait(5) == 0


def refused(*arguments: str) -> str:
    ended = subprocess.run(
        [PROGRAM, "serve", *arguments], capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 1, ended
    assert ended.stderr.count("\n") == 1
    return ended.stderr.removeprefix("virt-preflight: ").strip()


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused("--hosts", "h1", "--listen", f"127.0.0.1:{port}")
    assert said == f"cannot listen at 127.0.0.1:{port}: address already in use"


def test_a_socket_in_use_is_not_taken_away() -> None:
    with controller("h1=unix:/nowhere") as address:
        said = refused("--hosts", "h1", "--listen", address)
        assert said == f"cannot listen at {address}: somebody does already"


def test_an_unknown_key_is_named_with_its_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "controller.toml"
    file.write_text('listen = ["127.0.0.1:0"]\n\n[limits]\nrequest = 3\n')
    said = refused("--hosts", "h1", "--config", str(file))
    assert said == f"{file}: line 4: limits.request: there is no such key"


def test_beyond_loopback_it_wants_to_be_told_so() -> None:
    said = refused("--hosts", "h1", "--listen", "0.0.0.0:50999")
    assert said.startswith("0.0.0.0:50999 is not loopback, and there is no /etc/pki/")
    assert said.endswith("or say --insecure: then whoever reaches the port may ask")


def test_without_a_fleet_and_without_announcements_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VIRT_PREFLIGHT_FLEET", raising=False)
    config = tmp_path / "controller.toml"
    config.write_text('[announced]\nhosts = "refuse"\n')
    told = refused("--config", str(config))
    assert told.startswith("no fleet: give --hosts or --fleet; looked at ")
