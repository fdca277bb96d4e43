from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.families.daemon import (
    DaemonAnswer,
    QemuConf,
    QemuUser,
    daemon_answer,
    not_answering,
    other_lock_manager,
    qemu_conf,
    qemu_user,
    tls_forced,
    tls_forced_at_source,
)
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.sources import Absent, Refused, Unreached, Unreadable, User

CONF = """\
# user = "nobody"
user = "qemu"
  group="kvm"   # who may use KVM
dynamic_ownership = 0
cgroup_device_acl = [
    "/dev/null",
    "/dev/full",
]
migrate_tls_force = 1
"""
CAPABILITIES = """\
<capabilities><host>
 <secmodel><model>apparmor</model><doi>0</doi></secmodel>
 <secmodel><model>dac</model><doi>0</doi>
  <baselabel type='kvm'>+64055:+105</baselabel><baselabel type='qemu'>+64055:+105</baselabel>
 </secmodel>
</host></capabilities>
"""
QEMU = User(name="libvirt-qemu", uid=64055, gid=105, groups=(105,))


def conf(text: str) -> QemuConf:
    return qemu_conf(FakeSource(texts={"/etc/libvirt/qemu.conf": text}))


def test_settings_are_read_as_written() -> None:
    read = conf(CONF)
    assert read.string("user") == "qemu"
    assert read.string("group") == "kvm"
    assert not read.flag("dynamic_ownership", default=True)
    assert "/dev/full" in read.value_by_key["cgroup_device_acl"]
    assert read.string("vnc_listen") is None


def test_a_host_without_qemu_conf_has_the_defaults() -> None:
    assert qemu_conf(FakeSource()) == QemuConf(value_by_key={})


def test_who_runs_qemu_is_told_by_libvirts_own_label() -> None:
    source = FakeSource(answers={("capabilities",): CAPABILITIES}, users={"64055": QEMU})
    assert qemu_user(source, conf("dynamic_ownership = 0")) == QemuUser(
        user=QEMU, dynamic_ownership=False
    )


def test_a_daemon_that_refuses_the_connection_is_down() -> None:
    for error in (Refused("no"), Absent("no socket"), Unreached("connection refused")):
        (problem,) = not_answering(daemon_answer(FakeSource(answers={("hostname",): error})))
        assert isinstance(problem, Problem)
        assert problem.found == str(error)


def test_a_daemon_that_hangs_is_left_open() -> None:
    hanging = FakeSource(answers={("hostname",): Unreadable("no answer within 2 s")})
    (left,) = not_answering(daemon_answer(hanging))
    assert left == CouldNotTell(subject="libvirtd", why="no answer within 2 s")


def test_a_daemon_that_answers_is_fine() -> None:
    answer = daemon_answer(FakeSource(answers={("hostname",): "h1"}))
    assert answer == DaemonAnswer()
    assert not list(not_answering(answer))


def test_a_host_that_insists_on_tls_refuses_without() -> None:
    (problem,) = tls_forced(conf(CONF), MigrationOptions())
    assert isinstance(problem, Problem)
    assert problem.wanted == "--tls"


def test_tls_or_a_tunnel_satisfies_a_host_that_insists() -> None:
    for options in (MigrationOptions(tls=True), MigrationOptions(tunnelled=True)):
        assert not list(tls_forced(conf(CONF), options))
    assert not list(tls_forced(conf(""), MigrationOptions()))


def locked_by(manager: str) -> GuestOrigin:
    return GuestOrigin(host_name="h1", host_uuid="1", lock_manager=manager)


def test_hosts_that_lock_disks_in_different_ways_are_noted() -> None:
    (problem,) = other_lock_manager(conf(""), locked_by("lockd"))
    assert isinstance(problem, Problem)
    assert (problem.wanted, problem.found) == ("lockd as on h1", "nop")
    (problem,) = other_lock_manager(conf('lock_manager = "sanlock"'), locked_by("nop"))
    assert isinstance(problem, Problem)
    assert problem.found == "sanlock"


def test_the_same_lock_manager_or_one_that_is_not_told_is_fine() -> None:
    assert not list(other_lock_manager(conf('lock_manager = "lockd"'), locked_by("lockd")))
    assert not list(other_lock_manager(conf(""), locked_by("nop")))
    assert not list(other_lock_manager(conf(""), locked_by("")))


def test_a_source_insists_on_tls_as_well() -> None:
    assert list(tls_forced_at_source(conf("migrate_tls_force = 1"), MigrationOptions()))


def test_a_source_that_insists_lets_go_with_tls_and_others_let_go_without() -> None:
    insisting = conf("migrate_tls_force = 1")
    assert not list(tls_forced_at_source(insisting, MigrationOptions(tls=True)))
    assert not list(tls_forced_at_source(conf(""), MigrationOptions()))
