import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import grpc
import pytest

from tests.controller.fakes import Fails, FakeAgent, FakeFleet, Hangs, objects, running
from tests.controller.samples import (
    CHECKS,
    DOMAIN_XML,
    NO_DOMAINS,
    UUID,
    WIRE_BRIDGE,
    destination,
    domain,
    prepared,
    source,
    wire_report,
)
from virt_preflight.controller import asking
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import Heard, Late, Silent, Unasked, Unreached
from virt_preflight.controller.asking import Asker, Watch, unwatched
from virt_preflight.controller.fanout import Pace
from virt_preflight.controller.fleet import from_names
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import Asked, GuestFile, Question, Questions
from virt_preflight.controller.trouble import CannotRunError, MisusedError
from virt_preflight.v1 import agent_pb2

T = TypeVar("T")
PACE = Pace(each_s=5, all_s=60, in_flight=16)
LIVE = MigrationOptions(live=True, p2p=True)
DB1 = Question(guest="db1", options=LIVE, questions=Questions())
FROM_FILE = replace(DB1, guest=GuestFile(name="new.xml", xml=DOMAIN_XML))
OFFLINE = replace(DB1, options=MigrationOptions(offline=True))
OTHER_UUID = "00000000-0000-4000-8000-000000000002"


def ask(fleet: FakeFleet, question: Question = DB1, *, each_s: float = 5) -> Asked:
    return asyncio.run(
        with_asker(fleet, partial(asking.ask, question), pace=replace(PACE, each_s=each_s))
    )


async def with_asker(
    fleet: FakeFleet,
    do: Callable[[Asker], Awaitable[T]],
    *,
    pace: Pace = PACE,
    watch: Watch = unwatched,
) -> T:
    async with Agents(at_most=16) as agents:
        known = from_names(fleet.hosts)
        return await do(Asker(fleet=known, agents=agents, pace=pace, brisk=pace, watch=watch))


def why_not(fleet: FakeFleet, question: Question = DB1) -> str:
    with pytest.raises(CannotRunError) as error:
        ask(fleet, question)
    return str(error.value)


def misuse(fleet: FakeFleet, question: Question) -> str:
    with pytest.raises(MisusedError) as error:
        ask(fleet, question)
    return str(error.value)


def test_the_guest_is_found_and_all_other_hosts_are_asked() -> None:
    with running(source("h2"), destination("h1"), destination("h3", WIRE_BRIDGE)) as fleet:
        asked = ask(fleet)
    assert (asked.name, asked.uuid, asked.source) == ("db1", UUID, "h2")
    assert [answer.host for answer in asked.answers] == ["h1", "h3"]
    assert all(isinstance(answer, Heard) for answer in asked.answers)


def test_what_the_source_gave_reaches_every_destination_byte_for_byte() -> None:
    with running(source(), destination("h2"), destination("h3")) as fleet:
        ask(fleet)
    (second,), (third,) = (
        fleet["h2"].requests("PrepareDryRun"),
        fleet["h3"].requests("PrepareDryRun"),
    )
    assert second == third
    guest = agent_pb2.PrepareDryRunRequest.FromString(second).guests[0]
    assert (guest.domain_xml, guest.origin.host.name) == (DOMAIN_XML, "h1")


def test_the_source_is_asked_by_uuid_for_a_name_may_change_hands() -> None:
    with running(source(), destination("h2")) as fleet:
        ask(fleet)
    (request,) = fleet["h1"].requests("BeginDryRun")
    assert agent_pb2.BeginDryRunRequest.FromString(request).domain == UUID


def test_only_the_destinations_named_are_asked_in_the_order_named() -> None:
    with running(source(), *(destination(f"h{number}") for number in (2, 3, 4))) as fleet:
        asked = ask(fleet, replace(DB1, to_hosts=("h4", "h2")))
    assert [answer.host for answer in asked.answers] == ["h4", "h2"]
    assert fleet["h3"].requests("PrepareDryRun") == []


def test_with_from_a_guest_of_that_name_elsewhere_does_not_count() -> None:
    with running(source(), source("h2", PrepareDryRun=prepared(wire_report()))) as fleet:
        assert ask(fleet, replace(DB1, from_host="h1")).source == "h1"


def test_the_source_is_asked_whether_it_knows_what_destinations_call_themselves() -> None:
    third = destination("h3", ListDomains=agent_pb2.ListDomainsResponse(migration_host="c.example"))
    for question in (DB1, replace(DB1, from_host="h1")):
        second = destination(
            "h2", ListDomains=agent_pb2.ListDomainsResponse(migration_host="b.example")
        )
        with running(source(), second, third) as fleet:
            ask(fleet, replace(question, to_hosts=("h2",)))
        (request,) = fleet["h1"].requests("BeginDryRun")
        assert agent_pb2.BeginDryRunRequest.FromString(request).migration_hosts == ["b.example"]


def test_with_an_address_from_the_user_nobody_has_to_say_what_it_is_called() -> None:
    given = replace(DB1, from_host="h1", options=MigrationOptions(migrateuri="tcp://h2"))
    with running(source(), destination("h2")) as fleet:
        ask(fleet, given)
        assert fleet["h2"].requests("ListDomains") == []


def test_a_destination_that_does_not_say_what_it_is_called_is_not_in_the_list() -> None:
    with running(source(), destination("h2", ListDomains=Hangs()), destination("h3")) as fleet:
        ask(fleet)
    (request,) = fleet["h1"].requests("BeginDryRun")
    assert agent_pb2.BeginDryRunRequest.FromString(request).migration_hosts == []


def test_a_guest_that_seems_to_run_twice_needs_from() -> None:
    with running(source(), source("h2"), destination("h3")) as fleet:
        assert re.search("db1 runs on h1, h2: say which with --from", why_not(fleet))


def test_a_guest_that_runs_here_and_is_defined_there_is_here() -> None:
    off = domain(agent_pb2.DOMAIN_STATE_SHUT_OFF)
    with running(source(), destination("h2", ListDomains=off)) as fleet:
        assert ask(fleet).source == "h1"


def test_an_id_may_mean_another_guest_on_each_host() -> None:
    one, other = domain(), domain(uuid=OTHER_UUID)
    one.domains[0].id = other.domains[0].id = 3
    with running(source(ListDomains=one), destination("h2", ListDomains=other)) as fleet:
        assert re.search("3 runs on h1, h2", why_not(fleet, replace(DB1, guest="3")))


def test_two_guests_of_one_host_need_the_uuid() -> None:
    both = agent_pb2.ListDomainsResponse(domains=[*domain().domains, *domain().domains])
    with running(source(ListDomains=both), destination("h2")) as fleet:
        assert re.search("h1 has 2 guests that db1 may mean: give the UUID", why_not(fleet))


def test_a_guest_that_is_shut_off_moves_only_offline() -> None:
    off = domain(agent_pb2.DOMAIN_STATE_SHUT_OFF)
    with running(source(ListDomains=off), destination("h2")) as fleet:
        assert why_not(fleet) == (
            "db1 is shut off on h1: only its definition can be moved, with --offline --persistent"
        )
        asked = ask(fleet, OFFLINE)
    assert asked.source == "h1"


def test_a_guest_defined_on_several_hosts_needs_from_to_move_offline() -> None:
    off = domain(agent_pb2.DOMAIN_STATE_SHUT_OFF)
    with running(source(ListDomains=off), destination("h2", ListDomains=off)) as fleet:
        assert re.search(
            "db1 is on h1, h2: say which with --from",
            why_not(fleet, OFFLINE),
        )


def test_a_guest_that_nobody_has_is_told() -> None:
    with running(destination("h1"), destination("h2")) as fleet:
        assert re.search("^no host has a guest db1$", why_not(fleet))


def test_who_did_not_answer_might_have_the_guest_that_nobody_has() -> None:
    with (
        running(destination("h1"), absent=("h2", "h3")) as fleet,
        pytest.raises(
            CannotRunError,
            match=r"no host that answered has a guest db1; 2 of 3 hosts did not answer and"
            r" may have it: h2, h3: no such socket\. Start virt-",
        ),
    ):
        ask(fleet)


@pytest.mark.parametrize("questions", [Questions(), Questions(only=("nics",))])
def test_when_nobody_answers_that_is_the_answer(questions: Questions) -> None:
    with running(absent=("h1", "h2")) as fleet:
        asked = ask(fleet, replace(DB1, questions=questions))
        assert (asked.name, asked.uuid, asked.source) == ("db1", "", None)
        assert [(answer.host, type(answer)) for answer in asked.answers] == [
            ("h1", Unreached),
            ("h2", Unreached),
        ]
        assert [one.host for one in ask(fleet, replace(DB1, to_hosts=("h2",))).answers] == ["h2"]


def test_with_from_the_trouble_is_that_host_s() -> None:
    with running(destination("h1"), absent=("h2",)) as fleet:
        assert why_not(fleet, replace(DB1, from_host="h1")) == "h1 has no guest db1"
        asked = ask(fleet, replace(DB1, from_host="h2"))
    assert asked.source == "h2"
    (answer,) = asked.answers
    assert isinstance(answer, Unasked)
    assert (answer.host, answer.why) == ("h1", "not asked: h2: no such socket")
    assert answer.next_step.startswith("Start virt-preflight-agent on h2, or check that it listens")
    assert answer.next_step.endswith(". Or leave out --from: db1 may be elsewhere by now.")


def test_destinations_are_not_asked_when_the_source_does_not_say_what_the_guest_needs() -> None:
    broken = source(BeginDryRun=Fails(grpc.StatusCode.INTERNAL, "no XML"))
    with running(broken, destination("h2")) as fleet:
        asked = ask(fleet)
    assert (asked.source, asked.source_report) == ("h1", None)
    assert asked.answers == (
        Unasked(
            host="h2",
            why="not asked: h1 did not say what the guest needs: internal: no XML",
        ),
    )
    assert fleet["h2"].requests("PrepareDryRun") == []


def test_one_host_s_trouble_is_listed_and_never_the_whole_answer_s() -> None:
    with running(
        source(),
        destination("h2"),
        destination("h3", PrepareDryRun=b"\xff"),
        destination("h4", PrepareDryRun=prepared()),
        destination("h5", PrepareDryRun=Hangs()),
        absent=("h6",),
    ) as fleet:
        asked = ask(fleet, each_s=1.5)
    assert [getattr(answer, "why", None) for answer in asked.answers] == [
        None,
        "answered wrongly: its answer is not a PrepareDryRunResponse",
        "answered wrongly: it gave 0 reports for one guest",
        "no answer within 1.5 s",
        "no such socket",
    ]


def test_a_host_that_let_its_time_pass_is_waited_for_once() -> None:
    late = destination("h2", ListDomains=Hangs())
    with running(source(), late, destination("h3")) as fleet:
        asked = ask(fleet, each_s=1.5)
    assert isinstance(asked.answers[0], Late)
    assert asked.answers[0].why == "no answer within 1.5 s"
    assert fleet["h2"].requests("PrepareDryRun") == []


def test_a_host_that_cannot_list_guests_may_still_take_one() -> None:
    odd = destination("h2", ListDomains=Fails(grpc.StatusCode.INTERNAL, "libvirt is down"))
    with running(source(), odd) as fleet:
        assert isinstance(ask(fleet).answers[0], Heard)


def test_a_guest_from_a_file_has_no_source_and_all_hosts_are_asked() -> None:
    with running(destination("h1"), destination("h2")) as fleet:
        asked = ask(fleet, FROM_FILE)
    assert (asked.source, asked.source_report) == (None, None)
    assert (asked.name, asked.uuid) == ("db1", UUID)
    assert [answer.host for answer in asked.answers] == ["h1", "h2"]
    request = agent_pb2.PrepareDryRunRequest.FromString(fleet["h1"].requests("PrepareDryRun")[0])
    assert request.guests[0].domain_xml == DOMAIN_XML
    assert not request.guests[0].HasField("origin")


def test_a_guest_from_a_file_has_no_name_when_nobody_answers() -> None:
    with running(absent=("h1",)) as fleet:
        assert (ask(fleet, FROM_FILE).name, ask(fleet, FROM_FILE).uuid) == ("", "")


def test_bad_xml_is_one_error_and_not_a_silent_fleet() -> None:
    bad = objects(("guests[0].domain_xml", "no <name>"))
    with (
        running(
            destination("h1", PrepareDryRun=bad),
            destination("h2", PrepareDryRun=bad),
            absent=("h3",),
        ) as fleet,
        pytest.raises(CannotRunError, match=r"^new.xml: no <name> \(says h1 and 1 more\)$"),
    ):
        ask(fleet, FROM_FILE)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("options.migrate_disks", "--migrate-disks: is bad"),
        ("questions.only", "--only: is bad"),
        ("options.xml", "dest.xml: is bad"),
        ("guests[0].origin", "guests[0].origin: is bad"),
        ("", "is bad"),
    ],
)
def test_an_objection_is_told_by_the_word_it_was_given_with(field: str, told: str) -> None:
    bad = objects((field, "is bad"))
    question = replace(DB1, options=replace(LIVE, xml=b"<x/>", xml_file="dest.xml"))
    with running(source(BeginDryRun=bad), destination("h2")) as fleet:
        error = why_not(fleet, question)
    assert error == f"{told} (says h1)"


def test_when_others_can_answer_the_one_that_objects_is_listed() -> None:
    older = destination("h2", PrepareDryRun=objects(("questions.only", "no check nics")))
    with running(source(), older, destination("h3")) as fleet:
        asked = ask(fleet)
    assert isinstance(asked.answers[0], Silent)
    assert asked.answers[0].why == "refused the question: questions.only: no check nics"
    assert isinstance(asked.answers[1], Heard)


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (replace(DB1, to_hosts=("h9",)), r"--to h9: not in the fleet \(h1, h2, h3\)"),
        (replace(DB1, from_host="h9"), "--from h9: not in the fleet"),
        (replace(DB1, from_host="h1", to_hosts=("h1",)), "--to h1: is the host that the guest"),
        (replace(DB1, to_hosts=("h1",)), "--to h1: db1 is there already"),
        (
            replace(DB1, options=MigrationOptions(desturi="qemu+tls://h2/system")),
            "--desturi is for one destination: name it with --to",
        ),
        (
            replace(DB1, to_hosts=("h2", "h3"), options=MigrationOptions(migrateuri="tcp://x")),
            "--migrateuri is for one destination",
        ),
        (replace(DB1, questions=Questions(waive=("nics.typo",))), "--waive nics.typo: no such"),
    ],
)
def test_a_question_that_makes_no_sense_is_a_misuse(question: Question, told: str) -> None:
    with running(source(), destination("h2"), destination("h3")) as fleet:
        assert re.search(told, misuse(fleet, question))
    assert fleet["h2"].requests("PrepareDryRun") == []


def test_a_destination_uri_is_fine_for_one_destination() -> None:
    options = MigrationOptions(desturi="qemu+tls://h2/system")
    with running(source(), destination("h2"), destination("h3")) as fleet:
        assert len(ask(fleet, replace(DB1, options=options, to_hosts=("h2",))).answers) == 1


def test_a_destination_uri_of_another_host_is_a_misuse() -> None:
    options = MigrationOptions(desturi="qemu+tls://h3/system")
    with running(source(), destination("h2"), destination("h3")) as fleet:
        said = misuse(fleet, replace(DB1, options=options, to_hosts=("h2",)))
    assert said == "--desturi qemu+tls://h3/system: is h3, and h2 is to be asked"


def test_a_destination_uri_of_a_host_outside_the_fleet_is_left_to_the_user() -> None:
    options = MigrationOptions(desturi="qemu+tls://h2.migration.example/system")
    with running(source(), destination("h2")) as fleet:
        assert len(ask(fleet, replace(DB1, options=options, to_hosts=("h2",))).answers) == 1


def test_a_fleet_of_one_has_no_destination() -> None:
    with running(source()) as fleet:
        assert re.search("h1 is the only host of the fleet", why_not(fleet))


def test_where_no_agent_lists_its_checks_a_list_of_them_cannot_be_had() -> None:
    silent = [FakeAgent("h1", {}), FakeAgent("h2", {})]
    with (
        running(*silent) as fleet,
        pytest.raises(CannotRunError, match=r"no agent lists its checks: h[12], h[12]: no age"),
    ):
        asyncio.run(with_asker(fleet, asking.ask_for_checks))


def test_checks_that_are_selected_are_left_to_the_agents_where_none_lists_any() -> None:
    refuses = objects(("questions.only", "no check or family 'nix'"))
    question = replace(DB1, questions=Questions(only=("nix",)))
    with running(source(ListChecks=b"", BeginDryRun=refuses), absent=("h2",)) as fleet:
        assert why_not(fleet, question) == "--only: no check or family 'nix' (says h1)"


def test_whoever_answers_first_lists_the_checks() -> None:
    with running(FakeAgent("h1", {}), FakeAgent("h2", {"ListChecks": CHECKS})) as fleet:
        catalogue = asyncio.run(with_asker(fleet, asking.ask_for_checks))
    assert (catalogue.host, len(catalogue.checks)) == ("h2", 2)


def test_every_stage_is_watched_with_its_number_of_hosts() -> None:
    stages: list[tuple[str, int]] = []
    answered: list[None] = []

    def watch(what: str, of: int) -> Callable[[], None]:
        stages.append((what, of))
        return lambda: answered.append(None)

    with running(source(), destination("h2", ListDomains=NO_DOMAINS)) as fleet:
        asyncio.run(with_asker(fleet, partial(asking.ask, DB1), watch=watch))
    assert stages == [("looking for db1", 2), ("asking h1", 1), ("asking", 1)]
    assert len(answered) == 4


def test_one_connection_to_a_host_serves_all_questions() -> None:
    agents = [source(), destination("h2")]
    with running(*agents) as fleet:
        fleet.addresses = fleet.tcp_addresses
        ask(fleet, replace(DB1, questions=Questions(only=("nics",))))
    assert all(len(agent.callers) >= 2 for agent in agents)
    assert [len(set(agent.callers)) for agent in agents] == [1, 1]
