"""What Prometheus is told after known questions, over real gRPC and real HTTP on loopback."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from tests.controller.fakes import FakeAgent, running
from tests.controller.samples import (
    WIRE_BRIDGE,
    destination,
    prepared,
    source,
    wire_report,
)
from tests.replayed import RECORDINGS
from tests.service.controllers import PROGRAM, controller, until
from tests.treaty.pki import SOON, issue
from tests.treaty.test_exposition import client_context, free_address, handshake, scrape
from virt_preflight.controller.client import BusyError, Controller
from virt_preflight.controller.metrics import CHECKS_AT_MOST, Metrics
from virt_preflight.controller.settings import Limits
from virt_preflight.v1 import agent_pb2, agent_pb2_grpc, guest_pb2, report_pb2

AGENT = Path(sys.executable).parent / "virt-preflight-agent"
GUEST = guest_pb2.Guest(
    # With more memory than any host has, and a bridge of which the recording knows nothing.
    domain_xml=(RECORDINGS / "guests/db1.xml")
    .read_bytes()
    .replace(b">262144<", b">2621440000<")
    .replace(b"br-prod", b"br-none")
)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(address: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(scrape(address))
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((f"virt_preflight_{name}", frozenset(labels.items())))


@contextmanager
def recorded_agent(place: Path, metrics: str) -> Iterator[agent_pb2_grpc.AgentServiceStub]:
    """The agent of a recorded host, as it is run."""
    command = [str(AGENT), "replay", str(RECORDINGS / "h2"), "--listen", f"unix:{place}/agent"]
    with subprocess.Popen([*command, "--metrics", metrics], stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert b"answers at" in process.stderr.readline()
            with grpc.insecure_channel(f"unix:{place}/agent") as channel:
                yield agent_pb2_grpc.AgentServiceStub(channel)
        finally:
            process.terminate()


def test_an_agent_counts_its_questions_its_reports_and_what_they_say(tmp_path: Path) -> None:
    address = free_address()
    with recorded_agent(tmp_path, address) as agent:
        before = samples(address)
        assert of(before, "agent_verdicts_total", depth="facts", verdict="BLOCKED") == 0
        request = agent_pb2.PrepareDryRunRequest(
            guests=[GUEST, GUEST], questions=guest_pb2.Questions(depth=guest_pb2.DEPTH_FACTS)
        )
        reports = [*agent.PrepareDryRun(request).reports, *agent.PrepareDryRun(request).reports]
        with pytest.raises(grpc.RpcError):
            agent.PrepareDryRun(agent_pb2.PrepareDryRunRequest())
        agent.ListChecks(agent_pb2.ListChecksRequest())
        until(
            lambda: (
                of(samples(address), "agent_questions_total", method="ListChecks", code="OK") == 1
            )
        )
        found = samples(address)
    assert of(found, "agent_questions_total", method="PrepareDryRun", code="OK") == 2
    refused = {"method": "PrepareDryRun", "code": "INVALID_ARGUMENT"}
    assert of(found, "agent_questions_total", **refused) == 1
    took = {"method": "PrepareDryRun", "depth": "facts"}
    assert of(found, "agent_question_seconds_count", **took) == 2
    assert of(found, "agent_questions_under_way", method="PrepareDryRun") == 0
    assert len(reports) == 4
    name = report_pb2.Verdict.Name(reports[0].verdict).removeprefix("VERDICT_")
    assert of(found, "agent_verdicts_total", depth="facts", verdict=name) == 4
    findings = Counter(
        (one.check, report_pb2.Severity.Name(one.severity).removeprefix("SEVERITY_"))
        for report in reports
        for one in report.findings
    )
    assert findings["memory.cannot-be-mapped", "BLOCKER"] == 4
    for (check, severity), count in findings.items():
        assert of(found, "agent_findings_total", check=check, severity=severity) == count
    unanswered = Counter(one.check for report in reports for one in report.unanswered)
    assert unanswered["nics.bridge-absent"] == 4
    for check, count in unanswered.items():
        assert of(found, "agent_unanswered_total", check=check) == count
    assert of(found, "agent_report_facts_age_seconds_count") == 4
    families = [dict(labels)["family"] for name, labels in found if "agent_facts_age_sec" in name]
    assert "memory" in families
    (version,) = [dict(labels)["version"] for name, labels in found if "agent_build_info" in name]
    assert version.startswith("0.")
    assert (of(found, "agent_process_resident_memory_bytes") or 0) > 1_000_000


def test_no_name_of_a_guest_and_no_text_of_a_caller_is_in_the_metrics(tmp_path: Path) -> None:
    address = free_address()
    xml = GUEST.domain_xml.replace(b"db1", b"marked-by-caller")
    with recorded_agent(tmp_path, address) as agent:
        marked = (("x-request-id", "marked-by-caller"),)
        guest = guest_pb2.Guest(domain_xml=xml)
        agent.PrepareDryRun(agent_pb2.PrepareDryRunRequest(guests=[guest]), metadata=marked)
        with suppress(grpc.RpcError):
            questions = guest_pb2.Questions(
                only=["marked-by-caller"], depth=guest_pb2.Depth.ValueType(99)
            )
            agent.PrepareDryRun(agent_pb2.PrepareDryRunRequest(guests=[guest], questions=questions))
        with suppress(grpc.RpcError):
            agent.BeginDryRun(agent_pb2.BeginDryRunRequest(domain="marked-by-caller"))
        text = scrape(address)
    assert 'method="PrepareDryRun"' in text
    assert "marked-by-caller" not in text


def test_a_controller_counts_dry_runs_verdicts_findings_and_silent_hosts() -> None:
    address = free_address()
    agents = source(), destination("h2"), destination("h3", WIRE_BRIDGE)
    with (
        running(*map(at_depth_libvirt, agents), absent=("h4",)) as it,
        controller(it.hosts, metrics=address) as at,
        Controller(at) as client,
    ):
        client.rank("db1", within_s=30)
        client.rank("db1", within_s=30)
        ok = {"method": "Rank", "code": "OK"}
        until(lambda: of(samples(address), "controller_questions_total", **ok) == 2)
        found = samples(address)
    assert of(found, "controller_hosts") == 4
    assert of(found, "controller_hosts_by_last_answer", kind="heard") == 3
    assert of(found, "controller_hosts_by_last_answer", kind="unreached") == 1
    assert of(found, "controller_host_silent", host="h4", kind="unreached") == 1
    assert not [1 for name, labels in found if "_silent" in name and ("host", "h2") in labels]
    assert of(found, "controller_dry_runs_total", depth="libvirt", verdict="CLEAR") == 2
    assert of(found, "controller_verdicts_total", depth="libvirt", verdict="CLEAR") == 2
    assert of(found, "controller_verdicts_total", depth="libvirt", verdict="BLOCKED") == 2
    bridge = {"check": WIRE_BRIDGE.check, "severity": "BLOCKER"}
    assert of(found, "controller_findings_total", **bridge) == 2
    # Each time all four are looked at for the guest; then its host, and the three others.
    assert of(found, "controller_host_answers_total", kind="heard") == 12
    assert of(found, "controller_host_answers_total", kind="unreached") == 4
    assert of(found, "controller_host_answer_seconds_count", method="PrepareDryRun") == 6
    heard_at = of(found, "controller_host_last_heard_timestamp_seconds", host="h2")
    assert heard_at is not None
    assert abs(time.time() - heard_at) < 60
    assert of(found, "controller_host_facts_age_seconds", host="h3") is not None


def test_a_deadline_that_a_host_lets_pass_is_counted() -> None:
    address, release = free_address(), threading.Event()

    def late(_: bytes) -> agent_pb2.PrepareDryRunResponse:
        release.wait(30)
        return prepared(wire_report())

    with (
        running(source(), destination("h2", PrepareDryRun=late)) as it,
        controller(it.hosts, metrics=address) as at,
        Controller(at) as client,
    ):
        ranking = client.rank("db1", within_s=1.5)
        found = samples(address)
        release.set()
    assert [one.host for one in ranking.missing] == ["h2"]
    assert of(found, "controller_host_answers_total", kind="late") == 1
    assert of(found, "controller_host_silent", host="h2", kind="late") == 1


def test_a_scrape_is_answered_while_questions_are_under_way_and_refusals_are_counted() -> None:
    address, release = free_address(), threading.Event()

    def slow(_: bytes) -> agent_pb2.PrepareDryRunResponse:
        release.wait(30)
        return prepared(wire_report())

    with (
        running(source(), destination("h2", PrepareDryRun=slow)) as it,
        controller(it.hosts, metrics=address, limits=Limits(requests_per_caller=2)) as at,
        Controller(at) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        asking = [threads.submit(client.rank, "db1", within_s=30) for _ in range(2)]
        until(lambda: of(samples(address), "controller_questions_under_way", method="Rank") == 2)
        with pytest.raises(BusyError):
            client.rank("db1", within_s=30)
        release.set()
        assert all(one.result().takers == 1 for one in asking)
        refused = {"method": "Rank", "code": "RESOURCE_EXHAUSTED"}
        until(lambda: of(samples(address), "controller_questions_under_way", method="Rank") == 0)
        assert of(samples(address), "controller_questions_total", **refused) == 1


def at_depth_libvirt(agent: FakeAgent) -> FakeAgent:
    """One that says how deep it was asked."""
    for said in agent.script.values():
        match said:
            case agent_pb2.PrepareDryRunResponse():
                said.reports[0].depth = guest_pb2.DEPTH_LIBVIRT
            case agent_pb2.BeginDryRunResponse():
                said.report.depth = guest_pb2.DEPTH_LIBVIRT
    return agent


def made_up(check: str) -> report_pb2.Finding:
    finding = report_pb2.Finding()
    finding.CopyFrom(WIRE_BRIDGE)
    finding.check = check
    return finding


def test_an_agent_that_makes_up_checks_cannot_fill_the_controllers_memory() -> None:
    address = free_address()
    invented = [made_up(f"made.up-{number}") for number in range(CHECKS_AT_MOST + 50)]
    odd = [made_up('x"} 1\nforged{y="'), made_up("a" * 500), made_up("")]
    with (
        running(source(), destination("h2", *odd, *invented)) as it,
        controller(it.hosts, metrics=address) as at,
        Controller(at) as client,
    ):
        client.rank("db1", within_s=30)
        found = samples(address)
    checks = {dict(labels)["check"] for name, labels in found if name.endswith("findings_total")}
    assert len(checks) == CHECKS_AT_MOST + 1
    other = [value for (name, labels), value in found.items() if ("check", "other") in labels]
    assert sum(other[:1]) == 53


def test_hosts_that_left_the_fleet_are_forgotten() -> None:
    from virt_preflight.controller.answers import Silent

    fleet = ["h1", "h2"]
    metrics = Metrics("1")
    metrics.of_fleet(lambda: fleet)
    for host in ("h1", "h2"):
        metrics.answered(Silent(host=host, why="down"))
    silent = "virt_preflight_controller_host_silent"
    labels = {"host": "h2", "kind": "unusable"}
    assert metrics.registry.get_sample_value(silent, labels) == 1
    fleet.pop()
    assert metrics.registry.get_sample_value(silent, labels) is None


def test_with_tls_metrics_say_when_the_certificate_ends(tmp_path: Path) -> None:
    ca, listen, address = trustme.CA(), free_address(), free_address()
    files = issue(tmp_path, ca, "127.0.0.1", not_after=SOON)
    config = tmp_path / "agent.toml"
    config.write_text(
        f'listen = ["{listen}"]\nmetrics = "{address}"\n[tls]\nca = "{files.ca}"\n'
        f'cert = "{files.cert}"\nkey = "{files.key}"\nloopback = true\n'
    )
    command = [str(AGENT), "replay", str(RECORDINGS / "h2"), "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert b"answers at" in process.stderr.readline()
            text = handshake(address, client_context(ca, ca))
        finally:
            process.terminate()
    name = "virt_preflight_agent_certificate_expiry_timestamp_seconds"
    (told,) = [line for line in text.splitlines() if line.startswith(name)]
    assert abs(float(told.removeprefix(name)) - SOON.timestamp()) < 2


@pytest.mark.parametrize(
    "command",
    [
        [str(AGENT), "replay", str(RECORDINGS / "h2"), "--listen", "127.0.0.1:1"],
        [str(PROGRAM), "serve", "--hosts", "h1=unix:/nowhere", "--listen", "127.0.0.1:1"],
    ],
    ids=["agent", "controller"],
)
def test_a_port_that_is_taken_is_one_line_and_the_program_ends(command: list[str]) -> None:
    from prometheus_client import CollectorRegistry

    from virt_preflight.treaty.exposition import exposed
    from virt_preflight.treaty.tls import Tls

    address = free_address()
    with exposed(CollectorRegistry(), address, Tls(), insecure=False):
        ended = subprocess.run(
            [*command, "--metrics", address],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    told = f"{Path(command[0]).name}: metrics at {address}: address already in use\n"
    assert (ended.returncode, ended.stderr) == (1, told)


@pytest.mark.parametrize("module", ["agent.service", "agent.cli", "controller.service"])
def test_who_wants_no_metrics_does_not_pay_for_them(module: str) -> None:
    code = (
        f"import sys, virt_preflight.{module}\n"
        "assert not [it for it in sys.modules if it.startswith('prometheus_client')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
