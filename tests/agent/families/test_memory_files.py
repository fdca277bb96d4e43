from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.disks.guest import DacLabel
from virt_preflight.agent.families.memory import (
    GuestMemoryFiles,
    MemoryFile,
    SeenMemoryFiles,
    file_absent,
    file_shut,
    file_too_small,
    guest_memory_files,
    seen_memory_files,
)
from virt_preflight.agent.fence import Outside
from virt_preflight.agent.sources import FileStat, SourceError, User, Want

PATH = "/srv/a disk/nvdimm"
NVDIMM = f"""<memory model='nvdimm'><source><path>{PATH}</path></source>
<target><size unit='MiB'>32</size><node>0</node></target><alias name='nvdimm0'/></memory>"""
PMEM = """<memory model='virtio-pmem'><source><path>/dev/dax0.0</path></source>
<target><size unit='MiB'>64</size></target></memory>"""
DIMM = "<memory model='dimm'><target><size unit='MiB'>64</size><node>0</node></target></memory>"
THERE = FileStat(kind="file", size_bytes=1 << 25, mode=0o600, uid=0, gid=0, device=5, inode=9)
GIVES = QemuUser(user=User(name="qemu", uid=107, gid=107, groups=(107,)), dynamic_ownership=True)
LEAVES = QemuUser(user=GIVES.user, dynamic_ownership=False)
USERS = {"1": User(name="daemon", uid=1, gid=1)}


def guest(devices: str, label: str = "") -> GuestMemoryFiles | None:
    return guest_memory_files(
        read_domain(f"<domain><name>g</name><devices>{devices}</devices>{label}</domain>")
    )


def asked(
    stats: dict[str, FileStat | SourceError], qemu: QemuUser = GIVES, label: str = ""
) -> list[Problem | CouldNotTell]:
    wanted = guest(NVDIMM, label)
    assert wanted is not None
    return list(
        file_absent(wanted, seen_memory_files(FakeSource(stats=stats, users=USERS), wanted, qemu))
    )


def test_files_of_memory_devices_are_read() -> None:
    assert guest(DIMM + NVDIMM + PMEM) == GuestMemoryFiles(
        files=(
            MemoryFile(subject="memory device nvdimm0", path=PATH, size_kib=32 * 1024),
            MemoryFile(subject="memory device 2", path="/dev/dax0.0", size_kib=64 * 1024),
        ),
        dac=DacLabel(),
    )
    assert guest(DIMM) is None


def test_a_file_that_libvirtd_would_give_away_and_that_is_not_there_is_refused() -> None:
    (problem,) = asked({})
    assert isinstance(problem, Problem)
    assert (problem.subject, problem.wanted, problem.found) == (
        "memory device nvdimm0",
        PATH,
        "not there",
    )
    assert problem.commands == ("truncate -s 32768K '/srv/a disk/nvdimm'",)


def test_a_device_that_is_not_there_is_not_to_be_made() -> None:
    wanted = guest(PMEM)
    assert wanted is not None
    (problem,) = file_absent(wanted, seen_memory_files(FakeSource(), wanted, GIVES))
    assert isinstance(problem, Problem)
    assert problem.commands == ()


def test_a_file_that_is_there_is_fine() -> None:
    wanted = guest(NVDIMM)
    assert wanted is not None
    seen = seen_memory_files(FakeSource(stats={PATH: THERE}), wanted, GIVES)
    assert not list(file_absent(wanted, seen))


def test_whether_qemu_makes_a_file_that_nobody_gives_it_is_left_open() -> None:
    for qemu, label in (
        (LEAVES, ""),
        (GIVES, "<seclabel type='static' model='dac' relabel='no'><label>+1:+1</label></seclabel>"),
    ):
        (open_question,) = asked({}, qemu, label)
        assert isinstance(open_question, CouldNotTell)
        assert "is not there" in open_question.why


def test_a_file_that_may_not_be_looked_at_is_left_open() -> None:
    (open_question,) = asked({PATH: Outside(PATH)})
    assert isinstance(open_question, CouldNotTell)
    assert "storage in [policy]" in open_question.why


def sized(size: int) -> SeenMemoryFiles:
    wanted = guest(NVDIMM)
    assert wanted is not None
    found = FileStat(kind="file", size_bytes=size, mode=0o600, uid=0, gid=0, device=5, inode=9)
    return seen_memory_files(FakeSource(stats={PATH: found}), wanted, GIVES)


def test_a_file_that_is_smaller_than_the_device_is_refused() -> None:
    wanted = guest(NVDIMM)
    assert wanted is not None
    (problem,) = file_too_small(wanted, sized(8 << 20))
    assert isinstance(problem, Problem)
    assert (problem.wanted, problem.found) == (f"{PATH} of 32768 KiB", "8192 KiB")


def test_a_file_that_is_large_enough_or_empty_will_do() -> None:
    wanted = guest(NVDIMM)
    assert wanted is not None
    for size in (0, 32 << 20, 64 << 20):
        assert not list(file_too_small(wanted, sized(size)))


def opened(qemu: QemuUser, *, searches: bool = True, writes: bool = True) -> SeenMemoryFiles:
    wanted = guest(NVDIMM)
    assert wanted is not None
    mays = {(path, Want.EXECUTE, "qemu"): True for path in ("/", "/srv")}
    mays["/srv/a disk", Want.EXECUTE, "qemu"] = searches
    mays |= {(PATH, Want.READ, "qemu"): True, (PATH, Want.WRITE, "qemu"): writes}
    return seen_memory_files(FakeSource(stats={PATH: THERE}, mays=mays), wanted, qemu)


def test_a_file_that_qemu_may_not_write_to_is_refused_unless_it_is_given_to_it() -> None:
    wanted = guest(NVDIMM)
    assert wanted is not None
    (problem,) = file_shut(wanted, opened(LEAVES, writes=False))
    assert isinstance(problem, Problem)
    assert problem.found == "qemu may not read and write it"
    assert not list(file_shut(wanted, opened(GIVES, writes=False)))
    assert not list(file_shut(wanted, opened(LEAVES)))


def test_a_file_in_a_directory_that_qemu_may_not_search_is_out_of_reach_for_its_owner_too() -> None:
    wanted = guest(NVDIMM)
    assert wanted is not None
    assert list(file_shut(wanted, opened(GIVES, searches=False)))
