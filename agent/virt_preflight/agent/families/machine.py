"""The machine a guest needs: emulator, architecture, virt type, machine type, number of vCPUs."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, have, look, need
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Absent, FileStat, Refused, Source, Unreadable, Want
from virt_preflight.agent.xml import BadXml, Element, attribute, number, parse, text_of

KVM = "/dev/kvm"
EXECUTABLE = 0o111
WRITABLE_BY_OTHERS = 0o022
SAID_AT_MOST = 200
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
# An emulator serves its own architecture and these (virQEMUCapsIsArchSupported).
ALSO_SERVES = {"x86_64": "i686", "aarch64": "armv7l", "armv7l": "armv6l", "ppc64": "ppc64le"}
# What libvirt says when it started the emulator to learn what it can, and that went wrong
# (qemuProcessQMPLaunch, qemu/qemu_process.c; virQEMUCapsInitQMP, qemu/qemu_capabilities.c).
BROKEN = re.compile(r"for probing|Failed to read pidfile .*qmp|Failed to probe QEMU binary")
# What it says of a machine type, an accelerator, an architecture that the emulator has not
# (virQEMUCapsCacheLookupDefault, qemu/qemu_capabilities.c; qemuConnectGetDomainCapabilities).
REFUSED_MACHINE = re.compile(r"the machine '.*' is not supported by emulator|machine type")
REFUSED_VIRT_TYPE = re.compile(r"the accel '.*' is not supported|does not support virt type")
REFUSED_ARCHITECTURE = re.compile(r"architecture")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMachine:
    """What the guest runs on; what its XML leaves to libvirt is empty."""

    emulator: str
    architecture: str
    machine: str
    virt_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawArguments:
    """What the guest's XML says to QEMU past libvirt (`<qemu:commandline>` and the like)."""

    arguments: tuple[str, ...]
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestVcpus:
    """The most vCPUs that the guest can have, plugged in or not."""

    maximum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEmulator:
    """The emulator's file. `unsafe` says why libvirt is not asked of it: asking would run it."""

    path: str
    present: bool
    executable: bool
    unsafe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuModel:
    """A CPU model that emulator and libvirt know both.

    `usable`: "yes", "no" or "unknown"; `blockers`: the features that stand in the way, None when
    that libvirt does not name them.
    """

    usable: str
    blockers: frozenset[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostModel:
    """What a host-model guest would get: a model, features beyond it and those taken from it."""

    name: str
    vendor: str
    required: frozenset[str]
    disabled: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenCapabilities:
    """Domain capabilities for the guest's emulator, architecture, machine and virt type.

    Paths are those of the document: `supported["devices/graphics"]`,
    `values["devices/graphics/type"]` for an enum, `values["os/loader"]` for the plain values.
    What is not in a mapping, that libvirt does not tell.
    """

    emulator: str
    architecture: str
    machine: str  # the canonical name
    virt_type: str
    vcpus_maximum: int | None
    supported: Mapping[str, bool]
    values: Mapping[str, frozenset[str]]
    # Of <cpu>: by mode; the host model is None where libvirt has none.
    cpu_mode_supported: Mapping[str, bool]
    host_model: HostModel | None
    cpu_model_by_name: Mapping[str, CpuModel]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MachineAnswer:
    """libvirt's answer to the question for those capabilities, or why it said no for sure."""

    capabilities: SeenCapabilities | None
    refusal: str = ""
    broken: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKvm:
    """Whether the host has KVM, and whether the user that QEMU runs as may use it."""

    present: bool
    allowed: bool
    user: str


@need
def guest_arguments(domain: Domain) -> RawArguments | None:
    """None for a guest that leaves its QEMU to libvirt, as nearly all do."""
    commandline = [
        (child.get("value") or child.get("name") or "")
        for child in domain.root.findall(f"{{{QEMU_NAMESPACE}}}commandline/*")
    ]
    others = [
        name
        for name in ("override", "capabilities")
        if domain.root.find(f"{{{QEMU_NAMESPACE}}}{name}/*") is not None
    ]
    if not commandline and not others:
        return None
    return RawArguments(arguments=tuple(commandline), others=tuple(others))


@need
def guest_machine(domain: Domain) -> GuestMachine:
    """`<domain type>`, `<os><type arch machine>` and `<emulator>`."""
    return GuestMachine(
        emulator=text_of(domain.root, "devices/emulator") or "",
        architecture=attribute(domain.root, "os/type", "arch") or "",
        machine=attribute(domain.root, "os/type", "machine") or "",
        virt_type=domain.root.get("type", ""),
    )


@need
def guest_vcpus(domain: Domain) -> GuestVcpus:
    """The text of `<vcpu>`; without it one (virDomainVcpuParse, conf/domain_conf.c)."""
    vcpu = domain.root.find("vcpu")
    if vcpu is None or not (vcpu.text or "").strip():
        return GuestVcpus(maximum=1)
    return GuestVcpus(maximum=number(vcpu))


@have(Pace.FIXED)
def host_kvm(source: Source, qemu: QemuUser) -> HostKvm:
    """/dev/kvm, as the user that QEMU runs as sees it."""
    try:
        allowed = source.may(KVM, Want.WRITE, qemu.user)
    except Absent:
        return HostKvm(present=False, allowed=False, user=qemu.user.name)
    return HostKvm(present=True, allowed=allowed, user=qemu.user.name)


@look(Pace.FIXED)
def seen_emulator(source: Source, guest: GuestMachine) -> SeenEmulator | None:
    """The file that `<emulator>` names; None when the guest leaves the choice to libvirt."""
    if not guest.emulator:
        return None
    try:
        found = source.stat(guest.emulator)
    except Absent:
        return SeenEmulator(path=guest.emulator, present=False, executable=False, unsafe="")
    return SeenEmulator(
        path=guest.emulator,
        present=True,
        # virFileIsExecutable, util/virfile.c: libvirtd itself is root.
        executable=found.kind == "file" and bool(found.mode & EXECUTABLE),
        unsafe=_unsafe(source, guest.emulator, found),
    )


def _unsafe(source: Source, path: str, found: FileStat) -> str:
    """Why a file that a guest's XML names is not handed to libvirt, which would run it."""
    if not path.startswith("/") or posixpath.normpath(path) != path:
        return "its path is not plain"
    if not re.search("qemu|kvm", posixpath.basename(path)):
        return "it is not called as a QEMU is"
    if _others_may_write(found):
        return "others than root may write it"
    above = posixpath.dirname(path)
    while True:
        if _others_may_write(source.stat(above)):
            return f"others than root may write {above}"
        if above == "/":
            return ""
        above = posixpath.dirname(above)


def _others_may_write(found: FileStat) -> bool:
    return found.uid != 0 or bool(found.mode & WRITABLE_BY_OTHERS)


@look(Pace.FIXED)
def machine_answer(source: Source, guest: GuestMachine) -> MachineAnswer:
    """Ask libvirt, unless that would run a file which is absent or which is not to be trusted."""
    emulator = seen_emulator(source, guest)
    if emulator is not None:
        if not (emulator.present and emulator.executable):
            raise Unreadable(f"there is no emulator {emulator.path}")
        if emulator.unsafe:
            raise Unreadable(f"libvirt is not asked about {emulator.path}: {emulator.unsafe}")
    # libvirt takes the architecture beside an emulator only as a test for equality, and so refuses
    # an i686 guest of qemu-system-x86_64, which it would start.
    architecture = "" if guest.emulator else guest.architecture
    try:
        document = source.libvirt(
            "domain-capabilities", guest.emulator, architecture, guest.machine, guest.virt_type
        )
    except Refused as error:
        return MachineAnswer(capabilities=None, refusal=str(error))
    except Unreadable as error:
        if BROKEN.search(str(error)):
            return MachineAnswer(capabilities=None, broken=str(error))
        raise
    return MachineAnswer(capabilities=read_capabilities(document))


@look(Pace.FIXED)
def seen_capabilities(answer: MachineAnswer) -> SeenCapabilities:
    """For all who compare with what libvirt offers such a guest."""
    if answer.capabilities is None:
        raise Unreadable(answer.refusal or answer.broken)
    return answer.capabilities


def read_capabilities(document: str) -> SeenCapabilities:
    """Of the XML of virConnectGetDomainCapabilities."""
    root = parse(document)
    if root.tag != "domainCapabilities":
        raise BadXml(f"<{root.tag}> is no domain capabilities")
    supported: dict[str, bool] = {}
    values: dict[str, frozenset[str]] = {}
    for element in root:
        if element.tag != "cpu":
            _read_offers(element, str(element.tag), supported, values)
    vcpu = root.find("vcpu")
    models = root.findall("cpu/mode[@name='custom']/model")
    return SeenCapabilities(
        emulator=text_of(root, "path") or "",
        architecture=text_of(root, "arch") or "",
        machine=text_of(root, "machine") or "",
        virt_type=text_of(root, "domain") or "",
        vcpus_maximum=None if vcpu is None else number(vcpu, "max"),
        supported=supported,
        values=values,
        cpu_mode_supported={
            mode.get("name", ""): mode.get("supported") == "yes"
            for mode in root.findall("cpu/mode")
        },
        host_model=_host_model(root),
        cpu_model_by_name=_cpu_models(root, models),
    )


def _read_offers(
    element: Element, path: str, supported: dict[str, bool], values: dict[str, frozenset[str]]
) -> None:
    if element.get("supported") in ("yes", "no"):
        supported[path] = element.get("supported") == "yes"
    plain = frozenset((value.text or "").strip() for value in element.findall("value"))
    if plain:
        values[path] = plain
    for child in element:
        if child.tag == "enum":
            texts = ((value.text or "").strip() for value in child.findall("value"))
            values[f"{path}/{child.get('name', '')}"] = frozenset(texts)
        elif child.tag != "value":
            _read_offers(child, f"{path}/{child.tag}", supported, values)


def _host_model(root: Element) -> HostModel | None:
    mode = root.find("cpu/mode[@name='host-model'][@supported='yes']")
    name = None if mode is None else text_of(mode, "model")
    if mode is None or name is None:
        return None
    policies = [(item.get("policy"), item.get("name", "")) for item in mode.findall("feature")]
    return HostModel(
        name=name,
        vendor=text_of(mode, "vendor") or "",
        required=frozenset(feature for policy, feature in policies if policy == "require"),
        disabled=frozenset(feature for policy, feature in policies if policy == "disable"),
    )


def _cpu_models(root: Element, models: list[Element]) -> Mapping[str, CpuModel]:
    blockers = {
        listed.get("model", ""): frozenset(item.get("name", "") for item in listed)
        for listed in root.findall("cpu/mode[@name='custom']/blockers")
    }
    return {
        (model.text or "").strip(): CpuModel(
            usable=model.get("usable", "unknown"),
            blockers=blockers.get((model.text or "").strip()),
        )
        for model in models
    }


@check(
    "machine.emulator-absent",
    Severity.BLOCKER,
    title="the emulator is not there",
    remedy="Install that QEMU, link its path to the host's own, or move with --xml naming that.",
    offline=True,
)
def emulator_absent(emulator: SeenEmulator) -> Problems:
    """A guest names its emulator, and the destination asks or starts the file of that very path.

    Error: "Cannot check QEMU binary /usr/libexec/qemu-kvm: No such file or directory" or "QEMU
    binary ... is not executable" (virQEMUCapsNewForBinaryInternal, qemu/qemu_capabilities.c).
    """
    if not emulator.present:
        yield Problem(subject=emulator.path, wanted="an executable file", found="not there")
    elif not emulator.executable:
        yield Problem(
            subject=emulator.path,
            wanted="an executable file",
            found="not executable",
            remedy="Make it executable, if it is the QEMU that it should be.",
            commands=(f"ls -l {shlex.quote(emulator.path)}",),
        )


@check(
    "machine.emulator-broken",
    Severity.BLOCKER,
    title="the emulator does not start",
    remedy="Start it by hand with --version: libraries or modules may be missing.",
)
def emulator_broken(guest: GuestMachine, answer: MachineAnswer) -> Problems:
    """libvirt starts each QEMU once without a guest to learn what it can, and again for guests.

    Error: "Failed to start QEMU binary ... for probing: ..." (qemuProcessQMPLaunch,
    qemu/qemu_process.c).
    """
    if answer.broken:
        yield Problem(
            subject=guest.emulator or "the host's emulator",
            wanted="a QEMU that starts",
            found=answer.broken,
            commands=(f"{shlex.quote(guest.emulator)} --version",) if guest.emulator else (),
        )


@check(
    "machine.emulator-refused",
    Severity.BLOCKER,
    title="libvirt does not take that emulator",
    remedy="Install a QEMU that this libvirt takes.",
)
def emulator_refused(guest: GuestMachine, answer: MachineAnswer) -> Problems:
    """libvirt says no to the emulator itself, most often because it is too old.

    Error: "QEMU version >= 6.2.0 is required, but 5.2.0 found" (virQEMUCapsInitQMPMonitor,
    qemu/qemu_capabilities.c).
    """
    known = (REFUSED_MACHINE, REFUSED_VIRT_TYPE, REFUSED_ARCHITECTURE)
    if answer.refusal and not any(words.search(answer.refusal) for words in known):
        yield Problem(
            subject=guest.emulator or "the host's emulator",
            wanted="one that libvirt takes",
            found=answer.refusal,
        )


@check(
    "machine.type-unsupported",
    Severity.BLOCKER,
    title="the emulator has no such machine type",
    remedy="Upgrade QEMU on the host, or give the guest an older machine type and restart it.",
)
def type_unsupported(guest: GuestMachine, answer: MachineAnswer) -> Problems:
    """A guest keeps the machine type that it was started with; newer QEMUs drop the oldest ones.

    Error: "Emulator '...' does not support machine type 'pc-q35-9.0'" (qemuValidateDomainDef,
    qemu/qemu_validate.c). Domain capabilities: "the machine '...' is not supported by emulator".
    """
    if REFUSED_MACHINE.search(answer.refusal):
        yield Problem(
            subject=f"machine type {guest.machine}",
            wanted=f"known to {guest.emulator or 'the host emulator'}",
            found="not known to it",
            commands=(f"{shlex.quote(guest.emulator)} -machine help",) if guest.emulator else (),
        )


@check(
    "machine.architecture-unsupported",
    Severity.BLOCKER,
    title="the emulator is of another architecture",
    remedy="Install the QEMU of the guest's architecture.",
)
def architecture_unsupported(guest: GuestMachine, answer: MachineAnswer) -> Problems:
    """An emulator runs guests of its own architecture, and 32-bit ones of the same family.

    Error: "Emulator '...' does not support arch 'aarch64'" (qemuValidateDomainDef,
    qemu/qemu_validate.c) or "unable to find any emulator to serve 'aarch64' architecture".
    """
    if answer.capabilities is None:
        refused = REFUSED_ARCHITECTURE.search(answer.refusal)
        if refused and not REFUSED_MACHINE.search(answer.refusal):
            yield Problem(
                subject=guest.emulator or "emulator",
                wanted=f"one for {guest.architecture or 'the guest'}",
                found=answer.refusal,
            )
        return
    served = answer.capabilities.architecture
    if guest.architecture not in ("", served, ALSO_SERVES.get(served, served)):
        yield Problem(
            subject=answer.capabilities.emulator,
            wanted=f"one for {guest.architecture}",
            found=f"it is for {served}",
        )


@check(
    "machine.virt-type-unsupported",
    Severity.BLOCKER,
    title="virt type unsupported",
    remedy="For kvm: load the KVM module, enable virtualization in the firmware, restart libvirtd.",
)
def virt_type_unsupported(guest: GuestMachine, answer: MachineAnswer) -> Problems:
    """What `<domain type>` asks for, the emulator must have: kvm, or its own translation (qemu).

    Error: "Emulator '...' does not support virt type 'kvm'" (qemuValidateDomainDef,
    qemu/qemu_validate.c; virQEMUCapsCacheLookupDefault, qemu/qemu_capabilities.c).
    """
    if REFUSED_VIRT_TYPE.search(answer.refusal):
        yield Problem(
            subject=f"type {guest.virt_type}",
            wanted=f"supported by {guest.emulator or 'the host emulator'}",
            found="not supported by it",
        )


@check(
    "machine.kvm-absent",
    Severity.BLOCKER,
    title="no KVM",
    remedy="Enable virtualization in the firmware and load kvm_intel or kvm_amd.",
)
def kvm_absent(guest: GuestMachine, host: HostKvm) -> Problems:
    """A guest of type kvm needs /dev/kvm, at the moment in which it starts.

    Error: "Domain requires KVM, but it is not available. Check that virtualization is enabled in
    the host BIOS, and host configuration is setup to load the kvm modules."
    (qemuProcessStartValidate, qemu/qemu_process.c).
    """
    if guest.virt_type == "kvm" and not host.present:
        yield Problem(subject=KVM, wanted="there", found="not there", commands=("modprobe kvm",))


@check(
    "machine.kvm-forbidden",
    Severity.BLOCKER,
    title="QEMU may not use KVM",
    remedy="Give the user that QEMU runs as access to /dev/kvm, most often by the group kvm.",
)
def kvm_forbidden(guest: GuestMachine, host: HostKvm) -> Problems:
    """QEMU opens /dev/kvm as the user that it runs as.

    Error: "Could not access KVM kernel module: Permission denied" (kvm_init, accel/kvm in QEMU).
    """
    if guest.virt_type == "kvm" and host.present and not host.allowed:
        yield Problem(
            subject=KVM,
            wanted=f"readable and writable for {host.user}",
            found="not allowed",
            commands=(f"usermod -aG kvm {shlex.quote(host.user)}",),
        )


@check(
    "machine.too-many-vcpus",
    Severity.BLOCKER,
    title="more vCPUs than that machine can have",
    remedy="Lower the guest's maximum of vCPUs and restart it, or choose a host with a newer QEMU.",
)
def too_many_vcpus(guest: GuestVcpus, host: SeenCapabilities) -> Problems:
    """Each machine type has a most, and KVM has one of its own; the plugged-out ones count.

    Error: "Maximum CPUs greater than specified machine type limit 288"
    (qemuValidateDomainVCpuTopology, qemu/qemu_validate.c) or QEMU's "Number of hotpluggable cpus
    requested exceeds the maximum cpus supported by KVM".
    """
    if host.vcpus_maximum is not None and guest.maximum > host.vcpus_maximum:
        yield Problem(
            subject=f"vCPUs of {host.machine}",
            wanted=f"{guest.maximum}",
            found=f"at most {host.vcpus_maximum}",
        )


@check(
    "machine.raw-arguments",
    Severity.RISK,
    title="arguments of QEMU's own, which nobody looked at",
    remedy="See for yourself that the host has what they name: files, devices, ports.",
)
def raw_arguments(guest: RawArguments) -> Problems:
    """libvirt hands `<qemu:commandline>` to QEMU as it is, and so what it needs is not known.

    Nor is whether the device or the setting migrates at all: that shows when it does.
    """
    if guest.arguments:
        said = " ".join(guest.arguments)
        yield Problem(
            subject="<qemu:commandline>",
            wanted="devices and settings that libvirt knows",
            found=said if len(said) <= SAID_AT_MOST else f"{said[:SAID_AT_MOST]}...",
        )
    for name in guest.others:
        yield Problem(
            subject=f"<qemu:{name}>",
            wanted="devices and settings that libvirt knows",
            found="some that it is told of",
        )
