"""Disks: what a guest's disks are, what the hosts have of them, and what keeps them from moving."""

from __future__ import annotations

from virt_preflight.agent.families.disks.checks import (
    backing_format,
    backing_missing,
    dropped,
    missing,
    taken_for_raw,
    unreadable,
    unwritable,
    wrong_format,
    wrong_size,
)
from virt_preflight.agent.families.disks.copying import (
    copy_into_ghost,
    copy_needs_target,
    copy_not_openable,
    copy_nowhere,
    copy_of_other_size,
    copy_of_readonly,
    copy_onto_itself,
    copy_too_large,
    copy_without_base,
    copy_without_pool,
)
from virt_preflight.agent.families.disks.departure import (
    immovable_format,
    transient,
    unsafe,
)
from virt_preflight.agent.families.disks.guest import (
    Disk,
    GuestDisks,
    GuestDiskSecrets,
    Layer,
    guest_disk_secrets,
    guest_disks,
)
from virt_preflight.agent.families.disks.held import (
    SeenLocks,
    copy_into_held,
    locked_bytes,
    seen_locks,
)
from virt_preflight.agent.families.disks.identity import (
    SeenIdentities,
    another_file,
    seen_identities,
)
from virt_preflight.agent.families.disks.images import (
    SeenDisks,
    backing_by_path,
    disk_openings,
    guest_bytes,
    seen_disks,
)
from virt_preflight.agent.families.disks.pools import no_pool, no_volume, seen_copies, seen_pools
from virt_preflight.agent.families.disks.remote import (
    SeenSecrets,
    block_drivers,
    no_driver,
    no_secret,
    secret_untried,
    seen_secrets,
    seen_servers,
    unreachable,
)
from virt_preflight.agent.families.disks.sharing import seen_sharing, shared_by_order

__all__ = (
    "Disk",
    "GuestDiskSecrets",
    "GuestDisks",
    "Layer",
    "SeenDisks",
    "SeenIdentities",
    "SeenLocks",
    "SeenSecrets",
    "another_file",
    "backing_by_path",
    "backing_format",
    "backing_missing",
    "block_drivers",
    "copy_into_ghost",
    "copy_into_held",
    "copy_needs_target",
    "copy_not_openable",
    "copy_nowhere",
    "copy_of_other_size",
    "copy_of_readonly",
    "copy_onto_itself",
    "copy_too_large",
    "copy_without_base",
    "copy_without_pool",
    "disk_openings",
    "dropped",
    "guest_bytes",
    "guest_disk_secrets",
    "guest_disks",
    "immovable_format",
    "locked_bytes",
    "missing",
    "no_driver",
    "no_pool",
    "no_secret",
    "no_volume",
    "secret_untried",
    "seen_copies",
    "seen_disks",
    "seen_identities",
    "seen_locks",
    "seen_pools",
    "seen_secrets",
    "seen_servers",
    "seen_sharing",
    "shared_by_order",
    "taken_for_raw",
    "transient",
    "unreachable",
    "unreadable",
    "unsafe",
    "unwritable",
    "wrong_format",
    "wrong_size",
)
