"""Other devices, and what guards a guest: entropy, vsock, input, security labels, lock daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, Unknown, have, look, need
from virt_preflight.agent.families.chardevs.host import kinds_of
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.disks.guest import domain_dac
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import Absent, Source
from virt_preflight.agent.xml import attribute, parse

VHOST_VSOCK = "/dev/vhost-vsock"
VIRTLOCKD = "/run/libvirt/virtlockd-sock"
# From here on <seclabel type='none'> may name a model that is not there (libvirt 12.3.0, NEWS).
NONE_NEEDS_NO_MODEL = 12_003_000
# Where a model is in domain XML, where domain capabilities list what is offered, and its name.
OFFERED = (
    ("devices/rng", "model", "devices/rng/model", "rng"),
    ("devices/rng/backend", "model", "devices/rng/backendModel", "rng backend"),
    ("devices/redirdev", "bus", "devices/redirdev/bus", "redirdev"),
    ("devices/crypto", "model", "devices/crypto/model", "crypto"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestModels:
    """Models of devices by where domain capabilities list them: (path, what, model)."""

    models: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNodes:
    """Files of the host that devices are made of: (subject, path)."""

    nodes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNodes:
    """What is at those paths: its kind, "" nothing."""

    kind_by_path: Mapping[str, str | Unknown]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestVsock:
    """A guest with a vsock; `chosen`: libvirt chooses its number anew."""

    cid: str
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HostVsock:
    """Whether the host has vhost-vsock."""

    present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLabels:
    """The security models that a guest's XML names: (model, type)."""

    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSecurity:
    """The security models of the host's libvirt."""

    models: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLocks:
    """Who guards disks against being written by two: the setting, and whether it is there."""

    manager: str
    daemon_present: bool


@need
def guest_models(domain: Domain) -> GuestModels | None:
    """Only those that libvirt checks against what it offers."""
    found = dict.fromkeys(
        (path, what, value)
        for place, name, path, what in OFFERED
        for element in domain.root.findall(place)
        if (value := element.get(name))
    )
    return GuestModels(models=tuple(found)) if found else None


@need
def guest_nodes(domain: Domain) -> GuestNodes | None:
    """Of entropy sources and of input devices that are the host's own."""
    root = domain.root
    nodes = [
        (f"rng {number}", (backend.text or "").strip())
        for number, backend in enumerate(root.findall("devices/rng/backend[@model='random']"))
    ]
    for number, device in enumerate(root.findall("devices/input")):
        if device.get("type") in ("passthrough", "evdev"):
            path = attribute(device, "source", "evdev") or attribute(device, "source", "dev") or ""
            nodes.append((f"input {number}", path))
    nodes = [(subject, path) for subject, path in nodes if path]
    return GuestNodes(nodes=tuple(nodes)) if nodes else None


@look(Pace.MOVING)
def seen_nodes(source: Source, guest: GuestNodes) -> SeenNodes:
    """Of this host."""
    return SeenNodes(kind_by_path=kinds_of(source, sorted({path for _, path in guest.nodes})))


@need
def guest_vsock(domain: Domain) -> GuestVsock | None:
    """`<vsock><cid auto address>`."""
    vsock = domain.root.find("devices/vsock")
    if vsock is None:
        return None
    return GuestVsock(
        cid=attribute(vsock, "cid", "address") or "",
        chosen=attribute(vsock, "cid", "auto") == "yes",
    )


@have(Pace.FIXED)
def host_vsock(source: Source) -> HostVsock:
    """The device that libvirt opens."""
    return HostVsock(present=_is_there(source, VHOST_VSOCK))


def _is_there(source: Source, path: str) -> bool:
    try:
        source.stat(path)
    except Absent:
        return False
    return True


@need
def guest_labels(domain: Domain) -> GuestLabels | None:
    """`<seclabel>` of the guest and of its single devices."""
    labels = dict.fromkeys(
        (label.get("model", ""), label.get("type", ""))
        for label in domain.root.iter("seclabel")
        if label.get("model")
    )
    return GuestLabels(labels=tuple(labels)) if labels else None


@have(Pace.FIXED)
def host_security(source: Source) -> HostSecurity:
    """`<secmodel>` of libvirt's capabilities."""
    models = parse(source.libvirt("capabilities")).findall("host/secmodel/model")
    return HostSecurity(models=frozenset((model.text or "").strip() for model in models))


@have(Pace.FIXED)
def host_locks(source: Source, conf: QemuConf) -> HostLocks:
    """lock_manager of qemu.conf, and virtlockd's socket, which may also start it."""
    return HostLocks(
        manager=conf.string("lock_manager") or "", daemon_present=_is_there(source, VIRTLOCKD)
    )


@check(
    "devices.not-offered",
    Severity.BLOCKER,
    title="QEMU here has no such device",
    remedy="Install the QEMU package with that device, or detach it from the guest.",
)
def not_offered(guest: GuestModels, seen: SeenCapabilities) -> Problems:
    """libvirt asks the host's QEMU what it has before it starts a guest.

    Error: "RNG model 'virtio' is not supported..." and alike (qemu/qemu_validate.c). What this
    libvirt does not list it does not list for any guest: nothing follows from that.
    """
    for path, what, model in guest.models:
        offered = seen.values.get(path)
        if offered is not None and model not in offered:
            yield Problem(
                subject=f"{what} {model}", wanted=model, found=", ".join(sorted(offered)) or "none"
            )


@check(
    "devices.node-absent",
    Severity.BLOCKER,
    title="device file absent",
    remedy="Attach the device, or move with --xml naming another file.",
)
def node_absent(guest: GuestNodes, seen: SeenNodes) -> Problems:
    """Entropy is read from a file of the host, input events come from one.

    Error: "Could not open '/dev/hwrng': No such file or directory" (QEMU) or "unable to stat:
    /dev/input/event3: No such file or directory" (security_dac.c).
    """
    for subject, path in guest.nodes:
        match seen.kind_by_path.get(path):
            case "":
                yield Problem(subject=subject, wanted=path, found="not there")
            case Unknown(why):
                yield CouldNotTell(subject=subject, why=why)


@check(
    "devices.no-vsock",
    Severity.BLOCKER,
    title="no vhost-vsock on the host",
    remedy="Load the module vhost_vsock.",
)
def no_vsock(_guest: GuestVsock, host: HostVsock) -> Problems:
    """The kernel carries a vsock's data, through a device that libvirt opens.

    Error: "unable to open vhost-vsock device" (qemuProcessOpenVhostVsock, qemu/qemu_process.c).
    """
    if not host.present:
        yield Problem(
            subject="vsock",
            wanted=VHOST_VSOCK,
            found="not there",
            commands=("modprobe vhost_vsock",),
        )


@check(
    "devices.vsock-number",
    Severity.NOTE,
    title="the guest may get another vsock number",
    remedy="Set the number (<cid auto='no' address='...'/>) where the host's programs rely on it.",
    phase=Phase.AFTER,
)
def vsock_number(guest: GuestVsock) -> Problems:
    """libvirt takes the first number that is free on the destination; connections end anyway."""
    if guest.chosen:
        yield Problem(
            subject="vsock", wanted=f"number {guest.cid or 'as before'}", found="auto='yes'"
        )


@check(
    "devices.no-security-model",
    Severity.BLOCKER,
    title="a security model that the host has not",
    remedy="Move with --xml without that <seclabel>, or turn the model on here.",
)
def no_security_model(guest: GuestLabels, host: HostSecurity, versions: HostVersions) -> Problems:
    """A guest that was labelled by SELinux or AppArmor names it, and the destination must have it.

    Error: "Security driver model 'selinux' is not available" (virSecurityManagerCheckModel,
    security/security_manager.c).
    """
    for model, kind in guest.labels:
        # libvirt knows "none" everywhere, and drops the DAC label that it made itself.
        if model == "none" or (model, kind) == ("dac", "dynamic"):
            continue
        if kind == "none" and versions.libvirt >= NONE_NEEDS_NO_MODEL:
            continue
        if model not in host.models:
            yield Problem(
                subject=f"security model {model}",
                wanted=model,
                found=", ".join(sorted(host.models)) or "none",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestOwner:
    """Whom the guest's QEMU is to run as by its own XML: user and group, names or numbers."""

    user: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenOwner:
    """What the host has not of them; "" nothing."""

    lacking: str


@need
def guest_owner(domain: Domain) -> GuestOwner | None:
    """`<seclabel type='static' model='dac'><label>`; a leading + says that it is a number."""
    label = domain_dac(domain.root).owner
    user, parted, group = label.partition(":")
    return GuestOwner(user=user, group=group) if user and parted else None


@look(Pace.MOVING)
def seen_owner(source: Source, owner: GuestOwner) -> SeenOwner:
    """Numbers need no entry."""
    try:
        source.user(owner.user.removeprefix("+"), owner.group.removeprefix("+"))
    except Absent as error:
        return SeenOwner(lacking=str(error))
    return SeenOwner(lacking="")


@check(
    "devices.no-such-user",
    Severity.BLOCKER,
    title="the guest is to run as somebody who is not there",
    remedy="Make the user and the group, or move with --xml without that <seclabel>.",
)
def no_such_user(owner: GuestOwner, seen: SeenOwner) -> Problems:
    """A static DAC label names the user and the group that the guest's QEMU runs as.

    Error: "Failed to parse user 'qemu2'" or "Failed to parse group 'qemu2'" (virParseOwnershipIds,
    util/virutil.c).
    """
    if seen.lacking:
        yield Problem(
            subject="security label dac", wanted=f"{owner.user}:{owner.group}", found=seen.lacking
        )


@check(
    "devices.no-lock-daemon",
    Severity.BLOCKER,
    title="disks are to be locked, and nobody locks",
    remedy="Start virtlockd.socket.",
)
def no_lock_daemon(host: HostLocks) -> Problems:
    """With lock_manager = "lockd" each guest's process asks virtlockd before it starts.

    Error: "Failed to connect socket to '/run/libvirt/virtlockd-sock': No such file or directory"
    (locking/lock_driver_lockd.c).
    """
    if host.manager == "lockd" and not host.daemon_present:
        yield Problem(
            subject="virtlockd",
            wanted="its socket",
            found=f"no {VIRTLOCKD}",
            commands=("systemctl start virtlockd.socket",),
        )
