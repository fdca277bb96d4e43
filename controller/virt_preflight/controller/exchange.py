"""What a controller and its callers say to each other, as it goes over the wire.

The same words as those of the agents, with what a fleet adds. A caller's request is parsed here,
and what is wrong with it is said with its field.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC

from google.protobuf.duration_pb2 import Duration

from virt_preflight.controller import wire
from virt_preflight.controller.answers import (
    Capacity,
    Claims,
    Finding,
    Heard,
    HostDescription,
    Phase,
    Report,
    Severity,
    Side,
    Silent,
    Unanswered,
    Unasked,
    Verdict,
)
from virt_preflight.controller.asking import Found
from virt_preflight.controller.catalogue import Catalogue
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.desk import Described
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.controller.fleet import FleetHost
from virt_preflight.controller.options import UNASKED, MigrationOptions, with_defaults
from virt_preflight.controller.question import Asked, GuestFile, Question, Questions
from virt_preflight.controller.ranking import Candidate, Reason, candidate, weigh, weigh_unanswered
from virt_preflight.controller.render.sentences import why
from virt_preflight.controller.trouble import BadFieldError
from virt_preflight.v1 import agent_pb2, controller_pb2, guest_pb2, report_pb2

_OURS = controller_pb2.DESCRIPTOR.services_by_name["ControllerService"]
SERVICE = _OURS.full_name
METHODS = frozenset(_OURS.methods_by_name)
# What a question without a depth asks for.
DEFAULT_DEPTH = Depth.LIBVIRT
# What agents accept of one guest.
XML_AT_MOST = 10 * 1024 * 1024
WAIT_AT_MOST_S = 3600.0

WIRE_VERDICTS = {verdict: number for number, verdict in wire.VERDICTS.items()}
# None, a word of a newer agent's that has no name here, is none on the way out either.
WIRE_SEVERITIES: dict[Severity | None, report_pb2.Severity.ValueType] = {
    None: report_pb2.SEVERITY_UNSPECIFIED,
    **{severity: number for number, severity in wire.SEVERITIES.items()},
}
WIRE_SIDES: dict[Side | None, report_pb2.Side.ValueType] = {
    None: report_pb2.SIDE_UNSPECIFIED,
    **{side: number for number, side in wire.SIDES.items()},
}
WIRE_PHASES: dict[Phase | None, report_pb2.Phase.ValueType] = {
    None: report_pb2.PHASE_UNSPECIFIED,
    **{phase: number for number, phase in wire.PHASES.items()},
}
WIRE_DEPTHS: dict[Depth | None, guest_pb2.Depth.ValueType] = {
    None: guest_pb2.DEPTH_UNSPECIFIED,
    **{depth: number for number, depth in wire.DEPTHS.items()},
}
# Requests that say how long one host is to be waited for.
Waiting = (
    controller_pb2.Move | controller_pb2.ListHostsRequest | controller_pb2.DescribeChecksRequest
)


# ------------------------------------------------------------------------------------- requests


def question_of(choice: controller_pb2.GuestChoice, at: str, move: controller_pb2.Move) -> Question:
    """The question about one guest; `at` is where in the request it stands."""
    guest = _guest(choice, at)
    if isinstance(guest, GuestFile) and move.from_host:
        raise BadFieldError("move.from_host", "is of no use: a domain from a file runs nowhere yet")
    return Question(
        guest=guest,
        from_host=move.from_host or None,
        to_hosts=tuple(dict.fromkeys(_words("move.to_hosts", move.to_hosts))),
        labels=labels_of("move.labels", move.labels),
        options=_options(move),
        questions=_questions(move.questions),
    )


def labels_of(field: str, given: Iterable[str]) -> tuple[str, ...]:
    """Labels, each `key=value`."""
    for one in given:
        key, parted, _ = one.partition("=")
        if not key or not parted:
            raise BadFieldError(field, f"{one!r}: wanted key=value")
    return tuple(dict.fromkeys(given))


def seconds_of(field: str, holder: Waiting) -> float | None:
    """How long to wait for one host, None where the caller does not say."""
    if not holder.HasField("timeout"):
        return None
    seconds = holder.timeout.seconds + holder.timeout.nanos / 1e9
    if not 0 < seconds <= WAIT_AT_MOST_S:
        raise BadFieldError(field, f"{seconds:g} s: wanted more than 0, at most {WAIT_AT_MOST_S:g}")
    return seconds


def _guest(choice: controller_pb2.GuestChoice, at: str) -> str | GuestFile:
    match choice.WhichOneof("guest"):
        case "name":
            (name,) = _words(f"{at}.name", [choice.name])
            return name
        case "file":
            return _guest_file(choice.file, f"{at}.file.domain_xml")
        case _:
            raise BadFieldError(at, "is neither a name nor a file")


def _guest_file(file: controller_pb2.GuestFile, field: str) -> GuestFile:
    if not file.domain_xml.strip():
        raise BadFieldError(field, "is empty")
    if len(file.domain_xml) > XML_AT_MOST:
        raise BadFieldError(field, f"is larger than {XML_AT_MOST >> 20} MiB")
    try:
        file.domain_xml.decode()
    except UnicodeDecodeError as error:
        line = file.domain_xml.count(b"\n", 0, error.start) + 1
        raise BadFieldError(field, f"is not UTF-8 (at line {line})") from error
    return GuestFile(name=file.called or "the domain XML", xml=file.domain_xml)


def _options(move: controller_pb2.Move) -> MigrationOptions:
    given = move.options
    for character, called in (("/", "a slash"), ("\n", "a line feed")):
        if character in given.dname:
            raise BadFieldError("move.options.dname", f"has {called}: no guest is called that")
    if len(given.xml) > XML_AT_MOST:
        raise BadFieldError("move.options.xml", f"is larger than {XML_AT_MOST >> 20} MiB")
    asked = {
        field.name: getattr(given, field.name)
        for field in fields(MigrationOptions)
        if field.name not in (*UNASKED, "migrate_disks", "xml_file")
    }
    # Older callers say so among what is only printed.
    asked["compressed"] = given.compressed or move.command.compressed
    printed = {name: getattr(move.command, name) for name in UNASKED}
    return with_defaults(
        MigrationOptions(
            **asked,
            **printed,
            migrate_disks=tuple(given.migrate_disks),
            xml_file=move.command.xml_file or ("-" if given.xml else ""),
        )
    )


def _questions(given: guest_pb2.Questions) -> Questions:
    depth = wire.DEPTHS.get(given.depth, DEFAULT_DEPTH)
    if given.depth and given.depth not in wire.DEPTHS:
        raise BadFieldError("move.questions.depth", f"{given.depth}: there is no such depth")
    if given.max_age.seconds < 0 or given.max_age.nanos < 0:
        raise BadFieldError("move.questions.max_age", "is less than nothing")
    return Questions(
        depth=depth,
        only=tuple(given.only),
        skip=tuple(given.skip),
        waive=tuple(given.waive),
        allow=tuple(given.allow),
        max_age_s=wire.milliseconds(given.max_age) / 1000 if given.HasField("max_age") else None,
    )


def _words(field: str, given: Iterable[str]) -> list[str]:
    words = list(given)
    if not all(word.strip() for word in words):
        raise BadFieldError(field, "is empty")
    return words


def choice_message(guest: str | GuestFile) -> controller_pb2.GuestChoice:
    """A guest as a service is asked about it."""
    if isinstance(guest, str):
        return controller_pb2.GuestChoice(name=guest)
    file = controller_pb2.GuestFile(domain_xml=guest.xml, called=guest.name)
    return controller_pb2.GuestChoice(file=file)


def move_message(question: Question, timeout_s: float | None) -> controller_pb2.Move:
    """The rest of the question."""
    options = question.options
    return controller_pb2.Move(
        from_host=question.from_host or "",
        to_hosts=question.to_hosts,
        labels=question.labels,
        options=wire.options_message(options),
        command=controller_pb2.CommandOptions(
            xml_file=options.xml_file,
            compressed=options.compressed,  # for a service that does not ask about it yet
            **{name: getattr(options, name) for name in UNASKED},
        ),
        questions=wire.questions_message(question.questions),
        timeout=timeout_message(timeout_s),
    )


def timeout_message(timeout_s: float | None) -> Duration | None:
    """How long to wait for one host; None leaves it to the controller."""
    return None if timeout_s is None else wire.duration(timeout_s)


# -------------------------------------------------------------------------------------- answers


def found_message(found: Found) -> controller_pb2.Found:
    """What is known of the guest before its destinations are asked."""
    report = found.source_report
    return controller_pb2.Found(
        name=_name(found),
        source_report=None if report is None else _report(report),
        hosts=found.hosts,
    )


def answer_message(
    source: Report | None, answer: Heard[Report] | Silent
) -> controller_pb2.HostAnswer:
    """One host's answer; its verdict is that of the host and the source together."""
    message = controller_pb2.HostAnswer(
        host=answer.host, verdict=WIRE_VERDICTS[candidate(source, answer).verdict]
    )
    if isinstance(answer, Silent):
        message.silence.CopyFrom(_silence(answer))
    else:
        message.report.CopyFrom(_report(answer.said))
    return message


def ranking_message(run: DryRun) -> controller_pb2.Ranking:
    """Every host, best first."""
    return controller_pb2.Ranking(
        name=_name(run),
        verdict=WIRE_VERDICTS[run.verdict],
        candidates=[candidate_message(one, run) for one in run.candidates],
        reasons=map(_reason, run.reasons),
    )


def best_message(run: DryRun, best: int) -> controller_pb2.RankResponse:
    """The best of them, and which may be missing among these."""
    takers = [one for one in run.candidates if one.takes_it]
    missing = [one for one in run.candidates if one.verdict is Verdict.UNSURE]
    return controller_pb2.RankResponse(
        name=_name(run),
        best=[candidate_message(one, run) for one in (takers[:best] if best else takers)],
        hosts=len(run.candidates),
        takers=len(takers),
        missing=[candidate_message(one, run) for one in missing],
        reasons=map(_reason, run.reasons),
    )


def candidate_message(one: Candidate, run: DryRun) -> controller_pb2.Candidate:
    """One host's place, and in short why."""
    against = [it.check for it in one.findings if weigh(it) > Verdict.CLEAR]
    against += (it.check for it in one.unanswered if weigh_unanswered(it) > Verdict.CLEAR)
    message = controller_pb2.Candidate(
        host=one.host,
        verdict=WIRE_VERDICTS[one.verdict],
        rank=one.rank or 0,
        score=one.score,
        why=why(one),
        command=run.command_by_host.get(one.host, ""),
        checks=dict.fromkeys(against),
    )
    if one.capacity is not None:
        message.capacity.CopyFrom(_capacity(one.capacity))
    if one.claims is not None:
        message.claims.CopyFrom(_claims(one.claims))
    return message


def host_message(host: FleetHost, answer: Described) -> controller_pb2.Host:
    """A host of the fleet and what it says of itself."""
    message = controller_pb2.Host(name=host.name, address=host.address, labels=dict(host.labels))
    if host.last_seen is not None:
        message.last_seen.FromDatetime(host.last_seen)
    if isinstance(answer, Silent):
        message.silence.CopyFrom(_silence(answer))
    else:
        message.description.CopyFrom(_description(answer.said))
    return message


def checks_message(catalogue: Catalogue) -> controller_pb2.DescribeChecksResponse:
    """Every check, and who listed them."""
    return controller_pb2.DescribeChecksResponse(
        host=catalogue.host,
        checks=[
            agent_pb2.CheckDescription(
                check=one.check,
                title=one.title,
                severity=WIRE_SEVERITIES[one.severity],
                side=WIRE_SIDES[one.side],
                phase=WIRE_PHASES[one.phase],
                explanation=one.explanation,
                remedy=one.remedy,
            )
            for one in catalogue.checks
        ],
    )


def _name(of: Found | DryRun) -> controller_pb2.GuestName:
    return controller_pb2.GuestName(name=of.name, uuid=of.uuid, source=of.source or "")


def _silence(silent: Silent) -> controller_pb2.Silence:
    return controller_pb2.Silence(
        why=silent.why, next_step=silent.next_step, not_asked=isinstance(silent, Unasked)
    )


def _reason(reason: Reason) -> controller_pb2.Reason:
    return controller_pb2.Reason(check=reason.check, title=reason.title, hosts=reason.hosts)


def _report(report: Report) -> report_pb2.Report:
    message = report_pb2.Report(
        guest_name=report.guest_name,
        guest_uuid=report.guest_uuid,
        verdict=WIRE_VERDICTS[report.stated],
        findings=map(_finding, report.findings),
        unanswered=map(_unanswered, report.unanswered),
        facts_age=wire.duration(report.facts_age_ms / 1000),
        checks_asked=report.checks_asked,
        checks_not_applicable=report.checks_not_applicable,
        depth=WIRE_DEPTHS[report.depth],
        shallower_because=report.shallower_because,
    )
    if report.claims is not None:
        message.claims.CopyFrom(_claims(report.claims))
    if report.capacity is not None:
        message.capacity.CopyFrom(_capacity(report.capacity))
    return message


def _claims(claims: Claims) -> report_pb2.Claims:
    return report_pb2.Claims(memory_kib=claims.memory_kib, vcpus=claims.vcpus)


def _capacity(capacity: Capacity) -> report_pb2.Capacity:
    return report_pb2.Capacity(
        memory_total_kib=capacity.memory_total_kib, memory_free_kib=capacity.memory_free_kib
    )


def _finding(finding: Finding) -> report_pb2.Finding:
    return report_pb2.Finding(
        check=finding.check,
        title=finding.title,
        severity=WIRE_SEVERITIES[finding.severity],
        side=WIRE_SIDES[finding.side],
        phase=WIRE_PHASES[finding.phase],
        depth=WIRE_DEPTHS[finding.depth],
        subject=finding.subject,
        wanted=finding.wanted,
        found=finding.found,
        remedy=finding.remedy,
        commands=finding.commands,
        lasting=finding.lasting,
        libvirt_error=finding.libvirt_error,
        waived=finding.waived,
    )


def _unanswered(one: Unanswered) -> report_pb2.Unanswered:
    return report_pb2.Unanswered(
        check=one.check,
        title=one.title,
        severity=WIRE_SEVERITIES[one.severity],
        side=WIRE_SIDES[one.side],
        subject=one.subject,
        why=one.why,
        waived=one.waived,
        depth=WIRE_DEPTHS[one.depth],
    )


def _description(host: HostDescription) -> agent_pb2.DescribeHostResponse:
    message = agent_pb2.DescribeHostResponse(
        host=guest_pb2.HostIdentity(name=host.name, uuid=host.uuid),
        versions=guest_pb2.HostVersions(
            libvirt=_version_number(host.libvirt), qemu=_version_number(host.qemu)
        ),
        agent_version=host.agent,
        architecture=host.architecture,
        cpus_online=host.cpus_online,
        domains_running=host.domains_running or 0,
        domains_running_unknown=host.domains_running is None,
        facts_age=wire.duration(host.facts_age_ms / 1000),
        class_digest=host.class_digest,
        unlearned=[guest_pb2.Unlearned(fact=fact, why=why) for fact, why in host.unlearned],
    )
    if host.certificate_ends_s is not None:
        message.certificate_ends.FromSeconds(host.certificate_ends_s)
    if host.capacity is not None:
        message.capacity.CopyFrom(_capacity(host.capacity))
    return message


def _version_number(version: str) -> int:
    """The other way round than `wire` reads it: 11.3.0 is 11003000."""
    if not version:
        return 0
    major, minor, micro = map(int, version.split("."))
    return major * 1_000_000 + minor * 1_000 + micro


# ------------------------------------------------------------------------------ answers, as read


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One host's place as a service gives it."""

    host: str
    verdict: Verdict
    # 1 for the best, None for a host that cannot take the guest.
    rank: int | None
    score: float | None
    # What speaks most against it; empty when nothing does.
    why: str
    command: str
    checks: tuple[str, ...]
    # What the host has before this guest, and what the guest would take of it; None: not known.
    capacity: Capacity | None
    claims: Claims | None


def ranked_of(message: controller_pb2.Candidate) -> Ranked:
    """A verdict that has no name here is one we cannot be sure of."""
    return Ranked(
        host=message.host,
        verdict=wire.VERDICTS.get(message.verdict, Verdict.UNSURE),
        rank=message.rank or None,
        score=message.score if message.HasField("score") else None,
        why=message.why,
        command=message.command,
        checks=tuple(message.checks),
        capacity=wire.capacity_of(message.capacity) if message.HasField("capacity") else None,
        claims=wire.claims_of(message.claims) if message.HasField("claims") else None,
    )


def reason_of(message: controller_pb2.Reason) -> Reason:
    """Why hosts cannot take the guest."""
    return Reason(check=message.check, title=message.title, hosts=message.hosts)


def asked_of(
    found: controller_pb2.Found,
    answers: Sequence[controller_pb2.HostAnswer],
    ranking: controller_pb2.Ranking,
) -> Asked:
    """All that was said, as whoever asks the hosts himself would have it."""
    report = found.source_report if found.HasField("source_report") else None
    return Asked(
        name=ranking.name.name,
        uuid=ranking.name.uuid,
        source=ranking.name.source or None,
        source_report=None if report is None else wire.report_of(report, Side.SOURCE),
        answers=tuple(map(answer_of, answers)),
    )


def answer_of(message: controller_pb2.HostAnswer) -> Heard[Report] | Silent:
    """One host's answer."""
    if message.WhichOneof("said") == "report":
        report = wire.report_of(message.report, Side.DESTINATION)
        return Heard(host=message.host, said=report)
    return _silent(message.host, message.silence)


def host_of(message: controller_pb2.Host) -> tuple[FleetHost, Described]:
    """A host of the fleet and what it says of itself."""
    seen = message.last_seen.ToDatetime(UTC) if message.HasField("last_seen") else None
    host = FleetHost(
        name=message.name,
        address=message.address,
        labels=tuple(sorted(message.labels.items())),
        last_seen=seen,
    )
    if message.WhichOneof("said") == "description":
        return host, Heard(host=host.name, said=wire.description_of(message.description))
    return host, _silent(host.name, message.silence)


def catalogue_of(message: controller_pb2.DescribeChecksResponse) -> Catalogue:
    """Every check, and who listed them."""
    return Catalogue(host=message.host, checks=tuple(map(wire.check_of, message.checks)))


def _silent(host: str, silence: controller_pb2.Silence) -> Silent:
    kind = Unasked if silence.not_asked else Silent
    return kind(host=host, why=silence.why, next_step=silence.next_step)
