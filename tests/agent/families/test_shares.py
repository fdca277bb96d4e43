from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.shares import (
    GuestShares,
    SeenShares,
    Share,
    guest_shares,
    mounted,
    no_directory,
    no_server,
    seen_shares,
    virtiofs_stays,
)
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.sources import FileStat

NINE_P = GuestShares(shares=(Share(tag="x", virtiofs=False, directory="/srv/x"),))
VIRTIOFS = GuestShares(shares=(Share(tag="y", virtiofs=True, directory="/srv/y"),))
FOREIGN = GuestShares(shares=(Share(tag="z", virtiofs=True, directory="", socket="/run/fs.sock"),))


def problems(yielded: Problems) -> list[Problem]:
    found = list(yielded)
    assert all(isinstance(one, Problem) for one in found), found
    return [one for one in found if isinstance(one, Problem)]


def unclear(yielded: Problems) -> list[CouldNotTell]:
    return [one for one in yielded if isinstance(one, CouldNotTell)]


def libvirt(version: int) -> HostVersions:
    return HostVersions(libvirt=version, qemu=10_000_000)


def test_shares_of_each_kind_are_read() -> None:
    xml = """<domain><name>g</name><devices>
    <filesystem type='mount' accessmode='mapped'><source dir='/srv/x'/><target dir='x'/>
    </filesystem>
    <filesystem type='mount'><driver type='virtiofs'/><source dir='/srv/y'/><target dir='y'/>
    </filesystem>
    <filesystem type='mount'><driver type='virtiofs' queue='1024'/>
    <source socket='/run/fs.sock'/><target dir='z'/></filesystem></devices></domain>"""
    assert guest_shares(read_domain(xml)) == GuestShares(
        shares=(*NINE_P.shares, *VIRTIOFS.shares, *FOREIGN.shares)
    )
    assert guest_shares(read_domain("<domain><name>g</name></domain>")) is None


def test_paths_are_looked_at() -> None:
    folder = FileStat(kind="dir", size_bytes=0, mode=0o755, uid=0, gid=0, device=1, inode=2)
    source = FakeSource(stats={"/srv/x": folder})
    assert seen_shares(source, NINE_P) == SeenShares(kind_by_path={"/srv/x": "dir"})
    assert seen_shares(source, FOREIGN) == SeenShares(kind_by_path={"/run/fs.sock": ""})


def test_libvirt_9_0_never_lets_virtiofs_go() -> None:
    (problem,) = problems(virtiofs_stays(VIRTIOFS, libvirt(9_000_000)))
    assert problem.subject == "virtiofs y"


def test_a_newer_libvirt_asks_virtiofsd() -> None:
    assert unclear(virtiofs_stays(VIRTIOFS, libvirt(10_000_000)))
    assert unclear(virtiofs_stays(VIRTIOFS, libvirt(11_003_000)))
    assert not list(virtiofs_stays(NINE_P, libvirt(9_000_000)))


def test_whether_the_guest_has_mounted_it_only_qemu_knows() -> None:
    assert unclear(mounted(NINE_P))


def test_virtiofs_is_not_asked_whether_it_is_mounted() -> None:
    assert not list(mounted(VIRTIOFS))


def test_the_directory_must_be_there() -> None:
    (problem,) = problems(no_directory(NINE_P, SeenShares(kind_by_path={"/srv/x": ""})))
    assert problem.found == "not there"
    assert unclear(no_directory(NINE_P, SeenShares(kind_by_path={"/srv/x": Unknown("no")})))


def test_a_directory_that_is_there_is_fine() -> None:
    assert not list(no_directory(NINE_P, SeenShares(kind_by_path={"/srv/x": "dir"})))
    assert not list(no_directory(FOREIGN, SeenShares(kind_by_path={"/run/fs.sock": ""})))


def test_somebody_elses_virtiofsd_must_be_there() -> None:
    assert problems(no_server(FOREIGN, SeenShares(kind_by_path={"/run/fs.sock": ""})))
    assert unclear(no_server(FOREIGN, SeenShares(kind_by_path={"/run/fs.sock": Unknown("no")})))


def test_a_virtiofsd_that_is_there_is_fine() -> None:
    assert not list(no_server(FOREIGN, SeenShares(kind_by_path={"/run/fs.sock": "socket"})))
    assert not list(no_server(VIRTIOFS, SeenShares(kind_by_path={"/srv/y": "dir"})))
