"""The classes of faults by which ways of asking libvirt were compared, each with its scenario.

Ninety-three of them, in the order in which they were tried between libvirt 7.0, 9.0 and 11.3. Each
is a scenario between hosts of libvirt 9.0 (or from one release to the other, where that is what it
is about) and is told again here between hosts of libvirt 11.3.
"""

from __future__ import annotations

from typing import Any

from tests.lab import faults
from tests.lab.scenarios import (
    cpu,
    devices,
    disks,
    firmware,
    machine,
    memory,
    nics,
    nowhere,
    numa,
    options,
    pairs,
    pieces,
    storage,
    tenants,
    versions,
)
from tests.lab.scenarios.scenario import Scenario, guest, newest

SCENARIO_BY_CLASS = {
    "ok-kvm": "plain",
    "ok-tcg": "plain-tcg",
    "ok-passthru": "cpu-passthrough",
    "ok-iothread-wd-rng": "many-devices",
    "net-bridge": "nic-bridge-absent",
    "net-mtu": "nic-mtu-smaller",
    "net-down": "nic-bridge-down",
    "net-none": "nic-network-absent",
    "net-inactive": "nic-network-inactive",
    "net-nwfilter": "nic-nwfilter-absent",
    "disk-missing": "disk-missing",
    "disk-unreadable": "disk-unreadable",
    "disk-format": "disk-other-format",
    "disk-backing": "disk-backing-missing",
    "disk-size": "disk-smaller",
    "disk-content": "disk-other-content",
    "disk-iouring": "disk-io-uring",
    "disk-writeback": "unsafe-writeback",
    "disk-none-safe": "unsafe",
    "disk-nbd": "disk-nbd-unreachable",
    "disk-secret": "disk-secret-absent",
    "disk-secret-wrong": "disk-secret-other-value",
    "disk-two": "disk-copy-on-each",
    "mem-huge-ok": "pages-enough",
    "mem-huge-few": "pages-too-few",
    "mem-huge-nomount": "pages-no-mount",
    "mem-huge-1g": "pages-other-size",
    "mem-big": "memory-limit",
    "numa-node": "numa-node-absent",
    "cpu-pin": "pin-vcpu-absent",
    "cpu-set": "pin-cpuset-absent",
    "cpu-hostmodel": "cpu-host-model-lesser",
    "cpu-passthru": "cpu-passthrough-lesser",
    "cpu-none": "cpu-none-lesser",
    "cpu-partial": "cpu-partial-lesser",
    "cpu-full": "cpu-full-lesser",
    "cpu-other": "cpu-other-model-lesser",
    "cpu-tcg-none": "cpu-tcg-none-noise",
    "cpu-tcg-old": "cpu-tcg-max-older",
    "cpu-newfeat": "cpu-unknown-to-older",
    "mach-new": "machine-too-new",
    "mach-old": "machine-too-old",
    "cpu-noise": "cpu-none-noise",
    "mach-down": "plain-older",
    "mach-up": "plain-newer",
    "emu-missing": "emulator-absent",
    "fw-ok": "firmware",
    "fw-loader": "firmware-loader-absent",
    "fw-template": "firmware-template-absent",
    "fw-other": "firmware-other-size",
    "kernel-missing": "kernel-absent",
    "tpm-ok": "tpm",
    "tpm-noswtpm": "tpm-no-swtpm",
    "gfx-spice": "spice-no-module",
    "gfx-virtio": "video-virtio-no-module",
    "gfx-listen": "vnc-address-absent",
    "gfx-port": "vnc-port-taken",
    "gfx-tls": "vnc-tls-no-certificates",
    "ser-dir": "serial-directory-absent",
    "ser-port": "serial-port-taken",
    "rng-path": "rng-absent",
    "fs-virtiofs": "virtiofs",
    "fs-9p": "9p-directory-absent",
    "chan-dir": "channel-directory-absent",
    "id-name": "name-taken-running",
    "id-name-off": "name-taken-defined",
    "id-uuid": "uuid-taken",
    "id-same": "same-guest-defined",
    "lock-mismatch": "lock-daemon-there-only",
    "lock-nodaemon": "lock-daemon-absent",
    "pol-snapshot": "disk-snapshot",
    "pol-blockjob": "disk-block-job",
    "pol-hostcdrom": "cdrom-plain",
    "pol-tls": "tls-no-certificates",
    "pol-invtsc": "cpu-invtsc",
    "pol-passthru-nomig": "cpu-passthrough-unmigratable",
    "net-unreach": "uri-dead-address",
    "net-badhost": "uri-unresolvable",
    "mem-dirty": "memory-written",
    "raw-pci": "new-pci-absent",
    "raw-usb": "new-usb-absent",
    "raw-mdev": "new-mdev-absent",
    "raw-vcpus": "new-too-many-vcpus",
    "raw-rbd": "new-rbd",
    "raw-seclabel": "new-label-of-another-driver",
    "raw-mem": "new-too-much-memory",
    "raw-vhostvsock": "new-vsock",
    "raw-shmem": "new-shared-memory",
    "feat-qsize": "older-drops-discard-no-unref",
    "feat-pagepervq": "older-drops-pstore",
    "lock-both": "lock-daemon-on-both",
    "ser-shared": "serial-shared",
    "ser-shared-append": "serial-shared-append",
}

# Between two releases, or about what the newer one has not got at all.
NOT_NEWEST = {
    "disk-io-uring": "from a newer to an older QEMU; within one release it is plain",
    "cpu-tcg-max-older": "from a newer to an older QEMU",
    "cpu-unknown-to-older": "from a newer to an older QEMU",
    "machine-too-new": "from a newer to an older QEMU",
    "machine-too-old": "from an older to a newer QEMU",
    "plain-older": "from a newer to an older QEMU",
    "plain-newer": "from an older to a newer QEMU",
    "spice-no-module": "the newer QEMU has no spice: `spice-gone-in-newer`",
    "older-drops-discard-no-unref": "from a newer to an older libvirt",
    "older-drops-pstore": "from a newer to an older libvirt",
}

LESSER: dict[str, Any] = {"on_destination": (faults.lesser_cpu(),)}
NO_HUGETLBFS = faults.shell(
    "no hugetlbfs",
    f"umount /dev/hugepages\n{faults.RESTART_LIBVIRTD}",
    back=f"mount -t hugetlbfs -o pagesize=2M hugetlbfs /dev/hugepages\n{faults.RESTART_LIBVIRTD}",
)
# What is another there: hosts that are of an older release, and words.
OTHERWISE: dict[str, dict[str, Any]] = {
    "cpu-host-model-lesser": LESSER,
    "cpu-passthrough-lesser": LESSER,
    "cpu-none-lesser": LESSER,
    "cpu-partial-lesser": LESSER,
    "cpu-full-lesser": LESSER,
    "cpu-other-model-lesser": LESSER,
    "pages-no-mount": {"on_destination": (NO_HUGETLBFS,)},
    # The newer release has no smaller firmware of its own.
    "firmware-other-size": {
        "on_destination": (faults.file(firmware.CODE, size="2M"), firmware.HAVE_VARS)
    },
    # Its machine may have 4096.
    "new-too-many-vcpus": {"guest": guest(machine="pc-q35-10.0", vcpus=4097, cpu=pieces.NAMED)},
    # Since libvirt 10 and virtiofsd 1.11 it moves: what the guest has open goes along.
    "virtiofs": {
        "expect": "migrates",
        "checks": (),
        "says": "",
        "told_from": "libvirt",
        "unsure_ok": "only the running QEMU knows whether its virtiofsd can hand over",
    },
    "disk-unreadable": {"on_destination": (faults.qemu_user("libvirt-qemu", ownership=0),)},
}

NAMED = {
    scenario.id: scenario
    for family in (
        *(pairs, cpu, machine, memory, numa, disks, storage, nics, firmware, devices, tenants),
        *(options, versions, nowhere),
    )
    for scenario in family.SCENARIOS
}
SCENARIOS: tuple[Scenario, ...] = tuple(
    newest(NAMED[name], **OTHERWISE.get(name, {}))
    for name in SCENARIO_BY_CLASS.values()
    if name not in NOT_NEWEST
)
