"""The guest's domain XML, parsed at the door."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass

from virt_preflight.agent.xml import BadXml, Element, parse, text_of, where

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
