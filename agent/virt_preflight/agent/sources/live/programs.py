"""Programs of the host that only look: each bounded in time, none through a shell."""

from __future__ import annotations

import shutil
import subprocess

from virt_preflight.agent.sources import Absent, Refused, Unreadable

WITHIN_S = 5.0
# What libvirtd has in its PATH on every distribution.
DAEMON_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A hostile image can make qemu-img eat all that it gets: OpenStack Nova limits it likewise.
QEMU_IMG = ["prlimit", f"--as={1024**3}", "--cpu=4", "--", "qemu-img"]
OUTPUT_AT_MOST = 4 * 1024 * 1024


def find(name: str) -> str:
    """Its full path, where libvirtd would find it."""
    found = shutil.which(name, path=DAEMON_PATH)
    if found is None:
        raise Absent(f"no program {name}")
    return found


def run(command: list[str], within_s: float) -> str:
    """What it prints. Refused with its last words when it ends with an error."""
    try:
        ended = subprocess.run(  # noqa: S603 - a fixed program with its arguments as a list
            [find(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within_s,
            check=False,
            env={"PATH": DAEMON_PATH, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{command[0]} did not end within {within_s:g} s") from None
    if ended.returncode < 0:
        raise Unreadable(f"{command[0]} was ended by signal {-ended.returncode}")
    if ended.returncode != 0:
        words = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Refused(words[-1] if words else f"{command[0]} ended with {ended.returncode}")
    return ended.stdout[:OUTPUT_AT_MOST].decode("utf-8", "replace")
