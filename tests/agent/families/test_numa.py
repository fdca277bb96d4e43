from __future__ import annotations

from dataclasses import replace

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.memory import Taking, guest_memory
from virt_preflight.agent.families.numa import (
    Binding,
    CellMemory,
    GuestBindings,
    HostCells,
    Numad,
    NumadNeed,
    cell_absent,
    guest_bindings,
    host_cells,
    no_numad,
    numad,
    numad_need,
    too_little_free,
)
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Unreadable

NODE = "/sys/devices/system/node"
MEMINFO = """\
Node 0 MemTotal:       24684092 kB
Node 0 MemFree:        20000000 kB
Node 0 Active(file):     300000 kB
Node 0 Inactive(file):   100000 kB
Node 0 HugePages_Free:      0
"""
MIB = 1024
HOST = HostCells(
    memory_by_cell={
        0: CellMemory(total_kib=512 * MIB, free_kib=100 * MIB),
        1: CellMemory(total_kib=512 * MIB, free_kib=10 * MIB),
    }
)


def domain(rest: str) -> Domain:
    return read_domain(f"<domain><name>g</name><memory unit='MiB'>64</memory>{rest}</domain>")


def tuned(mode: str, nodeset: str) -> Domain:
    return domain(f"<numatune><memory mode='{mode}' nodeset='{nodeset}'/></numatune>")


def test_every_nodeset_is_read() -> None:
    found = guest_bindings(
        domain(
            "<cpu><numa><cell id='0' memory='64' unit='MiB'/></numa></cpu>"
            "<numatune><memory mode='preferred' nodeset='0'/>"
            "<memnode cellid='0' mode='strict' nodeset='0-1'/></numatune>"
            "<devices><memory model='dimm'><source><nodemask>3</nodemask></source>"
            "<target><size unit='MiB'>64</size><node>0</node></target><alias name='dimm0'/>"
            "</memory></devices>"
        )
    )
    assert found == GuestBindings(
        bindings=(
            Binding(subject="<numatune><memory>", cells=frozenset({0})),
            Binding(subject="<memnode> of guest cell 0", cells=frozenset({0, 1})),
            Binding(subject="memory device dimm0", cells=frozenset({3})),
        )
    )


def test_a_guest_that_names_no_cells_is_not_bound() -> None:
    assert guest_bindings(domain("")) is None


def test_cells_are_forgotten_where_numad_chooses() -> None:
    auto = domain("<numatune><memory mode='strict' placement='auto' nodeset='7'/></numatune>")
    assert guest_bindings(auto) is None
    assert numad_need(auto) == NumadNeed(subject="<numatune><memory placement='auto'>")


def test_vcpus_may_be_placed_by_numad() -> None:
    assert numad_need(domain("<vcpu placement='auto'>2</vcpu>")) is not None
    assert numad_need(domain("<vcpu placement='static'>2</vcpu>")) is None


def test_the_hosts_cells_are_its_node_directories() -> None:
    source = FakeSource(
        directories={NODE: ("has_memory", "node0", "node1", "online", "power")},
        texts={
            f"{NODE}/node0/meminfo": MEMINFO,
            f"{NODE}/node1/meminfo": Unreadable("no answer"),
        },
    )
    assert host_cells(source).memory_by_cell == {
        0: CellMemory(total_kib=24684092, free_kib=20400000),
        1: Unknown("node1: no answer"),
    }


def test_numad_is_looked_for() -> None:
    need = NumadNeed(subject="<vcpu placement='auto'>")
    assert numad(FakeSource(programs={"numad": "/usr/bin/numad"}), need).path == "/usr/bin/numad"
    assert numad(FakeSource(), need).path is None


def test_one_missing_cell_is_enough_in_every_mode() -> None:
    for mode in ("strict", "preferred", "interleave", "restrictive"):
        bound = guest_bindings(tuned(mode, "1-2"))
        assert bound is not None
        assert list(cell_absent(bound, HOST)) == [
            Problem(subject="<numatune><memory>", wanted="NUMA cell 2", found="cells 0, 1")
        ]


def test_cells_that_are_there_are_fine() -> None:
    bound = guest_bindings(tuned("strict", "0-1"))
    assert bound is not None
    assert not list(cell_absent(bound, HOST))


def test_without_numad_there_is_no_advice() -> None:
    need = NumadNeed(subject="<vcpu placement='auto'>")
    (problem,) = no_numad(need, Numad(path=None))
    assert isinstance(problem, Problem)
    assert problem.wanted == "numad"


def test_with_numad_there_is_advice() -> None:
    need = NumadNeed(subject="<vcpu placement='auto'>")
    assert not list(no_numad(need, Numad(path="/usr/bin/numad")))


def test_strict_memory_comes_from_its_cells_alone() -> None:
    (problem,) = too_little_free(guest_memory(tuned("strict", "1")), HOST)
    assert problem == Problem(subject="NUMA cell 1", wanted="64 MiB", found="10 MiB free of 512")


def test_enough_on_the_cell_is_fine() -> None:
    assert not list(too_little_free(guest_memory(tuned("strict", "0")), HOST))


def test_other_modes_take_from_elsewhere() -> None:
    assert not list(too_little_free(guest_memory(tuned("preferred", "1")), HOST))


def test_more_than_the_cell_has_at_all_blocks_when_taken_at_once() -> None:
    memory = replace(guest_memory(tuned("strict", "1")), taking=Taking.AT_ONCE)
    host = HostCells(memory_by_cell={1: CellMemory(total_kib=32 * MIB, free_kib=10 * MIB)})
    (problem,) = too_little_free(memory, host)
    assert isinstance(problem, Problem)
    assert problem.severity is Severity.BLOCKER


def test_a_cell_that_cannot_be_read_leaves_it_open() -> None:
    host = HostCells(memory_by_cell={1: Unknown("node1: no answer")})
    (left,) = too_little_free(guest_memory(tuned("strict", "1")), host)
    assert left == CouldNotTell(subject="NUMA cell 1", why="node1: no answer")
