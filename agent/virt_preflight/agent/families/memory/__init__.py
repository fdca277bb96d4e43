"""Memory: what a guest and its QEMU take, and what the host has of it."""

from __future__ import annotations

from virt_preflight.agent.families.memory.checks import (
    address_space_limit,
    balloon_can_grow,
    cannot_be_mapped,
    more_than_host,
    too_little_free,
)
from virt_preflight.agent.families.memory.files import (
    GuestMemoryFiles,
    MemoryFile,
    SeenMemoryFiles,
    file_absent,
    file_shut,
    file_too_small,
    guest_memory_files,
    seen_memory_files,
)
from virt_preflight.agent.families.memory.guest import (
    Backing,
    GuestMemory,
    RamBlock,
    Taking,
    claimed_kib,
    guest_memory,
    needed_now_kib,
    overhead_kib,
    ram_blocks,
    taken_kib,
    touched_kib,
)
from virt_preflight.agent.families.memory.host import (
    DaemonLimits,
    HostMemory,
    Overcommit,
    daemon_limits,
    host_memory,
)

__all__ = [
    "Backing",
    "DaemonLimits",
    "GuestMemory",
    "GuestMemoryFiles",
    "HostMemory",
    "MemoryFile",
    "Overcommit",
    "RamBlock",
    "SeenMemoryFiles",
    "Taking",
    "address_space_limit",
    "balloon_can_grow",
    "cannot_be_mapped",
    "claimed_kib",
    "daemon_limits",
    "file_absent",
    "file_shut",
    "file_too_small",
    "guest_memory",
    "guest_memory_files",
    "host_memory",
    "more_than_host",
    "needed_now_kib",
    "overhead_kib",
    "ram_blocks",
    "seen_memory_files",
    "taken_kib",
    "too_little_free",
    "touched_kib",
]
