"""Debian roots for the hosts: built once, kept in a cache, with the agent on top of each.

Three layers, which a host's overlay stacks: the release with libvirt and QEMU (minutes to build),
the agent's environment with what it depends on (tens of seconds), and the agent itself (seconds,
and the only one that changes while somebody works on it).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.lab.machine import (
    CHECKOUT,
    LabError,
    attempt,
    cache,
    digest,
    install_missing_programs,
    run,
)

PACKAGES = (
    "libvirt-daemon-system",
    "libvirt-daemon-driver-qemu",
    "libvirt-clients",
    "qemu-system-x86",
    "qemu-utils",
    "iproute2",
    "procps",
    "python3",
    "python3-apt",
    "python3-libvirt",
    "python3-venv",
    "ovmf",
    "swtpm",
    "swtpm-tools",
    "bindfs",  # mounted as "fuse.glusterfs" it is a cluster file system to libvirt
)
# What a release has beside these, in packages of their own.
FURTHER: dict[str, tuple[str, ...]] = {
    "bookworm": (),
    "trixie": ("libvirt-daemon-lock", "libvirt-daemon-plugin-lockd", "virtiofsd"),
}
# The interpreter of each release decides which wheels its agent can use.
PYTHON_BY_RELEASE = {"bookworm": "3.11", "trixie": "3.13"}
UNREAD = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
PROJECTS = (CHECKOUT / "proto", CHECKOUT / "agent")
VENV = "/opt/virt-preflight"
AGENT = f"{VENV}/bin/virt-preflight-agent"

Tell = Callable[[str], None]


def layers(release: str, *, agent_from: Path | None, tell: Tell) -> tuple[Path, ...]:
    """The directories that make a host of this release, topmost first; what is missing is built.

    `agent_from` is a directory of wheels; None makes hosts without an agent.
    """
    below = root(release, tell)
    if agent_from is None:
        return (below,)
    ours, theirs = sort_wheels(agent_from)
    return (*agent_layers(release, below, ours, theirs, tell), below)


def root(release: str, tell: Tell) -> Path:
    """The release with libvirt and QEMU in it."""
    if release not in PYTHON_BY_RELEASE:
        raise LabError(f"unknown release {release}: {', '.join(PYTHON_BY_RELEASE)} are known")
    packages = (*PACKAGES, *FURTHER[release])
    place = cache() / f"root-{release}-{digest(release, *packages, *UNREAD)}"

    def build(at: Path) -> None:
        tell(f"building the {release} root: a minute or two, once")
        install_missing_programs()
        run(
            [
                "mmdebstrap",
                "--variant=minbase",
                f"--include={','.join(packages)}",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in UNREAD),
                release,
                at,
            ],
            within_s=900,
        )

    return built_once(place, build)


def agent_layers(
    release: str, below: Path, ours: tuple[Path, ...], theirs: tuple[Path, ...], tell: Tell
) -> tuple[Path, Path]:
    """The agent as an operator would install it, in two layers so that a change costs seconds."""
    # Names suffice for what came from the index (a version never changes there), not for ours.
    venv_id = digest(below.name, *(wheel.name for wheel in theirs))
    ours_id = digest(venv_id, *(wheel.name.encode() + wheel.read_bytes() for wheel in ours))
    pip = f"{VENV}/bin/pip install --quiet --no-index --no-compile --find-links /wheels"

    def build_venv(at: Path) -> None:
        tell(f"installing what the agent depends on into {release}")
        script = f"python3 -m venv --system-site-packages {VENV}"
        if theirs:
            names = " ".join(f"/wheels/{wheel.name}" for wheel in theirs)
            # Compiled here, once: a host's overlay is young every time and would compile again.
            script += f"\n{pip.replace(' --no-compile', '')} {names}"
        grow(at, (below,), script, theirs)

    venv = built_once(cache() / f"venv-{release}-{venv_id}", build_venv)

    def build_ours(at: Path) -> None:
        tell(f"installing the agent into {release}")
        names = " ".join(f"/wheels/{wheel.name}" for wheel in ours)
        script = (
            f"{pip} --no-deps --force-reinstall {names}\n"
            f"{VENV}/bin/python -m compileall -q {VENV}/lib/python3*/site-packages/virt_preflight*"
        )
        grow(at, (venv, below), script, ours)

    agent = built_once(cache() / f"agent-{release}-{ours_id}", build_ours)
    forget_older(f"agent-{release}-", keep=agent)
    return agent, venv


def sort_wheels(directory: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Our own wheels (those the agent needs), and everybody else's."""
    wheels_there = sorted(directory.glob("*.whl"))
    ours = tuple(
        wheel
        for wheel in wheels_there
        if wheel.name.startswith(("virt_preflight_agent-", "virt_preflight_proto-"))
    )
    if not any(wheel.name.startswith("virt_preflight_agent-") for wheel in ours):
        raise LabError(f"no wheel of virt-preflight-agent in {directory}")
    theirs = tuple(wheel for wheel in wheels_there if not wheel.name.startswith("virt_preflight"))
    return ours, theirs


# ------------------------------------------------------------------------------------------ wheels


def wheels(release: str, tell: Tell = lambda _: None) -> Path:
    """Our own wheels from the checkout and those that they need, for the release's interpreter."""
    place = CHECKOUT / "build" / "lab" / "wheels" / release
    place.mkdir(parents=True, exist_ok=True)
    wanted = requirements(PROJECTS)
    pins = pinned(CHECKOUT / "constraints.txt")
    with locked(place.parent / ".lock"):
        if stale(place, f".others-{digest(release, *wanted, *pins)}"):
            tell(f"downloading what the agent depends on, for {release}")
            download(place, release, wanted, pins)
            stamp(place, f".others-{digest(release, *wanted, *pins)}")
        ours = own_wheels(place.parent, tell)
        for wheel in place.glob("virt_preflight*.whl"):
            wheel.unlink()
        for wheel in ours:
            shutil.copy(wheel, place)
    return place


def own_wheels(place: Path, tell: Tell) -> tuple[Path, ...]:
    """The checkout's own: pure Python, so the same for every release, and built once a change."""
    code = f".ours-{digest(*(tree_digest(project) for project in PROJECTS))}"
    if stale(place, code):
        tell("building the agent's wheels")
        for wheel in place.glob("*.whl"):
            wheel.unlink()
        build_wheels(PROJECTS, place)
        stamp(place, code)
    return tuple(sorted(place.glob("*.whl")))


def stale(place: Path, mark: str) -> bool:
    return not (place / mark).exists()


def stamp(place: Path, mark: str) -> None:
    """Of each kind of mark (what stands before the dash) there is one."""
    for old in place.glob(f"{mark.partition('-')[0]}-*"):
        old.unlink()
    (place / mark).touch()


def requirements(projects: Sequence[Path]) -> tuple[str, ...]:
    """What the projects ask of others, as pip understands it."""
    wanted: set[str] = set()
    for project in projects:
        described = tomllib.loads((project / "pyproject.toml").read_text())
        wanted.update(described["project"].get("dependencies", ()))
    return tuple(sorted(name for name in wanted if not name.startswith("virt-preflight")))


def pinned(constraints: Path) -> tuple[str, ...]:
    """The exact versions of the checkout, without their hashes: those of other files are there."""
    words = (line.split(";")[0].split() for line in read(constraints).splitlines())
    return tuple(word[0] for word in words if word and "==" in word[0])


def download(place: Path, release: str, wanted: tuple[str, ...], pins: tuple[str, ...]) -> None:
    version = PYTHON_BY_RELEASE[release]
    for wheel in place.glob("*.whl"):
        wheel.unlink()
    platforms = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_24_x86_64")
    newer = ("manylinux_2_26_x86_64", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(pins))
        constraints.flush()
        run(
            [
                *pip(),
                "download",
                "--quiet",
                "--only-binary=:all:",
                f"--python-version={version}",
                "--implementation=cp",
                f"--abi=cp{version.replace('.', '')}",
                "--abi=abi3",
                "--abi=none",
                *(f"--platform={platform}" for platform in (*platforms, *newer)),
                f"--constraint={constraints.name}",
                f"--dest={place}",
                *wanted,
            ],
            within_s=600,
        )


def build_wheels(projects: Sequence[Path], place: Path) -> None:
    """Copies are built: a build back end may leave files of its own beside what it builds."""
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
    with tempfile.TemporaryDirectory() as scratch:
        copies = [Path(scratch) / project.name for project in projects]
        for project, copy in zip(projects, copies, strict=True):
            shutil.copytree(project, copy, ignore=left_out)
        run(
            [*pip(), "wheel", "--quiet", "--no-deps", f"--wheel-dir={place}", *copies], within_s=300
        )


def pip() -> tuple[str, ...]:
    """Some pip: an environment made by uv has none of its own, the interpreter beneath it has."""
    beneath = str(Path(sys.base_prefix) / "bin" / "python3")
    for python in (sys.executable, beneath, "python3", "/usr/bin/python3"):
        if attempt([python, "-m", "pip", "--version"], within_s=30).code == 0:
            return (python, "-m", "pip", "--disable-pip-version-check", "--no-input")
    raise LabError("no interpreter here has pip")


def tree_digest(directory: Path) -> str:
    """Changes whenever a file under the directory does."""
    parts: list[str | bytes] = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            parts += [str(path.relative_to(directory)), path.read_bytes()]
    return digest(*parts)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


# ------------------------------------------------------------------------------------------- cache


def built_once(place: Path, build: Callable[[Path], None]) -> Path:
    """What `build` makes, from the cache if it is there; a half-built one is never seen."""
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.parent / f".{place.name}.lock"):
        if place.is_dir():
            return place
        unfinished = place.parent / f".building-{place.name}"
        remove_tree(unfinished)
        unfinished.mkdir()
        try:
            build(unfinished)
            unfinished.rename(place)
        finally:
            remove_tree(unfinished)
    return place


def grow(at: Path, below: tuple[Path, ...], script: str, wheels_needed: tuple[Path, ...]) -> None:
    """Run a script in an overlay over the layers below; `at` becomes what it wrote.

    The overlay is mounted in a mount namespace of its own, so nothing can stay mounted.
    """
    upper, work, merged = (at.parent / f"{at.name}-{part}" for part in ("upper", "work", "merged"))
    for directory in (upper, work, merged):
        remove_tree(directory)
        directory.mkdir()
    try:
        lower = ":".join(map(str, below))
        clean = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8"
        with tempfile.TemporaryDirectory() as scratch:
            for wheel in wheels_needed:
                shutil.copy(wheel, scratch)
            inside = f"""
set -eu
mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} {merged}
mount -t proc proc {merged}/proc
mount --rbind /dev {merged}/dev
mount -t tmpfs tmpfs {merged}/tmp
mkdir -p {merged}/wheels
mount --bind {scratch} {merged}/wheels
exec chroot {merged} {clean} sh -euc "$1"
"""
            run(
                [
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    inside,
                    "sh",
                    script,
                ],
                within_s=300,
            )
        at.rmdir()
        upper.rename(at)
    finally:
        for directory in (upper, work, merged):
            remove_tree(directory)


def forget_older(prefix: str, *, keep: Path) -> None:
    """Of the agent's own layers only the latest few: one is made for every change of the code."""
    rivals = sorted(cache().glob(f"{prefix}*"), key=lambda path: path.stat().st_mtime)
    for stale in rivals[:-6]:
        if stale != keep:
            remove_tree(stale)


def remove_tree(directory: Path) -> None:
    """Delete a directory, never through something mounted inside it."""
    if not directory.exists():
        return
    inside = f"{directory}/"
    with Path("/proc/self/mounts").open() as mounts:
        held = [line.split()[1] for line in mounts if line.split()[1].startswith(inside)]
    if held:
        raise LabError(f"{directory} is not deleted: {held[0]} is still mounted")
    shutil.rmtree(directory)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One builder at a time; the lock goes with its holder, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
