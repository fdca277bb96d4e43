"""Whether a dry run left anything behind: a host before and after, compared.

A dry run promises to change nothing. So everything that it could change is listed by the host
itself (`observe.py`), twice, with all that happened in between, and each difference is said in
words. What a depth may leave is in one table, with the reason; everything else is a trace.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tests.lab.hosts import Host, entering, run_on
from tests.lab.machine import HERE, LabError

Snapshot = Mapping[str, Mapping[str, str]]
Side = Literal["source", "destination"]
SIDES: tuple[Side, ...] = ("source", "destination")
LOOK_WITHIN_S = 30


def snapshot(host: Host) -> Snapshot:
    """All that could change, as it is now."""
    script = (HERE / "observe.py").read_text()
    seen: dict[str, dict[str, str]] = json.loads(
        run_on(host, ["python3", "-I", "-"], stdin=script, within_s=LOOK_WITHIN_S)
    )
    return seen


class Watcher:
    """Somebody on a host who notes what happens there, and says what there is when asked."""

    def __init__(self, host: Host) -> None:
        script = (HERE / "observe.py").read_text()
        argv = [*entering(host), "python3", "-I", "-c", script, "watch"]
        self.host = host
        self.process = subprocess.Popen(
            argv,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def look(self) -> Snapshot:
        """All that could change, as it is now, and all that has happened since the start."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise LabError("a watcher without pipes")
        late = threading.Timer(LOOK_WITHIN_S, self.process.kill)
        late.start()
        try:
            stdin.write("look\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late.cancel()
        if not line:
            raise LabError(f"the watcher on {self.host.name} has ended")
        seen: dict[str, dict[str, str]] = json.loads(line)
        return {**seen, "control group": dict(control_groups())}

    def end(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def control_groups() -> Iterator[tuple[str, str]]:
    """Groups that libvirt or systemd makes for guests; hosts of a lab share the machine's tree."""
    for path, below, _ in os.walk("/sys/fs/cgroup"):
        ours = re.search(r"/(machine|libvirt|qemu)[^/]*(/|$)", path)
        if ours:
            yield path.replace(r"\x2d", "-"), "there"  # as systemd writes a dash
        elif path.count("/") > 5:  # deeper than any of those begins
            below.clear()


# ----------------------------------------------------------------------- what differs, and may


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that is not as it was."""

    kind: str
    name: str
    was: str | None = None
    now: str | None = None

    @property
    def way(self) -> str:
        """`new`, `gone`, `touched` (nothing but its times), `grown`, or `changed`."""
        if self.was is None:
            return "new"
        if self.now is None:
            return "gone"
        was, now = TIMES.sub("", self.was), TIMES.sub("", self.now)
        if was == now:
            return "touched"
        if SIZE.sub("", was) == SIZE.sub("", now) and size(was) < size(now):
            return "grown"
        return "changed"

    def __str__(self) -> str:
        if self.was is None:
            return f"{self.kind} {self.name} is new ({self.now})"
        if self.now is None:
            return f"{self.kind} {self.name} is gone"
        return f"{self.kind} {self.name} was {self.was}, is {self.now}"


TIMES = re.compile(r" written \d+ changed \d+")
SIZE = re.compile(r" size (\d+)")


def size(seen: str) -> int:
    found = SIZE.search(seen)
    return int(found[1]) if found else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A difference that is no trace, at these depths, on this side, for this reason.

    In `name`, @guest is the guest that was asked about; `says` is what is there now, or was.
    """

    why: str
    depths: tuple[str, ...]
    kind: str
    name: str
    ways: tuple[str, ...]
    says: str = ".*"
    sides: tuple[Side, ...] = SIDES

    def covers(self, change: Change, *, depth: str, side: Side, guest: str) -> bool:
        name = self.name.replace("@guest", re.escape(guest))
        return (
            depth in self.depths
            and side in self.sides
            and change.kind == self.kind
            and change.way in self.ways
            and re.fullmatch(name, change.name) is not None
            and re.fullmatch(self.says, change.now or change.was or "", re.DOTALL) is not None
        )


EVERY = ("facts", "libvirt", "trial", "rehearsal")
DEEP = ("trial", "rehearsal")
# The stand-in of a trial has a name of its own, a rehearsal the guest's.
IT = "(virt-preflight-dry-run-[0-9a-f]{8}|@guest)"
ALLOWED = (
    Allowed(
        why="libvirtd notes each question that it refuses, whoever asked",
        depths=EVERY,
        kind="file",
        name="/var/log/libvirtd.log",
        ways=("grown",),
    ),
    Allowed(
        why="what an emulator can do libvirt finds out when somebody first asks, and keeps",
        depths=EVERY,
        kind="file",
        name="/var/cache/libvirt/qemu/capabilities(/.*)?",
        ways=("new", "gone", "touched", "grown", "changed"),
    ),
    # That one takes seconds on a busy machine, and goes on when nobody waits for it any more.
    Allowed(
        why="it asks a QEMU without a machine",
        depths=EVERY,
        kind="process",
        name=r"\d+ qemu-.*",
        ways=("new", "gone"),
        says=r".* -machine none,.*",
    ),
    Allowed(
        why="and this is where",
        depths=EVERY,
        kind="file",
        name="/var/lib/libvirt/qemu/qmp-.*",
        ways=("new", "gone", "changed"),
    ),
    Allowed(
        why="and this is where it listens",
        depths=EVERY,
        kind="port",
        name="unix /var/lib/libvirt/qemu/qmp-.*",
        ways=("new", "gone"),
    ),
    Allowed(
        why="others on this machine have guests, too: a group is named after its guest",
        depths=EVERY,
        kind="control group",
        name=rf"(?!.*{IT}).*",
        ways=("new", "gone"),
    ),
    Allowed(
        why="a guest that runs sets its clock when it likes to: its firmware does",
        depths=EVERY,
        kind="event",
        name=r"\d+ rtc_change @guest",
        ways=("new",),
        sides=("source",),
    ),
    Allowed(
        why="our own log: that somebody asked",
        depths=EVERY,
        kind="file",
        name="/var/log/virt-preflight-agent.log",
        ways=("grown",),
    ),
    Allowed(
        why="the destination's QEMU starts and is given up, which is what is tried",
        depths=DEEP,
        kind="event",
        name=rf"\d+ lifecycle {IT}",
        ways=("new",),
        says="(STARTED MIGRATED|STOPPED FAILED)",
        sides=("destination",),
    ),
    Allowed(
        why="newer ones say as well that it was the host who ended it",
        depths=DEEP,
        kind="event",
        name=rf"\d+ lifecycle {IT}",
        ways=("new",),
        says="SHUTDOWN HOST",
        sides=("destination",),
    ),
    Allowed(
        why="the link of each NIC is made and goes with its QEMU",
        depths=DEEP,
        kind="event",
        name=r"\d+ link .*",
        ways=("new",),
        says="(made|gone)",
        sides=("destination",),
    ),
    Allowed(
        why="a guest agent's channel is unplugged with its QEMU",
        depths=DEEP,
        kind="event",
        name=rf"\d+ agent_lifecycle {IT}",
        ways=("new",),
        sides=("destination",),
    ),
    Allowed(
        why="libvirt takes a medium out that is not there and need not be",
        depths=DEEP,
        kind="event",
        name=rf"\d+ disk_change {IT}",
        ways=("new",),
        sides=("destination",),
    ),
    Allowed(
        why="libvirt loses sight of a QEMU that ends while it starts, which is what is tried",
        depths=DEEP,
        kind="event",
        name=rf"\d+ control_error {IT}",
        ways=("new",),
        sides=("destination",),
    ),
    Allowed(
        why="directories that libvirt makes for the first port of a network, and keeps",
        depths=DEEP,
        kind="file",
        name="/run/libvirt/network/[^/]+(/ports)?",
        ways=("new",),
        says="mode 0o4.*",
        sides=("destination",),
    ),
    Allowed(
        why="libvirt keeps a log for each guest that ever started, and writes each start there",
        depths=("rehearsal",),
        kind="file",
        name="/var/log/libvirt/qemu/@guest.log",
        ways=("new", "grown", "touched"),
        sides=("destination",),
    ),
    Allowed(
        why="a rehearsal is a migration job of the guest's: libvirt notes that it began and ended",
        depths=("rehearsal",),
        kind="file",
        name="/run/libvirt/qemu/@guest.xml",
        ways=("touched",),
        sides=("source",),
    ),
    Allowed(
        why="directories that libvirt makes with its first TPM, for all, and keeps when it is gone",
        depths=DEEP,
        kind="file",
        name="/run/libvirt/qemu/swtpm|/var/lib/libvirt/swtpm|/var/log/swtpm(/libvirt(/qemu)?)?",
        ways=("new",),
        says="mode 0o4.*",
        sides=("destination",),
    ),
    Allowed(
        why="a disk whose owner, or what libvirt noted of it, was put back remembers when",
        depths=DEEP,
        kind="file",
        name="/srv/.*/@guest.*",
        ways=("touched",),
    ),
    Allowed(
        why="of a definition that is there already libvirt says how its last QEMU ended",
        depths=("rehearsal",),
        kind="libvirt's",
        name="domain @guest",
        ways=("changed",),
        says=r".* state \[5, \d+\] .*",
        sides=("destination",),
    ),
    Allowed(
        why="a bridge without an address of its own has its ports', and none when the last is gone",
        depths=DEEP,
        kind="link",
        name=".*",
        ways=("changed",),
        says=r".* 00:00:00:00:00:00 bridge -",
        sides=("destination",),
    ),
    Allowed(
        why="as the log of its QEMU",
        depths=("rehearsal",),
        kind="file",
        name="/var/log/(swtpm/libvirt/qemu/@guest-swtpm|libvirt/qemu/@guest-fs[0-9]+-virtiofsd).log",
        ways=("new", "grown", "touched"),
        sides=("destination",),
    ),
)


def traces(before: Snapshot, after: Snapshot, *, depth: str, side: Side, guest: str) -> list[str]:
    """What a dry run of that depth changed and had no leave to; empty when nothing."""
    return [
        str(change)
        for change in differences(before, after)
        if not any(rule.covers(change, depth=depth, side=side, guest=guest) for rule in ALLOWED)
    ]


def differences(before: Snapshot, after: Snapshot) -> list[Change]:
    """What changed between two looks at a host; empty when nothing did."""
    return [change for kind in after for change in of_kind(kind, before[kind], after[kind])]


def of_kind(kind: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted(after.keys() - before.keys()):
        yield Change(kind=kind, name=name, now=after[name])
    for name in sorted(before.keys() - after.keys()):
        yield Change(kind=kind, name=name, was=before[name])
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield Change(kind=kind, name=name, was=before[name], now=after[name])


# ------------------------------------------------------------------------ between two scenarios

# What may differ once a scenario is over and its host is said to be clean again.
WORN = (
    "/var/log/",  # logs grow
    "/run/",  # libvirt rewrites its own
    "/var/cache/libvirt",
    "/var/lib/libvirt/qemu",  # per-guest directories' parents, and libvirt's channel directory
    "/var/lib/libvirt/swtpm",
    "/var/lib/swtpm-localca",  # made with the first TPM
)


def leftovers(before: Snapshot, after: Snapshot) -> list[str]:
    """What a scenario left behind that could disturb the next one: by name, not by time."""
    found: list[str] = []
    for kind in ("link", "libvirt's", "huge pages", "port"):
        # A QEMU that libvirt asks what it can do listens for a moment, whenever that is.
        seen = (one for one in of_kind(kind, before[kind], after[kind]) if "/qmp-" not in str(one))
        found += map(str, seen)
    was, now = (set(look["file"]) for look in (before, after))
    found += [f"file {path} is new" for path in sorted(now - was) if not path.startswith(WORN)]
    found += [f"file {path} is gone" for path in sorted(was - now) if not path.startswith(WORN)]
    running = {name for name in after["process"] if "qemu" in name or "swtpm" in name}
    found += [f"process {name} still runs" for name in sorted(running - set(before["process"]))]
    return found
