"""`make demo`: the main job on real input, in a minute.

As root: real libvirt hosts of two Debian releases, a running guest, the verdict of every host, the
move itself, and the same question again. Otherwise the same hosts as they were recorded.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab import hosts, roots
from tests.lab.guests import SHARED, Disk, Guest, Nic, making, start, state_of
from tests.lab.hosts import HostPlan, Lab, beside, run_on, script_on
from tests.lab.machine import LabError, why_not
from tests.replayed import HOSTS, replayed

PROGRAM = Path(sys.executable).parent / "virt-preflight"
PLAN = (
    HostPlan(name="h1", purpose="runs the guest"),
    HostPlan(name="h2", purpose="the same as h1"),
    HostPlan(name="h3", release="trixie", purpose="newer libvirt and QEMU, no br-prod"),
    HostPlan(name="h4", cpu="lesser", purpose="a lesser CPU, no br-prod"),
    HostPlan(
        name="h5",
        qemu_user="libvirt-qemu",
        dynamic_ownership=0,
        purpose="QEMU is an ordinary user there",
    ),
)
GUEST = Guest(
    name="db1",
    memory_mib=256,
    vcpus=2,
    disks=(Disk(path=f"{SHARED}/db1.qcow2"),),
    nics=(Nic(bridge="br-prod"),),
)
WITH_BRIDGE = ("h1", "h2", "h5")
# The hosts share a directory by bind mount, which libvirt cannot see to be shared.
OPTIONS = ("--unsafe",)


def say(text: str = "") -> None:
    print(text, flush=True)


def main() -> int:
    for ending in (signal.SIGTERM, signal.SIGHUP):
        # So that the hosts are taken down, whatever ends the demo.
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    reason = why_not()
    if reason is None:
        try:
            return with_real_hosts()
        except LabError as error:
            reason = str(error)
    say(f"No real hosts: {reason}.")
    say(f"So these are {len(HOSTS)} hosts as they were recorded; the guest does not move.")
    say()
    with replayed() as fleet:
        return 0 if asked([], fleet) == 0 else 1


def with_real_hosts() -> int:
    # A lab of its own, beside one that a developer may have up.
    os.environ["VIRT_PREFLIGHT_LAB"] = f"{os.environ.get('VIRT_PREFLIGHT_LAB', '')}demo"
    say("Bringing up real libvirt hosts, each in namespaces of its own:")
    started = time.monotonic()
    lab = hosts.up(PLAN, wheels=roots.wheels, tell=lambda text: say(f"  {text}"))
    try:
        for host in lab.hosts.values():
            say(f"  {host.name}  {host.plan.release:9} {host.plan.purpose}")
        arrange(lab)
        say("They share a directory that libvirt cannot see to be shared, hence --unsafe below.")
        say(f"ready in {time.monotonic() - started:.0f} s; guests run under {lab.accelerator}")
        say()
        return show(lab)
    finally:
        hosts.down()


def arrange(lab: Lab) -> None:
    for name in WITH_BRIDGE:
        script_on(lab[name], "ip link add br-prod type bridge && ip link set br-prod up")
    for disk in GUEST.disks:
        script_on(lab["h1"], making(disk))
    start(lab["h1"], GUEST, lab)


def show(lab: Lab) -> int:
    fleet = lab.run / "fleet.toml"
    if asked(beside(lab), fleet) != 0:
        say("Nobody can take it: that is not what this was meant to show.")
        return 1
    move = ["virsh", "migrate", "--live", "--p2p", *OPTIONS, "db1", "qemu+tcp://h2/system"]
    say()
    say(f"h1$ {shlex.join(move)}")
    run_on(lab["h1"], move)
    say(f"db1 on h2: {state_of(lab['h2'], 'db1')}")
    say()
    say("And once more, now that it lives on h2:")
    say()
    asked(beside(lab), fleet)
    return 0


def asked(before: Sequence[str], fleet: Path) -> int:
    """Ask as an operator would, on this terminal; the exit code."""
    command = ["virt-preflight", "check", "db1", *OPTIONS]
    say(f"$ {shlex.join(command)}")
    fleet_option = ("--fleet", str(fleet))
    return subprocess.run([*before, PROGRAM, *command[1:], *fleet_option], check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
