"""What a rehearsal must do and must not, beside the scenarios: its other way, its guards, its end.

Where libvirt does not show its phases one by one, a whole migration is begun that Perform ends.
That way is played here on hosts which have the phases, by the agent's own code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import guests
from tests.lab.guests import Disk, Guest, Nic
from tests.lab.hosts import Lab, attempt_beside, run_on, script_on
from tests.lab.roots import AGENT
from tests.lab.score import make_disks

pytestmark = pytest.mark.lab

NAME = "rehearsed"
GUEST = Guest(
    name=NAME,
    disks=(Disk(path=f"/srv/shared/{NAME}.qcow2"),),
    nics=(Nic(bridge="br0"),),
)
HOOK = "/etc/libvirt/hooks/qemu"
# The other way, as the agent takes it: what it hears is printed.
PLAYED = """
import json, sys
from virt_preflight.agent.asks.rehearsal import rehearse
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.residents import matching, residents
from virt_preflight.agent.sources.live.machine import LiveSource
from virt_preflight.agent.sources.live.rehearsing import LiveRehearser, Phases
name, there, p2p, xml = sys.argv[1:]
source = LiveSource()
heard = rehearse(
    source,
    LiveRehearser("qemu:///system", Phases.WHOLE),
    matching(residents(source), name)[0],
    MigrationOptions(
        live=True, p2p=p2p == "p2p", direct=p2p != "p2p", unsafe=True, xml=xml.encode()
    ),
    destination_uri=f"qemu+tcp://{there}/system",
    keep_owner_of=(),
    within_s=20,
)
print(json.dumps({
    "said": [one.check for one in heard.said],
    "words": [one.problem.libvirt_error for one in heard.said],
    "left": heard.doubt + heard.impossible,
    "passed": bool(heard.decides),
}))
"""


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
        script_on(source, f"rm -f /srv/shared/{NAME}.*")


def whole(lab: Lab, there: str, way: str, xml: str = "") -> dict[str, object]:
    python = str(Path(AGENT).parent / "python")
    told = run_on(lab["h1"], [python, "-c", PLAYED, NAME, there, way, xml], within_s=60)
    heard: dict[str, object] = json.loads(told)
    return heard


def unmoved(lab: Lab, there: str) -> bool:
    """It runs where it ran, nothing is under way, and nothing of it is there."""
    job = run_on(lab["h1"], ["virsh", "-q", "domjobinfo", NAME])
    states = (guests.state_of(lab["h1"], NAME), guests.state_of(lab[there], NAME))
    return states == ("running", "absent") and "None" in job


@pytest.mark.parametrize("way", ["p2p", "direct"])
@pytest.mark.parametrize("there", ["h2", "h3"], ids=["9.0", "11.3"])
def test_a_whole_migration_ends_where_perform_begins(
    lab: Lab, guest: Guest, there: str, way: str
) -> None:
    assert whole(lab, there, way) == {"said": [], "words": [], "left": "", "passed": True}
    assert unmoved(lab, there)


@pytest.mark.parametrize("way", ["p2p", "direct"])
def test_a_whole_migration_that_prepare_refuses_is_told_in_libvirts_words(
    lab: Lab, guest: Guest, way: str
) -> None:
    xml = run_on(lab["h1"], ["virsh", "-q", "dumpxml", "--migratable", NAME])
    lost = xml.replace("bridge='br0'", "bridge='br9'")
    assert lost != xml
    heard = whole(lab, "h2", way, lost)
    assert heard["said"] == ["nics.bridge-absent"]
    assert heard["words"] == ["Cannot get interface MTU on 'br9': No such device"]
    assert unmoved(lab, "h2")


def check(lab: Lab, *options: str) -> dict[str, str]:
    program = Path(sys.executable).parent / "virt-preflight"
    argv = [
        *(str(program), "check", NAME, "--from", "h1", "--to", "h2", "--unsafe"),
        *("--fleet", str(lab.run / "fleet.toml"), "--depth", "rehearsal", "-o", "json"),
        *("--timeout", "15", *options),
    ]
    (host,) = json.loads(attempt_beside(lab, argv, within_s=60).out)["hosts"]
    return {"verdict": host["verdict"], "depth": host["depth"], "why": host["shallower"] or ""}


def test_hooks_are_run_only_when_that_is_allowed(lab: Lab, guest: Guest) -> None:
    destination = lab["h2"]
    ran = "/run/hook-ran"
    script_on(
        destination,
        f"mkdir -p $(dirname {HOOK}); "
        f"printf '#!/bin/sh\\ncat >/dev/null; echo $* >>{ran}\\n' >{HOOK}; chmod 755 {HOOK}; "
        "kill -HUP $(cat /run/libvirtd.pid); sleep 1",
    )
    try:
        told = check(lab)
        assert told["depth"] != "rehearsal"
        assert f"libvirtd would run {HOOK}: --allow hooks" in told["why"]
        assert NAME not in script_on(destination, f"cat {ran} 2>/dev/null || :")
        assert check(lab, "--allow", "hooks") == {
            "verdict": "CLEAR",
            "depth": "rehearsal",
            "why": "",
        }
        assert f"{NAME} migrate begin" in script_on(destination, f"cat {ran}")
    finally:
        script_on(destination, f"rm -f {HOOK} {ran}; kill -HUP $(cat /run/libvirtd.pid)")


def test_a_paused_guest_stays_paused(lab: Lab, guest: Guest) -> None:
    run_on(lab["h1"], ["virsh", "-q", "suspend", NAME])
    assert check(lab)["depth"] == "rehearsal"
    assert guests.state_of(lab["h1"], NAME) == "paused"
