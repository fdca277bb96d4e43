"""Whatever dies in the middle of a rehearsal: nothing of it is left, and the guest runs on.

The source's agent is frozen as soon as the guest's QEMU is there on the destination, so that the
window stays open; then somebody is killed, frozen or cut off, and the agent goes on. Whoever is
gone comes back, as an operator or systemd would bring him, and both hosts have to look as before:
no QEMU, no port, no file, no job. And the next question is answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import guests
from tests.lab.guests import Disk, Guest
from tests.lab.hosts import (
    AGENT_PID,
    Host,
    Lab,
    beside,
    run_on,
    script_on,
    start_agent,
    start_libvirtd,
)
from tests.lab.score import make_disks

pytestmark = pytest.mark.lab

LIBVIRTD_PID = "/run/libvirtd.pid"
NAME = "crash-rehearsal"
LOG = f"/var/lib/libvirt/{NAME}.log"
GUEST = Guest(
    name=NAME,
    disks=(Disk(path=f"/srv/shared/{NAME}.qcow2"),),
    devices=f"<serial type='file'><source path='{LOG}'/></serial>"
    "<graphics type='vnc' autoport='yes' listen='0.0.0.0'/>",
)
RUNNING = f"run/libvirt/qemu/{NAME}.pid"
BEGINS_WITHIN_S = 20.0
# libvirtd gives a silent client up after 30 s (measured: 29.7 s), and then QEMU ends.
GONE_WITHIN_S = 45.0
ANSWERS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Who is there."""

    source: Host
    destination: Host
    asking: subprocess.Popen[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """What happens to whom; `mend` brings him back."""

    name: str
    strike: Callable[[Scene], object]
    mend: Callable[[Scene], object]


def nothing(_: Scene) -> None:
    """He needs no help."""


def killed_agent(host: Host) -> None:
    script_on(host, f"kill -KILL $(cat {AGENT_PID}); rm {AGENT_PID}")


def signalled(host: Host, signal: str, pid_file: str) -> None:
    script_on(host, f"kill -{signal} $(cat {pid_file})")


BLOWS = (
    Blow(
        name="source's agent killed",
        strike=lambda scene: killed_agent(scene.source),
        mend=lambda scene: start_agent(scene.source),
    ),
    Blow(
        name="destination's agent killed",
        strike=lambda scene: killed_agent(scene.destination),
        mend=lambda scene: start_agent(scene.destination),
    ),
    Blow(name="controller killed", strike=lambda scene: scene.asking.kill(), mend=nothing),
    Blow(
        name="source's libvirtd killed",
        strike=lambda scene: signalled(scene.source, "KILL", LIBVIRTD_PID),
        mend=lambda scene: start_libvirtd(scene.source),
    ),
    Blow(
        name="destination's libvirtd killed",
        strike=lambda scene: signalled(scene.destination, "KILL", LIBVIRTD_PID),
        mend=lambda scene: start_libvirtd(scene.destination),
    ),
    Blow(
        name="link cut",
        strike=lambda scene: script_on(scene.destination, "ip link set eth0 down"),
        mend=nothing,  # it is looked at while it is cut
    ),
    Blow(
        name="destination's libvirtd frozen",
        strike=lambda scene: signalled(scene.destination, "STOP", LIBVIRTD_PID),
        mend=lambda scene: signalled(scene.destination, "CONT", LIBVIRTD_PID),
    ),
)


@pytest.fixture
def guest(lab: Lab) -> Iterator[Guest]:
    source = lab["h1"]
    make_disks(GUEST, source, lab["h2"])
    guests.start(source, GUEST, lab)
    try:
        yield GUEST
    finally:
        for name in ("h1", "h2", "h3"):
            guests.remove(lab[name], NAME)
            script_on(lab[name], f"rm -f {LOG}")
        script_on(source, f"rm -f /srv/shared/{NAME}.*")


@pytest.mark.parametrize("held_s", [0.0, 0.8], ids=["in Prepare", "in the window"])
@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: blow.name)
@pytest.mark.parametrize("name", ["h2", "h3"], ids=["9.0", "11.3"])
def test_nothing_of_a_rehearsal_is_left(
    lab: Lab, guest: Guest, name: str, blow: Blow, held_s: float
) -> None:
    source, destination = lab["h1"], lab[name]
    there, here = left_behind(destination), (source.files / RUNNING).read_text()
    scene = Scene(source=source, destination=destination, asking=ask(lab, name))
    try:
        assert wait_for((destination.files / RUNNING).exists, BEGINS_WITHIN_S), "none began"
        signalled(source, "STOP", AGENT_PID)
        time.sleep(held_s)
        assert (destination.files / RUNNING).exists(), "it was not held"
        blow.strike(scene)
        if "source's agent" not in blow.name:
            signalled(source, "CONT", AGENT_PID)
        time.sleep(0.5)
    finally:
        blow.mend(scene)
    try:
        assert wait_for(lambda: left_behind(destination) == there, GONE_WITHIN_S), sorted(
            set(left_behind(destination)) ^ set(there)
        )
    finally:
        scene.asking.kill()
        scene.asking.communicate(timeout=10)
        script_on(destination, "ip link set eth0 up")
    # The same QEMU, and nothing under way.
    assert guests.state_of(source, NAME) == "running"
    assert (source.files / RUNNING).read_text() == here
    assert "None" in run_on(source, ["virsh", "-q", "domjobinfo", NAME])
    # Whoever lives goes on: no agent is restarted that did not die.
    assert wait_for(lambda: verdict(ask(lab, name)) == ("CLEAR", "rehearsal"), GONE_WITHIN_S)
    assert wait_for(lambda: left_behind(destination) == there, GONE_WITHIN_S)


def ask(lab: Lab, name: str) -> subprocess.Popen[str]:
    program = Path(sys.executable).parent / "virt-preflight"
    argv = [
        *beside(lab),
        *(str(program), "check", NAME, "--from", "h1", "--to", name, "--unsafe"),
        *("--fleet", str(lab.run / "fleet.toml"), "--depth", "rehearsal", "-o", "json"),
        *("--timeout", "15"),
    ]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd="/")


def verdict(asking: subprocess.Popen[str]) -> tuple[str, str]:
    told, _ = asking.communicate(timeout=ANSWERS_WITHIN_S)
    (host,) = json.loads(told)["hosts"]
    return str(host["verdict"]), str(host["depth"])


def left_behind(host: Host) -> list[str]:
    """Guests, QEMUs, ports and files, as they are now."""
    script = (
        "timeout 10 virsh -q list --all --name | sed 's/^/guest /'; "
        "ps -eo args= | grep '[q]emu-system' | grep -c guest= | sed 's/^/QEMUs /'; "
        "ss -Hltn | awk '{print \"port\", $4}' | sort -u; "
        f"find /run /var/lib/libvirt /srv/shared -name '*{NAME}*' | sed 's/^/file /'"
    )
    lines = run_on(host, ["sh", "-c", f"{script}; :"], within_s=60).splitlines()
    return sorted(line for line in lines if line.strip())


def wait_for(arrived: Callable[[], bool], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while not arrived():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
