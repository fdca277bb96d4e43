"""Runs on a host: prints, as JSON, all that a dry run might have changed there.

Nothing of the lab is imported here: the host's own Python runs this from its standard input.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

TREES = (
    "/etc/libvirt",
    "/var/lib/libvirt",
    "/var/log/libvirt",
    "/run",
    "/srv/shared",
    "/tmp",
    "/dev/hugepages",
)
# Files here are written by a running guest itself: its memory, its firmware's variables, its TPM.
GUESTS_OWN = (
    "/var/lib/libvirt/qemu/ram/",
    "/var/lib/libvirt/qemu/nvram/",
    "/var/lib/libvirt/swtpm/",
)


def files() -> Iterator[tuple[str, str]]:
    for tree in TREES:
        for path in walk(tree):
            try:
                seen = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISSOCK(seen.st_mode):
                yield path, "socket"  # its times change whenever somebody connects
                continue
            kind = oct(seen.st_mode)
            # A directory's times tell of its entries, which are listed themselves.
            timeless = stat.S_ISDIR(seen.st_mode) or path.startswith(GUESTS_OWN)
            when = "" if timeless else f" {seen.st_size} {seen.st_mtime_ns}"
            yield path, f"{kind} {seen.st_uid}:{seen.st_gid}{when}"


def walk(path: str) -> Iterator[str]:
    yield path
    try:
        entries = list(os.scandir(path))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        else:
            yield entry.path


def links() -> Iterator[tuple[str, str]]:
    for name in os.listdir("/sys/class/net"):
        at = f"/sys/class/net/{name}"
        if not os.path.isdir(at):
            continue
        master = os.path.basename(os.path.realpath(f"{at}/master"))
        joined = master if os.path.exists(f"{at}/master") else "-"
        words = [word(f"{at}/{part}") for part in ("ifindex", "mtu", "flags", "address")]
        yield name, f"index, mtu, flags, mac {' '.join(words)} bridge {joined}"


def word(path: str) -> str:
    try:
        with open(path) as opened:
            return opened.read().strip()
    except OSError:
        return "?"


def processes() -> Iterator[tuple[str, str]]:
    ours = {os.getpid(), os.getppid()}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in ours:
            continue
        try:
            with open(f"/proc/{name}/stat") as opened:
                head, _, tail = opened.read().rpartition(")")
        except OSError:
            continue
        fields = tail.split()
        if fields[0] != "Z":
            yield f"{name} {head.partition('(')[2]}", f"since {fields[19]}"


def listening() -> Iterator[tuple[str, str]]:
    for family in ("tcp", "tcp6"):
        with open(f"/proc/net/{family}") as opened:
            for line in opened.readlines()[1:]:
                local, state = line.split()[1], line.split()[3]
                if state == "0A":
                    yield f"{family} {int(local.rpartition(':')[2], 16)}", "listens"


def pages() -> Iterator[tuple[str, str]]:
    at = "/sys/kernel/mm/hugepages"
    for size in os.listdir(at) if os.path.isdir(at) else ():
        words = [word(f"{at}/{size}/{part}") for part in ("nr_hugepages", "free_hugepages")]
        yield size, f"{words[0]} of which free {words[1]}"


def objects() -> Iterator[tuple[str, str]]:
    import libvirt

    try:
        host: Any = libvirt.open("qemu:///system")
    except libvirt.libvirtError as error:
        # Scenarios stop it, too.
        yield "libvirtd", f"not answering: {error}"
        return
    for domain in host.listAllDomains():
        yield f"domain {domain.name()}", f"{domain.UUIDString()} state {domain.state()[0]}"
    for network in host.listAllNetworks():
        state = f"active {network.isActive()} persistent {network.isPersistent()}"
        yield f"network {network.name()}", f"{state} {network.XMLDesc()}"
    for pool in host.listAllStoragePools():
        yield f"pool {pool.name()}", f"{pool.UUIDString()} active {pool.isActive()}"
        if pool.isActive():
            for volume in pool.listAllVolumes():
                yield f"volume {volume.path()}", volume.name()
    for nwfilter in host.listAllNWFilters():
        yield f"nwfilter {nwfilter.name()}", nwfilter.UUIDString()
    for secret in host.listAllSecrets():
        yield f"secret {secret.UUIDString()}", str(secret.usageID())
    host.close()


PARTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "file": files,
    "link": links,
    "process": processes,
    "port": listening,
    "huge pages": pages,
    "libvirt's": objects,
}

if __name__ == "__main__":
    json.dump({name: dict(part()) for name, part in PARTS.items()}, sys.stdout)
