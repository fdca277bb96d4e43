"""Huge pages: what a guest's memory is backed by, and what the host has free of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, have, need
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.memory.guest import Backing, ram_blocks
from virt_preflight.agent.families.versions import HostVersions, written
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Absent, Source, Unreadable
from virt_preflight.agent.xml import attribute

NODES = "/sys/devices/system/node"
POOLS = "/sys/kernel/mm/hugepages"
# qemuHugepageMakeBasedir: libvirtd makes it in each mount that it finds when it starts.
LIBVIRTS_OWN = "libvirt/qemu"
# QEMU since 9.1 refuses a part of a page (backends/hostmem.c); 7.2 was seen to round up. Of those
# in between some fail at another place: "Couldn't set property 'dump' on 'memory-backend-file'".
ROUNDING_QEMU, STRICT_QEMU = 7_002_999, 9_001_000
# So many sets of cells are looked at in all their unions.
SETS_AT_MOST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PageNeed:
    """Memory of one size of page; `page_kib` 0 is the host's default size of huge page.

    `cells` are the host's NUMA cells that it must come from; empty: any.
    """

    page_kib: int
    memory_kib: int
    cells: frozenset[int] = frozenset()
    subject: str = "guest memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPages:
    """A guest whose memory, or a part of it, is in huge pages.

    `over_hugetlbfs`: as files in a mount; else as memfd, which needs none for a size that is named.
    """

    needs: tuple[PageNeed, ...]
    over_hugetlbfs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HugeMount:
    """A hugetlbfs. `known` says whether libvirtd has seen it: None when nobody can tell."""

    path: str
    page_kib: int
    known: bool | None = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPages:
    """Huge pages by size in KiB.

    `default_kib` is the size that `<hugepages/>` without a size gets; `spare_by_kib` are pages
    that the kernel may still add when asked (nr_overcommit_hugepages), `promised_by_kib` free ones
    that somebody has reserved and not yet touched.
    """

    default_kib: int | None
    free_by_kib_by_cell: Mapping[int, Mapping[int, int]]
    total_by_kib: Mapping[int, int]
    mounts: tuple[HugeMount, ...]
    promised_by_kib: Mapping[int, int]
    spare_by_kib: Mapping[int, int]

    def free(self, page_kib: int, cells: frozenset[int]) -> int:
        """Free pages of that size on those cells; no cells: on all, less those promised."""
        free = sum(
            free_by_kib.get(page_kib, 0)
            for cell, free_by_kib in self.free_by_kib_by_cell.items()
            if not cells or cell in cells
        )
        return free if cells else max(0, free - self.promised_by_kib.get(page_kib, 0))


@need
def guest_pages(domain: Domain) -> GuestPages | None:
    """What `<memoryBacking><hugepages>` and memory devices ask for, block by block."""
    needs = tuple(
        PageNeed(
            page_kib=block.page_kib,
            memory_kib=block.memory_kib,
            # Only `strict` fails rather than take a page from elsewhere.
            cells=block.cells if block.mode == "strict" else frozenset(),
            subject=block.subject,
        )
        for block in ram_blocks(domain.root)
        if block.backing is Backing.HUGE_PAGES and block.page_kib is not None
    )
    if not needs:
        return None
    memfd = attribute(domain.root, "memoryBacking/source", "type") == "memfd"
    return GuestPages(needs=needs, over_hugetlbfs=not memfd)


@have(Pace.MOVING)
def host_pages(source: Source, conf: QemuConf) -> HostPages:
    """Counts from sysfs, for each cell; the mounts that libvirtd uses."""
    free: dict[int, dict[int, int]] = {}
    total: dict[int, int] = {}
    for name in source.names(NODES):
        if not (match := re.fullmatch(r"node(\d+)", name)):
            continue
        pools = f"{NODES}/{name}/hugepages"
        free_by_kib = free.setdefault(int(match[1]), {})
        for pool in source.names(pools):
            page_kib = int(pool.removeprefix("hugepages-").removesuffix("kB"))
            free_by_kib[page_kib] = int(source.text(f"{pools}/{pool}/free_hugepages"))
            held = int(source.text(f"{pools}/{pool}/nr_hugepages"))
            total[page_kib] = total.get(page_kib, 0) + held
    kernel_default = re.search(
        r"^Hugepagesize:\s+(\d+) kB", source.text("/proc/meminfo"), re.MULTILINE
    )
    kernel_default_kib = int(kernel_default[1]) if kernel_default else None
    mounted = list(_mounted(source.text("/proc/mounts"), kernel_default_kib))
    named = _named(conf.value_by_key.get("hugetlbfs_mount"))
    if named is not None:
        by_path = dict(mounted)
        mounted = [(path, by_path[path]) for path in named if path in by_path]
    return HostPages(
        default_kib=_default_kib(mounted, named, kernel_default_kib),
        free_by_kib_by_cell=free,
        total_by_kib=total,
        mounts=tuple(
            HugeMount(path=path, page_kib=page_kib, known=_known(source, path))
            for path, page_kib in mounted
        ),
        promised_by_kib={
            page_kib: _count(source, page_kib, "resv_hugepages") for page_kib in total
        },
        spare_by_kib={
            page_kib: max(
                0,
                _count(source, page_kib, "nr_overcommit_hugepages")
                - _count(source, page_kib, "surplus_hugepages"),
            )
            for page_kib in total
        },
    )


def _count(source: Source, page_kib: int, name: str) -> int:
    try:
        return int(source.text(f"{POOLS}/hugepages-{page_kib}kB/{name}"))
    except Absent:
        return 0


def _mounted(mounts: str, kernel_default_kib: int | None) -> Iterator[tuple[str, int]]:
    """Where a hugetlbfs is mounted, and its size of page (virFileFindHugeTLBFS, util/virfile.c)."""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[2] != "hugetlbfs":
            continue
        if match := re.search(r"pagesize=(\d+)([KMG])", fields[3]):
            yield fields[1], int(match[1]) * {"K": 1, "M": 1024, "G": 1024 * 1024}[match[2]]
        elif kernel_default_kib is not None:
            yield fields[1], kernel_default_kib


def _named(setting: str | None) -> list[str] | None:
    """The paths of hugetlbfs_mount in qemu.conf; None when it is not set."""
    return None if setting is None else re.findall(r"[\"']([^\"']*)[\"']", setting)


def _default_kib(
    mounted: list[tuple[str, int]], named: list[str] | None, kernel_default_kib: int | None
) -> int | None:
    """The mount of the kernel's default size, else the first (qemuBuildMemoryGetDefaultPagesize).

    Of those that qemu.conf names it is the second, if there is one: tried, and so it is written in
    virQEMUDriverConfigLoadProcessEntry (qemu/qemu_conf.c).
    """
    sizes = [page_kib for _, page_kib in mounted]
    if not sizes:
        return None
    if named is not None:
        return sizes[1] if len(sizes) > 1 else sizes[0]
    return kernel_default_kib if kernel_default_kib in sizes else sizes[0]


def _known(source: Source, path: str) -> bool | None:
    """libvirtd looks for mounts when it starts, and makes its directory in each that it finds.

    Without it, it was mounted later (tried: libvirt does not see it) or mounted anew at the same
    place (tried: libvirt uses it): nobody can tell.
    """
    try:
        source.stat(f"{path}/{LIBVIRTS_OWN}")
    except (Absent, Unreadable):
        return None
    return True


@check(
    "pages.no-mount",
    Severity.BLOCKER,
    title="no hugetlbfs mounted for that page size",
    remedy="Mount a hugetlbfs of that page size on the host and restart libvirtd.",
)
def no_mount(guest: GuestPages, host: HostPages) -> Problems:
    """libvirt backs huge pages by files in a hugetlbfs, and needs one for each size of page.

    A guest over memfd needs none, unless it leaves the size to the host. Error: "Unable to find any
    usable hugetlbfs mount for 1048576 KiB" (qemuGetDomainHupageMemPath, qemu/qemu_conf.c) or
    "hugetlbfs filesystem is not mounted or disabled by administrator config"
    (qemuBuildMemoryGetDefaultPagesize, qemu/qemu_command.c).
    """
    for page_kib in sorted({part.page_kib for part in guest.needs}):
        if page_kib and not guest.over_hugetlbfs:
            continue
        wanted_kib = page_kib or host.default_kib
        fitting = [mount for mount in host.mounts if mount.page_kib == wanted_kib]
        if any(mount.known for mount in fitting):
            continue
        subject = f"{page_kib} KiB pages" if page_kib else "huge pages of the host's default size"
        if fitting:
            paths = ", ".join(mount.path for mount in fitting)
            why = f"{paths}: mounted, but libvirtd may not have seen it; a restart of it tells"
            yield CouldNotTell(subject=subject, why=why)
            continue
        mounted = ", ".join(f"{mount.page_kib} KiB at {mount.path}" for mount in host.mounts)
        option = f"-o pagesize={page_kib}K " if page_kib else ""
        yield Problem(
            subject=subject,
            wanted=f"a hugetlbfs with pagesize={page_kib}K" if page_kib else "a hugetlbfs",
            found=f"mounted: {mounted}" if mounted else "no hugetlbfs that libvirt uses",
            commands=(f"mount -t hugetlbfs {option}hugetlbfs /dev/hugepages",),
        )


@check(
    "pages.too-few-free",
    Severity.BLOCKER,
    title="too few free huge pages",
    remedy="Reserve more pages of that size, or first move away a guest that holds some.",
)
def too_few_free(guest: GuestPages, host: HostPages) -> Problems:
    """QEMU takes a guest's huge pages when it starts, before any byte of the guest arrives.

    So the pages must be free at that moment; pages that could be reserved later do not count. Where
    the kernel may add pages itself (nr_overcommit_hugepages) it is a risk only: it needs unbroken
    memory for them. Error: "unable to map backing store for guest RAM: Cannot allocate memory".
    """
    # Without a mount there is no default size: pages.no-mount says so.
    sizes = sorted({part.page_kib or host.default_kib or 0 for part in guest.needs} - {0})
    for page_kib in sizes:
        parts = [part for part in guest.needs if (part.page_kib or host.default_kib) == page_kib]
        spare = host.spare_by_kib.get(page_kib, 0)
        for cells in _unions(part.cells for part in parts):
            count = sum(
                -(-part.memory_kib // page_kib)
                for part in parts
                if not cells or (part.cells and part.cells <= cells)
            )
            free = host.free(page_kib, cells)
            if free >= count:
                continue
            on_cells = f" on NUMA cell {', '.join(map(str, sorted(cells)))}" if cells else ""
            more = f", and up to {spare} that the kernel may add" if spare else ""
            yield Problem(
                subject=f"{page_kib} KiB pages{on_cells}",
                wanted=f"{count} free",
                found=f"{free} free of {host.total_by_kib.get(page_kib, 0)}{more}",
                severity=Severity.RISK if free + spare >= count else None,
                commands=_reserve(page_kib, cells, count - free),
            )


def _reserve(page_kib: int, cells: frozenset[int], missing: int) -> tuple[str, ...]:
    """For one cell, or wherever the kernel finds room."""
    command = f"virsh allocpages --add --pagesize {page_kib}K --pagecount {missing}"
    match sorted(cells):
        case []:
            return (command,)
        case [cell]:
            return (f"{command} --cellno {cell}",)
    return ()


def _unions(sets: Iterable[frozenset[int]]) -> list[frozenset[int]]:
    """The sets of cells to count on: what is bound to some cells takes from a larger set, too."""
    distinct = [cells for cells in dict.fromkeys(sets) if cells]
    unions: dict[frozenset[int], None] = dict.fromkeys(distinct)
    if len(distinct) <= SETS_AT_MOST:
        for cells in distinct:
            unions |= dict.fromkeys([cells | other for other in unions])
    return [frozenset(), *sorted(unions, key=sorted)]


@check(
    "pages.smaller-than-a-page",
    Severity.BLOCKER,
    title="memory smaller than one page",
    remedy="Mount a hugetlbfs of the kernel's default page size and restart libvirtd.",
)
def smaller_than_a_page(guest: GuestPages, host: HostPages) -> Problems:
    """A guest that leaves the size of page to the host may meet pages larger than its memory.

    Error: "memory size 0x4000000 must be equal to or larger than page size 0x40000000" (QEMU).
    """
    for part in guest.needs:
        page_kib = part.page_kib or host.default_kib
        if page_kib is not None and 0 < part.memory_kib < page_kib:
            yield Problem(
                subject=part.subject,
                wanted=f"pages of at most {part.memory_kib} KiB",
                found=f"pages of {page_kib} KiB",
            )


@check(
    "pages.not-whole",
    Severity.BLOCKER,
    title="memory is no whole number of pages",
    remedy="Give the guest a multiple of the page size and power it off and on, or choose a host "
    "with an older QEMU.",
)
def not_whole(guest: GuestPages, host: HostPages, versions: HostVersions) -> Problems:
    """An older QEMU rounds the last page up by itself, a newer one does not start.

    Error: "backend 'memory-backend-file' memory size must be multiple of 2 MiB" (QEMU).
    """
    for part in guest.needs:
        page_kib = part.page_kib or host.default_kib
        if not page_kib or part.memory_kib % page_kib == 0 or part.memory_kib < page_kib:
            continue
        if versions.qemu >= STRICT_QEMU:
            yield Problem(
                subject=part.subject,
                wanted=f"a multiple of {page_kib} KiB",
                found=f"{part.memory_kib} KiB with QEMU {written(versions.qemu)}",
            )
        elif versions.qemu > ROUNDING_QEMU:
            why = f"{part.memory_kib} KiB in pages of {page_kib} KiB: not every QEMU rounds up"
            yield CouldNotTell(subject=part.subject, why=why)
