"""The state that a guest is in: what of it makes its own host keep it."""

from __future__ import annotations

from virt_preflight.agent.families.state.checks import (
    block_job,
    confidential,
    custom_monitor,
    dimm_without_address,
    hyperv_passthrough,
    invariant_tsc,
    io_error,
    job,
    not_running,
    shared_memory,
    snapshots,
    unmigratable_device,
)
from virt_preflight.agent.families.state.guest import (
    GuestClock,
    GuestCondition,
    GuestConfidential,
    GuestHypervPassthrough,
    GuestLooseMemory,
    GuestUnmigratable,
    guest_clock,
    guest_confidential,
    guest_hyperv_passthrough,
    guest_loose_memory,
    guest_unmigratable,
)
from virt_preflight.agent.families.state.host import HostClock, guest_condition, host_clock

__all__ = (
    "GuestClock",
    "GuestCondition",
    "GuestConfidential",
    "GuestHypervPassthrough",
    "GuestLooseMemory",
    "GuestUnmigratable",
    "HostClock",
    "block_job",
    "confidential",
    "custom_monitor",
    "dimm_without_address",
    "guest_clock",
    "guest_condition",
    "guest_confidential",
    "guest_hyperv_passthrough",
    "guest_loose_memory",
    "guest_unmigratable",
    "host_clock",
    "hyperv_passthrough",
    "invariant_tsc",
    "io_error",
    "job",
    "not_running",
    "shared_memory",
    "snapshots",
    "unmigratable_device",
)
