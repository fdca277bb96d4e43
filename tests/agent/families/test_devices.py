from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.devices import (
    GuestLabels,
    GuestModels,
    GuestNodes,
    GuestOwner,
    GuestVsock,
    HostLocks,
    HostSecurity,
    HostVsock,
    SeenNodes,
    guest_labels,
    guest_models,
    guest_nodes,
    guest_owner,
    guest_vsock,
    host_locks,
    host_security,
    host_vsock,
    no_lock_daemon,
    no_security_model,
    no_such_user,
    no_vsock,
    node_absent,
    not_offered,
    seen_nodes,
    seen_owner,
    vsock_number,
)
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.sources import FileStat, User

NODE = FileStat(kind="char", size_bytes=0, mode=0o600, uid=0, gid=0, device=5, inode=9)
OLD = HostVersions(libvirt=9_000_000, qemu=7_002_000)
NEW = HostVersions(libvirt=12_003_000, qemu=10_002_000)


def problems(yielded: Problems) -> list[Problem]:
    found = list(yielded)
    assert all(isinstance(one, Problem) for one in found), found
    return [one for one in found if isinstance(one, Problem)]


def unclear(yielded: Problems) -> list[CouldNotTell]:
    return [one for one in yielded if isinstance(one, CouldNotTell)]


def domain(devices: str, extra: str = "") -> Domain:
    return read_domain(f"<domain><name>g</name><devices>{devices}</devices>{extra}</domain>")


def capabilities(**values: tuple[str, ...]) -> SeenCapabilities:
    return SeenCapabilities(
        emulator="",
        architecture="x86_64",
        machine="",
        virt_type="kvm",
        vcpus_maximum=None,
        supported={},
        values={f"devices/{name}/model": frozenset(offered) for name, offered in values.items()},
        cpu_mode_supported={},
        host_model=None,
        cpu_model_by_name={},
    )


RNG = "<rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>"


def test_models_that_libvirt_checks_are_read() -> None:
    assert guest_models(domain(RNG + RNG)) == GuestModels(
        models=(
            ("devices/rng/model", "rng", "virtio"),
            ("devices/rng/backendModel", "rng backend", "random"),
        )
    )
    assert guest_models(domain("<watchdog model='itco'/>")) is None


def test_files_that_devices_are_made_of_are_read() -> None:
    inputs = """<input type='passthrough' bus='virtio'><source evdev='/dev/input/event1'/></input>
    <input type='evdev'><source dev='/dev/input/event2'/></input><input type='mouse' bus='ps2'/>"""
    assert guest_nodes(domain(RNG + inputs)) == GuestNodes(
        nodes=(
            ("rng 0", "/dev/hwrng"),
            ("input 0", "/dev/input/event1"),
            ("input 1", "/dev/input/event2"),
        )
    )
    assert guest_nodes(domain("<rng model='virtio'><backend model='builtin'/></rng>")) is None


def test_files_are_looked_at() -> None:
    guest = GuestNodes(nodes=(("rng 0", "/dev/hwrng"), ("input 0", "/dev/input/event1")))
    assert seen_nodes(FakeSource(stats={"/dev/hwrng": NODE}), guest) == SeenNodes(
        kind_by_path={"/dev/hwrng": "char", "/dev/input/event1": ""}
    )


def test_vsock_and_its_device_are_read() -> None:
    xml = "<vsock model='virtio'><cid auto='yes' address='3'/></vsock>"
    assert guest_vsock(domain(xml)) == GuestVsock(cid="3", chosen=True)
    assert guest_vsock(domain("")) is None
    assert host_vsock(FakeSource(stats={"/dev/vhost-vsock": NODE})).present
    assert not host_vsock(FakeSource()).present


def test_security_labels_and_models_are_read() -> None:
    label = "<seclabel type='dynamic' model='apparmor' relabel='yes'><label>x</label></seclabel>"
    own = "<disk><source file='/a'><seclabel model='dac' relabel='no'/></source></disk>"
    assert guest_labels(domain(own, label)) == GuestLabels(
        labels=(("dac", ""), ("apparmor", "dynamic"))
    )
    assert guest_labels(domain("", "<seclabel type='none'/>")) is None
    document = """<capabilities><host><secmodel><model>apparmor</model><doi>0</doi></secmodel>
    <secmodel><model>dac</model><doi>0</doi></secmodel></host></capabilities>"""
    source = FakeSource(answers={("capabilities",): document})
    assert host_security(source) == HostSecurity(models=frozenset({"apparmor", "dac"}))


def test_the_lock_manager_and_its_socket_are_read() -> None:
    conf = QemuConf(value_by_key={"lock_manager": '"lockd"'})
    source = FakeSource(stats={"/run/libvirt/virtlockd-sock": NODE})
    assert host_locks(source, conf) == HostLocks(manager="lockd", daemon_present=True)
    assert host_locks(FakeSource(), QemuConf(value_by_key={})) == HostLocks(
        manager="", daemon_present=False
    )


def test_a_device_that_qemu_has_not_is_refused() -> None:
    guest = GuestModels(models=(("devices/rng/model", "rng", "virtio-transitional"),))
    (problem,) = problems(not_offered(guest, capabilities(rng=("virtio",))))
    assert problem.subject == "rng virtio-transitional"


def test_a_device_that_is_offered_or_not_listed_is_fine() -> None:
    guest = GuestModels(models=(("devices/rng/model", "rng", "virtio"),))
    assert not list(not_offered(guest, capabilities(rng=("virtio",))))
    assert not list(not_offered(guest, capabilities()))


HWRNG = GuestNodes(nodes=(("rng 0", "/dev/hwrng"),))


def test_a_source_of_entropy_that_is_not_there_is_refused() -> None:
    (problem,) = problems(node_absent(HWRNG, SeenNodes(kind_by_path={"/dev/hwrng": ""})))
    assert problem.wanted == "/dev/hwrng"
    assert unclear(node_absent(HWRNG, SeenNodes(kind_by_path={"/dev/hwrng": Unknown("no")})))


def test_a_source_of_entropy_that_is_there_is_fine() -> None:
    assert not list(node_absent(HWRNG, SeenNodes(kind_by_path={"/dev/hwrng": "char"})))


def test_a_vsock_needs_its_device() -> None:
    (problem,) = problems(no_vsock(GuestVsock(cid="3", chosen=True), HostVsock(present=False)))
    assert problem.commands == ("modprobe vhost_vsock",)


def test_a_vsock_with_its_device_is_fine() -> None:
    assert not list(no_vsock(GuestVsock(cid="3", chosen=True), HostVsock(present=True)))


def test_a_number_that_libvirt_chooses_may_change() -> None:
    (problem,) = problems(vsock_number(GuestVsock(cid="3", chosen=True)))
    assert problem.wanted == "number 3"


def test_a_number_of_ones_own_stays() -> None:
    assert not list(vsock_number(GuestVsock(cid="3", chosen=False)))


DAC_ONLY = HostSecurity(models=frozenset({"dac"}))


def test_a_guest_labelled_by_selinux_needs_selinux() -> None:
    guest = GuestLabels(labels=(("selinux", "dynamic"), ("dac", "dynamic")))
    (problem,) = problems(no_security_model(guest, DAC_ONLY, OLD))
    assert problem.subject == "security model selinux"


def test_a_model_that_is_there_is_fine_and_none_is_everywhere() -> None:
    guest = GuestLabels(labels=(("dac", "static"), ("none", "none")))
    assert not list(no_security_model(guest, DAC_ONLY, OLD))
    without = GuestLabels(labels=(("dac", "dynamic"),))
    assert not list(no_security_model(without, HostSecurity(models=frozenset({"none"})), OLD))


def test_no_label_needs_no_model_any_more() -> None:
    guest = GuestLabels(labels=(("selinux", "none"),))
    assert problems(no_security_model(guest, DAC_ONLY, OLD))
    assert not list(no_security_model(guest, DAC_ONLY, NEW))


def test_locks_without_a_daemon_start_nobody() -> None:
    (problem,) = problems(no_lock_daemon(HostLocks(manager="lockd", daemon_present=False)))
    assert problem.commands == ("systemctl start virtlockd.socket",)


def test_locks_with_a_daemon_and_no_locks_are_fine() -> None:
    assert not list(no_lock_daemon(HostLocks(manager="lockd", daemon_present=True)))
    assert not list(no_lock_daemon(HostLocks(manager="", daemon_present=False)))


def owner(label: str, kind: str = "static") -> GuestOwner | None:
    return guest_owner(
        read_domain(
            f"<domain><name>g</name><seclabel type='{kind}' model='dac'><label>{label}</label>"
            "</seclabel></domain>"
        )
    )


HAS_QEMU = FakeSource(users={"qemu": User(name="qemu", uid=107, gid=107)})


def test_a_guest_that_is_to_run_as_nobody_known_is_refused() -> None:
    wanted = owner("qemu2:qemu2")
    assert wanted is not None
    (problem,) = no_such_user(wanted, seen_owner(HAS_QEMU, wanted))
    assert isinstance(problem, Problem)
    assert problem.wanted == "qemu2:qemu2"


def test_a_guest_that_is_to_run_as_somebody_known_is_fine() -> None:
    wanted = owner("qemu:qemu")
    assert wanted is not None
    assert not list(no_such_user(wanted, seen_owner(HAS_QEMU, wanted)))


def test_only_a_static_label_of_its_own_says_whom_a_guest_runs_as() -> None:
    assert owner("+107:+107") == GuestOwner(user="+107", group="+107")
    assert owner("+107:+107", "dynamic") is None
    assert owner("") is None
