"""Images of a guest's disks as the host sees them: what is there, of which format, on what base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from virt_preflight.agent.fact import Pace, Unknown, look
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.disks.guest import DacLabel, Disk, GuestDisks, Layer
from virt_preflight.agent.families.disks.openings import (
    Opening,
    given_to,
    opening,
    runs_as,
    stat_or_none,
)
from virt_preflight.agent.sources import Absent, FileStat, Refused, Source, SourceError

# QEMU_DOMAIN_STORAGE_SOURCE_CHAIN_MAX_DEPTH (qemu/qemu_domain.c).
CHAIN_AT_MOST = 200
SECTOR = 512
# First bytes of an image in hexadecimal, and QEMU's name of the format (block/*.c).
FORMAT_BY_MAGIC = {
    "514649fb00000001": "qcow",
    "514649fb": "qcow2",
    "51454400": "qed",
    "4b444d56": "vmdk",
    "7668647866696c65": "vhdx",
    "636f6e6563746978": "vpc",
}
# Formats that always begin with their magic: without it, they are not that.
BEGIN_WITH_MAGIC = ("qcow", "qcow2", "qed")


class _Specific(msgspec.Struct):
    data: dict[str, object] = {}


class _Told(msgspec.Struct, rename="kebab"):
    """The parts of qemu-img's answer that matter here."""

    format: str
    virtual_size: int
    backing_filename: str | None = None
    full_backing_filename: str | None = None
    backing_filename_format: str | None = None
    format_specific: _Specific | None = None


class _Volume(msgspec.Struct):
    path: str
    xml: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenImage:
    """One image as its own header tells; `bytes` is what a guest would see of it."""

    format: str
    bytes: int | None
    backing: str = ""
    backing_format: str = ""
    data_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """An image that qemu-img refuses, with its words."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file or device that QEMU would open for a disk; `depth` 0 is the one it writes to."""

    path: str
    kind: str  # as a layer's, or "data" for an image's external data file
    format: str  # "" when nobody says
    depth: int
    dac: DacLabel | None = None
    encrypted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What QEMU would open for one disk, as far as it could be followed."""

    members: tuple[Member, ...] = ()
    # (image, backing): the backing has one itself, and its format is recorded nowhere.
    unrecorded: tuple[tuple[str, str], ...] = ()
    # Backing that is named in a way that is not followed here.
    opaque: str = ""
    too_deep: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDisks:
    """By path what is there (None: nothing) and what the images are; by target the chains."""

    files: Mapping[str, FileStat | Unknown | None]
    images: Mapping[str, SeenImage | Broken | Unknown]
    chains: Mapping[str, Chain]
    # (pool, volume) -> path; None: no such volume, or no such pool.
    volumes: Mapping[tuple[str, str], str | Unknown | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskOpenings:
    """How QEMU could open each image, by (target, path)."""

    openings: Mapping[tuple[str, str], Opening | Unknown]


def guest_bytes(seen: SeenDisks) -> Mapping[str, int]:
    """What a guest sees as the size of each image, by path: for GuestOrigin.bytes_by_path."""
    return {
        path: image.bytes
        for path, image in seen.images.items()
        if isinstance(image, SeenImage) and image.bytes is not None
    }


def backing_by_path(seen: SeenDisks) -> Mapping[str, str]:
    """What lies below the image that each disk writes to: for GuestOrigin.backing_by_path."""
    found: dict[str, str] = {}
    for chain in seen.chains.values():
        images = [member for member in chain.members if member.kind != "data"]
        if len(images) > 1 and images[0].depth == 0:
            found[images[0].path] = images[1].path
    return found


@look(Pace.MOVING)
def seen_disks(source: Source, guest: GuestDisks) -> SeenDisks:
    """Every image of every disk, each looked at once."""
    walk = _Walk(source)
    chains = {disk.target: walk.follow(disk) for disk in guest.disks}
    return SeenDisks(files=walk.files, images=walk.images, chains=chains, volumes=walk.volumes)


@look(Pace.MOVING)
def disk_openings(
    source: Source, guest: GuestDisks, seen: SeenDisks, qemu: QemuUser
) -> DiskOpenings:
    """For each image that is there, whether QEMU's user could open it."""
    answers: dict[tuple[str, str], Opening | Unknown] = {}
    for disk in guest.disks:
        for member in seen.chains[disk.target].members:
            found = seen.files.get(member.path)
            if not isinstance(found, FileStat) or member.kind not in ("file", "block", "volume"):
                continue
            if found.kind not in ("file", "block"):
                continue
            try:
                user = runs_as(source, qemu, guest.dac)
                owner = given_to(source, qemu, guest.dac, member.dac, disk.top.dac)
                answer: Opening | Unknown = opening(source, member.path, found, user, owner)
            except SourceError as error:
                answer = Unknown(str(error))
            answers[disk.target, member.path] = answer
    return DiskOpenings(openings=answers)


class _Walk:
    """Follows chains as libvirt and QEMU would, and keeps what it saw."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.files: dict[str, FileStat | Unknown | None] = {}
        self.images: dict[str, SeenImage | Broken | Unknown] = {}
        self.volumes: dict[tuple[str, str], str | Unknown | None] = {}

    def follow(self, disk: Disk) -> Chain:
        """The layers of the XML; below the last one, if it is open, what the headers say."""
        members: list[Member] = []
        for layer in disk.layers:
            member = self._member(layer, len(members))
            if member is None:
                return Chain(members=(*members, *self._data_files(members)))
            members.append(member)
            self._see(member)
        chain = Chain() if disk.terminated else self._follow_headers(disk, members)
        return Chain(
            members=(*members, *self._data_files(members)),
            unrecorded=chain.unrecorded,
            opaque=chain.opaque,
            too_deep=chain.too_deep,
        )

    def _follow_headers(self, disk: Disk, members: list[Member]) -> Chain:
        """Adds what is below the last member (virStorageSourceGetMetadataRecurse)."""
        while True:
            above = members[-1]
            image = self.images.get(above.path)
            if not isinstance(image, SeenImage) or not image.backing or above.format == "raw":
                return Chain()
            if len(members) > CHAIN_AT_MOST:
                return Chain(too_deep=image.backing)
            path = local_path(image.backing, above.path)
            if path is None:
                return Chain(opaque=image.backing)
            member = Member(
                path=path,
                kind="file",
                format=image.backing_format,
                depth=len(members),
                dac=disk.top.dac,
            )
            members.append(member)
            self._see(member)
            below = self.images.get(path)
            if not image.backing_format and isinstance(below, SeenImage) and below.backing:
                return Chain(unrecorded=((above.path, path),))

    def _data_files(self, members: list[Member]) -> list[Member]:
        """Files that keep the data of an image apart from its header."""
        found = []
        for member in members:
            image = self.images.get(member.path)
            if isinstance(image, SeenImage) and image.data_file:
                path = local_path(image.data_file, member.path)
                if path is not None:
                    found.append(Member(path=path, kind="data", format="raw", depth=member.depth))
                    if path not in self.files:
                        self.files[path] = _stat(self.source, path)
        return found

    def _member(self, layer: Layer, depth: int) -> Member | None:
        """None when it is no path of this host, or its volume is not there."""
        path = layer.path
        if layer.kind == "volume":
            found = self._volume(layer)
            path = found if isinstance(found, str) else ""
        if not path:
            return None
        return Member(
            path=path,
            kind=layer.kind,
            format=layer.format,
            depth=depth,
            dac=layer.dac,
            encrypted=layer.encrypted,
        )

    def _volume(self, layer: Layer) -> str | Unknown | None:
        key = (layer.pool, layer.volume)
        if key not in self.volumes:
            try:
                answer = self.source.libvirt("volume", layer.pool, layer.volume)
                self.volumes[key] = msgspec.json.decode(answer, type=_Volume).path
            except (Absent, Refused):
                self.volumes[key] = None
            except (SourceError, msgspec.MsgspecError) as error:
                self.volumes[key] = Unknown(str(error))
        return self.volumes[key]

    def _see(self, member: Member) -> None:
        path = member.path
        if path not in self.files:
            self.files[path] = _stat(self.source, path)
        found = self.files[path]
        if path in self.images or not isinstance(found, FileStat):
            return
        if found.kind in ("file", "block") and member.kind in ("file", "block", "volume"):
            self.images[path] = _image(self.source, member, found)


def _stat(source: Source, path: str) -> FileStat | Unknown | None:
    try:
        return stat_or_none(source, path)
    except SourceError as error:
        return Unknown(str(error))


def _image(source: Source, member: Member, found: FileStat) -> SeenImage | Broken | Unknown:
    """What a raw image holds is the guest's: only its first bytes are looked at.

    A guest could write a header there that makes qemu-img open other files.
    """
    # QEMU counts in sectors and rounds up.
    as_raw = None if member.encrypted else -(-found.size_bytes // SECTOR) * SECTOR
    try:
        format_ = sniffed(source.head(member.path))
        if member.format == "raw" or (
            format_ == "raw" and member.format in ("", *BEGIN_WITH_MAGIC)
        ):
            return SeenImage(format=format_, bytes=as_raw)
        return read_image(source.image_alone(member.path))
    except Refused as error:
        if "Permission denied" in str(error):
            return Unknown(str(error))
        return Broken(why=str(error))
    except (SourceError, msgspec.MsgspecError) as error:
        return Unknown(str(error))


def sniffed(head: str) -> str:
    """QEMU's name of a format by an image's first bytes in hexadecimal; "raw" when none fits."""
    return next((name for magic, name in FORMAT_BY_MAGIC.items() if head.startswith(magic)), "raw")


def read_image(answer: str) -> SeenImage:
    """From the JSON of `qemu-img info`."""
    told = msgspec.json.decode(answer, type=_Told)
    data_file = told.format_specific.data.get("data-file") if told.format_specific else None
    return SeenImage(
        format=told.format,
        bytes=told.virtual_size,
        backing=told.full_backing_filename or told.backing_filename or "",
        backing_format=told.backing_filename_format or "",
        data_file=data_file if isinstance(data_file, str) else "",
    )


def local_path(name: str, above: str) -> str | None:
    """The path that a header's name of an image means; None when it is none of this host."""
    if name.startswith("json:"):
        named = _json_path(name.removeprefix("json:"))
        if named is None:
            return None
        name = named
    elif name.startswith("file://"):
        name = urlsplit(name).path
    name = name.removeprefix("file:")
    # virStorageSourceBackinStoreStringIsFile: a colon before any slash makes it a protocol.
    if ":" in name.partition("/")[0]:
        return None
    return name if name.startswith("/") else f"{above.rpartition('/')[0]}/{name}"


def _json_path(text: str) -> str | None:
    try:
        options = json.loads(text)
    except (ValueError, RecursionError):
        return None
    while isinstance(options, dict) and isinstance(options.get("file"), dict):
        options = options["file"]
    if not isinstance(options, dict):
        return None
    driver = options.get("file.driver", options.get("driver", "file"))
    name = options.get("file.filename", options.get("filename"))
    if driver not in ("file", "host_device", "raw", "qcow2"):
        return None
    return name if isinstance(name, str) else None
