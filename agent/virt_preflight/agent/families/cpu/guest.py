"""What the guest's CPU must have: its model, its features, its clock, its Hyper-V parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import need
from virt_preflight.agent.xml import Element, attribute, number, text_of

X86 = ("x86_64", "i686")
PASSES_THROUGH = frozenset({"host-passthrough", "maximum"})
# qemuProcessVerifyHypervFeatures, qemu/qemu_process.c: strings that are always taken, and two
# whose absence is only logged.
HYPERV_UNVERIFIED = frozenset({"vendor_id", "spinlocks", "relaxed", "vapic"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuestCpu:
    """The guest's `<cpu>`: `model` is empty where none is named, `check` is as libvirt takes it.

    Of a running guest this is the live one: its `check` is "full", and what the guest really has
    is written out.
    """

    mode: str
    check: str
    model: str
    fallback: str
    vendor: str
    virt_type: str
    policy_by_feature: Mapping[str, str]
    # That the guest sees in one package; of the topology, whether plugged in or not.
    threads: int = 1

    def features(self, *policies: str) -> frozenset[str]:
        """The features with one of these policies."""
        return frozenset(
            name for name, policy in self.policy_by_feature.items() if policy in policies
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCpuModel:
    """The named CPU model alone: what is read of it on the host is kept by it."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHyperv:
    """Hyper-V enlightenments that libvirt verifies once the guest's QEMU is up."""

    features: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestTsc:
    """A guest whose time stamp counter must run at a given speed."""

    frequency_hz: int
    virt_type: str


@need
def guest_cpu(domain: Domain) -> GuestCpu | None:
    """`<cpu>`; None when there is none, when it tells the topology only, or when there is no rule.

    Of architectures other than x86 a CPU that is passed through is one that nobody compares.
    Defaults: qemuDomainDefCPUPostParse, qemu/qemu_domain.c. A running host-model guest of an old
    libvirt carries its model, and is then taken as custom (qemuProcessUpdateGuestCPU).
    """
    cpu = domain.root.find("cpu")
    if cpu is None:
        return None
    virt_type = domain.root.get("type", "")
    mode = cpu.get("mode", "custom")
    model = text_of(cpu, "model") or ""
    check = cpu.get("check") or _default_check(mode, virt_type)
    if mode == "host-model" and model and check == "full":
        mode = "custom"
    if mode == "custom" and not model:
        return None
    architecture = attribute(domain.root, "os/type", "arch") or X86[0]
    if mode in PASSES_THROUGH and architecture not in X86:
        return None
    return GuestCpu(
        mode=mode,
        check=check,
        model=model if mode == "custom" else "",
        fallback=attribute(cpu, "model", "fallback") or "allow",
        vendor=text_of(cpu, "vendor") or "",
        virt_type=virt_type,
        policy_by_feature={
            feature.get("name", ""): feature.get("policy", "require")
            for feature in cpu.findall("feature")
        },
        threads=_threads(cpu),
    )


def _threads(cpu: Element) -> int:
    """Without a topology each vCPU is a package of its own (virDomainDefVcpusPostParse)."""
    topology = cpu.find("topology")
    if topology is None:
        return 1
    parts = ("dies", "clusters", "modules", "cores", "threads")
    return math.prod(number(topology, part) for part in parts if topology.get(part))


def _default_check(mode: str, virt_type: str) -> str:
    if mode in PASSES_THROUGH or (mode == "custom" and virt_type == "qemu"):
        return "none"
    return "partial"


@need
def guest_cpu_model(domain: Domain) -> GuestCpuModel:
    """The model's name; empty when the guest names none."""
    cpu = guest_cpu(domain)
    return GuestCpuModel(name=cpu.model if cpu is not None else "")


@need
def guest_hyperv(domain: Domain) -> GuestHyperv | None:
    """`<features><hyperv>`, those that are on."""
    hyperv = domain.root.find("features/hyperv")
    if hyperv is None or hyperv.get("mode") == "passthrough":
        return None
    on = frozenset(str(item.tag) for item in hyperv if item.get("state") == "on")
    verified = on - HYPERV_UNVERIFIED
    return GuestHyperv(features=verified) if verified else None


@need
def guest_tsc(domain: Domain) -> GuestTsc | None:
    """`<clock><timer name='tsc' frequency=...>`."""
    timer = domain.root.find("clock/timer[@name='tsc']")
    if timer is None or timer.get("frequency") is None:
        return None
    frequency_hz = number(timer, "frequency")
    if not frequency_hz:
        return None
    return GuestTsc(frequency_hz=frequency_hz, virt_type=domain.root.get("type", ""))
