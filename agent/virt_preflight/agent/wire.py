"""Between the treaty's messages and our own types. No other module below the service sees both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from virt_preflight.agent.asks.decided import DECIDED_BY_REHEARSAL
from virt_preflight.agent.asks.rehearsal import ASK as REHEARSAL
from virt_preflight.agent.check import AnyCheck, Problem
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.description import HostDescription
from virt_preflight.agent.dryrun import Asked
from virt_preflight.agent.hearing import Hearing, Said
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import FileIdentity, GuestOrigin, Lookup
from virt_preflight.agent.report import (
    Capacity,
    Claims,
    Finding,
    Phase,
    Report,
    Severity,
    Side,
    Unanswered,
    Verdict,
)
from virt_preflight.agent.residents import Resident
from virt_preflight.v1 import agent_pb2, guest_pb2, report_pb2

T = TypeVar("T")
D = TypeVar("D")

VERDICTS = {
    Verdict.CLEAR: report_pb2.VERDICT_CLEAR,
    Verdict.RISKY: report_pb2.VERDICT_RISKY,
    Verdict.UNSURE: report_pb2.VERDICT_UNSURE,
    Verdict.BLOCKED: report_pb2.VERDICT_BLOCKED,
}
SEVERITIES = {
    Severity.NOTE: report_pb2.SEVERITY_NOTE,
    Severity.RISK: report_pb2.SEVERITY_RISK,
    Severity.BLOCKER: report_pb2.SEVERITY_BLOCKER,
}
SIDES = {
    Side.SOURCE: report_pb2.SIDE_SOURCE,
    Side.DESTINATION: report_pb2.SIDE_DESTINATION,
    Side.EITHER: report_pb2.SIDE_UNSPECIFIED,
}
SIDES_OF_FINDINGS = {side: wired for side, wired in SIDES.items() if side is not Side.EITHER}
DEPTHS = {
    Depth.FACTS: guest_pb2.DEPTH_FACTS,
    Depth.LIBVIRT: guest_pb2.DEPTH_LIBVIRT,
    Depth.TRIAL: guest_pb2.DEPTH_TRIAL,
    Depth.REHEARSAL: guest_pb2.DEPTH_REHEARSAL,
}
# What a request without a depth asks for.
DEFAULT_DEPTH = Depth.LIBVIRT
PHASES = {
    Phase.BEGIN: report_pb2.PHASE_BEGIN,
    Phase.PREPARE: report_pb2.PHASE_PREPARE,
    Phase.PERFORM: report_pb2.PHASE_PERFORM,
    Phase.FINISH: report_pb2.PHASE_FINISH,
    Phase.AFTER: report_pb2.PHASE_AFTER,
}


def options(message: guest_pb2.MigrationOptions) -> MigrationOptions:
    """How the guest would be moved. Neither live nor offline said: live; likewise peer-to-peer."""
    return MigrationOptions(
        live=message.live or not message.offline,
        offline=message.offline,
        p2p=message.p2p or not message.direct,
        direct=message.direct,
        tunnelled=message.tunnelled,
        persistent=message.persistent,
        copy_storage_all=message.copy_storage_all,
        copy_storage_inc=message.copy_storage_inc,
        migrate_disks=tuple(message.migrate_disks),
        postcopy=message.postcopy,
        auto_converge=message.auto_converge,
        tls=message.tls,
        parallel=message.parallel,
        unsafe=message.unsafe,
        compressed=message.compressed,
        dname=message.dname,
        xml=message.xml,
        migrateuri=message.migrateuri,
        desturi=message.desturi,
    )


def asked(message: guest_pb2.Questions) -> Asked:
    """Which checks, and how old their facts may be."""
    return Asked(
        only=frozenset(message.only),
        skip=frozenset(message.skip),
        waive=frozenset(message.waive),
        max_age_s=message.max_age.ToTimedelta().total_seconds()
        if message.HasField("max_age")
        else None,
        depth=depth(message.depth) or DEFAULT_DEPTH,
        allow=frozenset(message.allow),
    )


def depth(number: int) -> Depth | None:
    """None for one that is not named, or that this version has no name for."""
    return next((depth for depth, wired in DEPTHS.items() if wired == number), None)


def origin(message: guest_pb2.GuestOrigin) -> GuestOrigin:
    """What the source said, absent things as None."""
    model = message.host_model if message.HasField("host_model") else None
    return GuestOrigin(
        host_name=message.host.name,
        host_uuid=message.host.uuid,
        libvirt_version=message.versions.libvirt or None,
        qemu_version=message.versions.qemu or None,
        host_model_name=model.model if model else None,
        host_model_vendor=model.vendor if model else None,
        host_model_features=frozenset(model.features) if model else None,
        bytes_by_path={
            file.path: file.size_bytes for file in message.files if file.HasField("size_bytes")
        },
        pci_ids_by_address={
            device.address: device.vendor_product for device in message.pci_devices
        },
        identity_by_path={
            file.path: FileIdentity(
                file_system=file.identity.file_system,
                inode=file.identity.inode,
                born_ns=file.identity.born_ns,
                serial=file.identity.serial,
            )
            for file in message.files
            if file.HasField("identity")
        },
        backing_by_path={file.path: file.backing for file in message.files if file.backing},
        digest_by_path={file.path: file.sha256 for file in message.files if file.sha256},
        lock_manager=message.lock_manager,
        stored_xml=message.stored_xml,
        tls_authority=message.tls.authority.decode(errors="replace"),
        tls_client=message.tls.client.decode(errors="replace"),
        begin_cookie=message.begin_cookie,
        lookup_by_name={
            one.name: Lookup(fault=one.fault, doubt=one.doubt) for one in message.lookups.names
        }
        if message.HasField("lookups")
        else None,
        unlearned={left.fact: left.why for left in message.unlearned},
    )


def origin_message(found: GuestOrigin) -> guest_pb2.GuestOrigin:
    """The same, for the way to a destination."""
    message = guest_pb2.GuestOrigin(
        host=guest_pb2.HostIdentity(name=found.host_name, uuid=found.host_uuid),
        versions=guest_pb2.HostVersions(
            libvirt=found.libvirt_version or 0, qemu=found.qemu_version or 0
        ),
        files=[_origin_file(path, found) for path in sorted(found.paths)],
        lock_manager=found.lock_manager,
        stored_xml=found.stored_xml,
        tls=guest_pb2.TlsCredentials(
            authority=found.tls_authority.encode(), client=found.tls_client.encode()
        )
        if found.tls_authority or found.tls_client
        else None,
        pci_devices=[
            guest_pb2.OriginPciDevice(address=address, vendor_product=ids)
            for address, ids in sorted(found.pci_ids_by_address.items())
        ],
        begin_cookie=found.begin_cookie,
        unlearned=unlearned(found.unlearned),
    )
    if found.host_model_features is not None:
        message.host_model.model = found.host_model_name or ""
        message.host_model.vendor = found.host_model_vendor or ""
        message.host_model.features.extend(sorted(found.host_model_features))
    if found.lookup_by_name is not None:
        message.lookups.SetInParent()
        message.lookups.names.extend(
            guest_pb2.NameLookup(name=name, fault=one.fault, doubt=one.doubt)
            for name, one in found.lookup_by_name.items()
        )
    return message


def _origin_file(path: str, found: GuestOrigin) -> guest_pb2.OriginFile:
    identity = found.identity_by_path.get(path)
    return guest_pb2.OriginFile(
        path=path,
        size_bytes=found.bytes_by_path.get(path),
        identity=guest_pb2.FileIdentity(
            file_system=identity.file_system,
            inode=identity.inode,
            born_ns=identity.born_ns,
            serial=identity.serial,
        )
        if identity
        else None,
        sha256=found.digest_by_path.get(path, ""),
        backing=found.backing_by_path.get(path, ""),
    )


def unlearned(why_by_fact: Mapping[str, str]) -> list[guest_pb2.Unlearned]:
    """What could not be learned, by the name of the fact."""
    return [guest_pb2.Unlearned(fact=fact, why=why) for fact, why in sorted(why_by_fact.items())]


def report(found: Report) -> report_pb2.Report:
    """One guest on this host."""
    return report_pb2.Report(
        host=found.host,
        guest_name=found.guest_name,
        guest_uuid=found.guest_uuid,
        verdict=VERDICTS[found.verdict],
        findings=[_finding(finding) for finding in found.findings],
        unanswered=[_unanswered(left) for left in found.unanswered],
        facts_age=duration(found.facts_age_s),
        claims=_claims(found.claims),
        capacity=capacity(found.capacity),
        depth=DEPTHS[found.depth],
        shallower_because=found.shallower_because,
        checks_asked=found.checks_asked,
        checks_not_applicable=found.checks_not_applicable,
    )


def duration(seconds: float) -> Duration:
    """Seconds as protobuf counts them."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def capacity(found: Capacity | None) -> report_pb2.Capacity | None:
    """What the host has, for ranking."""
    if found is None:
        return None
    return report_pb2.Capacity(
        memory_total_kib=found.memory_total_kib, memory_free_kib=max(0, found.memory_free_kib)
    )


def checks(found: Sequence[AnyCheck]) -> list[agent_pb2.CheckDescription]:
    """Every check, as an operator reads it."""
    return [
        agent_pb2.CheckDescription(
            check=check.id,
            severity=SEVERITIES[check.severity],
            title=check.title,
            explanation=check.explanation,
            remedy=check.remedy,
            side=SIDES[check.side],
            phase=PHASES[check.phase],
        )
        for check in found
    ]


def _finding(finding: Finding) -> report_pb2.Finding:
    return report_pb2.Finding(
        check=finding.check,
        title=finding.title,
        severity=SEVERITIES[finding.severity],
        side=SIDES[finding.side],
        phase=PHASES[finding.phase],
        depth=DEPTHS[finding.depth],
        libvirt_error=finding.libvirt_error,
        subject=finding.subject,
        wanted=finding.wanted,
        found=finding.found,
        remedy=finding.remedy,
        commands=finding.commands,
        lasting=finding.lasting,
        waived=finding.waived,
    )


def _unanswered(left: Unanswered) -> report_pb2.Unanswered:
    return report_pb2.Unanswered(
        check=left.check,
        title=left.title,
        severity=SEVERITIES[left.severity],
        subject=left.subject,
        why=left.why,
        waived=left.waived,
        depth=DEPTHS[left.depth],
    )


def _claims(claims: Claims) -> report_pb2.Claims:
    return report_pb2.Claims(
        memory_kib=claims.memory_kib,
        vcpus=claims.vcpus,
        pages=[
            report_pb2.PageClaim(page_kib=page_kib, count=count)
            for page_kib, count in claims.pages_by_kib
        ],
    )


def domain(found: Resident) -> agent_pb2.Domain:
    """One guest of this host."""
    states = {
        "running": agent_pb2.DOMAIN_STATE_RUNNING,
        "paused": agent_pb2.DOMAIN_STATE_PAUSED,
        "shut off": agent_pb2.DOMAIN_STATE_SHUT_OFF,
    }
    return agent_pb2.Domain(
        name=found.name,
        uuid=found.uuid,
        id=found.id,
        state=states.get(found.state, agent_pb2.DOMAIN_STATE_OTHER),
    )


def description(
    found: HostDescription, *, agent_version: str, certificate_ends: datetime | None = None
) -> agent_pb2.DescribeHostResponse:
    """Who this host is and what it has."""
    message = agent_pb2.DescribeHostResponse(
        host=guest_pb2.HostIdentity(name=found.name, uuid=found.uuid),
        versions=guest_pb2.HostVersions(libvirt=found.libvirt_version, qemu=found.qemu_version),
        capacity=capacity(found.capacity),
        domains_running=found.domains_running or 0,
        domains_running_unknown=found.domains_running is None,
        facts_age=duration(found.facts_age_s),
        class_digest=found.class_digest,
        unlearned=unlearned(found.unlearned),
        agent_version=agent_version,
        architecture=found.architecture,
        cpus_online=found.cpus_online,
    )
    if certificate_ends is not None:
        message.certificate_ends.FromDatetime(certificate_ends)
    return message


def rehearsal_message(found: Hearing) -> agent_pb2.Rehearsal:
    """What was heard in a rehearsal, for the way to the destination's agent."""
    return agent_pb2.Rehearsal(
        findings=[
            agent_pb2.RehearsalFinding(finding=_said(said), alike=said.alike) for said in found.said
        ],
        doubt=found.doubt,
        impossible=found.impossible,
        decided=sorted(found.decides),
        # All that an older agent on the destination reads.
        settled=[report_pb2.PHASE_PREPARE] if found.decides else [],
    )


def rehearsal(message: agent_pb2.Rehearsal) -> Hearing:
    """The same, as the destination's agent weighs it."""
    return Hearing(
        ask=REHEARSAL,
        depth=Depth.REHEARSAL,
        said=tuple(
            Said(
                check=one.finding.check,
                problem=_problem(one.finding),
                alike=tuple(one.alike),
            )
            for one in message.findings
        ),
        doubt=message.doubt,
        impossible=message.impossible,
        decides=_decided(message),
        left=tuple(message.left),
    )


def _decided(message: agent_pb2.Rehearsal) -> frozenset[str]:
    """An older agent on the source does not list them: it says that Prepare went through."""
    if message.decided or report_pb2.PHASE_PREPARE not in message.settled:
        return frozenset(message.decided)
    return DECIDED_BY_REHEARSAL


def _said(said: Said) -> report_pb2.Finding:
    problem = said.problem
    return report_pb2.Finding(
        check=said.check,
        # The check has its own.
        severity=report_pb2.SEVERITY_UNSPECIFIED
        if problem.severity is None
        else SEVERITIES[problem.severity],
        side=SIDES[problem.side or Side.EITHER],
        phase=report_pb2.PHASE_UNSPECIFIED if problem.phase is None else PHASES[problem.phase],
        depth=DEPTHS[problem.depth],
        subject=problem.subject,
        wanted=problem.wanted,
        found=problem.found,
        libvirt_error=problem.libvirt_error,
    )


def _problem(message: report_pb2.Finding) -> Problem:
    return Problem(
        subject=message.subject,
        wanted=message.wanted,
        found=message.found,
        severity=_named(SEVERITIES, message.severity, None),
        # Where none is given it is the check's own.
        side=_named(SIDES_OF_FINDINGS, message.side, None),
        phase=_named(PHASES, message.phase, None),
        depth=Depth.REHEARSAL,
        libvirt_error=message.libvirt_error,
    )


def _named(names: Mapping[T, int], number: int, otherwise: D) -> T | D:
    """Our word for it; `otherwise` for what is not given or has no name here."""
    return next((name for name, wired in names.items() if wired == number), otherwise)
