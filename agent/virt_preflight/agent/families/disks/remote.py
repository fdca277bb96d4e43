"""What disks need beyond files: servers that answer, QEMU's drivers for them, libvirt's secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import canonical_uuid
from virt_preflight.agent.fact import Pace, Unknown, have, look
from virt_preflight.agent.families.disks.guest import (
    GuestDisks,
    GuestDiskSecrets,
    SecretNeed,
    Server,
)
from virt_preflight.agent.families.disks.openings import stat_or_none
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Absent, Refused, Source, SourceError
from virt_preflight.agent.unlisted import unlisted

SECRETS = "/etc/libvirt/secrets"
# Fedora and SUSE, Red Hat, Arch; Debian's is /usr/lib/x86_64-linux-gnu/qemu.
MODULE_FOLDERS = ("/usr/lib64/qemu", "/usr/lib64/qemu-kvm", "/usr/lib/qemu")
# Protocols whose driver is a module where QEMU has modules (block/meson.build), and its name.
MODULE_BY_PROTOCOL = {
    "rbd": "rbd",
    "gluster": "gluster",
    "iscsi": "iscsi",
    "ssh": "ssh",
    "nfs": "nfs",
    "http": "curl",
    "https": "curl",
    "ftp": "curl",
    "ftps": "curl",
}


class _Secret(msgspec.Struct):
    uuid: str
    usage_type: str
    usage_id: str | None
    has_value: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenServers:
    """By server: None when it answers, else why not, or Unknown."""

    answers: Mapping[Server, str | Unknown | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDrivers:
    """QEMU's block drivers that are modules; `folders` empty: it is not known to load modules."""

    folders: tuple[str, ...]
    names: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSecrets:
    """By secret: what is wrong with it here, "" when nothing is."""

    faults: Mapping[SecretNeed, str | Unknown]


@look(Pace.MOVING)
def seen_servers(source: Source, guest: GuestDisks) -> SeenServers | None:
    """Each is tried once; None when no disk has a server."""
    servers = dict.fromkeys(
        server for disk in guest.disks for layer in disk.layers for server in layer.servers
    )
    if not servers:
        return None
    return SeenServers(answers={server: _answer(source, server) for server in servers})


def _answer(source: Source, server: Server) -> str | Unknown | None:
    """None when it answers on one of its ports."""
    try:
        if server.socket:
            return None if stat_or_none(source, server.socket) else f"no socket {server.socket}"
        if not server.ports:
            return Unknown(f"{server.host}: its port is not known")
        refusals = []
        for port in server.ports:
            try:
                source.reach(server.host, port)
            except (Refused, Absent) as error:
                refusals.append(str(error))
            else:
                return None
        return "; ".join(refusals)
    except SourceError as error:
        return Unknown(str(error))


@have(Pace.FIXED)
def block_drivers(source: Source) -> BlockDrivers:
    """From the folders that QEMU loads its modules from."""
    folders = []
    drivers: set[str] = set()
    triplets = [name for name in _names(source, "/usr/lib") if "-linux-gnu" in name]
    for folder in (*MODULE_FOLDERS, *(f"/usr/lib/{triplet}/qemu" for triplet in triplets)):
        modules = [name for name in _names(source, folder) if name.endswith(".so")]
        if modules:
            folders.append(folder)
        for name in modules:
            if name.startswith("block-"):
                drivers.add(name.removeprefix("block-").removesuffix(".so"))
    return BlockDrivers(folders=tuple(folders), names=frozenset(drivers))


def _names(source: Source, folder: str) -> tuple[str, ...]:
    try:
        return source.names(folder)
    except Absent:
        return ()


@look(Pace.MOVING)
def seen_secrets(source: Source, guest: GuestDiskSecrets) -> SeenSecrets:
    """Looked up by UUID, or by usage."""
    secrets = msgspec.json.decode(source.libvirt("secrets"), type=tuple[_Secret, ...])
    return SeenSecrets(faults={needed: _fault(source, needed, secrets) for needed in guest.needs})


def _fault(source: Source, needed: SecretNeed, secrets: tuple[_Secret, ...]) -> str | Unknown:
    """It has to be there, fit and hold a value (virSecretGetSecretString, secret/secret_util.c)."""
    for secret in secrets:
        uuid = canonical_uuid(secret.uuid)
        same_usage = (secret.usage_type, secret.usage_id) == (needed.usage_type, needed.usage)
        if not (uuid == needed.uuid if needed.uuid else same_usage):
            continue
        if secret.usage_type not in ("none", needed.usage_type):
            return f"a secret for {secret.usage_type}, not for {needed.usage_type}"
        if secret.has_value is not None:
            return "" if secret.has_value else "a secret without a value"
        # A private secret tells its value to nobody; what is not ephemeral lies in a file.
        try:
            source.stat(f"{SECRETS}/{uuid}.base64")
        except SourceError:
            return Unknown(f"secret {uuid} is private: whether it has a value is not told")
        return ""
    doubt = (
        unlisted(source, "secret-known", needed.uuid)
        if needed.uuid
        else unlisted(source, "secret-for", needed.usage_type, needed.usage)
    )
    return "no such secret" if doubt is None else doubt


@check(
    "disks.no-driver",
    Severity.BLOCKER,
    title="QEMU lacks the driver for a network disk",
    remedy="Install QEMU's block driver for that protocol.",
)
def no_driver(guest: GuestDisks, drivers: BlockDrivers) -> Problems:
    """Where QEMU's drivers are modules, those for servers come in packages of their own.

    Error: "Unknown driver 'rbd'" (QEMU). Where no modules are found at all they may be built in.
    """
    for disk in guest.disks:
        for layer in disk.layers:
            module = MODULE_BY_PROTOCOL.get(layer.protocol)
            if layer.kind != "network" or module is None or module in drivers.names:
                continue
            if not drivers.folders:
                why = f"no QEMU modules found; whether {module} is built in is not known"
                yield CouldNotTell(subject=disk.subject, why=why)
                continue
            yield Problem(
                subject=disk.subject,
                wanted=f"QEMU's driver for {layer.protocol}",
                found=f"no block-{module}.so in {', '.join(drivers.folders)}",
                remedy=f"Install it: package qemu-block-extra on Debian and Ubuntu, "
                f"qemu-kvm-block-{module} or qemu-block-{module} elsewhere.",
            )


@check(
    "disks.unreachable",
    Severity.BLOCKER,
    title="disk server does not answer",
    remedy="Open the way from this host to the server, or correct the hosts in the guest's XML.",
)
def unreachable(guest: GuestDisks, servers: SeenServers) -> Problems:
    """QEMU connects to the server when it starts; of several servers one is enough.

    Errors: "Failed to connect to '%s:%s': Connection refused", "error connecting: ..." (QEMU).
    """
    for disk in guest.disks:
        for layer in disk.layers:
            answers = [servers.answers[server] for server in layer.servers]
            if not answers or any(answer is None for answer in answers):
                continue
            unknown = [answer.why for answer in answers if isinstance(answer, Unknown)]
            if unknown:
                yield CouldNotTell(subject=disk.subject, why="; ".join(unknown))
                continue
            yield Problem(
                subject=disk.subject,
                wanted=f"the server of {layer.said}",
                found="; ".join(str(answer) for answer in answers),
            )


@check(
    "disks.no-secret",
    Severity.BLOCKER,
    title="a disk's secret is not known",
    remedy="Define the secret with the same UUID and usage as on the source, and set its value.",
)
def no_secret(guest: GuestDiskSecrets, seen: SeenSecrets) -> Problems:
    """What a disk's `<auth>` or `<encryption>` names must be a secret of this host's libvirt.

    Errors: "no secret with matching uuid '%s'", "no secret with matching usage '%s'", "secret '%s'
    does not have a value" (secret/secret_driver.c). That the value is right cannot be seen.
    """
    for needed in guest.needs:
        fault = seen.faults[needed]
        if isinstance(fault, Unknown):
            yield CouldNotTell(subject=needed.disk, why=fault.why)
        elif fault:
            known = needed.uuid and fault == "a secret without a value"
            command = f"virsh secret-set-value {needed.uuid} --file FILE --plain"
            yield Problem(
                subject=needed.disk,
                wanted=f"secret {needed.said} with a value",
                found=fault,
                commands=(command,) if known else (),
            )


@check(
    "disks.secret-untried",
    Severity.NOTE,
    title="a disk's secret is there, its value is not compared",
    remedy="Ask with --depth trial or rehearsal: there QEMU opens the disk with this host's value.",
)
def secret_untried(guest: GuestDiskSecrets, seen: SeenSecrets) -> Problems:
    """The value of a secret does not leave its host, not even as a digest: so nobody compares two.

    Error of a wrong one: "Invalid password, cannot unlock any keyslot" (QEMU, crypto/block-luks.c),
    seen with libvirt 9.0 and 11.3 at the depths `trial` and `rehearsal` alone.
    """
    for needed in guest.needs:
        if seen.faults[needed] == "":
            yield Problem(
                subject=needed.disk,
                wanted=f"secret {needed.said} with the value that it has on the source",
                found="a value that only a trial or a rehearsal tries",
            )
