"""The machine that the lab runs on: how commands are run on it, and what its kernel can do."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


class LabError(Exception):
    """The lab cannot do what was asked, and this is why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command said; `code` is None when it did not end in time."""

    argv: tuple[str, ...]
    code: int | None
    out: str
    err: str

    @property
    def said(self) -> str:
        """The error as a person would quote it: what virsh prints first, or the last line."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        # `virsh create` says first that it did not, and then why.
        if errors and errors[0].startswith("Failed to"):
            return errors[-1]
        if errors:
            return errors[0]
        if self.code is None:
            return "did not end in time"
        return lines[-1] if lines else f"ended with {self.code}"


def attempt(
    argv: Sequence[str | Path],
    *,
    within_s: float = 60,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Ran:
    """Run a command to its end, or to the end of our patience; its failure is an answer."""
    words = tuple(str(word) for word in argv)
    try:
        done = subprocess.run(
            words,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within_s,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return Ran(argv=words, code=None, out=_text(late.stdout), err=_text(late.stderr))
    except OSError as error:
        return Ran(argv=words, code=127, out="", err=f"{words[0]}: {error.strerror}")
    return Ran(argv=words, code=done.returncode, out=done.stdout, err=done.stderr)


def run(
    argv: Sequence[str | Path],
    *,
    within_s: float = 60,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a command that has to work; its output."""
    ran = attempt(argv, within_s=within_s, stdin=stdin, env=env, cwd=cwd)
    if ran.code != 0:
        tail = "\n".join((ran.out + ran.err).splitlines()[-12:])
        raise LabError(f"{' '.join(ran.argv)[:200]}: ended with {ran.code}\n{tail}")
    return ran.out


def _text(raw: bytes | str | None) -> str:
    if raw is None:
        return ""
    return raw if isinstance(raw, str) else raw.decode(errors="replace")


def why_not() -> str | None:
    """Why no lab can be brought up here; None when one can."""
    if os.geteuid() != 0:
        return "not root: namespaces, mounts and bridges need it"
    probe = attempt(
        [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "ip",
            "link",
            "add",
            "t0",
            "type",
            "bridge",
        ],
        within_s=10,
    )
    if probe.code != 0:
        return f"no namespaces, or no bridges in them: {probe.said}"
    return None


# ----------------------------------------------------------------------------- the lab's own name


def instance() -> str:
    """Several labs live side by side on one machine, each under a name of its own."""
    named = os.environ.get("VIRT_PREFLIGHT_LAB", "")
    if not named:
        return hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", named):
        raise LabError(f"VIRT_PREFLIGHT_LAB={named!r}: lower-case letters, digits and dashes only")
    return named


def cache() -> Path:
    """Where built roots are kept between runs."""
    named = os.environ.get("VIRT_PREFLIGHT_LAB_CACHE")
    if named:
        return Path(named)
    shared = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(shared) / "virt-preflight" / "lab"


def digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        whole.update(len(raw).to_bytes(8, "big") + raw)
    return whole.hexdigest()[:12]


# ---------------------------------------------------------------------- packages of this machine

PACKAGE_BY_PROGRAM = {
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "gcc": "gcc",
    "bindfs": "bindfs",
}


def install_missing_programs() -> None:
    missing = sorted({pkg for prog, pkg in PACKAGE_BY_PROGRAM.items() if not shutil.which(prog)})
    if "gcc" in missing:
        missing.append("libc6-dev")
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise LabError(f"wanted {', '.join(missing)}, and there is no apt-get to install them")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], within_s=300, env=quiet)
    run(
        ["apt-get", "install", "-y", "--no-install-recommends", *missing],
        within_s=600,
        env=quiet,
    )


# ------------------------------------------------------------------------------ what there is here


@functools.cache
def can_make_link(kind: str) -> bool:
    """Whether this kernel has such a kind of network link: found out by making one, elsewhere."""
    on_top = kind in ("macvtap", "macvlan", "vlan")
    make = f"ip link add t0 {'link v0 ' if on_top else ''}type {kind}"
    if kind == "vlan":
        make += " id 5"
    if kind == "vxlan":
        make += " id 5 dstport 4789"
    script = f"ip link add v0 type veth peer name v1 && {make}"
    return attempt(["unshare", "--net", "sh", "-c", script], within_s=10).code == 0


def pages_of_2m() -> Path:
    return Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


def has(need: str) -> str | None:
    """Why the machine lacks what a scenario needs; None when it is here."""
    kind, _, which = need.partition(":")
    if kind == "link":
        return None if can_make_link(which) else f"this kernel has no {which} links"
    if kind == "hugepages":
        return None if pages_of_2m().exists() else "this kernel has no 2 MiB pages"
    if kind == "device":
        return None if Path(which).exists() else f"no {which} here"
    if kind == "numa":
        node = Path("/sys/devices/system/node/node1")
        return None if node.exists() else "this machine has one NUMA node"
    if kind == "filesystem":
        known = Path("/proc/filesystems").read_text().split()
        return None if which in known else f"this kernel has no {which}"
    if kind == "limit":
        raised = attempt(["prlimit", f"--{which}=unlimited", "true"], within_s=10)
        return None if raised.code == 0 else f"not allowed to raise the limit {which}"
    raise LabError(f"unknown need: {need}")
