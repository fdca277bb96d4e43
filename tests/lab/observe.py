"""Runs on a host: prints, as JSON, all that a dry run might have changed there.

Once, or with `watch` a line for each line that it is sent, and then with all that happened since
it began: what comes and goes between two looks is an event, and leaves no other mark. Nothing of
the lab is imported here: the host's own Python runs this.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

TREES = (
    "/dev",
    "/etc",
    "/root",
    "/run",
    "/srv/shared",
    "/tmp",
    "/var/cache/libvirt",
    "/var/lib/libvirt",
    "/var/lib/swtpm-localca",
    "/var/log",
    "/var/tmp",
)
# Files here are written by a running guest itself: its memory, its firmware's variables, its TPM,
# its terminals.
GUESTS_OWN = (
    "/var/lib/libvirt/qemu/ram/",
    "/var/lib/libvirt/qemu/nvram/",
    "/var/lib/libvirt/vars/",
    "/var/lib/libvirt/swtpm/",
    "/dev/pts/",
)


def files() -> Iterator[tuple[str, str]]:
    for tree in TREES:
        for path in walk(tree):
            try:
                seen = os.lstat(path)
                labels = attributes(path)
            except OSError:
                continue
            owned = f"mode {oct(seen.st_mode)} owner {seen.st_uid}:{seen.st_gid}{labels}"
            # A socket's times change whenever somebody connects; a directory's tell of its
            # entries, which are listed themselves.
            timeless = stat.S_ISSOCK(seen.st_mode) or stat.S_ISDIR(seen.st_mode)
            if timeless or path.startswith(GUESTS_OWN):
                yield path, owned
            else:
                # The time of change as well: what was given away and taken back shows there alone.
                times = f"written {seen.st_mtime_ns} changed {seen.st_ctime_ns}"
                yield path, f"{owned} size {seen.st_size} {times}"


def attributes(path: str) -> str:
    """Extended attributes, those of libvirt's own book-keeping (trusted.libvirt.*) included."""
    named = sorted(os.listxattr(path, follow_symlinks=False))
    words = (f"{name}={os.getxattr(path, name, follow_symlinks=False)!r}" for name in named)
    return "".join(f" {word}" for word in words)


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
    """Every link, bridges among them, with the MTU that a bridge takes over from its ports."""
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
    """Every process, the control groups that it is in, and how it was started."""
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
            groups = word(f"/proc/{name}/cgroup").split("\n")
            runs = word(f"/proc/{name}/cmdline").replace("\0", " ")[:200]
            yield (
                f"{name} {head.partition('(')[2]}",
                f"since {fields[19]} in {' '.join(groups)} runs {runs}",
            )


def listening() -> Iterator[tuple[str, str]]:
    for family, listens in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in lines_of(f"/proc/net/{family}"):
            local, state = line.split()[1], line.split()[3]
            if state == listens:
                yield f"{family} {int(local.rpartition(':')[2], 16)}", "listens"
    for line in lines_of("/proc/net/unix"):
        words = line.split()
        # __SO_ACCEPTCON of the kernel: the others are the two ends of a conversation.
        if int(words[3], 16) & 0x10000 and len(words) > 7:
            yield f"unix {words[7]}", "listens"


def lines_of(path: str) -> list[str]:
    try:
        with open(path) as opened:
            return opened.readlines()[1:]
    except OSError:
        return []


def pages() -> Iterator[tuple[str, str]]:
    at = "/sys/kernel/mm/hugepages"
    for size in os.listdir(at) if os.path.isdir(at) else ():
        words = [word(f"{at}/{size}/{part}") for part in ("nr_hugepages", "free_hugepages")]
        yield size, f"{words[0]} of which free {words[1]}"


def objects(connected: Any = None) -> Iterator[tuple[str, str]]:
    import libvirt

    try:
        host: Any = connected or libvirt.open("qemu:///system")
        yield from objects_of(host)
    except libvirt.libvirtError as error:
        # Scenarios stop it, too.
        yield "libvirtd", f"not answering: {error}"
        return
    if connected is None:
        host.close()


def objects_of(host: Any) -> Iterator[tuple[str, str]]:
    for domain in host.listAllDomains():
        yield f"domain {domain.name()}", of_domain(domain)
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
    for device in host.listAllDevices():
        yield f"node device {device.name()}", "there"


def of_domain(domain: Any) -> str:
    """State and its reason, the job at work and the last one that ended, and what it is."""
    import libvirt

    kept = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
    try:
        jobs = f"{domain.jobInfo()[0]} ended {domain.jobStats(kept).get('operation', '-')}"
    except libvirt.libvirtError:
        jobs = "-"  # it does not run
    whole = hashlib.sha256(domain.XMLDesc().encode()).hexdigest()[:12]
    return f"{domain.UUIDString()} state {domain.state()} job {jobs} xml {whole}"


PARTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "file": files,
    "link": links,
    "process": processes,
    "port": listening,
    "huge pages": pages,
    "libvirt's": objects,
}


# ------------------------------------------------------------------------- what happens meanwhile


class Events:
    """All that libvirt and the kernel's links tell of from now on."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.host: Any = None
        follow_links(self.tell)
        self.follow_libvirt()

    def tell(self, what: str, how: str) -> None:
        self.said.append((what, how))

    def follow_libvirt(self) -> None:
        import libvirt

        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(lambda *_: None, None)
        try:
            self.host = libvirt.open("qemu:///system")
        except libvirt.libvirtError:
            return  # a scenario without a libvirtd; `objects` says so
        self.host.registerCloseCallback(lambda *_: self.tell("libvirtd", "hung up"), None)
        for name in dir(libvirt):
            if name.startswith("VIR_DOMAIN_EVENT_ID_"):
                word = name.removeprefix("VIR_DOMAIN_EVENT_ID_").lower()
                self.follow(self.host.domainEventRegisterAny, getattr(libvirt, name), word)
        for kind, register in (
            ("network", self.host.networkEventRegisterAny),
            ("pool", self.host.storagePoolEventRegisterAny),
            ("node device", self.host.nodeDeviceEventRegisterAny),
            ("secret", self.host.secretEventRegisterAny),
        ):
            for number in (0, 1):
                self.follow(register, number, f"{kind} {number}")
        threading.Thread(target=run_events, daemon=True).start()

    def follow(self, register: Any, number: int, word: str) -> None:
        import libvirt

        def told(_: Any, subject: Any, *rest: Any) -> None:
            name = subject.name() if hasattr(subject, "name") else subject.UUIDString()
            spoken = life(*rest[:2]) if word == "lifecycle" else " ".join(map(str, rest[:-1]))
            self.tell(f"{word} {name}", spoken)

        with contextlib.suppress(libvirt.libvirtError):  # this libvirt has no such event
            register(None, number, told, None)

    def settled(self) -> list[tuple[str, str]]:
        """What was told so far, the last of it included: libvirtd sends events in order."""
        import libvirt

        time.sleep(SETTLING_S)
        with contextlib.suppress(libvirt.libvirtError):  # `objects` says so
            if self.host is not None:
                self.host.getLibVersion()
        return list(self.said)


# libvirtd hands its events to a timer of its event loop, which is at them within a few ms.
SETTLING_S = 0.05


def run_events() -> None:
    import libvirt

    while True:
        libvirt.virEventRunDefaultImpl()


def life(event: int, detail: int) -> str:
    """A lifecycle event as libvirt's own constants name it: `STARTED MIGRATED`."""
    import libvirt

    start = "VIR_DOMAIN_EVENT_"
    ids = ("ID_", "CALLBACK", "GRAPHICS", "IO_", "WATCHDOG", "TRAY", "DISK", "AGENT", "MEMORY")
    names = [name for name in dir(libvirt) if name.startswith(start)]
    plain = [name.removeprefix(start) for name in names if not name[len(start) :].startswith(ids)]
    for one in plain:
        if "_" not in one and getattr(libvirt, start + one) == event:
            for other in plain:
                if other.startswith(f"{one}_") and getattr(libvirt, start + other) == detail:
                    return f"{one} {other.removeprefix(f'{one}_')}"
    return f"{event} {detail}"


def follow_links(tell: Callable[[str, str], None]) -> None:
    """Links that are made and that go: a tap may live for some ms only."""
    heard = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    heard.bind((0, 1))  # RTMGRP_LINK

    def listen() -> None:
        while True:
            for what, name in links_in(heard.recv(65536)):
                tell(f"link {name}", what)

    threading.Thread(target=listen, daemon=True).start()


def links_in(raw: bytes) -> Iterator[tuple[str, str]]:
    """(made or gone, name) of each message of rtnetlink(7); other changes are passed over."""
    while len(raw) >= 32:
        length, kind = struct.unpack_from("=IH", raw)
        family, changed = struct.unpack_from("=B", raw, 16)[0], struct.unpack_from("=I", raw, 28)[0]
        # A link that is new has all its flags new; one that is gone is told of by bridges as well.
        what = {16: "made" if changed == 0xFFFFFFFF else "", 17: "gone"}.get(kind, "")
        at = 32
        while what and family == socket.AF_UNSPEC and at + 4 <= length:
            size, attribute = struct.unpack_from("=HH", raw, at)
            if attribute == 3:  # IFLA_IFNAME
                yield what, raw[at + 4 : at + size].rstrip(b"\0").decode(errors="replace")
                break
            at += max(4, (size + 3) & ~3)
        raw = raw[max(16, (length + 3) & ~3) :]


def look() -> dict[str, dict[str, str]]:
    return {name: dict(part()) for name, part in PARTS.items()}


def watch() -> None:
    """Answers each line with a look, and what has happened since the start."""
    events = Events()
    for _ in sys.stdin:
        said = events.settled()
        seen = {name: dict(part()) for name, part in PARTS.items() if name != "libvirt's"}
        seen["libvirt's"] = dict(objects(events.host))
        seen["event"] = {f"{at} {what}": how for at, (what, how) in enumerate(said, start=1)}
        print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["watch"]:
        watch()
    else:
        json.dump(look(), sys.stdout)
