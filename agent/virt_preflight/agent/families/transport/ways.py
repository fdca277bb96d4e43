"""The way between the hosts, as far as the address that the caller gives tells of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Pace, Unknown, have, look, need
from virt_preflight.agent.families.chardevs.host import any_free, could_listen
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.tenants import HostIdentity
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin, Lookup
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Absent, Refused, Source

# Nobody listens there (tcpmux), so that nobody is disturbed: a migration's own port must not be
# knocked at, since a QEMU that waits there for another guest takes any caller for its source.
KNOCK_AT = 1
# QEMU_MIGRATION_PORT_MIN and _MAX (qemu/qemu_conf.h).
MIGRATION_PORTS = range(49152, 49216)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationAddress:
    """Where the source's QEMU is told to connect (`--migrateuri`); port None: libvirt's choice."""

    host: str
    port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressSeen:
    """What the source finds of that address; all empty when the host answers, be it with a no."""

    unknown_name: str = ""
    no_way: str = ""
    silence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFree:
    """Whether this host could listen at the port that the caller has fixed."""

    port: int
    free: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAddress:
    """Whether --migrateuri leads the source to itself."""

    own: bool | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationListener:
    """Where this host's QEMUs wait for guests: by qemu.conf, or libvirt's defaults."""

    # migration_address, empty where all addresses will do; and whether it is the host's.
    address: str
    local: bool | Unknown
    ports: range
    any_free: bool | Unknown


@need
def migration_address(options: MigrationOptions) -> MigrationAddress | None:
    """Of `tcp://host:port` and `tcp:host:port`; what is malformed is another family's to tell."""
    scheme, _, rest = options.migrateuri.partition(":")
    if scheme not in ("tcp", "rdma") or not rest:
        return None
    host, port = host_and_port(rest)
    return MigrationAddress(host=host, port=port) if host else None


def host_and_port(rest: str) -> tuple[str | None, int | None]:
    """Of a migration URI what stands behind the first colon: `//h2:49152`, `h2`, `[::1]:49152`."""
    try:
        parts = urlsplit(f"//{rest.lstrip('/')}")
        return parts.hostname, parts.port
    except ValueError:
        return None, None


@look(Pace.MOVING)
def address_seen(source: Source, address: MigrationAddress) -> AddressSeen:
    """Knocks once at a port where nobody listens: a refusal is a host that is there."""
    try:
        source.reach(address.host, KNOCK_AT)
    except Absent as error:
        return AddressSeen(unknown_name=str(error))
    except Refused as error:
        if "No route to host" in str(error) or "Network is unreachable" in str(error):
            return AddressSeen(no_way=str(error))
        if "connection refused" not in str(error):
            return AddressSeen(silence=str(error))
    return AddressSeen()


def own_name(hostname: str, conf: QemuConf) -> str:
    """What libvirt here tells a source to connect to, where the caller gives no address.

    See qemuMigrationDstPrepareDirect, qemu/qemu_migration.c.
    """
    return (conf.string("migration_host") or hostname).strip("[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """What the source found under the names that destinations have for themselves."""

    lookup_by_name: Mapping[str, Lookup]


@need
def looked_up(options: MigrationOptions, origin: GuestOrigin) -> LookedUp | None:
    """None when the source was not asked, or connects to what the caller gave, or to nothing."""
    if origin.lookup_by_name is None or options.migrateuri or options.tunnelled or options.offline:
        return None
    return LookedUp(lookup_by_name=origin.lookup_by_name)


@look(Pace.MOVING)
def port_free(source: Source, address: MigrationAddress) -> PortFree | None:
    """QEMU listens on all addresses (qemuMigrationDstPrepare), of IPv4 and IPv6."""
    if address.port is None:
        return None
    free = source.bindable("0.0.0.0", address.port) and source.bindable("::", address.port)  # noqa: S104 - it is looked up, not listened on
    return PortFree(port=address.port, free=free)


@look(Pace.MOVING)
def source_address(
    source: Source, address: MigrationAddress, identity: HostIdentity
) -> SourceAddress:
    """By number, or by the name that the host has for itself; other names nobody here resolves."""
    if address.host in ("localhost", identity.hostname):
        return SourceAddress(own=True)
    try:
        ip_address(address.host)
    except ValueError:
        return SourceAddress(own=False)
    return SourceAddress(own=could_listen(source, address.host, 0))


@have(Pace.MOVING)
def migration_listener(source: Source, conf: QemuConf) -> MigrationListener:
    """migration_address and migration_port_min to _max (qemu/qemu_conf.c)."""
    address = conf.string("migration_address") or ""
    ports = conf.ports("migration_port", MIGRATION_PORTS)
    return MigrationListener(
        address=address,
        local=could_listen(source, address, 0) if address else True,
        ports=ports,
        any_free=any_free(source, ports),
    )


@check(
    "transport.leads-to-itself",
    Severity.BLOCKER,
    title="the migration address is the source's own",
    remedy="Give an address of the destination, or leave --migrateuri out.",
    side=Side.SOURCE,
    phase=Phase.PERFORM,
)
def leads_to_itself(address: MigrationAddress, seen: SourceAddress) -> Problems:
    """The source's QEMU would connect to the source: to nobody, or to another guest that waits.

    With a port a tunnel may lead on from there, which nobody can see. Error: "unable to connect
    to server at '127.0.0.1:49152': Connection refused".
    """
    subject = f"--migrateuri {address.host}"
    if isinstance(seen.own, Unknown):
        yield CouldNotTell(subject=subject, why=seen.own.why)
    elif seen.own and address.port is not None:
        yield CouldNotTell(
            subject=subject, why=f"it is the source's own, unless port {address.port} leads on"
        )
    elif seen.own:
        yield Problem(
            subject=subject, wanted="an address of the destination", found="the source's own"
        )


@check(
    "transport.not-this-host",
    Severity.RISK,
    title="the migration address is not the destination's",
    remedy="Give an address of the destination, or leave --migrateuri out.",
    phase=Phase.PERFORM,
)
def not_this_host(address: MigrationAddress, seen: SourceAddress) -> Problems:
    """The destination waits for the guest at its own addresses.

    One that it does not have may still lead to it, where addresses are translated on the way.
    """
    try:
        ip_address(address.host)
    except ValueError:
        return
    if seen.own is False:
        yield Problem(
            subject=f"--migrateuri {address.host}",
            wanted="an address of this host",
            found="none of its own",
        )


@check(
    "transport.address-not-here",
    Severity.BLOCKER,
    title="migration_address is not the host's",
    remedy="Set migration_address in qemu.conf to an address of this host, and restart libvirtd.",
)
def address_not_here(host: MigrationListener, options: MigrationOptions) -> Problems:
    """QEMU waits for a guest at that address, and at no other.

    Error: "unable to execute QEMU command 'migrate-incoming': Failed to bind socket: Cannot assign
    requested address". A tunnelled migration needs none.
    """
    if options.tunnelled:
        return
    if isinstance(host.local, Unknown):
        yield CouldNotTell(subject="migration_address", why=host.local.why)
    elif not host.local:
        yield Problem(
            subject="migration_address",
            wanted="an address of this host",
            found=f"{host.address}, which is not",
        )


@check(
    "transport.no-free-port",
    Severity.BLOCKER,
    title="no port left to migrate to",
    remedy="Wait until a migration has ended, or widen migration_port_min to _max in qemu.conf.",
)
def no_free_port(host: MigrationListener, options: MigrationOptions) -> Problems:
    """libvirt takes the first free port of its range, 49152 to 49215 unless qemu.conf says more.

    Error: "Unable to find an unused port in range 'migration' (49152-49215)"
    (virPortAllocatorAcquire, util/virportallocator.c). A port in --migrateuri is not of that range.
    """
    fixed = host_and_port(options.migrateuri.partition(":")[2])[1]
    if options.tunnelled or fixed:
        return
    named = f"{host.ports.start} to {host.ports.stop - 1}"
    if isinstance(host.any_free, Unknown):
        yield CouldNotTell(subject="the migration's port", why=host.any_free.why)
    elif not host.any_free:
        yield Problem(
            subject="the migration's port",
            wanted=f"a free one of {named}",
            found="somebody listens on each",
            commands=("ss -ltnp",),
        )


@check(
    "transport.unknown-name",
    Severity.BLOCKER,
    title="migration address unknown",
    remedy="Make the name known to the source (DNS, /etc/hosts), or give its number.",
    side=Side.SOURCE,
    phase=Phase.PERFORM,
)
def unknown_name(address: MigrationAddress, seen: AddressSeen) -> Problems:
    """The source's QEMU connects to the host that --migrateuri names, so the source must know it.

    Error: "Unable to resolve address 'h9' service '49152': Name or service not known", when the
    destination is already prepared (virNetSocketNewConnectTCP, rpc/virnetsocket.c).
    """
    if seen.unknown_name:
        yield Problem(
            subject=f"--migrateuri {address.host}",
            wanted="a name that the source can resolve",
            found=seen.unknown_name,
            commands=(f"getent hosts {shlex.quote(address.host)}",),
        )


@check(
    "transport.own-name-unknown",
    Severity.BLOCKER,
    title="the source does not know the host by its own name",
    remedy="Make the name known to the source (DNS, /etc/hosts), set migration_host in this host's "
    "qemu.conf, or give an address: virsh migrate --migrateuri tcp://ADDRESS.",
    phase=Phase.PERFORM,
)
def own_name_unknown(seen: LookedUp, host: HostIdentity, conf: QemuConf) -> Problems:
    """Without --migrateuri the destination tells the source its own name, and there it connects.

    Not the name that the operator has for it, nor the one in --desturi. Error: "Unable to resolve
    address 'h9' service '49152': Name or service not known", when the destination is already
    prepared (virNetSocketNewConnectTCP, rpc/virnetsocket.c). A name that is the source itself there
    sends the guest to its own host.
    """
    own = own_name(host.hostname, conf)
    if own.startswith("localhost"):
        return  # libvirt does not even tell it: tenants.host-nameless
    found = seen.lookup_by_name.get(own)
    if found is None:
        yield CouldNotTell(subject=f"name {own}", why="the source was not asked to look it up")
    elif found.doubt:
        yield CouldNotTell(subject=f"name {own}", why=f"on the source: {found.doubt}")
    elif found.fault:
        yield Problem(
            subject=f"name {own}",
            wanted="known to the source as another host",
            found=found.fault,
            commands=(f"getent ahosts {shlex.quote(own)}",),
        )


@check(
    "transport.no-way",
    Severity.BLOCKER,
    title="no way to the migration address",
    remedy="Give an address of the destination that the source can reach.",
    side=Side.SOURCE,
    phase=Phase.PERFORM,
)
def no_way(address: MigrationAddress, seen: AddressSeen) -> Problems:
    """The source connects to the address of --migrateuri when the destination is prepared.

    A host that refuses a connection is there; one that is silent may only drop what it does not
    know. Error: "unable to connect to server at '10.0.0.9:49152': No route to host".
    """
    if seen.no_way:
        yield Problem(
            subject=f"--migrateuri {address.host}", wanted="a route to it", found=seen.no_way
        )
    if seen.silence:
        yield CouldNotTell(subject=f"--migrateuri {address.host}", why=seen.silence)


@check(
    "transport.port-taken",
    Severity.BLOCKER,
    title="the migration port is taken",
    remedy="Give another port, or none: libvirt then takes a free one of its range.",
)
def port_taken(address: MigrationAddress, port: PortFree) -> Problems:
    """A port in --migrateuri is the one that the destination listens on, and no other.

    Error: "unable to execute QEMU command 'migrate-incoming': Failed to find an available port:
    Address already in use" (qemuMigrationDstRun, qemu/qemu_migration.c).
    """
    if not port.free:
        yield Problem(
            subject=f"--migrateuri {address.host}",
            wanted=f"port {port.port} free",
            found="somebody listens there",
            commands=(f"ss -ltnp 'sport = :{port.port}'",),
        )
