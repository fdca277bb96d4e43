"""Pinning: the host CPUs that a guest's threads must run on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, have, need
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import Absent, Source
from virt_preflight.agent.xml import BadXml, Element, bitmap, number

CPUS = "/sys/devices/system/cpu"
# Where systemd puts guests; libvirt makes /machine itself where there is no systemd.
SLICE = "machine.slice"
REALTIME = ("fifo", "rr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Threads that may run on these host CPUs only."""

    subject: str
    cpus: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPinning:
    """Masks of the threads that start with the guest, and of vCPUs that may be plugged later."""

    now: tuple[Mask, ...]
    later: tuple[Mask, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestThreads:
    """How many vCPUs run."""

    vcpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRealtime:
    """Threads with a real-time scheduler, in the XML's words."""

    subjects: tuple[str, ...]


class Cpusets(Enum):
    """Whether libvirt writes a guest's masks into a cpuset cgroup, too."""

    USED = "used"
    UNUSED = "unused"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCpus:
    """CPUs by number. `allowed` are those online that guests may have; `possible` can ever be."""

    online: frozenset[int]
    possible: frozenset[int]
    allowed: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCgroups:
    """What libvirt does with cgroups here.

    `realtime_gated`: a group must be given real-time before its threads may have it.
    """

    cpusets: Cpusets
    realtime_gated: bool


@need
def guest_threads(domain: Domain) -> GuestThreads:
    """`<vcpu>` and `<vcpus>`."""
    return GuestThreads(vcpus=len(_online_vcpus(domain.root)))


@need
def guest_pinning(domain: Domain) -> GuestPinning | None:
    """The mask that each thread gets: its own pin, else `<vcpu cpuset>`.

    qemuDomainEvaluateCPUMask (qemu/qemu_domain.c). With placement='auto' numad chooses, and the
    cpuset is forgotten (virDomainVcpuParse).
    """
    root = domain.root
    vcpu = root.find("vcpu")
    cpuset = vcpu.get("cpuset") if vcpu is not None else None
    automatic = vcpu is not None and vcpu.get("placement") == "auto"
    default = bitmap(cpuset) if cpuset and not automatic else None
    running = _online_vcpus(root)
    vcpu_pins = _pins(root, "vcpupin", "vcpu")
    now = [(f"vCPU {vcpu_id}", vcpu_pins.get(vcpu_id, default)) for vcpu_id in sorted(running)]
    later = [(f"vCPU {vcpu_id}", cpus) for vcpu_id, cpus in vcpu_pins.items()]
    emulator = root.find("cputune/emulatorpin")
    emulator_cpus = bitmap(emulator.get("cpuset", "")) if emulator is not None else default
    now.append(("the emulator", emulator_cpus))
    io_pins = _pins(root, "iothreadpin", "iothread")
    now += [(f"I/O thread {io}", io_pins.get(io, default)) for io in _iothreads(root)]
    masks = _grouped(now)
    plugged = {f"vCPU {vcpu_id}" for vcpu_id in running}
    masks_later = _grouped((subject, cpus) for subject, cpus in later if subject not in plugged)
    return GuestPinning(now=masks, later=masks_later) if masks or masks_later else None


def _grouped(threads: Iterable[tuple[str, frozenset[int] | None]]) -> tuple[Mask, ...]:
    """Threads of the same mask are one subject."""
    subjects: dict[frozenset[int], list[str]] = {}
    for subject, cpus in threads:
        if cpus is not None:
            subjects.setdefault(cpus, []).append(subject)
    return tuple(Mask(subject=", ".join(named), cpus=cpus) for cpus, named in subjects.items())


def _pins(root: Element, tag: str, key: str) -> dict[int, frozenset[int]]:
    return {
        number(pin, key): bitmap(pin.get("cpuset", "")) for pin in root.findall(f"cputune/{tag}")
    }


def _online_vcpus(root: Element) -> frozenset[int]:
    """The states of single vCPUs win over the number (virDomainVcpuParse)."""
    vcpu = root.find("vcpu")
    if vcpu is None:
        return frozenset({0})
    maximum = number(vcpu)
    if maximum > 16384:
        raise BadXml(f"line {vcpu.sourceline}: {maximum} vCPUs")
    single = root.findall("vcpus/vcpu")
    if single:
        return frozenset(number(one, "id") for one in single if one.get("enabled") == "yes")
    return frozenset(range(number(vcpu, "current") if vcpu.get("current") else maximum))


def _iothreads(root: Element) -> list[int]:
    """Ids are given, or count from 1 (virDomainIOThreadIDArrayInit)."""
    given = [number(thread, "id") for thread in root.findall("iothreadids/iothread")]
    told = root.find("iothreads")
    missing = (min(number(told), 16384) if told is not None else 0) - len(given)
    free = (candidate for candidate in range(1, 32768) if candidate not in given)
    return sorted([*given, *(next(free) for _ in range(max(0, missing)))])


@need
def guest_realtime(domain: Domain) -> GuestRealtime | None:
    """`<vcpusched>` and `<iothreadsched>`; the emulator's own is not set at start."""
    found = [
        f"{tag} {scheduler}"
        for tag in ("vcpusched", "iothreadsched")
        for element in domain.root.findall(f"cputune/{tag}")
        if (scheduler := element.get("scheduler")) in REALTIME
    ]
    return GuestRealtime(subjects=tuple(found)) if found else None


@have(Pace.MOVING)
def host_cpus(source: Source) -> HostCpus:
    """From sysfs, and the cgroup that guests are in."""
    online = bitmap(source.text(f"{CPUS}/online").strip())
    allowed = online
    try:
        effective = source.text(f"/sys/fs/cgroup/{SLICE}/cpuset.cpus.effective").strip()
        if effective:
            allowed = online & bitmap(effective)
    except Absent:
        pass
    possible = bitmap(source.text(f"{CPUS}/possible").strip())
    return HostCpus(online=online, possible=possible, allowed=allowed)


@have(Pace.FIXED)
def host_cgroups(source: Source, conf: QemuConf) -> HostCgroups:
    """The controllers that are mounted (v1) or that guests' groups get (v2), and qemu.conf's own.

    Without cgroup_controllers in qemu.conf libvirt uses what is there (virQEMUDriverConfigNew).
    """
    setting = conf.value_by_key.get("cgroup_controllers")
    allowed = None if setting is None else set(re.findall(r"\w+", setting))
    cpusets = Cpusets.UNUSED
    gated = False
    for line in source.text("/proc/mounts").splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        path, kind, options = fields[1], fields[2], fields[3].split(",")
        if kind == "cgroup":
            if "cpuset" in options:
                cpusets = Cpusets.USED
            if "cpu" in options and (allowed is None or "cpu" in allowed):
                gated = _there(source, f"{path}/cpu.rt_runtime_us")
        elif kind == "cgroup2" and cpusets is Cpusets.UNUSED:
            cpusets = _cpusets_v2(source, path)
    if allowed is not None and "cpuset" not in allowed:
        cpusets = Cpusets.UNUSED
    return HostCgroups(cpusets=cpusets, realtime_gated=gated)


def _there(source: Source, path: str) -> bool:
    try:
        source.text(path)
    except Absent:
        return False
    return True


def _cpusets_v2(source: Source, path: str) -> Cpusets:
    """Guests' slice is made with the first guest, and has what its parent hands down."""
    try:
        if "cpuset" in source.text(f"{path}/{SLICE}/cgroup.controllers").split():
            return Cpusets.USED
    except Absent:
        pass
    try:
        offered = source.text(f"{path}/cgroup.controllers").split()
    except Absent:
        return Cpusets.UNUSED
    return Cpusets.UNCLEAR if "cpuset" in offered else Cpusets.UNUSED


def numbers(members: Iterable[int]) -> str:
    """As libvirt writes a set: "0-3,8"."""
    runs: list[list[int]] = []
    for member in sorted(members):
        if runs and member == runs[-1][-1] + 1:
            runs[-1][1:] = [member]
        else:
            runs.append([member])
    return ",".join("-".join(map(str, run)) for run in runs)


@check(
    "pinning.cpu-absent",
    Severity.BLOCKER,
    title="pinned CPUs absent",
    remedy="Pin the guest to CPUs of this host: virsh migrate --xml with other pins.",
)
def cpu_absent(guest: GuestPinning, host: HostCpus) -> Problems:
    """Each thread that starts with the guest needs one CPU of its mask online.

    That is the emulator, running vCPUs and I/O threads; vCPUs that are not plugged in do not count.
    Error: "cannot set CPU affinity on process 71: Invalid argument" (virProcessSetAffinity), or
    "Unable to write to '.../vcpu0/cpuset.cpus': Numerical result out of range".
    """
    for mask in guest.now:
        if not mask.cpus & host.allowed:
            yield _problem(mask, host)


@check(
    "pinning.some-cpus-missing",
    Severity.RISK,
    title="some pinned CPUs missing",
    remedy="Pin the guest to CPUs of this host: virsh migrate --xml with other pins.",
)
def some_cpus_missing(guest: GuestPinning, host: HostCpus, cgroups: HostCgroups) -> Problems:
    """A mask of which a part is there leaves the thread fewer CPUs than it was meant to have.

    sched_setaffinity(2) takes such a mask silently. But where libvirt keeps guests in cpuset
    cgroups, as it mostly does, the kernel takes no number there that can never be a CPU of this
    host: then it blocks. Error (tried): "Unable to write to '.../vcpu0/cpuset.cpus': Numerical
    result out of range" (virCgroupSetValueRaw, util/vircgroup.c).
    """
    for mask in guest.now:
        if not mask.cpus & host.allowed or mask.cpus <= host.online:
            continue
        if mask.cpus <= host.possible:
            yield _problem(mask, host)
            continue
        match cgroups.cpusets:
            case Cpusets.USED:
                yield _problem(mask, host, Severity.BLOCKER)
            case Cpusets.UNUSED:
                yield _problem(mask, host)
            case Cpusets.UNCLEAR:
                yield _problem(mask, host)
                yield CouldNotTell(
                    subject=mask.subject,
                    why="whether libvirt keeps guests in cpuset cgroups here, which would refuse"
                    f" CPU {numbers(mask.cpus - host.possible)}",
                )


@check(
    "pinning.vcpu-cannot-be-plugged",
    Severity.RISK,
    title="a vCPU could not be plugged in later",
    remedy="Give the vCPU another pin before it is plugged in: virsh vcpupin.",
    phase=Phase.AFTER,
)
def vcpu_cannot_be_plugged(guest: GuestPinning, host: HostCpus) -> Problems:
    """A vCPU that is not plugged in now gets its pin when it is, and libvirt does not look before.

    Tried: the guest moves, and `virsh setvcpus` fails with "cannot set CPU affinity on process 140:
    Invalid argument".
    """
    for mask in guest.later:
        if not mask.cpus & host.allowed:
            yield _problem(mask, host)


@check(
    "pinning.more-vcpus-than-cpus",
    Severity.RISK,
    title="more vCPUs than CPUs",
    remedy="Choose a host with more CPUs.",
    phase=Phase.AFTER,
)
def more_vcpus_than_cpus(guest: GuestThreads, host: HostCpus) -> Problems:
    """libvirt does not mind; vCPUs of one guest then wait for one another while they hold locks."""
    if guest.vcpus > len(host.allowed):
        yield Problem(
            subject="vCPUs",
            wanted=f"{guest.vcpus} CPUs",
            found=f"{len(host.allowed)} for guests",
        )


@check(
    "pinning.no-realtime",
    Severity.BLOCKER,
    title="no real-time scheduling",
    remedy="Boot the host with cgroup v2, or a kernel without CONFIG_RT_GROUP_SCHED.",
)
def no_realtime(guest: GuestRealtime, cgroups: HostCgroups) -> Problems:
    """With CONFIG_RT_GROUP_SCHED and cgroup v1 a new group has no real-time, and libvirt asks none.

    Error (tried): "Cannot set scheduler parameters for pid 293: Operation not permitted"
    (virProcessSetScheduler, util/virprocess.c).
    """
    if cgroups.realtime_gated:
        for subject in guest.subjects:
            yield Problem(
                subject=subject,
                wanted="real-time for the guest's cgroup",
                found="cgroup v1 with cpu.rt_runtime_us: 0 for new groups",
            )


def _problem(mask: Mask, host: HostCpus, severity: Severity | None = None) -> Problem:
    return Problem(
        subject=mask.subject,
        wanted=f"CPU {numbers(mask.cpus)}",
        found=f"CPUs {numbers(host.allowed)} for guests"
        if host.allowed != host.online
        else f"CPUs {numbers(host.online)} online",
        severity=severity,
    )
