from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from lxml import etree

from tests.agent.fake import FakeSource
from virt_preflight.agent.asks import trial as trials
from virt_preflight.agent.asks.decided import decided
from virt_preflight.agent.asks.readback import lost
from virt_preflight.agent.asks.trial import trial
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.dryrun import given
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.families.libvirt import left_out
from virt_preflight.agent.hearing import Hearing, Hearings
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Severity, Side
from virt_preflight.agent.sources import (
    FileStat,
    Impossible,
    LibvirtRefused,
    SourceError,
    Unreadable,
    User,
    Want,
)
from virt_preflight.agent.sources.stage import Act, NoPhases

COOKIE = (
    b"<qemu-migration><name>db1</name><uuid>u</uuid><hostname>h1</hostname>"
    b"<hostuuid>3cc0d625-dd48-55fd-ad54-61030cfd7aff</hostuuid><capabilities/></qemu-migration>"
)
ORIGIN = GuestOrigin(host_name="h1", host_uuid="", begin_cookie=COOKIE)
CAPABILITIES = (
    "<capabilities><host><secmodel><model>dac</model>"
    "<baselabel type='kvm'>+107:+108</baselabel></secmodel></host></capabilities>"
)
QEMU = User(name="qemu", uid=107, gid=108)
EMULATOR = "/usr/bin/qemu-system-x86_64"


def owned(mode: int, kind: str = "file") -> FileStat:
    return FileStat(kind=kind, size_bytes=1, mode=mode, uid=0, gid=0, device=1, inode=1)


@dataclass(kw_only=True)
class FakeStage:
    """Plays nothing; says what it was made to say, and keeps what it was given."""

    answer: SourceError | bytes | None = None
    shadows: SourceError | bytes | None = None
    acts: list[Act] = field(default_factory=list)
    shadowed: list[Act] = field(default_factory=list)

    def trial(self, act: Act) -> bytes:
        self.acts.append(act)
        return self._said(self.answer, act)

    def shadow(self, act: Act) -> bytes:
        self.shadowed.append(act)
        return self._said(self.shadows, act)

    def tidy(self) -> None:
        raise AssertionError("nobody asked for that")

    @staticmethod
    def _said(answer: SourceError | bytes | None, act: Act) -> bytes:
        if isinstance(answer, SourceError):
            raise answer
        return act.domain_xml if answer is None else answer


def source(**changed: object) -> FakeSource:
    told = {
        "answers": {("capabilities",): CAPABILITIES},
        "users": {"107": QEMU},
        "stats": {
            EMULATOR: owned(0o755),
            "/usr/bin": owned(0o755, "dir"),
            "/usr": owned(0o755, "dir"),
            "/": owned(0o755, "dir"),
        },
        **changed,
    }
    return FakeSource(**told)  # type: ignore[arg-type]


def guest(devices: str = "", emulator: str = EMULATOR) -> Domain:
    return read_domain(
        "<domain type='kvm'><name>db1</name>"
        "<uuid>11111111-2222-3333-4444-555555555555</uuid><memory>65536</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
        f"<devices><emulator>{emulator}</emulator>{devices}</devices></domain>"
    )


def tried(
    stage: FakeStage | None,
    domain: Domain | None = None,
    *,
    options: MigrationOptions | None = None,
    origin: GuestOrigin | None = ORIGIN,
    host: FakeSource | None = None,
) -> Hearing:
    store = FactStore(source=host or source(), catalogue=catalogue(), clock=lambda: 0.0)
    domain = domain or guest()
    facts = given(domain, Policy(), options or MigrationOptions(), origin)
    return trial(store.question(facts), domain, stage)


def test_a_guest_that_libvirt_prepares_is_no_news() -> None:
    heard = tried(FakeStage())
    assert (heard.depth, heard.said, heard.doubt, heard.impossible) == (Depth.TRIAL, (), "", "")


def test_a_stand_in_is_tried_and_never_the_guest() -> None:
    stage = FakeStage()
    tried(stage)
    (act,) = stage.acts
    assert act.name.startswith("virt-preflight-dry-run-")
    assert not re.search(rb"\bdb1\b", act.domain_xml + act.cookie)  # a UUID may have "db1" in it
    assert b"11111111-2222" not in act.domain_xml + act.cookie
    assert act.uuid.encode() in act.cookie


def test_no_two_stand_ins_are_called_alike() -> None:
    stage = FakeStage()
    tried(stage)
    tried(stage)
    assert stage.acts[0].name != stage.acts[1].name
    assert stage.acts[0].uuid != stage.acts[1].uuid


def test_a_refusal_is_told_of_the_guest() -> None:
    class Refusing(FakeStage):
        def trial(self, act: Act) -> bytes:
            raise LibvirtRefused(f"domain '{act.name}' with {act.uuid} is odd", 1, 10)

    (said,) = tried(Refusing()).said
    assert said.problem.libvirt_error == (
        "domain 'db1' with 11111111-2222-3333-4444-555555555555 is odd"
    )
    assert said.problem.depth is Depth.TRIAL


def test_a_refusal_has_the_id_of_the_check_that_looks_for_it() -> None:
    refused = LibvirtRefused("Cannot get interface MTU on 'br9': No such device", 38, 10)
    (said,) = tried(FakeStage(answer=refused)).said
    assert said.check == "nics.bridge-absent"


def test_a_refusal_of_the_stand_in_itself_says_nothing_of_the_guest() -> None:
    refused = LibvirtRefused(
        "unsupported configuration: Unconfined guests are not allowed on this host", 67, 10
    )
    heard = tried(FakeStage(answer=refused))
    assert heard.said == ()
    assert "Unconfined" in heard.doubt


def test_no_answer_is_a_doubt() -> None:
    heard = tried(FakeStage(answer=Unreadable("no answer from libvirtd within 12 s")))
    assert heard.doubt == "no answer from libvirtd within 12 s"


def test_a_driver_without_migration_is_no_place_for_it() -> None:
    assert tried(FakeStage(answer=Impossible("not supported"))).impossible == "not supported"


def test_a_recording_has_no_stage() -> None:
    assert tried(None).impossible == "a recording prepares nothing"


def test_an_offline_move_starts_nothing() -> None:
    stage = FakeStage()
    heard = tried(stage, options=MigrationOptions(offline=True))
    assert heard.impossible == "an offline migration starts nothing"
    assert stage.acts == []


def test_where_the_phases_are_not_to_be_had_a_shadow_is_created() -> None:
    stage = FakeStage(answer=NoPhases("no symbol"))
    assert tried(stage).impossible == ""
    assert len(stage.shadowed) == 1


def test_a_shadow_has_no_disks() -> None:
    disk = "<disk type='file'><source file='/a'/><target dev='vda'/></disk>"
    stage = FakeStage(answer=NoPhases("no symbol"))
    heard = tried(stage, guest(disk))
    assert b"<disk" not in stage.shadowed[0].domain_xml
    assert [said.problem.subject for said in heard.said] == ["disk vda"]


def test_a_refused_shadow_is_a_refusal() -> None:
    refused = LibvirtRefused("Cannot get interface MTU on 'br9': No such device", 38, 10)
    stage = FakeStage(answer=NoPhases("no symbol"), shadows=refused)
    assert [said.check for said in tried(stage).said] == ["nics.bridge-absent"]


@pytest.mark.parametrize(
    ("emulator", "stats"),
    [
        ("/tmp/qemu", {"/tmp/qemu": owned(0o777)}),
        ("/bin/sh", {"/bin/sh": owned(0o755)}),
    ],
)
def test_not_every_program_is_run(emulator: str, stats: dict[str, FileStat]) -> None:
    stage = FakeStage()
    heard = tried(stage, guest(emulator=emulator), host=source(stats=stats))
    assert "is not run" in heard.doubt
    assert stage.acts == []


def test_without_knowing_whom_qemu_runs_as_nothing_is_tried() -> None:
    stage = FakeStage()
    assert tried(stage, host=source(answers={})).doubt
    assert stage.acts == []


def test_a_hostile_cookie_is_a_doubt_and_never_handed_on() -> None:
    stage = FakeStage()
    evil = GuestOrigin(host_name="h1", host_uuid="", begin_cookie=b"<qemu-migration/>")
    assert "the migration cookie of the source" in tried(stage, origin=evil).doubt
    assert stage.acts == []


@pytest.mark.parametrize("origin", [None, GuestOrigin(host_name="h1", host_uuid="")])
def test_without_a_cookie_one_is_made(origin: GuestOrigin | None) -> None:
    stage = FakeStage()
    tried(stage, origin=origin)
    assert b"<capabilities" in stage.acts[0].cookie


def test_options_that_would_leave_something_are_not_tried() -> None:
    stage = FakeStage()
    tried(
        stage,
        options=MigrationOptions(
            persistent=True,
            tunnelled=True,
            copy_storage_all=True,
            copy_storage_inc=True,
            auto_converge=True,
            tls=True,
        ),
    )
    live, p2p, tls = 1, 2, 1 << 16
    assert stage.acts[0].flags == live | p2p | tls


@pytest.mark.parametrize(
    ("uri", "parameters"),
    [
        ("", {}),
        ("tcp://h2:1234", {"migrate_uri": "tcp://h2:1234"}),
        ("unix:///run/x.sock", {}),
        ("rdma://h2", {}),
    ],
)
def test_the_port_of_the_stream_is_tried_and_no_socket_is_left(
    uri: str, parameters: dict[str, str]
) -> None:
    stage = FakeStage()
    tried(stage, options=MigrationOptions(migrateuri=uri))
    assert stage.acts[0].parameters == parameters


def test_disks_that_qemu_could_not_open_yet_are_left_out_where_libvirt_gives_them() -> None:
    disk = "<disk type='file'><source file='/a'/><target dev='vda'/></disk>"
    shut = {("/a", want, "qemu"): False for want in (Want.EXISTS, Want.READ, Want.WRITE)}
    given_files, kept_files = FakeStage(), FakeStage()
    heard = tried(given_files, guest(disk), host=source(mays=shut))
    assert b"<disk" not in given_files.acts[0].domain_xml
    assert [said.check for said in heard.said] == ["libvirt.left-out"]
    conf = {"/etc/libvirt/qemu.conf": "dynamic_ownership = 0\n"}
    tried(kept_files, guest(disk), host=source(mays=shut, texts=conf))
    assert b"<disk" in kept_files.acts[0].domain_xml


def test_what_libvirt_drops_is_a_risk_that_names_it() -> None:
    class Forgetful(FakeStage):
        def trial(self, act: Act) -> bytes:
            root = etree.fromstring(act.domain_xml)
            del root.find("devices/controller").attrib["index"]  # type: ignore[union-attr]
            return etree.tostring(root)

    (said,) = tried(Forgetful(), guest("<controller type='usb' index='0'/>")).said
    assert (said.check, said.problem.subject) == (
        "libvirt.element-unknown",
        "devices/controller/@index",
    )


def test_an_xml_that_no_libvirt_wrote_is_not_compared() -> None:
    stage = FakeStage(answer=b"<domain/>")
    assert tried(stage, origin=None).said == ()
    assert tried(stage, options=MigrationOptions(xml=b"<domain/>")).said == ()


# ------------------------------------------------------------------------------- what it decides


def test_what_libvirt_went_through_is_decided() -> None:
    decides = tried(FakeStage()).decides
    assert {"machine.type-unsupported", "nics.bridge-absent", "disks.missing"} <= decides


def test_every_decided_check_is_a_blocker_of_the_destination() -> None:
    check_by_id = {check.id: check for check in catalogue().checks}
    every = decided((), b"<cpu/>")
    assert every <= check_by_id.keys()
    wrong = [name for name in every if check_by_id[name].severity is not Severity.BLOCKER]
    assert wrong == []
    assert [name for name in every if check_by_id[name].side is Side.SOURCE] == []


@pytest.mark.parametrize(
    "open_",
    [
        "memory.cannot-be-mapped",
        "pages.too-few-free",
        "tenants.name-taken",
        "tenants.uuid-taken",
        "hostdevs.pci-absent",
        "disks.unwritable",
        "chardevs.path-taken",
        "chardevs.no-directory",
        "firmware.no-template",
    ],
)
def test_what_a_stand_in_has_not_is_not_decided(open_: str) -> None:
    assert open_ not in decided((), b"<cpu/>")


def test_what_was_left_out_is_not_decided() -> None:
    disk = "<disk type='nvme'><source type='pci'/><target dev='vda'/></disk>"
    decides = tried(FakeStage(), guest(disk)).decides
    assert not {"disks.missing", "devices.not-offered"} & decides
    assert "nics.bridge-absent" in decides
    assert "devices.not-offered" in tried(FakeStage()).decides


def test_a_cpu_is_decided_only_where_its_source_named_it() -> None:
    assert "cpu.features-absent" not in tried(FakeStage()).decides
    assert "cpu.features-absent" in decided((), b"<cpu/>")


def test_a_refusal_decides_nothing_else() -> None:
    refused = LibvirtRefused("Cannot get interface MTU on 'br9': No such device", 38, 10)
    assert tried(FakeStage(answer=refused)).decides == frozenset()


# ----------------------------------------------------------------------------- what was dropped


def test_with_an_element_goes_all_that_is_in_it() -> None:
    sent = b"<domain><devices><rng model='virtio'><rate bytes='1'/></rng></devices></domain>"
    assert lost(sent, b"<domain><devices/></domain>") == ("devices/rng",)


def test_the_second_of_two_is_missed() -> None:
    sent = b"<domain><devices><rng/><rng/></devices></domain>"
    assert lost(sent, b"<domain><devices><rng/></devices></domain>") == ("devices/rng",)


def test_what_libvirt_adds_and_writes_otherwise_is_not_lost() -> None:
    sent = b"<domain><vcpu>2</vcpu><cpu><feature/></cpu><seclabel/></domain>"
    seen = b"<domain id='1'><vcpu placement='static'>2</vcpu><memory/></domain>"
    assert lost(sent, seen) == ()


def test_what_cannot_be_read_back_was_not_lost() -> None:
    assert lost(b"<domain><a/></domain>", b"") == ()


# ------------------------------------------------------------------------------------- checks


def hearings(check: str) -> Hearings:
    said = trials._said(check, "hostdev pci", wanted="a", found="b")
    return Hearings(heard=(Hearing(ask="x", depth=Depth.TRIAL, said=(said,)),))


def test_what_was_left_out_is_noted() -> None:
    assert [one.subject for one in left_out(hearings("libvirt.left-out"))] == ["hostdev pci"]


def test_nothing_left_out_is_not_noted() -> None:
    assert not list(left_out(hearings("libvirt.element-unknown")))
