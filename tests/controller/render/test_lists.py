from dataclasses import replace
from datetime import UTC, datetime
from textwrap import dedent

from tests.controller.samples import CHECKS, GIB, HOST, NOON, SILENT
from virt_preflight.controller import wire
from virt_preflight.controller.answers import Capacity, Heard
from virt_preflight.controller.catalogue import Catalogue
from virt_preflight.controller.fleet import from_names
from virt_preflight.controller.render.documents import Described
from virt_preflight.controller.render.forms import PLAIN, Form
from virt_preflight.controller.render.lists import checks_table, explanation, hosts_table

DAY = 24 * 60 * 60
FLEET = from_names("h2,h3,h4")
BIG = replace(HOST, capacity=Capacity(memory_total_kib=256 * GIB, memory_free_kib=100 * GIB))
BARE = replace(
    HOST,
    **dict.fromkeys(("name", "uuid", "libvirt", "qemu", "agent", "architecture"), ""),  # type: ignore[arg-type]
    class_digest="",
    capacity=None,
    cpus_online=0,
    domains_running=None,
    unlearned=(),
)
ANSWERS: list[Described] = [Heard(host="h2", said=BIG), Heard(host="h3", said=BARE), SILENT]
KNOWN = Catalogue(host="h1", checks=wire.list_checks().read(CHECKS.SerializeToString()))


def test_the_fleet_at_a_glance() -> None:
    assert "\n" + hosts_table(FLEET, ANSWERS, Form.TABLE, PLAIN, NOON) == dedent("""
          HOST  AGENT  LIBVIRT  QEMU    ARCH    CPUS     FREE    TOTAL  GUESTS   FACTS
          h2    0.1.0  11.3.0   10.0.2  x86_64    64  100 GiB  256 GiB       3  0.10 s  1 fact not learned
          h3    -      -        -       -          -        -        -       -  0.10 s
          h4    -      -        -       -          -        -        -       -       -  no answer within 5 s

        h2
          ? HostTpm  no swtpm

        h4, silent
          See whether h4 is up.

        2 of 3 hosts answered.
        """)  # noqa: E501


def test_one_cause_of_many_unlearned_facts_is_told_once_with_what_to_do() -> None:
    down = "libvirtd cannot be reached: Failed to connect socket"
    hangs = [f"disks: libvirtd: no answer within {waited} s" for waited in (2, 3.5, 2)]
    lacks = [("HostTpm", "no swtpm"), ("Pools", f"disks: {down}"), ("Cpu", down), ("Nets", down)]
    lacks += [(f"Fact{number}", why) for number, why in enumerate(hangs)]
    answers = [Heard(host="h2", said=replace(BIG, unlearned=tuple(lacks)))]
    shown = hosts_table(from_names("h2"), answers, Form.TABLE, PLAIN, NOON)
    assert [" ".join(line.split()) for line in shown.splitlines()[3:-2]] == [
        "h2",
        "? HostTpm no swtpm",
        f"? 3 facts not learned: {down}",
        "See why libvirtd does not answer on that host (systemctl status libvirtd virtqemud).",
        "? 3 facts not learned: libvirtd: no answer within 2 s",
        "See why libvirtd does not answer on that host (systemctl status libvirtd virtqemud).",
    ]


def test_wide_adds_where_and_which_it_is() -> None:
    shown = hosts_table(FLEET, ANSWERS, Form.WIDE, PLAIN, NOON).splitlines()
    assert shown[0].endswith("CLASS  LABELS  LAST SEEN")
    assert " ADDRESS   OWN NAME    UUID " in shown[0]
    assert "h2:50551  h2.example  6a1f6c2e-" in shown[1]
    assert "h4:50551  -           -" in shown[3]


def test_wide_tells_when_a_host_that_announced_itself_was_last_heard() -> None:
    seen = datetime(2026, 11, 23, 10, 0, 7, tzinfo=UTC)
    hosts = (replace(FLEET.hosts[0], last_seen=seen), *FLEET.hosts[1:-1])
    hosts += (replace(FLEET.hosts[-1], last_seen=seen),)
    shown = hosts_table(replace(FLEET, hosts=hosts), ANSWERS, Form.WIDE, PLAIN, NOON).splitlines()
    assert ["2026-11-23 10:00:07Z" in line for line in shown[1:4]] == [True, False, True]


def test_a_certificate_is_told_of_when_it_is_to_be_renewed() -> None:
    soon, later = (
        Heard(host=host, said=replace(BARE, certificate_ends_s=int(NOON.timestamp()) + days * DAY))
        for host, days in (("h2", 29), ("h3", 31))
    )
    glance = hosts_table(FLEET, [soon, later, SILENT], Form.TABLE, PLAIN, NOON).splitlines()
    assert glance[1].endswith("certificate ends on 2026-12-22")
    assert "certificate" not in glance[2]
    wide = hosts_table(FLEET, [soon, later, SILENT], Form.WIDE, PLAIN, NOON).splitlines()
    assert " CERTIFICATE " in wide[0]
    assert "until 2026-12-24" in wide[2]


def test_the_checks_at_a_glance() -> None:
    assert "\n" + checks_table(KNOWN, Form.TABLE, PLAIN) == dedent("""
          CHECK               SEVERITY  TITLE
          nics.bridge-absent  BLOCKER   bridge absent
          pages.too-few-free  BLOCKER   too few free huge pages

        2 checks, as h1 lists them.
        """)


def test_wide_adds_where_a_check_applies() -> None:
    assert "BLOCKER   destination  prepare  bridge absent" in checks_table(KNOWN, Form.WIDE, PLAIN)


def test_a_check_in_full() -> None:
    assert "\n" + explanation(KNOWN.checks[0], PLAIN) == dedent("""
        nics.bridge-absent: bridge absent
        BLOCKER · on the destination · prepare

        libvirt adds a tap to the bridge.

        So it must be there.

        Remedy
        Create the bridge.
        """)


def test_a_check_without_words_is_still_shown() -> None:
    bare = replace(KNOWN.checks[0], explanation="", remedy=" ", side=None, phase=None)
    assert explanation(bare, PLAIN) == "nics.bridge-absent: bridge absent\nBLOCKER\n"
