"""The families of checks: one topic a module, and only those that are listed here are asked."""

from __future__ import annotations

FAMILIES = (
    "certificates",
    "chardevs",
    "cpu",
    "daemon",
    "definition",
    "devices",
    "disks",
    "firmware",
    "graphics",
    "hostdevs",
    "libvirt",
    "machine",
    "memory",
    "nics",
    "numa",
    "options",
    "pages",
    "pinning",
    "resctrl",
    "shares",
    "state",
    "tenants",
    "tpm",
    "transport",
    "versions",
)
