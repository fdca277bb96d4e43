"""Questions and answers as they go over the wire. Here, and nowhere further, protobuf ends.

A newer agent may say what we have no word for. What decides then counts as "could not tell";
what only describes is left out.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

from virt_preflight.controller.answers import (
    Attended,
    Begun,
    Capacity,
    CheckDescription,
    Claims,
    Domain,
    Finding,
    HostDescription,
    Listed,
    Phase,
    Report,
    Severity,
    Side,
    Unanswered,
    Verdict,
)
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.options import UNASKED, MigrationOptions
from virt_preflight.controller.question import Questions
from virt_preflight.v1 import agent_pb2, guest_pb2, report_pb2

T = TypeVar("T")
M = TypeVar("M", bound=Message)

SERVICE = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name

VERDICTS = {
    report_pb2.VERDICT_CLEAR: Verdict.CLEAR,
    report_pb2.VERDICT_RISKY: Verdict.RISKY,
    report_pb2.VERDICT_UNSURE: Verdict.UNSURE,
    report_pb2.VERDICT_BLOCKED: Verdict.BLOCKED,
}
SEVERITIES = {
    report_pb2.SEVERITY_NOTE: Severity.NOTE,
    report_pb2.SEVERITY_RISK: Severity.RISK,
    report_pb2.SEVERITY_BLOCKER: Severity.BLOCKER,
}
SIDES = {
    report_pb2.SIDE_SOURCE: Side.SOURCE,
    report_pb2.SIDE_DESTINATION: Side.DESTINATION,
}
PHASES = {
    report_pb2.PHASE_BEGIN: Phase.BEGIN,
    report_pb2.PHASE_PREPARE: Phase.PREPARE,
    report_pb2.PHASE_PERFORM: Phase.PERFORM,
    report_pb2.PHASE_FINISH: Phase.FINISH,
    report_pb2.PHASE_AFTER: Phase.AFTER,
}
DEPTHS = {
    guest_pb2.DEPTH_FACTS: Depth.FACTS,
    guest_pb2.DEPTH_LIBVIRT: Depth.LIBVIRT,
    guest_pb2.DEPTH_TRIAL: Depth.TRIAL,
    guest_pb2.DEPTH_REHEARSAL: Depth.REHEARSAL,
}
WIRE_DEPTHS = {depth: number for number, depth in DEPTHS.items()}

UUID_DIGITS = 32
ACTIVE = (agent_pb2.DOMAIN_STATE_RUNNING, agent_pb2.DOMAIN_STATE_PAUSED)


class WrongAnswerError(Exception):
    """Bytes came back that are not the answer to what was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One question, packed once however many hosts it goes to, and how to read an answer to it."""

    method: str
    request: bytes
    read: Callable[[bytes], T]
    # What it means when a host says NOT_FOUND; None: that it cannot answer.
    absent: T | None = None


def list_domains(domain: str) -> Call[Listed]:
    """Ask which guests of that name, id or UUID the host has, and what it calls itself."""

    def read(answer: bytes) -> Listed:
        response = _parsed(agent_pb2.ListDomainsResponse, answer)
        if not all(_is_called(one, domain) for one in response.domains):
            # Taken for the guest it would hide the real one: "runs on h1, h2: say which".
            raise WrongAnswerError("its answer holds guests that were not asked about")
        domains = tuple(map(_domain, response.domains))
        return Listed(domains=domains, migration_host=response.migration_host)

    request = agent_pb2.ListDomainsRequest(domain=domain)
    nothing = Listed(domains=(), migration_host="")
    return Call(method=_path("ListDomains"), request=_packed(request), read=read, absent=nothing)


def begin(
    domain: str,
    options: MigrationOptions,
    questions: Questions,
    migration_hosts: Iterable[str] = (),
) -> Call[Begun]:
    """Ask the source whether the guest may leave, and what a destination needs to know of it.

    `migration_hosts` is what destinations call themselves: the source looks these names up.
    """

    def read(answer: bytes) -> Begun:
        response = _parsed(agent_pb2.BeginDryRunResponse, answer)
        if not response.guest.domain_xml:
            raise WrongAnswerError("its answer holds no domain XML")
        if not response.HasField("report"):
            raise WrongAnswerError("its answer holds no report")
        return Begun(guest=_packed(response.guest), report=report_of(response.report, Side.SOURCE))

    request = agent_pb2.BeginDryRunRequest(
        domain=domain,
        options=options_message(options),
        questions=questions_message(questions),
        migration_hosts=migration_hosts,
    )
    return Call(method=_path("BeginDryRun"), request=_packed(request), read=read)


def rehearse(
    domain: str,
    options: MigrationOptions,
    questions: Questions,
    destination_uri: str,
    keep_owner_of: Iterable[str],
) -> Call[bytes]:
    """Ask the source to rehearse the guest; what came of it is carried on unread."""

    def read(answer: bytes) -> bytes:
        return _packed(_parsed(agent_pb2.RehearseDryRunResponse, answer).rehearsal)

    request = agent_pb2.RehearseDryRunRequest(
        domain=domain,
        options=options_message(options),
        questions=questions_message(questions),
        destination_uri=destination_uri,
        keep_owner_of=keep_owner_of,
    )
    return Call(method=_path("RehearseDryRun"), request=_packed(request), read=read)


def attend(guest: bytes, options: MigrationOptions, questions: Questions) -> Call[Attended]:
    """Ask a destination to attend. The call is a stream, and this its first message."""

    def read(answer: bytes) -> Attended:
        said = _parsed(agent_pb2.AttendRehearsalResponse, answer)
        match said.WhichOneof("said"):
            case "ready":
                return Attended(keep_owner_of=tuple(said.ready.keep_owner_of))
            case "refused":
                return Attended(refused=said.refused or "its agent does not say why")
            case _:
                raise WrongAnswerError("it says neither that it is ready nor that it is not")

    request = agent_pb2.AttendRehearsalRequest(
        guest=guest_pb2.Guest.FromString(guest),
        options=options_message(options),
        questions=questions_message(questions),
    )
    return Call(method=_path("AttendRehearsal"), request=_packed(request), read=read)


def left_behind(answer: bytes) -> tuple[str, ...]:
    """What a destination that attended could not put back, by its last message."""
    with suppress(DecodeError):
        said = agent_pb2.AttendRehearsalResponse.FromString(answer)
        if said.HasField("tidied"):
            return tuple(said.tidied.left)
    return ("whether all was put back its agent did not say",)


def with_left(rehearsal: bytes, left: Iterable[str]) -> bytes:
    """What came of a rehearsal, and what it has left on the destination."""
    known = agent_pb2.Rehearsal.FromString(rehearsal)
    known.left.extend(left)
    return _packed(known)


def unplayed(why: str) -> bytes:
    """What came of a rehearsal that could not or must not be."""
    return _packed(agent_pb2.Rehearsal(impossible=why))


def unanswered(why: str) -> bytes:
    """What came of a rehearsal of which nothing was heard."""
    return _packed(agent_pb2.Rehearsal(doubt=why))


def prepare(
    guest: bytes,
    options: MigrationOptions,
    questions: Questions,
    rehearsal: bytes | None = None,
) -> Call[Report]:
    """Ask whether the host could take this guest right now; `rehearsal` is what came of its own."""

    def read(answer: bytes) -> Report:
        reports = _parsed(agent_pb2.PrepareDryRunResponse, answer).reports
        if len(reports) != 1:
            raise WrongAnswerError(f"it gave {len(reports)} reports for one guest")
        return report_of(reports[0], Side.DESTINATION)

    request = agent_pb2.PrepareDryRunRequest(
        guests=[guest_pb2.Guest.FromString(guest)],
        options=options_message(options),
        questions=questions_message(questions),
        rehearsals=[] if rehearsal is None else [agent_pb2.Rehearsal.FromString(rehearsal)],
    )
    return Call(method=_path("PrepareDryRun"), request=_packed(request), read=read)


def homeless_guest(domain_xml: bytes) -> bytes:
    """A guest that runs nowhere yet: nothing but its domain XML."""
    return _packed(guest_pb2.Guest(domain_xml=domain_xml))


def describe_host() -> Call[HostDescription]:
    """Ask who the host is and what it has."""

    def read(answer: bytes) -> HostDescription:
        return description_of(_parsed(agent_pb2.DescribeHostResponse, answer))

    request = agent_pb2.DescribeHostRequest()
    return Call(method=_path("DescribeHost"), request=_packed(request), read=read)


def list_checks() -> Call[tuple[CheckDescription, ...]]:
    """Ask which checks the agent knows."""

    def read(answer: bytes) -> tuple[CheckDescription, ...]:
        checks = _parsed(agent_pb2.ListChecksResponse, answer).checks
        if not checks:
            raise WrongAnswerError("its agent lists no checks")
        return tuple(map(check_of, checks))

    request = agent_pb2.ListChecksRequest()
    return Call(method=_path("ListChecks"), request=_packed(request), read=read)


def _path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def _packed(message: Message) -> bytes:
    # Deterministic: the same question is the same bytes, so captures and tests can compare them.
    return message.SerializeToString(deterministic=True)


def _parsed(kind: type[M], answer: bytes) -> M:
    try:
        return kind.FromString(answer)
    except DecodeError as error:
        raise WrongAnswerError(f"its answer is not a {kind.DESCRIPTOR.name}") from error


def options_message(options: MigrationOptions) -> guest_pb2.MigrationOptions:
    """The options that hosts are asked about."""
    given: dict[str, Any] = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if field.name != "xml_file" and field.name not in UNASKED
    }
    return guest_pb2.MigrationOptions(**given)


def questions_message(questions: Questions) -> guest_pb2.Questions:
    """Which checks, and how far to go."""
    return guest_pb2.Questions(
        depth=WIRE_DEPTHS[questions.depth],
        only=questions.only,
        skip=questions.skip,
        waive=questions.waive,
        max_age=None if questions.max_age_s is None else duration(questions.max_age_s),
        allow=questions.allow,
    )


def _is_called(domain: agent_pb2.Domain, asked: str) -> bool:
    """By name, id or UUID, as the agent compares them."""
    by_id = domain.HasField("id") and str(domain.id) == asked
    digits = asked.replace("-", "").lower()
    by_uuid = len(digits) == UUID_DIGITS and digits == domain.uuid.replace("-", "").lower()
    return by_id or by_uuid or domain.name == asked


def _domain(domain: agent_pb2.Domain) -> Domain:
    return Domain(
        name=domain.name,
        uuid=domain.uuid,
        active=domain.state in ACTIVE or domain.HasField("id"),
    )


def report_of(report: report_pb2.Report, side: Side) -> Report:
    """What a host reports; `side` is whose findings are that do not say."""
    stated = VERDICTS.get(report.verdict)
    named, unnamed = [], []
    for finding in report.findings:
        severity = SEVERITIES.get(finding.severity)
        if severity is None:
            unnamed.append(_unweighable(finding, side))
        else:
            named.append(_finding(finding, severity, side))
    return Report(
        guest_name=report.guest_name,
        guest_uuid=report.guest_uuid,
        stated=Verdict.UNSURE if stated is None else stated,
        findings=tuple(named),
        unanswered=(
            *(_unanswered(one, side) for one in report.unanswered),
            *unnamed,
            *([] if stated is not None else [_unnamed_verdict(report.verdict, side)]),
        ),
        facts_age_ms=milliseconds(report.facts_age),
        claims=claims_of(report.claims) if report.HasField("claims") else None,
        capacity=capacity_of(report.capacity) if report.HasField("capacity") else None,
        checks_asked=report.checks_asked,
        checks_not_applicable=report.checks_not_applicable,
        depth=DEPTHS.get(report.depth),
        shallower_because=report.shallower_because,
    )


def _finding(finding: report_pb2.Finding, severity: Severity, side: Side) -> Finding:
    return Finding(
        check=finding.check,
        title=finding.title or finding.check,
        severity=severity,
        side=SIDES.get(finding.side, side),
        phase=PHASES.get(finding.phase),
        depth=DEPTHS.get(finding.depth),
        subject=finding.subject,
        wanted=finding.wanted,
        found=finding.found,
        remedy=finding.remedy,
        commands=tuple(finding.commands),
        lasting=finding.lasting,
        libvirt_error=finding.libvirt_error,
        waived=finding.waived,
    )


def _unweighable(finding: report_pb2.Finding, side: Side) -> Unanswered:
    """A finding whose weight we have no name for is no yes and no no."""
    return Unanswered(
        check=finding.check,
        title=finding.title or finding.check,
        severity=None,
        side=SIDES.get(finding.side, side),
        subject=finding.subject,
        why=f"severity {finding.severity} is not known to this version"
        f" (wanted {finding.wanted}, found {finding.found})",
        waived=finding.waived,
        depth=DEPTHS.get(finding.depth),
    )


def _unnamed_verdict(number: int, side: Side) -> Unanswered:
    return Unanswered(
        check="agent.verdict",
        title="the agent's verdict is not known to this version",
        severity=None,
        side=side,
        subject="",
        why=f"verdict {number}" if number else "the agent gave no verdict",
        waived=False,
        depth=None,
    )


def _unanswered(one: report_pb2.Unanswered, side: Side) -> Unanswered:
    return Unanswered(
        check=one.check,
        title=one.title or one.check,
        severity=SEVERITIES.get(one.severity),
        side=SIDES.get(one.side, side),
        subject=one.subject,
        why=one.why,
        waived=one.waived,
        depth=DEPTHS.get(one.depth),
    )


def claims_of(claims: report_pb2.Claims) -> Claims:
    """What a guest would take of a host."""
    return Claims(memory_kib=claims.memory_kib, vcpus=claims.vcpus)


def capacity_of(capacity: report_pb2.Capacity) -> Capacity:
    """What a host has."""
    return Capacity(
        memory_total_kib=capacity.memory_total_kib, memory_free_kib=capacity.memory_free_kib
    )


def description_of(host: agent_pb2.DescribeHostResponse) -> HostDescription:
    """Who a host says that it is."""
    return HostDescription(
        name=host.host.name,
        uuid=host.host.uuid,
        libvirt=_version(host.versions.libvirt),
        qemu=_version(host.versions.qemu),
        agent=host.agent_version,
        architecture=host.architecture,
        cpus_online=host.cpus_online,
        capacity=capacity_of(host.capacity) if host.HasField("capacity") else None,
        domains_running=None if host.domains_running_unknown else host.domains_running,
        facts_age_ms=milliseconds(host.facts_age),
        class_digest=host.class_digest,
        unlearned=_pairs(host.unlearned),
        certificate_ends_s=_ends_s(host),
    )


def _ends_s(host: agent_pb2.DescribeHostResponse) -> int | None:
    if not host.HasField("certificate_ends"):
        return None
    try:
        host.certificate_ends.ToDatetime()
    except (ValueError, OverflowError):
        raise WrongAnswerError("its certificate ends at no time that there is") from None
    return host.certificate_ends.seconds


def _pairs(unlearned: Iterable[guest_pb2.Unlearned]) -> tuple[tuple[str, str], ...]:
    return tuple((one.fact, one.why) for one in unlearned)


def check_of(check: agent_pb2.CheckDescription) -> CheckDescription:
    """One check of an agent's list."""
    return CheckDescription(
        check=check.check,
        title=check.title,
        severity=SEVERITIES.get(check.severity),
        side=SIDES.get(check.side),
        phase=PHASES.get(check.phase),
        explanation=check.explanation,
        remedy=check.remedy,
    )


def _version(number: int) -> str:
    """libvirt's 11003000 is 11.3.0; zero is a version that could not be learned."""
    if number == 0:
        return ""
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


def duration(seconds: float) -> Duration:
    """As the wire has it, to the millisecond."""
    made = Duration()
    made.FromMilliseconds(round(seconds * 1000))
    return made


def milliseconds(given: Duration) -> int:
    """By hand, since Duration.ToMilliseconds raises on a value out of range. None is negative."""
    return max(0, given.seconds * 1000 + given.nanos // 1_000_000)
