from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.families.disks import (
    GuestDisks,
    GuestDiskSecrets,
    SeenDisks,
    SeenSecrets,
    backing_format,
    backing_missing,
    block_drivers,
    copy_into_ghost,
    copy_needs_target,
    copy_not_openable,
    copy_nowhere,
    copy_of_other_size,
    copy_of_readonly,
    copy_too_large,
    copy_without_pool,
    disk_openings,
    dropped,
    guest_bytes,
    guest_disk_secrets,
    guest_disks,
    immovable_format,
    missing,
    no_driver,
    no_pool,
    no_secret,
    no_volume,
    secret_untried,
    seen_copies,
    seen_disks,
    seen_pools,
    seen_secrets,
    seen_servers,
    seen_sharing,
    shared_by_order,
    taken_for_raw,
    transient,
    unreachable,
    unreadable,
    unsafe,
    unwritable,
    wrong_format,
    wrong_size,
)
from virt_preflight.agent.families.disks.guest import DacLabel, Server, domain_dac
from virt_preflight.agent.families.disks.images import DiskOpenings, local_path, sniffed
from virt_preflight.agent.families.disks.pools import SeenCopies, SeenPools
from virt_preflight.agent.families.disks.sharing import SeenSharing, canonical
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.sources import (
    Absent,
    FileStat,
    Refused,
    SourceError,
    Unreached,
    Unreadable,
    User,
    Want,
)

MIB = 1024 * 1024
QCOW2 = "514649fb000000030000000000000000"
RAW = "00" * 16
QEMU = User(name="libvirt-qemu", uid=64055, gid=64055, groups=(105, 64055))
OWNING = QemuUser(user=QEMU, dynamic_ownership=True)
LEAVING = QemuUser(user=QEMU, dynamic_ownership=False)
STAYS = MigrationOptions()
COPY = MigrationOptions(copy_storage_all=True)
INC = MigrationOptions(copy_storage_inc=True)
# As `qemu-img info -U --output=json` of QEMU 7.2 prints it.
OVERLAY = """{
    "backing-filename-format": "qcow2",
    "virtual-size": 16777216,
    "filename": "/images/ov.qcow2",
    "cluster-size": 65536,
    "format": "qcow2",
    "actual-size": 200704,
    "format-specific": {
        "type": "qcow2",
        "data": {
            "compat": "1.1",
            "compression-type": "zlib",
            "lazy-refcounts": false,
            "refcount-bits": 16,
            "corrupt": false,
            "extended-l2": false
        }
    },
    "full-backing-filename": "/images/base.qcow2",
    "backing-filename": "base.qcow2",
    "dirty-flag": false
}"""
# As virsh dumpxml shows a running guest's disks: libvirt 9.0, addresses left out.
LIVE = """
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2' cache='none'/>
  <source file='/images/ov.qcow2' index='4'/>
  <backingStore type='file' index='5'>
    <format type='qcow2'/>
    <source file='/images/base.qcow2'/>
    <backingStore/>
  </backingStore>
  <target dev='vda' bus='virtio'/>
</disk>
"""
SNAPSHOT = LIVE.replace("index='4'", "index='6'").replace(
    "<backingStore/>",
    "<backingStore type='file'><format type='raw'/><source file='/images/r' "
    "index='7'/></backingStore>",
)


def file(
    *, size: int = 16 * MIB, mode: int = 0o600, uid: int = 0, gid: int = 0, kind: str = "file"
) -> FileStat:
    return FileStat(kind=kind, size_bytes=size, mode=mode, uid=uid, gid=gid, device=1, inode=1)


def info(**more: object) -> str:
    return json.dumps({"format": "qcow2", "virtual-size": 16 * MIB, **more})


def guest(*disks: str, top: str = "") -> GuestDisks:
    found = guest_disks(
        read_domain(f"<domain><name>g</name>{top}<devices>{''.join(disks)}</devices></domain>")
    )
    assert found is not None
    return found


def disk(
    path: str = "/images/a",
    *,
    format: str = "qcow2",  # noqa: A002 - the field's own word for it
    target: str = "vda",
    device: str = "disk",
    policy: str = "",
    inside: str = "<backingStore/>",
    label: str = "",
) -> str:
    startup = f"startupPolicy='{policy}'" if policy else ""
    return (
        f"<disk type='file' device='{device}'><driver type='{format}'/>"
        f"<source file='{path}' {startup}>{label}</source><target dev='{target}'/>{inside}</disk>"
    )


def cdrom(policy: str = "") -> str:
    return disk("/images/a.iso", format="raw", target="sda", device="cdrom", policy=policy)


def origin(**bytes_by_path: int) -> GuestOrigin:
    return GuestOrigin(
        host_name="h1",
        host_uuid="1",
        bytes_by_path={f"/images/{name}": size for name, size in bytes_by_path.items()},
    )


def host(
    stats: Mapping[str, FileStat | SourceError] | None = None,
    alone: Mapping[str, str | SourceError] | None = None,
    answers: Mapping[tuple[str, ...], str | SourceError] | None = None,
) -> FakeSource:
    """Images that qemu-img is asked about begin as qcow2 does."""
    images = alone or {}
    return FakeSource(
        stats=stats or {},
        heads=dict.fromkeys(images, QCOW2),
        images_alone=images,
        answers=answers or {},
    )


def look(wanted: GuestDisks, source: FakeSource) -> SeenDisks:
    return seen_disks(source, wanted)


def one(problems: Iterable[Problem | CouldNotTell]) -> Problem:
    (found,) = problems
    assert isinstance(found, Problem), found
    return found


def open_question(problems: Iterable[Problem | CouldNotTell]) -> CouldNotTell:
    (found,) = problems
    assert isinstance(found, CouldNotTell), found
    return found


# ------------------------------------------------------------------------- what the XML says


def test_a_guest_without_disks_has_none() -> None:
    assert guest_disks(read_domain("<domain><name>g</name><devices/></domain>")) is None


def test_an_empty_drive_is_known_by_its_target() -> None:
    found = guest("<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>")
    assert (found.disks, found.empty) == ((), frozenset({"sda"}))


def test_the_chain_that_libvirt_detected_itself_is_not_sent() -> None:
    (found,) = guest(LIVE).disks
    assert [layer.path for layer in found.layers] == ["/images/ov.qcow2"]
    assert not found.terminated


def test_what_lies_below_a_snapshot_is_sent() -> None:
    (found,) = guest(SNAPSHOT).disks
    assert [layer.path for layer in found.layers] == ["/images/ov.qcow2", "/images/base.qcow2"]
    assert not found.terminated


def test_an_xml_without_numbers_is_sent_as_it_is() -> None:
    (found,) = guest(LIVE.replace("index='4'", "").replace("index='5'", "")).disks
    assert len(found.layers) == 2
    assert found.terminated


def test_a_cdrom_is_read_only_whatever_the_xml_says() -> None:
    assert guest(cdrom()).disks[0].readonly


def test_a_ceph_monitor_without_port_has_two() -> None:
    found = guest(
        "<disk type='network'><source protocol='rbd' name='p/i'><host name='m1'/></source>"
        "<target dev='vda'/></disk>"
    )
    assert found.disks[0].top.servers == (Server(host="m1", ports=(3300, 6789)),)


def test_the_label_that_the_source_chose_for_a_running_guest_does_not_count() -> None:
    live = (
        "<domain><name>g</name><seclabel type='dynamic' model='dac' relabel='yes'>"
        "<label>+0:+0</label><imagelabel>+0:+0</imagelabel></seclabel></domain>"
    )
    assert domain_dac(read_domain(live).root) == DacLabel()


def test_a_static_label_counts_and_relabels_only_when_told() -> None:
    xml = (
        "<domain><name>g</name><seclabel type='static' model='dac'>"
        "<label>+107:+107</label></seclabel></domain>"
    )
    assert domain_dac(read_domain(xml).root) == DacLabel(relabel=False, owner="+107:+107")


# -------------------------------------------------------------------------- what is there


def test_qemu_img_tells_format_size_and_backing() -> None:
    seen = look(
        guest(LIVE),
        host(
            {"/images/ov.qcow2": file(), "/images/base.qcow2": file()},
            {"/images/ov.qcow2": OVERLAY, "/images/base.qcow2": info()},
        ),
    )
    members = seen.chains["vda"].members
    assert [(member.path, member.format) for member in members] == [
        ("/images/ov.qcow2", "qcow2"),
        ("/images/base.qcow2", "qcow2"),
    ]
    assert guest_bytes(seen) == {"/images/ov.qcow2": 16 * MIB, "/images/base.qcow2": 16 * MIB}


def test_a_raw_image_is_never_given_to_qemu_img() -> None:
    source = FakeSource(
        stats={"/images/a": file(size=1000)},
        heads={"/images/a": QCOW2},
        images_alone={"/images/a": Refused("should not have been asked")},
    )
    seen = look(guest(disk(format="raw")), source)
    assert guest_bytes(seen) == {"/images/a": 1024}


def test_an_encrypted_raw_image_is_as_large_as_nobody_tells() -> None:
    luks = "<encryption format='luks'><secret type='passphrase' uuid='0'/></encryption>"
    seen = look(guest(disk(format="raw", label=luks)), host({"/images/a": file()}))
    assert guest_bytes(seen) == {}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("base.qcow2", "/images/base.qcow2"),
        ("/x/base", "/x/base"),
        ("file:base", "/images/base"),
        ("file:///x/base", "/x/base"),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"/x/b"}}', "/x/b"),
        ('json:{"file.driver":"nbd","file.host":"h"}', None),
        ("json:not", None),
        ("nbd://h:10809/e", None),
        ("rbd:pool/image", None),
        ("./a:b", "/images/./a:b"),
    ],
)
def test_names_of_backing_images(name: str, path: str | None) -> None:
    assert local_path(name, "/images/ov.qcow2") == path


@pytest.mark.parametrize(
    ("head", "format_"), [(QCOW2, "qcow2"), ("514649fb00000001", "qcow"), (RAW, "raw"), ("", "raw")]
)
def test_formats_by_their_first_bytes(head: str, format_: str) -> None:
    assert sniffed(head) == format_


def test_a_chain_that_bites_its_tail_ends() -> None:
    wanted = guest(disk(inside=""))
    again = info(**{"full-backing-filename": "/images/a", "backing-filename-format": "qcow2"})
    seen = look(wanted, host({"/images/a": file()}, {"/images/a": again}))
    assert len(seen.chains["vda"].members) == 201
    assert one(backing_format(wanted, seen)).found == "more than 200"


# ---------------------------------------------------------------------- missing and dropped


def test_a_missing_image_is_named_by_disk_and_path() -> None:
    wanted = guest(disk())
    assert one(missing(wanted, look(wanted, host()), STAYS)) == Problem(
        subject="vda", wanted="file /images/a", found="nothing there"
    )


def test_an_image_that_is_there_is_fine() -> None:
    wanted = guest(disk())
    seen = look(wanted, host({"/images/a": file()}, {"/images/a": info()}))
    assert not list(missing(wanted, seen, STAYS))


def test_what_cannot_be_looked_at_is_left_open() -> None:
    wanted = guest(disk())
    seen = look(wanted, host({"/images/a": Unreadable("stale file handle")}))
    assert open_question(missing(wanted, seen, STAYS)).why == "stale file handle"


def test_a_block_device_where_the_xml_says_file_is_refused() -> None:
    wanted = guest(disk())
    seen = look(wanted, host({"/images/a": file(kind="block")}, {"/images/a": info()}))
    assert one(missing(wanted, seen, STAYS)).found == "a block"


@pytest.mark.parametrize("policy", ["", "mandatory"])
def test_a_medium_that_must_be_there_is_missed(policy: str) -> None:
    wanted = guest(cdrom(policy))
    seen = look(wanted, host())
    assert one(missing(wanted, seen, STAYS)).subject == "cdrom sda"
    assert not list(dropped(wanted, seen))


@pytest.mark.parametrize("policy", ["optional", "requisite"])
def test_a_medium_that_need_not_be_there_is_left_behind(policy: str) -> None:
    wanted = guest(cdrom(policy))
    seen = look(wanted, host())
    assert not list(missing(wanted, seen, STAYS))
    assert "ejects" in one(dropped(wanted, seen)).found


def test_an_optional_hard_disk_is_missed_all_the_same() -> None:
    wanted = guest(disk(format="raw", policy="optional"))
    assert one(missing(wanted, look(wanted, host()), STAYS)).subject == "vda"


def test_an_optional_medium_that_is_there_is_not_left_behind() -> None:
    wanted = guest(cdrom("optional"))
    assert not list(dropped(wanted, look(wanted, host({"/images/a.iso": file()}))))


def test_a_copied_disk_need_not_be_there() -> None:
    wanted = guest(disk())
    assert not list(missing(wanted, look(wanted, host()), COPY))


def test_a_cdrom_is_never_copied() -> None:
    wanted = guest(cdrom())
    assert one(missing(wanted, look(wanted, host()), COPY)).subject == "cdrom sda"


# -------------------------------------------------------------------------------- the chain


def test_a_missing_backing_image_is_named_with_its_depth() -> None:
    wanted = guest(LIVE)
    seen = look(wanted, host({"/images/ov.qcow2": file()}, {"/images/ov.qcow2": OVERLAY}))
    assert one(backing_missing(wanted, seen)) == Problem(
        subject="vda, backing image 1", wanted="/images/base.qcow2", found="nothing there"
    )


def test_a_missing_data_file_is_found() -> None:
    wanted = guest(disk())
    told = info(**{"format-specific": {"type": "qcow2", "data": {"data-file": "a.raw"}}})
    seen = look(wanted, host({"/images/a": file()}, {"/images/a": told}))
    assert one(backing_missing(wanted, seen)).wanted == "/images/a.raw"


def test_a_whole_chain_is_fine() -> None:
    wanted = guest(LIVE)
    source = host(
        {"/images/ov.qcow2": file(), "/images/base.qcow2": file()},
        {"/images/ov.qcow2": OVERLAY, "/images/base.qcow2": info()},
    )
    seen = look(wanted, source)
    assert not list(backing_missing(wanted, seen))
    assert not list(backing_format(wanted, seen))


def test_backing_on_a_server_is_left_open() -> None:
    wanted = guest(disk(inside=""))
    told = info(**{"backing-filename": "nbd://h/e", "backing-filename-format": "raw"})
    seen = look(wanted, host({"/images/a": file()}, {"/images/a": told}))
    assert "nbd://h/e" in open_question(backing_missing(wanted, seen)).why


def test_an_unrecorded_format_matters_only_below_the_second_image() -> None:
    wanted = guest(disk(inside=""))
    over = info(**{"full-backing-filename": "/images/b"})
    stats: dict[str, FileStat | SourceError] = {"/images/a": file(), "/images/b": file()}
    plain = look(wanted, host(stats, {"/images/a": over, "/images/b": info()}))
    assert not list(backing_format(wanted, plain))
    deeper = info(**{"full-backing-filename": "/images/c", "backing-filename-format": "raw"})
    problem = one(
        backing_format(wanted, look(wanted, host(stats, {"/images/a": over, "/images/b": deeper})))
    )
    assert problem.commands == ("qemu-img rebase -u -b /images/b -F qcow2 /images/a",)


# -------------------------------------------------------------------------- format and size


def test_a_raw_file_is_no_qcow2_image() -> None:
    wanted = guest(disk())
    seen = look(wanted, host({"/images/a": file()}))
    assert one(wrong_format(wanted, seen)) == Problem(
        subject="vda", wanted="qcow2 /images/a", found="a raw image"
    )


def test_an_image_that_qemu_img_refuses_is_told_in_its_words() -> None:
    wanted = guest(disk())
    why = "Could not open '/images/a': Unsupported qcow2 feature"
    seen = look(wanted, host({"/images/a": file()}, {"/images/a": Refused(why)}))
    assert one(wrong_format(wanted, seen)).found == why


def test_an_image_that_root_may_not_read_is_left_open() -> None:
    wanted = guest(disk())
    why = "Could not open '/images/a': Permission denied"
    seen = look(wanted, host({"/images/a": file()}, {"/images/a": Refused(why)}))
    assert open_question(wrong_format(wanted, seen)).why == why


def test_an_image_of_its_format_is_fine() -> None:
    wanted = guest(disk(), disk("/images/r", format="raw", target="vdb"))
    stats: dict[str, FileStat | SourceError] = {"/images/a": file(), "/images/r": file()}
    assert not list(wrong_format(wanted, look(wanted, host(stats, {"/images/a": info()}))))


def test_a_qcow2_file_taken_for_raw_is_a_risk() -> None:
    wanted = guest(disk(format="raw"))
    source = FakeSource(stats={"/images/a": file(size=200704)}, heads={"/images/a": QCOW2})
    seen = look(wanted, source)
    assert "qcow2 file of 200704 bytes" in one(taken_for_raw(wanted, seen, origin(a=MIB))).found
    assert not list(wrong_size(wanted, seen, origin(a=MIB), STAYS))


def test_a_guest_may_keep_an_image_on_its_raw_disk() -> None:
    wanted = guest(disk(format="raw"))
    source = FakeSource(stats={"/images/a": file()}, heads={"/images/a": QCOW2})
    assert not list(taken_for_raw(wanted, look(wanted, source), origin(a=16 * MIB)))


def test_a_disk_of_another_size_is_a_risk() -> None:
    wanted = guest(disk())
    seen = look(wanted, host({"/images/a": file()}, {"/images/a": info()}))
    problem = one(wrong_size(wanted, seen, origin(a=8 * MIB), STAYS))
    assert (problem.wanted, problem.found) == (
        "8388608 bytes, as on the source",
        "16777216 bytes at /images/a",
    )
    assert not list(wrong_size(wanted, seen, origin(a=16 * MIB), STAYS))
    assert not list(wrong_size(wanted, seen, origin(), STAYS))
    assert not list(wrong_size(wanted, seen, origin(a=8 * MIB), COPY))


# ------------------------------------------------------------------------------ who may open


def opened(
    qemu: QemuUser,
    found: FileStat,
    *,
    reach: bool = True,
    now: tuple[bool, bool] = (False, False),
    root: bool = True,
    kind: str = "ext4",
    xml: str = "",
    top: str = "",
) -> tuple[GuestDisks, DiskOpenings, SeenDisks]:
    """/images/a, which QEMU's user may open so now."""
    wanted = guest(xml or disk(), top=top)
    source = FakeSource(
        stats={"/images/a": found},
        heads={"/images/a": QCOW2},
        images_alone={"/images/a": info()},
        file_systems={"/images/a": kind},
        users={"0": User(name="root", uid=0, gid=0)},
        mays={
            ("/images/a", Want.EXISTS, QEMU.name): reach,
            ("/images/a", Want.READ, QEMU.name): now[0],
            ("/images/a", Want.WRITE, QEMU.name): now[1],
            ("/images/a", Want.WRITE, "root"): root,
            ("/", Want.EXECUTE, QEMU.name): True,
            ("/images", Want.EXECUTE, QEMU.name): reach,
        },
    )
    seen = look(wanted, source)
    return wanted, disk_openings(source, wanted, seen, qemu), seen


def said(
    asked: tuple[GuestDisks, DiskOpenings, SeenDisks],
) -> list[Problem | CouldNotTell]:
    """By both checks."""
    return [*unreadable(*asked), *unwritable(*asked)]


def test_root_s_file_is_not_for_qemu_without_dynamic_ownership() -> None:
    assert one(said(opened(LEAVING, file()))) == Problem(
        subject="vda",
        wanted="/images/a readable for libvirt-qemu",
        found="mode 0600, owner 0:0",
    )


def test_dynamic_ownership_gives_it_to_qemu() -> None:
    assert not said(opened(OWNING, file()))


def test_a_readable_file_fails_when_the_guest_is_to_run() -> None:
    asked = opened(LEAVING, file(mode=0o644), now=(True, False))
    assert not list(unreadable(*asked))
    problem = one(unwritable(*asked))
    assert problem.wanted == "/images/a writable for libvirt-qemu"


def test_a_read_only_disk_need_not_be_writable() -> None:
    xml = disk(inside="<readonly/><backingStore/>")
    asked = opened(LEAVING, file(mode=0o644), now=(True, False), xml=xml)
    assert not list(unwritable(*asked))


def test_a_new_owner_keeps_the_mode() -> None:
    problem = one(said(opened(OWNING, file(mode=0o400))))
    assert problem.wanted == "/images/a writable for libvirt-qemu"
    assert "readable" in one(said(opened(OWNING, file(mode=0o066), now=(True, True)))).wanted


def test_a_shut_directory_is_named() -> None:
    problem = one(said(opened(OWNING, file(mode=0o666), reach=False)))
    assert problem.found == "libvirt-qemu may not search /images"
    assert problem.commands == ("setfacl -m u:libvirt-qemu:x /images",)


def test_a_label_without_relabelling_leaves_the_owner() -> None:
    xml = disk(label="<seclabel model='dac' relabel='no'/>")
    assert "readable" in one(said(opened(OWNING, file(), xml=xml))).wanted


def test_a_label_for_somebody_else_shuts_qemu_out() -> None:
    label = "<seclabel model='dac' relabel='yes'><label>+0:+0</label></seclabel>"
    xml = disk(label=label)
    found = file(uid=64055, gid=64055)
    assert "readable" in one(said(opened(OWNING, found, xml=xml, now=(True, True)))).wanted


def test_a_guest_that_runs_as_another_user_is_asked_for_as_that() -> None:
    top = "<seclabel type='static' model='dac' relabel='no'><label>0:0</label></seclabel>"
    wanted = guest(disk(), top=top)
    source = FakeSource(
        stats={"/images/a": file()},
        heads={"/images/a": QCOW2},
        images_alone={"/images/a": info()},
        users={"0": User(name="root", uid=0, gid=0)},
        mays={("/images/a", want, "root"): True for want in Want},
    )
    seen = look(wanted, source)
    assert not list(unreadable(wanted, disk_openings(source, wanted, seen, OWNING), seen))


def test_on_nfs_that_squashes_root_nobody_is_given_a_file() -> None:
    assert "readable" in one(said(opened(OWNING, file(), root=False, kind="nfs4"))).wanted
    mine = file(uid=64055, gid=64055)
    assert not said(opened(OWNING, mine, root=False, kind="nfs4", now=(True, True)))


def test_on_nfs_that_trusts_root_it_is() -> None:
    assert not said(opened(OWNING, file(), kind="nfs4"))


def test_where_owners_cannot_be_told_it_is_left_open() -> None:
    left = open_question(said(opened(OWNING, file(), kind="cifs")))
    assert left.why == "whether libvirtd can give libvirt-qemu a file on cifs"


# ------------------------------------------------------- pools, servers, drivers and secrets

POOL = """<pool type='dir'>
  <name>images</name>
  <capacity unit='bytes'>270553174016</capacity>
  <allocation unit='bytes'>26719457280</allocation>
  <available unit='bytes'>20971520</available>
  <source>
  </source>
  <target>
    <path>/images</path>
  </target>
</pool>"""
VOLUME = (
    "<disk type='volume' device='disk'><driver type='qcow2'/><source pool='images' volume='v'/>"
    "<target dev='vda'/><backingStore/></disk>"
)


def pools(*, active: bool = True, name: str = "images") -> str:
    return json.dumps([{"name": name, "active": active, "xml": POOL}])


def pooled(wanted: GuestDisks, answer: str, options: MigrationOptions = STAYS) -> SeenPools:
    found = seen_pools(host(answers={("pools",): answer}), wanted, options)
    assert found is not None
    return found


def test_pools_are_asked_for_only_when_one_is_needed() -> None:
    assert seen_pools(host(), guest(disk()), STAYS) is None


def test_a_pool_that_sleeps_or_is_not_there_is_told() -> None:
    wanted = guest(VOLUME)
    asleep = one(no_pool(wanted, pooled(wanted, pools(active=False))))
    assert (asleep.found, asleep.commands) == ("not active", ("virsh pool-start images",))
    assert one(no_pool(wanted, pooled(wanted, "[]"))).found == "no such pool"


def test_a_pool_that_we_are_not_shown_is_left_open() -> None:
    wanted = guest(VOLUME)
    answers: dict[tuple[str, ...], str | SourceError] = {
        ("pools",): "[]",
        ("pool-named", "images"): Unreadable("no right"),
    }
    hidden = seen_pools(host(answers=answers), wanted, STAYS)
    assert hidden is not None
    assert open_question(no_pool(wanted, hidden)).why == "no right"


def test_an_active_pool_is_fine() -> None:
    wanted = guest(VOLUME)
    assert not list(no_pool(wanted, pooled(wanted, pools())))


def test_a_volume_has_to_be_known_to_its_pool() -> None:
    wanted = guest(VOLUME)
    seen = look(wanted, host(answers={("volume", "images", "v"): Absent("no storage vol")}))
    assert one(no_volume(wanted, pooled(wanted, pools()), seen, STAYS)).found == "no such volume"
    assert not list(missing(wanted, seen, STAYS))


def test_a_volume_is_not_called_absent_where_no_libvirtd_is_there_to_ask() -> None:
    wanted = guest(VOLUME)
    seen = look(wanted, host(answers={("volume", "images", "v"): Unreached("nobody is there")}))
    left = open_question(no_volume(wanted, pooled(wanted, pools()), seen, STAYS))
    assert left.why == "nobody is there"


def test_a_volume_that_its_pool_knows_is_an_image_like_others() -> None:
    wanted = guest(VOLUME)
    known = json.dumps({"path": "/images/v", "xml": "<volume/>"})
    source = host({"/images/v": file()}, {"/images/v": info()}, {("volume", "images", "v"): known})
    seen = look(wanted, source)
    assert not list(no_volume(wanted, pooled(wanted, pools()), seen, STAYS))
    assert guest_bytes(seen) == {"/images/v": 16 * MIB}


def network(protocol: str = "nbd", hosts: str = "<host name='s1' port='10809'/>") -> GuestDisks:
    return guest(
        f"<disk type='network' device='disk'><driver type='raw'/>"
        f"<source protocol='{protocol}' name='e'>{hosts}</source><target dev='vda'/></disk>"
    )


def test_one_server_of_several_is_enough() -> None:
    wanted = network(hosts="<host name='s1' port='1'/><host name='s2' port='2'/>")
    refused = Refused("s1 port 1: connection refused")
    dead = seen_servers(
        FakeSource(reaches={("s1", 1): refused, ("s2", 2): Absent("s2: unknown name")}), wanted
    )
    assert dead is not None
    assert one(unreachable(wanted, dead)).found == (
        "s1 port 1: connection refused; s2: unknown name"
    )
    alive = seen_servers(FakeSource(reaches={("s1", 1): refused, ("s2", 2): None}), wanted)
    assert alive is not None
    assert not list(unreachable(wanted, alive))


def test_a_server_that_was_not_tried_is_left_open() -> None:
    wanted = network()
    servers = seen_servers(FakeSource(reaches={("s1", 10809): Unreadable("no time")}), wanted)
    assert servers is not None
    assert open_question(unreachable(wanted, servers)).why == "no time"


def test_a_guest_without_network_disk_has_no_server() -> None:
    assert seen_servers(host(), guest(disk())) is None


def test_a_driver_that_is_a_module_has_to_be_installed() -> None:
    folder = "/usr/lib/x86_64-linux-gnu/qemu"
    source = FakeSource(
        directories={
            "/usr/lib": ("ssl", "x86_64-linux-gnu"),
            folder: ("block-curl.so", "hw-usb-host.so"),
        }
    )
    drivers = block_drivers(source)
    assert one(no_driver(network("rbd"), drivers)).found == f"no block-rbd.so in {folder}"
    assert not list(no_driver(network("https"), drivers))
    assert not list(no_driver(network("nbd"), drivers))


def test_a_driver_may_be_built_in_where_there_are_no_modules() -> None:
    drivers = block_drivers(FakeSource())
    assert "built in" in open_question(no_driver(network("rbd"), drivers)).why


LUKS = "<encryption format='luks'><secret type='passphrase' uuid='{}'/></encryption>"
UUID = "0b0b0b0b-1111-2222-3333-444444444444"
CEPH = "<auth username='c'><secret type='ceph' usage='client.c'/></auth>"


def secret_problems(label: str, *secrets: Mapping[str, object]) -> list[Problem | CouldNotTell]:
    wanted = guest_disk_secrets(
        read_domain(f"<domain><name>g</name><devices>{disk(label=label)}</devices></domain>")
    )
    assert wanted is not None
    source = host(answers={("secrets",): json.dumps(secrets)})
    return list(no_secret(wanted, seen_secrets(source, wanted)))


def secret(**other: object) -> Mapping[str, object]:
    return {"uuid": UUID, "usage_type": "volume", "usage_id": "/v", "has_value": True, **other}


def test_a_secret_has_to_be_there_with_a_value() -> None:
    luks = LUKS.format(UUID)
    assert one(secret_problems(luks)).found == "no such secret"
    empty = one(secret_problems(luks, secret(has_value=False)))
    assert empty.found == "a secret without a value"
    assert empty.commands == (f"virsh secret-set-value {UUID} --file FILE --plain",)
    assert not secret_problems(luks, secret())


@pytest.mark.parametrize(
    ("label", "question"),
    [
        (LUKS.format(UUID), ("secret-known", UUID)),
        (CEPH, ("secret-for", "ceph", "client.c")),
    ],
)
def test_a_secret_that_we_are_not_shown_is_left_open(label: str, question: tuple[str, ...]) -> None:
    wanted = guest_disk_secrets(
        read_domain(f"<domain><name>g</name><devices>{disk(label=label)}</devices></domain>")
    )
    assert wanted is not None
    hidden = host(answers={("secrets",): "[]", question: Unreadable("no right")})
    assert open_question(no_secret(wanted, seen_secrets(hidden, wanted))).why == "no right"


def test_where_there_is_a_secret_it_is_said_that_nobody_compares_its_value() -> None:
    wanted, seen = luks_secret(secret())
    found = one(list(secret_untried(wanted, seen)))
    assert found.found == "a value that only a trial or a rehearsal tries"


def test_of_a_secret_that_is_not_there_or_empty_nothing_more_is_said() -> None:
    assert not list(secret_untried(*luks_secret()))
    assert not list(secret_untried(*luks_secret(secret(has_value=False))))


def luks_secret(*secrets: Mapping[str, object]) -> tuple[GuestDiskSecrets, SeenSecrets]:
    luks = LUKS.format(UUID)
    wanted = guest_disk_secrets(
        read_domain(f"<domain><name>g</name><devices>{disk(label=luks)}</devices></domain>")
    )
    assert wanted is not None
    return wanted, seen_secrets(host(answers={("secrets",): json.dumps(secrets)}), wanted)


def test_a_secret_is_found_by_its_usage() -> None:
    assert one(secret_problems(CEPH, secret())).wanted == (
        "secret ceph secret with usage client.c with a value"
    )
    assert not secret_problems(CEPH, secret(usage_type="ceph", usage_id="client.c"))


def test_a_secret_for_something_else_does_not_fit() -> None:
    found = one(secret_problems(LUKS.format(UUID), secret(usage_type="ceph"))).found
    assert found == "a secret for ceph, not for volume"


def test_a_private_secret_is_known_by_its_file() -> None:
    wanted = guest_disk_secrets(
        read_domain(
            f"<domain><name>g</name><devices>{disk(label=LUKS.format(UUID))}</devices></domain>"
        )
    )
    assert wanted is not None
    answers: dict[tuple[str, ...], str | SourceError] = {
        ("secrets",): json.dumps([secret(has_value=None)])
    }
    unknown = no_secret(wanted, seen_secrets(host(answers=answers), wanted))
    assert "private" in open_question(unknown).why
    kept = host({f"/etc/libvirt/secrets/{UUID}.base64": file()}, answers=answers)
    assert not list(no_secret(wanted, seen_secrets(kept, wanted)))


def test_a_guest_without_secrets_needs_none() -> None:
    xml = f"<domain><name>g</name><devices>{disk()}</devices></domain>"
    assert guest_disk_secrets(read_domain(xml)) is None


# ---------------------------------------------------------------------------------- copying


def test_a_copy_needs_a_pool_in_its_directory() -> None:
    wanted = guest(disk())
    seen = look(wanted, host())
    asleep = pooled(wanted, pools(active=False), COPY)
    problem = one(copy_without_pool(wanted, seen, asleep, COPY))
    assert (problem.found, problem.commands) == (
        "pool images is not active",
        ("virsh pool-start images",),
    )
    assert one(copy_without_pool(wanted, seen, pooled(wanted, "[]", COPY), COPY)).found == (
        "no such pool"
    )
    assert not list(copy_without_pool(wanted, seen, pooled(wanted, pools(), COPY), COPY))


def test_a_pool_to_copy_into_that_we_are_not_shown_is_left_open() -> None:
    wanted = guest(disk())
    answers: dict[tuple[str, ...], str | SourceError] = {
        ("pools",): "[]",
        ("pool-at", "/images"): Unreadable("no right"),
    }
    hidden = seen_pools(host(answers=answers), wanted, COPY)
    assert hidden is not None
    left = open_question(copy_without_pool(wanted, look(wanted, host()), hidden, COPY))
    assert left.why == "no right"


def test_a_copy_into_an_image_that_is_there_needs_no_pool() -> None:
    wanted = guest(disk())
    seen = look(wanted, host({"/images/a": file()}, {"/images/a": info()}))
    assert not list(copy_without_pool(wanted, seen, pooled(wanted, "[]", COPY), COPY))


def test_an_incremental_copy_needs_the_image() -> None:
    wanted = guest(disk())
    assert one(copy_needs_target(wanted, look(wanted, host()), INC)).subject == "vda"
    there = look(wanted, host({"/images/a": file()}, {"/images/a": info()}))
    assert not list(copy_needs_target(wanted, there, INC))
    assert not list(copy_needs_target(wanted, look(wanted, host()), COPY))


def test_libvirt_makes_no_block_device() -> None:
    wanted = guest(
        "<disk type='block' device='disk'><driver type='raw'/><source dev='/dev/vg/a'/>"
        "<target dev='vda'/></disk>"
    )
    assert one(copy_needs_target(wanted, look(wanted, host()), COPY)).wanted == (
        "an image at /dev/vg/a"
    )


def test_a_volume_cannot_be_copied_into_incrementally_be_it_there() -> None:
    wanted = guest(VOLUME)
    known = json.dumps({"path": "/images/v", "xml": "<volume/>"})
    seen = look(
        wanted,
        host({"/images/v": file()}, {"/images/v": info()}, {("volume", "images", "v"): known}),
    )
    assert "incrementally" in one(copy_needs_target(wanted, seen, INC)).found
    assert not list(copy_needs_target(wanted, seen, COPY))


def test_the_image_to_copy_into_has_to_be_of_the_same_size() -> None:
    wanted = guest(disk())
    seen = look(wanted, host({"/images/a": file()}, {"/images/a": info()}))
    for size in (8 * MIB, 32 * MIB):
        problem = one(copy_of_other_size(wanted, seen, origin(a=size), COPY))
        assert problem.wanted == f"{size} bytes, as on the source"
    assert not list(copy_of_other_size(wanted, seen, origin(a=16 * MIB), COPY))
    assert not list(copy_of_other_size(wanted, seen, origin(a=8 * MIB), STAYS))
    assert open_question(copy_of_other_size(wanted, seen, origin(), COPY)).subject == "vda"


def test_a_larger_block_device_is_left_open() -> None:
    wanted = guest(
        "<disk type='block' device='disk'><driver type='raw'/><source dev='/images/a'/>"
        "<target dev='vda'/></disk>"
    )
    seen = look(wanted, host({"/images/a": file(kind="block")}))
    assert "10.0" in open_question(copy_of_other_size(wanted, seen, origin(a=MIB), COPY)).why


def copies(
    qemu: QemuUser,
    *,
    listed: str | SourceError = "[]",
    searched: bool = True,
    made: bool = True,
    on: str = "ext4",
) -> SeenCopies:
    wanted = guest(disk())
    source = FakeSource(
        answers={("pool-volumes", "images"): listed},
        mays={
            ("/images", Want.EXECUTE, QEMU.name): searched,
            ("/images", Want.WRITE, "root"): made,
        },
        file_systems={"/images": on},
    )
    seen = look(wanted, source)
    return seen_copies(source, wanted, seen, pooled(wanted, pools(), COPY), COPY, qemu)


def test_a_pool_that_lists_what_is_gone_makes_no_image() -> None:
    ghost = copies(OWNING, listed='["b", "a"]')
    problem = one(copy_into_ghost(ghost))
    assert problem.commands == ("virsh pool-refresh images",)
    assert not list(copy_not_openable(ghost))


def test_a_pool_that_lists_other_images_is_fine() -> None:
    assert not list(copy_into_ghost(copies(OWNING, listed='["b"]')))


def test_a_pool_that_does_not_tell_is_left_open() -> None:
    silent = copies(OWNING, listed=Unreadable("libvirtd does not answer"))
    assert open_question(copy_into_ghost(silent)).why == "libvirtd does not answer"


def test_a_new_image_is_root_s_without_dynamic_ownership() -> None:
    assert "root" in one(copy_not_openable(copies(LEAVING))).found
    assert not list(copy_not_openable(copies(OWNING)))


def test_a_new_image_in_a_shut_directory_is_out_of_reach() -> None:
    problem = one(copy_not_openable(copies(OWNING, searched=False)))
    assert problem.found == "libvirt-qemu may not search /images"


def test_copies_that_may_fill_the_pool_are_a_risk() -> None:
    wanted = guest(disk(), disk("/images/b", target="vdb"))
    seen = look(wanted, host())
    room = pooled(wanted, pools(), COPY)
    both = origin(a=16 * MIB, b=16 * MIB)
    problem = one(copy_too_large(wanted, seen, room, both, COPY))
    assert (problem.subject, problem.found) == ("vdb", "4 MiB free")
    assert not list(copy_too_large(wanted, seen, room, origin(a=16 * MIB, b=MIB), COPY))


def test_whether_a_raw_copy_fits_is_left_open_when_the_pool_says_no() -> None:
    wanted = guest(disk(format="raw"))
    room = pooled(wanted, pools(), COPY)
    said = open_question(
        copy_too_large(wanted, look(wanted, host()), room, origin(a=64 * MIB), COPY)
    )
    assert said.why == "needs 64 MiB, pool images counted 20 MiB free"


def test_read_only_and_empty_disks_cannot_be_copied() -> None:
    wanted = guest(disk(), cdrom(), "<disk type='file' device='cdrom'><target dev='sdb'/></disk>")
    named = MigrationOptions(copy_storage_all=True, migrate_disks=("vda", "sda", "sdb"))
    found = list(copy_of_readonly(wanted, named))
    assert [
        (problem.subject, problem.found) for problem in found if isinstance(problem, Problem)
    ] == [
        ("sda", "read-only"),
        ("sdb", "empty"),
    ]


def test_what_is_not_named_is_not_copied_when_it_cannot_be() -> None:
    wanted = guest(disk(), cdrom())
    assert not list(copy_of_readonly(wanted, COPY))


# ------------------------------------------------------------------------------- the source


def sharing(
    kind: str,
    *,
    options: MigrationOptions = STAYS,
    xml: str = "",
    conf: str = "",
    version: int = 11_003_000,
) -> list[Problem | CouldNotTell]:
    """What is said of a disk on a file system of that type."""
    return list(unsafe(*shown(kind, options, xml, conf, version)))


def shown(
    kind: str,
    options: MigrationOptions = STAYS,
    xml: str = "",
    conf: str = "",
    version: int = 11_003_000,
) -> tuple[GuestDisks, SeenSharing, MigrationOptions]:
    wanted = guest(xml or disk())
    source = FakeSource(
        stats={"/images/a": file()},
        heads={"/images/a": QCOW2},
        images_alone={"/images/a": info()},
        file_systems={"/images/a": kind},
        links={"/var/images": "/images"},
        answers={("version",): json.dumps({"libvirt": version, "qemu": 10_000_000})},
    )
    settings = {"shared_filesystems": conf} if conf else {}
    order = shared_by_order(source, QemuConf(value_by_key=settings))
    return wanted, seen_sharing(source, wanted, look(wanted, source), order), options


def test_a_local_file_is_not_let_go() -> None:
    problem = one(unsafe(*shown("ext4")))
    assert (problem.subject, problem.found) == ("vda", "/images/a on ext4")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "ceph", "gfs2", "cifs", "fuse.glusterfs"])
def test_file_systems_that_libvirt_knows_to_be_shared(kind: str) -> None:
    assert not list(unsafe(*shown(kind)))


def test_other_fuse_file_systems_are_not_known() -> None:
    assert one(sharing("fuse.sshfs"))


def test_beegfs_is_known_to_newer_libvirts() -> None:
    assert not sharing("beegfs")
    assert one(sharing("beegfs", version=9_000_000))


def test_unsafe_copied_and_read_only_disks_are_let_go() -> None:
    assert not sharing("ext4", options=MigrationOptions(unsafe=True))
    assert not sharing("ext4", options=COPY)
    assert not sharing("ext4", xml=disk(inside="<readonly/>"))


def test_a_shareable_disk_is_not_copied() -> None:
    assert one(sharing("ext4", options=COPY, xml=disk(inside="<shareable/>")))


def test_block_and_network_disks_are_taken_for_shared() -> None:
    xml = "<disk type='block'><source dev='/images/a'/><target dev='vda'/></disk>"
    assert not sharing("ext4", xml=xml)
    xml = "<disk type='network'><source protocol='nbd' name='e'/><target dev='vda'/></disk>"
    assert not sharing("ext4", xml=xml)


def test_an_nvme_disk_is_not_let_go() -> None:
    xml = (
        "<disk type='nvme' device='disk'><source type='pci' namespace='1'><address domain='0x0000' "
        "bus='0x3b' slot='0x00' function='0x0'/></source><target dev='vda'/></disk>"
    )
    assert one(sharing("ext4", xml=xml)).found == "an NVMe disk of this host"
    wanted = guest(xml)
    problem = one(missing(wanted, look(wanted, host()), STAYS))
    assert problem.wanted == "NVMe controller /sys/bus/pci/devices/0000:3b:00.0"


def test_qemu_conf_may_declare_a_path_shared() -> None:
    assert not sharing("ext4", conf='[\n  "/var/images/"\n]')
    assert one(sharing("ext4", conf='["/image"]'))
    assert one(sharing("ext4", conf='["/images"]', version=9_000_000))


def test_links_are_followed_and_loops_end() -> None:
    source = FakeSource(links={"/a": "b/../c", "/c/d": "/e", "/loop": "loop"})
    assert canonical(source, "/a/d/f") == "/e/f"
    assert canonical(source, "/loop/x")


def test_a_transient_disk_stays() -> None:
    assert one(transient(guest(disk(inside="<transient/>")))).subject == "vda"


def test_other_disks_are_not_transient() -> None:
    assert not list(transient(guest(disk())))


def test_some_formats_cannot_move_be_it_as_backing() -> None:
    wanted = guest(disk(inside=""))
    told = info(**{"full-backing-filename": "/images/b", "backing-filename-format": "vmdk"})
    stats: dict[str, FileStat | SourceError] = {"/images/a": file(), "/images/b": file()}
    alone = {"/images/a": told, "/images/b": json.dumps({"format": "vmdk", "virtual-size": MIB})}
    seen = look(wanted, host(stats, alone))
    assert one(immovable_format(wanted, seen)).found == "/images/b is a vmdk image"


def test_qcow2_can_move() -> None:
    plain = guest(disk())
    there = look(plain, host({"/images/a": file()}, {"/images/a": info()}))
    assert not list(immovable_format(plain, there))


def test_an_unreadable_opening_is_left_open() -> None:
    wanted = guest(disk())
    source = host({"/images/a": file()}, {"/images/a": info()})
    seen = look(wanted, source)
    openings = disk_openings(source, wanted, seen, OWNING)
    assert isinstance(openings.openings["vda", "/images/a"], Unknown)
    assert open_question(unreadable(wanted, openings, seen)).subject == "vda"


def test_where_libvirtd_may_not_write_no_copy_is_made() -> None:
    problem = one(copy_nowhere(copies(OWNING, made=False)))
    assert (problem.subject, problem.wanted) == ("vda", "/images that libvirtd may write to")
    assert open_question(copy_nowhere(copies(OWNING, made=False, on="nfs4"))).subject == "vda"


def test_where_libvirtd_may_write_or_makes_nothing_a_copy_has_its_place() -> None:
    assert not list(copy_nowhere(copies(OWNING)))
    assert not list(copy_nowhere(copies(OWNING, listed='["a"]', made=False)))
