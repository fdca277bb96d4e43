from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.controller.samples import (
    BRIDGE,
    CHECKS,
    HOST,
    LACK,
    LEASE,
    NOON,
    PASSTHROUGH,
    SILENT,
    UUID,
    dry_run,
    heard,
    report,
)
from tests.controller.schemas import schema, validate
from virt_preflight.controller import wire
from virt_preflight.controller.answers import Heard, Report, Silent
from virt_preflight.controller.catalogue import Catalogue
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.controller.fleet import from_names
from virt_preflight.controller.render import documents


@pytest.mark.parametrize("kind", ["DryRun", "HostList", "CheckList"])
def test_the_schemas_are_schemas(kind: str) -> None:
    Draft202012Validator.check_schema(schema(kind))


def test_a_dry_run_has_the_form_that_was_promised() -> None:
    run = dry_run(heard("h2", free_gib=218), heard("h3", BRIDGE), SILENT)
    document = documents.dry_run(run)
    validate(document)
    assert document == {
        "apiVersion": "virt-preflight/v1",
        "kind": "DryRun",
        "domain": {"name": "db1", "uuid": UUID, "source": "h1"},
        "askedAt": "2026-11-23T10:00:00Z",
        "tookMs": 210,
        "depth": "facts",
        "options": ["live", "p2p"],
        "only": [],
        "skip": [],
        "verdict": "CLEAR",
        "hosts": [
            {
                "host": "h2",
                "verdict": "CLEAR",
                "rank": 1,
                "score": 0.82,
                "factsAgeMs": 120,
                "depth": "libvirt",
                "shallower": None,
                "findings": [],
                "unanswered": [],
                "command": "virsh -c qemu+ssh://h1/system migrate --live --p2p"
                " db1 qemu+tls://h2/system",
            },
            {
                "host": "h4",
                "verdict": "UNSURE",
                "silent": "no answer within 5 s",
                "nextStep": "See whether h4 is up.",
                "findings": [],
                "unanswered": [],
            },
            {
                "host": "h3",
                "verdict": "BLOCKED",
                "rank": None,
                "score": None,
                "factsAgeMs": 120,
                "depth": "libvirt",
                "shallower": None,
                "findings": [
                    {
                        "check": "nics.bridge-absent",
                        "severity": "BLOCKER",
                        "side": "destination",
                        "phase": "prepare",
                        "depth": "facts",
                        "subject": "interface 52:54:00:aa:bb:cc",
                        "wanted": "bridge br-prod",
                        "found": "no such link",
                        "lasting": False,
                        "remedy": "Create the bridge on the host, or choose a host that has it.",
                        "commands": ["ip link add br-prod type bridge"],
                        "libvirtError": None,
                        "waived": False,
                    }
                ],
                "unanswered": [],
            },
        ],
        "reasons": [{"check": "nics.bridge-absent", "title": "bridge absent", "hosts": 1}],
    }


def test_the_source_s_findings_are_in_every_host_that_answered() -> None:
    hosts = documents.hosts_of(dry_run(heard("h2"), SILENT, source_report=report(LEASE)))
    sides = {str(host["host"]): host["findings"] for host in hosts}
    assert [finding["side"] for finding in sides["h2"]] == ["source"]  # type: ignore[attr-defined]
    assert sides["h4"] == []


def test_what_could_not_be_told_is_in_the_document() -> None:
    (host,) = documents.hosts_of(dry_run(heard("h2", unanswered=[replace(LACK, waived=True)])))
    assert host["unanswered"] == [
        {
            "check": "pages.too-few-free",
            "depth": "facts",
            "subject": "2048 KiB pages",
            "why": "cannot read /sys/kernel/mm",
            "waived": True,
        }
    ]


ODD = replace(BRIDGE, phase=None, depth=None, libvirt_error="error: no", wanted="\x1b\u202e")


def host_of(answer: Heard[Report] | Silent) -> str:
    return answer.host


ANSWERS: st.SearchStrategy[Heard[Report] | Silent] = st.sampled_from(
    [
        heard("h2"),
        heard("h3", BRIDGE, PASSTHROUGH),
        heard("h4", ODD, free_gib=None),
        heard("h5", unanswered=[LACK, replace(LACK, severity=None)]),
        heard("h6", PASSTHROUGH, free_gib=3),
        Silent(host="h7", why="gone"),
    ]
)


@given(st.lists(ANSWERS, min_size=1, unique_by=host_of), st.booleans())
def test_every_dry_run_keeps_to_the_schema(
    answers: list[Heard[Report] | Silent], from_file: bool
) -> None:
    run: DryRun = dry_run(*answers)
    if from_file:
        run = replace(run, name="", uuid="", source=None, command_by_host={})
    validate(documents.dry_run(run))


def test_a_host_list_keeps_to_its_schema() -> None:
    fleet = from_names("h2,h3,h4")
    bare = replace(HOST, name="", uuid="", libvirt="", capacity=None, cpus_online=0, unlearned=())
    bare = replace(bare, domains_running=None)
    answers: list[documents.Described] = [
        Heard(host="h2", said=replace(HOST, certificate_ends_s=1_800_000_000)),
        Heard(host="h3", said=bare),
        SILENT,
    ]
    document = documents.host_list(fleet, answers, NOON, 12)
    validate(document)
    first, second, third = documents.described_hosts(fleet, answers)
    assert (first["host"], first["ownName"], first["memoryFreeKib"]) == ("h2", "h2.example", 100)
    assert (second["libvirt"], second["memoryFreeKib"]) == (None, None)
    assert (first["domainsRunning"], second["domainsRunning"]) == (3, None)
    assert third == {
        "host": "h4",
        "address": "h4:50551",
        "labels": {},
        "announced": False,
        "lastSeen": None,
        "silent": "no answer within 5 s",
        "nextStep": "See whether h4 is up.",
    }


def test_a_check_list_keeps_to_its_schema() -> None:
    checks = wire.list_checks().read(CHECKS.SerializeToString())
    odd = replace(checks[0], severity=None, side=None, phase=None)
    document = documents.check_list(Catalogue(host="h1", checks=(*checks, odd)))
    validate(document)
    assert document["listedBy"] == "h1"


def test_how_deep_a_host_was_asked_and_why_not_deeper_is_in_the_document() -> None:
    shallow = replace(report(), depth=Depth.FACTS, shallower_because="Begin: not with this driver")
    run = dry_run(heard("h2"), source_report=shallow)
    validate(documents.dry_run(run))
    (host,) = documents.hosts_of(run)
    assert host["depth"] == "facts"
    assert host["shallower"] == "source: Begin: not with this driver"


def test_checks_that_were_left_out_are_in_the_document() -> None:
    run = dry_run(heard("h2"), only=("nics", "disks"), skip=("disks.absent",))
    document = documents.dry_run(run)
    validate(document)
    assert (document["only"], document["skip"]) == (["nics", "disks"], ["disks.absent"])
