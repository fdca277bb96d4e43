"""What libvirt is asked: read calls only, each with a deadline, on one connection kept open."""

from __future__ import annotations

import errno
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from virt_preflight.agent.sources import (
    ABOUT_A_GUEST,
    Absent,
    Impossible,
    LibvirtRefused,
    Refused,
    SourceError,
    Unreached,
    Unreadable,
)
from virt_preflight.agent.sources.live import entrypoints
from virt_preflight.agent.sources.observer import UNOBSERVED, SourceObserver
from virt_preflight.agent.sources.patience import Patience

WITHIN_S = 2.0
# libvirtd may have to probe a QEMU that it has not seen.
PROBING_WITHIN_S = 12.0
# libvirtd is given up on after this long without a sign of life: interval times count.
KEEPALIVE_INTERVAL_S = 3
KEEPALIVE_COUNT = 3

ABSENT = {
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
    libvirt.VIR_ERR_NO_SECRET,
    libvirt.VIR_ERR_NO_NWFILTER,
    libvirt.VIR_ERR_NO_NODE_DEVICE,
}
# The same question may be answered another time: nothing follows from these.
UNCLEAR = {
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
    libvirt.VIR_ERR_ACCESS_DENIED,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    libvirt.VIR_ERR_OPERATION_DENIED,
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_SYSTEM_ERROR,
}
# So may those for which libvirtd has to probe a QEMU that it has not seen: seconds.
PROBING = {"domain-capabilities", "compare-cpu", "native"}
STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTOFF: "shut off",
}
LISTED = {
    "running": libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING,
    "paused": libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED,
    "shut off": libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF,
}
USAGES = {
    libvirt.VIR_SECRET_USAGE_TYPE_VOLUME: "volume",
    libvirt.VIR_SECRET_USAGE_TYPE_CEPH: "ceph",
    libvirt.VIR_SECRET_USAGE_TYPE_ISCSI: "iscsi",
    libvirt.VIR_SECRET_USAGE_TYPE_TLS: "tls",
}

# What may be otherwise in a moment, or for another user: no word about the guest.
TRANSIENT = {
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
    libvirt.VIR_ERR_ACCESS_DENIED,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    libvirt.VIR_ERR_OPERATION_DENIED,
    libvirt.VIR_ERR_RPC,
}

# The right that a question needs, by polkit's name (libvirt's access/viraccessperm.c).
RIGHTS = {
    "version": "org.libvirt.api.connect.getattr",
    "capabilities": "org.libvirt.api.connect.read",
    "hostname": "org.libvirt.api.connect.getattr",
    "domain-capabilities": "org.libvirt.api.connect.write",
    "domains": "org.libvirt.api.connect.search-domains and org.libvirt.api.domain.read",
    "domain-xml": "org.libvirt.api.domain.read",
    "migratable-xml": "org.libvirt.api.domain.read-secure",
    "stored-xml": "org.libvirt.api.domain.read",
    "domain-jobs": "org.libvirt.api.domain.read",
    "networks": "org.libvirt.api.connect.search-networks and org.libvirt.api.network.read",
    "nwfilters": "org.libvirt.api.connect.search-nwfilters and org.libvirt.api.nwfilter.read",
    "pools": "org.libvirt.api.connect.search-storage-pools and org.libvirt.api.storage-pool.read",
    "pool-volumes": "org.libvirt.api.storage-pool.search-storage-vols",
    "volume": "org.libvirt.api.storage-vol.getattr and org.libvirt.api.storage-vol.read",
    "secrets": "org.libvirt.api.connect.search-secrets and org.libvirt.api.secret.getattr",
    "network-named": "org.libvirt.api.network.getattr",
    "nwfilter-named": "org.libvirt.api.nwfilter.getattr",
    "pool-named": "org.libvirt.api.storage-pool.getattr",
    "pool-at": "org.libvirt.api.storage-pool.getattr",
    "secret-known": "org.libvirt.api.secret.getattr",
    "secret-for": "org.libvirt.api.secret.getattr",
    "begin": "org.libvirt.api.domain.migrate",
    "compare-cpu": "org.libvirt.api.connect.write",
    "native": "org.libvirt.api.connect.write",
}
# What the QEMU driver itself asks of another driver for a guest, with its caller's rights: whose
# driver refused is in the error, which right it wanted is not.
RIGHTS_OF_DRIVER = {
    "secret": "org.libvirt.api.secret.getattr or org.libvirt.api.secret.read-secure",
    "storage": "org.libvirt.api.storage-pool.getattr, org.libvirt.api.storage-vol.getattr or "
    "org.libvirt.api.storage-vol.read",
}
# virAccessError (access/viraccessmanager.c)
DENIED_BY = re.compile(r"'(\w+)' denied access")
# To connect at all and not only to read: polkit, or the owner and group of libvirtd's socket.
CONNECT = "org.libvirt.unix.manage, or libvirtd's unix_sock_group"
# Asked for as soon as the socket is open, where libvirtd asks polkit for every single thing.
CONNECTED = "org.libvirt.api.connect.getattr"
UNWELCOME = {
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
}
# They may wait for the job of a guest, which another holds for up to 30 s, or for its QEMU: that
# guest holds up nobody else. The first argument is its UUID.
MAY_WAIT_FOR_A_GUEST = {"domain-xml", "migratable-xml", "stored-xml", "domain-jobs", "begin"}
# virConnectDomainXMLToNative: the form that the QEMU driver alone knows.
NATIVE = "qemu-argv"

# virDomainJobOperation
OPERATIONS = {
    1: "start",
    2: "save",
    3: "restore",
    4: "migration-in",
    5: "migration-out",
    6: "snapshot",
    7: "snapshot-revert",
    8: "dump",
    9: "backup",
    10: "snapshot-delete",
}

_loop_guard = threading.Lock()
_loop_runs = False


class Line:
    """One connection, opened when first needed and again when it was lost."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._connection: Any = None
        self._generation = 0
        self._guard = threading.Lock()

    def generation(self) -> int:
        """Another number once the connection was lost: its libvirtd may be another."""
        self.lost()
        return self._generation

    def open(self) -> Any:
        """The connection. Raises Unreadable."""
        with self._guard:
            if self._connection is None:
                run_event_loop()
                try:
                    connection = libvirt.open(self._uri)
                except libvirt.libvirtError as error:
                    raise unreached(error) from error
                # Some drivers (test:///) have no connection to keep alive.
                with suppress(libvirt.libvirtError):
                    connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
                self._connection = connection
            return self._connection

    def lost(self) -> bool:
        """Whether the connection was lost; the next is then opened anew."""
        connection = self._connection
        if connection is None or connection.isAlive():
            return False
        with self._guard:
            if self._connection is connection:
                self._connection = None
                self._generation += 1
        return True


class Libvirtd:
    """One line for all that libvirtd answers by itself, and one for what may wait for a guest.

    While one thread waits for an answer, others on the same connection may be left without theirs
    (seen with libvirt 9.0, where the waiting one reads for all). So who waits too long keeps his
    connection until he is answered, and the others get a new one.
    """

    def __init__(self, uri: str, patience: Patience, observer: SourceObserver = UNOBSERVED) -> None:
        self._uri = uri
        self._patience = patience
        self._observer = observer
        self._line = Line(uri)
        self._apart = Line(uri)

    def generation(self) -> int:
        """Another number once the connection was lost: its libvirtd may be another."""
        return self._line.generation()

    def ask(self, question: str, arguments: tuple[str, ...]) -> str:
        """The raw answer. Asked once more when the connection turns out to be lost."""
        answer = QUESTIONS[question]
        within_s = PROBING_WITHIN_S if question in PROBING else WITHIN_S
        waits = question in MAY_WAIT_FOR_A_GUEST
        line = self._apart if waits else self._line
        answered = threading.Event()

        def told(error: libvirt.libvirtError) -> SourceError:
            if lacks := right_lacking(error, question):
                return Unreadable(lacks)
            return refusal(error) if question in ABOUT_A_GUEST else sentence(error)

        def once() -> str:
            connection, started = line.open(), time.monotonic()
            try:
                return answer(connection, *arguments)
            finally:
                self._observer.libvirt_answered(question, time.monotonic() - started)

        def put() -> str:
            try:
                try:
                    return once()
                except libvirt.libvirtError:
                    if not line.lost():
                        raise
                    return once()
            except libvirt.libvirtError as error:
                raise told(error) from error
            finally:
                answered.set()

        if not waits:
            return self._patience.ask("libvirtd", within_s, put)
        try:
            return self._patience.ask(f"libvirtd about guest {arguments[0]}", within_s, put)
        finally:
            if not answered.is_set() and self._apart is line:
                self._apart = Line(self._uri)


def run_event_loop() -> None:
    """libvirt notices a lost or a silent daemon only where an event loop runs."""
    global _loop_runs  # libvirt's loop is one for the process
    with _loop_guard:
        if _loop_runs:
            return
        # Errors come as exceptions; libvirt would print them on stderr, too.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()

        def turn() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        threading.Thread(target=turn, name="libvirt-events", daemon=True).start()
        _loop_runs = True


@contextmanager
def own_connection(uri: str) -> Iterator[Any]:
    """One of its own, which ends with what is played on it. Raises libvirtError.

    libvirtd ends at once whatever was started on it and is still there (AUTODESTROY).
    """
    run_event_loop()
    connection = libvirt.open(uri)
    try:
        yield connection
    finally:
        with suppress(libvirt.libvirtError):
            connection.close()


def words(error: libvirt.libvirtError) -> str:
    """libvirt's own sentence."""
    return str(error.get_error_message() or error)


def right_lacking(error: libvirt.libvirtError, question: str) -> str:
    """What the agent would need to be answered; empty when it is not for want of a right."""
    match error.get_error_code():
        case libvirt.VIR_ERR_OPERATION_DENIED:
            return f"the agent needs a read-write connection to libvirt: {words(error)}"
        case libvirt.VIR_ERR_ACCESS_DENIED:
            by = DENIED_BY.search(words(error))
            lacking = RIGHTS_OF_DRIVER.get(by[1] if by else "", RIGHTS[question])
            return f"the agent needs the right {lacking}: {words(error)}"
        case code if code in UNWELCOME:
            return f"the agent needs the right {RIGHTS[question]}: {words(error)}"
        case _:
            return ""


def sentence(error: libvirt.libvirtError) -> SourceError:
    """An absence or a refusal is an answer; anything else leaves the question open."""
    code = error.get_error_code()
    if code in ABSENT:
        return Absent(words(error))
    if code in UNCLEAR or code is None:
        return Unreadable(f"libvirt: {words(error)}")
    return Refused(words(error))


def refusal(error: libvirt.libvirtError) -> SourceError:
    """Of a question whether libvirt lets a guest pass: nearly whatever it says is a no.

    The codes of UNCLEAR are too wide here: "internal error: ..." is how QEMU's words come back.
    """
    code = error.get_error_code()
    if code in TRANSIENT or code is None:
        return Unreadable(f"libvirt: {words(error)}")
    if code == libvirt.VIR_ERR_NO_SUPPORT or _is_of_another_driver(error):
        return Impossible(words(error))
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return Absent(words(error))
    return LibvirtRefused(words(error), code, error.get_error_domain())


def _is_of_another_driver(error: libvirt.libvirtError) -> bool:
    """Xen's and others refuse the form of the command line, whatever the guest."""
    code, said = error.get_error_code(), words(error)
    return bool(code == libvirt.VIR_ERR_INVALID_ARG and NATIVE in said and "config type" in said)


def unreached(error: libvirt.libvirtError) -> SourceError:
    """No socket, or nobody behind it, is sure; no right to connect is not."""
    sentence = f"libvirtd cannot be reached: {words(error)}"
    if error.get_int1() in (errno.ENOENT, errno.ECONNREFUSED):
        return Unreached(sentence)
    if error.get_error_code() == libvirt.VIR_ERR_ACCESS_DENIED:
        return Unreadable(f"the agent needs the right {CONNECTED}: {sentence}")
    if error.get_int1() == errno.EACCES or error.get_error_code() in UNWELCOME:
        return Unreadable(f"the agent needs the right {CONNECT}: {sentence}")
    return Unreadable(sentence)


def _version(connection: Any) -> str:
    return json.dumps({"libvirt": connection.getLibVersion(), "qemu": connection.getVersion()})


def _capabilities(connection: Any) -> str:
    return str(connection.getCapabilities())


def _hostname(connection: Any) -> str:
    return str(connection.getHostname())


def _domain_capabilities(
    connection: Any, emulator: str, architecture: str, machine: str, virt_type: str
) -> str:
    return str(
        connection.getDomainCapabilities(
            emulator or None, architecture or None, machine or None, virt_type or None, 0
        )
    )


def _domains(connection: Any) -> str:
    """Each domain's state by libvirt's filters, which wait for nobody.

    Asked for by itself, that of a guest whose QEMU hangs while a job of its own waits for that
    QEMU is not answered before the job ends (seen with 9.0).
    """
    state_by_uuid = {
        domain.UUIDString(): state
        for state, wanted in LISTED.items()
        for domain in connection.listAllDomains(wanted)
    }
    found = []
    for domain in connection.listAllDomains(0):
        try:
            persistent = bool(domain.isPersistent())
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            continue  # it went away between the list and the question
        number, uuid = domain.ID(), domain.UUIDString()
        found.append(
            {
                "name": domain.name(),
                "uuid": uuid,
                "id": number if number >= 0 else None,
                "state": state_by_uuid.get(uuid, "other"),
                "persistent": persistent,
            }
        )
    return json.dumps(found)


def _domain_xml(connection: Any, uuid: str) -> str:
    return str(connection.lookupByUUIDString(uuid).XMLDesc(0))


def _migratable_xml(connection: Any, uuid: str) -> str:
    return str(connection.lookupByUUIDString(uuid).XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE))


def _stored_xml(connection: Any, uuid: str) -> str:
    """Of a guest that is not kept, what runs: --persistent makes that its definition."""
    flags = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_INACTIVE
    return str(connection.lookupByUUIDString(uuid).XMLDesc(flags))


def _domain_jobs(connection: Any, uuid: str) -> str:
    domain = connection.lookupByUUIDString(uuid)
    state, reason = domain.state(0)
    paused_by_error = (
        state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR
    )
    return json.dumps(
        {
            "snapshots": _or_null(lambda: domain.snapshotNum(0)),
            "block_jobs": _or_null(lambda: _block_jobs(domain)),
            "job": _or_null(lambda: _job(domain)),
            "state": STATES.get(state, "other"),
            "reason": "ioerror" if paused_by_error else "",
            "messages": _or_null(lambda: _messages(domain)),
        }
    )


def _or_null(question: Callable[[], Any]) -> Any:
    """What libvirt does not tell is null; a lost connection is not that."""
    try:
        return question()
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_ACCESS_DENIED):
            return None
        raise


def _messages(domain: Any) -> list[str] | None:
    """What libvirt holds against the guest, in its words; null before libvirt 7.1."""
    if not hasattr(domain, "messages"):
        return None
    return list(domain.messages(0))


def _block_jobs(domain: Any) -> list[str]:
    """Targets of the disks that a block job works on."""
    if not domain.isActive():
        return []
    # libvirt's own XML, of its own making: nothing hostile in its structure.
    root = ET.fromstring(domain.XMLDesc(0))  # noqa: S314
    targets = [target.get("dev", "") for target in root.findall("devices/disk/target")]
    return [target for target in targets if domain.blockJobInfo(target, 0)]


def _job(domain: Any) -> str:
    """What is under way; an empty string when nothing is."""
    if not domain.isActive():
        return ""
    told = domain.jobStats(0)
    if told.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
        return ""
    return OPERATIONS.get(told.get("operation"), "unknown")


def _networks(connection: Any) -> str:
    found = []
    for network in connection.listAllNetworks(0):
        active = bool(network.isActive())
        xml = network.XMLDesc(0)
        try:
            bridge = network.bridgeName() if active else ""
        except libvirt.libvirtError:
            # Networks on macvtap or hostdev have none.
            bridge = ""
        found.append({"name": network.name(), "active": active, "bridge": bridge, "xml": xml})
    return json.dumps(found)


def _nwfilters(connection: Any) -> str:
    return json.dumps(
        [{"name": item.name(), "xml": item.XMLDesc(0)} for item in connection.listAllNWFilters(0)]
    )


def _pools(connection: Any) -> str:
    return json.dumps(
        [
            {"name": pool.name(), "active": bool(pool.isActive()), "xml": pool.XMLDesc(0)}
            for pool in connection.listAllStoragePools(0)
        ]
    )


def _pool_volumes(connection: Any, pool: str) -> str:
    """As libvirt lists them, without a look at whether they are there still."""
    return json.dumps(connection.storagePoolLookupByName(pool).listVolumes())


def _volume(connection: Any, pool: str, volume: str) -> str:
    found = connection.storagePoolLookupByName(pool).storageVolLookupByName(volume)
    return json.dumps({"path": found.path(), "xml": found.XMLDesc(0)})


def _secrets(connection: Any) -> str:
    return json.dumps([_secret(secret) for secret in connection.listAllSecrets(0)])


def _secret(secret: Any) -> dict[str, Any]:
    """Whether it has a value, without keeping it; a private secret tells nobody: null."""
    has_value: bool | None
    try:
        has_value = secret.value(0) is not None
    except libvirt.libvirtError as error:
        has_value = False if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET else None
    return {
        "uuid": secret.UUIDString(),
        "usage_type": USAGES.get(secret.usageType(), "none"),
        "usage_id": secret.usageID(),
        "has_value": has_value,
    }


def _network_named(connection: Any, name: str) -> str:
    connection.networkLookupByName(name)
    return ""


def _nwfilter_named(connection: Any, name: str) -> str:
    connection.nwfilterLookupByName(name)
    return ""


def _pool_named(connection: Any, name: str) -> str:
    connection.storagePoolLookupByName(name)
    return ""


def _pool_at(connection: Any, directory: str) -> str:
    connection.storagePoolLookupByTargetPath(directory)
    return ""


def _secret_known(connection: Any, uuid: str) -> str:
    connection.secretLookupByUUIDString(uuid)
    return ""


def _secret_for(connection: Any, usage_type: str, usage_id: str) -> str:
    number = next((number for number, name in USAGES.items() if name == usage_type), 0)
    connection.secretLookupByUsage(number, usage_id)
    return ""


def _begin(connection: Any, uuid: str, flags: str, parameters: str) -> str:
    """The cookie alone: the XML of Begin holds the passwords of the guest's graphics."""
    domain = connection.lookupByUUIDString(uuid)
    _, cookie = entrypoints.begin(domain, int(flags), json.loads(parameters))
    return cookie.rstrip(b"\0").decode()


def _compare_cpu(
    connection: Any, emulator: str, architecture: str, machine: str, virt_type: str, cpu: str
) -> str:
    connection.compareHypervisorCPU(
        emulator or None,
        architecture or None,
        machine or None,
        virt_type or None,
        cpu,
        libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
    )
    return ""


def _native(connection: Any, xml: str) -> str:
    """Whether it can be written; the command line itself is nobody's business."""
    connection.domainXMLToNative(NATIVE, xml, 0)
    return ""


QUESTIONS: dict[str, Callable[..., str]] = {
    "version": _version,
    "capabilities": _capabilities,
    "hostname": _hostname,
    "domain-capabilities": _domain_capabilities,
    "domains": _domains,
    "domain-xml": _domain_xml,
    "migratable-xml": _migratable_xml,
    "stored-xml": _stored_xml,
    "domain-jobs": _domain_jobs,
    "networks": _networks,
    "nwfilters": _nwfilters,
    "pools": _pools,
    "pool-volumes": _pool_volumes,
    "volume": _volume,
    "secrets": _secrets,
    "network-named": _network_named,
    "nwfilter-named": _nwfilter_named,
    "pool-named": _pool_named,
    "pool-at": _pool_at,
    "secret-known": _secret_known,
    "secret-for": _secret_for,
    "begin": _begin,
    "compare-cpu": _compare_cpu,
    "native": _native,
}
