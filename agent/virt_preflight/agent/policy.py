"""What this host's operator allows beyond what libvirt does: a fact like any other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """From agent.toml's [policy]."""

    # Kept for the host itself: never counted as free for guests.
    memory_reserved_kib: int = 512 * 1024
    # Guests' memory may be this many times the host's; above 1.0 the operator counts on ballooning.
    memory_overcommit: float = 1.0
