import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.nics import (
    GuestNicScripts,
    SeenNicScripts,
    guest_nic_scripts,
    script_absent,
    seen_nic_scripts,
)
from virt_preflight.agent.sources import FileStat, SourceError, Unreadable

UP = "/etc/qemu-ifup"


def read(kind: str = "ethernet", path: str = UP) -> GuestNicScripts | None:
    nic = f"<interface type='{kind}'><script path='{path}'/></interface>"
    return guest_nic_scripts(
        read_domain(f"<domain><name>g</name><devices>{nic}</devices></domain>")
    )


def scripted(path: str = UP) -> GuestNicScripts:
    guest = read(path=path)
    assert guest is not None
    return guest


def seen(at: FileStat | SourceError | None, path: str = UP) -> SeenNicScripts:
    return seen_nic_scripts(FakeSource(stats={} if at is None else {path: at}), scripted(path))


def file(mode: int, kind: str = "file") -> FileStat:
    return FileStat(kind=kind, size_bytes=1, mode=mode, uid=0, gid=0, device=1, inode=1)


@pytest.mark.parametrize(
    ("at", "told"),
    [(None, "not there"), (file(0o644), "not executable"), (file(0o755, "dir"), "a dir")],
)
def test_a_script_that_cannot_be_run_is_told(at: FileStat | None, told: str) -> None:
    (problem,) = script_absent(scripted(), seen(at))
    assert isinstance(problem, Problem)
    assert (problem.subject, problem.found) == (f"script {UP}", told)


def test_a_script_that_is_there_is_fine() -> None:
    assert not list(script_absent(scripted(), seen(file(0o755))))
    assert not list(script_absent(scripted("ifup"), seen(None, "ifup"))), "looked up by libvirtd"


def test_other_nics_have_no_script() -> None:
    assert read(kind="bridge") is None


def test_a_script_that_nobody_could_look_at_is_left_open() -> None:
    (left,) = script_absent(scripted(), seen(Unreadable("no right")))
    assert isinstance(left, CouldNotTell)
