"""The hosts and guests that are examined: recordings of real ones, or a stand-in while none are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from virt_preflight.agent.sources import Absent, FileStat, SourceError, User
from virt_preflight.agent.sources.recording import INDEX, Recording, load, save

RECORDINGS = Path(__file__).parents[1] / "recordings"
QEMU = "/usr/bin/qemu-system-x86_64"
UUID = "6a1f6c2e-0c1e-4a36-9a53-0d6b1c7e3f10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """Directories that `virt-preflight-agent replay` takes, and domain XML by name."""

    hosts: tuple[Path, ...]
    guests: dict[str, bytes]
    missing: str = ""


def examined(scratch: Path) -> Examined:
    """What there is; what is missing is stood in for, in `scratch`, and named."""
    hosts = tuple(sorted(index.parent for index in RECORDINGS.glob(f"*/{INDEX}")))
    guests = {path.stem: path.read_bytes() for path in sorted(RECORDINGS.glob("guests/*.xml"))}
    missing = [
        what
        for what, found in (("tests/recordings/<host>/", hosts), ("guests/*.xml", guests))
        if not found
    ]
    if not hosts:
        save(stand_in(), scratch / "stand-in")
        hosts = (scratch / "stand-in",)
    return Examined(
        hosts=hosts,
        guests=guests or {"stand-in": GUEST},
        missing=f"no {' and no '.join(missing)}: a stand-in is examined" if missing else "",
    )


def loaded(hosts: tuple[Path, ...]) -> list[Recording]:
    return [load(directory) for directory in hosts]


def stand_in() -> Recording:
    """A host of two cells and 64 CPUs, with a bridge, huge pages and 200 guests."""
    answers: dict[tuple[str, ...], object | SourceError] = {
        ("libvirt", "version"): json.dumps({"libvirt": 11_003_000, "qemu": 10_000_002}),
        ("libvirt", "hostname"): "stand-in.example",
        ("libvirt", "capabilities"): CAPABILITIES,
        ("libvirt", "domains"): json.dumps([_resident(number) for number in range(200)]),
        ("libvirt", "networks"): "[]",
        ("libvirt", "pools"): "[]",
        ("libvirt", "secrets"): "[]",
        ("libvirt", "nwfilters"): "[]",
        ("libvirt", "node-devices"): "[]",
        ("libvirt", "free-pages"): json.dumps({"0": {"2048": 4096}, "1": {"2048": 4096}}),
        ("names", "/sys/devices/system/node"): ("node0", "node1", "online"),
        ("text", "/sys/devices/system/cpu/online"): "0-63\n",
        ("text", "/sys/devices/system/cpu/possible"): "0-63\n",
        ("text", "/proc/meminfo"): MEMINFO,
        ("text", "/proc/cpuinfo"): "processor\t: 0\nflags\t\t: fpu vme avx avx2\n\n" * 64,
        ("text", "/proc/sys/vm/overcommit_memory"): "0\n",
        ("text", "/etc/libvirt/qemu.conf"): "# as it was delivered\n" * 800,
        ("open_vswitch",): Absent("no Open vSwitch"),
        ("user", "libvirt-qemu", ""): User(name="libvirt-qemu", uid=64055, gid=64055),
        ("stat", QEMU): FileStat(
            kind="file", size_bytes=20 << 20, mode=0o755, uid=0, gid=0, device=1, inode=2
        ),
        ("names", "/sys/class/net"): ("br-prod", "eth0", "lo"),
    }
    for architecture in ("", "x86_64"):
        for machine in ("", "q35", "pc-q35-7.2"):
            for virt_type in ("", "kvm"):
                question = ("domain-capabilities", QEMU, architecture, machine, virt_type)
                answers["libvirt", *question] = DOMAIN_CAPABILITIES
    for cell in (0, 1):
        node = f"/sys/devices/system/node/node{cell}"
        answers["text", f"{node}/meminfo"] = MEMINFO
        answers["text", f"{node}/cpulist"] = f"{32 * cell}-{32 * cell + 31}\n"
        answers["names", f"{node}/hugepages"] = ("hugepages-2048kB",)
        answers["text", f"{node}/hugepages/hugepages-2048kB/nr_hugepages"] = "8192\n"
        answers["text", f"{node}/hugepages/hugepages-2048kB/free_hugepages"] = "4096\n"
    return Recording(
        host="stand-in", recorded_at="2026-11-23T10:00:00Z", agent_version="0", answers=answers
    )


def _resident(number: int) -> dict[str, object]:
    return {
        "name": f"guest{number}",
        "uuid": f"00000000-0000-4000-8000-{number:012}",
        "id": number + 1,
        "state": "running",
        "persistent": True,
    }


MEMINFO = """MemTotal:       268435456 kB
MemFree:        134217728 kB
MemAvailable:   150994944 kB
SwapTotal:       8388608 kB
SwapFree:        8388608 kB
HugePages_Total:    8192
HugePages_Free:     4096
Hugepagesize:       2048 kB
"""

CAPABILITIES = f"""<capabilities><host><uuid>{UUID}</uuid><cpu><arch>x86_64</arch>
<model>EPYC-Milan</model><vendor>AMD</vendor>{"<feature name='x'/>" * 120}</cpu><topology>
<cells num='2'>{
    "".join(
        f"<cell id='{cell}'><memory unit='KiB'>134217728</memory><cpus num='32'>"
        + "".join(
            f"<cpu id='{32 * cell + cpu}' socket_id='{cell}' core_id='{cpu}' siblings='{cpu}'/>"
            for cpu in range(32)
        )
        + "</cpus></cell>"
        for cell in range(2)
    )
}</cells></topology></host><guest><os_type>hvm</os_type><arch name='x86_64'><wordsize>64</wordsize>
<emulator>{QEMU}</emulator><machine maxCpus='288'>pc-q35-7.2</machine><domain type='qemu'/>
<domain type='kvm'/></arch></guest></capabilities>"""

DOMAIN_CAPABILITIES = f"""<domainCapabilities><path>{QEMU}</path><domain>kvm</domain>
<machine>pc-q35-7.2</machine><arch>x86_64</arch><vcpu max='288'/><iothreads supported='yes'/>
<os supported='yes'><enum name='firmware'><value>efi</value></enum></os><cpu>
<mode name='host-passthrough' supported='yes'/><mode name='maximum' supported='yes'/>
<mode name='host-model' supported='yes'><model fallback='forbid'>EPYC-Milan</model>
<vendor>AMD</vendor>{
    "".join(f"<feature policy='require' name='feature{number}'/>" for number in range(60))
}</mode><mode name='custom' supported='yes'>{
    "".join(
        f"<model usable='no' vendor='Intel'>Model{number}</model><blockers model='Model{number}'>"
        "<feature name='hle'/><feature name='rtm'/></blockers>"
        for number in range(120)
    )
}<model usable='yes' vendor='AMD'>EPYC-Milan</model></mode></cpu></domainCapabilities>"""

GUEST = f"""<domain type='kvm'><name>db1</name><uuid>{UUID}</uuid><memory unit='GiB'>8</memory>
<currentMemory unit='GiB'>8</currentMemory><memoryBacking><hugepages><page size='2' unit='M'/>
</hugepages></memoryBacking><vcpu placement='static' cpuset='0-15'>4</vcpu><cputune>{
    "".join(f"<vcpupin vcpu='{number}' cpuset='{number}'/>" for number in range(4))
}</cputune><numatune><memory mode='strict' nodeset='0'/></numatune>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><features><acpi/><apic/></features>
<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>EPYC-Milan</model>{
    "".join(f"<feature policy='require' name='feature{number}'/>" for number in range(60))
}</cpu><clock offset='utc'><timer name='tsc' present='yes'/></clock><devices>
<emulator>{QEMU}</emulator>{
    "".join(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>"
        f"<source file='/var/lib/libvirt/images/db1-{number}.qcow2'/>"
        f"<target dev='vd{letter}' bus='virtio'/></disk>"
        for number, letter in enumerate("abcdef")
    )
}{
    "".join(
        f"<interface type='bridge'><mac address='52:54:00:aa:bb:0{number}'/>"
        "<source bridge='br-prod'/><model type='virtio'/></interface>"
        for number in range(4)
    )
}<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/></devices></domain>""".encode()
