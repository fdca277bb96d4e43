"""What a guest may have libvirt open for whoever asks: hostile ones first."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.asks.attendance import forbidden
from virt_preflight.agent.asks.bounds import beyond_telling, out_of_bounds
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.dryrun import Asked, dry_run, given
from virt_preflight.agent.factstore import FactStore, Question
from virt_preflight.agent.fence import Fence, Fenced
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.sources import Absent, FileStat, SourceError, Unreadable, User, Want
from virt_preflight.agent.sources.stage import Act

OPTIONS = MigrationOptions(live=True)
SAYS = "outside what this host lets be probed"
UUID = "6a1e1e0c-9f4e-4f5e-8d15-0f5ad4d39d11"
HEAD = "514649fb" + "00" * 12
FILE = FileStat(
    kind="file", size_bytes=1 << 20, mode=0o644, uid=0, gid=0, device=1, inode=2, rdev=""
)
DIRECTORY = FileStat(kind="dir", size_bytes=1, mode=0o755, uid=0, gid=0, device=1, inode=3, rdev="")
CAPABILITIES = (
    "<capabilities><host><secmodel><model>dac</model>"
    "<baselabel type='kvm'>+107:+107</baselabel></secmodel></host></capabilities>"
)
QEMU = User(name="qemu", uid=107, gid=107)
EMULATOR = "/usr/bin/qemu-system-x86_64"


def guest(devices: str = "", *, os: str = "", beside: str = "") -> Domain:
    return read_domain(
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        f"<name>g</name><uuid>{UUID}</uuid><memory>1024</memory><vcpu>1</vcpu>"
        f"<os><type arch='x86_64' machine='pc'>hvm</type>{os}</os>{beside}"
        f"<devices><emulator>{EMULATOR}</emulator>{devices}</devices></domain>"
    )


def disk(source: str, *, kind: str = "file", format_: str = "qcow2") -> str:
    return (
        f"<disk type='{kind}' device='disk'><driver name='qemu' type='{format_}'/>"
        f"<source {source}/><target dev='vda' bus='virtio'/></disk>"
    )


def asked(domain: Domain, behind: FakeSource | None = None, *, fenced: bool = True) -> Question:
    source = behind or FakeSource(stats={"/srv/vm/a.img": FILE}, heads={"/srv/vm/a.img": "00" * 16})
    store = FactStore(source=source, catalogue=catalogue(), clock=time.monotonic)
    if fenced:
        fence = Fence(source=source, storage=("/srv/vm",), clock=time.monotonic)
        store.looking = Fenced(source=source, fence=fence)
    return store.question(given(domain, Policy(), OPTIONS, None))


OUTSIDE = [
    guest(disk("file='/etc/shadow'")),
    guest(disk("file='/srv/vm/../../etc/shadow'")),
    guest(disk("file='etc/shadow'")),
    guest(disk("dev='/dev/sda'", kind="block")),
    guest("<filesystem type='mount'><source dir='/root'/><target dir='x'/></filesystem>"),
    guest("<serial type='pty'><log file='/etc/shadow'/></serial>"),
    guest("<serial type='file'><source path='/etc/shadow'/></serial>"),
    guest("<serial type='file'><source path='etc/shadow'/></serial>"),
    guest("<interface type='ethernet'><script path='/etc/shadow'/></interface>"),
    guest(os="<kernel>/etc/shadow</kernel>"),
    guest(os="<kernel>etc/shadow</kernel>"),
    guest(os="<nvram template='/etc/shadow'>/srv/vm/n</nvram>"),
    guest(beside="<sysinfo type='fwcfg'><entry name='opt/a' file='/etc/shadow'/></sysinfo>"),
    guest(beside="<sysinfo type='fwcfg'><entry name='opt/a' file='etc/shadow'/></sysinfo>"),
]


@pytest.mark.parametrize("domain", OUTSIDE)
def test_a_guest_that_names_a_path_outside_is_not_handed_to_libvirt(domain: Domain) -> None:
    assert SAYS in out_of_bounds(asked(domain), domain)
    assert SAYS in next(forbidden(asked(domain), domain, OPTIONS, None, frozenset()))
    assert out_of_bounds(asked(domain, fenced=False), domain) == ""


INSIDE = [
    guest(),
    guest(disk("file='/srv/vm/a.img'")),
    guest(disk("file='/srv/vm/a.img'", format_="raw")),
    guest(disk("protocol='rbd' name='pool/image'", kind="network", format_="raw")),
    guest("<serial type='pty'><source path='/dev/pts/3'/></serial>"),
    guest("<console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></console>"),
    guest("<interface type='direct'><source dev='eth0'/></interface>"),
    guest(beside="<resource><partition>/machine</partition></resource>"),
    guest(beside="<metadata><x xmlns='urn:x'>/etc/shadow</x></metadata><title>/etc</title>"),
]


@pytest.mark.parametrize("domain", INSIDE)
def test_one_that_names_none_is(domain: Domain) -> None:
    assert out_of_bounds(asked(domain), domain) == ""


def of_image(told: dict[str, object] | SourceError, format_: str = "qcow2") -> str:
    answer = told if isinstance(told, SourceError) else json.dumps({"virtual-size": 1, **told})
    behind = FakeSource(
        stats={"/srv/vm/a.img": FILE},
        heads={"/srv/vm/a.img": HEAD},
        images_alone={"/srv/vm/a.img": answer},
    )
    domain = guest(disk("file='/srv/vm/a.img'", format_=format_))
    return out_of_bounds(asked(domain, behind), domain)


@pytest.mark.parametrize("backing", ["/etc/shadow", "../../etc/shadow", "file:///etc/shadow"])
def test_nor_one_whose_image_leads_outside(backing: str) -> None:
    assert SAYS in of_image({"format": "qcow2", "full-backing-filename": backing})
    assert of_image({"format": "qcow2", "full-backing-filename": "/srv/vm/base.img"}) == ""
    data = {"data": {"data-file": backing}}
    assert SAYS in of_image({"format": "qcow2", "format-specific": data})


def test_where_it_leads_cannot_be_told_it_is_not_handed_over_either() -> None:
    opaque = "json:{}"
    assert of_image({"format": "qcow2", "full-backing-filename": opaque}) == (
        "whether a backing file is outside: json:{}"
    )
    assert of_image(Unreadable("qemu-img is not there")) == (
        "whether /srv/vm/a.img leads outside: qemu-img is not there"
    )
    assert of_image({"format": "vmdk"}, "vmdk") == (
        "whether /srv/vm/a.img leads outside: vmdk is not followed"
    )


def test_a_command_line_of_its_own_is_left_out_of_a_stand_in_and_rehearsed_nowhere() -> None:
    own = "<qemu:commandline><qemu:arg value='file=/etc/shadow'/></qemu:commandline>"
    domain = guest(beside=own)
    assert out_of_bounds(asked(domain), domain) == ""
    why = "what qemu:commandline would have QEMU open nobody can tell beforehand"
    assert beyond_telling(asked(domain), domain) == why
    assert next(forbidden(asked(domain), domain, OPTIONS, None, frozenset())) == why
    assert beyond_telling(asked(domain, fenced=False), domain) == ""


@dataclass(kw_only=True)
class Told:
    """A stage that says whether a file is there, as QEMU's error would."""

    there: bool
    acts: list[Act] = field(default_factory=list)

    def trial(self, act: Act) -> bytes:
        self.acts.append(act)
        if not self.there:
            raise Absent("/etc/shadow")
        return act.domain_xml

    def shadow(self, act: Act) -> bytes:
        raise AssertionError("not in its place")

    def tidy(self) -> None:
        raise AssertionError("nobody asked for that")


@pytest.mark.parametrize("fenced", [True, False])
def test_no_trial_is_played_and_the_answer_is_the_next_shallower_one_and_says_why(
    fenced: bool,
) -> None:
    told = []
    for there in (True, False):
        behind = FakeSource(
            stats={
                EMULATOR: FILE,
                **dict.fromkeys(("/usr/bin", "/usr", "/"), DIRECTORY),
                **({"/etc/shadow": FILE} if there else {}),
            },
            mays={("/etc/shadow", want, QEMU.name): True for want in Want} if there else {},
            users={"107": QEMU},
            answers={("capabilities",): CAPABILITIES},
        )
        domain = guest(disk("file='/etc/shadow'"))
        question = asked(domain, behind, fenced=fenced)
        stage = question.store.stage = Told(there=there)
        found = dry_run(
            question.store,
            domain,
            host="h",
            policy=Policy(),
            options=OPTIONS,
            asked=Asked(only=frozenset(("disks",)), depth=Depth.TRIAL),
        )
        told.append((found.depth, found.shallower_because, found.findings, found.unanswered))
        assert bool(stage.acts) is not fenced
    if fenced:
        assert told[0] == told[1]
        assert told[0][0] is Depth.LIBVIRT
        assert told[0][1].startswith(
            "a trial of libvirt's Prepare phase: /etc/shadow: outside what this host lets be probed"
        )
    else:
        assert told[0] != told[1]
