import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.machine import (
    CpuModel,
    GuestMachine,
    GuestVcpus,
    HostKvm,
    HostModel,
    MachineAnswer,
    RawArguments,
    SeenEmulator,
    architecture_unsupported,
    emulator_absent,
    emulator_broken,
    emulator_refused,
    guest_arguments,
    guest_machine,
    guest_vcpus,
    host_kvm,
    kvm_absent,
    kvm_forbidden,
    machine_answer,
    raw_arguments,
    read_capabilities,
    seen_capabilities,
    seen_emulator,
    too_many_vcpus,
    type_unsupported,
    virt_type_unsupported,
)
from virt_preflight.agent.sources import (
    FileStat,
    Refused,
    SourceError,
    Unreached,
    Unreadable,
    User,
    Want,
)

QEMU = "/usr/bin/qemu-system-x86_64"
GUEST = GuestMachine(emulator=QEMU, architecture="x86_64", machine="pc-q35-7.2", virt_type="kvm")
ROOT = User(name="root", uid=0, gid=0)
QUESTION = ("domain-capabilities", QEMU, "", "pc-q35-7.2", "kvm")

# libvirt 11.3 on Debian 13, shortened.
DOCUMENT = """
<domainCapabilities>
  <path>/usr/bin/qemu-system-x86_64</path>
  <domain>kvm</domain>
  <machine>pc-q35-7.2</machine>
  <arch>x86_64</arch>
  <vcpu max='288'/>
  <iothreads supported='yes'/>
  <os supported='yes'>
    <enum name='firmware'><value>efi</value></enum>
    <loader supported='yes'>
      <value>/usr/share/OVMF/OVMF_CODE_4M.fd</value>
      <enum name='type'><value>rom</value><value>pflash</value></enum>
    </loader>
  </os>
  <cpu>
    <mode name='host-passthrough' supported='yes'/>
    <mode name='maximum' supported='no'/>
    <mode name='host-model' supported='yes'>
      <model fallback='forbid'>EPYC-Milan</model>
      <vendor>AMD</vendor>
      <maxphysaddr mode='passthrough' limit='48'/>
      <feature policy='require' name='x2apic'/>
      <feature policy='disable' name='clwb'/>
    </mode>
    <mode name='custom' supported='yes'>
      <model usable='yes' vendor='unknown' canonical='486-v1'>486</model>
      <model usable='no' vendor='Intel' canonical='Broadwell-v1'>Broadwell</model>
      <blockers model='Broadwell'><feature name='hle'/><feature name='rtm'/></blockers>
      <model usable='no' vendor='AMD'>EPYC</model>
    </mode>
  </cpu>
  <devices>
    <graphics supported='yes'>
      <enum name='type'><value>vnc</value><value>dbus</value></enum>
    </graphics>
  </devices>
  <features>
    <gic supported='no'/>
    <hyperv supported='yes'>
      <enum name='features'><value>relaxed</value></enum>
    </hyperv>
  </features>
</domainCapabilities>
"""


def stat(kind: str = "file", mode: int = 0o755, uid: int = 0) -> FileStat:
    return FileStat(kind=kind, size_bytes=1, mode=mode, uid=uid, gid=0, device=1, inode=1)


def host(answer: str | SourceError = DOCUMENT, **stats: FileStat) -> FakeSource:
    there = {"/": stat("dir"), "/usr": stat("dir"), "/usr/bin": stat("dir"), QEMU: stat()}
    changed = {
        QEMU if name == "qemu" else f"/{name.replace('_', '/')}": found
        for name, found in stats.items()
    }
    return FakeSource(stats={**there, **changed}, answers={QUESTION: answer})


def test_a_libvirtd_that_is_not_there_is_no_word_on_the_emulator() -> None:
    with pytest.raises(Unreached):
        machine_answer(host(Unreached("libvirtd cannot be reached: connection refused")), GUEST)


def refused(words: str) -> MachineAnswer:
    return machine_answer(host(Refused(words)), GUEST)


# ------------------------------------------------------------------------------- the guest


def test_a_guest_names_emulator_architecture_machine_and_virt_type() -> None:
    domain = read_domain(
        "<domain type='kvm'><name>g</name><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>"
        f"</os><devices><emulator>{QEMU}</emulator></devices></domain>"
    )
    assert guest_machine(domain) == GUEST


def test_what_the_xml_leaves_out_is_left_to_libvirt() -> None:
    domain = read_domain("<domain type='kvm'><name>g</name></domain>")
    assert guest_machine(domain) == GuestMachine(
        emulator="", architecture="", machine="", virt_type="kvm"
    )


def test_vcpus_are_counted_at_their_most() -> None:
    domain = read_domain("<domain><name>g</name><vcpu current='1'>8</vcpu></domain>")
    assert guest_vcpus(domain) == GuestVcpus(maximum=8)


def test_a_guest_without_vcpu_has_one() -> None:
    assert guest_vcpus(read_domain("<domain><name>g</name></domain>")) == GuestVcpus(maximum=1)


# -------------------------------------------------------------------------------- the host


def test_domain_capabilities_are_read() -> None:
    seen = read_capabilities(DOCUMENT)
    assert (seen.emulator, seen.machine, seen.architecture) == (QEMU, "pc-q35-7.2", "x86_64")
    assert seen.vcpus_maximum == 288
    assert seen.supported["devices/graphics"]
    assert not seen.supported["features/gic"]
    assert seen.values["devices/graphics/type"] == {"vnc", "dbus"}
    assert seen.values["os/loader"] == {"/usr/share/OVMF/OVMF_CODE_4M.fd"}
    assert seen.values["features/hyperv/features"] == {"relaxed"}
    assert seen.cpu_mode_supported == {
        "host-passthrough": True,
        "maximum": False,
        "host-model": True,
        "custom": True,
    }
    assert seen.host_model == HostModel(
        name="EPYC-Milan",
        vendor="AMD",
        required=frozenset({"x2apic"}),
        disabled=frozenset({"clwb"}),
    )
    assert seen.cpu_model_by_name["486"] == CpuModel(usable="yes", blockers=None)
    assert seen.cpu_model_by_name["EPYC"] == CpuModel(usable="no", blockers=None)
    assert seen.cpu_model_by_name["Broadwell"].blockers == frozenset({"hle", "rtm"})


def test_a_host_without_host_model_has_none() -> None:
    seen = read_capabilities(
        "<domainCapabilities><cpu><mode name='host-model' supported='no'/></cpu>"
        "</domainCapabilities>"
    )
    assert seen.host_model is None
    assert seen.vcpus_maximum is None


def test_libvirt_is_asked_about_the_guests_own_machine() -> None:
    answer = machine_answer(host(), GUEST)
    assert seen_capabilities(answer).machine == "pc-q35-7.2"


def test_without_an_emulator_libvirt_chooses_one_for_the_architecture() -> None:
    guest = GuestMachine(emulator="", architecture="x86_64", machine="", virt_type="kvm")
    source = FakeSource(answers={("domain-capabilities", "", "x86_64", "", "kvm"): DOCUMENT})
    assert machine_answer(source, guest).capabilities is not None
    assert seen_emulator(source, guest) is None


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (host(qemu=stat(uid=1000)), "others than root may write it"),
        (host(qemu=stat(mode=0o775)), "others than root may write it"),
        (host(usr_bin=stat("dir", mode=0o777)), "others than root may write /usr/bin"),
        (host(usr=stat("dir", uid=7)), "others than root may write /usr"),
        (host(qemu=stat(mode=0o644)), "there is no emulator"),
        (FakeSource(), "there is no emulator"),
    ],
)
def test_libvirt_is_not_made_to_run_a_file_that_is_not_to_be_trusted(
    source: FakeSource, why: str
) -> None:
    with pytest.raises(Unreadable, match=why):
        machine_answer(source, GUEST)


def test_a_program_that_is_no_qemu_is_not_handed_to_libvirt() -> None:
    guest = GuestMachine(emulator="/usr/bin/reboot", architecture="", machine="", virt_type="kvm")
    source = FakeSource(stats={"/usr/bin/reboot": stat()})
    with pytest.raises(Unreadable, match="not called as a QEMU is"):
        machine_answer(source, guest)


def test_a_path_with_dots_is_not_handed_to_libvirt() -> None:
    path = "/usr/lib/../bin/qemu-kvm"
    guest = GuestMachine(emulator=path, architecture="", machine="", virt_type="kvm")
    with pytest.raises(Unreadable, match="not plain"):
        machine_answer(FakeSource(stats={path: stat()}), guest)


def test_a_question_that_hangs_is_no_refusal() -> None:
    with pytest.raises(Unreadable):
        machine_answer(host(Unreadable("no answer within 5 s")), GUEST)


def test_kvm_is_looked_at_as_the_user_of_qemu() -> None:
    user = User(name="libvirt-qemu", uid=64055, gid=104)
    source = FakeSource(mays={("/dev/kvm", Want.WRITE, "libvirt-qemu"): False})
    qemu = QemuUser(user=user, dynamic_ownership=True)
    assert host_kvm(source, qemu) == HostKvm(present=True, allowed=False, user="libvirt-qemu")
    assert not host_kvm(FakeSource(), qemu).present


# ------------------------------------------------------------------------------ the checks


def test_an_emulator_that_is_not_there_is_named() -> None:
    (problem,) = emulator_absent(seen_emulator(FakeSource(), GUEST))  # type: ignore[arg-type]
    assert problem == Problem(subject=QEMU, wanted="an executable file", found="not there")
    assert emulator_absent.offline


def test_an_emulator_that_is_not_executable_is_named() -> None:
    found = SeenEmulator(path="/opt/a b/qemu", present=True, executable=False, unsafe="")
    (problem,) = emulator_absent(found)
    assert isinstance(problem, Problem)
    assert problem.found == "not executable"
    assert problem.commands == ("ls -l '/opt/a b/qemu'",)


def test_an_emulator_that_is_there_is_fine() -> None:
    found = seen_emulator(host(), GUEST)
    assert found is not None
    assert not list(emulator_absent(found))


def test_an_emulator_that_does_not_start_is_broken() -> None:
    words = "libvirt: internal error: Failed to start QEMU binary /usr/bin/qemu for probing: libfoo"
    (problem,) = emulator_broken(GUEST, machine_answer(host(Unreadable(words)), GUEST))
    assert isinstance(problem, Problem)
    assert problem.found == words
    assert not list(emulator_refused(GUEST, machine_answer(host(Unreadable(words)), GUEST)))


def test_an_emulator_that_answers_is_not_broken() -> None:
    assert not list(emulator_broken(GUEST, machine_answer(host(), GUEST)))


def test_an_emulator_that_is_too_old_is_refused_in_libvirts_words() -> None:
    words = "unsupported configuration: QEMU version >= 6.2.0 is required, but 5.2.0 found"
    (problem,) = emulator_refused(GUEST, refused(words))
    assert isinstance(problem, Problem)
    assert problem.found == words


def test_a_refused_machine_type_is_no_refused_emulator() -> None:
    words = f"invalid argument: the machine 'pc-q35-7.2' is not supported by emulator '{QEMU}'"
    answer = refused(words)
    assert not list(emulator_refused(GUEST, answer))
    assert not list(virt_type_unsupported(GUEST, answer))
    assert not list(architecture_unsupported(GUEST, answer))
    (problem,) = type_unsupported(GUEST, answer)
    assert problem == Problem(
        subject="machine type pc-q35-7.2",
        wanted=f"known to {QEMU}",
        found="not known to it",
        commands=(f"{QEMU} -machine help",),
    )


def test_after_a_refusal_nothing_is_known_of_the_capabilities() -> None:
    with pytest.raises(Unreadable, match="is not supported by emulator"):
        seen_capabilities(refused("the machine 'x' is not supported by emulator 'y'"))


def test_a_known_machine_type_is_fine() -> None:
    assert not list(type_unsupported(GUEST, machine_answer(host(), GUEST)))


def test_a_virt_type_that_the_emulator_lacks_is_named() -> None:
    words = f"invalid argument: Emulator '{QEMU}' does not support virt type 'kvm'"
    answer = refused(words)
    (problem,) = virt_type_unsupported(GUEST, answer)
    assert isinstance(problem, Problem)
    assert problem.subject == "type kvm"
    assert not list(emulator_refused(GUEST, answer))


def test_a_virt_type_that_the_emulator_has_is_fine() -> None:
    assert not list(virt_type_unsupported(GUEST, machine_answer(host(), GUEST)))


def test_an_emulator_of_another_architecture_cannot_run_the_guest() -> None:
    guest = GuestMachine(emulator=QEMU, architecture="aarch64", machine="virt", virt_type="kvm")
    answer = MachineAnswer(capabilities=read_capabilities(DOCUMENT))
    (problem,) = architecture_unsupported(guest, answer)
    assert problem == Problem(subject=QEMU, wanted="one for aarch64", found="it is for x86_64")


def test_a_host_without_any_emulator_for_the_architecture_cannot_run_the_guest() -> None:
    guest = GuestMachine(emulator="", architecture="aarch64", machine="virt", virt_type="kvm")
    words = "unsupported configuration: unable to find any emulator to serve 'aarch64' architecture"
    answer = MachineAnswer(capabilities=None, refusal=words)
    (problem,) = architecture_unsupported(guest, answer)
    assert isinstance(problem, Problem)
    assert problem.found == words
    assert not list(emulator_refused(guest, answer))


def test_a_32_bit_guest_of_a_64_bit_emulator_is_fine() -> None:
    guest = GuestMachine(emulator=QEMU, architecture="i686", machine="pc", virt_type="kvm")
    answer = MachineAnswer(capabilities=read_capabilities(DOCUMENT))
    assert not list(architecture_unsupported(guest, answer))


def test_kvm_that_is_not_there_holds_a_kvm_guest_back() -> None:
    (problem,) = kvm_absent(GUEST, HostKvm(present=False, allowed=False, user="root"))
    assert isinstance(problem, Problem)
    assert problem.subject == "/dev/kvm"


def test_an_emulated_guest_needs_no_kvm() -> None:
    guest = GuestMachine(emulator=QEMU, architecture="x86_64", machine="pc", virt_type="qemu")
    none = HostKvm(present=False, allowed=False, user="root")
    shut = HostKvm(present=True, allowed=False, user="root")
    assert not list(kvm_absent(guest, none))
    assert not list(kvm_forbidden(guest, shut))


def test_kvm_that_qemu_may_not_open_holds_a_kvm_guest_back() -> None:
    (problem,) = kvm_forbidden(GUEST, HostKvm(present=True, allowed=False, user="libvirt-qemu"))
    assert isinstance(problem, Problem)
    assert problem.wanted == "readable and writable for libvirt-qemu"
    assert problem.commands == ("usermod -aG kvm libvirt-qemu",)


def test_kvm_that_qemu_may_open_is_fine() -> None:
    there = HostKvm(present=True, allowed=True, user=ROOT.name)
    assert not list(kvm_absent(GUEST, there))
    assert not list(kvm_forbidden(GUEST, there))


def test_more_vcpus_than_the_machine_can_have_are_too_many() -> None:
    (problem,) = too_many_vcpus(GuestVcpus(maximum=289), read_capabilities(DOCUMENT))
    assert problem == Problem(subject="vCPUs of pc-q35-7.2", wanted="289", found="at most 288")


def test_as_many_vcpus_as_the_machine_can_have_are_fine() -> None:
    assert not list(too_many_vcpus(GuestVcpus(maximum=288), read_capabilities(DOCUMENT)))


def told_to_qemu(inside: str) -> RawArguments | None:
    return guest_arguments(
        read_domain(
            "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name>"
            f"{inside}</domain>"
        )
    )


def test_what_is_said_to_qemu_past_libvirt_was_looked_at_by_nobody() -> None:
    told = told_to_qemu(
        "<qemu:commandline><qemu:arg value='-device'/><qemu:arg value='edu'/>"
        "<qemu:env name='X' value='1'/></qemu:commandline>"
        "<qemu:override><qemu:device alias='net0'/></qemu:override>"
    )
    assert told is not None
    raw, overridden = raw_arguments(told)
    assert isinstance(raw, Problem)
    assert raw.found == "-device edu 1"
    assert isinstance(overridden, Problem)
    assert overridden.subject == "<qemu:override>"


def test_a_guest_that_leaves_its_qemu_to_libvirt_says_nothing_past_it() -> None:
    assert told_to_qemu("<qemu:commandline/>") is None
    assert told_to_qemu("<commandline><arg value='x'/></commandline>") is None
    assert not list(raw_arguments(RawArguments(arguments=())))
