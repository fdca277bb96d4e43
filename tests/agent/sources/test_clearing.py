from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from virt_preflight.agent.sources.live import clearing
from virt_preflight.agent.sources.live.clearing import (
    clear,
    is_standin,
    note_owners_again,
    owners_noted,
)

NAME, UUID = "virt-preflight-dry-run-0a1b2c3d", "99999999-8888-7777-6666-555555555555"


@pytest.fixture(autouse=True)
def own_tpms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the machine's own."""
    monkeypatch.setattr(clearing, "LOGS", (f"{tmp_path}/log/{{name}}.log",))
    monkeypatch.setattr(clearing, "TPM_STATE", f"{tmp_path}/swtpm/{{uuid}}")
    return tmp_path / "swtpm" / UUID


def test_what_is_called_after_it_goes(tmp_path: Path) -> None:
    log, mine = tmp_path / "log" / f"{NAME}.log", tmp_path / f"{NAME}-0.sock"
    log.parent.mkdir()
    for path in (log, mine):
        path.touch()
    clear(NAME, UUID, [str(mine)])
    assert not log.exists()
    assert not mine.exists()


@pytest.mark.parametrize("other", ["db1.log", "virt-preflight-dry-run-ffffffff.log"])
def test_nothing_else_goes_whatever_is_asked(tmp_path: Path, other: str) -> None:
    (tmp_path / other).touch()
    clear(NAME, UUID, [str(tmp_path / other)])
    assert (tmp_path / other).exists()


def test_the_other_end_of_a_link_stays(tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / f"{NAME}-0.log"
    precious.touch()
    link.symlink_to(precious)
    clear(NAME, UUID, [str(link)])
    assert precious.exists()
    assert not link.is_symlink()


def test_its_tpm_goes(own_tpms: Path) -> None:
    (own_tpms / "tpm2").mkdir(parents=True)
    (own_tpms / "tpm2" / "tpm2-00.permall").touch()
    clear(NAME, UUID, [])
    assert not own_tpms.exists()


def test_the_other_end_of_a_link_among_tpms_stays(own_tpms: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "tpm2-00.permall").touch()
    own_tpms.mkdir(parents=True)
    (own_tpms / "tpm2").symlink_to(precious)
    clear(NAME, UUID, [])
    assert (precious / "tpm2-00.permall").exists()


@pytest.mark.parametrize(
    ("name", "uuid"), [("db1", UUID), (f"{NAME}/..", UUID), (NAME, ".."), (NAME, "")]
)
def test_only_a_stand_in_is_cleared_up_after(name: str, uuid: str) -> None:
    assert not is_standin(name, uuid)
    with pytest.raises(ValueError, match="no stand-in"):
        clear(name, uuid, [])


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk with a note of libvirt's, under a name that everybody may give."""
    monkeypatch.setattr(clearing, "NOTED", "user.libvirt.")
    made = tmp_path / "db1.qcow2"
    made.touch()
    os.setxattr(made, "user.libvirt.dac", b"+0:+0")
    os.setxattr(made, "user.mine", b"1")
    return made


def test_what_libvirt_noted_of_a_disk_is_noted_again(disk: Path) -> None:
    noted = owners_noted([str(disk), "/not/there"])
    os.removexattr(disk, "user.libvirt.dac")
    note_owners_again(noted)
    assert os.getxattr(disk, "user.libvirt.dac") == b"+0:+0"


def test_what_libvirt_noted_anew_stays(disk: Path) -> None:
    noted = owners_noted([str(disk)])
    os.setxattr(disk, "user.libvirt.dac", b"+1:+1")
    note_owners_again(noted)
    assert os.getxattr(disk, "user.libvirt.dac") == b"+1:+1"


def test_the_owner_of_a_log_is_its_owner_again(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[object, ...]] = []
    noted = owners_noted([str(disk)])
    before = {str(disk): {**noted[str(disk)], "owner": [64055, 105]}}
    monkeypatch.setattr(os, "chown", lambda *words: given.append(words))
    note_owners_again(noted)
    note_owners_again(before)
    assert given == [(str(disk), 64055, 105)]


def test_another_file_at_the_path_gets_no_notes(disk: Path) -> None:
    noted = owners_noted([str(disk)])
    disk.rename(disk.with_suffix(".old"))
    disk.touch()
    note_owners_again(noted)
    assert os.listxattr(disk) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: nobody else can be another user")
def test_who_may_not_remove_what_a_stand_in_leaves_is_told_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TemporaryDirectory(dir="/tmp") as made:
        os.chmod(made, 0o755)
        logs = Path(made) / "log"
        monkeypatch.setattr(clearing, "LOGS", (f"{made}/none/{{name}}.log", f"{logs}/{{name}}.log"))
        assert clearing.shut_out() == ""
        logs.mkdir(mode=0o755)
        assert clearing.shut_out() == ""
        os.seteuid(65534)
        try:
            assert clearing.shut_out() == str(logs)
        finally:
            os.seteuid(0)
