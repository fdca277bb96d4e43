"""What counts as a trace and what does not; without any host."""

from __future__ import annotations

import pytest

from tests.lab.observe import links_in
from tests.lab.traces import Change, Side, Snapshot, traces

FILE = "mode 0o100644 owner 0:0 size {size} written {at} changed {at}"
STAND_IN = "virt-preflight-dry-run-0a1b2c3d"
LINK = bytes.fromhex(
    # ip link add tapx, as rtnetlink tells of it: header, link, its name.
    "2c000000 1000 0000 00000000 00000000" + "00 00 0100 07000000 02100000 ffffffff"
    "0900 0300 7461707800 000000"
)


def look(**parts: dict[str, str]) -> Snapshot:
    return {"file": {}, "event": {}, **parts}


def found(
    before: Snapshot, after: Snapshot, *, depth: str = "facts", side: Side = "destination"
) -> list[str]:
    return traces(before, after, depth=depth, side=side, guest="db1")


def test_nothing_is_no_trace() -> None:
    same = look(file={"/etc/hosts": FILE.format(size=1, at=5)})
    assert found(same, same) == []


@pytest.mark.parametrize("depth", ["facts", "libvirt", "trial", "rehearsal"])
def test_an_owner_given_back_shows_in_the_time_of_change(depth: str) -> None:
    before = look(file={"/srv/shared/a": "mode 1 owner 0:0 size 1 written 5 changed 5"})
    after = look(file={"/srv/shared/a": "mode 1 owner 0:0 size 1 written 5 changed 9"})
    assert len(found(before, after, depth=depth)) == 1


def test_an_extended_attribute_is_a_trace() -> None:
    before = look(file={"/srv/shared/a": "mode 1 owner 0:0"})
    after = look(file={"/srv/shared/a": "mode 1 owner 0:0 trusted.libvirt.security.dac=b'0'"})
    assert found(before, after, depth="rehearsal") != []


def started(name: str) -> Snapshot:
    return look(event={f"1 lifecycle {name}": "STARTED MIGRATED"})


def test_a_start_on_the_destination_is_a_trace_of_shallow_depths_only() -> None:
    for depth, expected in (("facts", 1), ("libvirt", 1), ("trial", 0), ("rehearsal", 0)):
        assert len(found(look(), started("db1"), depth=depth)) == expected, depth


def test_what_a_stand_in_may_do_others_may_not() -> None:
    assert found(look(), started(STAND_IN), depth="trial") == []
    assert found(look(), started("somebody"), depth="trial") != []


def test_the_source_sees_no_event_at_any_depth() -> None:
    assert found(look(), started("db1"), depth="rehearsal", side="source") != []


def test_a_guest_may_set_its_own_clock_and_no_others() -> None:
    for name, expected in (("db1", 0), ("somebody", 1)):
        set_by = look(event={f"1 rtc_change {name}": "-1"})
        assert len(found(look(), set_by, side="source")) == expected


def test_a_log_may_grow_and_not_shrink() -> None:
    log = "/var/log/libvirtd.log"
    small, large = (look(file={log: FILE.format(size=size, at=size)}) for size in (10, 20))
    assert found(small, large) == []
    assert found(large, small) != []


def test_a_stand_ins_log_has_to_go_again() -> None:
    path = f"/var/log/libvirt/qemu/{STAND_IN}.log"
    assert found(look(), look(file={path: FILE.format(size=1, at=1)}), depth="trial") != []


def test_a_control_group_is_a_trace_if_it_is_the_guests() -> None:
    nothing = look(**{"control group": {}})
    for name, expected in (("db1", 1), (STAND_IN, 1), ("somebody", 0)):
        path = f"/sys/fs/cgroup/machine.slice/machine-qemu-1-{name}.scope"
        there = look(**{"control group": {path: "there"}})
        assert len(found(nothing, there, depth="rehearsal")) == expected


def test_a_qemu_without_a_machine_is_libvirts_own() -> None:
    def running(command: str) -> Snapshot:
        return look(process={"7 qemu-system-x86": f"since 1 in 0::/ runs {command}"})

    nothing = look(process={})
    probe = running("/usr/bin/qemu-system-x86_64 -S -nographic -machine none,accel=kvm:tcg -qmp a")
    assert found(nothing, probe) == []
    assert found(probe, nothing) == []
    assert found(nothing, running("/usr/bin/qemu-system-x86_64 -machine pc,accel=kvm")) != []


def test_where_it_listens_is_libvirts_own_and_a_guests_monitor_is_not() -> None:
    for path, expected in (("qmp-XIMEZ3/qmp.monitor", 0), ("domain-1-db1/monitor.sock", 1)):
        there = look(port={f"unix /var/lib/libvirt/qemu/{path}": "listens"})
        assert len(found(look(port={}), there)) == expected


@pytest.mark.parametrize(
    ("was", "now", "way"),
    [
        (None, "there", "new"),
        ("there", None, "gone"),
        (FILE.format(size=1, at=1), FILE.format(size=1, at=2), "touched"),
        (FILE.format(size=1, at=1), FILE.format(size=2, at=2), "grown"),
        (FILE.format(size=2, at=1), FILE.format(size=1, at=2), "changed"),
        ("mode 1 owner 0:0", "mode 1 owner 1:1", "changed"),
    ],
)
def test_the_way_of_a_change(was: str | None, now: str | None, way: str) -> None:
    assert Change(kind="file", name="/a", was=was, now=now).way == way


def test_a_link_that_is_made_is_heard() -> None:
    assert list(links_in(LINK)) == [("made", "tapx")]


def test_a_link_that_only_changes_is_passed_over() -> None:
    assert list(links_in(LINK.replace(b"\xff\xff\xff\xff", b"\0\0\0\0"))) == []


def test_a_broken_message_ends() -> None:
    assert list(links_in(b"\0" * 64)) == []
