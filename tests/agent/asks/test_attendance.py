from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.asks.attendance import (
    GONE_WITHIN_S,
    Notes,
    Tidied,
    attend,
    attended_before,
    tidy,
)
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.dryrun import given
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.sources import FileStat, Refused, SourceError, Unreadable, User, Want

UUID = "11111111-2222-4333-8444-555555555555"
LIVE = MigrationOptions(live=True, p2p=True)
COPY = replace(LIVE, copy_storage_all=True)
ORIGIN = GuestOrigin(host_name="h1", host_uuid="", libvirt_version=9_000_000)
QEMU = User(name="qemu", uid=107, gid=108)
CAPABILITIES = (
    "<capabilities><host><secmodel><model>dac</model>"
    "<baselabel type='kvm'>+107:+108</baselabel></secmodel></host></capabilities>"
)
SWTPM = "/var/lib/libvirt/swtpm"
NVRAM = "/var/lib/libvirt/qemu/nvram/db1_VARS.fd"

Answers = dict[tuple[str, ...], str | SourceError]


def like(
    *, kind: str = "file", size: int = 1, uid: int = 0, gid: int = 0, inode: int = 1
) -> FileStat:
    return FileStat(kind=kind, size_bytes=size, mode=0o600, uid=uid, gid=gid, device=1, inode=inode)


def host(
    *,
    stats: Mapping[str, FileStat | SourceError] | None = None,
    running: bool = False,
    defined: bool = False,
    version: int = 9_000_000,
    answers: Answers | None = None,
    **parts: object,
) -> FakeSource:
    mine = {"name": "db1", "uuid": UUID, "persistent": True}
    domains = [{**mine, "id": 7, "state": "paused"}] if running else []
    domains += [{**mine, "id": None, "state": "shut off"}] if defined else []
    return FakeSource(
        stats=stats or {},
        users={"107": QEMU},
        answers={
            ("domains",): json.dumps(domains),
            ("capabilities",): CAPABILITIES,
            ("version",): json.dumps({"libvirt": version, "qemu": 7_002_000}),
            ("networks",): "[]",
            **(answers or {}),
        },
        **parts,  # type: ignore[arg-type]
    )


def asked(
    source: FakeSource,
    devices: str = "",
    *,
    options: MigrationOptions = LIVE,
    allow: tuple[str, ...] = (),
    origin: GuestOrigin | None = ORIGIN,
    uuid: str = f"<uuid>{UUID}</uuid>",
    os: str = "",
    broom: FakeBroom | None = None,
) -> Notes | str:
    xml = f"<domain type='kvm'><name>db1</name>{uuid}{os}<devices>{devices}</devices></domain>"
    domain = read_domain(xml)
    store = FactStore(source=source, catalogue=catalogue(), clock=lambda: 0.0)
    question = store.question(given(domain, Policy(), options, origin), 0.0)
    return attend(question, domain, options, origin, frozenset(allow), broom or FakeBroom())


def refused(found: Notes | str) -> str:
    assert isinstance(found, str)
    return found


def noted(found: Notes | str) -> Notes:
    assert isinstance(found, Notes), found
    return found


def test_a_plain_guest_leaves_nothing_to_note() -> None:
    assert noted(asked(host())) == Notes(
        name="db1", uuid=UUID, defined=False, changed_to=frozenset({0, 107})
    )


# ------------------------------------------------------------------------------------------ guards


def test_hooks_forbid_it_unless_they_are_allowed() -> None:
    script = host(stats={"/etc/libvirt/hooks/qemu": like()})
    assert refused(asked(script)) == ("libvirtd would run /etc/libvirt/hooks/qemu: --allow hooks")
    noted(asked(script, allow=("hooks",)))
    several = host(directories={"/etc/libvirt/hooks/qemu.d": ("10-a", "20-b")})
    assert "/etc/libvirt/hooks/qemu.d/20-b" in refused(asked(several))


def test_hooks_of_networks_are_those_of_a_guest_with_a_network() -> None:
    script = host(directories={"/etc/libvirt/hooks/network.d": ("10-lab",)})
    nic = "<interface type='network'><source network='lan'/></interface>"
    said = refused(asked(script, devices=nic))
    assert said == "libvirtd would run /etc/libvirt/hooks/network.d/10-lab: --allow hooks"
    noted(asked(script))


def test_hooks_that_cannot_be_looked_for_forbid_it() -> None:
    unreadable = host(stats={"/etc/libvirt/hooks/qemu": Unreadable("permission denied")})
    assert "permission denied" in refused(asked(unreadable))


OVS = "<virtualport type='openvswitch'/>"


def test_ports_of_open_vswitch_forbid_it_unless_they_are_allowed() -> None:
    nic = f"<interface type='bridge'><source bridge='ovs0'/>{OVS}</interface>"
    assert refused(asked(host(), nic)).endswith("--allow open-vswitch")
    noted(asked(host(), nic, allow=("open-vswitch",)))
    noted(asked(host(), "<interface type='bridge'><source bridge='br0'/></interface>"))


def test_a_network_of_open_vswitch_counts_as_the_destination_has_it() -> None:
    nic = "<interface type='network'><source network='lan'/></interface>"
    switched = json.dumps([{"name": "lan", "xml": f"<network>{OVS}</network>"}])
    assert "Open vSwitch" in refused(asked(host(answers={("networks",): switched}), nic))
    bridged = json.dumps([{"name": "lan", "xml": "<network/>"}])
    noted(asked(host(answers={("networks",): bridged}), nic))


TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"


@pytest.mark.parametrize(
    ("here", "there", "file_system", "forbidden"),
    [
        (9_000_000, 11_003_000, "nfs4", True),
        (11_003_000, 9_000_000, "nfs4", True),
        (11_003_000, None, "fuse.glusterfs", True),
        (11_003_000, 11_003_000, "nfs4", False),
        (9_000_000, 9_000_000, "ext4", False),
    ],
)
def test_the_state_of_a_tpm_on_shared_storage_needs_libvirt_9_1_on_both_sides(
    here: int, there: int | None, file_system: str, forbidden: bool
) -> None:
    source = host(
        version=here,
        stats={SWTPM: like(kind="dir")},
        file_systems={SWTPM: file_system},
    )
    found = asked(source, TPM, origin=replace(ORIGIN, libvirt_version=there))
    assert isinstance(found, str) is forbidden


def test_a_guest_that_is_just_coming_is_left_alone() -> None:
    jobs: Answers = {("domain-jobs", UUID): json.dumps({"job": "migration-in"})}
    assert "is being migrated" in refused(asked(host(running=True, answers=jobs)))
    # One that runs there, libvirt itself refuses, and there is nothing to wait for.
    runs = host(running=True, answers={("domain-jobs", UUID): json.dumps({"job": ""})})
    clock = Clock()
    assert tidied(noted(asked(runs)), runs, FakeBroom(), clock) == Tidied()
    assert clock.now == 0


def test_an_offline_move_one_by_a_socket_and_a_guest_without_a_uuid_are_refused() -> None:
    assert "--offline" in refused(asked(host(), options=MigrationOptions(offline=True)))
    by_socket = MigrationOptions(migrateuri="unix:///srv/m.sock")
    assert "would stay there" in refused(asked(host(), options=by_socket))
    assert "no UUID" in refused(asked(host(), uuid=""))


DISK = (
    "<disk type='file' device='disk'><driver type='raw'/><source file='/srv/a.img'/>"
    "<target dev='vda'/></disk>"
)


def test_a_copy_needs_a_look_at_the_image_before() -> None:
    unseen = host(stats={"/srv/a.img": Unreadable("no answer")})
    assert "image of vda" in refused(asked(unseen, DISK, options=COPY))
    noted(asked(unseen, DISK))


# ------------------------------------------------------------------------------------------- notes


def test_what_is_not_there_is_noted() -> None:
    os = f"<os><type arch='x86_64'>hvm</type><nvram>{NVRAM}</nvram></os>"
    devices = TPM + DISK + "<serial type='file'><source path='/var/log/db1.log'/></serial>"
    source = host(stats={SWTPM: like(kind="dir")}, file_systems={SWTPM: "ext4"})
    found = noted(asked(source, devices, os=os, options=COPY))
    assert found.absent_files == (NVRAM, "/var/log/db1.log")
    assert found.absent_directories == (f"{SWTPM}/{UUID}",)
    assert found.absent_images == ("/srv/a.img",)


def test_a_screens_socket_that_qemu_would_leave_is_noted_and_goes() -> None:
    screen = (
        "<graphics type='vnc' socket='/srv/a.sock'><listen type='socket' socket='/srv/a.sock'/>"
    )
    found = noted(asked(host(), f"{screen}</graphics>"))
    assert found.absent_files == ("/srv/a.sock",)
    broom = FakeBroom()
    tidied(replace(BEFORE, absent_files=found.absent_files), left_behind("/srv/a.sock"), broom)
    assert broom.done


def left_behind(path: str) -> FakeSource:
    return host(stats={path: like(kind="socket", size=0)})


def test_what_is_there_is_not_taken_for_new() -> None:
    os = f"<os><type arch='x86_64'>hvm</type><nvram>{NVRAM}</nvram></os>"
    stats = {
        NVRAM: like(),
        SWTPM: like(kind="dir"),
        f"{SWTPM}/{UUID}": like(kind="dir"),
        "/srv/a.img": like(),
    }
    mays = {("/srv/a.img", want, "qemu"): True for want in Want}
    systems = {SWTPM: "ext4", "/srv/a.img": "ext4"}
    source = host(stats=stats, file_systems=systems, mays=mays, defined=True)
    found = noted(asked(source, TPM + DISK, os=os, options=COPY))
    assert (found.absent_files, found.absent_directories, found.absent_images) == ((), (), ())
    assert found.owned == {"/srv/a.img": like(), NVRAM: like()}


@pytest.mark.parametrize(
    ("system", "defined", "kept"),
    [("ext4", False, False), ("ext4", True, True), ("nfs4", False, True)],
)
def test_a_tpm_that_was_left_here_is_not_put_at_risk(
    system: str, defined: bool, kept: bool
) -> None:
    stats = {SWTPM: like(kind="dir"), f"{SWTPM}/{UUID}": like(kind="dir")}
    systems = {SWTPM: system, f"{SWTPM}/{UUID}": system}
    source = host(stats=stats, file_systems=systems, defined=defined, version=11_000_000)
    origin = replace(ORIGIN, libvirt_version=11_000_000)
    assert isinstance(asked(source, TPM, origin=origin), Notes) is kept


def test_files_that_are_memory_are_not_written_to() -> None:
    nvdimm = (
        "<memory model='nvdimm'><source><path>/srv/nvdimm</path></source>"
        "<target><size unit='MiB'>32</size><node>0</node></target></memory>"
    )
    assert "would write to it" in refused(asked(host(), nvdimm))
    dimm = "<memory model='dimm'><target><size unit='MiB'>32</size><node>0</node></target></memory>"
    noted(asked(host(), dimm))


@pytest.mark.parametrize(
    "devices",
    [
        "<serial type='unix'><source mode='bind' path='/srv/a.sock'/></serial>",
        "<graphics type='vnc'><listen type='socket' socket='/srv/a.sock'/></graphics>",
    ],
)
def test_a_socket_that_is_there_is_not_taken(devices: str) -> None:
    there = host(stats={"/srv/a.sock": like(kind="socket")})
    assert "the socket /srv/a.sock is there" in refused(asked(there, devices))
    assert noted(asked(host(), devices)).owned == {}


@pytest.mark.parametrize(("writes", "kept"), [(True, {"/srv/a.img"}), (False, set())])
def test_a_disk_keeps_its_owner_when_qemu_may_open_it_as_it_is(
    writes: bool, kept: set[str]
) -> None:
    mays = {("/srv/a.img", want, "qemu"): True for want in Want}
    mays["/srv/a.img", Want.WRITE, "qemu"] = writes
    source = host(stats={"/srv/a.img": like()}, mays=mays)
    assert noted(asked(source, DISK)).keep_owner_of == kept


def test_where_libvirt_gives_no_files_away_none_has_to_be_kept() -> None:
    mays = {("/srv/a.img", want, "qemu"): True for want in Want}
    source = host(
        stats={"/srv/a.img": like()},
        mays=mays,
        texts={"/etc/libvirt/qemu.conf": "dynamic_ownership = 0\n"},
    )
    assert not noted(asked(source, DISK)).keep_owner_of


# -------------------------------------------------------------------------------------- afterwards


@dataclass(kw_only=True)
class FakeBroom:
    error: SourceError | None = None
    attributes: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    done: list[tuple[object, ...]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def write_down(self, uuid: str, notes: str) -> None:
        if uuid in self.notes:
            raise Refused("another rehearsal of the guest is under way")
        self.notes[uuid] = notes

    def written_down(self) -> Mapping[str, str]:
        return self.notes

    def cross_out(self, uuid: str) -> None:
        self.notes.pop(uuid, None)

    def remove_file(self, path: str) -> None:
        self._do("file", path)

    def remove_directory(self, path: str) -> None:
        self._do("directory", path)

    def remove_volume(self, path: str) -> None:
        self._do("volume", path)

    def give_back(self, path: str, uid: int, gid: int) -> None:
        self._do("owner", path, uid, gid)

    def remembered(self, path: str) -> Mapping[str, bytes]:
        return self.attributes.get(path, {})

    def remember(self, path: str, remembered: Mapping[str, bytes]) -> None:
        self._do("remember", path, remembered)

    def _do(self, *what: object) -> None:
        if self.error:
            raise self.error
        self.done.append(what)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


BEFORE = Notes(name="db1", uuid=UUID, defined=False)
FULL = replace(
    BEFORE,
    absent_files=(NVRAM, "/var/log/db1.log"),
    absent_directories=(f"{SWTPM}/{UUID}",),
    absent_images=("/srv/a.img",),
    absent_volumes=(("images", "b.img"),),
    owned={"/srv/c.img": like(uid=107, gid=108)},
)


def tidied(
    notes: Notes, source: FakeSource, broom: FakeBroom, clock: Clock | None = None
) -> Tidied:
    clock = clock or Clock()
    return tidy(notes, source, broom, clock, clock.sleep)


def test_what_was_not_there_is_removed_and_what_was_taken_given_back() -> None:
    broom = FakeBroom()
    stats = {
        NVRAM: like(size=131072),
        "/var/log/db1.log": like(size=0),
        f"{SWTPM}/{UUID}": like(kind="dir"),
        "/srv/a.img": like(),
        "/srv/c.img": like(uid=0),
    }
    volume: Answers = {
        ("volume", "images", "b.img"): json.dumps({"path": "/pool/b.img", "xml": ""})
    }
    told = tidied(FULL, host(stats=stats, answers=volume), broom)
    assert broom.done == [
        ("file", NVRAM),
        ("file", "/var/log/db1.log"),
        ("directory", f"{SWTPM}/{UUID}"),
        ("volume", "/srv/a.img"),
        ("volume", "/pool/b.img"),
        ("owner", "/srv/c.img", 107, 108),
    ]
    assert len(told.done) == 6
    assert told.left == ()


KEPT = {"/srv/c.img": {"trusted.libvirt.security.dac": b"+0:+0"}}


def test_whose_a_disk_was_is_noted_and_written_down_again() -> None:
    disk = DISK.replace("/srv/a.img", "/srv/c.img")
    mays = {("/srv/c.img", want, "qemu"): True for want in Want}
    there = host(stats={"/srv/c.img": like()}, mays=mays)
    found = noted(asked(there, disk, broom=FakeBroom(attributes=KEPT)))
    assert found.remembered == KEPT
    lost, kept = FakeBroom(), FakeBroom(attributes=KEPT)
    assert tidied(found, there, lost).done == ("wrote down again whose /srv/c.img is",)
    assert lost.done == [("remember", "/srv/c.img", KEPT["/srv/c.img"])]
    assert tidied(found, there, kept) == Tidied()


def test_notes_outlive_the_agent() -> None:
    disk = DISK.replace("/srv/a.img", "/srv/c.img")
    mays = {("/srv/c.img", want, "qemu"): True for want in Want}
    broom = FakeBroom(attributes=KEPT)
    found = noted(asked(host(stats={"/srv/c.img": like()}, mays=mays), disk, broom=broom))
    assert attended_before(broom) == (found,)
    tidied(found, host(), broom)
    assert attended_before(broom) == ()


def test_notes_that_were_cut_short_are_of_nothing_that_was_rehearsed() -> None:
    broom = FakeBroom(notes={UUID: '{"name": "db'})
    assert attended_before(broom) == ()
    assert not broom.notes


def test_a_guest_is_attended_to_once_at_a_time() -> None:
    broom = FakeBroom()
    noted(asked(host(), broom=broom))
    assert refused(asked(host(), broom=broom)) == "another rehearsal of the guest is under way"


def test_what_did_not_come_to_be_needs_nothing() -> None:
    broom = FakeBroom()
    stats = {"/srv/c.img": like(uid=107, gid=108)}
    assert tidied(FULL, host(stats=stats), broom) == Tidied()
    assert not broom.done


def test_a_log_that_somebody_has_written_to_is_left() -> None:
    broom = FakeBroom()
    told = tidied(FULL, host(stats={"/var/log/db1.log": like(size=9)}), broom)
    assert told.left == ("removed /var/log/db1.log: somebody has written to it",)
    assert not broom.done


def test_only_libvirts_own_directory_of_nvram_is_trusted() -> None:
    broom = FakeBroom()
    sly = "/var/lib/libvirt/qemu/nvram/../../../../../etc/shadow"
    notes = replace(BEFORE, absent_files=("/etc/passwd", sly))
    tidied(notes, host(stats={"/etc/passwd": like(), sly: like()}), broom)
    assert not broom.done


@pytest.mark.parametrize(("digest", "removed"), [("aa", True), ("bb", False)])
def test_variables_at_a_path_of_their_own_go_while_they_are_the_templates(
    digest: str, removed: bool
) -> None:
    path, template = "/srv/vars/db1.fd", "/usr/share/OVMF/VARS.fd"
    os = f"<os><nvram template='{template}'>{path}</nvram></os>"
    before = noted(asked(host(), os=os))
    assert before.template_by_path == {path: template}
    broom = FakeBroom()
    after = host(stats={path: like(size=9)}, digests={path: digest, template: "aa"})
    told = tidied(before, after, broom)
    assert told.done == ((f"removed {path}",) if removed else ())
    assert bool(told.left) is not removed


@pytest.mark.parametrize(
    "now",
    [
        like(uid=1000),  # neither QEMU's user nor root: somebody meant it
        like(uid=0, inode=2),  # another file
    ],
)
def test_what_others_have_changed_is_not_changed_back(now: FileStat) -> None:
    broom = FakeBroom()
    notes = replace(BEFORE, owned={"/srv/c.img": like(uid=107, gid=108)})
    assert tidied(notes, host(stats={"/srv/c.img": now}), broom) == Tidied()
    assert not broom.done


def test_nothing_is_touched_while_the_guest_is_there() -> None:
    broom, clock = FakeBroom(), Clock()
    stats = {NVRAM: like()}
    told = tidied(FULL, host(running=True, stats=stats), broom, clock)
    assert told.left == ("db1 is still there",)
    assert not broom.done
    assert clock.now == pytest.approx(GONE_WITHIN_S, abs=1)


def test_a_definition_that_came_meanwhile_is_somebodys_and_its_files_too() -> None:
    broom = FakeBroom()
    stats = {NVRAM: like()}
    assert tidied(FULL, host(defined=True, stats=stats), broom).left
    assert not broom.done
    # One that was there before is not in the way.
    tidied(replace(FULL, defined=True), host(defined=True, stats=stats), broom)
    assert broom.done == [("file", NVRAM)]


def test_a_libvirtd_that_does_not_answer_is_waited_for_and_then_told_of() -> None:
    silent = host(answers={("domains",): Unreadable("no answer")})
    (left,) = tidied(FULL, silent, FakeBroom()).left
    assert left == "whether db1 is gone could not be told: no answer"


def test_what_cannot_be_put_back_is_told() -> None:
    broom = FakeBroom(error=Refused("permission denied"))
    told = tidied(FULL, host(stats={NVRAM: like()}), broom)
    assert told.left == (f"removed {NVRAM}: permission denied",)
    assert told.done == ()
