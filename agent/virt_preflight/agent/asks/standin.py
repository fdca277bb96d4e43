"""A stand-in for the guest: its domain XML, made so that preparing it costs and touches little.

Pure. The stand-in has another name and UUID and 32 MiB of memory; libvirt gives none of its files
another owner; no device of the host is taken from its driver; nobody on a network hears of it.
What is taken out is said, and everything else stays as it is, for that is what is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace

from lxml import etree

from virt_preflight.agent.asks.belongings import LOCKED, Belongings, Setting, called, sorted_out
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.xml import Element, parse, text_form, text_of

MEMORY_KIB = 32 * 1024
# Smallest share of a NUMA cell: two pages of 2 MiB, to which libvirt and QEMU round.
CELL_KIB = 4 * 1024
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"

# Beside the devices: what only people read, and what takes memory.
DROPPED = ("title", "description", "metadata", "memtune", "maxMemory")
# In <memoryBacking>: pages and memory taken at once, be the guest ever so small.
BACKINGS = ("hugepages", "locked", "allocation")


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """What is tried instead of the guest, and how to speak of the guest where it is named."""

    name: str
    uuid: str
    domain_xml: bytes
    # Files that come to be with it, each beside the guest's own, and called after the stand-in.
    files: tuple[str, ...] = ()
    # What of the guest it lacks: ("hostdev pci", why).
    left_out: tuple[tuple[str, str], ...] = ()
    # Its names, paths and addresses, and the guest's own for each.
    own_by_its: Mapping[str, str] = field(default_factory=dict)

    def spoken(self, words: str) -> str:
        """Words about the stand-in as they would be about the guest."""
        for its in sorted(self.own_by_its, key=len, reverse=True):
            words = words.replace(its, self.own_by_its[its])
        return words


def standin_for(domain: Domain, *, name: str, uuid: str, setting: Setting) -> StandIn:
    """The guest as the destination would see it, with all of the above done to it."""
    root = deepcopy(domain.root)
    kept = sorted_out(root, name=name, setting=setting)
    _rename(root, domain, name, uuid)
    for tag in DROPPED:
        _remove(root, tag)
    _shrink(root)
    _left(root, kept)
    _unlabelled(root, setting)
    return StandIn(
        name=name,
        uuid=uuid,
        domain_xml=text_form(root),
        files=tuple(kept.files),
        left_out=tuple(dict.fromkeys(kept.left_out)),
        own_by_its={name: domain.name, **({uuid: domain.uuid} if domain.uuid else {}), **kept.own},
    )


def without_disks(standin: StandIn) -> StandIn:
    """As a guest that is created rather than prepared: what runs elsewhere has locked its disks."""
    root = parse(standin.domain_xml)
    left_out = [*standin.left_out]
    devices = root.find("devices")
    for disk in root.findall("devices/disk"):
        assert devices is not None, "it holds the disk"
        devices.remove(disk)
        left_out.append((called(disk), LOCKED))
    return replace(standin, domain_xml=text_form(root), left_out=tuple(left_out))


def _rename(root: Element, domain: Domain, name: str, uuid: str) -> None:
    for tag, text in (("uuid", uuid), ("name", name)):
        _remove(root, tag)
        element = etree.Element(tag)
        element.text = text
        root.insert(0, element)
    # libvirt insists that the firmware tells the guest its own UUID
    # (virSysinfoSystemParseXML, conf/domain_conf.c).
    for entry in root.findall("sysinfo/system/entry[@name='uuid']"):
        if (entry.text or "").strip().lower() == domain.uuid:
            entry.text = uuid


def _shrink(root: Element) -> None:
    cells = root.findall("cpu/numa/cell")
    share = max(CELL_KIB, MEMORY_KIB // len(cells) // CELL_KIB * CELL_KIB) if cells else 0
    total = 0
    for cell in cells:
        # Cells of vCPUs alone have no memory, and stay so.
        if cell.get("memory", "").strip("0 "):
            cell.set("memory", str(share))
            cell.set("unit", "KiB")
            total += share
    for tag in ("currentMemory", "memory"):
        _remove(root, tag)
        element = etree.Element(tag, unit="KiB")
        element.text = str(total or MEMORY_KIB)
        root.insert(2, element)
    backing = root.find("memoryBacking")
    if backing is not None:
        for tag in BACKINGS:
            _remove(backing, tag)


def _left(root: Element, kept: Belongings) -> None:
    """Parts beside the devices that do more than a trial may."""
    for tag in ("cachetune", "memorytune"):
        for element in root.findall(f"cputune/{tag}"):
            root.find("cputune").remove(element)  # type: ignore[union-attr]
            kept.left_out.append((tag, "the host's cache would be shared out anew"))
    for element in root.findall(f"{{{QEMU}}}commandline"):
        root.remove(element)
        kept.left_out.append(("qemu:commandline", "what it does nobody can tell beforehand"))


def _unlabelled(root: Element, setting: Setting) -> None:
    """QEMU runs as the same user, and libvirt gives it no file: its disks are a running guest's.

    A label that is static and not to be applied says so for all files at once: disks, firmware,
    kernels, logs.
    """
    label = f"+{setting.uid}:+{setting.gid}"
    for element in root.findall("seclabel"):
        if element.get("model") == "dac":
            if element.get("type") == "static":
                label = text_of(element, "label") or label
            root.remove(element)
        elif element.get("model") in setting.labelling:
            root.remove(element)
    static = etree.SubElement(root, "seclabel", type="static", model="dac", relabel="no")
    etree.SubElement(static, "label").text = label
    for model in sorted(setting.labelling):
        etree.SubElement(root, "seclabel", type="none", model=model)


def _remove(parent: Element, tag: str) -> None:
    for element in parent.findall(tag):
        parent.remove(element)
