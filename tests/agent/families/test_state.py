import json

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.families.state import (
    GuestClock,
    GuestCondition,
    GuestConfidential,
    GuestHypervPassthrough,
    GuestLooseMemory,
    GuestUnmigratable,
    HostClock,
    block_job,
    confidential,
    custom_monitor,
    dimm_without_address,
    guest_clock,
    guest_condition,
    guest_confidential,
    guest_hyperv_passthrough,
    guest_loose_memory,
    guest_unmigratable,
    host_clock,
    hyperv_passthrough,
    invariant_tsc,
    io_error,
    job,
    not_running,
    shared_memory,
    snapshots,
    unmigratable_device,
)
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.report import Severity

UUID = "c2177883-f1bb-47f0-914d-32a22e3a8804"
KNOWN = HostVersions(libvirt=11_003_000, qemu=10_000_002)
NEWER = HostVersions(libvirt=12_000_000, qemu=10_001_000)


def problems(yielded: Problems) -> list[Problem]:
    found = list(yielded)
    assert all(isinstance(one, Problem) for one in found), found
    return [one for one in found if isinstance(one, Problem)]


def unclear(yielded: Problems) -> list[CouldNotTell]:
    return [one for one in yielded if isinstance(one, CouldNotTell)]


def domain(inside: str, *, virt_type: str = "kvm") -> Domain:
    return read_domain(
        f"<domain type='{virt_type}'><name>g</name><uuid>{UUID}</uuid>{inside}</domain>"
    )


def condition(**told: object) -> GuestCondition:
    calm: dict[str, object] = {
        "name": "g",
        "state": "running",
        "reason": "",
        "snapshots": 0,
        "block_jobs": (),
        "job": "",
    }
    return GuestCondition(**{**calm, **told})  # type: ignore[arg-type]


UNTOLD = condition(state=None, reason=None, snapshots=None, block_jobs=None, job=None)


def asked(told: object, inside: str = "") -> GuestCondition:
    source = FakeSource(answers={("domain-jobs", UUID): json.dumps(told)})
    return guest_condition(source, domain(inside))


def test_what_libvirt_says_of_the_moment_is_read() -> None:
    told = {"snapshots": 2, "block_jobs": ["vda"], "job": "backup", "state": "paused"}
    assert asked({**told, "reason": "ioerror"}) == condition(
        state="paused", reason="ioerror", snapshots=2, block_jobs=("vda",), job="backup"
    )


def test_what_libvirt_does_not_say_is_not_made_up() -> None:
    assert asked({}) == UNTOLD


def test_a_mirror_in_the_live_xml_is_a_block_job() -> None:
    mirror = "<devices><disk><target dev='vdb'/><mirror job='copy' ready='yes'/></disk></devices>"
    assert asked({}, mirror).block_jobs == ("vdb",)
    assert asked({"block_jobs": ["vdb"]}, mirror).block_jobs == ("vdb",)


def test_a_guest_that_is_shut_off_is_not_moved_live() -> None:
    (problem,) = problems(not_running(condition(state="shut off")))
    assert problem.found == "shut off"
    assert unclear(not_running(UNTOLD))


def test_a_paused_guest_runs_well_enough() -> None:
    assert not list(not_running(condition(state="paused")))


def test_snapshots_are_counted() -> None:
    (problem,) = problems(snapshots(condition(snapshots=3, name="my guest")))
    assert problem.found == "3"
    assert problem.commands[0] == "virsh snapshot-list --name 'my guest'"
    assert snapshots.offline


def test_no_snapshots_no_trouble_and_an_untold_number_is_left_open() -> None:
    assert not list(snapshots(condition()))
    assert unclear(snapshots(UNTOLD))


def test_a_block_job_is_named_by_its_disk() -> None:
    (problem,) = problems(block_job(condition(block_jobs=("vda",))))
    assert problem.subject == "disk vda"
    assert unclear(block_job(UNTOLD))


def test_without_block_job_the_guest_may_go() -> None:
    assert not list(block_job(condition()))


def test_a_migration_or_a_backup_holds_the_guest() -> None:
    (problem,) = problems(job(condition(job="migration-out")))
    assert problem.severity is None
    (problem,) = problems(job(condition(job="backup")))
    assert problem.severity is None


def test_a_job_that_ends_soon_is_a_risk() -> None:
    (problem,) = problems(job(condition(job="dump")))
    assert problem.severity is Severity.RISK


def test_no_job_holds_nobody() -> None:
    assert not list(job(condition()))
    assert unclear(job(UNTOLD))


def test_a_guest_stopped_by_its_disk_is_told() -> None:
    assert problems(io_error(condition(state="paused", reason="ioerror")))


def test_a_guest_paused_by_its_operator_is_fine() -> None:
    assert not list(io_error(condition(state="paused")))


INVTSC = "<cpu mode='custom'><feature policy='require' name='invtsc'/></cpu>"
NO_MIGRATION = "<cpu mode='host-passthrough' check='none' migratable='off'/>"


def test_an_invariant_tsc_is_read_from_the_live_cpu() -> None:
    assert guest_clock(domain(INVTSC)) == GuestClock(demanded=True, passed_through=False)
    assert guest_clock(domain(NO_MIGRATION)) == GuestClock(demanded=False, passed_through=True)


def test_a_clock_that_migrates_is_none() -> None:
    frequency = "<clock><timer name='tsc' frequency='2400000000'/></clock>"
    assert guest_clock(domain(INVTSC + frequency)) is None
    assert guest_clock(domain("<cpu mode='host-passthrough' migratable='on'/>")) is None
    assert guest_clock(domain(NO_MIGRATION, virt_type="qemu")) is None
    assert guest_clock(domain(INVTSC.replace("require", "disable"))) is None
    assert guest_clock(domain("")) is None


def test_the_hosts_clock_is_read_from_its_flags() -> None:
    flags = "processor\t: 0\nflags\t\t: fpu constant_tsc nonstop_tsc cpuid\n"
    assert host_clock(FakeSource(texts={"/proc/cpuinfo": flags})).invariant
    assert not host_clock(FakeSource(texts={"/proc/cpuinfo": "flags : fpu\n"})).invariant


def test_invtsc_without_frequency_holds_the_guest() -> None:
    assert problems(
        invariant_tsc(GuestClock(demanded=True, passed_through=False), HostClock(invariant=False))
    )
    assert problems(
        invariant_tsc(GuestClock(demanded=False, passed_through=True), HostClock(invariant=True))
    )


def test_a_host_without_invariant_tsc_passes_none_through() -> None:
    passing = GuestClock(demanded=False, passed_through=True)
    assert not list(invariant_tsc(passing, HostClock(invariant=False)))


def capabilities(*features: str, told: bool = True) -> SeenCapabilities:
    return SeenCapabilities(
        emulator="",
        architecture="x86_64",
        machine="",
        virt_type="kvm",
        vcpus_maximum=None,
        supported={},
        values={"features/hyperv/features": frozenset(features)} if told else {},
        cpu_mode_supported={},
        host_model=None,
        cpu_model_by_name={},
    )


def test_hyperv_passthrough_holds_where_kvm_offers_hyperv() -> None:
    guest = guest_hyperv_passthrough(domain("<features><hyperv mode='passthrough'/></features>"))
    assert guest is not None
    assert problems(hyperv_passthrough(guest, capabilities("spinlocks", "vendor_id", "vapic")))
    assert unclear(hyperv_passthrough(guest, capabilities(told=False)))


def test_hyperv_passthrough_of_nothing_holds_nobody() -> None:
    guest = GuestHypervPassthrough()
    assert not list(hyperv_passthrough(guest, capabilities("spinlocks", "vendor_id")))
    assert guest_hyperv_passthrough(domain("<features><hyperv mode='custom'/></features>")) is None


def test_a_confidential_guest_stays() -> None:
    guest = guest_confidential(domain("<launchSecurity type='sev-snp'/>"))
    assert guest == GuestConfidential(technology="sev-snp")
    assert problems(confidential(guest, KNOWN))


def test_a_protected_guest_of_s390_is_left_to_qemu() -> None:
    assert unclear(confidential(GuestConfidential(technology="s390-pv"), KNOWN))
    assert unclear(confidential(GuestConfidential(technology="sev"), NEWER))
    assert guest_confidential(domain("")) is None


DEVICES = """<devices>
<channel type='qemu-vdagent'><target type='virtio' name='com.redhat.spice.0'/></channel>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<sound model='usb'/><sound model='ich9'/><sound model='virtio'/>
<crypto model='virtio' type='qemu'/><iommu model='amd'/><iommu model='virtio'/>
<input type='passthrough' bus='virtio'/><input type='tablet' bus='usb'/>
<serial type='pty'><target type='usb-serial'/></serial>
<interface type='user'><model type='usb-net'/></interface>
<disk><target dev='nvme0n1' bus='nvme'/></disk>
<video><model type='virtio'><acceleration accel3d='yes'/></model></video>
<video><model type='virtio'><acceleration accel3d='no'/></model></video>
</devices>"""


def test_devices_that_qemu_does_not_migrate_are_known_by_their_models() -> None:
    guest = guest_unmigratable(domain(DEVICES))
    assert guest == GuestUnmigratable(
        devices=(
            "channel qemu-vdagent",
            "sound usb",
            "sound virtio",
            "crypto virtio",
            "iommu amd",
            "input passthrough",
            "serial usb-serial",
            "interface usb-net",
            "disk nvme0n1 (nvme)",
            "video virtio with accel3d",
        )
    )
    assert len(problems(unmigratable_device(guest, KNOWN))) == 10


def test_a_qemu_newer_than_what_was_read_is_asked() -> None:
    guest = GuestUnmigratable(devices=("channel qemu-vdagent",))
    assert unclear(unmigratable_device(guest, NEWER))
    assert guest_unmigratable(domain("<devices><sound model='ich9'/></devices>")) is None


LOOSE = """<devices><memory model='dimm'><target/></memory>
<memory model='dimm'><address type='dimm' slot='0' base='0x100000000'/></memory>
<shmem name='a' role='peer'/><shmem name='b'/><shmem name='c' role='master'/></devices>"""


def test_loose_memory_is_read() -> None:
    assert guest_loose_memory(domain(LOOSE)) == GuestLooseMemory(
        dimms=(0,), role_by_shmem=(("a", "peer"), ("b", ""))
    )
    assert guest_loose_memory(domain("<devices><shmem name='c' role='master'/></devices>")) is None


def test_a_module_without_address_holds_the_guest() -> None:
    (problem,) = problems(dimm_without_address(GuestLooseMemory(dimms=(0,), role_by_shmem=())))
    assert problem.subject == "dimm 0"


def test_shared_memory_of_a_peer_holds_the_guest() -> None:
    guest = GuestLooseMemory(dimms=(), role_by_shmem=(("b", ""),))
    (problem,) = problems(shared_memory(guest))
    assert problem.found == "role peer (default)"
    assert not list(dimm_without_address(guest))


def test_modules_do_not_make_shared_memory() -> None:
    assert not list(shared_memory(GuestLooseMemory(dimms=(0,), role_by_shmem=())))


def test_a_qemu_that_was_given_commands_past_libvirt_may_have_what_nobody_knows() -> None:
    told = ("tainted: custom monitor control commands issued",)
    (problem,) = problems(custom_monitor(condition(messages=told)))
    assert problem.subject == "g"
    assert "what they did is not known" in problem.found
    assert custom_monitor.severity is Severity.RISK


def test_other_things_that_libvirt_holds_against_a_guest_are_no_commands() -> None:
    assert not list(custom_monitor(condition(messages=("tainted: running with high privileges",))))
    assert not list(custom_monitor(condition(messages=())))
    assert not list(custom_monitor(condition()))


def test_what_libvirt_holds_against_a_guest_is_read() -> None:
    assert asked({"messages": ["a", "b"]}).messages == ("a", "b")
    assert asked({"messages": []}).messages == ()
