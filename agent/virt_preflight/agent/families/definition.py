"""The guest's definition in libvirt's own words, and whether the libvirt there knows them all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.fact import Pace, have, look, need
from virt_preflight.agent.families.disks.openings import ROOT
from virt_preflight.agent.families.versions import FEATURES_OF_OLD, SCHEMA
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Severity
from virt_preflight.agent.sources import Absent, Source, Want
from virt_preflight.agent.xml import Element

# Where libvirt takes one of a few words and refuses any other, with those that every libvirt which
# is still about (7.0 and newer) knows (VIR_ENUM_IMPL in conf/domain_conf.c).
VALUES_OF_OLD = {
    ("devices/audio", "type"): "none alsa coreaudio jack oss pulseaudio sdl spice file",
    ("devices/channel", "type"): "null vc pty dev file pipe stdio udp tcp unix spicevmc spiceport",
    ("devices/disk/target", "bus"): "ide fdc scsi virtio xen usb uml sata sd",
    ("devices/graphics", "type"): "sdl vnc rdp desktop spice egl-headless",
    ("devices/input", "type"): "mouse tablet keyboard passthrough",
    ("devices/interface", "type"): "ethernet bridge network user mcast server client internal "
    "direct hostdev udp vdpa vhostuser",
    ("devices/iommu", "model"): "intel smmuv3",
    ("devices/memory", "model"): "dimm nvdimm virtio-pmem",
    ("devices/panic", "model"): "isa pseries hyperv s390",
    ("devices/rng/backend", "model"): "random egd builtin",
    ("devices/sound", "model"): "sb16 es1370 pcspk ac97 ich6 ich7 ich9 usb",
    ("devices/tpm", "model"): "tpm-tis tpm-crb tpm-spapr tpm-spapr-proxy",
    ("devices/tpm/backend", "type"): "passthrough emulator",
    ("devices/video/model", "type"): "default vga cirrus vmvga xen vbox qxl parallels virtio gop "
    "none bochs ramfb",
    ("devices/watchdog", "model"): "i6300esb ib700 diag288",
    ("launchSecurity", "type"): "sev",
}
# Likewise, where the word is an element's name.
NAMES_OF_OLD = {
    "features/hyperv": "relaxed vapic spinlocks vpindex runtime synic stimer reset vendor_id "
    "frequencies reenlightenment tlbflush ipi evmcs",
    "features/kvm": "hidden hint-dedicated poll-control",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word of a definition that came with a libvirt that is not old."""

    subject: str  # as an operator would look for it in the XML
    word: str
    is_element: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestWords:
    """Those of the guest as it arrives."""

    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWords:
    """Those of the definition that is kept for the guest's next start, and travels with it."""

    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWords:
    """Of the guest's words those that the host's libvirt has not in its own schema."""

    unknown: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStoredWords:
    """The same for the definition that is kept."""

    unknown: tuple[Word, ...]


@need
def guest_words(domain: Domain) -> GuestWords | None:
    """None when every libvirt knows them all; `<features>` themselves are another check's."""
    words = tuple(new_words(domain.root))
    return GuestWords(words=words) if words else None


@need
def stored_words(origin: GuestOrigin, options: MigrationOptions) -> StoredWords | None:
    """None without --persistent, or when the source told of no definition."""
    if not options.persistent or not origin.stored_xml:
        return None
    root = read_domain(origin.stored_xml).root
    features = (str(child.tag) for parent in root.findall("features") for child in parent)
    words = (
        *new_words(root),
        *(
            Word(subject=f"<features><{name}>", word=name, is_element=True)
            for name in dict.fromkeys(features)
            if name not in FEATURES_OF_OLD
        ),
    )
    return StoredWords(words=words) if words else None


def new_words(root: Element) -> Iterator[Word]:
    """Each once, in the order of the tables."""
    found: dict[Word, None] = {}
    for (path, attribute), old in VALUES_OF_OLD.items():
        for element in root.findall(path):
            value = element.get(attribute)
            if value is not None and value not in old.split():
                subject = f"<{element.tag} {attribute}='{value}'>"
                found[Word(subject=subject, word=value, is_element=False)] = None
    for path, old in NAMES_OF_OLD.items():
        for parent in root.findall(path):
            for child in parent:
                if (name := str(child.tag)) not in old.split():
                    subject = f"<{parent.tag}><{name}>"
                    found[Word(subject=subject, word=name, is_element=True)] = None
    yield from found


@look(Pace.FIXED)
def known_words(source: Source, guest: GuestWords) -> KnownWords:
    """Read only for a guest that has something new."""
    return KnownWords(unknown=unknown_words(source.text(SCHEMA), guest.words))


@look(Pace.FIXED)
def known_stored_words(source: Source, stored: StoredWords) -> KnownStoredWords:
    """The same for what is kept."""
    return KnownStoredWords(unknown=unknown_words(source.text(SCHEMA), stored.words))


def unknown_words(schema: str, words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Those that the schema has nowhere: one that it has at another place passes for known."""
    values = frozenset(re.findall(r"<value>([^<]+)</value>", schema))
    names = frozenset(re.findall(r"<element name=[\"']([\w-]+)[\"']", schema))
    return tuple(word for word in words if word.word not in (names if word.is_element else values))


@check(
    "definition.word-unknown",
    Severity.BLOCKER,
    title="the guest's XML has a word that libvirt does not know",
    remedy="Upgrade libvirt on the host, or take that from the guest and restart it.",
    offline=True,
)
def word_unknown(known: KnownWords) -> Problems:
    """Where a definition says one of a few words, libvirt refuses those that came after it.

    Errors: "Invalid value for attribute 'type' in element 'audio': 'pipewire'" (util/virxml.c),
    "unsupported HyperV Enlightenment feature: %s" (conf/domain_conf.c). Held against the schema
    that the host's libvirt came with.
    """
    yield from _refused(known.unknown)


@check(
    "definition.stored-refused",
    Severity.BLOCKER,
    title="what is kept of the guest has a word that libvirt does not know",
    remedy="Move without --persistent, change the definition (virsh edit), or upgrade libvirt.",
    phase=Phase.FINISH,
)
def stored_refused(known: KnownStoredWords) -> Problems:
    """With --persistent the definition for the guest's next start travels beside the running guest.

    It may be another one than what runs, and is read when all of the guest has arrived: what
    libvirt refuses there ends the migration all the same. A machine type that is not there passes
    (seen with libvirt 9.0): the guest moves and will not start. Error: as definition.word-unknown,
    or "unexpected feature 'ps2'".
    """
    yield from _refused(known.unknown)


# Where libvirtd keeps what its guests are at their next start (configDir, qemu/qemu_conf.c).
KEPT = "/etc/libvirt/qemu"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToBeKept:
    """The guest is to be a defined one on the destination, too (--persistent)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPlace:
    """What keeps libvirtd from writing a definition; "" nothing."""

    fault: str


@need
def to_be_kept(options: MigrationOptions) -> ToBeKept | None:
    """None without --persistent: of a guest that only runs nothing is written there."""
    return ToBeKept() if options.persistent else None


@have(Pace.MOVING)
def kept_place(source: Source) -> KeptPlace:
    """As libvirtd, which is root; where the directory is not there it is made."""
    try:
        found = source.stat(KEPT)
    except Absent:
        return KeptPlace(fault="")
    if found.kind != "dir":
        return KeptPlace(fault="no directory")
    writable = source.may(KEPT, Want.WRITE, ROOT)
    return KeptPlace(fault="" if writable else "libvirtd may not write there")


@check(
    "definition.no-place",
    Severity.BLOCKER,
    title="the definition cannot be kept",
    remedy="Let libvirtd write there (a file system mounted read-only?), or move without "
    "--persistent.",
    phase=Phase.FINISH,
    offline=True,
)
def no_place(_wanted: ToBeKept, place: KeptPlace) -> Problems:
    """With --persistent the definition is written when all of the guest has arrived.

    Where it cannot be, libvirt ends what arrived, and the guest goes on at the source. Error:
    "Failed to create file '/etc/libvirt/qemu/db1.xml.new': Read-only file system" (virFileRewrite,
    by qemuMigrationDstPersist). How much space is left there is not looked at.
    """
    if place.fault:
        yield Problem(
            subject=f"directory {KEPT}",
            wanted="one that libvirtd may write to",
            found=place.fault,
            commands=(f"findmnt -T {KEPT}",),
        )


@check(
    "definition.not-told",
    Severity.BLOCKER,
    title="whether the definition that is kept is understood",
    remedy="Ask again, or look at virsh dumpxml --inactive on the source.",
    phase=Phase.FINISH,
)
def not_told(origin: GuestOrigin, options: MigrationOptions) -> Problems:
    """With --persistent a second definition travels, and the source could not be asked for it."""
    why = origin.unlearned.get("stored_xml")
    if options.persistent and why:
        yield CouldNotTell(subject="the guest's stored definition", why=why)


def _refused(words: tuple[Word, ...]) -> Problems:
    for word in words:
        yield Problem(subject=word.subject, wanted="known to libvirt", found="not in its schema")
