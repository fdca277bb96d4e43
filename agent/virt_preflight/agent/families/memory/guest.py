"""What a guest's RAM is made of, block by block, as libvirt hands it to QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import need
from virt_preflight.agent.xml import BadXml, Element, attribute, bitmap, kib, number, text_of

# What QEMU takes beside the guest's RAM. Measured for guests without devices: 35 to 42 MiB
# resident with QEMU 7.2 and 10.0, KVM, 64 MiB to 24 GiB; devices, graphics and firmware come on
# top. And page tables: 8 bytes for each touched page of 4 KiB (seen: 508 KiB for 256 MiB).
OVERHEAD_KIB = 64 * 1024
PAGE_TABLES_PART = 512
# The guest's page size that is no huge page (virGetSystemPageSizeKB); 64 KiB on some other
# architectures.
PLAIN_PAGES_KIB = frozenset({4, 64})


class Backing(Enum):
    """Where the kernel takes a block of guest RAM from."""

    ANONYMOUS = "anonymous"
    MEMFD = "memfd"
    PRIVATE_MEMFD = "private memfd"
    FILE = "file"
    PRIVATE_FILE = "private file"
    UNRESERVED = "unreserved"  # virtio-mem
    HUGE_PAGES = "huge pages"


# A migration reads each page on both hosts, and a page of a memfd is there once it was read: all of
# it is then taken, however idle the guest (tried: 2 GiB idle, 2 GiB resident at the destination).
FILLED_BY_MOVING = frozenset({Backing.MEMFD, Backing.PRIVATE_MEMFD})


class Taking(Enum):
    """When the host has to give the memory."""

    LAZILY = "as the guest touches it"
    AT_ONCE = "when QEMU starts"


@dataclass(frozen=True, slots=True, kw_only=True)
class RamBlock:
    """One block. `guest_cell` None: of a guest without NUMA cells.

    `page_kib` 0 is the host's default size of huge page, None no huge pages. `mapped_kib` is what
    QEMU maps, `memory_kib` what the guest can use of it: they differ for virtio-mem.
    `cells` are the host's NUMA cells that it is bound to in `mode`; empty: any.
    """

    subject: str
    guest_cell: int | None
    memory_kib: int
    mapped_kib: int
    page_kib: int | None
    backing: Backing
    cells: frozenset[int] = frozenset()
    mode: str = "strict"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMemory:
    """All of a guest's RAM; `current_kib` is what its balloon leaves it at the moment."""

    blocks: tuple[RamBlock, ...]
    current_kib: int
    taking: Taking = Taking.LAZILY

    @property
    def total_kib(self) -> int:
        """With what is in huge pages."""
        return sum(block.memory_kib for block in self.blocks)

    @property
    def ordinary_kib(self) -> int:
        """Without what is in huge pages: that is taken from their pool."""
        return sum(
            block.memory_kib for block in self.blocks if block.backing is not Backing.HUGE_PAGES
        )


def overhead_kib(memory: GuestMemory) -> int:
    """What QEMU needs beside the guest's RAM; huge pages need next to no page tables."""
    return OVERHEAD_KIB + memory.ordinary_kib // PAGE_TABLES_PART


def claimed_kib(memory: GuestMemory) -> int:
    """Ordinary memory that the guest may come to take of the host, with QEMU's own."""
    return memory.ordinary_kib + overhead_kib(memory)


def taken_kib(memory: GuestMemory) -> int:
    """Ordinary memory that the move itself takes, however little of it the guest touches."""
    if memory.taking is Taking.AT_ONCE:
        return memory.ordinary_kib
    return sum(block.memory_kib for block in memory.blocks if block.backing in FILLED_BY_MOVING)


def touched_kib(memory: GuestMemory) -> int:
    """The rest of it, which the guest may be using now: what its balloon holds is taken off."""
    held_kib = max(0, memory.total_kib - memory.current_kib)
    return max(0, memory.ordinary_kib - taken_kib(memory) - held_kib)


def needed_now_kib(memory: GuestMemory) -> int:
    """Ordinary memory that the guest may need as soon as it has come, with QEMU's own."""
    return taken_kib(memory) + touched_kib(memory) + overhead_kib(memory)


@need
def guest_memory(domain: Domain) -> GuestMemory:
    """From `<memory>`, `<currentMemory>`, `<cpu><numa>`, `<memoryBacking>` and memory devices."""
    root = domain.root
    blocks = ram_blocks(root)
    total_kib = sum(block.memory_kib for block in blocks)
    current = root.find("currentMemory")
    backing = root.find("memoryBacking")
    at_once = backing is not None and (
        backing.find("locked") is not None
        or any(found.get("mode") == "immediate" for found in backing.findall("allocation"))
    )
    # More than there is, or 0, means all of it (virDomainDefPostParseMemory).
    current_kib = kib(current) if current is not None else 0
    return GuestMemory(
        blocks=blocks,
        current_kib=min(current_kib or total_kib, total_kib),
        taking=Taking.AT_ONCE if at_once else Taking.LAZILY,
    )


def ram_blocks(root: Element) -> tuple[RamBlock, ...]:
    """The blocks of RAM in libvirt's order (qemuBuildMemCommandLine, qemuBuildNumaCommandLine)."""
    devices = root.findall("devices/memory")
    cells = root.findall("cpu/numa/cell")
    blocks = []
    if cells:
        for position, cell in enumerate(cells):
            guest_cell = number(cell, "id") if cell.get("id") else position
            access = cell.get("memAccess")
            size = kib(cell, "memory")
            blocks.append(_block(root, f"guest NUMA cell {guest_cell}", guest_cell, size, access))
    else:
        memory = root.find("memory")
        if memory is None:
            raise BadXml(f"line {root.sourceline}: <domain> has no <memory>")
        # <memory> counts the memory devices too (virDomainDefGetMemoryInitial).
        plugged_kib = sum(size_kib(device) for device in devices)
        size = max(0, kib(memory) - plugged_kib)
        blocks.append(_block(root, "guest memory", None, size, None))
    return (*blocks, *_device_blocks(root, devices))


def _device_blocks(root: Element, devices: list[Element]) -> Iterator[RamBlock]:
    """Those memory devices that are RAM: NVDIMMs are files, SGX sections are the processor's."""
    for position, device in enumerate(devices):
        model = device.get("model")
        if model not in ("dimm", "virtio-mem"):
            continue
        target = device.find("target/node")
        pages = device.find("source/pagesize")
        nodes = text_of(device, "source/nodemask")
        block = _block(
            root,
            device_subject(device, position),
            number(target) if target is not None else None,
            size_kib(device),
            device.get("access"),
            page_kib=kib(pages) if pages is not None else None,
            nodes=nodes,
        )
        if model == "virtio-mem":
            block = _virtio_mem(block, device)
        yield block


def _virtio_mem(block: RamBlock, device: Element) -> RamBlock:
    """Mapped whole, without a reservation; the guest has only the plugged part of it."""
    plugged = device.find("target/current")
    if plugged is None:
        plugged = device.find("target/requested")
    huge = block.backing is Backing.HUGE_PAGES
    return RamBlock(
        subject=block.subject,
        guest_cell=block.guest_cell,
        memory_kib=kib(plugged) if plugged is not None else block.memory_kib,
        mapped_kib=block.mapped_kib,
        page_kib=block.page_kib,
        backing=Backing.HUGE_PAGES if huge else Backing.UNRESERVED,
        cells=block.cells,
        mode=block.mode,
    )


def device_subject(device: Element, position: int) -> str:
    """What findings call it."""
    return f"memory device {attribute(device, 'alias', 'name') or position}"


def size_kib(device: Element) -> int:
    """Of a memory device."""
    size = device.find("target/size")
    if size is None:
        raise BadXml(f"line {device.sourceline}: <memory> has no <target><size>")
    return kib(size)


def _block(
    root: Element,
    subject: str,
    guest_cell: int | None,
    size_kib: int,
    access: str | None,
    *,
    page_kib: int | None = None,
    nodes: str | None = None,
) -> RamBlock:
    if page_kib is None:
        page_kib = _page_size(root, guest_cell)
    if page_kib in PLAIN_PAGES_KIB:
        # "As if they hasn't specified any huge pages at all" (qemuBuildMemoryGetPagesize).
        page_kib = None
    mode, cells = binding(root, guest_cell)
    return RamBlock(
        subject=subject,
        guest_cell=guest_cell,
        memory_kib=size_kib,
        mapped_kib=size_kib,
        page_kib=page_kib,
        backing=Backing.HUGE_PAGES if page_kib is not None else _backing(root, access),
        cells=bitmap(nodes) if nodes else cells,
        mode=mode,
    )


def _page_size(root: Element, guest_cell: int | None) -> int | None:
    """Size of huge page in KiB; 0: the host's default; None: none (qemuBuildMemoryGetPagesize).

    A `<page>` with a nodeset of guest cells wins over the one without. In a guest without cells
    a nodeset of 0 means nothing (virDomainDefPostParseMemtune).
    """
    backing = root.find("memoryBacking/hugepages")
    if backing is None:
        return None
    pages = backing.findall("page")
    if not pages:
        return 0
    for_all = None
    for page in pages:
        nodeset = page.get("nodeset")
        if nodeset is None or (guest_cell is None and bitmap(nodeset) == {0}):
            for_all = kib(page, "size")
        elif guest_cell is not None and guest_cell in bitmap(nodeset):
            return kib(page, "size")
    return for_all


def _backing(root: Element, access: str | None) -> Backing:
    """What QEMU maps when it is no huge pages (qemuBuildMemoryBackendProps)."""
    whole = root.find("memoryBacking/access")
    access = access or (whole.get("mode") if whole is not None else None)
    source = root.find("memoryBacking/source")
    private = access == "private"
    if source is not None and source.get("type") == "memfd":
        return Backing.PRIVATE_MEMFD if private else Backing.MEMFD
    # Any access mode, too, makes it a file in qemu.conf's memory_backing_dir.
    if access in ("shared", "private") or (source is not None and source.get("type") == "file"):
        return Backing.FILE if access == "shared" else Backing.PRIVATE_FILE
    return Backing.ANONYMOUS


def binding(root: Element, guest_cell: int | None) -> tuple[str, frozenset[int]]:
    """The mode of `<numatune>` for that guest cell, and the host's cells; none: any.

    A `<memnode>` wins over `<memory>`; where numad chooses nobody can know its choice
    (virDomainNumatuneGetNodeset, virDomainNumatuneGetMode in conf/numa_conf.c).
    """
    whole = root.find("numatune/memory")
    chosen_by_numad = whole is not None and whole.get("placement") == "auto"
    bound = whole
    for memnode in root.findall("numatune/memnode"):
        if guest_cell is not None and number(memnode, "cellid") == guest_cell:
            bound = memnode
    if bound is None:
        return "strict", frozenset()
    nodeset = None if chosen_by_numad else bound.get("nodeset")
    return bound.get("mode", "strict"), bitmap(nodeset) if nodeset else frozenset()
