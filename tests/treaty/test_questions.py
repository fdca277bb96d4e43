from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2

from virt_preflight.treaty.questions import READER_BY_METHOD, asked, guests_in, outcome
from virt_preflight.treaty.roles import Role
from virt_preflight.v1 import agent_pb2, controller_pb2, guest_pb2, report_pb2

AGENT, CONTROLLER = "/virt_preflight.v1.AgentService/", "/virt_preflight.v1.ControllerService/"
PROTO = Path(agent_pb2.__file__).parent
DEPTHS = {
    guest_pb2.DEPTH_UNSPECIFIED: Role.SCHEDULER,
    guest_pb2.DEPTH_FACTS: Role.SCHEDULER,
    guest_pb2.DEPTH_LIBVIRT: Role.SCHEDULER,
    guest_pb2.DEPTH_TRIAL: Role.ADMIN,
    guest_pb2.DEPTH_REHEARSAL: Role.ADMIN,
    99: Role.ADMIN,
}


def methods() -> Iterator[tuple[str, type[Message]]]:
    """Of every service that we have, as their descriptors list them."""
    ours = (import_module(f"virt_preflight.v1.{path.stem}") for path in PROTO.glob("*_pb2.py"))
    for file in (*(one.DESCRIPTOR for one in ours), reflection_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", GetMessageClass(method.input_type)


def test_every_method_of_every_service_has_its_role_and_no_other_is_listed() -> None:
    assert {name for name, _ in methods()} == set(READER_BY_METHOD)


def test_every_method_s_own_request_can_be_read() -> None:
    for name, request in methods():
        found = asked(name, request())
        assert (found.role is None) is name.endswith("/Announce"), name
        assert found.counts is not name.endswith("/Announce"), name


def test_a_method_that_nobody_has_thought_of_takes_an_admin() -> None:
    assert asked(f"{AGENT}Frobnicate", object()).role is Role.ADMIN


@pytest.mark.parametrize(
    ("method", "role"),
    [
        (f"{AGENT}DescribeHost", Role.VIEWER),
        (f"{AGENT}ListChecks", Role.VIEWER),
        (f"{AGENT}RehearseDryRun", Role.ADMIN),
        (f"{AGENT}AttendRehearsal", Role.ADMIN),
        (f"{CONTROLLER}ListHosts", Role.VIEWER),
        (f"{CONTROLLER}WatchHosts", Role.VIEWER),
        (f"{CONTROLLER}DescribeChecks", Role.VIEWER),
    ],
)
def test_what_has_no_depth_takes_one_role(method: str, role: Role) -> None:
    request = dict(methods())[method]
    assert asked(method, request()).role is role


def test_to_look_for_a_guest_takes_a_scheduler() -> None:
    found = asked(f"{AGENT}ListDomains", agent_pb2.ListDomainsRequest(domain="db1"))
    assert (found.role, found.guests) == (Role.SCHEDULER, ("db1",))


@pytest.mark.parametrize(("depth", "role"), DEPTHS.items())
def test_a_dry_run_takes_a_role_by_its_depth(depth: guest_pb2.Depth.ValueType, role: Role) -> None:
    questions = guest_pb2.Questions(depth=depth)
    move = controller_pb2.Move(questions=questions)
    one = controller_pb2.GuestChoice(name="db1")
    for method, request in (
        (f"{AGENT}PrepareDryRun", agent_pb2.PrepareDryRunRequest(questions=questions)),
        (f"{AGENT}BeginDryRun", agent_pb2.BeginDryRunRequest(questions=questions)),
        (f"{CONTROLLER}DryRun", controller_pb2.DryRunRequest(guests=[one], move=move)),
        (f"{CONTROLLER}Rank", controller_pb2.RankRequest(guest=one, move=move)),
    ):
        assert asked(method, request).role is role, method


def test_guests_are_named_as_far_as_a_line_goes() -> None:
    guests = [controller_pb2.GuestChoice(name=f"g{number}") for number in range(20)]
    guests[1] = controller_pb2.GuestChoice(file=controller_pb2.GuestFile(called="new.xml"))
    found = asked(f"{CONTROLLER}DryRun", controller_pb2.DryRunRequest(guests=guests))
    assert found.guests == ("g0", "new.xml", *(f"g{n}" for n in range(2, 8)), "and 12 more")


def test_the_outcome_is_the_verdict() -> None:
    report = report_pb2.Report(guest_name="db1", verdict=report_pb2.VERDICT_RISKY)
    prepared = agent_pb2.PrepareDryRunResponse(reports=[report, report])
    assert outcome(prepared) == "RISKY,RISKY"
    assert outcome(agent_pb2.BeginDryRunResponse(report=report)) == "RISKY"
    ranking = controller_pb2.Ranking(verdict=report_pb2.VERDICT_CLEAR)
    assert outcome(controller_pb2.DryRunResponse(ranking=ranking)) == "CLEAR"
    failure = controller_pb2.Failure(reason="NO_SUCH_GUEST")
    assert outcome(controller_pb2.DryRunResponse(failure=failure)) == "NO_SUCH_GUEST"
    assert outcome(controller_pb2.RankResponse(takers=2, hosts=3)) == "2 of 3 hosts"
    refused = agent_pb2.AttendRehearsalResponse(refused="hooks")
    assert outcome(refused) == "refused: hooks"
    assert outcome(controller_pb2.ListHostsResponse()) == ""


def test_a_guest_from_a_file_has_the_name_that_the_answer_gives_it() -> None:
    name = controller_pb2.GuestName(name="db1")
    found = controller_pb2.DryRunResponse(guest=1, found=controller_pb2.Found(name=name))
    known = ("a.xml", "b.xml", "c.xml")
    ranked = controller_pb2.DryRunResponse(guest=1, ranking=controller_pb2.Ranking(name=name))
    assert guests_in(found, known) == guests_in(ranked, known) == ("a.xml", "db1", "c.xml")
    assert guests_in(controller_pb2.RankResponse(name=name), ("a.xml",)) == ("db1",)


def test_an_answer_that_names_no_guest_or_one_beyond_the_line_changes_nothing() -> None:
    name = controller_pb2.GuestName(name="db1")
    known = (*(f"{number}.xml" for number in range(8)), "and 12 more")
    for place in (8, 9, 300):
        found = controller_pb2.DryRunResponse(guest=place, found=controller_pb2.Found(name=name))
        assert guests_in(found, known) == known
    nameless = controller_pb2.DryRunResponse(found=controller_pb2.Found())
    assert guests_in(nameless, known) == known
    assert guests_in(controller_pb2.RankResponse(), known) == known
    assert guests_in(controller_pb2.DryRunResponse(guest=0), known) == known
