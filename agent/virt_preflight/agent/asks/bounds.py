"""Whether libvirt may be handed a guest to prepare: it opens whatever the guest names.

Where the agent is fenced in, so is what it has others open for whoever asks: QEMU's error would
tell which files there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from virt_preflight.agent.asks.standin import QEMU
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.factstore import Question
from virt_preflight.agent.families.disks import GuestDisks, SeenDisks
from virt_preflight.agent.fence import Fenced, Outside, paths_in
from virt_preflight.agent.xml import Element

# What libvirt keeps of them are words: nothing is opened. The partition is one of cgroups.
WORDS = ("name", "title", "description", "metadata", "uuid", "resource")
# What may be a path though it does not begin like one: QEMU opens it from where it is started.
RELATIVE = (
    "os/kernel",
    "os/initrd",
    "os/dtb",
    "os/shim",
    "os/loader",
    "os/nvram",
    "os/acpi/table",
    "devices/emulator",
    "devices/memory/source/path",
)
RELATIVE_ATTRIBUTES = (
    ("devices/disk//source", ("file", "dir", "dev")),
    ("devices/filesystem/source", ("file", "dir", "dev", "socket")),
    ("devices/*/source", ("path",)),
    ("sysinfo/entry", ("file",)),
)
# Formats whose headers name no file but the backing and the data file that are followed. Others
# (an extent of vmdk, the parent of vhdx) are not.
FOLLOWED = ("", "raw", "qcow", "qcow2", "qed", "fat")


def out_of_bounds(question: Question, domain: Domain) -> str:
    """Why not; empty where it may, as where nobody fenced the agent in."""
    looking = question.store.looking
    if not isinstance(looking, Fenced):
        return ""
    for path in _named(domain.root):
        if not looking.fence.lets(path):
            return str(Outside(path))
    if question.value(GuestDisks) is None:
        return ""
    seen = question.value(SeenDisks)
    if not isinstance(seen, SeenDisks):
        why = seen.why if isinstance(seen, Unknown) else "its disks are not known"
        return f"whether the images of its disks lead outside: {why}"
    for path in _led_to(seen):
        if not looking.fence.lets(path):
            return str(Outside(path))
    return next(_untold(seen), "")


def beyond_telling(question: Question, domain: Domain) -> str:
    """Why it may not be handed over as it is; a stand-in comes without what this is about."""
    if not isinstance(question.store.looking, Fenced):
        return ""
    own = [f"qemu:{name}" for name in ("commandline", "override") if _has(domain.root, name)]
    return f"what {own[0]} would have QEMU open nobody can tell beforehand" if own else ""


def _has(root: Element, name: str) -> bool:
    return root.find(f"{{{QEMU}}}{name}") is not None


def _named(root: Element) -> Iterator[str]:
    """By the guest's XML."""
    yield from paths_in(
        part for part in root if isinstance(part.tag, str) and part.tag not in WORDS
    )
    written = [element.text or "" for path in RELATIVE for element in root.findall(path)]
    for path, names in RELATIVE_ATTRIBUTES:
        written += [found.get(name, "") for found in root.findall(path) for name in names]
    yield from (text for text in map(str.strip, written) if text and not text.startswith("/"))


def _led_to(seen: SeenDisks) -> Iterator[str]:
    """By volumes of pools, and by what images themselves name."""
    for chain in seen.chains.values():
        yield from (member.path for member in chain.members)


def _untold(seen: SeenDisks) -> Iterator[str]:
    for chain in seen.chains.values():
        for member in chain.members:
            image = seen.images.get(member.path)
            if isinstance(image, Unknown):
                yield f"whether {member.path} leads outside: {image.why}"
            elif member.format not in FOLLOWED:
                yield f"whether {member.path} leads outside: {member.format} is not followed"
        if chain.opaque or chain.too_deep:
            yield f"whether a backing file is outside: {chain.opaque or chain.too_deep}"
