"""What the source host says of the guest that it runs: the source as a facet of the guest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """What tells a file or a device from another one of the same path.

    A file by the type of its file system, its inode number there and when it was made (0: not
    told); a block device by the serial number of its storage.
    """

    file_system: str = ""
    inode: int = 0
    born_ns: int = 0
    serial: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """What the source finds under a name: with neither of these, another host.

    `fault` is a sure answer, `doubt` the reason for none.
    """

    fault: str = ""
    doubt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestOrigin:
    """Facts of the source. What it could not tell is absent: None, or not in the mapping.

    A guest that runs nowhere has no origin, and checks that ask for it do not apply.
    """

    host_name: str
    host_uuid: str
    # libvirt's way to write a version: major * 1,000,000 + minor * 1,000 + micro; None: not known.
    libvirt_version: int | None = None
    qemu_version: int | None = None
    # Features of the source's host-model CPU, for this guest's emulator, machine and virt type.
    host_model_name: str | None = None
    host_model_vendor: str | None = None
    host_model_features: frozenset[str] | None = None
    # What the guest sees as the size of each file or block device, in bytes, by path.
    bytes_by_path: Mapping[str, int] = field(default_factory=dict)
    # Of the images that the guest writes to.
    identity_by_path: Mapping[str, FileIdentity] = field(default_factory=dict)
    # What lies below an image, by the image's path, as far as it is a path itself.
    backing_by_path: Mapping[str, str] = field(default_factory=dict)
    # SHA-256 in hexadecimal of files that QEMU reads once, as kernels and firmware.
    digest_by_path: Mapping[str, str] = field(default_factory=dict)
    # The setting in qemu.conf, "nop" when it has none; empty: not known.
    lock_manager: str = ""
    # "8086:154c" by PCI address "0000:3b:00.0".
    pci_ids_by_address: Mapping[str, str] = field(default_factory=dict)
    # What is kept for the guest's next start, where that travels along; empty where it does not.
    stored_xml: bytes = b""
    # With --tls, in PEM: the authority that its QEMU goes by, and what it shows. Empty: not there.
    tls_authority: str = ""
    tls_client: str = ""
    # Beside the domain XML of libvirt's Begin phase; empty when that was not asked or refused.
    begin_cookie: bytes = b""
    # By the names that destinations have for themselves; None: the source was not asked to look.
    lookup_by_name: Mapping[str, Lookup] | None = None
    # Why something is absent, by the name of the fact.
    unlearned: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> frozenset[str]:
        """All files and devices that anything is told of."""
        told = (
            self.bytes_by_path,
            self.identity_by_path,
            self.backing_by_path,
            self.digest_by_path,
        )
        return frozenset(path for by_path in told for path in by_path)
