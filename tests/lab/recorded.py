"""Records the lab's hosts for tests/recordings: `python -m tests.lab.recorded`, as root.

One guest runs on h1; every other host is recorded as if that guest came there. What differs from
host to host: h5 and h6 have no bridge br-prod, h4 has a lesser CPU, h5 another user for QEMU.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from tests.lab import hosts, roots
from tests.lab.guests import SHARED, Disk, Guest, Nic, making, start
from tests.lab.hosts import Lab, run_on, script_on
from tests.replayed import RECORDINGS

AGENT = "/opt/virt-preflight/bin/virt-preflight-agent"
GUEST = Guest(
    name="db1",
    memory_mib=256,
    vcpus=2,
    disks=(Disk(path=f"{SHARED}/db1.qcow2"),),
    nics=(Nic(bridge="br-prod"),),
)
WITH_BRIDGE = ("h1", "h2", "h3", "h4")
# Where the lab keeps its layers is this machine's own affair.
LAYERS = re.compile(r"\b(lowerdir|upperdir|workdir)=[^, ]*")


def main() -> int:
    """Bring a lab up, record it, take it down."""
    lab = hosts.up(wheels=roots.wheels, tell=lambda text: print(text, file=sys.stderr))
    try:
        record(lab)
    finally:
        hosts.down()
    return 0


def record(lab: Lab) -> None:
    """All recordings anew."""
    for name in WITH_BRIDGE:
        script_on(lab[name], "ip link add br-prod type bridge && ip link set br-prod up")
    for disk in GUEST.disks:
        script_on(lab["h1"], making(disk))
    start(lab["h1"], GUEST, lab)
    xml = run_on(lab["h1"], ["virsh", "dumpxml", GUEST.name])
    sent = run_on(lab["h1"], ["virsh", "dumpxml", "--migratable", GUEST.name])
    # Not the errors beside them: those come from scenarios.
    for there in (RECORDINGS / "guests", *(RECORDINGS / name for name in lab.hosts)):
        shutil.rmtree(there, ignore_errors=True)
    (RECORDINGS / "guests").mkdir(parents=True)
    (RECORDINGS / "guests/db1.xml").write_text(xml)
    for name, host in lab.hosts.items():
        (host.files / "tmp/db1.xml").write_text(xml)
        (host.files / "tmp/sent.xml").write_text(sent)
        coming = [] if name == "h1" else ["--guest", "/tmp/db1.xml", "--guest", "/tmp/sent.xml"]
        run_on(host, [AGENT, "record", "/tmp/recorded", *coming])
        shutil.copytree(host.files / "tmp/recorded", RECORDINGS / name)
        for path in (RECORDINGS / name).rglob("*"):
            if path.is_file():
                forget_layers(path)


def forget_layers(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(LAYERS.sub(r"\1=layers", text), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
