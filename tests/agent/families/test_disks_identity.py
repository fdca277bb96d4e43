from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.disks import (
    GuestDisks,
    SeenDisks,
    SeenIdentities,
    another_file,
    backing_by_path,
    copy_onto_itself,
    copy_without_base,
    guest_disks,
    seen_disks,
    seen_identities,
)
from virt_preflight.agent.families.disks.identity import device_serial, difference, surely_same
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import FileIdentity, GuestOrigin
from virt_preflight.agent.sources import FileStat, Unreadable

MIB = 1024 * 1024
QCOW2 = "514649fb000000030000000000000000"
INFO = '{"format": "qcow2", "virtual-size": 16777216}'
STAYS = MigrationOptions()
COPY = MigrationOptions(copy_storage_all=True)
INC = MigrationOptions(copy_storage_inc=True)
MPATH = "3600a098038314c4a345d4f5a77777777"


def file(kind: str = "file", rdev: str = "", inode: int = 7, born_ns: int = 5) -> FileStat:
    return FileStat(
        kind=kind,
        size_bytes=16 * MIB,
        mode=0o600,
        uid=0,
        gid=0,
        device=1,
        inode=inode,
        rdev=rdev,
        born_ns=born_ns,
    )


def on(file_system: str, inode: int = 7, born_ns: int = 5) -> FileIdentity:
    return FileIdentity(file_system=file_system, inode=inode, born_ns=born_ns)


def guest(mode: str = "", below: str = "<backingStore/>") -> GuestDisks:
    found = guest_disks(
        read_domain(
            "<domain><name>g</name><devices><disk type='file' device='disk'>"
            f"<driver type='qcow2'/><source file='/images/a'/><target dev='vda'/>{mode}"
            f"{below}</disk></devices></domain>"
        )
    )
    assert found is not None
    return found


def host(found: FileStat | None = None, file_system: str = "ext4") -> FakeSource:
    return FakeSource(
        stats={"/images/a": found or file()},
        heads={"/images/a": QCOW2},
        images_alone={"/images/a": INFO},
        file_systems={"/images/a": file_system},
    )


def asked(
    there: FileIdentity | None,
    source: FakeSource,
    wanted: GuestDisks | None = None,
    options: MigrationOptions = STAYS,
) -> tuple[GuestDisks, SeenDisks, SeenIdentities, GuestOrigin, MigrationOptions]:
    wanted = wanted or guest()
    seen = seen_disks(source, wanted)
    identities = seen_identities(source, wanted, seen)
    assert identities is not None
    origin = GuestOrigin(
        host_name="h1",
        host_uuid="1",
        identity_by_path={} if there is None else {"/images/a": there},
    )
    return wanted, seen, identities, origin, options


def one(problems: Iterable[Problem | CouldNotTell]) -> Problem:
    (found,) = problems
    assert isinstance(found, Problem), found
    return found


def test_another_inode_at_the_same_path_is_another_file() -> None:
    problem = one(another_file(*asked(on("ext4", inode=8), host())))
    assert (problem.subject, problem.wanted) == ("vda", "the same /images/a as on h1")
    assert problem.found == "inode 7 on ext4, on the source 8 on ext4"


def test_an_inode_number_that_is_the_same_by_chance_was_made_at_another_moment() -> None:
    assert (
        "another moment"
        in one(another_file(*asked(on("xfs", born_ns=6), host(file_system="xfs")))).found
    )


def test_the_same_file_is_no_finding() -> None:
    assert not list(another_file(*asked(on("ext4"), host())))
    assert not list(another_file(*asked(on("nfs4", born_ns=0), host(file(born_ns=0), "nfs4"))))


def test_a_source_that_tells_nothing_makes_no_finding() -> None:
    assert not list(another_file(*asked(None, host())))


def test_where_inode_numbers_are_the_clients_own_nothing_is_said() -> None:
    assert not list(another_file(*asked(on("cifs", inode=8), host(file_system="cifs"))))
    assert not list(another_file(*asked(on("fuse.sshfs", inode=8), host(file_system="fuse.sshfs"))))
    assert not list(another_file(*asked(on("ext4", inode=8), host(file_system="fuse.sshfs"))))


def test_what_is_copied_or_only_read_may_be_another_file() -> None:
    assert not list(another_file(*asked(on("ext4", inode=8), host(), options=COPY)))
    assert not list(another_file(*asked(on("ext4", inode=8), host(), guest("<readonly/>"))))


def test_a_guest_without_paths_has_no_identities() -> None:
    wanted = guest_disks(
        read_domain(
            "<domain><name>g</name><devices><disk type='network'>"
            "<source protocol='rbd' name='p/i'/><target dev='vda'/></disk></devices></domain>"
        )
    )
    assert wanted is not None
    source = FakeSource()
    assert seen_identities(source, wanted, seen_disks(source, wanted)) is None


def test_the_server_of_an_nfs_export_has_the_file_under_the_same_number() -> None:
    assert difference(on("nfs4", born_ns=0), on("xfs")) == ""
    assert "inode 8" in difference(on("nfs4", inode=8, born_ns=0), on("xfs"))
    assert difference(on("ceph", inode=8), on("nfs4")) == ""


def test_the_same_is_sure_only_where_nothing_else_is_left() -> None:
    assert surely_same(on("ext4"), on("ext4"))
    assert surely_same(FileIdentity(serial="naa.6"), FileIdentity(serial="naa.6"))
    # A number alone may be that of another export's file.
    assert not surely_same(on("nfs4", born_ns=0), on("nfs4", born_ns=0))
    assert not surely_same(on("ext4", born_ns=0), on("ext4", born_ns=0))
    assert not surely_same(on("cifs"), on("cifs"))
    assert not surely_same(FileIdentity(), FileIdentity())


# --------------------------------------------------------------------------- block devices


def device(**texts: str) -> FakeSource:
    return FakeSource(texts={f"/sys/dev/block/8:16/{path}": text for path, text in texts.items()})


@pytest.mark.parametrize(
    ("texts", "serial"),
    [
        ({"device/wwid": "naa.600a0980\n"}, "naa.600a0980"),
        ({"device/wwid": "t10.ATA     QEMU HARDDISK  1 \n"}, "t10.ATA QEMU HARDDISK 1"),
        ({"wwid": "eui.0025385\n"}, "eui.0025385"),
        ({"dm/uuid": f"mpath-{MPATH}\n"}, f"naa.{MPATH[1:]}"),
        ({"dm/uuid": "LVM-abcdef\n"}, "LVM-abcdef"),
        # The host's own name of something, and what LVM makes for itself.
        ({"dm/uuid": "CRYPT-LUKS2-1-luks\n"}, ""),
        ({"partition": "2\n", "../device/wwid": "naa.6\n"}, "naa.6 partition 2"),
        ({}, ""),
    ],
)
def test_a_device_is_known_by_what_its_storage_calls_it(texts: dict[str, str], serial: str) -> None:
    assert device_serial(device(**texts), "8:16") == serial


def test_a_device_that_the_kernel_does_not_tell_about_has_no_serial() -> None:
    source = FakeSource(texts={"/sys/dev/block/8:16/device/wwid": Unreadable("not there")})
    assert device_serial(source, "8:16") == ""


def test_a_multipath_device_is_the_unit_that_one_path_leads_to() -> None:
    assert difference(FileIdentity(serial="naa.6"), FileIdentity(serial="naa.6")) == ""
    assert "naa.7" in difference(FileIdentity(serial="naa.6"), FileIdentity(serial="naa.7"))
    # One unit goes by several names: those of two kinds say nothing of each other.
    assert difference(FileIdentity(serial="naa.6"), FileIdentity(serial="LVM-x")) == ""
    assert difference(FileIdentity(serial="naa.6"), on("ext4")) == ""


def test_a_block_device_with_another_serial_is_another_disk() -> None:
    wanted = guest_disks(
        read_domain(
            "<domain><name>g</name><devices><disk type='block'><driver type='raw'/>"
            "<source dev='/dev/disk/by-path/lun'/><target dev='vda'/></disk></devices></domain>"
        )
    )
    assert wanted is not None
    path = "/dev/disk/by-path/lun"
    source = FakeSource(
        stats={path: file("block", "8:16")},
        texts={"/sys/dev/block/8:16/device/wwid": "naa.600a\n"},
    )
    seen = seen_disks(source, wanted)
    identities = seen_identities(source, wanted, seen)
    assert identities == SeenIdentities(by_path={path: FileIdentity(serial="naa.600a")})
    origin = GuestOrigin(
        host_name="h1", host_uuid="1", identity_by_path={path: FileIdentity(serial="naa.600b")}
    )
    assert one(another_file(wanted, seen, identities, origin, STAYS)).found == (
        "naa.600a, on the source naa.600b"
    )


# ----------------------------------------------------------------------------- what is copied


def test_a_disk_that_both_hosts_share_would_be_copied_onto_itself() -> None:
    problem = one(copy_onto_itself(*asked(on("ext4"), host(), options=COPY)))
    assert (problem.wanted, problem.found) == ("another /images/a than on h1", "the same")


def test_a_file_that_may_be_the_same_is_left_open() -> None:
    told = on("fuse.glusterfs", born_ns=0)
    source = host(file(born_ns=0), "fuse.glusterfs")
    (found,) = copy_onto_itself(*asked(told, source, options=COPY))
    assert isinstance(found, CouldNotTell)
    assert "inode number 7" in found.why


def test_a_copy_into_another_file_is_what_copies_are_for() -> None:
    for told, source in (
        (on("ext4", inode=8), host()),
        (on("cifs"), host(file_system="cifs")),
    ):
        assert not list(copy_onto_itself(*asked(told, source, options=COPY)))
    assert not list(copy_onto_itself(*asked(on("ext4"), host())))


def flat_or_not(
    *, base: str, backing: str = "", options: MigrationOptions = INC
) -> tuple[GuestDisks, SeenDisks, GuestOrigin, MigrationOptions]:
    info = {"format": "qcow2", "virtual-size": 16 * MIB, "backing-filename": backing or None}
    images = {"/images/a": json.dumps(info), "/images/base": INFO}
    source = FakeSource(
        stats=dict.fromkeys(images, file()),
        heads=dict.fromkeys(images, QCOW2),
        images_alone=images,
    )
    wanted = guest(below="")
    seen = seen_disks(source, wanted)
    assert backing_by_path(seen) == ({"/images/a": backing} if backing else {})
    origin = GuestOrigin(
        host_name="h1", host_uuid="1", backing_by_path={"/images/a": base} if base else {}
    )
    return wanted, seen, origin, options


def test_an_incremental_copy_onto_a_flat_image_loses_the_base() -> None:
    problem = one(copy_without_base(*flat_or_not(base="/images/base")))
    assert problem.wanted == "/images/a on top of /images/base, as on the source"
    assert problem.found == "an image without backing image"


def test_an_incremental_copy_onto_an_overlay_or_of_a_flat_image_loses_nothing() -> None:
    assert not list(copy_without_base(*flat_or_not(base="/images/base", backing="/images/base")))
    assert not list(copy_without_base(*flat_or_not(base="")))
    assert not list(copy_without_base(*flat_or_not(base="/images/base", options=COPY)))
