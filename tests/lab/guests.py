"""Guests as plain facts, turned into domain XML; with no system inside they live in their firmware.

Such a guest migrates like any other, starts in half a second, and needs 64 MiB.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import quoteattr

from tests.lab.hosts import NAMESPACE, Host, Lab, attempt_on, run_on
from tests.lab.machine import LabError, Ran

IMAGES = "/var/lib/libvirt/images"  # each host's own
SHARED = "/srv/shared"  # one directory for all hosts, though libvirt cannot tell
CLUSTER = "/srv/cluster"  # the same behind FUSE, as a file system that libvirt knows to be shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk whose file is made before the guest starts; `on` says where."""

    path: str
    format: Literal["qcow2", "raw"] = "qcow2"
    size_mib: int = 16
    target: str = "vda"
    bus: str = "virtio"
    device: Literal["disk", "cdrom", "floppy"] = "disk"
    cache: str = "none"
    on: Literal["source", "both", "nowhere"] = "source"  # a shared path is made once, by the source
    mode: Literal["", "readonly", "shareable"] = ""
    startup_policy: Literal["", "mandatory", "requisite", "optional"] = ""
    backing: str = ""  # another file, qcow2, made beside it
    luks_secret: str = ""
    inside_source: str = ""
    inside: str = ""
    driver: str = ""  # its further attributes
    inside_driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A network interface."""

    bridge: str = ""
    network: str = ""
    portgroup: str = ""
    mtu: int = 0
    nwfilter: str = ""
    model: str = "virtio"
    driver: str = ""
    inside: str = ""
    whole: str = ""  # instead of all above: the element as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What a guest is made of; the parts that scenarios vary have names, the rest is XML."""

    name: str
    memory_mib: int = 64
    vcpus: int = 1
    vcpu_attributes: str = ""
    machine: str = "pc-q35-7.2"
    accelerator: Literal["", "kvm", "tcg"] = ""  # what the lab has
    cpu: str = "host-model"  # a mode, a model, or a whole <cpu> element
    emulator: str = "/usr/bin/qemu-system-x86_64"
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    os: str = ""
    os_attributes: str = ""
    features: str = "<acpi/>"
    clock: str = ""
    devices: str = ""
    top: str = ""  # elements beside <memory>
    root_attributes: str = ""


def uuid_of(guest: Guest) -> str:
    return str(uuid.uuid5(NAMESPACE, f"guest {guest.name}"))


def domain_xml(guest: Guest, lab: Lab) -> str:
    """The guest's domain XML, with the accelerator of this lab where it has no wish of its own."""
    accelerator = guest.accelerator or lab.accelerator
    kind = "kvm" if accelerator == "kvm" else "qemu"
    disks = "".join(disk_xml(disk) for disk in guest.disks)
    nics = "".join(nic_xml(nic, mac(guest, at)) for at, nic in enumerate(guest.nics))
    return f"""<domain type='{kind}'{guest.root_attributes}>
<name>{guest.name}</name><uuid>{uuid_of(guest)}</uuid>
<memory unit='MiB'>{guest.memory_mib}</memory>
<vcpu{guest.vcpu_attributes}>{guest.vcpus}</vcpu>
{guest.top}
<os{guest.os_attributes}><type arch='x86_64' machine='{guest.machine}'>hvm</type>{guest.os}</os>
<features>{guest.features}</features>
{cpu_xml(guest.cpu)}
{guest.clock}
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>{guest.emulator}</emulator>
{disks}{nics}
<controller type='usb' model='none'/><memballoon model='none'/>
{guest.devices}
</devices>
</domain>
"""


def cpu_xml(cpu: str) -> str:
    if cpu.startswith("<"):
        return cpu
    if cpu == "":
        return ""
    if cpu in ("host-model", "host-passthrough", "maximum"):
        return f"<cpu mode='{cpu}'/>"
    return f"<cpu mode='custom' match='exact' check='none'><model>{cpu}</model></cpu>"


def disk_xml(disk: Disk) -> str:
    policy = f" startupPolicy='{disk.startup_policy}'" if disk.startup_policy else ""
    secret = (
        f"<encryption format='luks'><secret type='passphrase' uuid='{disk.luks_secret}'/>"
        "</encryption>"
        if disk.luks_secret
        else ""
    )
    mode = f"<{disk.mode}/>" if disk.mode else ""
    cache = f" cache='{disk.cache}'" if disk.cache else ""
    return (
        f"<disk type='file' device='{disk.device}'>"
        f"<driver name='qemu' type='{disk.format}'{cache}{disk.driver}>"
        f"{disk.inside_driver}</driver>"
        f"<source file={quoteattr(disk.path)}{policy}>{disk.inside_source}{secret}</source>"
        f"<target dev='{disk.target}' bus='{disk.bus}'/>{mode}{disk.inside}</disk>\n"
    )


def nic_xml(nic: Nic, address: str) -> str:
    if nic.whole:
        return nic.whole
    if nic.bridge:
        kind, source = "bridge", f"<source bridge='{nic.bridge}'/>"
    else:
        group = f" portgroup='{nic.portgroup}'" if nic.portgroup else ""
        kind, source = "network", f"<source network='{nic.network}'{group}/>"
    mtu = f"<mtu size='{nic.mtu}'/>" if nic.mtu else ""
    sifter = f"<filterref filter='{nic.nwfilter}'/>" if nic.nwfilter else ""
    # Without a boot ROM: a guest with nothing to boot would try the network, and a boot ROM's
    # file is one more thing that could differ between releases.
    return (
        f"<interface type='{kind}'><mac address='{address}'/>{source}"
        f"<model type='{nic.model}'/>{nic.driver}{mtu}{sifter}<rom enabled='no'/>{nic.inside}"
        "</interface>\n"
    )


def mac(guest: Guest, at: int) -> str:
    octets = hashlib.sha256(f"{guest.name} {at}".encode()).digest()[:3]
    return "52:54:00:" + ":".join(f"{octet:02x}" for octet in octets)


# --------------------------------------------------------------------------------- their files


def making(disk: Disk) -> str:
    """The shell lines that make a disk's file, its whole chain and all."""
    size = f"{disk.size_mib}M"
    lines = [f"mkdir -p {disk.path.rpartition('/')[0]}"]
    create = "qemu-img create -q -f"
    if disk.luks_secret:
        # QEMU times itself at this, and fails when the machine is too busy to be timed.
        once = (
            f"{create} {disk.format} --object secret,id=s,data=lab "
            + (
                "-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 "
                if disk.format == "qcow2"
                else ""
            )
            + f"{disk.path} {size}"
        )
        lines.append(f"for _ in 1 2 3 4 5 6; do {once} && break || rm -f {disk.path}; done")
        lines.append(f"[ -e {disk.path} ]")
    elif disk.backing:
        lines.append(f"mkdir -p {disk.backing.rpartition('/')[0]}")
        lines.append(f"[ -e {disk.backing} ] || {create} qcow2 {disk.backing} {size}")
        lines.append(f"{create} {disk.format} -b {disk.backing} -F qcow2 {disk.path}")
    elif disk.format == "raw":
        lines.append(f"truncate -s {size} {disk.path}")
    else:
        lines.append(f"{create} {disk.format} {disk.path} {size}")
    return "\n".join(lines)


def files_of(disk: Disk) -> tuple[str, ...]:
    """What making it left, wherever that is by then."""
    return (disk.path, disk.backing) if disk.backing else (disk.path,)


# ------------------------------------------------------------------------------------ their life


def start(host: Host, guest: Guest, lab: Lab) -> None:
    """Start the guest (its disks exist already) and wait until it runs."""
    xml = f"/tmp/{guest.name}.xml"
    (host.files / xml.lstrip("/")).write_text(domain_xml(guest, lab))
    run_on(host, ["virsh", "-q", "create", xml], within_s=60)
    (host.files / xml.lstrip("/")).unlink()
    until = time.monotonic() + 10
    while (state := state_of(host, guest.name)) != "running":
        if time.monotonic() > until or state == "absent":
            raise LabError(f"{guest.name} does not run on {host.name} but is {state}")
        time.sleep(0.05)


def state_of(host: Host, name: str) -> str:
    """`running`, `paused`, ... as virsh says it, or `absent`."""
    ran = attempt_on(host, ["virsh", "-q", "domstate", name], within_s=20)
    return ran.out.strip() if ran.code == 0 else "absent"


def migrate(
    source: Host,
    destination: Host,
    name: str,
    *options: str,
    mode: tuple[str, ...] = ("--live", "--p2p"),
    within_s: float = 30,
) -> Ran:
    """What it is all about: the real migration, as an operator runs it."""
    own = () if "--desturi" in options else (f"qemu+tcp://{destination.name}/system",)
    argv = ["virsh", "-q", "migrate", *mode, name, *own, *options]
    ran = attempt_on(source, argv, within_s=within_s)
    if ran.code is None:
        attempt_on(source, ["virsh", "-q", "domjobabort", name], within_s=10)
    return ran


def remove(host: Host, *names: str) -> None:
    """No such guests on that host any more, running or defined."""
    every = "--nvram --managed-save --snapshots-metadata --checkpoints-metadata"
    script = "".join(
        f"virsh -q destroy {name}; virsh -q undefine {name} {every}; " for name in names
    )
    attempt_on(host, ["sh", "-c", f"{{ {script} }} >/dev/null 2>&1"], within_s=60)
