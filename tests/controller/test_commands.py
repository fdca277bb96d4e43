import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
import yaml

from tests.controller.fakes import Fails, FakeAgent, FakeFleet, Hangs, objects, running
from tests.controller.samples import (
    DOMAIN_XML,
    UUID,
    WIRE_BRIDGE,
    WIRE_LACK,
    WIRE_PASSTHROUGH,
    destination,
    prepared,
    source,
    wire_report,
)
from tests.controller.schemas import validate
from virt_preflight.controller import cli
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.desk import patience_s
from virt_preflight.controller.exits import Exit
from virt_preflight.controller.fleet import from_names
from virt_preflight.controller.options import MigrationOptions, with_defaults
from virt_preflight.v1 import agent_pb2, guest_pb2, report_pb2

UNSURE = prepared(wire_report(unanswered=[WIRE_LACK]))
DESCRIBED = agent_pb2.DescribeHostResponse(
    host=guest_pb2.HostIdentity(name="h1.example", uuid=UUID),
    versions=guest_pb2.HostVersions(libvirt=11_003_000, qemu=10_000_002),
    capacity=report_pb2.Capacity(memory_total_kib=2**28, memory_free_kib=2**27),
    domains_running=3,
    agent_version="0.1.0",
    architecture="x86_64",
    cpus_online=64,
)


def run(fleet: FakeFleet, *arguments: str) -> int:
    return cli.run([*arguments, "--hosts", fleet.hosts])


def check(fleet: FakeFleet, *arguments: str) -> int:
    return run(fleet, "check", "db1", *arguments)


def test_0_when_some_host_can_take_it() -> None:
    with running(source(), destination("h2"), destination("h3", WIRE_BRIDGE)) as fleet:
        assert check(fleet) == Exit.OK


def test_0_when_all_hosts_named_can_take_it_be_it_at_a_risk() -> None:
    with running(source(), destination("h2"), destination("h3", WIRE_PASSTHROUGH)) as fleet:
        assert check(fleet, "--to", "h2,h3") == Exit.OK


def test_1_when_the_guest_is_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    with running(destination("h1"), destination("h2")) as fleet:
        assert check(fleet) == Exit.CANNOT_RUN
    assert capsys.readouterr().err == "virt-preflight: no host has a guest db1\n"


def test_2_when_a_check_is_misspelt(capsys: pytest.CaptureFixture[str]) -> None:
    with running(source(), destination("h2")) as fleet:
        assert check(fleet, "--waive", "nics.bridge-abscent") == Exit.USAGE
    assert "close to it: nics.bridge-absent" in capsys.readouterr().err


def test_3_when_no_host_can_take_it() -> None:
    with running(source(), destination("h2", WIRE_BRIDGE)) as fleet:
        assert check(fleet) == Exit.CANNOT_TAKE


def test_3_when_one_of_the_hosts_named_cannot() -> None:
    with running(source(), destination("h2"), destination("h3", WIRE_BRIDGE)) as fleet:
        assert check(fleet, "--to", "h2", "--to", "h3") == Exit.CANNOT_TAKE


def test_4_when_strict_and_only_at_a_risk() -> None:
    with running(source(), destination("h2", WIRE_PASSTHROUGH)) as fleet:
        assert check(fleet) == Exit.OK
        assert check(fleet, "--strict") == Exit.WARNED


def test_5_when_nobody_can_say() -> None:
    unsure = destination("h2", PrepareDryRun=UNSURE)
    with running(source(), unsure, destination("h3", WIRE_BRIDGE), absent=("h4",)) as fleet:
        assert check(fleet) == Exit.CANNOT_SAY
        assert check(fleet, "--to", "h3,h4") == Exit.CANNOT_SAY


def test_the_options_in_the_answer_are_those_that_were_asked_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running(source(), destination("h2")) as fleet:
        check(fleet, "--to", "h2", "--persistent", "--tls", "--dname", "db 2", "-o", "json")
    document = json.loads(capsys.readouterr().out)
    assert document["options"] == ["live", "p2p", "persistent", "tls", "dname=db 2"]
    assert document["hosts"][0]["command"] == (
        "virsh -c qemu+ssh://h1/system migrate --live --p2p --persistent --tls"
        " --dname 'db 2' db1 qemu+tls://h2/system"
    )
    (request,) = fleet["h2"].requests("PrepareDryRun")
    assert agent_pb2.PrepareDryRunRequest.FromString(request).options == guest_pb2.MigrationOptions(
        live=True, p2p=True, persistent=True, tls=True, dname="db 2"
    )


@pytest.mark.parametrize(
    ("words", "noted"),
    [((), True), (("--depth", "trial"), True), (("--depth", "rehearsal"), False)],
)
def test_allow_where_nothing_is_rehearsed_is_said_to_change_nothing(
    words: tuple[str, ...], noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(source(), destination("h2")) as fleet:
        check(fleet, "--allow", "hooks", *words)
    said = "virt-preflight: note: --allow changes nothing without --depth rehearsal\n"
    assert (said in capsys.readouterr().err) is noted


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (MigrationOptions(), MigrationOptions(live=True, p2p=True)),
        (MigrationOptions(offline=True), MigrationOptions(offline=True, p2p=True)),
        (MigrationOptions(direct=True), MigrationOptions(live=True, direct=True)),
    ],
)
def test_the_move_is_live_and_by_way_of_libvirtd_unless_wished_otherwise(
    given: MigrationOptions, asked: MigrationOptions
) -> None:
    assert with_defaults(given) == asked


def test_json_and_yaml_say_the_same_and_keep_to_the_schema(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = []
    with running(source(), destination("h2"), absent=("h3",)) as fleet:
        for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
            check(fleet, "-o", form)
            told.append(read(capsys.readouterr().out))
    for document in told:
        validate(document)
        del document["askedAt"], document["tookMs"]
    assert told[0] == told[1]


def test_jsonl_is_a_line_for_each_host(capsys: pytest.CaptureFixture[str]) -> None:
    with running(source(), destination("h2"), destination("h3", WIRE_BRIDGE)) as fleet:
        check(fleet, "-o", "jsonl")
    hosts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(host["host"], host["verdict"]) for host in hosts] == [
        ("h2", "CLEAR"),
        ("h3", "BLOCKED"),
    ]


def test_name_is_only_who_can_take_it_best_first(capsys: pytest.CaptureFixture[str]) -> None:
    agents = [destination("h2", free_gib=9), destination("h3", WIRE_BRIDGE), destination("h4")]
    with running(source(), *agents) as fleet:
        check(fleet, "-o", "name")
    assert capsys.readouterr().out == "h4\nh2\n"


def test_the_table_goes_to_standard_output_and_nothing_else_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running(source(), destination("h2")) as fleet:
        check(fleet)
    out, err = capsys.readouterr()
    depth = "depth facts (libvirt asked for, see below)"
    assert out.startswith(f"db1 on h1 · 4 vCPUs · takes 8 GiB · {depth} · 1 host asked in 0.")
    assert out.endswith("migrate --live --p2p db1 qemu+tls://h2/system\n")
    assert err == ""


def test_colour_can_be_forced(capsys: pytest.CaptureFixture[str]) -> None:
    with running(source(), destination("h2")) as fleet:
        check(fleet, "--color", "always")
    assert "\x1b[32mCLEAR" in capsys.readouterr().out


def test_how_long_to_wait_is_the_user_s_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    with running(source(), destination("h2", PrepareDryRun=Hangs())) as fleet:
        assert check(fleet, "--timeout", "1.5") == Exit.CANNOT_SAY
    assert "no answer within 1.5 s" in capsys.readouterr().out


def test_xml_alone_is_a_guest_that_runs_nowhere_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new.xml"
    file.write_bytes(DOMAIN_XML)
    with running(destination("h1"), destination("h2", WIRE_BRIDGE)) as fleet:
        assert run(fleet, "check", "--xml", str(file), "-o", "json") == Exit.OK
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["domain"] == {"name": "db1", "uuid": UUID, "source": None}
    assert "command" not in document["hosts"][0]


def test_xml_with_a_domain_is_for_its_destination(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dest.xml"
    file.write_bytes(DOMAIN_XML)
    with running(source(), destination("h2")) as fleet:
        assert check(fleet, "--xml", str(file)) == Exit.OK
    (request,) = fleet["h2"].requests("PrepareDryRun")
    assert agent_pb2.PrepareDryRunRequest.FromString(request).options.xml == DOMAIN_XML
    assert f"--xml {file} db1" in capsys.readouterr().out


def test_a_guest_can_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(DOMAIN_XML)))
    with running(destination("h1")) as fleet:
        assert run(fleet, "check", "--xml", "-") == Exit.OK
    (request,) = fleet["h1"].requests("PrepareDryRun")
    assert agent_pb2.PrepareDryRunRequest.FromString(request).guests[0].domain_xml == DOMAIN_XML


def test_bad_xml_is_one_error_that_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"<x/>")))
    bad = objects(("guests[0].domain_xml", "not a domain: it is an <x>"))
    agents = [destination(name, PrepareDryRun=bad) for name in ("h1", "h2")]
    with running(*agents) as fleet:
        assert run(fleet, "check", "--xml", "-") == Exit.CANNOT_RUN
    out, err = capsys.readouterr()
    assert out == ""
    assert "virt-preflight: standard input: not a domain: it is an <x> (says h" in err


def test_the_fleet_is_listed_with_who_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with running(FakeAgent("h1", {"DescribeHost": DESCRIBED}), absent=("h2",)) as fleet:
        assert run(fleet, "hosts", "-o", "json") == Exit.OK
        document = json.loads(capsys.readouterr().out)
        validate(document)
        assert document["hosts"][0]["libvirt"] == "11.3.0"
        assert document["hosts"][1]["silent"] == "no such socket"
        assert run(fleet, "hosts") == Exit.OK
        assert "1 of 2 hosts answered." in capsys.readouterr().out
        assert run(fleet, "hosts", "-o", "name") == Exit.OK
        assert capsys.readouterr().out == "h1\n"
        assert run(fleet, "hosts", "-o", "jsonl") == Exit.OK
        assert len(capsys.readouterr().out.splitlines()) == 2
        assert run(fleet, "hosts", "-o", "yaml") == Exit.OK
        validate(yaml.safe_load(capsys.readouterr().out))


def test_a_fleet_that_is_silent_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    broken = FakeAgent("h1", {"DescribeHost": Fails(grpc.StatusCode.INTERNAL, "no libvirt")})
    with running(broken) as fleet:
        assert run(fleet, "hosts") == Exit.CANNOT_SAY
    assert "internal: no libvirt" in capsys.readouterr().out


def test_the_checks_are_listed_by_whoever_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with running(source(), absent=("h2",)) as fleet:
        assert run(fleet, "checks") == Exit.OK
        assert "2 checks, as h1 lists them." in capsys.readouterr().out
        assert run(fleet, "checks", "-o", "json") == Exit.OK
        validate(json.loads(capsys.readouterr().out))
        assert run(fleet, "checks", "-o", "yaml") == Exit.OK
        validate(yaml.safe_load(capsys.readouterr().out))
        assert run(fleet, "checks", "-o", "name") == Exit.OK
        assert capsys.readouterr().out == "nics.bridge-absent\npages.too-few-free\n"
        assert run(fleet, "checks", "-o", "jsonl") == Exit.OK
        assert len(capsys.readouterr().out.splitlines()) == 2


def test_one_check_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with running(source()) as fleet:
        assert run(fleet, "explain", "nics.bridge-absent") == Exit.OK
        assert "libvirt adds a tap to the bridge." in capsys.readouterr().out
        assert run(fleet, "explain", "nics.bridge-absent", "-o", "json") == Exit.OK
        document = json.loads(capsys.readouterr().out)
        validate(document)
        assert [one["check"] for one in document["checks"]] == ["nics.bridge-absent"]
        assert run(fleet, "explain", "nics") == Exit.USAGE


def test_a_fleet_file_says_how_virsh_reaches_the_hosts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(source(), destination("h2")) as fleet:
        file = tmp_path / "fleet.toml"
        hosts = (f'[[host]]\nname="{n}"\naddress="{a}"\n' for n, a in fleet.addresses.items())
        file.write_text('[uris]\nmigrate = "qemu+tcp://{host}.mig/system"\n' + "".join(hosts))
        assert cli.run(["check", "db1", "--fleet", str(file)]) == Exit.OK
    assert "db1 qemu+tcp://h2.mig/system" in capsys.readouterr().out


def test_5_when_nobody_answers_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with running(absent=("h1", "h2")) as fleet:
        assert check(fleet, "-o", "json") == Exit.CANNOT_SAY
        document = json.loads(capsys.readouterr().out)
        assert check(fleet) == Exit.CANNOT_SAY
    validate(document)
    assert document["domain"] == {"name": "db1", "uuid": None, "source": None}
    assert [host["silent"] for host in document["hosts"]] == ["no such socket"] * 2
    shown = capsys.readouterr().out
    assert shown.startswith("db1, not found: no host answered, any may have it · depth lib")
    assert "Start virt-preflight-agent on h1, or check that it listens at unix:" in shown


def test_5_when_all_destinations_are_silent() -> None:
    with running(source(), absent=("h2", "h3")) as fleet:
        assert check(fleet) == Exit.CANNOT_SAY


def test_5_when_the_source_does_not_say_what_the_guest_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running(source(BeginDryRun=Hangs()), destination("h2")) as fleet:
        assert check(fleet, "--timeout", "1.5", "-o", "json") == Exit.CANNOT_SAY
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["domain"]["source"] == "h1"
    (host,) = document["hosts"]
    assert host["silent"] == (
        "not asked: h1 did not say what the guest needs: no answer within 1.5 s"
    )


def test_options_that_change_nothing_are_printed_and_nobody_is_asked_about_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running(source(), destination("h2")) as fleet:
        check(fleet, "--suspend", "--undefinesource", "-o", "json")
    document = json.loads(capsys.readouterr().out)
    assert document["options"] == ["live", "p2p", "suspend", "undefinesource"]
    assert "--suspend --undefinesource db1 " in document["hosts"][0]["command"]
    (request,) = fleet["h2"].requests("PrepareDryRun")
    assert agent_pb2.PrepareDryRunRequest.FromString(request).options == guest_pb2.MigrationOptions(
        live=True, p2p=True
    )


@pytest.mark.parametrize(
    ("given", "depth", "waited"),
    [
        (None, Depth.FACTS, 4.0),
        (None, Depth.LIBVIRT, 4.0),
        (None, Depth.TRIAL, 9.0),
        (None, Depth.REHEARSAL, 14.0),
        (1.5, Depth.REHEARSAL, 1.5),
    ],
)
def test_the_deeper_the_question_the_longer_one_waits(
    given: float | None, depth: Depth, waited: float
) -> None:
    known = replace(from_names("h1"), timeout_s=4.0)
    assert patience_s(known, given, depth) == waited
