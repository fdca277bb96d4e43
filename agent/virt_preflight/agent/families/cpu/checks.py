"""The checks of the CPU: each names the fault that libvirt or the guest would trip over."""

from __future__ import annotations

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.cpu.guest import (
    PASSES_THROUGH,
    GuestCpu,
    GuestHyperv,
    GuestTsc,
)
from virt_preflight.agent.families.cpu.host import HostCpu, KnownCpus, PhysicalCpu
from virt_preflight.agent.families.cpu.rules import (
    Comparison,
    adds_ht,
    comparison,
    lacking,
    surplus,
    unknown_names,
)
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.families.versions import HostVersions, written
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Severity

# qemuProcessStartValidateTSC, qemu/qemu_process.c: 250 parts in a million.
TSC_TOLERANCE_PPM = 250


def listed(names: frozenset[str]) -> str:
    """Feature names in a stable order."""
    return ", ".join(sorted(names))


def called(cpu: GuestCpu) -> str:
    """The CPU as the operator wrote it."""
    return f"CPU {cpu.model or cpu.mode}"


@check(
    "cpu.mode-unsupported",
    Severity.BLOCKER,
    title="that CPU mode is not supported",
    remedy="Give the guest a named CPU model that both hosts have, and restart it.",
)
def mode_unsupported(cpu: GuestCpu, seen: SeenCapabilities) -> Problems:
    """host-passthrough needs KVM of the guest's own architecture; maximum needs a newer libvirt.

    Error: "CPU mode 'host-passthrough' for x86_64 qemu domain on x86_64 host is not supported by
    hypervisor" (qemuProcessUpdateGuestCPU, qemu/qemu_process.c).
    """
    if not seen.cpu_mode_supported:
        yield CouldNotTell(subject=called(cpu), why="libvirt does not tell the CPU modes it has")
    elif not seen.cpu_mode_supported.get(cpu.mode, False):
        modes = ", ".join(mode for mode, able in seen.cpu_mode_supported.items() if able)
        yield Problem(
            subject=called(cpu),
            wanted=f"mode {cpu.mode} for {cpu.virt_type} guests",
            found=modes or "no mode at all",
        )


@check(
    "cpu.model-unknown",
    Severity.BLOCKER,
    title="unknown CPU model",
    remedy="Upgrade libvirt and QEMU on the host, or give the guest an older model and restart it.",
)
def model_unknown(cpu: GuestCpu, seen: SeenCapabilities, known: KnownCpus) -> Problems:
    """A guest keeps the name of its CPU model: libvirt must know it, and QEMU must have it.

    Errors: "Unknown CPU model EPYC-Genoa" (virCPUx86Update, cpu/cpu_x86.c); "CPU model EPYC-Genoa
    is not supported by hypervisor" (virCPUTranslate, cpu/cpu.c), which fallback='allow' averts.
    """
    if not cpu.model or cpu.model in seen.cpu_model_by_name:
        return
    if cpu.model not in known.model_by_name:
        found = "libvirt there does not know it"
    elif cpu.fallback == "allow":
        return
    else:
        found = "QEMU there does not have it"
    yield Problem(subject=called(cpu), wanted="a known model", found=found)


@check(
    "cpu.features-unknown",
    Severity.BLOCKER,
    title="CPU features unknown to libvirt",
    remedy="Upgrade libvirt there, or give the guest a CPU model that both know and restart it.",
)
def features_unknown(cpu: GuestCpu, known: KnownCpus) -> Problems:
    """A name is refused whatever is asked of the feature, `policy='disable'` too.

    Error: "unknown CPU feature: fdp-excptn-only" (virCPUx86ValidateFeatures, cpu/cpu_x86.c).
    A host-model guest of a newer libvirt names all that its CPU has. Of the vmx-* names, a newer
    source leaves out those that belong to the model (qemuDomainMakeCPUMigratable).
    """
    unknown = unknown_names(cpu, known)
    nested = frozenset(name for name in unknown if name.startswith("vmx-"))
    # A model has more features with time, and the source does not send those on.
    left_open = nested if cpu.mode == "custom" and cpu.check == "full" else frozenset()
    if sure := unknown - left_open:
        yield Problem(
            subject=called(cpu), wanted=f"names known: {listed(sure)}", found="unknown to libvirt"
        )
    if left_open:
        yield CouldNotTell(
            subject=called(cpu),
            why=f"libvirt there does not know {listed(left_open)}; the source may leave them out",
        )


@check(
    "cpu.features-absent",
    Severity.BLOCKER,
    title="missing CPU features",
    remedy="Choose another host, or give the guest a CPU model that both hosts have and power it "
    "off and on: a reboot inside the guest is not enough.",
)
def features_absent(
    cpu: GuestCpu, seen: SeenCapabilities, known: KnownCpus, host: HostCpu
) -> Problems:
    """A running guest's CPU stays what it is: QEMU there must turn on every feature of it.

    Looked at is the live CPU, written out with libvirt's own models there, against what KVM and
    QEMU there give. Error: "guest CPU doesn't match specification: missing features: clwb"
    (virCPUx86UpdateLive, cpu/cpu_x86.c), also for guests whose owner wrote check='none': a running
    guest is checked in full. A guest that runs nowhere is compared as its own check says: "Host CPU
    does not provide required features" (virCPUx86Compare).
    """
    lacks = lacking(cpu, seen, known, host)
    if lacks.sure:
        yield Problem(
            subject=called(cpu), wanted=listed(lacks.sure), found="not given by this host"
        )
    if lacks.open:
        yield CouldNotTell(
            subject=called(cpu),
            why=f"{listed(lacks.open)}: not given here; whether libvirt asks for it depends on how "
            "the guest was defined",
        )
    if lacks.why:
        yield CouldNotTell(subject=called(cpu), why=lacks.why)


@check(
    "cpu.features-extra",
    Severity.BLOCKER,
    title="CPU features too many",
    remedy="Name the feature in the guest's <cpu>, or say check='partial'.",
)
def features_extra(cpu: GuestCpu, known: KnownCpus) -> Problems:
    """check='full' means all features and no other; QEMU turns on some of its own.

    A running guest names them all; one that was never started with that definition may not. Error:
    "guest CPU doesn't match specification: extra features: hypervisor" (virCPUx86UpdateLive,
    cpu/cpu_x86.c).
    """
    if extra := surplus(cpu, known):
        yield Problem(
            subject=called(cpu),
            wanted=f"{listed(extra)} named in the definition",
            found="check='full' without it",
        )


@check(
    "cpu.ht-added",
    Severity.BLOCKER,
    title="CPU feature ht added by QEMU",
    remedy="Choose a host with an older QEMU or with libvirt 11.10 or newer, or give the guest "
    "sockets in place of cores and threads and power it off and on.",
)
def ht_added(cpu: GuestCpu, known: KnownCpus, versions: HostVersions) -> Problems:
    """QEMU 10.0 and newer turn on ht in a package of several threads; older ones do not show it.

    A guest with cores or threads in its topology that was started by an older QEMU runs without it,
    and libvirt before 11.10 takes it for another CPU: "guest CPU doesn't match specification: extra
    features: ht" (virCPUx86UpdateLive, cpu/cpu_x86.c; seen from QEMU 7.2 to 10.0).
    """
    if adds_ht(cpu, known, versions.qemu, versions.libvirt):
        yield Problem(
            subject=called(cpu),
            wanted=f"a package of {cpu.threads} threads without ht, as the guest has it",
            found=f"QEMU {written(versions.qemu)}, which turns it on",
        )


@check(
    "cpu.forbidden-features",
    Severity.BLOCKER,
    title="forbidden CPU features",
    remedy="Say policy='disable' in place of 'forbid' in the guest's definition.",
)
def forbidden_features(cpu: GuestCpu, host: HostCpu) -> Problems:
    """`policy='forbid'` keeps a guest off hosts that have the feature; 'disable' only hides it.

    Error: "Host CPU provides forbidden feature 'clwb'" (virCPUCheckForbiddenFeatures, cpu/cpu.c),
    unless check='none'; a running guest is checked in full, whatever its owner wrote. A feature
    that the hardware has and KVM does not give is refused or not, as libvirt happens to tell its
    host CPU: that is left open.
    """
    forbidden = cpu.features("forbid")
    if cpu.check == "none" or not forbidden:
        return
    for has in (host.offered, host.physical):
        if isinstance(has, Unknown):
            yield CouldNotTell(subject=called(cpu), why=has.why)
            return
    assert not isinstance(host.offered, Unknown)
    assert not isinstance(host.physical, Unknown)
    # A partial comparison is one with the hardware as well (virCPUx86Compare).
    has = host.offered | host.physical if cpu.check == "partial" else host.offered
    if there := forbidden & has:
        yield Problem(subject=called(cpu), wanted=f"no {listed(there)}", found="the host has it")
    elif hidden := forbidden & host.physical:
        yield CouldNotTell(
            subject=called(cpu), why=f"the hardware has {listed(hidden)}, KVM does not give it"
        )


@check(
    "cpu.vendor-differs",
    Severity.RISK,
    title="a CPU of another vendor",
    remedy="Choose a host whose CPU is of the same vendor.",
    phase=Phase.AFTER,
)
def vendor_differs(
    cpu: GuestCpu, seen: SeenCapabilities, known: KnownCpus, host: HostCpu
) -> Problems:
    """KVM shows guests the vendor of the host's CPU, whatever model they have.

    libvirt refuses only a guest with `<vendor>` and check='partial', which runs nowhere yet: "host
    CPU vendor does not match required CPU vendor" (virCPUx86Compare, cpu/cpu_x86.c). A running one
    is let through, and finds itself on another CPU: drivers and kernels that chose by vendor err.
    """
    if not cpu.vendor or cpu.virt_type != "kvm":
        return
    if not host.vendor:
        yield CouldNotTell(subject=called(cpu), why="libvirt does not tell the host CPU's vendor")
    elif cpu.vendor != host.vendor:
        refused = comparison(cpu, seen, known) is Comparison.HARDWARE
        yield Problem(
            subject=called(cpu),
            wanted=cpu.vendor,
            found=host.vendor,
            severity=Severity.BLOCKER if refused else None,
        )


@check(
    "cpu.host-vendor-differs",
    Severity.RISK,
    title="host of another CPU vendor",
    remedy="Choose a host whose CPU is of the same vendor.",
    phase=Phase.AFTER,
)
def host_vendor_differs(cpu: GuestCpu, origin: GuestOrigin, host: HostCpu) -> Problems:
    """KVM shows guests the vendor of the host's CPU, and so a running one would see it change.

    libvirt does not compare it where the guest names no vendor. Few models have the same features
    on both, so most such guests are held back by other checks; very plain ones move, and what
    chose its code by vendor when it started (kernels, microcode, libraries) may then err.
    """
    # A named vendor and a passed-through CPU have checks of their own.
    if cpu.virt_type != "kvm" or cpu.vendor or cpu.mode in PASSES_THROUGH:
        return
    if not origin.host_model_vendor or not host.vendor:
        yield CouldNotTell(subject=called(cpu), why="the vendor of one host's CPU is not known")
    elif origin.host_model_vendor != host.vendor:
        yield Problem(subject=called(cpu), wanted=origin.host_model_vendor, found=host.vendor)


@check(
    "cpu.passthrough-differs",
    Severity.RISK,
    title="host-passthrough on another CPU",
    remedy="Choose a host with the same CPU, microcode and KVM, or give the guest a named model.",
    phase=Phase.AFTER,
)
def passthrough_differs(
    cpu: GuestCpu, origin: GuestOrigin, known: KnownCpus, host: HostCpu
) -> Problems:
    """libvirt compares nothing of a CPU that is passed through, and moves the guest.

    A guest that uses an instruction which the new host lacks then dies of it, at some time. What
    host-model would give on either host is compared: features that it loses are named.
    """
    if cpu.mode not in PASSES_THROUGH:
        return
    if origin.host_model_features is None:
        why = origin.unlearned.get(HostCpu.__name__, "the source does not tell its CPU")
        yield CouldNotTell(subject=called(cpu), why=why)
        return
    if isinstance(host.offered, Unknown):
        yield CouldNotTell(subject=called(cpu), why=host.offered.why)
        return
    if origin.host_model_vendor and host.vendor and origin.host_model_vendor != host.vendor:
        yield Problem(
            subject=called(cpu), wanted=f"a CPU of {origin.host_model_vendor}", found=host.vendor
        )
    # A name that is not known here says nothing of the CPU, only of libvirt's age.
    had = (origin.host_model_features & known.feature_names) - cpu.features("disable", "forbid")
    # What it asks for with check='full' is a blocker of its own.
    asked = cpu.features("require", "force") if cpu.check == "full" else frozenset()
    if lost := had - host.offered - asked:
        yield Problem(
            subject=called(cpu),
            wanted=f"as on {origin.host_name}: {listed(lost)}",
            found=f"not there ({host.model})",
        )


@check(
    "cpu.hyperv-absent",
    Severity.BLOCKER,
    title="missing Hyper-V enlightenments",
    remedy="Upgrade the host's kernel and QEMU, or turn them off in the guest and restart it.",
)
def hyperv_absent(guest: GuestHyperv, seen: SeenCapabilities) -> Problems:
    """What a Windows guest was started with, the KVM there must have too.

    Error: "host doesn't support hyperv 'synic' feature" (qemuProcessVerifyHypervFeatures,
    qemu/qemu_process.c), once QEMU is up, or QEMU's own: "kernel doesn't allow setting HyperV
    VP_INDEX". Domain capabilities list what there is; a list of nothing but settings comes from a
    QEMU that did not write out what it has (virQEMUCapsProbeHypervCapabilities).
    """
    offered = seen.values.get("features/hyperv/features", frozenset())
    if not offered - {"spinlocks", "vendor_id"}:
        yield CouldNotTell(
            subject="Hyper-V enlightenments", why="libvirt there does not tell which it has"
        )
    elif missing := guest.features - offered:
        yield Problem(
            subject="Hyper-V enlightenments", wanted=listed(missing), found="not given by this host"
        )


@check(
    "cpu.tsc-frequency",
    Severity.BLOCKER,
    title="another TSC frequency, and no TSC scaling",
    remedy="Choose a host with TSC scaling or with the same frequency.",
)
def tsc_frequency(guest: GuestTsc, physical: PhysicalCpu) -> Problems:
    """A guest with a fixed TSC frequency needs a host of that frequency, or one that can scale it.

    Error: "Requested TSC frequency ... Hz is outside tolerance range ... around host frequency ...
    and TSC scaling is not supported by the host CPU" (qemuProcessStartValidateTSC,
    qemu/qemu_process.c). Where libvirt does not know the host's it lets QEMU try.
    """
    host_hz = physical.tsc_hz
    if host_hz is not None:
        tolerance = host_hz * TSC_TOLERANCE_PPM // 1_000_000
        if abs(guest.frequency_hz - host_hz) <= tolerance or physical.tsc_scaling == "yes":
            return
        if physical.tsc_scaling == "no":
            yield Problem(
                subject="TSC",
                wanted=f"{guest.frequency_hz} Hz",
                found=f"{host_hz} Hz, give or take {tolerance} Hz, without scaling",
            )
            return
    if guest.virt_type == "kvm":
        yield CouldNotTell(subject="TSC", why="libvirt tells too little of the host's TSC")
