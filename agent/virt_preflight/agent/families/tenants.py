"""Who lives on the host already, and who the host says it is."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain, canonical_uuid
from virt_preflight.agent.fact import Pace, have, need
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Source, Unreadable
from virt_preflight.agent.xml import parse, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestIdentity:
    """The guest's name on the destination (`--dname` changes it), and its UUID.

    The UUID is empty when the XML gives none: libvirt then makes one up.
    """

    name: str
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostIdentity:
    """Who the host says it is: the UUID that libvirt has for it, and its name."""

    uuid: str
    hostname: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A domain of the host, running or only defined."""

    name: str
    uuid: str
    active: bool
    persistent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTenants:
    """All domains that libvirt lists."""

    tenants: tuple[Tenant, ...]


@need
def guest_identity(domain: Domain, options: MigrationOptions) -> GuestIdentity:
    """As the destination will see it."""
    return GuestIdentity(name=options.dname or domain.name, uuid=domain.uuid)


@have(Pace.FIXED)
def host_identity(source: Source) -> HostIdentity:
    """From libvirt's capabilities, and the name that it finds for its host."""
    uuid = text_of(parse(source.libvirt("capabilities")), "host/uuid") or ""
    return HostIdentity(uuid=canonical_uuid(uuid), hostname=source.libvirt("hostname").strip())


@have(Pace.MOVING)
def host_tenants(source: Source) -> HostTenants:
    """libvirt's list of domains."""
    told = json.loads(source.libvirt("domains"))
    if not isinstance(told, list):
        raise Unreadable("libvirt's list of domains is not understood")
    return HostTenants(
        tenants=tuple(
            Tenant(
                name=str(entry["name"]),
                uuid=canonical_uuid(str(entry["uuid"])),
                active=entry["id"] is not None,
                persistent=bool(entry["persistent"]),
            )
            for entry in told
        )
    )


@check(
    "tenants.name-taken",
    Severity.BLOCKER,
    title="another guest has that name",
    remedy="Move with --dname under another name, or rename or undefine the other guest.",
    offline=True,
)
def name_taken(guest: GuestIdentity, host: HostTenants) -> Problems:
    """One name, one guest: another one of that name, running or only defined, is in the way.

    Error: "domain 'web1' already exists with uuid ..." (virDomainObjListAddLocked,
    conf/virdomainobjlist.c).
    """
    if any(guest.uuid == tenant.uuid for tenant in host.tenants):
        return
    for tenant in host.tenants:
        if tenant.name == guest.name:
            yield Problem(
                subject=guest.name,
                wanted="a name that is free",
                found=f"taken by {_state(tenant)} guest {tenant.uuid}",
                # A running guest keeps its name.
                commands=()
                if tenant.active
                else (f"virsh domrename {shlex.quote(tenant.name)} NEW-NAME",),
            )


@check(
    "tenants.uuid-taken",
    Severity.BLOCKER,
    title="another guest has that UUID",
    remedy="If it is the same guest, rename it to the guest's name or undefine it; if it is not, "
    "give one of them another UUID.",
    offline=True,
)
def uuid_taken(guest: GuestIdentity, host: HostTenants) -> Problems:
    """One UUID, one guest: one of another name, running or only defined, is in the way.

    So it is after a move with --dname, when the guest comes back under its old name. Error:
    "domain 'web1-old' is already defined with uuid ..." (virDomainObjListAddLocked,
    conf/virdomainobjlist.c).
    """
    for tenant in host.tenants:
        if guest.uuid and tenant.uuid == guest.uuid and tenant.name != guest.name:
            yield Problem(
                subject=guest.uuid,
                wanted=f"free, or that of {guest.name}",
                found=f"taken by {_state(tenant)} guest {tenant.name}",
            )


@check(
    "tenants.already-there",
    Severity.BLOCKER,
    title="the guest is there already",
    remedy="If it is the same guest, it needs no move; ask for it by name to move it from there. "
    "If they are two of one UUID, give one of them another before either is moved.",
    offline=True,
)
def already_there(guest: GuestIdentity, host: HostTenants) -> Problems:
    """The same guest runs there, or is on its way there. Only defined and shut off is no obstacle.

    Errors: "domain 'web1' is already active", "domain 'web1' is already being started"
    (virDomainObjListAddLocked, conf/virdomainobjlist.c).
    """
    for tenant in host.tenants:
        if not guest.uuid or (tenant.name, tenant.uuid) != (guest.name, guest.uuid):
            continue
        if tenant.active:
            yield Problem(subject=guest.name, wanted="not running there", found="running there")
        elif not tenant.persistent:
            yield Problem(subject=guest.name, wanted="not there", found="being started there")


def _state(tenant: Tenant) -> str:
    return "the running" if tenant.active else "the defined"


@check(
    "tenants.same-host",
    Severity.BLOCKER,
    title="same host to libvirt",
    remedy="Give one of them a UUID of its own in libvirtd.conf (host_uuid, or host_uuid_source = "
    '"machine-id"), and restart libvirtd: guests go on running.',
    offline=True,
)
def same_host(origin: GuestOrigin, host: HostIdentity) -> Problems:
    """libvirt tells hosts apart by their UUID, which comes from the hardware's SMBIOS.

    Some vendors give a whole series the same, and so do clones of virtual hosts. Error: "Attempt
    to migrate guest to the same host ..." (qemuMigrationCookieXMLParse,
    qemu/qemu_migration_cookie.c).
    """
    if not host.uuid or not origin.host_uuid:
        why = origin.unlearned.get(HostIdentity.__name__, "one of the hosts does not tell its UUID")
        yield CouldNotTell(subject="host UUID", why=why)
    elif host.uuid == canonical_uuid(origin.host_uuid):
        yield Problem(
            subject=f"host UUID {host.uuid}",
            wanted=f"another than that of {origin.host_name}",
            found="the same",
        )


@check(
    "tenants.host-nameless",
    Severity.BLOCKER,
    title="the host calls itself localhost",
    remedy="Give the host a name that others can resolve, set migration_host in qemu.conf, or "
    "move with --migrateuri.",
    offline=True,
)
def host_nameless(options: MigrationOptions, host: HostIdentity, conf: QemuConf) -> Problems:
    """Without --migrateuri the destination tells the source by which name to reach it.

    Error: "hostname on destination resolved to localhost, but migration requires an FQDN"
    (qemuMigrationDstPrepareDirect, qemu/qemu_migration.c). A tunnelled migration needs no name.
    """
    if options.migrateuri or options.tunnelled or conf.string("migration_host"):
        return
    if host.hostname.startswith("localhost"):
        yield Problem(
            subject="host name",
            wanted="one that the source can resolve",
            found=host.hostname,
            commands=("hostnamectl set-hostname NAME.EXAMPLE.ORG",),
        )
