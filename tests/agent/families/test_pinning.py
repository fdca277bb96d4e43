from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.pinning import (
    Cpusets,
    GuestPinning,
    GuestRealtime,
    GuestThreads,
    HostCgroups,
    HostCpus,
    Mask,
    cpu_absent,
    guest_pinning,
    guest_realtime,
    guest_threads,
    host_cgroups,
    host_cpus,
    more_vcpus_than_cpus,
    no_realtime,
    numbers,
    some_cpus_missing,
    vcpu_cannot_be_plugged,
)
from virt_preflight.agent.report import Severity

TWO = frozenset({0, 1})
HOST = HostCpus(online=TWO, possible=TWO, allowed=TWO)
CGROUPS = HostCgroups(cpusets=Cpusets.USED, realtime_gated=False)
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
V1 = """\
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""


def read(vcpu: str, tune: str = "", rest: str = "") -> GuestPinning | None:
    return guest_pinning(
        read_domain(f"<domain><name>g</name>{vcpu}{rest}<cputune>{tune}</cputune></domain>")
    )


def pinned(*cpus: int) -> GuestPinning:
    return GuestPinning(now=(Mask(subject="vCPU 0", cpus=frozenset(cpus)),))


def cgroups(
    mounts: str, conf: str | None = None, texts: Mapping[str, str] | None = None
) -> HostCgroups:
    setting = {} if conf is None else {"cgroup_controllers": conf}
    source = FakeSource(texts={"/proc/mounts": mounts, **(texts or {})})
    return host_cgroups(source, QemuConf(value_by_key=setting))


# ---------------------------------------------------------------------------------- what it needs


def test_a_guest_without_masks_is_not_pinned() -> None:
    assert read("<vcpu placement='static'>4</vcpu>") is None


def test_each_thread_has_its_pin_or_the_cpuset() -> None:
    found = read(
        "<vcpu placement='static' cpuset='5'>2</vcpu>",
        "<vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='1-2'/>"
        "<iothreadpin iothread='1' cpuset='0'/>",
        "<iothreads>2</iothreads>",
    )
    assert found == GuestPinning(
        now=(
            Mask(subject="vCPU 0, I/O thread 1", cpus=frozenset({0})),
            Mask(subject="vCPU 1, I/O thread 2", cpus=frozenset({5})),
            Mask(subject="the emulator", cpus=frozenset({1, 2})),
        )
    )


def test_a_cpuset_that_no_thread_uses_does_not_count() -> None:
    found = read(
        "<vcpu cpuset='5'>1</vcpu>",
        "<vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='0'/>",
    )
    assert found == GuestPinning(now=(Mask(subject="vCPU 0, the emulator", cpus=frozenset({0})),))


def test_vcpus_that_are_not_plugged_in_come_later() -> None:
    found = read("<vcpu current='1'>2</vcpu>", "<vcpupin vcpu='1' cpuset='7'/>")
    assert found == GuestPinning(now=(), later=(Mask(subject="vCPU 1", cpus=frozenset({7})),))


def test_a_cpuset_is_forgotten_where_numad_chooses() -> None:
    assert read("<vcpu placement='auto' cpuset='5'>1</vcpu>") is None


def test_running_vcpus_are_counted() -> None:
    def vcpus(xml: str) -> int:
        return guest_threads(read_domain(f"<domain><name>g</name>{xml}</domain>")).vcpus

    assert vcpus("") == 1
    assert vcpus("<vcpu>4</vcpu>") == 4
    assert vcpus("<vcpu current='2'>4</vcpu>") == 2
    each = "<vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no'/><vcpu id='2' enabled='yes'/>"
    assert vcpus(f"<vcpu current='2'>3</vcpu><vcpus>{each}</vcpus>") == 2


def test_realtime_of_vcpus_and_io_threads_counts() -> None:
    def realtime(tune: str) -> GuestRealtime | None:
        xml = f"<domain><name>g</name><cputune>{tune}</cputune></domain>"
        return guest_realtime(read_domain(xml))

    assert realtime("<vcpusched vcpus='0' scheduler='fifo' priority='1'/>") == GuestRealtime(
        subjects=("vcpusched fifo",)
    )
    assert realtime("<vcpusched vcpus='0' scheduler='batch'/>") is None
    assert realtime("<emulatorsched scheduler='fifo' priority='1'/>") is None


# ------------------------------------------------------------------------------- what the host has


def test_the_hosts_cpus_are_read_from_sysfs() -> None:
    cpu = "/sys/devices/system/cpu"
    texts = {f"{cpu}/online": "0-3\n", f"{cpu}/possible": "0-7\n"}
    assert host_cpus(FakeSource(texts=texts)) == HostCpus(
        online=frozenset(range(4)), possible=frozenset(range(8)), allowed=frozenset(range(4))
    )
    slice_cpus = {"/sys/fs/cgroup/machine.slice/cpuset.cpus.effective": "2-3\n"}
    assert host_cpus(FakeSource(texts=texts | slice_cpus)).allowed == {2, 3}


def test_cpuset_cgroups_of_the_first_version_are_used() -> None:
    assert cgroups(V1).cpusets is Cpusets.USED


def test_qemu_conf_may_forbid_them() -> None:
    assert cgroups(V1, "[ ]").cpusets is Cpusets.UNUSED
    assert cgroups(V1, '[ "cpu", "cpuset" ]').cpusets is Cpusets.USED


def test_the_second_version_is_known_by_the_guests_slice() -> None:
    inside = {"/sys/fs/cgroup/machine.slice/cgroup.controllers": "cpuset cpu io"}
    root = {"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io"}
    assert cgroups(V2, texts=inside).cpusets is Cpusets.USED
    assert cgroups(V2, texts=root).cpusets is Cpusets.UNCLEAR
    assert cgroups(V2).cpusets is Cpusets.UNUSED


def test_without_cgroups_nothing_is_written() -> None:
    assert cgroups("proc /proc proc rw 0 0\n").cpusets is Cpusets.UNUSED


def test_realtime_is_gated_by_the_first_version() -> None:
    gate = {"/sys/fs/cgroup/cpu,cpuacct/cpu.rt_runtime_us": "950000\n"}
    assert cgroups(V1, texts=gate).realtime_gated
    assert not cgroups(V1).realtime_gated
    assert not cgroups(V1, "[]", gate).realtime_gated


def test_numbers_are_written_as_libvirt_does() -> None:
    assert numbers({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8"
    assert numbers(()) == ""


# ----------------------------------------------------------------------------------------- checks


def test_no_cpu_of_the_mask_is_refused() -> None:
    assert list(cpu_absent(pinned(5), HOST)) == [
        Problem(subject="vCPU 0", wanted="CPU 5", found="CPUs 0-1 online")
    ]


def test_one_cpu_of_the_mask_is_enough_to_run() -> None:
    assert not list(cpu_absent(pinned(1, 5), HOST))


def test_cpus_that_guests_may_not_have_do_not_help() -> None:
    (problem,) = cpu_absent(pinned(0), replace(HOST, allowed=frozenset({1})))
    assert isinstance(problem, Problem)
    assert problem.found == "CPUs 1 for guests"


def test_a_mask_past_the_hosts_cpus_is_refused_by_cpuset_cgroups() -> None:
    (problem,) = some_cpus_missing(pinned(1, 5), HOST, CGROUPS)
    assert isinstance(problem, Problem)
    assert problem.severity is Severity.BLOCKER


def test_without_cpuset_cgroups_it_is_a_risk() -> None:
    (problem,) = some_cpus_missing(pinned(1, 5), HOST, replace(CGROUPS, cpusets=Cpusets.UNUSED))
    assert isinstance(problem, Problem)
    assert problem.severity is None


def test_where_nobody_knows_of_cpuset_cgroups_it_is_open() -> None:
    found = list(some_cpus_missing(pinned(1, 5), HOST, replace(CGROUPS, cpusets=Cpusets.UNCLEAR)))
    assert [type(item) for item in found] == [Problem, CouldNotTell]


def test_a_cpu_that_is_only_offline_is_a_risk() -> None:
    host = replace(HOST, possible=frozenset(range(8)))
    (problem,) = some_cpus_missing(pinned(1, 5), host, CGROUPS)
    assert isinstance(problem, Problem)
    assert problem.severity is None


def test_a_mask_that_is_all_there_is_fine() -> None:
    assert not list(some_cpus_missing(pinned(0, 1), HOST, CGROUPS))


def test_a_mask_of_which_nothing_is_there_is_said_once() -> None:
    assert not list(some_cpus_missing(pinned(5), HOST, CGROUPS))


def test_a_vcpu_that_comes_later_needs_its_cpus_then() -> None:
    guest = GuestPinning(now=(), later=(Mask(subject="vCPU 1", cpus=frozenset({7})),))
    (problem,) = vcpu_cannot_be_plugged(guest, HOST)
    assert isinstance(problem, Problem)


def test_a_vcpu_that_comes_later_does_not_stop_the_guest() -> None:
    guest = GuestPinning(now=(), later=(Mask(subject="vCPU 1", cpus=frozenset({7})),))
    assert not list(cpu_absent(guest, HOST))
    assert not list(vcpu_cannot_be_plugged(pinned(0), HOST))


def test_more_vcpus_than_cpus_is_a_risk() -> None:
    (problem,) = more_vcpus_than_cpus(GuestThreads(vcpus=8), HOST)
    assert problem == Problem(subject="vCPUs", wanted="8 CPUs", found="2 for guests")


def test_as_many_vcpus_as_cpus_are_fine() -> None:
    assert not list(more_vcpus_than_cpus(GuestThreads(vcpus=2), HOST))


def test_realtime_that_no_group_has_is_refused() -> None:
    guest = GuestRealtime(subjects=("vcpusched fifo",))
    assert list(no_realtime(guest, replace(CGROUPS, realtime_gated=True)))


def test_realtime_without_a_gate_is_fine() -> None:
    guest = GuestRealtime(subjects=("vcpusched fifo",))
    assert not list(no_realtime(guest, CGROUPS))
