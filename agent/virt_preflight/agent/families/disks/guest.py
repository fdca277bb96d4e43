"""Disks of a guest, as its domain XML names them: images, chains, pools, servers, secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from virt_preflight.agent.domain import Domain, canonical_uuid
from virt_preflight.agent.fact import need
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.xml import BadXml, Element, where

# virStorageSourceNetworkDefaultPort (conf/storage_source_conf.c); the others have none.
DEFAULT_PORT_BY_PROTOCOL = {
    "http": 80,
    "https": 443,
    "ftp": 21,
    "ftps": 990,
    "nbd": 10809,
    "ssh": 22,
    "iscsi": 3260,
    "gluster": 24007,
}
# Both ports of a Ceph monitor, messenger 2 and 1: librados tries them when none is given.
CEPH_MONITOR_PORTS = (3300, 6789)
LOCAL_KINDS = ("file", "block", "dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class DacLabel:
    """A `<seclabel model='dac'>`: whether libvirtd gives the file away, and to whom ("" QEMU)."""

    relabel: bool = True
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a network disk is served; a socket path, or a host with the ports that will do."""

    host: str = ""
    ports: tuple[int, ...] = ()
    socket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One image of a disk's chain."""

    kind: str  # "file", "block", "dir", "network", "volume", "nvme", "vhostuser", "vhostvdpa"
    format: str = "raw"
    # Of a local kind; of vhostuser its socket; of vhostvdpa and nvme the device.
    path: str = ""
    pool: str = ""
    volume: str = ""
    protocol: str = ""
    name: str = ""
    servers: tuple[Server, ...] = ()
    encrypted: bool = False
    dac: DacLabel | None = None
    # libvirt's own number of it in a live XML.
    index: int | None = None

    @property
    def is_local(self) -> bool:
        """A path of the host's file systems."""
        return self.kind in LOCAL_KINDS

    @property
    def said(self) -> str:
        """How an operator would name it."""
        if self.kind == "volume":
            return f"volume {self.volume} of pool {self.pool}"
        if self.kind == "network":
            return f"{self.protocol}:{self.name}"
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk with something in it; `layers` are its image and the backing that the XML names."""

    target: str
    device: str
    layers: tuple[Layer, ...]
    # The XML says that nothing is below the last layer: libvirt then does not look either.
    terminated: bool
    readonly: bool
    shareable: bool
    transient: bool
    startup_policy: str

    @property
    def top(self) -> Layer:
        """The image that the guest writes to."""
        return self.layers[0]

    @property
    def subject(self) -> str:
        """How a finding names it."""
        kind = "" if self.device in ("disk", "lun") else f"{self.device} "
        return f"{kind}{self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDisks:
    """A guest with disks; those without medium are known by their target alone."""

    disks: tuple[Disk, ...]
    empty: frozenset[str]
    # The guest's own DAC label: the user that QEMU runs as, when it is a static one.
    dac: DacLabel
    uses_volumes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretNeed:
    """A libvirt secret that a disk cannot be opened without."""

    disk: str
    uuid: str = ""
    usage_type: str = ""
    usage: str = ""

    @property
    def said(self) -> str:
        """How virsh would be asked for it."""
        return self.uuid or f"{self.usage_type} secret with usage {self.usage}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDiskSecrets:
    """A guest with disks that need secrets."""

    needs: tuple[SecretNeed, ...]


@need
def guest_disks(domain: Domain) -> GuestDisks | None:
    """All `<disk>` elements."""
    disks: list[Disk] = []
    empty: set[str] = set()
    for element in domain.root.findall("devices/disk"):
        disk = _disk(element)
        if disk is None:
            empty.add(_target(element))
        else:
            disks.append(disk)
    if not disks and not empty:
        return None
    return GuestDisks(
        disks=tuple(disks),
        empty=frozenset(empty),
        dac=domain_dac(domain.root),
        uses_volumes=any(layer.kind == "volume" for disk in disks for layer in disk.layers),
    )


@need
def guest_disk_secrets(domain: Domain) -> GuestDiskSecrets | None:
    """Secrets to log in to a server (`<auth>`) and to decrypt an image (`<encryption>`)."""
    needs: dict[SecretNeed, None] = {}
    for element in domain.root.findall("devices/disk"):
        for secret in element.iterfind(".//encryption/secret"):
            needs[_secret(element, secret, "volume")] = None
        for secret in element.iterfind(".//auth/secret"):
            needs[_secret(element, secret, secret.get("type", ""))] = None
    return GuestDiskSecrets(needs=tuple(needs)) if needs else None


def copied(disk: Disk, options: MigrationOptions) -> bool:
    """Whether QEMU would copy it (qemuMigrationAnyCopyDisk, qemu/qemu_migration.c)."""
    if not options.copies_storage:
        return False
    if options.migrate_disks:
        return disk.target in options.migrate_disks
    return not disk.shareable and not disk.readonly


def dropped_when_missing(disk: Disk) -> bool:
    """Whether libvirt takes the medium out and goes on (qemuDomainCheckDiskStartupPolicy).

    At a migration `requisite` means the same as `optional`, and neither helps a hard disk. Only
    what libvirt itself looks for is dropped: raw images and those whose chain it detects anew; for
    an image that the XML says is its chain's end it first notices when it labels the file
    (qemuDomainDetermineDiskChain, qemu/qemu_domain.c).
    """
    if disk.startup_policy not in ("optional", "requisite"):
        return False
    if disk.device not in ("cdrom", "floppy"):
        return False
    if disk.top.kind == "volume":
        return True
    return disk.top.is_local and (disk.top.format == "raw" or not disk.terminated)


def domain_dac(root: Element) -> DacLabel:
    """The guest's DAC label. A dynamic one in a live XML is only what the source chose."""
    for label in root.findall("seclabel"):
        if label.get("model") != "dac" and label.get("type") != "none":
            continue
        if label.get("type") == "none":
            return DacLabel(relabel=False)
        static = label.get("type") == "static"
        return DacLabel(
            # virSecurityLabelDefParseXML (conf/domain_conf.c): static labels default to no.
            relabel=label.get("relabel", "no" if static else "yes") == "yes",
            owner=(label.findtext("label") or "").strip() if static else "",
        )
    return DacLabel()


def _disk(element: Element) -> Disk | None:
    """None for a drive without medium (virStorageSourceIsEmpty)."""
    top = _layer(element, (element.get("type") or "file"), _attribute(element, "driver", "type"))
    if top is None:
        return None
    layers = [top]
    below = element.find("backingStore")
    while below is not None and below.get("type"):
        kind, format_ = below.get("type", ""), _attribute(below, "format", "type")
        layer = _layer(below, kind, format_)
        if layer is None:
            raise BadXml(f"{where(below)}: has no usable <source>")
        layers.append(layer)
        below = below.find("backingStore")
    kept = _sent(layers)
    device = element.get("device", "disk")
    return Disk(
        target=_target(element),
        device=device,
        layers=tuple(layers[:kept]),
        terminated=below is not None and kept == len(layers),
        readonly=device == "cdrom" or element.find("readonly") is not None,
        shareable=element.find("shareable") is not None,
        transient=element.find("transient") is not None,
        startup_policy=_attribute(element, "source", "startupPolicy") or "",
    )


def _sent(layers: list[Layer]) -> int:
    """How many of the layers in a live XML libvirt sends to the destination.

    What it detected in the images itself is left out of the XML that migrates, and detected anew
    at the destination (virDomainDiskBackingStoreFormat, conf/domain_conf.c). libvirt numbers as it
    goes: what it detects comes after the image that names it, and an overlay made by a snapshot
    after the image below it, which then is sent. An XML without numbers is sent as it is.
    """
    kept = 1
    while kept < len(layers):
        above, below = layers[kept - 1].index, layers[kept].index
        if above is not None and below is not None and above < below:
            break
        kept += 1
    return kept


def _layer(element: Element, kind: str, format_: str | None) -> Layer | None:
    source = element.find("source")
    if source is None:
        return None
    index = source.get("index") or element.get("index")
    path = _path(source, kind)
    protocol = source.get("protocol", "")
    if kind == "network" and not protocol:
        return None
    if kind in LOCAL_KINDS and not path:
        return None
    return Layer(
        kind=kind,
        format=format_ or ("fat" if kind == "dir" else "raw"),
        path=path,
        pool=source.get("pool", ""),
        volume=source.get("volume", ""),
        protocol=protocol,
        name=source.get("name", ""),
        servers=tuple(_server(host, protocol) for host in source.findall("host")),
        encrypted=any(parent.find("encryption") is not None for parent in (source, element)),
        dac=disk_dac(source),
        index=int(index) if index and re.fullmatch(r"\d{1,9}", index, re.ASCII) else None,
    )


def _path(source: Element, kind: str) -> str:
    match kind:
        case "file":
            return source.get("file", "")
        case "block" | "vhostvdpa":
            return source.get("dev", "")
        case "dir":
            return source.get("dir", "")
        case "vhostuser":
            return source.get("path", "")
        case "nvme":
            address = source.find("address")
            return "" if address is None else "/sys/bus/pci/devices/" + pci_address(address)
    return ""


def pci_address(address: Element) -> str:
    """As sysfs writes it: 0000:3b:00.0."""
    try:
        domain, bus, slot, function = (
            int(address.get(part, "0"), 16) for part in ("domain", "bus", "slot", "function")
        )
    except ValueError:
        raise BadXml(f"{where(address)}: is no PCI address") from None
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _server(host: Element, protocol: str) -> Server:
    if host.get("transport") == "unix":
        return Server(socket=host.get("socket", ""))
    port = host.get("port", "")
    ports: tuple[int, ...] = ()
    if re.fullmatch(r"\d{1,5}", port, re.ASCII) and int(port):
        ports = (int(port),)
    elif protocol in DEFAULT_PORT_BY_PROTOCOL:
        ports = (DEFAULT_PORT_BY_PROTOCOL[protocol],)
    elif protocol == "rbd":
        ports = CEPH_MONITOR_PORTS
    return Server(host=host.get("name", ""), ports=ports)


def disk_dac(source: Element) -> DacLabel | None:
    """The DAC label of one image: its own, or one for all models."""
    for label in source.findall("seclabel"):
        if label.get("model") in ("dac", None):
            return DacLabel(
                relabel=label.get("relabel", "yes") == "yes",
                owner=(label.findtext("label") or "").strip(),
            )
    return None


def _secret(disk: Element, secret: Element, usage_type: str) -> SecretNeed:
    return SecretNeed(
        disk=_target(disk),
        uuid=canonical_uuid(secret.get("uuid", "")),
        usage_type=usage_type,
        usage=secret.get("usage", ""),
    )


def _target(disk: Element) -> str:
    target = _attribute(disk, "target", "dev")
    if not target:
        raise BadXml(f"{where(disk)}: has no <target dev=...>")
    return target


def _attribute(element: Element, child: str, name: str) -> str | None:
    found = element.find(child)
    return None if found is None else found.get(name)
