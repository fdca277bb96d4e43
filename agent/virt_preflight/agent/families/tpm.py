"""TPM: the program that plays one, or the host's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain, canonical_uuid
from virt_preflight.agent.fact import Pace, Unknown, have, look, need
from virt_preflight.agent.families.chardevs.host import kinds_of
from virt_preflight.agent.families.graphics.checks import not_offered as not_listed
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import Absent, Source
from virt_preflight.agent.unlisted import unlisted
from virt_preflight.agent.xml import attribute

# virTPMEmulatorInit, util/virtpm.c: all three, or none counts.
PROGRAMS = ("swtpm", "swtpm_setup", "swtpm_ioctl")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestTpm:
    """A guest with a TPM. Empty: its XML does not say."""

    model: str
    backend: str
    version: str
    secret: str  # the UUID that its state is encrypted with
    path: str  # of the host's own device, or of somebody else's socket


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSwtpm:
    """Those of the programs that are not there."""

    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTpm:
    """What is at the TPM's path, and whether its secret has a value; None: there is none."""

    kind_by_path: Mapping[str, str | Unknown] = field(default_factory=dict)
    value_by_secret: Mapping[str, bool | Unknown | None] = field(default_factory=dict)


@need
def guest_tpm(domain: Domain) -> GuestTpm | None:
    """`<tpm>`; a guest has one at most, beside a proxy on POWER."""
    tpm = domain.root.find("devices/tpm")
    if tpm is None:
        return None
    backend = tpm.find("backend")
    return GuestTpm(
        model=tpm.get("model", ""),
        backend="" if backend is None else backend.get("type", ""),
        version="" if backend is None else backend.get("version", ""),
        secret=canonical_uuid(attribute(tpm, "backend/encryption", "secret") or ""),
        path=attribute(tpm, "backend/device", "path")
        or attribute(tpm, "backend/source", "path")
        or "",
    )


@have(Pace.FIXED)
def host_swtpm(source: Source) -> HostSwtpm:
    """libvirt looks in its PATH whenever it needs them."""
    missing = []
    for name in PROGRAMS:
        try:
            source.program(name)
        except Absent:
            missing.append(name)
    return HostSwtpm(missing=tuple(missing))


@look(Pace.MOVING)
def seen_tpm(source: Source, guest: GuestTpm) -> SeenTpm:
    """The device or socket, and libvirt's secret."""
    values: dict[str, bool | Unknown | None] = {}
    if guest.secret:
        listed = False
        for secret in json.loads(source.libvirt("secrets")):
            if canonical_uuid(secret["uuid"]) == guest.secret:
                told = secret["has_value"]
                private = Unknown("libvirt does not say whether a private secret has a value")
                values[guest.secret] = private if told is None else bool(told)
                listed = True
        if not listed:
            values[guest.secret] = unlisted(source, "secret-known", guest.secret)
    return SeenTpm(
        kind_by_path=kinds_of(source, [guest.path] if guest.path else []), value_by_secret=values
    )


@check(
    "tpm.not-offered",
    Severity.BLOCKER,
    title="TPM absent",
    remedy="Install swtpm, or a QEMU with that TPM, and ask again.",
)
def not_offered(guest: GuestTpm, seen: SeenCapabilities) -> Problems:
    """Model, backend and version must be known to QEMU, libvirt and swtpm.

    Error: "The QEMU executable ... does not support TPM model tpm-crb" or "TPM version '2.0' is
    not supported" (qemuValidateDomainDeviceDefTPM, qemu/qemu_validate.c).
    """
    for what, value in (("model", guest.model), ("backendModel", guest.backend)):
        if value:
            yield from not_listed("TPM", (value,), seen.values.get(f"devices/tpm/{what}"))
    versions = seen.values.get("devices/tpm/backendVersion")
    # Older libvirts do not list versions.
    if guest.backend == "emulator" and guest.version and versions is not None:
        yield from not_listed("TPM", (guest.version,), versions)


@check(
    "tpm.no-swtpm",
    Severity.BLOCKER,
    title="swtpm is not installed",
    remedy="Install swtpm and its tools on the host.",
)
def no_swtpm(guest: GuestTpm, host: HostSwtpm) -> Problems:
    """An emulated TPM is a process of its own beside QEMU, and libvirt starts it.

    Error: "Unable to find 'swtpm' binary in $PATH" (virTPMEmulatorInit, util/virtpm.c) or "TPM
    version '2.0' is not supported".
    """
    if guest.backend == "emulator":
        for name in host.missing:
            yield Problem(subject="TPM", wanted=name, found="no such program")


@check(
    "tpm.device-absent",
    Severity.BLOCKER,
    title="the TPM's device or socket is not there",
    remedy="Start who provides it, or move with --xml naming this host's own.",
)
def device_absent(guest: GuestTpm, seen: SeenTpm) -> Problems:
    """The host's own TPM is opened by libvirt, a foreign swtpm's socket by QEMU.

    Error: "Could not open TPM device /dev/tpm0" (qemuBuildTPMOpenBackendFDs) or QEMU's "Failed to
    connect to '/run/tpm.sock': No such file or directory".
    """
    if guest.backend not in ("passthrough", "external"):
        return
    for path, kind in seen.kind_by_path.items():
        if isinstance(kind, Unknown):
            yield CouldNotTell(subject="TPM", why=kind.why)
        elif not kind:
            yield Problem(subject="TPM", wanted=path, found="not there")


@check(
    "tpm.another-chip",
    Severity.RISK,
    title="the guest would get another TPM",
    remedy="Unseal what the guest keeps in the TPM first, or give it an emulated one.",
    phase=Phase.AFTER,
)
def another_chip(guest: GuestTpm) -> Problems:
    """A host's own TPM stays with its host: keys and measurements are other ones afterwards.

    Nothing refuses such a move; the guest's disk may not be unlocked at its next start.
    """
    if guest.backend == "passthrough":
        yield Problem(
            subject="TPM",
            wanted="the TPM that the guest has at the source",
            found=f"this host's own {guest.path or '/dev/tpm0'}",
        )


@check(
    "tpm.no-secret",
    Severity.BLOCKER,
    title="the secret of the TPM's state is not there",
    remedy="Define the secret on this host and set the value that it has on the source.",
)
def no_secret(_guest: GuestTpm, seen: SeenTpm) -> Problems:
    """An encrypted TPM needs its passphrase, and secrets are not sent along.

    Error: "no secret with matching uuid '...'" or "secret '...' does not have a value".
    """
    for uuid, value in seen.value_by_secret.items():
        if isinstance(value, Unknown):
            yield CouldNotTell(subject=f"secret {uuid}", why=value.why)
        elif not value:
            yield Problem(
                subject=f"secret {uuid}",
                wanted="the source's value",
                found="no such secret" if value is None else "no value",
                commands=("virsh secret-list", f"virsh secret-set-value {uuid} --interactive"),
            )
