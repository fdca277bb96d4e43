"""The families of checks: one topic a module, and only those that are listed here are asked."""

from __future__ import annotations

FAMILIES = (
    "cpu",
    "daemon",
    "machine",
    "memory",
    "numa",
    "pages",
    "pinning",
    "tenants",
    "versions",
)
