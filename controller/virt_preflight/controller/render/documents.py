"""Answers for programs: the documents behind `-o json` and `-o yaml`.

Programs hold on to these names and shapes, so they change only by adding. Each kind is described
by a JSON Schema in `schemas/`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from virt_preflight.controller.answers import (
    CheckDescription,
    Finding,
    Heard,
    HostDescription,
    Silent,
    Unanswered,
)
from virt_preflight.controller.catalogue import Catalogue
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.controller.fleet import Fleet
from virt_preflight.controller.ranking import Candidate

API_VERSION = "virt-preflight/v1"

Document = dict[str, object]
Described = Heard[HostDescription] | Silent


def dry_run(run: DryRun) -> Document:
    """`kind: DryRun`."""
    return {
        "apiVersion": API_VERSION,
        "kind": "DryRun",
        "domain": {"name": run.name or None, "uuid": run.uuid or None, "source": run.source},
        "askedAt": _moment(run.asked_at),
        "tookMs": run.took_ms,
        "depth": str(run.depth),
        "options": list(run.options),
        "only": list(run.only),
        "skip": list(run.skip),
        "verdict": run.verdict.name,
        "hosts": hosts_of(run),
        "reasons": [
            {"check": reason.check, "title": reason.title, "hosts": reason.hosts}
            for reason in run.reasons
        ],
    }


def hosts_of(run: DryRun) -> list[Document]:
    """Each host of a dry run, best first."""
    return [_candidate(one, run.command_by_host.get(one.host)) for one in run.candidates]


def host_list(
    fleet: Fleet, answers: Sequence[Described], asked_at: datetime, took_ms: int
) -> Document:
    """`kind: HostList`."""
    return {
        "apiVersion": API_VERSION,
        "kind": "HostList",
        "askedAt": _moment(asked_at),
        "tookMs": took_ms,
        "hosts": described_hosts(fleet, answers),
    }


def described_hosts(fleet: Fleet, answers: Sequence[Described]) -> list[Document]:
    """Each host of the fleet, in the fleet's order."""
    return [
        {
            "host": host.name,
            "address": host.address,
            "labels": dict(host.labels),
            "announced": host.last_seen is not None,
            "lastSeen": host.last_seen and _moment(host.last_seen),
        }
        | _described(answer)
        for host, answer in zip(fleet.hosts, answers, strict=True)
    ]


def check_list(catalogue: Catalogue) -> Document:
    """`kind: CheckList`."""
    return {
        "apiVersion": API_VERSION,
        "kind": "CheckList",
        "listedBy": catalogue.host,
        "checks": described_checks(catalogue),
    }


def described_checks(catalogue: Catalogue) -> list[Document]:
    """Each check of a catalogue."""
    return [_check(check) for check in catalogue.checks]


def _candidate(one: Candidate, command: str | None) -> Document:
    if one.silent is not None:
        return {
            "host": one.host,
            "verdict": one.verdict.name,
            "silent": one.silent,
            "nextStep": one.next_step or None,
            "findings": [],
            "unanswered": [],
        }
    document: Document = {
        "host": one.host,
        "verdict": one.verdict.name,
        "rank": one.rank,
        "score": one.score,
        "factsAgeMs": one.facts_age_ms,
        "depth": one.depth and str(one.depth),
        "shallower": one.shallower or None,
        "findings": [_finding(finding) for finding in one.findings],
        "unanswered": [_unanswered(lack) for lack in one.unanswered],
    }
    return document if command is None else document | {"command": command}


def _finding(finding: Finding) -> Document:
    return {
        "check": finding.check,
        "severity": finding.severity.name,
        "side": str(finding.side),
        "phase": finding.phase and str(finding.phase),
        "depth": finding.depth and str(finding.depth),
        "subject": finding.subject,
        "wanted": finding.wanted,
        "found": finding.found,
        "lasting": finding.lasting,
        "remedy": finding.remedy,
        "commands": list(finding.commands),
        "libvirtError": finding.libvirt_error or None,
        "waived": finding.waived,
    }


def _unanswered(one: Unanswered) -> Document:
    return {
        "check": one.check,
        "depth": one.depth and str(one.depth),
        "subject": one.subject,
        "why": one.why,
        "waived": one.waived,
    }


def _described(answer: Described) -> Document:
    if isinstance(answer, Silent):
        return {"silent": answer.why, "nextStep": answer.next_step or None}
    host = answer.said
    return {
        "ownName": host.name or None,
        "uuid": host.uuid or None,
        "agent": host.agent or None,
        "libvirt": host.libvirt or None,
        "qemu": host.qemu or None,
        "architecture": host.architecture or None,
        "cpusOnline": host.cpus_online or None,
        "memoryTotalKib": host.capacity and host.capacity.memory_total_kib,
        "memoryFreeKib": host.capacity and host.capacity.memory_free_kib,
        "domainsRunning": host.domains_running,
        "factsAgeMs": host.facts_age_ms,
        "classDigest": host.class_digest or None,
        "certificateEnds": _ends(host.certificate_ends_s),
        "unlearned": [{"fact": fact, "why": why} for fact, why in host.unlearned],
    }


def _check(check: CheckDescription) -> Document:
    return {
        "check": check.check,
        "severity": None if check.severity is None else check.severity.name,
        "title": check.title,
        "side": check.side and str(check.side),
        "phase": check.phase and str(check.phase),
        "explanation": check.explanation,
        "remedy": check.remedy,
    }


def _ends(seconds: int | None) -> str | None:
    return None if seconds is None else _moment(datetime.fromtimestamp(seconds, UTC))


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
