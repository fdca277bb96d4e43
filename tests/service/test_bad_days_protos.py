"""A fleet is upgraded host by host: agents of an older and of a newer proto answer side by side.

What an older one does not say, and what a newer one says in words that are not known here, never
becomes a yes; and what a newer source says reaches a newer destination.
"""

from __future__ import annotations

import json
from typing import TypeVar

import pytest
from google.protobuf.message import Message

from tests.controller.fakes import FakeAgent, objects, running
from tests.controller.samples import (
    DOMAIN_XML,
    NO_DOMAINS,
    UUID,
    WIRE_BRIDGE,
    WIRE_PASSTHROUGH,
    destination,
    domain,
    prepared,
    source,
    wire_report,
)
from tests.controller.test_commands import DESCRIBED
from tests.service.controllers import best, controller, missing
from virt_preflight.controller import cli
from virt_preflight.controller.answers import Heard, Silent, Verdict
from virt_preflight.controller.client import Controller
from virt_preflight.v1 import agent_pb2, guest_pb2, report_pb2

M = TypeVar("M", bound=Message)

# Field 1999, a string: no message of ours has one of that number.
LATER = b"\xfa\x7c\x05later"
# No enum of ours has it.
UNKNOWN = 99


def later(message: M) -> M:
    """The same with a field that is not known here."""
    return type(message).FromString(message.SerializeToString() + LATER)


def newer_report(*findings: report_pb2.Finding, **said: int) -> report_pb2.Report:
    made = wire_report(*findings)
    for name, value in said.items():
        setattr(made, name, value)
    return later(made)


def newer_finding(**said: int) -> report_pb2.Finding:
    made = later(WIRE_BRIDGE)
    for name, value in said.items():
        setattr(made, name, value)
    return made


# ------------------------------------------------------------------------------------ newer


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (newer_report(), Verdict.CLEAR),
        (newer_report(depth=UNKNOWN), Verdict.CLEAR),
        (newer_report(verdict=UNKNOWN), Verdict.UNSURE),
        (newer_report(newer_finding(severity=UNKNOWN)), Verdict.UNSURE),
        (newer_report(newer_finding(phase=UNKNOWN, side=UNKNOWN, depth=UNKNOWN)), Verdict.BLOCKED),
        (newer_report(later(WIRE_PASSTHROUGH), verdict=UNKNOWN), Verdict.UNSURE),
        (newer_report(newer_finding(severity=UNKNOWN), WIRE_BRIDGE), Verdict.BLOCKED),
    ],
    ids=[
        *("a field", "a depth", "a verdict", "a severity", "a phase, a side and a depth"),
        *("a verdict beside a risk", "a severity beside a blocker"),
    ],
)
def test_what_a_newer_agent_says_in_unknown_words_is_no_yes(
    report: report_pb2.Report, verdict: Verdict, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = destination("h2", PrepareDryRun=later(prepared(report)))
    with running(source(), newer, destination("h3")) as fleet, controller(fleet.hosts) as address:
        said = []
        for where in (["--hosts", fleet.hosts], ["--server", address]):
            assert cli.run(["check", "db1", "-o", "json", *where]) == 0
            said.append(json.loads(capsys.readouterr().out)["hosts"])
    for hosts in said:
        assert {one["host"]: one["verdict"] for one in hosts} == {
            "h2": verdict.name,
            "h3": "CLEAR",
        }
    assert said[0] == said[1]


def test_what_a_newer_source_says_of_a_guest_reaches_a_newer_destination() -> None:
    guest = later(guest_pb2.Guest(domain_xml=DOMAIN_XML, origin=later(guest_pb2.GuestOrigin())))
    begun = later(agent_pb2.BeginDryRunResponse(guest=guest, report=newer_report()))
    with (
        running(source(BeginDryRun=begun), destination("h2")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        assert best(asked.rank("db1")) == ["h2"]
        (request,) = fleet["h2"].requests("PrepareDryRun")
    (carried,) = agent_pb2.PrepareDryRunRequest.FromString(request).guests
    assert carried == guest
    assert carried.SerializeToString().count(LATER) == 2


def test_a_guest_in_a_state_of_a_newer_libvirt_is_found_by_its_id() -> None:
    there = domain(UNKNOWN)  # type: ignore[arg-type]
    there.domains[0].id = 7
    with (
        running(source(ListDomains=later(there)), destination("h2")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        assert best(asked.rank("db1")) == ["h2"]


# ------------------------------------------------------------------------------------ older


def test_an_older_agent_that_lacks_the_method_is_missing_and_is_told_to_be_upgraded() -> None:
    older = FakeAgent("h2", {"ListDomains": NO_DOMAINS})
    with (
        running(source(), older, destination("h3")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        ranking = asked.rank("db1")
        answers = {host.name: answer for host, answer in asked.hosts()}
    assert best(ranking) == ["h3"]
    assert missing(ranking) == {"h2": "no agent there that knows PrepareDryRun"}
    assert isinstance(answers["h2"], Silent)
    assert answers["h2"].why == "no agent there that knows DescribeHost"
    assert "version of virt-preflight-agent" in answers["h2"].next_step


def test_an_older_agent_that_objects_to_a_newer_question_is_missing_with_its_words() -> None:
    older = destination("h2", PrepareDryRun=objects(("questions.depth", "4 is not known")))
    with (
        running(source(), older, destination("h3")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        ranking = asked.rank("db1")
    assert best(ranking) == ["h3"]
    assert missing(ranking) == {"h2": "refused the question: questions.depth: 4 is not known"}


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        # A report that says nothing: not even a verdict.
        (report_pb2.Report(), Verdict.UNSURE),
        (report_pb2.Report(verdict=report_pb2.VERDICT_CLEAR), Verdict.CLEAR),
        (
            report_pb2.Report(
                verdict=report_pb2.VERDICT_CLEAR,
                findings=[
                    report_pb2.Finding(check="a.b", severity=report_pb2.SEVERITY_BLOCKER),
                ],
            ),
            Verdict.BLOCKED,
        ),
        (
            report_pb2.Report(
                verdict=report_pb2.VERDICT_CLEAR, findings=[report_pb2.Finding(check="a.b")]
            ),
            Verdict.UNSURE,
        ),
        (
            report_pb2.Report(
                verdict=report_pb2.VERDICT_CLEAR, unanswered=[report_pb2.Unanswered(check="a.b")]
            ),
            Verdict.UNSURE,
        ),
    ],
    ids=["nothing", "a verdict", "a finding", "a finding without weight", "an open question"],
)
@pytest.mark.parametrize("form", ["table", "json"])
def test_what_an_older_agent_leaves_out_is_no_yes(
    report: report_pb2.Report, verdict: Verdict, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    older = destination("h2", PrepareDryRun=prepared(report))
    with running(source(), older, destination("h3")) as fleet:
        assert cli.run(["check", "db1", "-o", form, "--hosts", fleet.hosts]) == 0
    said = capsys.readouterr().out
    if form == "json":
        verdicts = {one["host"]: one["verdict"] for one in json.loads(said)["hosts"]}
        assert verdicts == {"h2": verdict.name, "h3": "CLEAR"}
    else:
        assert f"h2    {verdict.name}" in said


def test_an_older_source_that_gives_no_more_than_the_guest_is_asked_for() -> None:
    bare = agent_pb2.BeginDryRunResponse(
        guest=guest_pb2.Guest(domain_xml=DOMAIN_XML),
        report=report_pb2.Report(verdict=report_pb2.VERDICT_CLEAR),
    )
    with (
        running(source(BeginDryRun=bare), destination("h2")) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        ranking = asked.rank("db1")
    assert (best(ranking), ranking.name, ranking.uuid) == (["h2"], "db1", UUID)


def test_an_older_agent_describes_itself_with_less() -> None:
    with (
        running(
            destination("h1", DescribeHost=agent_pb2.DescribeHostResponse()),
            destination("h2", DescribeHost=later(DESCRIBED)),
        ) as fleet,
        controller(fleet.hosts) as address,
        Controller(address) as asked,
    ):
        first, second = (answer for _, answer in asked.hosts())
    assert isinstance(first, Heard)
    assert isinstance(second, Heard)
    assert (first.said.libvirt, second.said.libvirt) == ("", "11.3.0")
