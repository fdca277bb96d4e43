"""The guest's domain XML, parsed at the door."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass

from virt_preflight.agent.xml import BadXml, Element, kib, parse, text_of, where

UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Domain:
    """One guest. `root` is read by the families, each its own part, and changed by nobody."""

    name: str
    # Empty when the XML gives none: libvirt then makes one up.
    uuid: str
    root: Element


def read_domain(document: bytes | str) -> Domain:
    """Raises BadXml when it is no domain XML."""
    root = parse(document)
    if root.tag != "domain":
        raise BadXml(f"{where(root)}: the root element is no <domain>")
    name = text_of(root, "name")
    if name is None:
        raise BadXml(f"{where(root)}: has no <name>")
    # virDomainDefParseXML (conf/domain_conf.c) refuses the same two.
    if "/" in name or "\n" in name:
        raise BadXml(f"{where(root)}: <name> is {name!r}, it must hold no / and no line break")
    uuid = text_of(root, "uuid") or ""
    if uuid and not UUID.fullmatch(uuid):
        raise BadXml(f"{where(root)}: <uuid> is {uuid!r}, which is no UUID")
    return Domain(name=name, uuid=canonical_uuid(uuid), root=root)


def complete(domain: Domain) -> Domain:
    """The same. Raises BadXml for what no libvirt takes, whichever its hypervisor.

    What virDomainDefParseXML (conf/domain_conf.c) cannot do without beside the name: "missing
    domain type attribute", "an os <type> must be specified", "Memory size must be specified via
    <memory> or in the <numa> configuration". All else it makes up, be it one vCPU.
    """
    root = domain.root
    if not root.get("type"):
        raise BadXml(f"{where(root)}: has no attribute type, as in <domain type='kvm'>")
    if text_of(root, "os/type") is None and text_of(root, "bootloader") is None:
        within = root.find("os")
        if within is None:
            raise BadXml(f"{where(root)}: has no <os> with a <type>, as <type>hvm</type>")
        raise BadXml(f"{where(within)}: has no <type>, as <type>hvm</type>")
    if root.find("cpu/numa/cell") is None:
        memory = root.find("memory")
        if memory is None:
            raise BadXml(f"{where(root)}: has no <memory>")
        if kib(memory) == 0:
            raise BadXml(f"{where(memory)}: is 0")
    return domain


def arriving(live: Domain, xml: bytes) -> Domain:
    """The guest as a destination sees it when that XML is sent.

    Its CPU is the one that it really has: libvirt takes it from the migration cookie and puts it
    in the place of the one that the XML asks for (qemuDomainUpdateCPU). Raises BadXml.
    """
    changed = read_domain(xml)
    live_cpu = live.root.find("cpu")
    given_cpu = changed.root.find("cpu")
    if given_cpu is not None:
        changed.root.remove(given_cpu)
    if live_cpu is not None:
        changed.root.append(deepcopy(live_cpu))
    return changed


def canonical_uuid(uuid: str) -> str:
    """Lower case with dashes; empty stays empty."""
    digits = uuid.replace("-", "").lower()
    if not digits:
        return ""
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
