"""Findings, reports and whole answers to start a test from."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.controller.fakes import FakeAgent, Script
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
    Verdict,
)
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.dryrun import DryRun, conclude
from virt_preflight.controller.fleet import Uris
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import Asked, Question, Questions
from virt_preflight.v1 import agent_pb2, guest_pb2, report_pb2

GIB = 1024 * 1024
UUID = "6a1f6c2e-0c1e-4a36-9a53-0d6b1c7e3f10"
DOMAIN_XML = b"<domain type='kvm'><name>db1</name></domain>"
NOON = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)

BRIDGE = Finding(
    check="nics.bridge-absent",
    title="bridge absent",
    severity=Severity.BLOCKER,
    side=Side.DESTINATION,
    phase=Phase.PREPARE,
    depth=Depth.FACTS,
    subject="interface 52:54:00:aa:bb:cc",
    wanted="bridge br-prod",
    found="no such link",
    remedy="Create the bridge on the host, or choose a host that has it.",
    commands=("ip link add br-prod type bridge",),
    lasting=False,
    libvirt_error="",
    waived=False,
)
PAGES = replace(
    BRIDGE,
    check="pages.too-few-free",
    title="too few free huge pages",
    subject="2048 KiB pages",
    wanted="4096 free",
    found="512 free",
    remedy="Reserve more pages of that size.",
    commands=(),
)
PASSTHROUGH = replace(
    BRIDGE,
    check="cpu.passthrough-differs",
    title="host-passthrough on another CPU",
    severity=Severity.RISK,
    subject="CPU",
    wanted="avx512-bf16",
    found="a CPU without it",
    remedy="Move it to a host with the same CPU.",
    commands=(),
    lasting=True,
)
REMARK = replace(
    BRIDGE,
    check="clock.no-tsc",
    title="no invariant TSC",
    severity=Severity.NOTE,
    subject="clock",
    wanted="an invariant TSC",
    found="none",
    remedy="",
    commands=(),
)
LEASE = replace(
    BRIDGE,
    check="locks.held",
    title="lease held",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
    subject="disk vda",
    wanted="a free lease",
    found="one held by pid 7",
    remedy="Release the lease.",
    commands=("virt-lock release vda",),
)
LACK = Unanswered(
    check="pages.too-few-free",
    title="too few free huge pages",
    severity=Severity.BLOCKER,
    side=Side.DESTINATION,
    subject="2048 KiB pages",
    why="cannot read /sys/kernel/mm",
    waived=False,
    depth=Depth.FACTS,
)


SILENT = Silent(host="h4", why="no answer within 5 s", next_step="See whether h4 is up.")
HOST = HostDescription(
    name="h2.example",
    uuid=UUID,
    libvirt="11.3.0",
    qemu="10.0.2",
    agent="0.1.0",
    architecture="x86_64",
    cpus_online=64,
    capacity=Capacity(memory_total_kib=256, memory_free_kib=100),
    domains_running=3,
    facts_age_ms=95,
    class_digest="abc",
    unlearned=(("HostTpm", "no swtpm"),),
)


def report(
    *findings: Finding,
    unanswered: Sequence[Unanswered] = (),
    stated: Verdict = Verdict.CLEAR,
    free_gib: int | None = 100,
) -> Report:
    return Report(
        guest_name="db1",
        guest_uuid=UUID,
        stated=stated,
        findings=findings,
        unanswered=tuple(unanswered),
        facts_age_ms=120,
        claims=Claims(memory_kib=8 * GIB, vcpus=4),
        capacity=None
        if free_gib is None
        else Capacity(memory_total_kib=256 * GIB, memory_free_kib=free_gib * GIB),
        checks_asked=40,
        checks_not_applicable=10,
        depth=Depth.LIBVIRT,
        shallower_because="",
    )


def heard(host: str, *findings: Finding, **about: Any) -> Heard[Report]:
    return Heard(host=host, said=report(*findings, **about))


def dry_run(
    *answers: Heard[Report] | Silent,
    source_report: Report | None = None,
    name: str = "db1",
    options: MigrationOptions | None = None,
    depth: Depth = Depth.FACTS,
    only: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
) -> DryRun:
    """What a question about db1 on h1 came to, at noon and in 0.21 s."""
    asked = Asked(
        name=name,
        uuid=UUID,
        source="h1",
        source_report=source_report or report(),
        answers=answers,
    )
    question = Question(
        guest=name,
        options=options or MigrationOptions(live=True, p2p=True),
        questions=Questions(depth=depth, only=only, skip=skip),
    )
    return conclude(asked, question, Uris(), NOON, 210)


# The same as an agent would send it.

WIRE_BRIDGE = report_pb2.Finding(
    check="nics.bridge-absent",
    title="bridge absent",
    severity=report_pb2.SEVERITY_BLOCKER,
    side=report_pb2.SIDE_DESTINATION,
    phase=report_pb2.PHASE_PREPARE,
    depth=guest_pb2.DEPTH_FACTS,
    subject="interface 52:54:00:aa:bb:cc",
    wanted="bridge br-prod",
    found="no such link",
    remedy="Create the bridge on the host, or choose a host that has it.",
    commands=["ip link add br-prod type bridge"],
)
WIRE_PASSTHROUGH = report_pb2.Finding(
    check="cpu.passthrough-differs",
    title="host-passthrough on another CPU",
    severity=report_pb2.SEVERITY_RISK,
    side=report_pb2.SIDE_DESTINATION,
    phase=report_pb2.PHASE_AFTER,
    depth=guest_pb2.DEPTH_FACTS,
    subject="CPU",
    wanted="avx512-bf16",
    found="a CPU without it",
    lasting=True,
)
WIRE_LACK = report_pb2.Unanswered(
    check="pages.too-few-free",
    title="too few free huge pages",
    severity=report_pb2.SEVERITY_BLOCKER,
    subject="2048 KiB pages",
    why="cannot read /sys/kernel/mm",
    depth=guest_pb2.DEPTH_LIBVIRT,
)
CHECKS = agent_pb2.ListChecksResponse(
    checks=[
        agent_pb2.CheckDescription(
            check="nics.bridge-absent",
            severity=report_pb2.SEVERITY_BLOCKER,
            title="bridge absent",
            explanation="libvirt adds a tap to the bridge.\n\nSo it must be there.",
            remedy="Create the bridge.",
            side=report_pb2.SIDE_DESTINATION,
            phase=report_pb2.PHASE_PREPARE,
        ),
        agent_pb2.CheckDescription(
            check="pages.too-few-free",
            severity=report_pb2.SEVERITY_BLOCKER,
            title="too few free huge pages",
            explanation="QEMU takes the pages when it starts.",
            remedy="Reserve more.",
            side=report_pb2.SIDE_DESTINATION,
            phase=report_pb2.PHASE_PREPARE,
        ),
    ]
)
NO_DOMAINS = agent_pb2.ListDomainsResponse()


def wire_report(
    *findings: report_pb2.Finding,
    verdict: "report_pb2.Verdict.ValueType" = report_pb2.VERDICT_CLEAR,
    unanswered: Sequence[report_pb2.Unanswered] = (),
    free_gib: int = 100,
) -> report_pb2.Report:
    made = report_pb2.Report(
        host="its-own-name",
        guest_name="db1",
        guest_uuid=UUID,
        verdict=verdict,
        findings=findings,
        unanswered=unanswered,
        claims=report_pb2.Claims(memory_kib=8 * GIB, vcpus=4),
        capacity=report_pb2.Capacity(memory_total_kib=256 * GIB, memory_free_kib=free_gib * GIB),
        depth=guest_pb2.DEPTH_FACTS,
        checks_asked=40,
    )
    made.facts_age.FromMilliseconds(120)
    return made


def prepared(*reports: report_pb2.Report) -> agent_pb2.PrepareDryRunResponse:
    return agent_pb2.PrepareDryRunResponse(reports=reports)


def domain(
    state: "agent_pb2.DomainState.ValueType" = agent_pb2.DOMAIN_STATE_RUNNING, *, uuid: str = UUID
) -> agent_pb2.ListDomainsResponse:
    return agent_pb2.ListDomainsResponse(
        domains=[agent_pb2.Domain(name="db1", uuid=uuid, state=state)]
    )


def source(name: str = "h1", *findings: report_pb2.Finding, **script: Script) -> FakeAgent:
    """An agent whose host runs db1."""
    begun = agent_pb2.BeginDryRunResponse(
        guest=guest_pb2.Guest(
            domain_xml=DOMAIN_XML,
            origin=guest_pb2.GuestOrigin(host=guest_pb2.HostIdentity(name=name)),
        ),
        report=wire_report(*findings),
    )
    whole: dict[str, Script] = {"ListDomains": domain(), "BeginDryRun": begun, "ListChecks": CHECKS}
    return FakeAgent(name, whole | script)


def destination(
    name: str, *findings: report_pb2.Finding, free_gib: int = 100, **script: Script
) -> FakeAgent:
    """An agent whose host does not have db1 and finds this about taking it."""
    whole: dict[str, Script] = {
        "ListDomains": NO_DOMAINS,
        "PrepareDryRun": prepared(wire_report(*findings, free_gib=free_gib)),
        "ListChecks": CHECKS,
    }
    return FakeAgent(name, whole | script)
