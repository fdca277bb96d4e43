from __future__ import annotations

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.resctrl import (
    BANDWIDTH,
    GuestAllocations,
    HostControls,
    guest_allocations,
    host_controls,
    not_allocatable,
)

BANK = "<bank id='0' level='3' type='both' size='11' unit='MiB' cpus='0-3'>{}</bank>"
BOTH = "<control granularity='1' unit='MiB' type='both' maxAllocs='16'/>"
CODE_AND_DATA = (
    "<control granularity='1' unit='MiB' type='code' maxAllocs='8'/>"
    "<control granularity='1' unit='MiB' type='data' maxAllocs='8'/>"
)
NODE = "<memory_bandwidth><node id='0' cpus='0-3'>{}</node></memory_bandwidth>"
NONE = HostControls(types_by_resource={})
L3 = HostControls(types_by_resource={"L3 cache": frozenset({"both"})})


def wants(tune: str) -> GuestAllocations | None:
    return guest_allocations(
        read_domain(f"<domain><name>g</name><cputune>{tune}</cputune></domain>")
    )


def share(level: int = 3, kind: str = "both") -> GuestAllocations:
    found = wants(
        f"<cachetune vcpus='0'><cache id='0' level='{level}' type='{kind}' size='3' unit='MiB'/>"
        "</cachetune>"
    )
    assert found is not None
    return found


def controls(inside: str) -> HostControls:
    document = f"<capabilities><host>{inside}</host></capabilities>"
    return host_controls(FakeSource(answers={("capabilities",): document}))


def test_shares_are_read_from_both_kinds_of_tuning() -> None:
    assert share().types_by_resource == {"L3 cache": frozenset({"both"})}
    bandwidth = wants("<memorytune vcpus='0'><node id='0' bandwidth='20'/></memorytune>")
    assert bandwidth == GuestAllocations(types_by_resource={BANDWIDTH: frozenset()})


@pytest.mark.parametrize(
    "tune",
    [
        "",
        "<vcpupin vcpu='0' cpuset='0'/>",
        "<cachetune vcpus='0'><monitor level='3' vcpus='0'/></cachetune>",
    ],
)
def test_who_only_watches_or_pins_asks_for_no_share(tune: str) -> None:
    assert wants(tune) is None


def test_what_libvirt_controls_is_read_from_its_capabilities() -> None:
    assert controls(f"<cache>{BANK.format('')}</cache>") == NONE
    assert controls("") == NONE
    assert controls(f"<cache>{BANK.format(BOTH)}</cache>") == L3
    both = f"<cache>{BANK.format(CODE_AND_DATA)}</cache>{NODE.format('<control/>')}"
    assert controls(both).types_by_resource == {
        "L3 cache": frozenset({"code", "data"}),
        BANDWIDTH: frozenset(),
    }


def test_a_host_without_control_over_it_is_no_place_for_the_guest() -> None:
    for host in (NONE, HostControls(types_by_resource={"L2 cache": frozenset({"both"})})):
        (told,) = not_allocatable(share(), host)
        assert isinstance(told, Problem)
        assert (told.subject, told.found) == ("L3 cache", "libvirt there cannot give one")


def test_a_host_that_divides_it_otherwise_is_none_either() -> None:
    (told,) = not_allocatable(share(kind="code"), L3)
    assert isinstance(told, Problem)
    assert (told.wanted, told.found) == ("shares of the L3 cache by type code", "only by both")


def test_whether_enough_of_it_is_free_is_left_open() -> None:
    (told,) = not_allocatable(share(), L3)
    assert isinstance(told, CouldNotTell)
    assert told.why == "how much of it is free is not looked at"
