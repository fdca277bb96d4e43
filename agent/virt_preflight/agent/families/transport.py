"""The way between the hosts, as far as the address that the caller gives tells of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Pace, look, need
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.tenants import HostIdentity
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin, Lookup
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Absent, Refused, Source

# Nobody listens there (tcpmux), so that nobody is disturbed: a migration's own port must not be
# knocked at, since a QEMU that waits there for another guest takes any caller for its source.
KNOCK_AT = 1


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
