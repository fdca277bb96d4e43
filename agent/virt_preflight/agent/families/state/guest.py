"""The parts of a guest that its own host does not let go."""

from __future__ import annotations

from dataclasses import dataclass

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import need
from virt_preflight.agent.xml import Element, attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCondition:
    """What libvirt says of the guest at this moment; None: it does not say.

    `job`: what is under way, as "backup" or "migration-out"; "" nothing.
    """

    name: str
    state: str | None
    reason: str | None
    snapshots: int | None
    block_jobs: tuple[str, ...] | None
    job: str | None
    # What libvirt holds against it, in its words (virDomainGetMessages).
    messages: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestClock:
    """A guest whose CPU might have an invariant TSC.

    `demanded`: its CPU names invtsc. `passed_through`: it gets whatever the host's CPU has
    (migratable='off'). Neither matters when the TSC's frequency is set.
    """

    demanded: bool
    passed_through: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHypervPassthrough:
    """A guest with `<hyperv mode='passthrough'>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestConfidential:
    """A guest whose memory its host cannot read: the type of `<launchSecurity>`."""

    technology: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestUnmigratable:
    """The devices that QEMU is known not to migrate, as an operator would name them."""

    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLooseMemory:
    """Memory that cannot be told apart on the other side.

    `dimms`: numbers of the memory devices without an address; `role_by_shmem`: the role of shared
    memory that is not the guest's own to move ("" none given).
    """

    dimms: tuple[int, ...]
    role_by_shmem: tuple[tuple[str, str], ...]


@need
def guest_clock(domain: Domain) -> GuestClock | None:
    """The live CPU, and `<timer name='tsc' frequency>`."""
    for timer in domain.root.findall("clock/timer[@name='tsc']"):
        if timer.get("frequency"):
            return None
    cpu = domain.root.find("cpu")
    if cpu is None:
        return None
    demanded = any(
        feature.get("name") == "invtsc" and feature.get("policy", "require") in ("require", "force")
        for feature in cpu.findall("feature")
    )
    disabled = any(
        feature.get("name") == "invtsc" and feature.get("policy") in ("disable", "forbid")
        for feature in cpu.findall("feature")
    )
    passed_through = (
        domain.root.get("type") == "kvm"
        and cpu.get("mode") in ("host-passthrough", "maximum")
        and cpu.get("migratable") == "off"
        and not disabled
    )
    if not (demanded or passed_through):
        return None
    return GuestClock(demanded=demanded, passed_through=passed_through)


@need
def guest_hyperv_passthrough(domain: Domain) -> GuestHypervPassthrough | None:
    """`<features><hyperv mode='passthrough'>`."""
    if attribute(domain.root, "features/hyperv", "mode") != "passthrough":
        return None
    return GuestHypervPassthrough()


@need
def guest_confidential(domain: Domain) -> GuestConfidential | None:
    """`<launchSecurity type>`."""
    security = domain.root.find("launchSecurity")
    return None if security is None else GuestConfidential(technology=security.get("type", ""))


@need
def guest_unmigratable(domain: Domain) -> GuestUnmigratable | None:
    """Each device model that QEMU marks so (`unmigratable` in its vmstate) or blocks for."""
    devices = domain.root.find("devices")
    found = [
        name for device in (devices if devices is not None else ()) if (name := _known(device))
    ]
    return GuestUnmigratable(devices=tuple(dict.fromkeys(found))) if found else None


def _known(device: Element) -> str:
    """The name of a device that does not migrate; empty for all others."""
    kind, model = str(device.tag), attribute(device, "model", "type") or ""
    match kind, device.get("type", ""), device.get("model", ""):
        case "channel", "qemu-vdagent", _:
            return "channel qemu-vdagent"
        case "sound", _, "usb" | "virtio" as sound:
            return f"sound {sound}"
        case "crypto", _, "virtio":
            return "crypto virtio"
        case "iommu", _, "amd":
            return "iommu amd"
        case "input", "passthrough", _:
            return "input passthrough"
        case "serial", _, _ if attribute(device, "target", "type") == "usb-serial":
            return "serial usb-serial"
        case "interface", _, _ if model == "usb-net":
            return "interface usb-net"
        case "disk", _, _ if attribute(device, "target", "bus") == "nvme":
            return f"disk {attribute(device, 'target', 'dev') or '?'} (nvme)"
        case "video", _, _ if attribute(device, "model/acceleration", "accel3d") == "yes":
            return f"video {model} with accel3d"
    return ""


@need
def guest_loose_memory(domain: Domain) -> GuestLooseMemory | None:
    """`<memory model='dimm'>` without its address, `<shmem>` whose role is not master."""
    dimms = tuple(
        number
        for number, device in enumerate(domain.root.findall("devices/memory[@model='dimm']"))
        if attribute(device, "address", "type") != "dimm"
    )
    shared = tuple(
        (device.get("name", ""), device.get("role", ""))
        for device in domain.root.findall("devices/shmem")
        if device.get("role") != "master"
    )
    if not (dimms or shared):
        return None
    return GuestLooseMemory(dimms=dimms, role_by_shmem=shared)
