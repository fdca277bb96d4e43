from dataclasses import replace
from textwrap import dedent

import pytest

from tests.controller.samples import (
    BRIDGE,
    LACK,
    LEASE,
    PAGES,
    PASSTHROUGH,
    dry_run,
    heard,
    report,
)
from virt_preflight.controller.answers import Heard, Report, Silent, Unasked
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.controller.render.forms import PLAIN, Form, Look
from virt_preflight.controller.render.table import dry_run_table


def table(run: DryRun, form: Form = Form.TABLE, look: Look = PLAIN) -> str:
    return "\n" + dry_run_table(run, form, look)


def test_a_whole_fleet() -> None:
    run = dry_run(
        heard("h2", free_gib=212),
        heard("h3", BRIDGE, PAGES, free_gib=128),
        Silent(host="h4", why="no answer within 5 s"),
        heard("h5", PASSTHROUGH, free_gib=64),
        heard("h6", BRIDGE, free_gib=12),
        heard("h7", unanswered=[LACK], free_gib=90),
    )
    assert table(run) == dedent("""
        db1 on h1 · 4 vCPUs · takes 8 GiB · depth facts · 6 hosts asked in 0.21 s

          HOST  VERDICT     FREE  WHY
          h2    CLEAR    212 GiB
          h5    RISKY     64 GiB  host-passthrough on another CPU: wanted avx512-bf16, found a CPU without it
          h7    UNSURE    90 GiB  could not tell: too few free huge pages (cannot read /sys/kernel/mm)
          h4    UNSURE         -  no answer within 5 s
          h3    BLOCKED  128 GiB  bridge absent: wanted bridge br-prod, found no such link, and 1 more
          h6    BLOCKED   12 GiB  bridge absent: wanted bridge br-prod, found no such link

        h5
          ! cpu.passthrough-differs  CPU: wanted avx512-bf16, found a CPU without it
                                     Move it to a host with the same CPU.

        h7
          ? pages.too-few-free  could not tell: 2048 KiB pages: cannot read /sys/kernel/mm

        h3, h6
          ✗ nics.bridge-absent  interface 52:54:00:aa:bb:cc: wanted bridge br-prod, found no such link
                                Create the bridge on the host, or choose a host that has it.
                                # ip link add br-prod type bridge

        h3
          ✗ pages.too-few-free  2048 KiB pages: wanted 4096 free, found 512 free
                                Reserve more pages of that size.

        1 of 6 hosts can take db1, 1 more at a risk. 2 cannot: 2 × bridge absent, 1 × too few free huge pages. 1 could not tell. 1 did not answer.
        To move it: virsh -c qemu+ssh://h1/system migrate --live --p2p db1 qemu+tls://h2/system
        """)  # noqa: E501


def test_what_holds_at_the_source_is_said_once_under_its_name() -> None:
    words = "error: Failed to acquire lock"
    run = dry_run(
        heard("h2"), heard("h3"), source_report=report(replace(LEASE, libvirt_error=words))
    )
    assert table(run) == dedent("""
        db1 on h1 · 4 vCPUs · takes 8 GiB · depth facts · 2 hosts asked in 0.21 s

          HOST  VERDICT     FREE  WHY
          h2    BLOCKED  100 GiB  source: lease held; here: nothing
          h3    BLOCKED  100 GiB  source: lease held; here: nothing

        h1, the source: whatever the destination
          ✗ locks.held  disk vda: wanted a free lease, found one held by pid 7
                        libvirt: error: Failed to acquire lock
                        Release the lease.
                        # virt-lock release vda (on the source)

        0 of 2 hosts can take db1: 2 × lease held. Nothing but what h1 has keeps it from h2, h3.
        """)


def test_the_source_s_trouble_is_shown_when_no_destination_answers_too() -> None:
    silent = Silent(host="h2", why="connection refused")
    shown = table(dry_run(silent, source_report=report(LEASE)))
    assert "h1, the source" in shown
    assert "locks.held" in shown


def test_a_waived_finding_stays_and_is_marked() -> None:
    run = dry_run(heard("h2", replace(BRIDGE, waived=True)))
    assert table(run) == dedent("""
        db1 on h1 · 4 vCPUs · takes 8 GiB · depth facts · 1 host asked in 0.21 s

          HOST  VERDICT     FREE  WHY
          h2    CLEAR    100 GiB  1 waived

        h2
          ✗ nics.bridge-absent  interface 52:54:00:aa:bb:cc: wanted bridge br-prod, found no such link · waived
                                Create the bridge on the host, or choose a host that has it.
                                # ip link add br-prod type bridge

        1 of 1 host can take db1, but for what was waived.
        To move it: virsh -c qemu+ssh://h1/system migrate --live --p2p db1 qemu+tls://h2/system
        """)  # noqa: E501


def test_a_guest_from_a_file_has_no_source_and_no_command() -> None:
    run = replace(
        dry_run(heard("h2")), source=None, source_report=None, from_file=True, command_by_host={}
    )
    assert table(run) == dedent("""
        db1, running nowhere yet · 4 vCPUs · takes 8 GiB · depth facts · 1 host asked in 0.21 s

          HOST  VERDICT     FREE  WHY
          h2    CLEAR    100 GiB

        1 of 1 host can take db1.
        """)


def test_wide_says_more_of_each_host() -> None:
    run = dry_run(heard("h2"), Silent(host="h4", why="no answer within 5 s"))
    assert table(run, Form.WIDE) == dedent("""
        db1 on h1 · 4 vCPUs · takes 8 GiB · depth facts · 2 hosts asked in 0.21 s

          HOST  VERDICT  DEPTH    RANK  SCORE     FREE   AFTER    TOTAL   FACTS  CHECKS  WHY
          h2    CLEAR    libvirt     1  0.359  100 GiB  92 GiB  256 GiB  0.12 s      80
          h4    UNSURE   -           -      -        -       -        -       -       -  no answer within 5 s

        1 of 2 hosts can take db1. 1 did not answer.
        To move it: virsh -c qemu+ssh://h1/system migrate --live --p2p db1 qemu+tls://h2/system
        """)  # noqa: E501


def test_fifty_hosts_with_one_fault_take_one_block() -> None:
    run = dry_run(*(heard(f"h{number}", BRIDGE) for number in range(2, 52)))
    shown = table(run)
    assert shown.count("✗ nics.bridge-absent") == 1
    assert "\nh2, h3, h4, h5, h6, h7, h8, h9 and 42 more\n" in shown
    assert ", h50, h51\n" in table(run, Form.WIDE)


def test_on_a_narrow_terminal_long_text_stays_in_its_column() -> None:
    run = dry_run(heard("h2", BRIDGE))
    lines = table(run, look=Look(width=60)).splitlines()
    assert max(map(len, lines)) <= 60
    assert "                        bridge br-prod, found no such link" in lines


def test_hostile_names_cannot_touch_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07[bold]x\u202e"
    finding = replace(
        BRIDGE, check=hostile, subject=hostile, found=hostile, remedy=hostile, commands=(hostile,)
    )
    run = dry_run(
        heard("h2", finding, unanswered=[replace(LACK, why=hostile)]),
        Silent(host="h3", why=hostile),
        heard("h4"),
        name=hostile,
    )
    shown = table(run, Form.WIDE, Look(width=200))
    assert not any(c in shown for c in "\x1b\x07\u202e")
    assert "\\x1b]0;owned\\x07[bold]x\\u202e" in shown


HUNG = "no answer from libvirtd within 2.5 s"
DAEMON = replace(LACK, check="daemon.not-answering", subject="libvirtd", why=HUNG)


def test_a_libvirtd_that_hangs_is_one_line_and_what_to_do_about_it() -> None:
    others = [replace(LACK, check=f"a.b{number}", why=f"a: {HUNG}") for number in range(30)]
    run = dry_run(heard("h2", unanswered=[*others, DAEMON]))
    assert table(run) == dedent("""
        db1 on h1 · 4 vCPUs · takes 8 GiB · depth facts · 1 host asked in 0.21 s

          HOST  VERDICT     FREE  WHY
          h2    UNSURE   100 GiB  31 checks could not tell (no answer from libvirtd within 2.5 s)

        h2
          ? 31 checks  unanswered: no answer from libvirtd within 2.5 s
                       See why libvirtd hangs on that host (systemctl status libvirtd virtqemud), restart it, and ask again: guests go on running meanwhile.

        0 of 1 host can take db1. 1 could not tell.
        """)  # noqa: E501
    assert "a.b0, a.b1, a.b2" in table(run, Form.WIDE)


def test_a_libvirtd_that_hangs_alone_has_its_remedy_too() -> None:
    assert "See why libvirtd hangs" in table(dry_run(heard("h2", unanswered=[DAEMON])))
    assert "See why libvirtd hangs" not in table(dry_run(heard("h2", unanswered=[LACK])))


def test_hosts_asked_less_deeply_are_named_with_the_reason() -> None:
    def shallow(host: str) -> Heard[Report]:
        said = replace(report(), depth=Depth.FACTS, shallower_because="Begin: not here")
        return Heard(host=host, said=said)

    shown = table(dry_run(shallow("h2"), shallow("h3"), heard("h4"), depth=Depth.LIBVIRT))
    assert "\n\n  h2, h3: asked at depth facts: Begin: not here\n" in shown
    assert "h4: asked" not in shown
    assert "asked at depth" not in table(dry_run(heard("h2"), depth=Depth.LIBVIRT))


def test_wide_says_at_which_depth_a_thing_was_found() -> None:
    finding = replace(BRIDGE, depth=Depth.TRIAL)
    shown = table(dry_run(heard("h2", finding, unanswered=[LACK])), Form.WIDE)
    assert "  ✗ nics.bridge-absent  trial  interface 52:54" in shown
    assert "  ? pages.too-few-free  facts  could not tell" in shown


def test_checks_that_were_left_out_are_in_the_first_line() -> None:
    shown = table(dry_run(heard("h2"), only=("nics", "disks"), skip=("disks.absent",)))
    assert " · depth facts · only nics, disks · without disks.absent · 1 host asked" in shown


def test_a_silent_host_has_a_next_step() -> None:
    step = "Start virt-preflight-agent on h2, or check that it listens at h2:50551."
    silent = Silent(host="h2", why="connection refused", next_step=step)
    assert f"\n\nh2, silent\n  {step}\n\n" in table(dry_run(silent))


def test_a_silent_source_has_the_next_step_of_all_who_were_not_asked() -> None:
    answers = (
        Unasked(host=host, why="not asked: h1: no answer", next_step="See whether h1 is up.")
        for host in ("h2", "h3")
    )
    shown = table(dry_run(*answers))
    assert shown.count("See whether h1 is up.") == 1
    assert "\nh1, silent\n" in shown


def test_many_silent_hosts_do_not_drown_the_page() -> None:
    answers = [Silent(host=f"h{n}", why="gone", next_step=f"See to h{n}.") for n in range(20)]
    assert "\n12 more are silent: -o wide says what to do for each.\n" in table(dry_run(*answers))
    assert "See to h19." in table(dry_run(*answers), Form.WIDE)


def test_a_guest_that_was_not_found_is_not_one_that_runs_nowhere() -> None:
    run = replace(dry_run(Silent(host="h2", why="gone")), source=None, source_report=None)
    assert table(run).startswith(
        "\ndb1, not found: no host answered, any may have it · depth facts asked for · "
    )


def shallow(host: str, depth: Depth | None) -> Heard[Report]:
    because = "the rehearsal: hooks would run"
    return Heard(host=host, said=replace(report(), depth=depth, shallower_because=because))


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((shallow("h2", Depth.TRIAL), shallow("h3", Depth.TRIAL)), "depth trial (rehearsal asked"),
        ((shallow("h2", Depth.TRIAL), shallow("h3", Depth.FACTS)), "depth facts or trial (rehe"),
        ((shallow("h2", None),), "depth unknown (rehearsal asked for, see below) · "),
        ((Silent(host="h2", why="gone"),), "depth rehearsal asked for · "),
    ],
)
def test_the_first_line_says_how_deep_the_hosts_were_asked(
    answers: tuple[Heard[Report] | Silent, ...], said: str
) -> None:
    source = replace(report(), depth=Depth.REHEARSAL)
    run = dry_run(*answers, depth=Depth.REHEARSAL, source_report=source)
    assert said in table(run).splitlines()[1]


def test_the_first_line_says_on_how_many_hosts_it_is_as_deep_as_asked() -> None:
    source = replace(report(), depth=Depth.REHEARSAL)
    deep = Heard(host="h3", said=replace(report(), depth=Depth.REHEARSAL))
    gone = Silent(host="h4", why="gone")
    answers = (shallow("h2", Depth.TRIAL), deep, gone)
    run = dry_run(*answers, depth=Depth.REHEARSAL, source_report=source)
    assert " · depth rehearsal on 1 of 2 hosts, see below · " in table(run)
    run = dry_run(deep, gone, depth=Depth.REHEARSAL, source_report=source)
    assert " · depth rehearsal · " in table(run)


MORE_BEHIND = "libvirt names the first thing that it refuses: ask again once that is mended."


def test_a_refusal_that_only_libvirt_found_may_have_another_behind_it() -> None:
    refused = replace(BRIDGE, depth=Depth.TRIAL, libvirt_error="no such device")
    assert f"\n{MORE_BEHIND}\n" in table(dry_run(heard("h2", refused)))


def test_what_facts_found_as_well_is_named_whole_anyway() -> None:
    confirmed = replace(BRIDGE, depth=Depth.FACTS, libvirt_error="no such device")
    dropped = replace(PASSTHROUGH, depth=Depth.TRIAL, libvirt_error="")
    assert MORE_BEHIND not in table(dry_run(heard("h2", confirmed, dropped)))
