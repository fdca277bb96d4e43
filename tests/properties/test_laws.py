"""Laws that hold for every guest and every host: tried on recorded ones, bent in many ways."""

from __future__ import annotations

import os
import random
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from virt_preflight.agent import dryrun
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.departure import departure
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.dryrun import Asked
from virt_preflight.agent.fact import Pace, Unknown
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Report, Severity, Side, Verdict
from virt_preflight.agent.runner import Known, examine
from virt_preflight.agent.sources import Absent, Refused, SourceError, Unreadable
from virt_preflight.agent.sources.recording import Recording, load

RECORDINGS = Path(__file__).parents[1] / "recordings"
HOSTS = {
    path.parent.name: load(path.parent) for path in sorted(RECORDINGS.glob("*/recording.json"))
}
OPTIONS = MigrationOptions(unsafe=True)
SLOWLY = settings(
    max_examples=60,
    # The same examples each time where a change is judged; new ones wherever it is worked on.
    derandomize=os.environ.get("CI") == "true",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# As the source would send it.
DEPARTURE = departure(
    FactStore(source=HOSTS["h1"], catalogue=catalogue(), clock=time.monotonic),
    "db1",
    host="h1",
    policy=Policy(),
    options=OPTIONS,
    asked=Asked(max_age_s=0),
)
XML, ORIGIN = DEPARTURE.domain_xml, DEPARTURE.origin
# What an attribute or a text of a hostile guest may be.
WORDS = st.one_of(
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "99999999999999999999",
            "yes",
            "off",
            "0-99999",
            "../../etc/passwd",
            "/",
            "%s",
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
)


def ask(host: Recording, domain: Domain, side: Side = Side.DESTINATION) -> Report:
    store = FactStore(source=host, catalogue=catalogue(), clock=time.monotonic)
    asked = Asked(max_age_s=0)
    question = store.question(dryrun.given(domain, Policy(), OPTIONS, ORIGIN), asked.max_age_s)
    return dryrun.report(question, side, domain, None, host=host.host, options=OPTIONS, asked=asked)


def silent(host: Recording, seed: int, share: float) -> Recording:
    """The host with a share of its answers withheld."""
    chance = random.Random(seed)
    return replace(
        host,
        answers={
            asked: Unreadable("it does not answer") if chance.random() < share else answer
            for asked, answer in host.answers.items()
        },
    )


@st.composite
def guests(draw: st.DrawFn) -> Domain:
    """The recorded guest with elements taken out, doubled, moved, and words put in."""
    root = etree.fromstring(XML)
    for _ in range(draw(st.integers(1, 8))):
        elements = [one for one in root.iter(etree.Element) if one is not root]
        element = draw(st.sampled_from(elements))
        # Without a name, or with no UUID in its place, it is refused at the door.
        if element.tag in ("name", "uuid") and element.getparent() is root:
            continue
        match draw(st.sampled_from(["drop", "double", "attribute", "text", "move"])):
            case "drop":
                parent = element.getparent()
                assert parent is not None
                parent.remove(element)
            case "double":
                element.addnext(etree.fromstring(etree.tostring(element, with_tail=False)))
            case "attribute":
                names = [str(name) for name in element.attrib] or ["type"]
                element.set(draw(st.sampled_from(names)), draw(WORDS))
            case "text":
                element.text = draw(WORDS)
            case "move":
                draw(st.sampled_from(elements)).append(
                    etree.fromstring(etree.tostring(element, with_tail=False))
                )
    return read_domain(etree.tostring(root))


@st.composite
def hosts(draw: st.DrawFn) -> Recording:
    """A recorded host with some answers withheld, refused, or turned into nonsense."""
    host = HOSTS[draw(st.sampled_from(sorted(HOSTS)))]
    answers: dict[tuple[str, ...], object | SourceError] = dict(host.answers)
    for asked in draw(st.lists(st.sampled_from(sorted(answers)), max_size=12)):
        answer = answers[asked]
        options: list[object] = [Absent("gone"), Refused("no"), Unreadable("silence")]
        if isinstance(answer, str):
            options += ["", "nonsense\n", "<a/>", "[]", "{}", "[{}]", answer[: len(answer) // 2]]
        answers[asked] = draw(st.sampled_from(options))
    return replace(host, answers=answers)


@SLOWLY
@given(guests(), hosts(), st.sampled_from([Side.SOURCE, Side.DESTINATION]))
def test_any_guest_on_any_host_gets_a_report_and_no_check_breaks(
    domain: Domain, host: Recording, side: Side
) -> None:
    report = ask(host, domain, side)
    broken = [left for left in report.unanswered if "check itself broke" in left.why]
    assert not broken
    for finding in report.findings:
        assert finding.subject, finding.check
        assert finding.wanted, finding.check
        assert finding.found, finding.check


@SLOWLY
@given(st.integers(), st.floats(0, 1))
def test_silence_never_blocks(seed: int, share: float) -> None:
    assert ask(HOSTS["h2"], read_domain(XML)).verdict is Verdict.CLEAR
    report = ask(silent(HOSTS["h2"], seed, share), read_domain(XML))
    blockers = [found for found in report.findings if found.severity is Severity.BLOCKER]
    assert not blockers


@SLOWLY
@given(st.sampled_from(["h4", "h5", "h6"]), st.integers(), st.floats(0, 1))
def test_silence_never_clears(name: str, seed: int, share: float) -> None:
    assert ask(HOSTS[name], read_domain(XML)).verdict is Verdict.BLOCKED
    assert ask(silent(HOSTS[name], seed, share), read_domain(XML)).verdict >= Verdict.UNSURE


@pytest.mark.parametrize("check", catalogue().checks, ids=lambda check: check.id)
def test_an_unknown_fact_leaves_its_check_open(check: object) -> None:
    (one,) = (found for found in catalogue().checks if found is check)
    dark = Known(value=Unknown("dark"), pace=Pace.MOVING)
    outcome = examine([one], lambda _: dark)
    (left,) = outcome.unanswered
    assert not outcome.findings
    expected = {Severity.BLOCKER: Verdict.UNSURE, Severity.RISK: Verdict.RISKY}
    assert left.verdict is expected.get(one.severity, Verdict.CLEAR)


def with_numbers(host: Recording, asked: tuple[str, ...], pattern: str, factor: float) -> Recording:
    """The host with the numbers that the pattern's group finds in one answer multiplied."""
    text = host.answers[asked]
    assert isinstance(text, str)
    more = re.sub(
        pattern, lambda found: found[0].replace(found[1], str(int(int(found[1]) * factor))), text
    )
    return replace(host, answers={**host.answers, asked: more})


@SLOWLY
@given(
    st.integers(1, 64).map(lambda gib: gib * 1024 * 1024),
    st.floats(0.1, 4),
    st.floats(1, 4),
)
def test_more_memory_never_makes_a_worse_verdict(kib: int, share: float, more: float) -> None:
    domain = read_domain(re.sub(rb"(<(?:memory|currentMemory)[^>]*>)\d+", rb"\g<1>%d" % kib, XML))
    meminfo = ("text", "/proc/meminfo")
    lines = r"(?:MemAvailable|MemTotal|CommitLimit):\s+(\d+)"
    poorer = with_numbers(HOSTS["h2"], meminfo, lines, share)
    richer = with_numbers(poorer, meminfo, lines, more)
    assert ask(richer, domain).verdict <= ask(poorer, domain).verdict


@SLOWLY
@given(st.sets(st.sampled_from(["aes", "avx", "avx2", "sha-ni", "erms", "clwb", "vaes"])))
def test_a_host_that_gives_more_features_never_gets_a_worse_verdict(taken: set[str]) -> None:
    def without(features: set[str]) -> Recording:
        answers = {
            asked: _without(str(answer), features)
            if asked[:2] == ("libvirt", "domain-capabilities")
            else answer
            for asked, answer in HOSTS["h2"].answers.items()
        }
        return replace(HOSTS["h2"], answers=answers)

    domain = read_domain(XML)
    fewer = {feature for feature in taken if feature < "d"}
    assert ask(without(fewer), domain).verdict <= ask(without(taken), domain).verdict


def _without(capabilities: str, features: set[str]) -> str:
    """The host model with these features taken out of it by name."""
    for feature in features:
        capabilities = re.sub(rf"<feature policy='require' name='{feature}'/>", "", capabilities)
        capabilities = capabilities.replace(
            "</mode>\n    <mode name='custom'",
            f"<feature policy='disable' name='{feature}'/></mode>\n    <mode name='custom'",
            1,
        )
    return capabilities
