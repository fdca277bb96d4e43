"""How the guest would be moved: the options of `virsh migrate` that change the answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOptions:
    """The names are virsh's own. A fact like any other: checks ask for it by type."""

    live: bool = True
    offline: bool = False
    p2p: bool = True
    direct: bool = False
    tunnelled: bool = False
    persistent: bool = False
    copy_storage_all: bool = False
    copy_storage_inc: bool = False
    migrate_disks: tuple[str, ...] = ()
    postcopy: bool = False
    auto_converge: bool = False
    tls: bool = False
    parallel: bool = False
    unsafe: bool = False
    compressed: bool = False
    dname: str = ""
    xml: bytes = b""
    migrateuri: str = ""
    desturi: str = ""

    @property
    def copies_storage(self) -> bool:
        """Disks are copied rather than shared."""
        return self.copy_storage_all or self.copy_storage_inc
