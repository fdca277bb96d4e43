"""The time as a host has it."""

from __future__ import annotations

from virt_preflight.agent.sources import Source, Unreadable


def now_s(source: Source) -> float:
    """The host's own time, by its kernel: it is what its QEMU goes by."""
    booted = next(
        (line for line in source.text("/proc/stat").splitlines() if line.startswith("btime ")), ""
    )
    try:
        return float(booted.split()[1]) + float(source.text("/proc/uptime").split()[0])
    except (IndexError, ValueError):
        raise Unreadable("/proc/stat and /proc/uptime do not tell the time") from None
