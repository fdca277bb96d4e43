"""How libvirt holds a guest's CPU against a host's: pure rules, apart from how they are told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.cpu.guest import PASSES_THROUGH, GuestCpu
from virt_preflight.agent.families.cpu.host import HostCpu, KnownCpus, KnownModel
from virt_preflight.agent.families.machine import CpuModel, SeenCapabilities

# Names that libvirt takes out of every guest's CPU: no QEMU has them
# (virQEMUCapsCPUFilterFeatures, qemu/qemu_capabilities.c).
IGNORED = frozenset(
    {
        "cmt",
        "mbm_total",
        "mbm_local",
        "osxsave",
        "ospke",
        "vmx-ept-uc",
        "vmx-ept-wb",
        "vmx-invvpid-single-context",
    }
)
# QEMU gives these to every guest under KVM that asks for them, and so to a named model, but leaves
# them out of what a host-model guest would get (FEAT_8000_0001_ECX in QEMU's target/i386/cpu.c).
GIVEN_BY_KVM = frozenset({"topoext"})
# Since QEMU 10.0 the same holds for ht, and it is on by itself in a package of several threads; an
# older one shows it to the guest alone, and never to libvirt (tried: 7.2 and 10.0).
THREADED = frozenset({"ht"})
QEMU_SHOWS_HT = 10_000_000
# libvirt that no longer holds it against the guest, by its release notes.
LIBVIRT_LETS_HT = 11_010_000
ALWAYS_ON = "hypervisor"
EMPTY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """What the host lacks for that guest: for sure, and as far as it can be told.

    `open`: features of which only the source knows whether libvirt asks for them; `why`: why
    nothing more can be told, empty when all was told.
    """

    sure: frozenset[str] = EMPTY
    open: frozenset[str] = EMPTY
    why: str = ""


def lacking(cpu: GuestCpu, seen: SeenCapabilities, known: KnownCpus, host: HostCpu) -> Lacking:
    """By the guest's own `check`: full, partial or none."""
    match cpu.check:
        case "full":
            return _lacking_fully(cpu, seen, known, host)
        case "partial":
            return _lacking_partially(cpu, seen, known, host)
        case _:
            return Lacking()


def surplus(cpu: GuestCpu, known: KnownCpus) -> frozenset[str]:
    """Features that QEMU turns on by itself and that a guest checked in full does not have.

    Of these only `hypervisor` is sure: QEMU gives it to every named model that does not refuse it
    (x86_cpu_load_model, target/i386/cpu.c). A running guest always names it.
    """
    if cpu.check != "full" or cpu.mode != "custom" or ALWAYS_ON in cpu.policy_by_feature:
        return EMPTY
    model = _model_of(cpu, known)
    if not isinstance(model, KnownModel) or ALWAYS_ON in model.features:
        return EMPTY
    return frozenset({ALWAYS_ON})


def adds_ht(cpu: GuestCpu, known: KnownCpus, qemu: int, libvirt: int) -> bool:
    """Whether QEMU there turns on ht by itself, and libvirt takes it amiss."""
    if cpu.check != "full" or cpu.mode != "custom" or cpu.threads == 1:
        return False
    if qemu < QEMU_SHOWS_HT or libvirt >= LIBVIRT_LETS_HT:
        return False
    model = _model_of(cpu, known)
    of_model = model.features if isinstance(model, KnownModel) else EMPTY
    has = cpu.features("require", "force") | (of_model - cpu.features("disable", "forbid"))
    return not has >= THREADED


def unknown_names(cpu: GuestCpu, known: KnownCpus) -> frozenset[str]:
    """Features of any policy that the libvirt there has never heard of."""
    return frozenset(cpu.policy_by_feature) - known.feature_names


def _lacking_fully(
    cpu: GuestCpu, seen: SeenCapabilities, known: KnownCpus, host: HostCpu
) -> Lacking:
    """virCPUx86UpdateLive, cpu/cpu_x86.c: each feature of the guest must be on in the QEMU there.

    A passed-through CPU is held to the features that it names.
    """
    asked = cpu.features("require", "force") & known.feature_names
    model = _model_of(cpu, known)
    offer = seen.cpu_model_by_name.get(cpu.model)
    inherited, why = _lacking_of_model(cpu, model, offer, host)
    if isinstance(host.offered, Unknown):
        explicit = EMPTY
        why = why or (host.offered.why if asked - IGNORED else "")
    else:
        explicit = asked - host.offered
    absent = (explicit | inherited) - IGNORED
    left_open = _left_open(cpu, model, host, absent)
    if cpu.virt_type == "kvm":
        absent -= GIVEN_BY_KVM
        if host.qemu is not None and host.qemu >= QEMU_SHOWS_HT:
            absent -= THREADED
        elif host.qemu is None or cpu.threads == 1:
            left_open |= absent & THREADED
    return Lacking(sure=absent - left_open, open=left_open, why=why)


def _lacking_of_model(
    cpu: GuestCpu, model: KnownModel | Unknown | None, offer: CpuModel | None, host: HostCpu
) -> tuple[frozenset[str], str]:
    """Of the features that come with the model's name. QEMU's own word for a model goes first."""
    if offer is not None and offer.usable == "yes":
        return EMPTY, ""
    unwanted = cpu.features("disable", "forbid", "optional")
    if isinstance(model, Unknown):
        if offer is not None and offer.blockers is not None:
            return offer.blockers - unwanted - offered_or_none(host), ""
        return EMPTY, model.why
    if model is None:
        return EMPTY, ""
    wanted = model.features - unwanted
    if offer is not None and offer.blockers is not None:
        wanted &= offer.blockers
    if isinstance(host.offered, Unknown):
        return EMPTY, host.offered.why if wanted else ""
    return wanted - host.offered, ""


def offered_or_none(host: HostCpu) -> frozenset[str]:
    """What is known to be offered."""
    return EMPTY if isinstance(host.offered, Unknown) else host.offered


def _left_open(
    cpu: GuestCpu, model: KnownModel | Unknown | None, host: HostCpu, absent: frozenset[str]
) -> frozenset[str]:
    """Features that libvirts of different age treat differently.

    `added` ones a newer source leaves out of what it sends, unless the user asked for them
    (qemuDomainMakeCPUMigratable, qemu/qemu_domain.c). `removed` ones that the guest does not
    mention are off for an older destination and on for a newer (qemuProcessUpdateGuestCPU).
    """
    if not isinstance(model, KnownModel):
        return EMPTY
    unmentioned = model.removed - frozenset(cpu.policy_by_feature) - IGNORED
    gone = EMPTY if isinstance(host.offered, Unknown) else unmentioned - host.offered
    return (absent & model.added) | gone


class Comparison(Enum):
    """What libvirt holds a guest's CPU against before QEMU starts."""

    NONE = "nothing"
    OFFERED = "what QEMU and KVM offer"
    HARDWARE = "that, and what the hardware has"


def comparison(cpu: GuestCpu, seen: SeenCapabilities, known: KnownCpus) -> Comparison:
    """Of a CPU with check=partial (qemuProcessUpdateGuestCPU, qemu/qemu_process.c).

    Newer libvirts, those that name a model's blockers, take QEMU's word for a model without more
    features, and compare their newer models with what QEMU offers (qemuDomainCheckCPU).
    """
    if cpu.check != "partial" or cpu.mode in PASSES_THROUGH:
        return Comparison.NONE
    if all(offer.blockers is None for offer in seen.cpu_model_by_name.values()):
        return Comparison.HARDWARE
    offer = seen.cpu_model_by_name.get(cpu.model)
    plain = not cpu.features("require", "force", "optional", "forbid")
    if plain and offer is not None and offer.usable == "yes":
        return Comparison.NONE
    model = _model_of(cpu, known)
    strict = isinstance(model, KnownModel) and not model.compares_loosely
    return Comparison.OFFERED if strict else Comparison.HARDWARE


def _lacking_partially(
    cpu: GuestCpu, seen: SeenCapabilities, known: KnownCpus, host: HostCpu
) -> Lacking:
    """virCPUx86Compare, cpu/cpu_x86.c: whether or not KVM gives what the hardware has."""
    compared = comparison(cpu, seen, known)
    if compared is Comparison.NONE:
        return Lacking()
    model = _model_of(cpu, known)
    if isinstance(model, Unknown):
        return Lacking(why=model.why)
    has = host.offered if compared is Comparison.OFFERED else _either(host)
    if isinstance(has, Unknown):
        return Lacking(why=has.why)
    unwanted = cpu.features("disable", "forbid", "optional", "force")
    wanted = (model.features if model is not None else EMPTY) - unwanted
    return Lacking(sure=(wanted | (cpu.features("require") & known.feature_names)) - has - IGNORED)


def _either(host: HostCpu) -> frozenset[str] | Unknown:
    """libvirt's "full" host CPU: what the hardware has, and what KVM adds to it."""
    if isinstance(host.offered, Unknown):
        return host.offered
    return host.physical if isinstance(host.physical, Unknown) else host.offered | host.physical


def _model_of(cpu: GuestCpu, known: KnownCpus) -> KnownModel | Unknown | None:
    return known.model_by_name.get(cpu.model) if cpu.model else None
