"""The migration cookie that goes with a stand-in: made anew, of what is harmless in the guest's.

Whoever asks may hand us any bytes as the cookie of libvirt's Begin phase, and libvirtd trusts its
peers. So nothing is passed through. It is parsed within limits, and a new one is built of the
parts that the Prepare phase reads and that are about this guest (qemuMigrationCookieXMLParse,
qemu/qemu_migration_cookie.c): the host that it comes from, features that libvirt must know, the
live CPU, QEMU's migration capabilities.

Left behind: `<graphics>`, `<network>`, `<statistics>` and `<domain>`, which only Finish reads;
`<lockstate>`, leases that nobody shall take for a stand-in; `<nbd>` and `<blockDirtyBitmaps>`,
which are about copying disks, and let libvirt make files.
"""

from __future__ import annotations

import re
from copy import deepcopy
from uuid import UUID, uuid4

from lxml import etree

from virt_preflight.agent.xml import BadXml, Element, parse, text_form, text_of, where

# Larger ones were not met: a cookie holds the CPU and a dozen names. libvirt takes 4 MiB.
MAX_BYTES = 256 * 1024
FEATURES_AT_MOST = 16
CAPABILITIES_AT_MOST = 128
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,254}")
UNNAMED_HOST = "virt-preflight"


def cookie_of(begun: bytes, *, name: str, uuid: str) -> bytes:
    """Of the cookie that Begin gave for the guest, one for the stand-in. Raises BadXml."""
    if len(begun) > MAX_BYTES:
        raise BadXml(f"{len(begun)} bytes, at most {MAX_BYTES} are read")
    root = parse(begun.rstrip(b"\0\n "))
    if root.tag != "qemu-migration":
        raise BadXml(f"{where(root)}: is no <qemu-migration>")
    capabilities = root.find("capabilities")
    if capabilities is None:
        raise BadXml(f"{where(root)}: has no <capabilities>")
    made = _begun(
        name=name,
        uuid=uuid,
        host=_matching(root, "hostname", HOST),
        host_uuid=_host_uuid(root),
    )
    for feature in root.findall("feature")[:FEATURES_AT_MOST]:
        etree.SubElement(made, "feature", name=_named(feature))
    cpu = root.find("cpu")
    if cpu is not None:
        made.append(_cpu(cpu))
    listed = etree.SubElement(made, "capabilities")
    for one in capabilities.findall("cap")[:CAPABILITIES_AT_MOST]:
        automatic = "yes" if one.get("auto") == "yes" else "no"
        etree.SubElement(listed, "cap", name=_named(one), auto=automatic)
    return text_form(made)


def cookie_without(*, name: str, uuid: str, host: str = "", host_uuid: str = "") -> bytes:
    """One for a guest whose Begin was not asked: the stand-in's XML itself names its live CPU.

    A host that is not known is none that there is: libvirt takes nothing from itself.
    """
    made = _begun(
        name=name,
        uuid=uuid,
        host=host if HOST.fullmatch(host) else UNNAMED_HOST,
        host_uuid=_uuid(host_uuid) or str(uuid4()),
    )
    etree.SubElement(made, "capabilities")
    return text_form(made)


def _begun(*, name: str, uuid: str, host: str, host_uuid: str) -> Element:
    made = etree.Element("qemu-migration")
    for tag, text in (("name", name), ("uuid", uuid), ("hostname", host), ("hostuuid", host_uuid)):
        etree.SubElement(made, tag).text = text
    return made


def _matching(root: Element, path: str, pattern: re.Pattern[str]) -> str:
    text = text_of(root, path) or ""
    if not pattern.fullmatch(text):
        raise BadXml(f"{where(root)}: <{path}> is {text!r}")
    return text


def _host_uuid(root: Element) -> str:
    text = text_of(root, "hostuuid") or ""
    found = _uuid(text)
    if not found:
        raise BadXml(f"{where(root)}: <hostuuid> is {text!r}, which is no UUID")
    return found


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        return ""


def _named(element: Element) -> str:
    name = element.get("name") or ""
    if not WORD.fullmatch(name):
        raise BadXml(f"{where(element)}: name is {name!r}")
    return name


def _cpu(cpu: Element) -> Element:
    """Without NUMA cells: they are the stand-in's own."""
    copied = deepcopy(cpu)
    copied.tail = None
    for cells in copied.findall("numa"):
        copied.remove(cells)
    return copied
