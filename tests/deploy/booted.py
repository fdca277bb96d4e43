"""A Debian release of the lab, booted by its own systemd, with our packages to install.

The lab's hosts start their daemons by hand; here everything is as on a real host: units with
their sandboxes, dbus, polkit, sysusers. What is not: a kernel of its own, so no LSM but the
machine's, and cgroup controllers only where the machine has given them to cgroup v2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import roots
from tests.lab.machine import LabError, Ran, attempt, instance, run

HERE = Path(__file__).resolve().parent
RUNS = Path("/var/tmp/virt-preflight-deploy")
UP_WITHIN_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A booted release; `pid` is its systemd, as the machine below numbers it."""

    release: str
    pid: int

    @property
    def files(self) -> Path:
        """Its root, seen from the machine below."""
        return Path(f"/proc/{self.pid}/root")

    def attempt(self, *argv: str, within_s: float = 60, stdin: str | None = None) -> Ran:
        """Run a command as its root."""
        clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8")
        words = ("nsenter", "-t", str(self.pid), "-a", *clean, *argv)
        return attempt(words, within_s=within_s, stdin=stdin)

    def run(self, *argv: str, within_s: float = 60, stdin: str | None = None) -> str:
        """One that has to work."""
        ran = self.attempt(*argv, within_s=within_s, stdin=stdin)
        if ran.code != 0:
            tail = "\n".join((ran.out + ran.err).splitlines()[-20:])
            raise LabError(f"{self.release}: {' '.join(argv)[:200]}: {ran.code}\n{tail}")
        return ran.out

    def script(self, script: str, within_s: float = 60) -> str:
        """A shell script that has to work."""
        return self.run("sh", "-euc", script, within_s=within_s)

    def scraped(self, port: int) -> str:
        """The metrics that somebody exposes there on loopback."""
        read = f"urllib.request.urlopen('http://127.0.0.1:{port}/metrics', timeout=30).read()"
        ask = f"import urllib.request; print({read}.decode())"
        return self.run("python3", "-c", ask)

    def wait_for(self, port: int) -> None:
        """Until somebody listens there."""
        until = time.monotonic() + 60
        while not self.attempt("ss", "-Hltn", f"sport = :{port}").out.strip():
            if time.monotonic() > until:
                journal = self.attempt("journalctl", "--no-pager", "-n", "40").out
                raise LabError(f"nobody listens on port {port}\n{journal}")
            time.sleep(0.2)


def why_not() -> str | None:
    """Why nothing can be booted here; None when it can."""
    return None if cgroup2() else "no cgroup v2 is mounted, which systemd needs"


def cgroup2() -> Path | None:
    """Where the machine has cgroup v2, be it beside v1."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(point)
    return None


@contextlib.contextmanager
def booted(release: str, packages: Sequence[Path], name: str | None = None) -> Iterator[Machine]:
    """The release, up and running, those files and folders in its /packages; gone afterwards."""
    name = name or f"{release}-host"
    place = RUNS / f"{instance()}-{name}"
    root = roots.root(release, print)
    hierarchy = cgroup2()
    assert hierarchy is not None, "asked before"
    group = hierarchy / f"virt-preflight-deploy-{instance()}-{name}"
    take_down(place, group)
    (place / "packages").mkdir(parents=True)
    for package in packages:
        copied = place / "packages" / package.name
        if package.is_dir():
            shutil.copytree(package, copied)
        else:
            shutil.copy(package, copied)
    group.mkdir()
    try:
        yield start(place, root, group, release, name)
    finally:
        take_down(place, group)


def start(place: Path, root: Path, group: Path, release: str, name: str) -> Machine:
    kinds = ("--net", "--mount", "--uts", "--ipc", "--pid", "--cgroup")
    boot = ("sh", str(HERE / "boot.sh"), str(place), str(root), name)
    joined = 'echo 0 >"$0/cgroup.procs"; log=$1; shift; exec "$@" </dev/null >"$log" 2>&1'
    unshare = ("unshare", *kinds, "--fork", "--propagation", "private", *boot)
    log = place / "boot.log"
    run(["setsid", "--fork", "sh", "-c", joined, str(group), str(log), *unshare], within_s=20)
    until = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < until:
        if (place / "pid").exists():
            machine = Machine(release=release, pid=int((place / "pid").read_text()))
            state = machine.attempt("systemctl", "is-system-running", within_s=10).out.strip()
            if state in ("running", "degraded"):
                return machine
        time.sleep(0.2)
    raise LabError(f"{name} did not boot within {UP_WITHIN_S} s\n{roots.read(log)}")


def take_down(place: Path, group: Path) -> None:
    """End it by its first process, which takes all others along."""
    if (place / "pid").exists():
        pid = int((place / "pid").read_text())
        ours = roots.read(Path(f"/proc/{pid}/cgroup")) if Path(f"/proc/{pid}").exists() else ""
        if group.name in ours:
            os.kill(pid, signal.SIGKILL)
            until = time.monotonic() + 20
            while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
                time.sleep(0.05)
    until = time.monotonic() + 20
    while group.exists():
        try:
            for inside in sorted(group.rglob("*/"), reverse=True):
                inside.rmdir()
            group.rmdir()
        except OSError:
            # The last of its processes are still ending.
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    roots.remove_tree(place)
