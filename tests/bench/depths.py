"""`python -m tests.bench.depths`, as root with a lab up: what the depth `libvirt` costs on a host.

Beside the bare calls that it cannot do without, of the same host in the same turns: libvirt's
Begin phase, and its writing of the QEMU command line.
"""

from __future__ import annotations

import json
import sys

from tests.bench.__main__ import table
from tests.bench.measure import Figure, Pairs
from tests.lab import guests, hosts
from tests.lab.guests import Disk, Guest, Nic
from tests.lab.hosts import Host, Lab, run_on, script_on
from tests.lab.roots import VENV
from tests.lab.score import make_disks

ROUNDS = 40
TARGET = 1.5
GUEST = Guest(
    name="bench-depths",
    disks=(Disk(path="/srv/shared/bench-depths.qcow2"),),
    nics=(Nic(bridge="br0"),),
    devices="<graphics type='vnc' autoport='yes'/><serial type='pty'/><rng model='virtio'>"
    "<backend model='random'>/dev/urandom</backend></rng>",
)

# Runs on the host, with the agent's own Python; what is measured there comes back as JSON.
THERE = """
import json, sys, time
import libvirt
from virt_preflight.agent.asks.native import spoken_of
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.departure import departure
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.dryrun import Asked, dry_run
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.sources.live import entrypoints, libvirtd
from virt_preflight.agent.sources.live.machine import LiveSource
from virt_preflight.agent.xml import text_form

name, rounds, max_age = sys.argv[1], int(sys.argv[2]), sys.argv[3]
source = LiveSource("qemu:///system")
store = FactStore(source=source, catalogue=catalogue(), clock=time.monotonic)
policy, options = Policy(), MigrationOptions(live=True, p2p=True, unsafe=True)
asked = Asked(depth=Depth.LIBVIRT, max_age_s=0.0 if max_age == "anew" else None)
libvirtd.run_event_loop()
connection = libvirt.open("qemu:///system")
domain = connection.lookupByName(name)
flags = 1 | 2 | 512  # live, p2p, unsafe

def ours():
    left = departure(store, name, host="here", policy=policy, options=options, asked=asked)
    assert left.report.depth is Depth.LIBVIRT, left.report.shallower_because
    return left, dry_run(
        store, read_domain(left.domain_xml), host="here", policy=policy, options=options,
        origin=left.origin, asked=asked,
    )

left, found = ours()
assert found.depth is Depth.LIBVIRT, found.shallower_because
# The guest as it is, as virsh domxml-to-native would hand it over: its NICs cost a tap each.
whole = left.domain_xml.decode()
# And as we hand it over, without them.
taken_out = text_form(spoken_of(read_domain(left.domain_xml))).decode()
document = taken_out if sys.argv[4] == "less" else whole

def bare():
    entrypoints.begin(domain, flags, {})
    connection.domainXMLToNative("qemu-argv", document, 0)

def taken(do):
    started = time.perf_counter()
    do()
    return time.perf_counter() - started

for number in range(rounds):
    if number % 2:
        one, other = taken(ours), taken(bare)
    else:
        other, one = taken(bare), taken(ours)
    print(json.dumps([one, other]))
"""


def measured(host: Host, max_age: str, document: str) -> Pairs:
    """A dry run of the guest, both sides, and the bare calls, in turns."""
    argv = [f"{VENV}/bin/python", "-c", THERE, GUEST.name, str(ROUNDS), max_age, document]
    rounds = [json.loads(line) for line in run_on(host, argv, within_s=300).splitlines()]
    return Pairs(measured=[one[0] for one in rounds], baseline=[one[1] for one in rounds])


def figure(
    host: Host, what: str, *, max_age: str = "known", document: str = "whole", target: float | None
) -> Figure:
    pairs = measured(host, max_age, document)
    return Figure(
        name=f"depth libvirt, both sides, {what}, {host.plan.release}",
        measured=pairs.ratio,
        unit="times",
        target=target,
        beside=f"{pairs.measured_s * 1e3:.1f} ms, Begin and domxml-to-native alone "
        f"{pairs.baseline_s * 1e3:.1f} ms",
    )


def figures(host: Host, lab: Lab) -> list[Figure]:
    make_disks(GUEST, host, host)
    guests.start(host, GUEST, lab)
    try:
        return [
            figure(host, "known facts", target=TARGET),
            figure(host, "known facts, beside calls without NICs", document="less", target=None),
            figure(host, "every fact anew", max_age="anew", target=None),
        ]
    finally:
        guests.remove(host, GUEST.name)
        script_on(host, f"rm -f {GUEST.disks[0].path}")


def main() -> int:
    """Prints the table."""
    lab = hosts.loaded()
    print(table([one for name in ("h1", "h3") for one in figures(lab[name], lab)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
