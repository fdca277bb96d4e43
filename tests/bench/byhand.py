"""`python -m tests.bench.byhand`, as root: a fleet asked by us, and by hand with a loop of virsh.

A lab of real hosts is brought up unless one is, and each of its hosts stands for many. By hand, 50
at a time, each host is asked what an operator would look at before he moves a guest, once with a
virsh for each question, as such loops are written, and once with a single virsh for all of them.
That asks less than we do: files and who may read them, ports, certificates and kernel features of a
host are nothing that virsh tells.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.__main__ import table
from tests.bench.measure import Figure, Pairs
from tests.lab import guests, hosts, roots
from tests.lab.guests import Disk, Guest, Nic
from tests.lab.hosts import Lab, beside, run_on, script_on
from tests.lab.machine import run
from tests.lab.score import make_disks
from virt_preflight.controller.answers import Heard, Silent
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.desk import opened
from virt_preflight.controller.fleet import FleetHost, read
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import Question, Questions

ROOT = Path(__file__).parents[2]
AT_A_TIME, EACH_STANDS_FOR, ROUNDS = 50, 20, 5
# Fifty times as fast.
TARGET = 1 / 50
SOURCE = "h1"
GUEST = Guest(
    name="bench-by-hand",
    disks=(Disk(path="/srv/shared/bench-by-hand.qcow2"),),
    nics=(Nic(bridge="br0"),),
)
XML = f"/tmp/{GUEST.name}.xml"
# What of a host decides whether this guest can come: who serves it, its CPU, machine type and
# devices, memory and pages, links, networks, filters, pools, and whether the name is taken.
LOOKS = (
    "version",
    "domcapabilities --virttype kvm",
    f"hypervisor-cpu-compare {XML}",
    "nodememstats",
    "freepages --all",
    "nodedev-list --cap net",
    "net-list --all",
    "nwfilter-list",
    "pool-list --all --details",
    "list --all",
)


def by_hand(lab: Lab, names: Sequence[str], looks: Sequence[str]) -> float:
    """Seconds of the loop, on the source: one virsh for each of the looks, 50 hosts at a time."""
    each = "; ".join(f"virsh -q -c qemu+tcp://$0/system {shlex.quote(look)}" for look in looks)
    # That a CPU does not suit is an answer, and no error of the loop.
    each += "; true"
    loop = f"xargs -n 1 -P {AT_A_TIME} sh -c {shlex.quote(each)} >/dev/null"
    started = time.monotonic()
    run_on(lab[SOURCE], ["sh", "-euc", loop], stdin="\n".join(names) + "\n", within_s=600)
    return time.monotonic() - started


def by_us(lab: Lab, depth: Depth) -> float:
    """Seconds of a question to a controller that runs where the operator sits, and has asked."""
    command = [sys.executable, "-m", "tests.bench.byhand", "ask", str(lab.run), depth]
    # Who enters a mount namespace stands at its root.
    there = {"PYTHONPATH": str(ROOT)}
    return float(run([*beside(lab), *command], within_s=600, env=there))


async def _asked(place: Path, depth: Depth) -> float:
    """The fleet file's hosts, each many times under other names; connections and facts are warm."""
    fleet = read(place / "fleet.toml")
    source = fleet.named(SOURCE)
    assert source is not None
    stood_for = [
        FleetHost(name=f"{host.name}-{number}", address=host.address)
        for number in range(EACH_STANDS_FOR)
        for host in fleet.hosts
        if host != source
    ]
    question = Question(
        guest=GUEST.name,
        from_host=SOURCE,
        options=MigrationOptions(live=True, p2p=True, unsafe=True),
        questions=Questions(depth=depth, max_age_s=None),
    )
    patient = replace(fleet, hosts=(source, *stood_for), timeout_s=120, deadline_s=300)
    async with opened(patient) as desk:
        await desk.dry_run(question)
        started = time.monotonic()
        said = await desk.dry_run(question)
        took_s = time.monotonic() - started
    silent = [one for one in said.answers if isinstance(one, Silent)]
    if silent:
        raise RuntimeError(f"{silent[0].host} was silent: {silent[0].why}")
    reached = {one.said.depth for one in said.answers if isinstance(one, Heard)}
    if reached != {depth}:
        raise RuntimeError(f"asked at depth {depth}, answered at {reached}")
    return took_s


def figures(lab: Lab) -> list[Figure]:
    """By hand and by us in turns, each way beside each depth."""
    names = [name for name in lab.hosts if name != SOURCE] * EACH_STANDS_FOR
    loops = {"a virsh for each look": LOOKS, "one virsh for all looks": ["; ".join(LOOKS)]}
    by_loop: dict[str, list[float]] = {how: [] for how in loops}
    by_depth: dict[Depth, list[float]] = {Depth.FACTS: [], Depth.LIBVIRT: []}
    for _ in range(ROUNDS):
        for how, looks in loops.items():
            by_loop[how].append(by_hand(lab, names, looks))
        for depth, took in by_depth.items():
            took.append(by_us(lab, depth))
    return [
        _figure(f"depth {depth}, {how}", Pairs(measured=took, baseline=loop), len(names))
        for how, loop in by_loop.items()
        for depth, took in by_depth.items()
    ]


def _figure(what: str, pairs: Pairs, asked: int) -> Figure:
    our_ms, hand_ms = (1000 * one / asked for one in (pairs.measured_s, pairs.baseline_s))
    return Figure(
        name=f"by us, {what}",
        measured=pairs.ratio,
        unit="× by hand",
        target=TARGET,
        beside=f"{our_ms:.1f} ms for a host, by hand {AT_A_TIME} at a time {hand_ms:.1f} ms;"
        f" {asked} were asked",
    )


@contextmanager
def lab_with_guest() -> Iterator[Lab]:
    there = hosts.load()
    lab = there or hosts.up(wheels=roots.wheels)
    make_disks(GUEST, lab[SOURCE], lab[SOURCE])
    guests.start(lab[SOURCE], GUEST, lab)
    (lab[SOURCE].files / XML.lstrip("/")).write_text(
        run_on(lab[SOURCE], ["virsh", "dumpxml", "--migratable", GUEST.name])
    )
    try:
        yield lab
    finally:
        guests.remove(lab[SOURCE], GUEST.name)
        script_on(lab[SOURCE], f"rm -f {GUEST.disks[0].path} {XML}")
        if there is None:
            hosts.down()


def main(words: Sequence[str]) -> int:
    """Prints the table."""
    if words[:1] == ["ask"]:
        print(asyncio.run(_asked(Path(words[1]), Depth(words[2]))))
        return 0
    with lab_with_guest() as lab:
        print(table(figures(lab)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
