"""What a guest would take of a host, and what the host has: for ranking and for planning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.machine import GuestVcpus
from virt_preflight.agent.families.memory import GuestMemory, HostMemory, claimed_kib
from virt_preflight.agent.families.pages import GuestPages, HostPages
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Capacity, Claims

# Finds a fact by its type: the fact itself, Unknown, or None.
Find = Callable[[type], Any]


def claims_of(find: Find) -> Claims:
    """What cannot be told is claimed as nothing."""
    memory, vcpus = find(GuestMemory), find(GuestVcpus)
    return Claims(
        memory_kib=claimed_kib(memory) if isinstance(memory, GuestMemory) else 0,
        vcpus=vcpus.maximum if isinstance(vcpus, GuestVcpus) else 0,
        pages_by_kib=_pages(find),
    )


def _pages(find: Find) -> tuple[tuple[int, int], ...]:
    guest = find(GuestPages)
    if guest is None or isinstance(guest, Unknown):
        return ()
    host = find(HostPages)
    default_kib = host.default_kib if isinstance(host, HostPages) else None
    count_by_kib: dict[int, int] = {}
    for part in guest.needs:
        if page_kib := part.page_kib or default_kib:
            pages = -(-part.memory_kib // page_kib)
            count_by_kib[page_kib] = count_by_kib.get(page_kib, 0) + pages
    return tuple(sorted(count_by_kib.items()))


def capacity_of(find: Find) -> Capacity | None:
    """What the operator keeps for the host is not free for guests. None: it cannot be told."""
    memory, policy = find(HostMemory), find(Policy)
    if not isinstance(memory, HostMemory) or not isinstance(policy, Policy):
        return None
    return Capacity(
        memory_total_kib=memory.ordinary_kib,
        memory_free_kib=max(0, memory.available_kib - policy.memory_reserved_kib),
    )
