"""Which paths a guest may lead the agent to: hostile ones first."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.agent.fake import FakeSource
from tests.replayed import HOSTS, RECORDINGS
from virt_preflight.agent.asks.native import write_out
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.dryrun import Asked, dry_run
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.families.cpu.host import CPU_MAP
from virt_preflight.agent.families.firmware.host import DATA_FOLDERS, DESCRIPTORS, PIDS
from virt_preflight.agent.families.libvirt import SCHEMAS
from virt_preflight.agent.fence import Fence, Fenced, Outside
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Report, Verdict
from virt_preflight.agent.sources import Absent, FileStat, Source, Unreadable, User, Want
from virt_preflight.agent.sources.recording import load

FILE = FileStat(
    kind="file", size_bytes=1 << 20, mode=0o644, uid=0, gid=0, device=1, inode=2, rdev=""
)
QEMU = User(name="qemu", uid=107, gid=107)
SAYS = "outside what this host lets be probed; to have it looked at, add its directory to storage"


def fence(
    storage: tuple[str, ...] | None = ("/srv/vm",),
    *,
    links: Mapping[str, str] | None = None,
    source: Source | None = None,
) -> Fence:
    behind = source or FakeSource(links=links or {})
    return Fence(source=behind, storage=storage, clock=time.monotonic)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/srv",
        "/srv/vm2/a.img",
        "/srv/vm/../../etc/shadow",
        "/srv/vm/./.././../etc/shadow",
        "//etc//shadow",
        "/srv//vm/..//../etc/shadow",
        "/sys/../etc/shadow",
        "/proc/1/root/etc/shadow",
        "/proc/self/fd/3",
        "/usr/bin/qemu-img/../sudo",
        "/usr/bin/sudo",
        "srv/vm/a.img",
        "../srv/vm/a.img",
        "",
        "/srv/vm/a\0/../../../etc/shadow",
        "/dev/sda",
        "/etc/libvirt/qemu/db1.xml",
    ],
)
def test_what_is_outside_is_not_even_touched(path: str) -> None:
    class Untouchable(FakeSource):
        def link(self, path: str) -> str:
            assert path.startswith(("/srv/vm", "/usr/bin/qemu")) or path in ("/srv", "/usr")
            return super().link(path)

    assert not fence(source=Untouchable()).lets(path)


@pytest.mark.parametrize(
    "path",
    [
        "/srv/vm",
        "/srv/vm/a.img",
        "/srv//vm/./sub/../a.img",
        "//srv/vm/a.img",
        "/sys/class/net/eth0",
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/bin/qemu-system-x86_64",
        "/proc/4711/stat",
    ],
)
def test_what_is_inside_may_be_looked_at(path: str) -> None:
    assert fence().lets(path)


@pytest.mark.parametrize(
    ("links", "path", "let"),
    [
        ({"/srv/vm/a.img": "/etc/shadow"}, "/srv/vm/a.img", False),
        ({"/srv/vm/a.img": "../../etc/shadow"}, "/srv/vm/a.img", False),
        ({"/srv/vm/d": "/etc"}, "/srv/vm/d/shadow", False),
        ({"/srv/vm/a.img": "b.img", "/srv/vm/b.img": "/etc/shadow"}, "/srv/vm/a.img", False),
        # The kernel takes `..` after the link, the text before it.
        ({"/srv/vm/d": "/etc/ssl"}, "/srv/vm/d/../shadow", False),
        ({"/srv/vm/a": "/srv/vm/b", "/srv/vm/b": "/srv/vm/a"}, "/srv/vm/a", False),
        ({"/sys/d": "/etc"}, "/sys/d/shadow", False),
        ({"/srv/vm/a.img": "sub/b.img"}, "/srv/vm/a.img", True),
        ({"/srv/vm/a.img": "/srv/vm/sub/b.img"}, "/srv/vm/a.img", True),
        # What the operator names may itself be a link.
        ({"/srv": "/data"}, "/srv/vm/a.img", True),
        ({"/srv/vm": "/data/vm"}, "/srv/vm/a.img", True),
        ({"/srv/vm": "/data/vm", "/data/vm/a.img": "/data/other"}, "/srv/vm/a.img", False),
    ],
)
def test_links_must_not_lead_out(links: dict[str, str], path: str, let: bool) -> None:
    assert fence(links=links).lets(path) is let


def test_links_are_followed_as_the_kernel_follows_them(tmp_path: Path) -> None:
    class Real(FakeSource):
        def link(self, path: str) -> str:
            try:
                return os.readlink(path)
            except OSError as error:
                raise Absent(path) from error

    place = Path(os.path.realpath(tmp_path))
    inside, outside = place / "vm", place / "secret"
    for folder in (inside / "sub/deep", outside / "far"):
        folder.mkdir(parents=True)
    (inside / "out").symlink_to(outside / "far")
    (inside / "sub/up").symlink_to("..")
    (inside / "sub/round").symlink_to("deep/../up/sub")
    fenced = fence((str(inside),), source=Real())
    for name in (
        "out/x",
        "out/../x",
        "sub/up/a",
        "sub/round/x",
        "sub/up/../secret/x",
        "sub/up/out",
    ):
        path = f"{inside}/{name}"
        within = os.path.realpath(path).startswith(f"{inside}/")
        lexically = os.path.normpath(path).startswith(f"{inside}/")
        assert fenced.lets(path) is (within and lexically), path


@pytest.mark.parametrize("directory", [*DATA_FOLDERS, *DESCRIPTORS, PIDS, SCHEMAS, CPU_MAP])
def test_what_checks_ask_by_names_of_their_own_is_always_inside(directory: str) -> None:
    assert fence(()).lets(f"{directory}/x")


def test_without_an_operators_word_it_is_the_usual_and_what_guests_here_use() -> None:
    pools = [
        {"active": True, "xml": "<pool><target><path>/pool/a</path></target></pool>"},
        {"active": False, "xml": "<pool><target><path>/pool/b</path></target></pool>"},
        {"active": True, "xml": "<pool><target><path>/etc</path></target></pool>"},
    ]
    here = [{"name": "g", "uuid": "u", "id": 1, "state": "running", "persistent": True}]
    xml = "<domain type='kvm'><name>g</name><uuid>6a1e1e0c-9f4e-4f5e-8d15-0f5ad4d39d11</uuid>"
    xml += (
        "<devices><disk><source file='/srv/g/g.img'/><target dev='vda'/></disk></devices></domain>"
    )
    source = FakeSource(
        answers={
            ("pools",): json.dumps(pools),
            ("domains",): json.dumps(here),
            ("domain-xml", "u"): xml,
        }
    )
    own = fence(None, source=source)
    let = {
        path: own.lets(path)
        for path in (
            "/pool/a/x",
            "/pool/b/x",
            "/srv/g/other.img",
            "/srv/x",
            "/etc/shadow",
            "/dev/vg/lv",
            "/var/lib/libvirt/images/a",
        )
    }
    assert [path for path, answer in let.items() if answer] == [
        "/pool/a/x",
        "/srv/g/other.img",
        "/dev/vg/lv",
        "/var/lib/libvirt/images/a",
    ]


def test_each_verb_that_takes_a_path_is_fenced() -> None:
    behind = FakeSource(
        texts={"/etc/p": "x"},
        digests={"/etc/p": "x"},
        directories={"/etc/p": ("x",)},
        links={"/etc/p": "x"},
        stats={"/etc/p": FILE},
        mays={("/etc/p", Want.READ, "qemu"): True},
        file_systems={"/etc/p": "ext4"},
        images_alone={"/etc/p": "{}"},
    )
    fenced = Fenced(source=behind, fence=fence(source=behind))
    for ask in (
        fenced.text,
        fenced.head,
        fenced.digest,
        fenced.names,
        fenced.link,
        fenced.stat,
        lambda path: fenced.may(path, Want.READ, QEMU),
        fenced.file_system,
        fenced.image_alone,
        lambda path: fenced.libvirt("domain-capabilities", path, "x86_64", "q35", "kvm"),
        lambda path: fenced.libvirt("compare-cpu", path, "x86_64", "q35", "kvm", "<cpu/>"),
    ):
        with pytest.raises(Outside, match=SAYS):
            ask("/etc/p")
        # On the way to what is inside only what is no list of names may be told.
        with pytest.raises((Outside, Absent, Unreadable)):
            ask("/")
    with pytest.raises(Outside):
        fenced.names("/srv")
    with pytest.raises(Absent):
        fenced.stat("/srv")


def test_of_a_guest_with_a_path_outside_libvirt_is_not_asked_for_its_command_line() -> None:
    xml = (
        "<domain type='kvm'><name>g</name><os><loader>/root/secret.fd</loader></os>"
        "<devices><filesystem><source dir='/srv/vm/d'/><target dir='/etc'/></filesystem></devices>"
        "</domain>"
    )
    behind = FakeSource()
    fenced = Fenced(source=behind, fence=fence(source=behind))
    heard = write_out(fenced, read_domain(xml.encode()))
    assert heard.doubt.startswith(f"/root/secret.fd: {SAYS}")
    allowed = read_domain(xml.replace("/root", "/srv/vm").encode())
    assert write_out(fenced, allowed).doubt == "native"


@pytest.mark.parametrize(
    "backing", ["/etc/shadow", "../../etc/shadow", "file:/etc/shadow", "file:///etc/shadow"]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_header_does_not_lead_out_either_and_says_the_same_whether_or_not_it_is_there(
    backing: str, there: bool
) -> None:
    told = {"format": "qcow2", "virtual-size": 1, "full-backing-filename": backing}
    seen = {"/srv/vm/a.img": FILE} | ({"/etc/shadow": FILE} if there else {})
    behind = FakeSource(
        stats=seen,
        heads={"/srv/vm/a.img": "514649fb" + "00" * 12},
        images_alone={"/srv/vm/a.img": json.dumps(told)},
    )
    store = FactStore(source=behind, catalogue=catalogue(), clock=time.monotonic)
    store.looking = Fenced(source=behind, fence=fence(source=behind))
    xml = (
        "<domain type='kvm'><name>g</name><uuid>6a1e1e0c-9f4e-4f5e-8d15-0f5ad4d39d11</uuid>"
        "<memory>1024</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>"
        "<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source file='/srv/vm/a.img'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    report = dry_run(
        store,
        read_domain(xml.encode()),
        host="h",
        policy=Policy(),
        options=MigrationOptions(),
        asked=Asked(only=frozenset(("disks",)), depth=Depth.FACTS),
    )
    about = [one for one in (*report.findings, *report.unanswered) if "shadow" in str(one)]
    assert {one.check for one in report.unanswered if SAYS in one.why}
    assert all(SAYS in str(one) for one in about), about
    assert report.verdict is Verdict.UNSURE


def of_recorded(host: str, storage: tuple[str, ...] | None, *, fenced: bool) -> Report:
    source = load(RECORDINGS / host)
    store = FactStore(source=source, catalogue=catalogue(), clock=time.monotonic)
    if fenced:
        store.looking = Fenced(source=source, fence=fence(storage, source=source))
    return dry_run(
        store,
        read_domain((RECORDINGS / "guests/db1.xml").read_bytes()),
        host=host,
        policy=Policy(),
        options=MigrationOptions(live=True),
        asked=Asked(),
    )


@pytest.mark.parametrize("host", HOSTS)
def test_with_the_guests_storage_inside_the_answer_is_the_same(host: str) -> None:
    inside = of_recorded(host, ("/srv/shared",), fenced=True)
    open_ = of_recorded(host, None, fenced=False)
    assert (inside.findings, inside.unanswered) == (open_.findings, open_.unanswered)


def test_with_it_outside_only_that_could_not_be_told() -> None:
    outside, open_ = of_recorded("h2", None, fenced=True), of_recorded("h2", None, fenced=False)
    assert outside.verdict is Verdict.UNSURE
    more = [one for one in outside.unanswered if one not in open_.unanswered]
    assert more
    assert all(one.why.startswith("/srv/shared/db1.qcow2: outside") for one in more)
    assert outside.findings == open_.findings


def test_the_terminal_of_a_console_is_no_path_of_the_guest_and_its_log_is() -> None:
    """libvirt writes where the source's terminal is, and has QEMU make a new one."""
    console = "<console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/>{}</console>"
    xml = "<domain type='kvm'><name>g</name><os><type>hvm</type></os><devices>{}</devices></domain>"
    fenced = Fenced(source=FakeSource(), fence=fence())
    plain = write_out(fenced, read_domain(xml.format(console.format(""))))
    assert SAYS not in plain.doubt
    logged = write_out(fenced, read_domain(xml.format(console.format("<log file='/etc/p'/>"))))
    assert logged.doubt.startswith(f"/etc/p: {SAYS}")
