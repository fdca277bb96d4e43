"""What goes out over the wire comes back as it was: the law on which `--server` rests."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.controller.samples import (
    BRIDGE,
    CHECKS,
    DOMAIN_XML,
    HOST,
    LACK,
    LEASE,
    PASSTHROUGH,
    REMARK,
    SILENT,
    heard,
    report,
)
from virt_preflight.controller import exchange, wire
from virt_preflight.controller.answers import (
    Capacity,
    Claims,
    Heard,
    Report,
    Severity,
    Side,
    Unasked,
    Verdict,
)
from virt_preflight.controller.catalogue import Catalogue
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.desk import Described
from virt_preflight.controller.fleet import FleetHost
from virt_preflight.controller.options import FLAGS, MigrationOptions, with_defaults
from virt_preflight.controller.question import GuestFile, Question, Questions
from virt_preflight.controller.trouble import BadFieldError
from virt_preflight.v1 import controller_pb2

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
FINDINGS = (BRIDGE, PASSTHROUGH, REMARK, LEASE, replace(BRIDGE, phase=None, depth=None))
LACKS = (LACK, replace(LACK, severity=None, side=Side.SOURCE, depth=None, waived=True))
TEXTS = some.text(some.characters(codec="utf-8"), max_size=8)
REPORTS = some.builds(
    lambda findings, lacks, stated, age, depth, shallower, whole: replace(
        report(*findings, unanswered=lacks, stated=stated),
        facts_age_ms=age,
        depth=depth,
        shallower_because=shallower,
        claims=Claims(memory_kib=7, vcpus=0) if whole else None,
        capacity=Capacity(memory_total_kib=0, memory_free_kib=0) if whole else None,
    ),
    some.lists(some.sampled_from(FINDINGS), max_size=3),
    some.lists(some.sampled_from(LACKS), max_size=2),
    some.sampled_from(Verdict),
    some.integers(0, 10**9),
    some.sampled_from([None, *Depth]),
    TEXTS,
    some.booleans(),
)


# A busy machine is slow to make examples.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(REPORTS, REPORTS | some.none())
def test_a_report_comes_back_as_it_went(said: Report, source: Report | None) -> None:
    answer = Heard(host="h2", said=said)
    message = exchange.answer_message(source, answer)
    packed = controller_pb2.HostAnswer.FromString(message.SerializeToString())
    assert exchange.answer_of(packed) == answer


@pytest.mark.parametrize("silent", [SILENT, Unasked(host="h2", why="not asked", next_step="")])
def test_silence_comes_back_as_it_went(silent: Unasked) -> None:
    assert exchange.answer_of(exchange.answer_message(None, silent)) == silent


def test_the_verdict_of_an_answer_is_that_of_source_and_host_together() -> None:
    message = exchange.answer_message(report(LEASE), heard("h2"))
    assert wire.VERDICTS[message.verdict] is Verdict.BLOCKED


@given(
    some.sets(
        some.sampled_from([flag for flag in FLAGS if flag not in ("live", "suspend", "direct")])
    ),
    TEXTS.filter(str.strip),
    some.sampled_from(Depth),
    some.none() | some.sampled_from([0.0, 0.25, 60.0]),
)
def test_a_question_comes_back_as_it_went(
    flags: set[str], name: str, depth: Depth, max_age_s: float | None
) -> None:
    question = Question(
        guest=name,
        from_host="h1",
        to_hosts=("h2", "h3"),
        labels=("rack=r1",),
        options=with_defaults(
            replace(
                MigrationOptions(migrate_disks=("vda",), dname="db2"),
                **dict.fromkeys(flags, True),  # type: ignore[arg-type]
            )
        ),
        questions=Questions(
            depth=depth,
            only=("nics",),
            skip=("pages",),
            waive=("nics.bridge-absent",),
            allow=("hooks",),
            max_age_s=max_age_s,
        ),
    )
    move = exchange.move_message(question, 2.5)
    choice = exchange.choice_message(question.guest)
    assert exchange.question_of(choice, "guest", move) == question
    assert exchange.seconds_of("move.timeout", move) == 2.5


def test_a_guest_from_a_file_comes_back_with_the_files_name() -> None:
    question = Question(
        guest=GuestFile(name="new.xml", xml=DOMAIN_XML),
        options=MigrationOptions(live=True, p2p=True, xml=b"<domain/>", xml_file="to.xml"),
        questions=Questions(),
    )
    choice = exchange.choice_message(question.guest)
    move = exchange.move_message(question, None)
    assert exchange.question_of(choice, "guest", move) == question
    assert exchange.seconds_of("move.timeout", move) is None


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        (
            FleetHost(name="h2", address="h2:1", labels=(("rack", "r1"),)),
            Heard(host="h2", said=replace(HOST, certificate_ends_s=1_800_000_000)),
        ),
        (
            FleetHost(name="h2", address="h2:1"),
            Heard(host="h2", said=replace(HOST, libvirt="", capacity=None, unlearned=())),
        ),
        (FleetHost(name="h4", address="h4:1"), SILENT),
        (
            FleetHost(name="h4", address="h4:1", last_seen=NOON),
            SILENT,
        ),
    ],
)
def test_a_host_comes_back_as_it_went(host: FleetHost, answer: Described) -> None:
    assert exchange.host_of(exchange.host_message(host, answer)) == (host, answer)


def test_checks_come_back_as_they_went() -> None:
    checks = wire.list_checks().read(CHECKS.SerializeToString())
    newer = replace(checks[0], severity=None, side=None, phase=None)
    catalogue = Catalogue(host="h1", checks=(*checks, newer))
    assert exchange.catalogue_of(exchange.checks_message(catalogue)) == catalogue


def test_a_verdict_without_a_name_here_is_unsure() -> None:
    message = controller_pb2.Candidate(host="h2", verdict=9)  # type: ignore[arg-type]
    assert exchange.ranked_of(message).verdict is Verdict.UNSURE


@pytest.mark.parametrize("dname", ["a/b", "a\nb"])
def test_a_name_that_no_guest_can_have_is_refused(dname: str) -> None:
    move = controller_pb2.Move()
    move.options.dname = dname
    with pytest.raises(BadFieldError, match="no guest is called that"):
        exchange.question_of(controller_pb2.GuestChoice(name="db1"), "guest", move)


def test_a_severity_has_a_number_on_the_wire_each() -> None:
    assert set(exchange.WIRE_SEVERITIES) == {None, *Severity}
    assert set(exchange.WIRE_VERDICTS) == set(Verdict)


def test_an_older_callers_wish_to_compress_is_heard() -> None:
    move = controller_pb2.Move()
    move.command.compressed = True
    asked = exchange.question_of(controller_pb2.GuestChoice(name="db1"), "guest", move)
    assert asked.options.compressed
    assert wire.options_message(asked.options).compressed
