"""Whether a dry run left anything behind: a host before and after, compared.

A dry run promises to change nothing. So everything that it could change is listed by the host
itself (`observe.py`), twice, and each difference is said in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from tests.lab.hosts import Host, run_on
from tests.lab.machine import HERE

Snapshot = Mapping[str, Mapping[str, str]]


def snapshot(host: Host) -> Snapshot:
    """All that could change, as it is now."""
    script = (HERE / "observe.py").read_text()
    seen: dict[str, dict[str, str]] = json.loads(
        run_on(host, ["python3", "-I", "-"], stdin=script, within_s=30)
    )
    return seen


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """What changed between two looks at a host; empty when nothing did."""
    return [line for kind in after for line in of_kind(kind, before[kind], after[kind])]


def of_kind(kind: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(after.keys() - before.keys()):
        yield f"{kind} {name} is new ({after[name]})"
    for name in sorted(before.keys() - after.keys()):
        yield f"{kind} {name} is gone"
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield f"{kind} {name} was {before[name]}, is {after[name]}"


# What may differ once a scenario is over and its host is said to be clean again.
WORN = (
    "/var/log/libvirt/",  # logs grow
    "/run/",  # libvirt rewrites its own
    "/var/lib/libvirt/qemu",  # per-guest directories' parents, and libvirt's channel directory
    "/var/lib/libvirt/swtpm",
)


def leftovers(before: Snapshot, after: Snapshot) -> list[str]:
    """What a scenario left behind that could disturb the next one: by name, not by time."""
    found: list[str] = []
    for kind in ("link", "libvirt's", "huge pages", "port"):
        found += of_kind(kind, before[kind], after[kind])
    was, now = (set(look["file"]) for look in (before, after))
    found += [f"file {path} is new" for path in sorted(now - was) if not path.startswith(WORN)]
    found += [f"file {path} is gone" for path in sorted(was - now) if not path.startswith(WORN)]
    running = {name for name in after["process"] if "qemu" in name or "swtpm" in name}
    found += [f"process {name} still runs" for name in sorted(running - set(before["process"]))]
    return found
