"""Huge pages: what a guest's memory is backed by, and what the host has free of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, have, need
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Source
from virt_preflight.agent.xml import BadXml, Element, bitmap, kib, number

NODES = "/sys/devices/system/node"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageNeed:
    """Memory of one size of page; `page_kib` 0 is the host's default size of huge page.

    `cells` are the host's NUMA cells that it may come from; empty: any.
    """

    page_kib: int
    memory_kib: int
    cells: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPages:
    """A guest whose memory, or a part of it, is in huge pages."""

    needs: tuple[PageNeed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPages:
    """Free huge pages by cell and size in KiB, and the sizes that a hugetlbfs is mounted for."""

    default_kib: int | None
    free_by_kib_by_cell: Mapping[int, Mapping[int, int]]
    total_by_kib: Mapping[int, int]
    mounted_kib: frozenset[int]

    def free(self, page_kib: int, cells: frozenset[int]) -> int:
        """Free pages of that size on those cells; no cells: on all."""
        return sum(
            free_by_kib.get(page_kib, 0)
            for cell, free_by_kib in self.free_by_kib_by_cell.items()
            if not cells or cell in cells
        )


@need
def guest_pages(domain: Domain) -> GuestPages | None:
    """What `<memoryBacking><hugepages>` asks for, cell by cell of the guest.

    Which size a guest cell gets: qemuBuildMemoryBackendProps (qemu/qemu_command.c). A `<page>`
    with a nodeset of guest cells wins over the one without.
    """
    backing = domain.root.find("memoryBacking/hugepages")
    if backing is None:
        return None
    pages = backing.findall("page")
    needs = [
        PageNeed(page_kib=size, memory_kib=memory_kib, cells=_host_cells(domain.root, cell))
        for cell, memory_kib in _memory_by_guest_cell(domain.root).items()
        if (size := _page_size(pages, cell)) is not None
    ]
    return GuestPages(needs=tuple(needs)) if needs else None


def _memory_by_guest_cell(root: Element) -> Mapping[int, int]:
    """KiB of each guest NUMA cell; a guest without cells is one cell, 0."""
    cells = {
        number(cell, "id") if cell.get("id") else position: kib(cell, "memory")
        for position, cell in enumerate(root.findall("cpu/numa/cell"))
    }
    if cells:
        return cells
    memory = root.find("memory")
    if memory is None:
        raise BadXml(f"line {root.sourceline}: <domain> has no <memory>")
    return {0: kib(memory)}


def _page_size(pages: list[Element], guest_cell: int) -> int | None:
    """Size of huge page in KiB for that guest cell; 0: the host's default; None: plain memory."""
    if not pages:
        return 0
    for_all = None
    for page in pages:
        nodeset = page.get("nodeset")
        if nodeset is None:
            for_all = kib(page, "size")
        elif guest_cell in bitmap(nodeset):
            return kib(page, "size")
    return for_all


def _host_cells(root: Element, guest_cell: int) -> frozenset[int]:
    """The host's cells that a guest cell is bound to with `strict`; empty: any."""
    bound = root.find("numatune/memory")
    for memnode in root.findall("numatune/memnode"):
        if number(memnode, "cellid") == guest_cell:
            bound = memnode
    if bound is None or bound.get("mode", "strict") != "strict" or not bound.get("nodeset"):
        return frozenset()
    return bitmap(bound.get("nodeset", ""))


@have(Pace.MOVING)
def host_pages(source: Source) -> HostPages:
    """Counts from sysfs, for each cell; mounts as libvirtd sees them at its start."""
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
    default = re.search(r"^Hugepagesize:\s+(\d+) kB", source.text("/proc/meminfo"), re.MULTILINE)
    default_kib = int(default[1]) if default else None
    return HostPages(
        default_kib=default_kib,
        free_by_kib_by_cell=free,
        total_by_kib=total,
        mounted_kib=_mounted_kib(source.text("/proc/mounts"), default_kib),
    )


def _mounted_kib(mounts: str, default_kib: int | None) -> frozenset[int]:
    """Sizes of page that a hugetlbfs is mounted for (virFileFindHugeTLBFS, util/virfile.c)."""
    sizes: set[int] = set()
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[2] != "hugetlbfs":
            continue
        if match := re.search(r"pagesize=(\d+)([KMG])", fields[3]):
            sizes.add(int(match[1]) * {"K": 1, "M": 1024, "G": 1024 * 1024}[match[2]])
        elif default_kib is not None:
            sizes.add(default_kib)
    return frozenset(sizes)


@check(
    "pages.no-mount",
    Severity.BLOCKER,
    title="no hugetlbfs mounted for that page size",
    remedy="Mount a hugetlbfs of that page size on the host and restart libvirtd.",
)
def no_mount(guest: GuestPages, host: HostPages) -> Problems:
    """libvirt backs huge pages by files in a hugetlbfs, and needs one for each size of page.

    Error: "Unable to find any usable hugetlbfs mount for 1048576 KiB" or "hugetlbfs filesystem is
    not mounted" (qemuGetDomainHupageMemPath, qemu/qemu_conf.c).
    """
    for page_kib in sorted({part.page_kib or host.default_kib or 0 for part in guest.needs}):
        if page_kib not in host.mounted_kib:
            mounted = ", ".join(f"{size} KiB" for size in sorted(host.mounted_kib))
            yield Problem(
                subject=f"{page_kib} KiB pages",
                wanted=f"a hugetlbfs with pagesize={page_kib}K",
                found=f"mounted for {mounted}" if mounted else "no hugetlbfs mounted",
                commands=(f"mount -t hugetlbfs -o pagesize={page_kib}K none /dev/hugepages",),
            )


@check(
    "pages.too-few-free",
    Severity.BLOCKER,
    title="too few free huge pages",
    remedy="Reserve more pages of that size, or first move away a guest that holds some.",
)
def too_few_free(guest: GuestPages, host: HostPages) -> Problems:
    """QEMU takes a guest's huge pages when it starts, before any byte of the guest arrives.

    So the pages must be free at that moment; pages that could be reserved later do not count.
    Error: "unable to map backing store for guest RAM: Cannot allocate memory".
    """
    wanted: dict[tuple[int, frozenset[int]], int] = {}
    for part in guest.needs:
        page_kib = part.page_kib or host.default_kib
        if page_kib is None:
            yield CouldNotTell(subject="huge pages", why="the kernel names no default size")
            continue
        pages = -(-part.memory_kib // page_kib)
        # What is bound to some cells takes from what is left for all, so both are counted.
        for cells in {part.cells, frozenset[int]()}:
            wanted[page_kib, cells] = wanted.get((page_kib, cells), 0) + pages
    for (page_kib, cells), count in wanted.items():
        free = host.free(page_kib, cells)
        if free < count:
            on_cells = f" on NUMA cell {', '.join(map(str, sorted(cells)))}" if cells else ""
            yield Problem(
                subject=f"{page_kib} KiB pages{on_cells}",
                wanted=f"{count} free",
                found=f"{free} free of {host.total_by_kib.get(page_kib, 0)}",
            )
