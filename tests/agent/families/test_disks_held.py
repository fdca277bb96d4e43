from __future__ import annotations

import os

import pytest

from tests.agent.fake import FakeSource
from tests.agent.families.test_disks_identity import COPY, QCOW2, STAYS, asked, file, guest, on, one
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.families.disks import copy_into_held, locked_bytes, seen_locks
from virt_preflight.agent.families.disks.held import LOCKS, SeenLocks, in_the_table
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import FileIdentity
from virt_preflight.agent.sources import FileStat

# As Linux 6.1 lists what qemu-nbd holds of a qcow2 image, of device 8:1, inode 7.
WRITER = """1: OFDLCK ADVISORY  READ -1 08:01:7 100 101
2: OFDLCK ADVISORY  READ -1 08:01:7 103 103
3: OFDLCK ADVISORY  READ -1 08:01:7 201 201
"""
# qemu-nbd -f raw writes, and lets others write.
RAW_WRITER = "1: OFDLCK ADVISORY  READ -1 08:01:7 101 101\n"
HERE = on("ext4")
ANOTHER = on("ext4", inode=8)
DEVICE = os.makedev(8, 1)


def host(table: str, file_system: str = "ext4") -> FakeSource:
    return FakeSource(
        stats={"/images/a": on_device(DEVICE)},
        heads={"/images/a": QCOW2},
        images_alone={"/images/a": '{"format": "qcow2", "virtual-size": 16777216}'},
        file_systems={"/images/a": file_system},
        texts={LOCKS: table},
    )


def on_device(device: int) -> FileStat:
    found = file()
    return FileStat(
        kind=found.kind,
        size_bytes=found.size_bytes,
        mode=found.mode,
        uid=0,
        gid=0,
        device=device,
        inode=found.inode,
        born_ns=found.born_ns,
    )


def judged(
    table: str,
    *,
    there: FileIdentity | None = ANOTHER,
    file_system: str = "ext4",
    options: MigrationOptions = COPY,
) -> list[Problem | CouldNotTell]:
    source = host(table, file_system)
    wanted, seen, identities, origin, options = asked(there, source, guest(), options)
    locks = seen_locks(source, identities, seen, options) or SeenLocks(by_path={})
    return list(copy_into_held(wanted, seen, identities, locks, origin, options))


@pytest.mark.parametrize("table", [WRITER, RAW_WRITER, "1: POSIX  ADVISORY  WRITE 9 08:01:7 0 EOF"])
def test_an_image_that_somebody_has_open_takes_no_copy(table: str) -> None:
    assert copy_into_held.id == "disks.copy-into-held"
    problem = one(judged(table))
    assert (problem.subject, problem.wanted) == ("vda", "/images/a in nobody's use")
    assert problem.commands == ("grep :7 /proc/locks",)


@pytest.mark.parametrize(
    "table",
    [
        "",
        WRITER.replace(":7 ", ":8 "),
        WRITER.replace("08:01", "08:02"),
        "1: OFDLCK ADVISORY  READ -1 08:01:7 100 100\n",
        "1: FLOCK  ADVISORY  WRITE 9 08:01:7 0 EOF\n",
        "1: -> OFDLCK ADVISORY  WRITE -1 08:01:7 201 201\n",
        "1: OFDLCK ADVISORY  READ -1 08:01:7 x y\nnonsense\n",
    ],
)
def test_a_lock_that_is_in_nobodys_way_is_no_fault(table: str) -> None:
    assert not list(judged(table))


def test_the_sources_own_lock_on_a_file_that_both_have_is_no_strangers() -> None:
    assert not list(judged(WRITER, there=HERE))
    assert not list(judged(WRITER, there=None))


def test_locks_of_a_server_are_not_this_hosts_to_tell() -> None:
    assert not list(judged(WRITER, there=on("nfs4", inode=8), file_system="nfs4"))


def test_a_disk_that_is_not_copied_is_not_asked_about() -> None:
    assert not list(judged(WRITER, options=STAYS))


def test_bytes_of_several_locks_of_a_file_are_put_together() -> None:
    assert locked_bytes(WRITER) == {"08:01:7": frozenset({101, 103, 201})}


@pytest.mark.parametrize(("major", "minor"), [(8, 1), (0, 45), (253, 3), (259, 70000), (5000, 1)])
def test_a_device_is_named_as_the_kernel_names_it(major: int, minor: int) -> None:
    found = on_device(os.makedev(major, minor))
    assert in_the_table(found) == f"{major:02x}:{minor:02x}:7"


def test_locks_are_not_looked_at_where_nothing_is_copied() -> None:
    source = host(WRITER)
    wanted, seen, identities, origin, options = asked(ANOTHER, source, guest(), STAYS)
    assert seen_locks(source, identities, seen, options) is None
    locks = SeenLocks(by_path={"/images/a": frozenset({101})})
    assert not list(copy_into_held(wanted, seen, identities, locks, origin, options))
