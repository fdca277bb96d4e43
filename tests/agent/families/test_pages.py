from __future__ import annotations

from dataclasses import replace

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.pages import (
    GuestPages,
    HostPages,
    HugeMount,
    PageNeed,
    guest_pages,
    host_pages,
    no_mount,
    not_whole,
    smaller_than_a_page,
    too_few_free,
)
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import FileStat

HOST = HostPages(
    default_kib=2048,
    free_by_kib_by_cell={0: {2048: 4}, 1: {2048: 2}},
    total_by_kib={2048: 8},
    mounts=(HugeMount(path="/dev/hugepages", page_kib=2048),),
    promised_by_kib={2048: 0},
    spare_by_kib={2048: 0},
)
NO_MOUNT = replace(HOST, mounts=(), default_kib=None)

NODE = "/sys/devices/system/node"
POOL = "/sys/kernel/mm/hugepages"
MOUNTS = """\
sysfs /sys sysfs rw,nosuid 0 0
hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0
x /mnt/big hugetlbfs rw,relatime,pagesize=1024M 0 0
"""


def need(pages: int, *cells: int, page_kib: int = 2048) -> PageNeed:
    return PageNeed(page_kib=page_kib, memory_kib=pages * 2048, cells=frozenset(cells))


def guest(pages: int, *, page_kib: int = 2048, cells: tuple[int, ...] = ()) -> GuestPages:
    return GuestPages(needs=(need(pages, *cells, page_kib=page_kib),))


def read(backing: str, extra: str = "") -> GuestPages | None:
    return guest_pages(
        read_domain(
            f"<domain><name>g</name><memory unit='MiB'>8</memory>"
            f"<memoryBacking>{backing}</memoryBacking>{extra}</domain>"
        )
    )


def directory() -> FileStat:
    return FileStat(kind="dir", size_bytes=0, mode=0o755, uid=0, gid=0, device=1, inode=1)


def source(mounts: str = MOUNTS, *, seen: tuple[str, ...] = ("/dev/hugepages",)) -> FakeSource:
    """One cell with 40 pages of 2 MiB, of which 24 are free."""
    here = f"{NODE}/node0/hugepages"
    return FakeSource(
        directories={
            NODE: ("has_cpu", "node0", "online"),
            here: ("hugepages-1048576kB", "hugepages-2048kB"),
        },
        texts={
            f"{here}/hugepages-2048kB/free_hugepages": "24\n",
            f"{here}/hugepages-2048kB/nr_hugepages": "40\n",
            f"{here}/hugepages-1048576kB/free_hugepages": "0\n",
            f"{here}/hugepages-1048576kB/nr_hugepages": "0\n",
            f"{POOL}/hugepages-2048kB/resv_hugepages": "4\n",
            f"{POOL}/hugepages-2048kB/nr_overcommit_hugepages": "64\n",
            f"{POOL}/hugepages-2048kB/surplus_hugepages": "2\n",
            "/proc/meminfo": "Hugepagesize:       2048 kB\n",
            "/proc/mounts": mounts,
        },
        stats={f"{path}/libvirt/qemu": directory() for path in seen},
    )


def conf(setting: str | None = None) -> QemuConf:
    return QemuConf(value_by_key={} if setting is None else {"hugetlbfs_mount": setting})


# ---------------------------------------------------------------------------------- what it needs


def test_a_guest_without_huge_pages_needs_none() -> None:
    assert read("") is None


def test_pages_of_the_ordinary_size_are_none() -> None:
    assert read("<hugepages><page size='4'/></hugepages>") is None


def test_hugepages_without_page_mean_the_default_size() -> None:
    assert read("<hugepages/>") == GuestPages(needs=(PageNeed(page_kib=0, memory_kib=8192),))


def test_pages_for_some_guest_cells_leave_the_others_plain() -> None:
    cells = (
        "<cpu><numa><cell id='0' memory='4' unit='MiB'/><cell id='1' memory='4' unit='MiB'/>"
        "</numa></cpu><numatune><memnode cellid='1' mode='strict' nodeset='0'/></numatune>"
    )
    got = read("<hugepages><page size='2' unit='MiB' nodeset='1'/></hugepages>", cells)
    assert got == GuestPages(
        needs=(
            PageNeed(
                page_kib=2048,
                memory_kib=4096,
                cells=frozenset({0}),
                subject="guest NUMA cell 1",
            ),
        )
    )


def test_cells_that_are_only_preferred_bind_nothing() -> None:
    tune = "<numatune><memory mode='preferred' nodeset='1'/></numatune>"
    got = read("<hugepages/>", tune)
    assert got is not None
    assert got.needs[0].cells == frozenset()


def test_a_plugged_device_may_be_all_that_is_in_huge_pages() -> None:
    device = (
        "<cpu><numa><cell id='0' memory='4' unit='MiB'/></numa></cpu>"
        "<devices><memory model='dimm'><source><pagesize unit='MiB'>2</pagesize>"
        "<nodemask>1</nodemask></source><target><size unit='MiB'>4</size><node>0</node></target>"
        "</memory></devices>"
    )
    got = read("", device)
    assert got is not None
    (part,) = got.needs
    assert (part.page_kib, part.memory_kib, part.cells) == (2048, 4096, frozenset({1}))


# ------------------------------------------------------------------------------- what the host has


def test_the_hosts_pages_are_counted_by_cell_and_size() -> None:
    host = host_pages(source(), conf())
    assert host.free_by_kib_by_cell == {0: {1048576: 0, 2048: 24}}
    assert host.total_by_kib == {1048576: 0, 2048: 40}
    assert host.promised_by_kib == {1048576: 0, 2048: 4}
    assert host.spare_by_kib == {1048576: 0, 2048: 62}
    assert host.default_kib == 2048
    assert host.free(2048, frozenset()) == 20


def test_a_mount_that_libvirtd_has_left_nothing_in_may_be_unseen() -> None:
    host = host_pages(source(), conf())
    assert host.mounts == (
        HugeMount(path="/dev/hugepages", page_kib=2048),
        HugeMount(path="/mnt/big", page_kib=1048576, known=None),
    )


def test_without_a_mount_of_the_kernels_default_the_first_is_the_default() -> None:
    host = host_pages(source("x /mnt/big hugetlbfs rw,pagesize=1024M 0 0\n"), conf())
    assert host.default_kib == 1048576


def test_qemu_conf_says_which_mounts_count() -> None:
    host = host_pages(source(), conf('"/mnt/big"'))
    assert [mount.path for mount in host.mounts] == ["/mnt/big"]
    assert host.default_kib == 1048576


def test_of_two_named_mounts_the_second_is_the_default() -> None:
    host = host_pages(source(), conf('[ "/dev/hugepages", "/mnt/big" ]'))
    assert host.default_kib == 1048576


# ----------------------------------------------------------------------------------------- checks


def test_too_few_free_pages_are_counted() -> None:
    (problem,) = too_few_free(guest(7), HOST)
    assert problem == Problem(
        subject="2048 KiB pages",
        wanted="7 free",
        found="6 free of 8",
        commands=("virsh allocpages --add --pagesize 2048K --pagecount 1",),
    )


def test_exactly_enough_is_enough() -> None:
    assert not list(too_few_free(guest(6), HOST))


def test_pages_of_another_cell_do_not_help_a_bound_guest() -> None:
    (problem,) = too_few_free(guest(3, cells=(1,)), HOST)
    assert isinstance(problem, Problem)
    assert problem.subject == "2048 KiB pages on NUMA cell 1"
    assert problem.commands == ("virsh allocpages --add --pagesize 2048K --pagecount 1 --cellno 1",)


def test_guest_cells_on_one_cell_of_the_host_add_up() -> None:
    both = GuestPages(needs=(need(2, 0), need(3, 0)))
    (problem,) = too_few_free(both, HOST)
    assert isinstance(problem, Problem)
    assert problem.wanted == "5 free"


def test_what_is_bound_to_less_takes_from_what_is_bound_to_more() -> None:
    host = replace(HOST, free_by_kib_by_cell={0: {2048: 2}, 1: {2048: 2}, 2: {2048: 9}})
    tight = GuestPages(needs=(need(2, 0), need(3, 0, 1)))
    (problem,) = too_few_free(tight, host)
    assert isinstance(problem, Problem)
    assert problem.subject == "2048 KiB pages on NUMA cell 0, 1"
    assert problem.wanted == "5 free"


def test_sets_of_cells_that_overlap_are_counted_together() -> None:
    host = replace(
        HOST, free_by_kib_by_cell={0: {2048: 1}, 1: {2048: 2}, 2: {2048: 1}, 3: {2048: 9}}
    )
    tight = GuestPages(needs=(need(3, 0, 1), need(3, 1, 2)))
    (problem,) = too_few_free(tight, host)
    assert isinstance(problem, Problem)
    assert problem.subject == "2048 KiB pages on NUMA cell 0, 1, 2"


def test_promised_pages_are_not_free() -> None:
    assert list(too_few_free(guest(6), replace(HOST, promised_by_kib={2048: 1})))


def test_pages_that_the_kernel_may_add_make_it_a_risk() -> None:
    (problem,) = too_few_free(guest(9), replace(HOST, spare_by_kib={2048: 3}))
    assert isinstance(problem, Problem)
    assert problem.severity is Severity.RISK
    assert problem.found == "6 free of 8, and up to 3 that the kernel may add"


def test_default_size_is_the_hosts() -> None:
    assert not list(too_few_free(guest(6, page_kib=0), HOST))


def test_a_size_without_mount_is_refused() -> None:
    (problem,) = no_mount(guest(1, page_kib=1048576), HOST)
    assert isinstance(problem, Problem)
    assert problem.found == "mounted: 2048 KiB at /dev/hugepages"


def test_a_mounted_size_is_fine() -> None:
    assert not list(no_mount(guest(1), HOST))


def test_the_default_size_needs_any_mount() -> None:
    (problem,) = no_mount(guest(1, page_kib=0), NO_MOUNT)
    assert isinstance(problem, Problem)
    assert problem.found == "no hugetlbfs that libvirt uses"


def test_memfd_of_a_named_size_needs_no_mount() -> None:
    assert not list(no_mount(replace(guest(1), over_hugetlbfs=False), NO_MOUNT))


def test_memfd_of_the_default_size_does() -> None:
    assert list(no_mount(replace(guest(1, page_kib=0), over_hugetlbfs=False), NO_MOUNT))


def test_a_mount_that_libvirtd_may_not_have_seen_leaves_it_open() -> None:
    host = replace(HOST, mounts=(HugeMount(path="/dev/hugepages", page_kib=2048, known=None),))
    (left,) = no_mount(guest(1), host)
    assert isinstance(left, CouldNotTell)


def test_memory_smaller_than_a_page_is_refused() -> None:
    small = replace(HOST, default_kib=1048576)
    (problem,) = smaller_than_a_page(guest(4, page_kib=0), small)
    assert problem == Problem(
        subject="guest memory", wanted="pages of at most 8192 KiB", found="pages of 1048576 KiB"
    )


def test_memory_of_many_pages_is_fine() -> None:
    assert not list(smaller_than_a_page(guest(4), HOST))


def qemu(version: int) -> HostVersions:
    return HostVersions(libvirt=11_003_000, qemu=version)


def test_a_newer_qemu_refuses_a_part_of_a_page() -> None:
    odd = GuestPages(needs=(PageNeed(page_kib=2048, memory_kib=65 * 1024),))
    (problem,) = not_whole(odd, HOST, qemu(10_000_008))
    assert problem == Problem(
        subject="guest memory",
        wanted="a multiple of 2048 KiB",
        found="66560 KiB with QEMU 10.0.8",
    )
    (left,) = not_whole(
        replace(odd, needs=(replace(odd.needs[0], page_kib=0),)), HOST, qemu(8_002_000)
    )
    assert isinstance(left, CouldNotTell)


def test_whole_pages_or_an_older_qemu_are_fine() -> None:
    odd = GuestPages(needs=(PageNeed(page_kib=2048, memory_kib=65 * 1024),))
    assert not list(not_whole(odd, HOST, qemu(7_002_022)))
    assert not list(not_whole(guest(4), HOST, qemu(10_000_008)))
    # Less than a page is another fault.
    tiny = GuestPages(needs=(PageNeed(page_kib=1048576, memory_kib=65 * 1024),))
    assert not list(not_whole(tiny, HOST, qemu(10_000_008)))
