from __future__ import annotations

from dataclasses import replace

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.memory import (
    Backing,
    DaemonLimits,
    GuestMemory,
    HostMemory,
    Overcommit,
    RamBlock,
    Taking,
    address_space_limit,
    balloon_can_grow,
    cannot_be_mapped,
    claimed_kib,
    daemon_limits,
    guest_memory,
    host_memory,
    more_than_host,
    needed_now_kib,
    taken_kib,
    too_little_free,
)
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Severity

GIB = 1024 * 1024
POLICY = Policy(memory_reserved_kib=GIB)
HOST = HostMemory(total_kib=16 * GIB, available_kib=9 * GIB)

MEMINFO = """\
MemTotal:       24684092 kB
MemFree:        23560000 kB
MemAvailable:   23778552 kB
Active(file):     100000 kB
SwapTotal:       1048572 kB
SwapFree:        1000000 kB
CommitLimit:    12342044 kB
Committed_AS:    3318824 kB
VmallocTotal:   34359738367 kB
HugePages_Total:      40
Hugepagesize:       2048 kB
Hugetlb:           81920 kB
"""

# What libvirt 9.0 makes of a running guest with one cell and one plugged DIMM.
LIVE = """\
<domain type='kvm' id='7'>
  <name>g</name>
  <maxMemory slots='4' unit='KiB'>1048576</maxMemory>
  <memory unit='KiB'>163840</memory>
  <currentMemory unit='KiB'>163840</currentMemory>
  <memoryBacking>{backing}</memoryBacking>
  {tune}
  <vcpu placement='static'>1</vcpu>
  <cpu>{cpu}</cpu>
  <devices>
    <memory model='dimm'>
      <source>{source}</source>
      <target>
        <size unit='KiB'>131072</size>
        <node>0</node>
      </target>
      <alias name='dimm0'/>
    </memory>
  </devices>
</domain>
"""
CELL = "<numa><cell id='0' cpus='0' memory='32768' unit='KiB'/></numa>"


def guest(
    gib: int, *, backing: Backing = Backing.ANONYMOUS, current: int | None = None
) -> GuestMemory:
    block = RamBlock(
        subject="guest memory",
        guest_cell=None,
        memory_kib=gib * GIB,
        mapped_kib=gib * GIB,
        page_kib=None,
        backing=backing,
    )
    return GuestMemory(blocks=(block,), current_kib=(current or gib) * GIB)


def at_once(memory: GuestMemory) -> GuestMemory:
    return replace(memory, taking=Taking.AT_ONCE)


def read(xml: str) -> GuestMemory:
    return guest_memory(read_domain(xml))


def simple(backing: str = "", rest: str = "") -> GuestMemory:
    return read(
        "<domain><name>g</name><memory unit='MiB'>64</memory>"
        f"<memoryBacking>{backing}</memoryBacking>{rest}</domain>"
    )


def live(backing: str = "", source: str = "", tune: str = "", cpu: str = CELL) -> GuestMemory:
    return read(LIVE.format(backing=backing, source=source, tune=tune, cpu=cpu))


# ---------------------------------------------------------------------------------- what it needs


def test_a_guest_without_cells_is_one_block() -> None:
    memory = simple()
    assert [block.memory_kib for block in memory.blocks] == [65536]
    assert memory.current_kib == 65536
    assert memory.taking is Taking.LAZILY


def test_memory_counts_the_plugged_devices_too() -> None:
    memory = live(cpu="")
    assert [(block.subject, block.memory_kib) for block in memory.blocks] == [
        ("guest memory", 32768),
        ("memory device dimm0", 131072),
    ]
    assert memory.total_kib == 163840


def test_each_guest_cell_is_a_block() -> None:
    memory = live()
    assert [block.subject for block in memory.blocks] == [
        "guest NUMA cell 0",
        "memory device dimm0",
    ]


def test_a_device_has_pages_and_cells_of_its_own() -> None:
    memory = live(source="<nodemask>0-1</nodemask><pagesize unit='KiB'>2048</pagesize>")
    cell, device = memory.blocks
    assert cell.backing is Backing.ANONYMOUS
    assert device.backing is Backing.HUGE_PAGES
    assert device.cells == {0, 1}
    assert device.mode == "strict"


def test_a_device_without_nodemask_follows_its_guest_cell() -> None:
    memory = live(
        tune="<numatune><memory mode='preferred' nodeset='0'/>"
        "<memnode cellid='0' mode='strict' nodeset='1'/></numatune>"
    )
    assert memory.blocks[1].cells == {1}


def test_cells_that_numad_chooses_are_not_known() -> None:
    memory = simple(rest="<numatune><memory mode='strict' placement='auto'/></numatune>")
    assert memory.blocks[0].cells == frozenset()


def test_pages_of_the_ordinary_size_are_no_huge_pages() -> None:
    memory = simple("<hugepages><page size='4'/></hugepages>")
    assert memory.blocks[0].backing is Backing.ANONYMOUS


def test_huge_pages_count_as_no_ordinary_memory() -> None:
    memory = simple("<hugepages/>")
    assert memory.ordinary_kib == 0
    assert claimed_kib(memory) == 64 * 1024


def test_a_nodeset_of_0_means_a_guest_without_cells() -> None:
    memory = simple("<hugepages><page size='2' unit='MiB' nodeset='0'/></hugepages>")
    assert memory.blocks[0].page_kib == 2048


def test_memory_may_be_a_memfd_or_a_file() -> None:
    def backing(inside: str) -> Backing:
        return simple(inside).blocks[0].backing

    assert backing("<source type='memfd'/>") is Backing.MEMFD
    assert backing("<source type='memfd'/><access mode='private'/>") is Backing.PRIVATE_MEMFD
    assert backing("<source type='file'/>") is Backing.PRIVATE_FILE
    assert backing("<access mode='shared'/>") is Backing.FILE
    assert backing("<source type='anonymous'/>") is Backing.ANONYMOUS


def test_locked_or_immediate_memory_is_taken_at_once() -> None:
    assert simple("<locked/>").taking is Taking.AT_ONCE
    assert simple("<allocation mode='immediate'/>").taking is Taking.AT_ONCE
    assert simple("<allocation threads='8'/>").taking is Taking.LAZILY


def test_of_virtio_mem_only_the_plugged_part_is_used() -> None:
    memory = read(
        "<domain><name>g</name><memory unit='MiB'>288</memory>"
        f"<cpu>{CELL}</cpu><devices><memory model='virtio-mem'><target>"
        "<size unit='MiB'>256</size><node>0</node><block unit='MiB'>2</block>"
        "<requested unit='MiB'>64</requested><current unit='MiB'>32</current>"
        "</target></memory></devices></domain>"
    )
    block = memory.blocks[1]
    assert (block.memory_kib, block.mapped_kib) == (32768, 262144)
    assert block.backing is Backing.UNRESERVED


def test_what_the_balloon_holds_is_not_needed_now() -> None:
    memory = guest(8, current=2)
    assert needed_now_kib(memory) < 3 * GIB < claimed_kib(memory)


# ------------------------------------------------------------------------------- what the host has


def test_the_hosts_memory_is_read_from_meminfo() -> None:
    texts = {"/proc/meminfo": MEMINFO, "/proc/sys/vm/overcommit_memory": "0\n"}
    assert host_memory(FakeSource(texts=texts)) == HostMemory(
        total_kib=24684092,
        available_kib=23778552,
        swap_total_kib=1048572,
        swap_free_kib=1000000,
        huge_pages_kib=81920,
        commit_limit_kib=12342044,
        committed_kib=3318824,
        overcommit=Overcommit.GUESS,
    )


def test_the_daemons_limit_is_read_by_its_pid() -> None:
    line = "Max address space         3221225472           unlimited            bytes     \n"
    texts = {"/run/libvirtd.pid": "46", "/proc/46/limits": line}
    assert daemon_limits(FakeSource(texts=texts)) == DaemonLimits(address_space_kib=3 * GIB)


def test_no_limit_is_none() -> None:
    line = "Max address space         unlimited            unlimited            bytes     \n"
    texts = {"/run/virtqemud.pid": "46\n", "/proc/46/limits": line}
    assert daemon_limits(FakeSource(texts=texts)) == DaemonLimits(address_space_kib=None)
    assert daemon_limits(FakeSource()) == DaemonLimits(address_space_kib=None)


# ----------------------------------------------------------------------------------------- checks


def test_a_block_larger_than_memory_and_swap_cannot_be_mapped() -> None:
    (problem,) = cannot_be_mapped(guest(17), HOST)
    assert isinstance(problem, Problem)
    assert problem.wanted == "17,408 MiB in one piece"
    assert problem.found == "16,384 MiB of memory and swap in all"


def test_swap_helps_to_map() -> None:
    assert not list(cannot_be_mapped(guest(17), replace(HOST, swap_total_kib=GIB)))


def test_shared_memory_is_mapped_whatever_its_size() -> None:
    assert not list(cannot_be_mapped(guest(17, backing=Backing.MEMFD), HOST))


def test_a_kernel_that_always_overcommits_maps_all() -> None:
    assert not list(cannot_be_mapped(guest(99), replace(HOST, overcommit=Overcommit.ALWAYS)))


def test_a_kernel_that_never_overcommits_counts_what_is_committed() -> None:
    host = replace(
        HOST, overcommit=Overcommit.NEVER, commit_limit_kib=10 * GIB, committed_kib=8 * GIB
    )
    (problem,) = cannot_be_mapped(guest(3), host)
    assert isinstance(problem, Problem)
    assert "2,048 MiB left of the commit limit" in problem.found
    assert not list(cannot_be_mapped(guest(2), host))


def test_the_daemons_limit_counts_huge_pages_too() -> None:
    limits = DaemonLimits(address_space_kib=3 * GIB)
    (problem,) = address_space_limit(guest(4, backing=Backing.HUGE_PAGES), limits)
    assert isinstance(problem, Problem)
    assert problem.found == "at most 3,072 MiB"


def test_a_guest_within_the_daemons_limit_is_fine() -> None:
    limits = DaemonLimits(address_space_kib=3 * GIB)
    assert not list(address_space_limit(guest(2), limits))
    assert not list(address_space_limit(guest(2), DaemonLimits(address_space_kib=None)))


def test_more_than_the_host_has_is_a_risk() -> None:
    (problem,) = more_than_host(guest(16), HOST, POLICY)
    assert isinstance(problem, Problem)
    assert problem.severity is None
    assert problem.wanted == "16,480 MiB, of which 96 MiB for QEMU itself"
    assert problem.found == "15,360 MiB for guests, of 16,384 MiB"


def test_what_is_taken_at_once_and_is_not_there_at_all_blocks() -> None:
    (problem,) = more_than_host(at_once(guest(17)), HOST, POLICY)
    assert isinstance(problem, Problem)
    assert problem.severity is Severity.BLOCKER


def test_policy_may_allow_more_than_the_host_has() -> None:
    assert not list(more_than_host(guest(16), HOST, replace(POLICY, memory_overcommit=1.5)))


def test_memory_held_for_huge_pages_is_not_the_hosts_to_give() -> None:
    host = replace(HOST, huge_pages_kib=8 * GIB)
    assert list(more_than_host(guest(8), host, POLICY))
    assert not list(more_than_host(guest(8), HOST, POLICY))


def test_too_little_free_is_a_risk() -> None:
    (problem,) = too_little_free(guest(8), HOST, POLICY)
    assert isinstance(problem, Problem)
    assert problem.severity is None
    assert problem.found == "8,192 MiB free, after 1,024 MiB kept for the host"


def test_what_fits_is_fine() -> None:
    assert not list(too_little_free(guest(7), HOST, POLICY))


def test_a_ballooned_guest_needs_what_it_uses_now() -> None:
    assert not list(too_little_free(guest(12, current=7), HOST, POLICY))
    (problem,) = balloon_can_grow(guest(12, current=7), HOST, POLICY)
    assert isinstance(problem, Problem)


def test_a_guest_that_fits_as_a_whole_may_give_its_balloon_back() -> None:
    assert not list(balloon_can_grow(guest(7), HOST, POLICY))


def test_policy_counts_on_guests_that_do_not_touch_all() -> None:
    assert not list(too_little_free(guest(12), HOST, replace(POLICY, memory_overcommit=2.0)))


def test_immediate_memory_past_all_that_is_free_blocks() -> None:
    (problem,) = too_little_free(at_once(guest(10)), HOST, POLICY)
    assert isinstance(problem, Problem)
    assert problem.severity is Severity.BLOCKER
    (problem,) = too_little_free(at_once(guest(10)), replace(HOST, swap_free_kib=2 * GIB), POLICY)
    assert isinstance(problem, Problem)
    assert problem.severity is None


def test_a_memfd_is_taken_whole_by_the_move_itself() -> None:
    memfd = guest(10, backing=Backing.MEMFD)
    assert taken_kib(memfd) == 10 * GIB
    assert taken_kib(guest(10)) == 0
    (problem,) = too_little_free(memfd, HOST, replace(POLICY, memory_overcommit=2.0))
    assert isinstance(problem, Problem)
    assert problem.severity is Severity.BLOCKER
    (problem,) = more_than_host(guest(17, backing=Backing.MEMFD), HOST, POLICY)
    assert isinstance(problem, Problem)
    assert problem.severity is Severity.BLOCKER


def test_a_balloon_holds_nothing_of_a_memfd() -> None:
    ballooned = guest(10, backing=Backing.MEMFD, current=2)
    assert needed_now_kib(ballooned) == claimed_kib(ballooned)


def test_a_guest_in_huge_pages_needs_no_ordinary_memory() -> None:
    memory = guest(99, backing=Backing.HUGE_PAGES)
    assert not list(too_little_free(memory, HOST, POLICY))
    assert not list(more_than_host(memory, HOST, POLICY))
