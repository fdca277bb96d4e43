"""A guest that lives here and would leave: whether it may, and what others must know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from virt_preflight.agent.asks.begin import begin
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain, arriving, read_domain
from virt_preflight.agent.dryrun import Asked, given, report
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.factstore import FactStore, Question
from virt_preflight.agent.families import disks, firmware
from virt_preflight.agent.families.certificates import Credentials
from virt_preflight.agent.families.cpu import HostCpu
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.hostdevs import pci_ids_by_address
from virt_preflight.agent.families.state import GuestCondition
from virt_preflight.agent.families.tenants import HostIdentity
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.hearing import Hearings
from virt_preflight.agent.lookups import look_up
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Report, Side
from virt_preflight.agent.residents import NoSuchDomain, matching, residents
from virt_preflight.agent.sources import Source, SourceError
from virt_preflight.agent.xml import BadXml, parse, text_form

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """What the source says: its own report, the guest's XML, and what else must be known.

    The XML is the migratable one, which a migration sends, with the CPU of the live one, which it
    sends beside it: what the live XML says of networks, backing files and ports is of this host.
    """

    domain_xml: bytes
    origin: GuestOrigin
    report: Report


def departure(
    store: FactStore,
    wanted: str,
    *,
    host: str,
    policy: Policy,
    options: MigrationOptions,
    asked: Asked,
    migration_hosts: Sequence[str] = (),
) -> Departure:
    """Of the guest with that name, id or UUID. Raises NoSuchDomain, SourceError, BadXml."""
    found = matching(residents(store.source), wanted)
    if not found:
        raise NoSuchDomain(f"{host} has no domain {wanted!r}")
    domain = read_domain(store.source.libvirt("domain-xml", found[0].uuid))
    sent = arriving(domain, store.source.libvirt("migratable-xml", found[0].uuid).encode())
    question = store.question(given(domain, policy, options, None), asked.max_age_s)
    # First, what may keep Begin waiting, such as a backup: while it waits libvirtd is asked nothing
    # more about the guest, and the reason would be lost.
    question.value(GuestCondition)
    begun = None if asked.depth is Depth.FACTS else begin(store.source, found[0].uuid, options)
    hearings = Hearings(heard=(begun.hearing,)) if begun else None
    return Departure(
        domain_xml=text_form(sent.root),
        report=report(
            question, Side.SOURCE, domain, hearings, host=host, options=options, asked=asked
        ),
        origin=replace(
            with_stored(origin_of(question, host), store.source, found[0].uuid, options),
            begin_cookie=begun.cookie if begun else b"",
            lookup_by_name=look_up(store.source, migration_hosts),
        ),
    )


def with_stored(
    origin: GuestOrigin, source: Source, uuid: str, options: MigrationOptions
) -> GuestOrigin:
    """With the definition that travels beside a running guest; an offline guest is that itself."""
    if not options.persistent or options.offline:
        return origin
    try:
        stored = text_form(parse(source.libvirt("stored-xml", uuid)))
    except (SourceError, BadXml) as error:
        return replace(origin, unlearned={**origin.unlearned, "stored_xml": str(error)})
    return replace(origin, stored_xml=stored)


def origin_of(question: Question, host: str) -> GuestOrigin:
    """The guest as its host knows it. What cannot be told is left out, with the reason."""
    unlearned: dict[str, str] = {}

    def find(fact: type[T]) -> T | None:
        found = question.value(fact)
        if isinstance(found, Unknown):
            unlearned[fact.__name__] = found.why
            return None
        assert found is None or isinstance(found, fact)
        return found

    identity, versions, cpu = find(HostIdentity), find(HostVersions), find(HostCpu)
    seen_disks, seen_firmware = find(disks.SeenDisks), find(firmware.SeenFirmware)
    identities, digests = find(disks.SeenIdentities), find(firmware.FirmwareDigests)
    conf, tls = find(QemuConf), find(Credentials)
    features = None
    if cpu is not None:
        if isinstance(cpu.offered, Unknown):
            unlearned[HostCpu.__name__] = cpu.offered.why
        else:
            features = cpu.offered
    return GuestOrigin(
        host_name=identity.hostname if identity else host,
        host_uuid=identity.uuid if identity else "",
        libvirt_version=versions.libvirt if versions else None,
        qemu_version=versions.qemu if versions else None,
        host_model_name=cpu.model if cpu else None,
        host_model_vendor=cpu.vendor if cpu else None,
        host_model_features=features,
        bytes_by_path={
            **(disks.guest_bytes(seen_disks) if seen_disks else {}),
            **(firmware.guest_bytes(seen_firmware) if seen_firmware else {}),
        },
        identity_by_path=identities.by_path if identities else {},
        digest_by_path=digests.by_path if digests else {},
        lock_manager=conf.lock_manager if conf else "",
        tls_authority=tls.authority if tls else "",
        tls_client=tls.client if tls else "",
        backing_by_path=disks.backing_by_path(seen_disks) if seen_disks else {},
        pci_ids_by_address=pci_ids_by_address(question.value(Domain), question.store.source),
        unlearned={
            **unlearned,
            **(firmware.guest_doubts(seen_firmware) if seen_firmware else {}),
        },
    )
