from dataclasses import replace

import pytest

from tests.controller.samples import (
    BRIDGE,
    LACK,
    LEASE,
    PAGES,
    PASSTHROUGH,
    REMARK,
    dry_run,
    heard,
    report,
)
from virt_preflight.controller.answers import (
    Heard,
    Report,
    Severity,
    Side,
    Silent,
    Unasked,
    Verdict,
)
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.ranking import candidate
from virt_preflight.controller.render.sentences import (
    about,
    could_not_tell,
    difference,
    fleet_sentence,
    libvirt_says,
    shallower,
    why,
)

SILENT = Silent(host="h9", why="connection refused")


def test_a_finding_says_what_was_wanted_and_what_was_found() -> None:
    assert difference(BRIDGE) == "wanted bridge br-prod, found no such link"
    assert difference(replace(BRIDGE, wanted="")) == "found no such link"
    assert about(BRIDGE) == (
        "interface 52:54:00:aa:bb:cc: wanted bridge br-prod, found no such link"
    )


def test_a_finding_that_says_nothing_has_its_title() -> None:
    assert about(replace(BRIDGE, subject="", wanted="", found="")) == "bridge absent"


def test_what_could_not_be_told_says_why() -> None:
    assert could_not_tell(LACK) == "could not tell: 2048 KiB pages: cannot read /sys/kernel/mm"


BLOCKING_LACK = "could not tell: too few free huge pages (cannot read /sys/kernel/mm)"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (heard("h2"), ""),
        (heard("h2", BRIDGE), "bridge absent: wanted bridge br-prod, found no such link"),
        (
            heard("h2", PASSTHROUGH, BRIDGE, REMARK),
            "bridge absent: wanted bridge br-prod, found no such link, and 1 more",
        ),
        (heard("h2", unanswered=[LACK]), BLOCKING_LACK),
        (heard("h2", PASSTHROUGH, unanswered=[LACK]), BLOCKING_LACK + ", and 1 more"),
        (heard("h2", REMARK), "1 note"),
        (heard("h2", REMARK, replace(BRIDGE, waived=True)), "1 note, 1 waived"),
        (heard("h2", stated=Verdict.BLOCKED), "its agent says so and gives no reason"),
        (SILENT, "connection refused"),
    ],
)
def test_why_leads_with_what_weighs_most(answer: Heard[Report] | Silent, said: str) -> None:
    assert why(candidate(None, answer)) == said


def test_why_tells_the_source_s_trouble_as_the_source_s() -> None:
    one = candidate(report(LEASE), heard("h2"))
    assert why(one) == "source: lease held; here: nothing"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([heard("h2")], "1 of 1 host can take db1."),
        (
            [
                heard("h2"),
                heard("h5", PASSTHROUGH),
                heard("h3", BRIDGE),
                heard("h6", PAGES),
                SILENT,
            ],
            (
                "1 of 5 hosts can take db1, 1 more at a risk."
                " 2 cannot: 1 × bridge absent, 1 × too few free huge pages. 1 did not answer."
            ),
        ),
        (
            [heard("h2", BRIDGE), heard("h3", BRIDGE, PAGES), heard("h4", BRIDGE)],
            "0 of 3 hosts can take db1: 3 × bridge absent, 1 × too few free huge pages.",
        ),
        (
            [heard("h2", PASSTHROUGH), SILENT],
            "1 of 2 hosts can take db1, but at a risk. 1 did not answer.",
        ),
        ([heard("h2", unanswered=[LACK])], "0 of 1 host can take db1. 1 could not tell."),
        ([heard("h2", stated=Verdict.BLOCKED)], "0 of 1 host can take db1: no reason given."),
        ([SILENT], "0 of 1 host can take db1. 1 did not answer."),
    ],
)
def test_one_sentence_explains_the_fleet(answers: list[Heard[Report] | Silent], said: str) -> None:
    assert fleet_sentence(dry_run(*answers)) == said


def test_a_yes_says_what_it_does_not_cover() -> None:
    passed = heard("h2", replace(BRIDGE, waived=True))
    assert fleet_sentence(dry_run(passed)) == ("1 of 1 host can take db1, but for what was waived.")
    assert fleet_sentence(dry_run(passed, skip=("nics",))) == (
        "1 of 1 host can take db1, as far as was asked, but for what was waived."
    )
    assert fleet_sentence(dry_run(heard("h2"), only=("nics",))) == (
        "1 of 1 host can take db1, as far as was asked."
    )
    assert fleet_sentence(dry_run(heard("h2", BRIDGE), only=("nics",))) == (
        "0 of 1 host can take db1: 1 × bridge absent."
    )


def test_a_long_list_of_reasons_is_cut() -> None:
    many = [replace(BRIDGE, check=f"a.b{number}", title=f"fault {number}") for number in range(9)]
    said = fleet_sentence(dry_run(heard("h2", *many)))
    assert said.endswith("1 × fault 5, 3 more reasons.")


def test_a_guest_without_a_name_is_still_spoken_of() -> None:
    assert fleet_sentence(dry_run(SILENT, name="")).startswith("0 of 1 host can take the guest")


def test_a_risk_that_could_not_be_told_is_a_risk() -> None:
    lack = replace(LACK, severity=Severity.RISK)
    assert fleet_sentence(dry_run(heard("h2", unanswered=[lack]))) == (
        "1 of 1 host can take db1, but at a risk."
    )


def test_the_source_s_trouble_does_not_hide_the_host_s_own() -> None:
    one = candidate(report(LEASE), heard("h2", BRIDGE, PAGES))
    assert why(one) == (
        "source: lease held; here: bridge absent: wanted bridge br-prod, found no such link,"
        " and 1 more"
    )


def test_what_blocks_a_host_comes_before_a_mere_risk_at_the_source() -> None:
    one = candidate(report(replace(PASSTHROUGH, side=Side.SOURCE)), heard("h2", BRIDGE))
    assert why(one) == ("bridge absent: wanted bridge br-prod, found no such link, and 1 more")


def test_many_checks_that_could_not_tell_for_one_cause_are_one_reason() -> None:
    lacks = [replace(LACK, check=f"a.b{number}", why="libvirtd hangs") for number in range(30)]
    assert why(candidate(None, heard("h2", unanswered=lacks))) == (
        "30 checks could not tell (libvirtd hangs)"
    )


def test_libvirt_s_words_are_told_where_they_add_something() -> None:
    words = "Cannot get interface MTU on\n 'br-prod': No such device"
    assert libvirt_says(replace(BRIDGE, libvirt_error=words)) == (
        "libvirt: Cannot get interface MTU on 'br-prod': No such device"
    )
    assert libvirt_says(replace(BRIDGE, libvirt_error=words, found=words)) == ""
    assert libvirt_says(BRIDGE) == ""


@pytest.mark.parametrize(
    ("depth", "because", "said"),
    [
        (Depth.TRIAL, "", ""),
        (Depth.REHEARSAL, "", ""),
        (Depth.FACTS, "", "asked at depth facts: no reason given"),
        (Depth.FACTS, "Begin: too old", "asked at depth facts: Begin: too old"),
        (None, "", "does not say how deep it was asked"),
        (None, "too odd", "asked at depth that this version has no name for: too odd"),
    ],
)
def test_a_host_that_was_asked_less_deeply_says_so(
    depth: Depth | None, because: str, said: str
) -> None:
    here = replace(report(), depth=depth, shallower_because=because)
    assert shallower(candidate(None, Heard(host="h2", said=here)), Depth.TRIAL) == said


def test_a_silent_host_was_not_asked_less_deeply() -> None:
    assert shallower(candidate(None, SILENT), Depth.TRIAL) == ""


def test_hosts_that_were_not_asked_are_not_said_to_be_silent() -> None:
    unasked = Unasked(host="h2", why="not asked: h1: connection refused")
    assert fleet_sentence(dry_run(unasked)) == ("0 of 1 host can take db1. 1 could not be asked.")


def test_hosts_that_only_the_source_keeps_the_guest_from_are_named() -> None:
    run = dry_run(heard("h2"), heard("h3", BRIDGE), source_report=report(LEASE))
    assert fleet_sentence(run) == (
        "0 of 2 hosts can take db1: 2 × lease held, 1 × bridge absent."
        " Nothing but what h1 has keeps it from h2."
    )


def test_what_could_not_be_asked_for_one_reason_is_told_together() -> None:
    because = "Prepare: no libvirt; odd; trial: no stage"
    here = replace(report(), depth=Depth.FACTS, shallower_because=because)
    source = replace(report(), depth=Depth.FACTS, shallower_because="Begin: no libvirt")
    one = candidate(source, Heard(host="h2", said=here))
    assert shallower(one, Depth.TRIAL) == (
        "asked at depth facts: Begin, Prepare: no libvirt; odd; trial: no stage"
    )
