import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import Check, CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.fact import Pace
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.families.options import (
    DestinationXml,
    GuestCopies,
    GuestHardLimit,
    HostHooks,
    HostPostcopy,
    ListedDisks,
    MemoryFolder,
    PostcopyOfFiles,
    PostcopyWanted,
    TunnelledCopy,
    bad_migrateuri,
    changed_xml,
    compressed_parallel,
    destination_xml,
    direct,
    disks_not_copied,
    guest_copies,
    guest_essentials,
    guest_hard_limit,
    hooks,
    host_hooks,
    host_postcopy,
    listed_disks,
    memory_folder,
    name_too_long,
    no_such_disk,
    offline_not_persistent,
    offline_tunnelled,
    offline_with_storage,
    postcopied_files,
    postcopy_not_live,
    postcopy_of_files,
    postcopy_parallel,
    postcopy_refused,
    postcopy_tunnelled,
    postcopy_wanted,
    rdma_without_limit,
    same_host,
    tunnelled_copy,
    tunnelled_not_p2p,
    tunnelled_parallel,
    tunnelled_with_storage,
    tunnelled_with_uri,
    two_copies,
)
from virt_preflight.agent.families.state import GuestCondition
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Verdict
from virt_preflight.agent.runner import Known, examine
from virt_preflight.agent.sources import FileStat, User, Want

UUID = "c2177883-f1bb-47f0-914d-32a22e3a8804"
XML = f"""<domain type='kvm'><name>g</name><uuid>{UUID}</uuid>
<memory unit='MiB'>64</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os></domain>"""
OLD = HostVersions(libvirt=9_000_000, qemu=7_002_000)
BETWEEN = HostVersions(libvirt=10_000_000, qemu=8_002_000)
NEW = HostVersions(libvirt=11_003_000, qemu=10_000_000)
PLAIN = MigrationOptions()
ONE_DISK = GuestCopies(copied=("vda",), targets=frozenset({"vda"}))


def problems(yielded: Problems) -> list[Problem]:
    found = list(yielded)
    assert all(isinstance(one, Problem) for one in found), found
    return [one for one in found if isinstance(one, Problem)]


def unclear(yielded: Problems) -> list[CouldNotTell]:
    return [one for one in yielded if isinstance(one, CouldNotTell)]


CONFLICTS: list[tuple[Check[[MigrationOptions]], MigrationOptions]] = [
    (offline_not_persistent, MigrationOptions(offline=True)),
    (offline_with_storage, MigrationOptions(offline=True, copy_storage_all=True)),
    (offline_tunnelled, MigrationOptions(offline=True, tunnelled=True)),
    (postcopy_tunnelled, MigrationOptions(postcopy=True, tunnelled=True)),
    (tunnelled_not_p2p, MigrationOptions(tunnelled=True, p2p=False)),
    (tunnelled_parallel, MigrationOptions(tunnelled=True, parallel=True)),
    (tunnelled_with_uri, MigrationOptions(tunnelled=True, migrateuri="tcp://h2")),
    (two_copies, MigrationOptions(copy_storage_all=True, copy_storage_inc=True)),
    (direct, MigrationOptions(direct=True, p2p=False)),
]


@pytest.mark.parametrize(
    ("asked", "options"), CONFLICTS, ids=lambda value: getattr(value, "id", "")
)
def test_options_that_contradict_each_other_are_told(
    asked: Check[[MigrationOptions]], options: MigrationOptions
) -> None:
    (problem,) = problems(asked(options))
    assert problem.subject.startswith("--")


def test_each_of_them_alone_is_fine() -> None:
    assert not list(offline_not_persistent(MigrationOptions(offline=True, persistent=True)))
    assert not list(offline_with_storage(MigrationOptions(copy_storage_all=True)))
    assert not list(offline_tunnelled(MigrationOptions(tunnelled=True)))
    assert not list(postcopy_tunnelled(MigrationOptions(postcopy=True)))
    assert not list(tunnelled_not_p2p(MigrationOptions(tunnelled=True)))
    assert not list(tunnelled_parallel(MigrationOptions(parallel=True)))
    assert not list(tunnelled_with_uri(MigrationOptions(migrateuri="tcp://h2")))
    assert not list(two_copies(MigrationOptions(copy_storage_inc=True)))
    assert not list(direct(MigrationOptions(direct=True)))


def test_without_options_none_of_them_fires() -> None:
    assert not list(offline_not_persistent(PLAIN))
    assert not list(offline_with_storage(PLAIN))
    assert not list(offline_tunnelled(PLAIN))
    assert not list(postcopy_tunnelled(PLAIN))
    assert not list(tunnelled_not_p2p(PLAIN))
    assert not list(tunnelled_parallel(PLAIN))
    assert not list(tunnelled_with_uri(PLAIN))
    assert not list(two_copies(PLAIN))
    assert not list(direct(PLAIN))


# -------------------------------------------------------------------------- post-copy, running


def in_state(state: str | None) -> GuestCondition:
    return GuestCondition(
        name="my guest", state=state, reason="", snapshots=0, block_jobs=(), job=""
    )


POSTCOPY = MigrationOptions(postcopy=True)


def test_postcopy_takes_live() -> None:
    options = MigrationOptions(postcopy=True, live=False)
    (problem,) = problems(postcopy_not_live(PostcopyWanted(), options, in_state("running")))
    assert problem.wanted == "--live"


def test_postcopy_of_a_running_guest_is_fine() -> None:
    assert not list(postcopy_not_live(PostcopyWanted(), POSTCOPY, in_state("running")))


def test_postcopy_of_a_paused_guest_is_refused() -> None:
    (problem,) = problems(postcopy_not_live(PostcopyWanted(), POSTCOPY, in_state("paused")))
    assert problem.found == "paused"
    assert problem.commands == ("virsh resume 'my guest'",)


def test_postcopy_of_a_guest_whose_state_is_not_told_is_left_open() -> None:
    assert unclear(postcopy_not_live(PostcopyWanted(), POSTCOPY, in_state(None)))


def test_without_postcopy_the_guest_s_state_does_not_matter() -> None:
    given = {PostcopyWanted: postcopy_wanted(PLAIN), MigrationOptions: PLAIN}
    outcome = examine([postcopy_not_live], lambda asked: Known(value=given[asked], pace=Pace.FIXED))
    assert (outcome.not_applicable, outcome.unanswered) == (1, ())


# ----------------------------------------------------------------------------------- copies

DISKS = """<domain><name>g</name><devices>
<disk><source file='/a'/><target dev='vda'/></disk>
<disk><source file='/b'/><target dev='vdb'/><shareable/></disk>
<disk><source file='/c'/><target dev='sda'/><readonly/></disk>
<disk device='cdrom'><target dev='sdb'/></disk></devices></domain>"""


def test_disks_that_are_written_are_copied() -> None:
    copies = guest_copies(read_domain(DISKS), PLAIN)
    assert copies.copied == ("vda",)
    assert copies.targets == {"vda", "vdb", "sda", "sdb"}
    named = MigrationOptions(migrate_disks=("vdb",))
    assert guest_copies(read_domain(DISKS), named).copied == ("vdb",)


def test_no_disk_goes_through_a_tunnel() -> None:
    options = MigrationOptions(tunnelled=True, copy_storage_all=True)
    assert tunnelled_copy(options, ONE_DISK) == TunnelledCopy(disks=("vda",))
    assert problems(tunnelled_with_storage(TunnelledCopy(disks=("vda",)), OLD))
    assert problems(tunnelled_with_storage(TunnelledCopy(disks=()), NEW))


def test_with_no_disk_to_copy_libvirt_9_0_goes_on() -> None:
    assert not list(tunnelled_with_storage(TunnelledCopy(disks=()), OLD))
    assert unclear(tunnelled_with_storage(TunnelledCopy(disks=()), BETWEEN))
    assert tunnelled_copy(PLAIN, ONE_DISK) is None


def test_a_list_of_disks_without_copy_is_refused_by_newer_libvirts() -> None:
    assert listed_disks(MigrationOptions(migrate_disks=("vda",))) == ListedDisks()
    assert problems(disks_not_copied(ListedDisks(), NEW))


def test_a_list_of_disks_without_copy_means_nothing_to_libvirt_9_0() -> None:
    assert not list(disks_not_copied(ListedDisks(), OLD))
    assert unclear(disks_not_copied(ListedDisks(), BETWEEN))
    assert listed_disks(PLAIN) is None
    assert listed_disks(MigrationOptions(migrate_disks=("vda",), copy_storage_inc=True)) is None


def test_a_disk_that_is_not_there_is_named() -> None:
    options = MigrationOptions(migrate_disks=("vdz",), copy_storage_all=True)
    (problem,) = problems(no_such_disk(options, ONE_DISK))
    assert (problem.subject, problem.found) == ("disk vdz", "vda")


def test_disks_that_are_there_can_be_listed() -> None:
    options = MigrationOptions(migrate_disks=("vda",), copy_storage_all=True)
    assert not list(no_such_disk(options, ONE_DISK))
    assert not list(no_such_disk(MigrationOptions(migrate_disks=("vdz",)), ONE_DISK))


# --------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "uri", ["h2", "10.0.0.1:49152", "foo://h2", "h2:49160", "tcp:", "tcp:///", "tcp://:49152"]
)
def test_addresses_that_libvirt_refuses(uri: str) -> None:
    assert problems(bad_migrateuri(MigrationOptions(migrateuri=uri)))


@pytest.mark.parametrize(
    "uri",
    ["", "tcp:h2", "tcp:h2:49160", "tcp://h2:49161", "tcp://[fd00::1]", "unix:///s", "rdma://h2"],
)
def test_addresses_that_libvirt_takes(uri: str) -> None:
    assert not list(bad_migrateuri(MigrationOptions(migrateuri=uri)))


def test_rdma_wants_a_limit() -> None:
    rdma = MigrationOptions(migrateuri="rdma://h2")
    assert problems(rdma_without_limit(rdma, guest_hard_limit(read_domain(XML))))


def test_rdma_with_a_limit_and_tcp_without_are_fine() -> None:
    limited = "<memtune><hard_limit unit='G'>4</hard_limit></memtune></domain>"
    guest = guest_hard_limit(read_domain(XML.replace("</domain>", limited)))
    assert guest == GuestHardLimit(present=True)
    assert not list(rdma_without_limit(MigrationOptions(migrateuri="rdma://h2"), guest))
    assert not list(rdma_without_limit(PLAIN, GuestHardLimit(present=False)))


@pytest.mark.parametrize("uri", ["qemu:///system", "qemu+tcp://localhost/system"])
def test_a_destination_that_is_the_source_itself(uri: str) -> None:
    assert problems(same_host(MigrationOptions(desturi=uri)))


@pytest.mark.parametrize(
    "options",
    [
        PLAIN,
        MigrationOptions(desturi="qemu+tcp://h2/system"),
        MigrationOptions(desturi="qemu+unix:///system?socket=/run/other.sock"),
        MigrationOptions(desturi="qemu:///system", p2p=False),
    ],
)
def test_a_destination_that_may_be_another(options: MigrationOptions) -> None:
    assert not list(same_host(options))


# ---------------------------------------------------------------------------------- --xml


def other(old: str, new: str) -> DestinationXml:
    assert old in XML
    found = destination_xml(MigrationOptions(xml=XML.replace(old, new).encode()))
    assert found is not None
    return found


def domain() -> Domain:
    return read_domain(XML)


@pytest.mark.parametrize(
    ("old", "new", "subject"),
    [
        ("<name>g", "<name>h", "--xml: name"),
        ("c2177883", "00000000", "--xml: UUID"),
        (f"<uuid>{UUID}</uuid>", "", "--xml: UUID"),
        ("type='kvm'", "type='qemu'", "--xml: type"),
        (">64<", ">128<", "--xml: memory"),
        ("<vcpu>2", "<vcpu>4", "--xml: vCPUs"),
        ("pc-q35-7.2", "pc-q35-7.1", "--xml: machine"),
    ],
)
def test_what_the_guest_can_see_must_stay(old: str, new: str, subject: str) -> None:
    (problem,) = problems(changed_xml(other(old, new), guest_essentials(domain())))
    assert problem.subject == subject


def test_what_only_the_host_sees_may_change() -> None:
    guest = guest_essentials(domain())
    assert not list(changed_xml(other("<os>", "<description>hi</description><os>"), guest))
    assert not list(changed_xml(other("pc-q35-7.2", "q35"), guest))
    assert not list(changed_xml(other("unit='MiB'>64", "unit='KiB'>65536"), guest))


def test_memory_that_libvirt_adds_up_is_not_compared() -> None:
    cells = "<cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB'/></numa></cpu></domain>"
    assert not list(changed_xml(other("</domain>", cells), guest_essentials(domain())))


def test_xml_that_is_none_is_told_with_its_line() -> None:
    bad = destination_xml(MigrationOptions(xml=b"<domain"))
    assert bad is not None
    (problem,) = problems(changed_xml(bad, guest_essentials(domain())))
    assert problem.found.startswith("line 1")


def test_without_xml_for_the_destination_nothing_is_compared() -> None:
    assert destination_xml(PLAIN) is None


# ------------------------------------------------------------------------- the destination

ORDINARY = QemuUser(user=User(name="libvirt-qemu", uid=64055, gid=105), dynamic_ownership=True)
ROOT = QemuUser(user=User(name="root", uid=0, gid=0), dynamic_ownership=True)
SYSCTL = "/proc/sys/vm/unprivileged_userfaultfd"


def test_userfaultfd_is_read_for_the_user_that_qemu_runs_as() -> None:
    kept = FakeSource(texts={SYSCTL: "0\n"})
    assert host_postcopy(kept, ROOT) == HostPostcopy()
    assert "libvirt-qemu" in host_postcopy(kept, ORDINARY).refusal
    assert host_postcopy(FakeSource(texts={SYSCTL: "1\n"}), ORDINARY) == HostPostcopy()


def test_the_device_may_stand_in_for_the_sysctl() -> None:
    mays: dict[tuple[str, Want, str], bool] = {
        ("/dev/userfaultfd", Want.WRITE, "libvirt-qemu"): True
    }
    source = FakeSource(texts={SYSCTL: "0\n"}, mays={**mays})
    assert host_postcopy(source, ORDINARY).unclear
    assert host_postcopy(FakeSource(), ORDINARY).unclear


def test_postcopy_is_refused_where_userfaultfd_is() -> None:
    (problem,) = problems(postcopy_refused(PostcopyWanted(), HostPostcopy(refusal="no")))
    assert problem.commands == ("sysctl -w vm.unprivileged_userfaultfd=1",)
    assert unclear(postcopy_refused(PostcopyWanted(), HostPostcopy(unclear="perhaps")))


def test_without_postcopy_userfaultfd_does_not_matter() -> None:
    assert postcopy_wanted(PLAIN) is None
    assert postcopy_wanted(MigrationOptions(postcopy=True)) == PostcopyWanted()
    assert not list(postcopy_refused(PostcopyWanted(), HostPostcopy()))


SCRIPT = FileStat(kind="file", size_bytes=9, mode=0o755, uid=0, gid=0, device=1, inode=2)


def test_scripts_of_the_host_are_found() -> None:
    source = FakeSource(
        directories={
            "/etc/libvirt/hooks": ("network", "qemu", "qemu.d"),
            "/etc/libvirt/hooks/qemu.d": ("10-site",),
        },
        stats={
            "/etc/libvirt/hooks/qemu": SCRIPT,
            "/etc/libvirt/hooks/qemu.d/10-site": SCRIPT,
        },
    )
    found = host_hooks(source)
    assert found.paths == ("/etc/libvirt/hooks/qemu", "/etc/libvirt/hooks/qemu.d/10-site")
    assert len(problems(hooks(found))) == 2
    assert host_hooks(FakeSource()) == HostHooks(paths=())


def test_a_script_is_noted_and_makes_nobody_unsure() -> None:
    host = Known(value=HostHooks(paths=("/etc/libvirt/hooks/qemu",)), pace=Pace.FIXED)
    outcome = examine([hooks], lambda _: host)
    assert [finding.verdict for finding in outcome.findings] == [Verdict.CLEAR]
    assert not list(hooks(HostHooks(paths=())))


BOTH = MigrationOptions(postcopy=True, parallel=True)


def on_the_way(source: int | None) -> GuestOrigin:
    return GuestOrigin(host_name="h1", host_uuid="", qemu_version=source)


def test_post_copy_over_several_connections_is_refused_by_some_qemus_on_either_side() -> None:
    old, new = HostVersions(libvirt=0, qemu=7_002_000), HostVersions(libvirt=0, qemu=10_000_002)
    (source,) = postcopy_parallel(BOTH, old, on_the_way(10_000_002))
    assert isinstance(source, Problem)
    assert (source.subject, source.found) == ("QEMU of the source", "QEMU 10.0")
    (destination,) = postcopy_parallel(BOTH, new, on_the_way(7_002_000))
    assert isinstance(destination, Problem)
    assert destination.subject == "QEMU of the destination"


def test_with_qemu_7_2_or_with_one_of_the_two_options_nothing_is_said() -> None:
    old, new = HostVersions(libvirt=0, qemu=7_002_015), HostVersions(libvirt=0, qemu=10_000_002)
    assert not list(postcopy_parallel(BOTH, old, on_the_way(7_002_000)))
    for one in (MigrationOptions(postcopy=True), MigrationOptions(parallel=True)):
        assert not list(postcopy_parallel(one, new, on_the_way(10_000_002)))


def test_of_a_qemu_that_was_not_tried_with_both_nothing_is_claimed() -> None:
    between = HostVersions(libvirt=0, qemu=8_002_000)
    left = list(postcopy_parallel(BOTH, between, on_the_way(None)))
    assert [type(one) for one in left] == [CouldNotTell, CouldNotTell]


SQUEEZED = MigrationOptions(compressed=True, parallel=True)


def from_libvirt(version: int | None) -> GuestOrigin:
    return GuestOrigin(host_name="h1", host_uuid="1", libvirt_version=version)


def test_compressed_over_several_connections_is_refused_by_newer_libvirts_on_either_side() -> None:
    old, new = HostVersions(libvirt=9_000_000, qemu=0), HostVersions(libvirt=11_003_000, qemu=0)
    (source,) = compressed_parallel(SQUEEZED, old, from_libvirt(11_003_000))
    assert isinstance(source, Problem)
    assert (source.subject, source.found) == ("libvirt of the source", "libvirt 11.3.0")
    (destination,) = compressed_parallel(SQUEEZED, new, from_libvirt(9_000_000))
    assert isinstance(destination, Problem)
    assert destination.subject == "libvirt of the destination"


def test_with_libvirt_9_0_or_with_one_of_those_options_alone_nothing_is_said() -> None:
    old, new = HostVersions(libvirt=9_000_000, qemu=0), HostVersions(libvirt=11_003_000, qemu=0)
    assert not list(compressed_parallel(SQUEEZED, old, from_libvirt(9_000_000)))
    for one in (MigrationOptions(compressed=True), MigrationOptions(parallel=True)):
        assert not list(compressed_parallel(one, new, from_libvirt(11_003_000)))


def test_of_a_libvirt_that_was_not_tried_with_both_nothing_is_claimed() -> None:
    between = HostVersions(libvirt=10_000_000, qemu=0)
    left = list(compressed_parallel(SQUEEZED, between, from_libvirt(None)))
    assert [type(one) for one in left] == [CouldNotTell, CouldNotTell]


def test_a_name_that_no_file_can_have_is_refused() -> None:
    (problem,) = name_too_long(MigrationOptions(dname="n" * 248))
    assert isinstance(problem, Problem)
    assert (problem.wanted, problem.found) == ("at most 247 bytes", "248 bytes")
    assert list(name_too_long(MigrationOptions(dname="\u00fc" * 124)))


def test_a_name_that_a_file_can_have_is_fine() -> None:
    assert not list(name_too_long(MigrationOptions(dname="n" * 247)))
    assert not list(name_too_long(MigrationOptions()))


FILES = PostcopyOfFiles()
ON_DISK, ON_TMPFS = (MemoryFolder(path="/ram", file_system=kind) for kind in ("ext4", "tmpfs"))


def qemu(version: int) -> HostVersions:
    return HostVersions(libvirt=0, qemu=version)


def test_a_newer_qemu_fetches_no_pages_into_files_of_a_disk() -> None:
    (problem,) = postcopy_of_files(FILES, ON_DISK, qemu(10_000_002))
    assert isinstance(problem, Problem)
    assert (problem.subject, problem.found) == ("memory in /ram", "on ext4")
    (left,) = postcopy_of_files(FILES, ON_DISK, qemu(8_002_000))
    assert isinstance(left, CouldNotTell)


def test_an_older_qemu_and_memory_on_tmpfs_are_fine() -> None:
    assert not list(postcopy_of_files(FILES, ON_DISK, qemu(7_002_000)))
    assert not list(postcopy_of_files(FILES, ON_TMPFS, qemu(10_000_002)))


@pytest.mark.parametrize(
    ("backing", "asked"),
    [
        ("<source type='file'/>", FILES),
        ("<source type='file'/><hugepages/>", None),
        ("<source type='memfd'/>", None),
        ("", None),
    ],
)
def test_memory_that_is_files_is_read(backing: str, asked: PostcopyOfFiles | None) -> None:
    domain = read_domain(f"<domain><name>g</name><memoryBacking>{backing}</memoryBacking></domain>")
    assert postcopied_files(domain, MigrationOptions(postcopy=True)) == asked
    assert postcopied_files(domain, MigrationOptions()) is None


def test_where_memory_is_put_is_read_from_qemu_conf() -> None:
    source = FakeSource(file_systems={"/ram": "tmpfs", "/var/lib/libvirt/qemu/ram": "ext4"})
    conf = QemuConf(value_by_key={"memory_backing_dir": '"/ram"'})
    assert memory_folder(source, conf) == ON_TMPFS
    usual = memory_folder(source, QemuConf(value_by_key={}))
    assert (usual.path, usual.file_system) == ("/var/lib/libvirt/qemu/ram", "ext4")
