"""NUMA: the host's cells that a guest's memory is bound to, and who chooses them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, Unknown, have, look, need
from virt_preflight.agent.families.memory.guest import (
    Backing,
    GuestMemory,
    RamBlock,
    taken_kib,
)
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import Absent, Source, SourceError
from virt_preflight.agent.xml import Element, bitmap, number, text_of

NODES = "/sys/devices/system/node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One place in the XML that names cells of the host."""

    subject: str
    cells: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestBindings:
    """A guest that is bound to cells of the host."""

    bindings: tuple[Binding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumadNeed:
    """A guest whose place numad chooses; `subject` is where the XML says so."""

    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMemory:
    """Of one cell of the host; what is free includes what the kernel can drop at once."""

    total_kib: int
    free_kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCells:
    """The host's NUMA cells that are online."""

    memory_by_cell: Mapping[int, CellMemory | Unknown]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numad:
    """Where numad is; None: it is not there."""

    path: str | None


@need
def guest_bindings(domain: Domain) -> GuestBindings | None:
    """Every nodeset of `<numatune>`, and every `<nodemask>` of a memory device."""
    root = domain.root
    bindings = [*_tuned(root), *_devices(root)]
    return GuestBindings(bindings=tuple(bindings)) if bindings else None


def _tuned(root: Element) -> list[Binding]:
    """Where numad chooses, libvirt forgets the nodesets (virDomainNumatuneSet)."""
    whole = root.find("numatune/memory")
    if whole is not None and whole.get("placement") == "auto":
        return []
    places = [("<numatune><memory>", whole)] if whole is not None else []
    places += [
        (f"<memnode> of guest cell {number(memnode, 'cellid')}", memnode)
        for memnode in root.findall("numatune/memnode")
    ]
    return [
        Binding(subject=subject, cells=bitmap(nodeset))
        for subject, place in places
        if (nodeset := place.get("nodeset"))
    ]


def _devices(root: Element) -> list[Binding]:
    found = []
    for position, device in enumerate(root.findall("devices/memory")):
        if nodes := text_of(device, "source/nodemask"):
            alias = device.find("alias")
            name = alias.get("name") if alias is not None else None
            subject = f"memory device {name or position}"
            found.append(Binding(subject=subject, cells=bitmap(nodes)))
    return found


@need
def numad_need(domain: Domain) -> NumadNeed | None:
    """`placement='auto'` of vCPUs or memory (virDomainDefNeedsPlacementAdvice)."""
    vcpu = domain.root.find("vcpu")
    if vcpu is not None and vcpu.get("placement") == "auto":
        return NumadNeed(subject="<vcpu placement='auto'>")
    whole = domain.root.find("numatune/memory")
    if whole is not None and whole.get("placement") == "auto":
        return NumadNeed(subject="<numatune><memory placement='auto'>")
    return None


@have(Pace.MOVING)
def host_cells(source: Source) -> HostCells:
    """The directories that libnuma goes by (set_configured_nodes), and each cell's meminfo."""
    cells: dict[int, CellMemory | Unknown] = {}
    for name in source.names(NODES):
        if match := re.fullmatch(r"node(\d+)", name):
            try:
                cells[int(match[1])] = _cell_memory(source.text(f"{NODES}/{name}/meminfo"))
            except (SourceError, KeyError) as error:
                cells[int(match[1])] = Unknown(f"{name}: {error}")
    return HostCells(memory_by_cell=cells)


def _cell_memory(text: str) -> CellMemory:
    """`Node 0 MemFree:  123 kB`. Clean pages of files are given up when memory is wanted."""
    lines = re.findall(r"^Node \d+ ([\w()]+):\s+(\d+)", text, re.MULTILINE)
    kib_by_name = {name: int(value) for name, value in lines}
    files_kib = kib_by_name.get("Active(file)", 0) + kib_by_name.get("Inactive(file)", 0)
    return CellMemory(
        total_kib=kib_by_name["MemTotal"], free_kib=kib_by_name["MemFree"] + files_kib
    )


@look(Pace.FIXED)
def numad(source: Source, guest: NumadNeed) -> Numad:
    """libvirt runs it by its name."""
    del guest
    try:
        return Numad(path=source.program("numad"))
    except Absent:
        return Numad(path=None)


@check(
    "numa.cell-absent",
    Severity.BLOCKER,
    title="the host has no such NUMA cell",
    remedy="Give the guest cells that the host has: virsh migrate --xml with another nodeset.",
)
def cell_absent(guest: GuestBindings, host: HostCells) -> Problems:
    """Each cell that a nodeset names must be there, in every mode, and one missing is enough.

    Tried with strict, preferred, interleave and restrictive, `<memory>`, `<memnode>` and a memory
    device's nodemask. Error: "NUMA node 1 is unavailable" (virNumaNodesetIsAvailable).
    """
    here = ", ".join(map(str, sorted(host.memory_by_cell)))
    for bound in guest.bindings:
        missing = sorted(bound.cells - set(host.memory_by_cell))
        if missing:
            yield Problem(
                subject=bound.subject,
                wanted=f"NUMA cell {', '.join(map(str, missing))}",
                found=f"cells {here}" if here else "no cells",
            )


@check(
    "numa.no-numad",
    Severity.BLOCKER,
    title="numad is not installed",
    remedy="Install numad, or give the guest a static placement.",
)
def no_numad(guest: NumadNeed, host: Numad) -> Problems:
    """libvirt asks numad where to put the guest, for each start and so for each arrival.

    Error: "Failed to query numad for the advisory nodeset", or "numad is not available on this
    host" where libvirt was built without it (virNumaGetAutoPlacementAdvice, util/virnuma.c).
    """
    if host.path is None:
        yield Problem(subject=guest.subject, wanted="numad", found="no program numad")


@check(
    "numa.too-little-free",
    Severity.RISK,
    title="too little free memory on NUMA cells",
    remedy="Move another guest away from those cells, or bind the guest to others.",
    phase=Phase.AFTER,
)
def too_little_free(guest: GuestMemory, host: HostCells) -> Problems:
    """Memory with the mode strict comes from its cells alone: when they run out, QEMU is killed.

    libvirt does not look. It is certain only for memory that the move itself takes (locked,
    allocation immediate, memfd) and that is more than the cells have at all: then it blocks. Huge
    pages are counted by pages.too-few-free.
    """
    for cells in dict.fromkeys(block.cells for block in guest.blocks if _strict(block)):
        # What is missing at all is said by numa.cell-absent.
        if not cells <= set(host.memory_by_cell):
            continue
        subject = f"NUMA cell {', '.join(map(str, sorted(cells)))}"
        total_kib = free_kib = 0
        unknown = []
        for cell in sorted(cells):
            match host.memory_by_cell[cell]:
                case CellMemory() as memory:
                    total_kib += memory.total_kib
                    free_kib += memory.free_kib
                case Unknown(why):
                    unknown.append(why)
        if unknown:
            yield CouldNotTell(subject=subject, why="; ".join(unknown))
            continue
        bound = tuple(block for block in guest.blocks if _strict(block) and block.cells <= cells)
        wanted_kib = sum(block.memory_kib for block in bound)
        if wanted_kib > free_kib:
            certain = taken_kib(replace(guest, blocks=bound)) > total_kib
            yield Problem(
                subject=subject,
                wanted=f"{wanted_kib // 1024:,} MiB",
                found=f"{free_kib // 1024:,} MiB free of {total_kib // 1024:,}",
                severity=Severity.BLOCKER if certain else None,
            )


def _strict(block: RamBlock) -> bool:
    return bool(block.cells) and block.mode == "strict" and block.backing is not Backing.HUGE_PAGES
