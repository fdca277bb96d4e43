"""Versions: an older libvirt or QEMU takes guests against the direction of support."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, have, look, need
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import Source, Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class HostVersions:
    """Written as libvirt does: major * 1,000,000 + minor * 1,000 + micro."""

    libvirt: int
    qemu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A part of domain XML that libvirts older than `since` drop without a word.

    `attribute` empty: the element itself; `value` empty: any. `harm` says what comes of it.
    """

    path: str
    attribute: str = ""
    value: str = ""
    since: int
    harm: str

    @property
    def name(self) -> str:
        """As an operator would look for it in the XML."""
        element = self.path.rpartition("/")[2]
        return f"<{element} {self.attribute}>" if self.attribute else f"<{element}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNewcomers:
    """The parts of this guest's XML that came with a libvirt that is not old."""

    parts: tuple[Newcomer, ...]


DEVICES_WITH_VIRTIO = ("disk", "interface", "controller", "filesystem", "rng", "memballoon")
STREAM_BREAKS = "the guest's state does not load there at the end of the migration"

# Each from libvirt's release notes; only what the guest can see, or what keeps its data.
NEWCOMERS = (
    *(
        Newcomer(
            path=f"devices/{device}/driver",
            attribute="page_per_vq",
            value="on",
            since=7_009_000,
            harm=STREAM_BREAKS,
        )
        for device in DEVICES_WITH_VIRTIO
    ),
    Newcomer(
        path="devices/disk/driver",
        attribute="queue_size",
        since=7_008_000,
        harm="the disk has queues of another size there",
    ),
    Newcomer(
        path="cpu/maxphysaddr",
        since=8_007_000,
        harm="the guest's CPU has addresses of another width there",
    ),
)


# What every libvirt that is still about (7.0 and newer) knows of <features> and <devices>.
FEATURES_OF_OLD = frozenset(
    {
        *("acpi", "apic", "capabilities", "ccf-assist", "cfpc", "gic", "hap", "hpt", "htm"),
        *("hyperv", "ibs", "ioapic", "kvm", "msrs", "nested-hv", "pae", "pmu", "privnet"),
        *("pvspinlock", "sbbc", "smm", "viridian", "vmcoreinfo", "vmport", "xen"),
    }
)
DEVICES_OF_OLD = frozenset(
    {
        *("audio", "channel", "console", "controller", "disk", "emulator", "filesystem"),
        *("graphics", "hostdev", "hub", "input", "interface", "iommu", "lease", "memballoon"),
        *("memory", "nvram", "panic", "parallel", "redirdev", "redirfilter", "rng", "serial"),
        *("shmem", "smartcard", "sound", "tpm", "video", "vsock", "watchdog"),
    }
)
SCHEMA = "/usr/share/libvirt/schemas/domaincommon.rng"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestElements:
    """Names of the guest's features and devices that came with a libvirt that is not old."""

    features: tuple[str, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownElements:
    """Names of all elements that the host's libvirt has in its own schema of domain XML."""

    names: frozenset[str]


@need
def guest_elements(domain: Domain) -> GuestElements | None:
    """None when every libvirt knows them all."""
    features = _newer(domain, "features", FEATURES_OF_OLD)
    devices = _newer(domain, "devices", DEVICES_OF_OLD)
    return GuestElements(features=features, devices=devices) if features or devices else None


def _newer(domain: Domain, path: str, of_old: frozenset[str]) -> tuple[str, ...]:
    names = (str(child.tag) for parent in domain.root.findall(path) for child in parent)
    return tuple(dict.fromkeys(name for name in names if name not in of_old))


@look(Pace.FIXED)
def known_elements(source: Source, _wanted: GuestElements) -> KnownElements:
    """Read only for a guest that has something new: the schema is 300 KB."""
    names = re.findall(r"<element name=[\"']([\w-]+)[\"']", source.text(SCHEMA))
    return KnownElements(names=frozenset(names))


@have(Pace.FIXED)
def host_versions(source: Source) -> HostVersions:
    """Of libvirtd and of its default QEMU."""
    told = json.loads(source.libvirt("version"))
    if not isinstance(told, dict) or not all(
        isinstance(told.get(key), int) for key in ("libvirt", "qemu")
    ):
        raise Unreadable("libvirt's answer about its version is not understood")
    return HostVersions(libvirt=told["libvirt"], qemu=told["qemu"])


@need
def guest_newcomers(domain: Domain) -> GuestNewcomers | None:
    """Those of NEWCOMERS that the guest's XML has; None when it has none."""
    found = tuple(newcomer for newcomer in NEWCOMERS if _has(domain, newcomer))
    return GuestNewcomers(parts=found) if found else None


def _has(domain: Domain, newcomer: Newcomer) -> bool:
    for element in domain.root.findall(newcomer.path):
        value = element.get(newcomer.attribute, "") if newcomer.attribute else "there"
        if value and newcomer.value in ("", value):
            return True
    return False


def written(version: int) -> str:
    """9_000_000 as 9.0.0."""
    return f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}"


def _older(here: int, there: int) -> bool:
    """By major and minor: the last number counts repairs, and those do not change a format."""
    return here // 1_000 < there // 1_000


@check(
    "versions.libvirt-older",
    Severity.RISK,
    title="an older libvirt than the source's",
    remedy="Upgrade libvirt on the host before guests move there.",
)
def libvirt_older(origin: GuestOrigin, host: HostVersions) -> Problems:
    """libvirt supports moves to a newer one; what an older one does not know it drops or refuses.

    Unknown elements and attributes of the guest's XML are ignored, unknown values are refused, and
    newer parts of the migration's cookie may be: "Unsupported migration cookie feature ..."
    (qemu/qemu_migration_cookie.c). Most guests move; each such move is one that nobody tested.
    """
    yield from _older_than_source("libvirt", origin, origin.libvirt_version, host.libvirt)


@check(
    "versions.qemu-older",
    Severity.RISK,
    title="an older QEMU than the source's",
    remedy="Upgrade QEMU on the host before guests move there.",
    phase=Phase.FINISH,
)
def qemu_older(origin: GuestOrigin, host: HostVersions) -> Problems:
    """A machine type promises that state loads in a newer QEMU, and less that it does in an older.

    Distributors support the way up alone. What goes wrong shows at the very end: "error while
    loading state for instance 0x0 of device ..." (qemu_loadvm_state, migration/savevm.c), and the
    guest goes on where it was. The versions are those of the hosts' default QEMU.
    """
    yield from _older_than_source("QEMU", origin, origin.qemu_version, host.qemu)


def _older_than_source(
    what: str, origin: GuestOrigin, there: int | None, here: int
) -> Iterable[Problem | CouldNotTell]:
    if there is None:
        why = origin.unlearned.get(HostVersions.__name__, f"the source does not tell its {what}")
        yield CouldNotTell(subject=what, why=why)
    elif _older(here, there):
        yield Problem(
            subject=what, wanted=f"{written(there)} as on {origin.host_name}", found=written(here)
        )


@check(
    "versions.part-dropped",
    Severity.RISK,
    title="part of the guest dropped by libvirt",
    remedy="Upgrade libvirt on the host, or take that part from the guest and restart it.",
    phase=Phase.AFTER,
)
def part_dropped(guest: GuestNewcomers, host: HostVersions) -> Problems:
    """libvirt ignores what it does not know in a domain XML, and starts the guest without it.

    The guest is then another than it was on the source, and may break at the end of the migration:
    "get_pci_config_device: Bad config data". Only a few such parts are looked for.
    """
    for part in guest.parts:
        if host.libvirt < part.since:
            yield Problem(
                subject=part.name,
                wanted=f"libvirt {written(part.since)} or newer",
                found=f"{written(host.libvirt)}: {part.harm}",
                severity=Severity.BLOCKER if part.harm == STREAM_BREAKS else None,
            )


@check(
    "versions.feature-unknown",
    Severity.BLOCKER,
    title="feature unknown to libvirt",
    remedy="Upgrade libvirt on the host, or take the feature from the guest and restart it.",
    offline=True,
)
def feature_unknown(guest: GuestElements, known: KnownElements) -> Problems:
    """Of `<features>` libvirt refuses what it does not know, unlike elsewhere in a domain XML.

    Error: "unexpected feature 'ps2'" (virDomainFeaturesDefParse, conf/domain_conf.c). Held against
    the schema that the host's libvirt came with.
    """
    for name in guest.features:
        if name not in known.names:
            yield Problem(
                subject=f"<features><{name}>", wanted="known to libvirt", found="not in its schema"
            )


@check(
    "versions.device-dropped",
    Severity.BLOCKER,
    title="device unknown to libvirt",
    remedy="Upgrade libvirt on the host, or take the device from the guest and restart it.",
    phase=Phase.FINISH,
)
def device_dropped(guest: GuestElements, known: KnownElements) -> Problems:
    """Of `<devices>` libvirt drops what it does not know, and starts the guest without it.

    The guest's state then does not load at the end of the migration, or the guest finds itself
    without the device. Held against the schema that the host's libvirt came with.
    """
    for name in guest.devices:
        if name not in known.names:
            yield Problem(subject=f"<{name}>", wanted="known to libvirt", found="not in its schema")
