from dataclasses import fields

import pytest

from tests.controller.samples import (
    BRIDGE,
    CHECKS,
    DOMAIN_XML,
    GIB,
    UUID,
    WIRE_BRIDGE,
    WIRE_LACK,
    domain,
    prepared,
    wire_report,
)
from virt_preflight.controller import wire
from virt_preflight.controller.answers import (
    Capacity,
    CheckDescription,
    Claims,
    Domain,
    Phase,
    Report,
    Severity,
    Side,
    Unanswered,
    Verdict,
)
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import Questions
from virt_preflight.controller.wire import WrongAnswerError
from virt_preflight.v1 import agent_pb2, guest_pb2, report_pb2

GUEST = wire.homeless_guest(DOMAIN_XML)


def prepare_answer(answer: bytes) -> Report:
    return wire.prepare(GUEST, MigrationOptions(), Questions()).read(answer)


def heard(report: report_pb2.Report) -> Report:
    return prepare_answer(prepared(report).SerializeToString())


def test_a_question_carries_the_guest_the_options_and_which_checks() -> None:
    options = MigrationOptions(
        live=True, migrate_disks=("vda", "vdb"), dname="db2", xml=b"<x/>", xml_file="x.xml"
    )
    questions = Questions(only=("nics",), skip=("cpu",), waive=("nics.bridge-absent",))
    call = wire.prepare(GUEST, options, questions)
    assert call.method == "/virt_preflight.v1.AgentService/PrepareDryRun"
    request = agent_pb2.PrepareDryRunRequest.FromString(call.request)
    assert [guest.domain_xml for guest in request.guests] == [DOMAIN_XML]
    assert not request.guests[0].HasField("origin")
    assert request.options == guest_pb2.MigrationOptions(
        live=True, migrate_disks=["vda", "vdb"], dname="db2", xml=b"<x/>"
    )
    assert list(request.questions.only) == ["nics"]
    assert list(request.questions.skip) == ["cpu"]
    assert list(request.questions.waive) == ["nics.bridge-absent"]
    assert request.questions.depth == guest_pb2.DEPTH_LIBVIRT


def test_fresh_facts_are_asked_for() -> None:
    call = wire.begin("db1", MigrationOptions(), Questions())
    request = agent_pb2.BeginDryRunRequest.FromString(call.request)
    assert request.questions.HasField("max_age")
    assert request.questions.max_age.ToMilliseconds() == 0


def test_the_source_s_guest_is_carried_on_unread() -> None:
    newer = guest_pb2.Guest(domain_xml=DOMAIN_XML).SerializeToString() + b"\x98\x06\x2a"
    response = agent_pb2.BeginDryRunResponse(
        guest=guest_pb2.Guest.FromString(newer), report=wire_report()
    )
    begun = wire.begin("db1", MigrationOptions(), Questions()).read(response.SerializeToString())
    onward = wire.prepare(begun.guest, MigrationOptions(), Questions()).request
    assert b"\x98\x06\x2a" in onward


def test_a_finding_is_read_whole() -> None:
    report = heard(wire_report(WIRE_BRIDGE, verdict=report_pb2.VERDICT_BLOCKED))
    assert report.findings == (BRIDGE,)
    assert (report.stated, report.facts_age_ms, report.checks_asked) == (Verdict.BLOCKED, 120, 40)
    assert report.claims == Claims(memory_kib=8 * GIB, vcpus=4)
    assert report.capacity == Capacity(
        memory_total_kib=256 * 1024**2, memory_free_kib=100 * 1024**2
    )


def test_what_could_not_be_answered_is_read_whole() -> None:
    assert heard(wire_report(unanswered=[WIRE_LACK])).unanswered == (
        Unanswered(
            check="pages.too-few-free",
            title="too few free huge pages",
            severity=Severity.BLOCKER,
            side=Side.DESTINATION,
            subject="2048 KiB pages",
            why="cannot read /sys/kernel/mm",
            waived=False,
            depth=Depth.LIBVIRT,
        ),
    )


def test_absent_claims_and_capacity_are_not_zeroes() -> None:
    report = heard(report_pb2.Report(verdict=report_pb2.VERDICT_CLEAR))
    assert (report.claims, report.capacity) == (None, None)


@pytest.mark.parametrize("number", [0, 99])
def test_a_verdict_that_we_cannot_name_is_one_we_cannot_be_sure_of(number: int) -> None:
    raw = report_pb2.Report.FromString(bytes([0x20, number]))
    report = heard(raw)
    assert report.stated is Verdict.UNSURE
    (lack,) = report.unanswered
    assert (lack.check, lack.severity) == ("agent.verdict", None)
    assert ("verdict 99" if number else "no verdict") in lack.why


def test_a_finding_of_unknown_weight_is_no_yes_and_no_no() -> None:
    odd = report_pb2.Finding(check="new.kind", wanted="a", found="b", title="new")
    odd.MergeFromString(bytes([0x10, 9]))
    report = heard(wire_report(odd))
    assert report.findings == ()
    (lack,) = report.unanswered
    assert (lack.check, lack.severity) == ("new.kind", None)
    assert lack.why == "severity 9 is not known to this version (wanted a, found b)"


def test_an_unknown_phase_or_depth_only_describes_and_does_not_decide() -> None:
    odd = report_pb2.Finding(check="a.b", severity=report_pb2.SEVERITY_RISK)
    odd.MergeFromString(bytes([0x20, 77, 0x28, 77]))
    (finding,) = heard(wire_report(odd)).findings
    assert (finding.phase, finding.depth, finding.side) == (None, None, Side.DESTINATION)
    assert finding.title == "a.b"


def test_findings_of_the_source_are_the_source_s_even_if_it_does_not_say_so() -> None:
    lost = report_pb2.Finding(check="a.b", severity=report_pb2.SEVERITY_RISK)
    response = agent_pb2.BeginDryRunResponse(
        guest=guest_pb2.Guest(domain_xml=DOMAIN_XML),
        report=wire_report(lost, unanswered=[WIRE_LACK]),
    )
    begun = wire.begin("db1", MigrationOptions(), Questions()).read(response.SerializeToString())
    assert begun.report.findings[0].side is Side.SOURCE
    assert begun.report.unanswered[0].side is Side.SOURCE


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"\xff\xff\xff", "not a PrepareDryRunResponse"),
        (b"", "0 reports for one guest"),
        (prepared(wire_report(), wire_report()).SerializeToString(), "2 reports for one guest"),
    ],
)
def test_an_answer_to_something_else_is_refused(answer: bytes, complaint: str) -> None:
    with pytest.raises(wire.WrongAnswerError, match=complaint):
        prepare_answer(answer)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (agent_pb2.BeginDryRunResponse(report=wire_report()), "no domain XML"),
        (
            agent_pb2.BeginDryRunResponse(guest=guest_pb2.Guest(domain_xml=DOMAIN_XML)),
            "no report",
        ),
    ],
)
def test_a_source_must_give_the_guest_and_its_report(
    answer: agent_pb2.BeginDryRunResponse, complaint: str
) -> None:
    with pytest.raises(wire.WrongAnswerError, match=complaint):
        wire.begin("db1", MigrationOptions(), Questions()).read(answer.SerializeToString())


@pytest.mark.parametrize(
    ("state", "active"),
    [
        (agent_pb2.DOMAIN_STATE_RUNNING, True),
        (agent_pb2.DOMAIN_STATE_PAUSED, True),
        (agent_pb2.DOMAIN_STATE_SHUT_OFF, False),
        (agent_pb2.DOMAIN_STATE_OTHER, False),
    ],
)
def test_a_paused_guest_is_there_and_one_shut_off_is_not(
    state: "agent_pb2.DomainState.ValueType", active: bool
) -> None:
    call = wire.list_domains("db1")
    assert call.read(domain(state).SerializeToString()).domains == (
        Domain(name="db1", uuid=UUID, active=active),
    )


def test_a_guest_in_an_odd_state_is_there_if_it_has_an_id() -> None:
    crashed = agent_pb2.Domain(name="db1", id=3, state=agent_pb2.DOMAIN_STATE_OTHER)
    answer = agent_pb2.ListDomainsResponse(domains=[crashed]).SerializeToString()
    assert wire.list_domains("db1").read(answer).domains[0].active


@pytest.mark.parametrize("asked", ["db1", "3", UUID, UUID.upper().replace("-", "")])
def test_a_guest_is_known_by_its_name_id_or_uuid(asked: str) -> None:
    one = agent_pb2.Domain(name="db1", id=3, uuid=UUID)
    answer = agent_pb2.ListDomainsResponse(domains=[one]).SerializeToString()
    assert wire.list_domains(asked).read(answer).domains[0].name == "db1"


@pytest.mark.parametrize("asked", ["db", "33", UUID[:-1], "6a1f6c2e"])
def test_a_guest_that_was_not_asked_about_is_a_wrong_answer(asked: str) -> None:
    one = agent_pb2.Domain(name="db1", id=3, uuid=UUID)
    answer = agent_pb2.ListDomainsResponse(domains=[one]).SerializeToString()
    with pytest.raises(wire.WrongAnswerError, match="guests that were not asked about"):
        wire.list_domains(asked).read(answer)


def test_a_host_s_versions_are_read_as_people_write_them() -> None:
    response = agent_pb2.DescribeHostResponse(
        versions=guest_pb2.HostVersions(libvirt=11_003_000, qemu=10_000_002),
        unlearned=[guest_pb2.Unlearned(fact="HostTpm", why="no swtpm")],
    )
    response.facts_age.seconds = -1
    host = wire.describe_host().read(response.SerializeToString())
    assert (host.libvirt, host.qemu, host.capacity) == ("11.3.0", "10.0.2", None)
    assert host.unlearned == (("HostTpm", "no swtpm"),)
    assert host.facts_age_ms == 0


def test_no_count_of_guests_is_not_a_count_of_none() -> None:
    said = agent_pb2.DescribeHostResponse(domains_running_unknown=True)
    assert wire.describe_host().read(said.SerializeToString()).domains_running is None
    assert wire.describe_host().read(b"").domains_running == 0


def test_a_version_that_could_not_be_learned_is_not_0_0_0() -> None:
    assert wire.describe_host().read(b"").libvirt == ""


def test_a_check_is_read_whole() -> None:
    first, _ = wire.list_checks().read(CHECKS.SerializeToString())
    assert first == CheckDescription(
        check="nics.bridge-absent",
        title="bridge absent",
        severity=Severity.BLOCKER,
        side=Side.DESTINATION,
        phase=Phase.PREPARE,
        explanation="libvirt adds a tap to the bridge.\n\nSo it must be there.",
        remedy="Create the bridge.",
    )


def test_an_agent_without_checks_is_no_agent_to_trust() -> None:
    with pytest.raises(wire.WrongAnswerError, match="lists no checks"):
        wire.list_checks().read(b"")


def test_every_name_of_the_treaty_has_one_here() -> None:
    for kind, known in (
        (report_pb2.Verdict, wire.VERDICTS),
        (report_pb2.Severity, wire.SEVERITIES),
        (report_pb2.Side, wire.SIDES),
        (report_pb2.Phase, wire.PHASES),
        (guest_pb2.Depth, wire.DEPTHS),
    ):
        assert set(kind.values()) - {0} == set(known)


def test_every_field_of_a_finding_reaches_us() -> None:
    ours = {field.name for field in fields(BRIDGE)}
    assert ours == set(report_pb2.Finding.DESCRIPTOR.fields_by_name)


def test_when_an_agents_certificate_ends_is_read_and_a_time_that_is_none_is_no_answer() -> None:
    told = agent_pb2.DescribeHostResponse()
    read = wire.describe_host().read
    assert read(told.SerializeToString()).certificate_ends_s is None
    told.certificate_ends.FromSeconds(1_800_000_000)
    assert read(told.SerializeToString()).certificate_ends_s == 1_800_000_000
    told.certificate_ends.seconds = 1 << 62
    with pytest.raises(WrongAnswerError, match="no time that there is"):
        read(told.SerializeToString())
