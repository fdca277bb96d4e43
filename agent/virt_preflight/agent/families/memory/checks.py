"""The guest's memory against what the host has, and has free."""

from __future__ import annotations

from virt_preflight.agent.check import Problem, Problems, check
from virt_preflight.agent.families.memory.guest import (
    Backing,
    GuestMemory,
    claimed_kib,
    needed_now_kib,
    overhead_kib,
    taken_kib,
    touched_kib,
)
from virt_preflight.agent.families.memory.host import DaemonLimits, HostMemory, Overcommit
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Phase, Severity

# Private memory that may be written is counted when it is mapped (accountable_mapping, mm/mmap.c).
RESERVED = frozenset({Backing.ANONYMOUS, Backing.PRIVATE_MEMFD, Backing.PRIVATE_FILE})

# MemAvailable leaves out what the kernel keeps back, its low watermarks (si_mem_available,
# mm/show_mem.c): well below this part of all memory.
KEPT_BACK_PART = 64


def mib(size_kib: int) -> str:
    """A size as an operator reads it."""
    return f"{size_kib / 1024:,.0f} MiB"


@check(
    "memory.cannot-be-mapped",
    Severity.BLOCKER,
    title="more memory than can be mapped",
    remedy="Choose a host with more memory, add swap, or let the kernel overcommit memory.",
)
def cannot_be_mapped(guest: GuestMemory, host: HostMemory) -> Problems:
    """QEMU maps all of the guest's memory when it starts, though it is given only when touched.

    With vm.overcommit_memory=0 the kernel refuses a single mapping larger than all memory and swap
    together (__vm_enough_memory; tried: the boundary is MemTotal + SwapTotal), with 2 all that goes
    past CommitLimit. Shared and huge-page memory is counted elsewhere. Error: "cannot set up guest
    memory 'pc.ram': Cannot allocate memory", "unable to map backing store for guest RAM: Cannot
    allocate memory".
    """
    reserved = [block for block in guest.blocks if block.backing in RESERVED]
    match host.overcommit:
        case Overcommit.GUESS:
            most_kib = host.total_kib + host.swap_total_kib
            for block in reserved:
                if block.mapped_kib > most_kib:
                    yield Problem(
                        subject=block.subject,
                        wanted=f"{mib(block.mapped_kib)} in one piece",
                        found=f"{mib(most_kib)} of memory and swap in all",
                        commands=("sysctl vm.overcommit_memory=1",),
                    )
        case Overcommit.NEVER:
            wanted_kib = sum(block.mapped_kib for block in reserved)
            left_kib = max(0, host.commit_limit_kib - host.committed_kib)
            if wanted_kib > left_kib:
                yield Problem(
                    subject="memory",
                    wanted=f"{mib(wanted_kib)} to commit",
                    found=f"{mib(left_kib)} left of the commit limit (vm.overcommit_memory is 2)",
                    remedy="Raise vm.overcommit_ratio, add swap, or move another guest away first.",
                )
        case Overcommit.ALWAYS:
            pass


@check(
    "memory.address-space-limit",
    Severity.BLOCKER,
    title="libvirtd may not start a QEMU that large",
    remedy="Raise libvirtd's limit of address space (LimitAS of its service) and restart it.",
)
def address_space_limit(guest: GuestMemory, limits: DaemonLimits) -> Problems:
    """QEMU inherits libvirtd's RLIMIT_AS, and all of the guest's memory is in its address space.

    Error: "cannot set up guest memory 'pc.ram': Cannot allocate memory".
    """
    mapped_kib = sum(block.mapped_kib for block in guest.blocks)
    most_kib = limits.address_space_kib
    if most_kib is not None and mapped_kib > most_kib:
        yield Problem(
            subject="memory",
            wanted=f"{mib(mapped_kib)} of address space, and QEMU's own",
            found=f"at most {mib(most_kib)}",
        )


@check(
    "memory.more-than-host",
    Severity.RISK,
    title="more memory than the host has",
    remedy="Choose a host with more memory, or allow more with the policy's memory_overcommit.",
    phase=Phase.PERFORM,
)
def more_than_host(guest: GuestMemory, host: HostMemory, policy: Policy) -> Problems:
    """All that the guest can come to use, with QEMU's own, against all that the host can give.

    libvirt does not look, and the move succeeds while the guest touches less (tried: 40 GiB, idle,
    on 24): later the host swaps, or its kernel kills a guest. Memory that the move itself takes
    (locked, allocation immediate, memfd) and that is more than all memory and swap blocks.
    Policy: memory_reserved_kib stays with the host, the rest counts memory_overcommit times.
    """
    wanted_kib = claimed_kib(guest)
    for_guests_kib = _for_guests_kib(host.ordinary_kib, policy)
    if guest.ordinary_kib == 0 or wanted_kib <= for_guests_kib:
        return
    certain = taken_kib(guest) > host.ordinary_kib + host.swap_total_kib
    yield Problem(
        subject="memory",
        wanted=_wanted(wanted_kib, guest),
        found=f"{mib(for_guests_kib)} for guests, of {mib(host.ordinary_kib)}",
        severity=Severity.BLOCKER if certain else None,
    )


@check(
    "memory.too-little-free",
    Severity.RISK,
    title="too little free memory",
    remedy="Move another guest away first, or choose a host with more free memory.",
    phase=Phase.PERFORM,
)
def too_little_free(guest: GuestMemory, host: HostMemory, policy: Policy) -> Problems:
    """What the guest uses now (less what its balloon holds), with QEMU's own, against what is free.

    libvirt does not look: memory is given as the guest's pages arrive. What is not there comes from
    swap, or from a guest that the kernel kills, mostly this one: "Killed", and the migration fails
    in Perform. An idle guest touches less than it has, so this is a risk and no certainty; but
    memory that the move itself takes (locked, allocation immediate, memfd) past all that is
    available and all free swap blocks. Policy: memory_reserved_kib is kept out, memory_overcommit
    divides what the guest is expected to touch.
    """
    touched = round(touched_kib(guest) / max(1.0, policy.memory_overcommit))
    wanted_kib = taken_kib(guest) + touched + overhead_kib(guest)
    free_kib = max(0, host.available_kib - policy.memory_reserved_kib)
    if guest.ordinary_kib == 0 or wanted_kib <= free_kib:
        return
    last_kib = host.available_kib + host.swap_free_kib + host.total_kib // KEPT_BACK_PART
    certain = taken_kib(guest) > last_kib
    yield Problem(
        subject="memory",
        wanted=_wanted(wanted_kib, guest),
        found=f"{mib(free_kib)} free, after {mib(policy.memory_reserved_kib)} kept for the host",
        severity=Severity.BLOCKER if certain else None,
    )


@check(
    "memory.balloon-can-grow",
    Severity.NOTE,
    title="the guest fits only as ballooned",
    remedy="Do not give the guest back all of its memory on this host.",
    phase=Phase.AFTER,
)
def balloon_can_grow(guest: GuestMemory, host: HostMemory, policy: Policy) -> Problems:
    """The guest's maximum against what is free, where what it uses now does fit."""
    free_kib = host.available_kib - policy.memory_reserved_kib
    if needed_now_kib(guest) <= free_kib < claimed_kib(guest):
        yield Problem(
            subject="memory",
            wanted=f"{mib(claimed_kib(guest))} for all of it",
            found=f"{mib(free_kib)} free, and {mib(needed_now_kib(guest))} used now",
        )


def _for_guests_kib(ordinary_kib: int, policy: Policy) -> int:
    return round(max(0, ordinary_kib - policy.memory_reserved_kib) * policy.memory_overcommit)


def _wanted(wanted_kib: int, guest: GuestMemory) -> str:
    return f"{mib(wanted_kib)}, of which {mib(overhead_kib(guest))} for QEMU itself"
