"""Whatever dies in the middle of a trial, nothing of it is left, and the guest runs where it ran.

Somebody is killed, frozen or cut off some tenths of a second after the stand-in came to be. Then
whoever is gone comes back, as an operator or systemd would bring him, and the destination has to
look as before: no stand-in, no QEMU, no port, no file of its name. And the next question is
answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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

STANDIN = "virt-preflight-dry-run-"
LIBVIRTD_PID = "/run/libvirtd.pid"
GUEST = Guest(
    name="crash-trial",
    disks=(Disk(path="/srv/shared/crash-trial.qcow2"),),
    devices="<serial type='file'><source path='/srv/shared/crash-trial.log'/></serial>"
    "<graphics type='vnc' autoport='yes' listen='0.0.0.0'/>",
)
# Within the second or so that a trial takes on the lab's machine, counted from its beginning.
MOMENTS_S = (0.05, 0.3, 0.6)
BEGINS_WITHIN_S = 20.0
# libvirt's keepalive notices a silent peer after 9 to 12 s (live/libvirtd.py), and QEMU then ends.
GONE_WITHIN_S = 30.0
ANSWERS_WITHIN_S = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """What happens to whom; `mend` brings him back."""

    name: str
    strike: Callable[[Host, subprocess.Popen[str]], object]
    mend: Callable[[Host], object]
    on: Literal["destination", "source"] = "destination"


BLOWS = (
    Blow(
        name="agent killed",
        strike=lambda host, _: script_on(host, f"kill -KILL $(cat {AGENT_PID}); rm {AGENT_PID}"),
        mend=start_agent,
    ),
    Blow(
        name="controller killed",
        strike=lambda _, asking: asking.kill(),
        mend=lambda _: None,
    ),
    Blow(
        name="libvirtd killed",
        strike=lambda host, _: script_on(host, f"kill -KILL $(cat {LIBVIRTD_PID})"),
        mend=start_libvirtd,
    ),
    # By then it has said what Begin says, and is needed no more.
    Blow(
        name="source's libvirtd killed",
        strike=lambda host, _: script_on(host, f"kill -KILL $(cat {LIBVIRTD_PID})"),
        mend=start_libvirtd,
        on="source",
    ),
    Blow(
        name="libvirtd frozen",
        strike=lambda host, _: script_on(host, f"kill -STOP $(cat {LIBVIRTD_PID})"),
        mend=lambda host: script_on(host, f"kill -CONT $(cat {LIBVIRTD_PID})"),
    ),
    Blow(
        name="link cut",
        strike=lambda host, _: script_on(host, "ip link set eth0 down"),
        mend=lambda host: script_on(host, "ip link set eth0 up"),
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
        guests.remove(source, GUEST.name)
        script_on(source, "rm -f /srv/shared/crash-trial.*")


@pytest.mark.parametrize("moment_s", MOMENTS_S)
@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: blow.name)
@pytest.mark.parametrize("name", ["h2", "h3"], ids=["9.0", "11.3"])
def test_nothing_of_a_trial_is_left(
    lab: Lab, guest: Guest, name: str, blow: Blow, moment_s: float
) -> None:
    host = lab[name]
    before = left_behind(host)
    assert [line for line in before if STANDIN in line] == []
    asking = begun(lab, guest, name)
    struck = lab["h1"] if blow.on == "source" else host
    try:
        time.sleep(moment_s)
        blow.strike(struck, asking)
        if blow.name == "libvirtd frozen":
            # The answer does not wait for him.
            verdict(asking)
    finally:
        blow.mend(struck)
        asking.kill()
        asking.communicate(timeout=10)
    assert wait_for(lambda: left_behind(host) == before, GONE_WITHIN_S), sorted(
        set(left_behind(host)) - set(before)
    )
    assert guests.state_of(lab["h1"], guest.name) == "running"
    # Whoever lives goes on: no agent is restarted that did not die.
    told = verdict(ask(lab, guest, name))
    assert told == "CLEAR", f"asked once more: {told}"
    assert wait_for(lambda: left_behind(host) == before, GONE_WITHIN_S), "left by the next trial"


def begun(lab: Lab, guest: Guest, name: str) -> subprocess.Popen[str]:
    """Somebody who asks, and whose trial is under way: a busy machine may cost one his time."""
    for _ in range(3):
        asking = ask(lab, guest, name)
        if wait_for(lambda: bool(notes(lab[name])), BEGINS_WITHIN_S):
            return asking
        asking.kill()
        asking.communicate(timeout=10)
    raise AssertionError("no trial began")


def ask(lab: Lab, guest: Guest, name: str) -> subprocess.Popen[str]:
    program = Path(sys.executable).parent / "virt-preflight"
    argv = [
        *beside(lab),
        *(str(program), "check", guest.name, "--from", "h1", "--to", name, "--unsafe"),
        *("--fleet", str(lab.run / "fleet.toml"), "--depth", "trial", "-o", "json"),
        *("--timeout", "15"),
    ]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd="/")


def verdict(asking: subprocess.Popen[str]) -> str:
    told, _ = asking.communicate(timeout=ANSWERS_WITHIN_S)
    (host,) = json.loads(told)["hosts"]
    return str(host["verdict"])


def notes(host: Host) -> list[str]:
    folder = host.files / "run/virt-preflight"
    return [found.name for found in folder.glob(f"{STANDIN}*")]


def left_behind(host: Host) -> list[str]:
    """Guests, QEMUs, ports and files of stand-ins, as they are now."""
    script = (
        "virsh -q list --all --name | sed 's/^/guest /'; "
        "ps -eo comm= | grep -c qemu-system | sed 's/^/QEMUs /'; "
        "ss -Hltn | awk '{print \"port\", $4}' | sort -u; "
        f"find /run/virt-preflight /run/libvirt /var/log /var/lib/libvirt /srv/shared "
        f"-name '{STANDIN}*' -o -name '*-{STANDIN[:20]}*' | sed 's/^/file /'"
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
