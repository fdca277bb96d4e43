"""The families of checks: one topic a module, and only those that are listed here are asked."""

from __future__ import annotations

FAMILIES = (
    "cpu",
    "daemon",
    "disks",
    "firmware",
    "machine",
    "memory",
    "nics",
    "numa",
    "pages",
    "pinning",
    "tenants",
    "versions",
)
