"""The janitor, in this very process: what it puts back, and all that it refuses."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from virt_preflight.agent.asks.attendance import Notes
from virt_preflight.agent.sources import FileStat, Refused, Unreadable

pytest.importorskip("libvirt", reason="no libvirt binding on this machine")

import libvirt

from virt_preflight.agent.sources.live import janitor, lines
from virt_preflight.agent.sources.live.files import stat_of

UUID = "11111111-2222-4333-8444-555555555555"
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: nobody else gives files away")


@pytest.fixture
def place() -> Iterator[Path]:
    """Where guests' files are; short, for a socket's path is."""
    made = Path("/tmp") / f"virt-preflight-janitor-{os.getpid()}"
    for folder in (made, made / "notes", made / "files"):
        folder.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def broom(place: Path) -> janitor.BroomOfJanitor:
    address = str(place / "janitor.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen()
    answered = janitor.Janitor("test:///default", place / "notes").answer
    threading.Thread(target=lines.serve, args=(listener, answered), daemon=True).start()
    return janitor.BroomOfJanitor(address)


def noted(**given: Any) -> str:
    """An agent's own notes, as it sends them."""
    return msgspec.json.encode(Notes(name="db1", uuid=UUID, defined=False, **given)).decode()


def test_what_was_seen_to_be_absent_is_removed_when_it_is_there(
    place: Path, broom: janitor.BroomOfJanitor
) -> None:
    log = place / "files/serial.log"
    broom.write_down(UUID, noted(absent_files=(str(log),)))
    broom.remove_file(str(log))
    log.touch()
    broom.remove_file(str(log))
    assert not log.exists()
    broom.cross_out(UUID)
    log.touch()
    with pytest.raises(Refused, match="was not seen to be absent"):
        broom.remove_file(str(log))
    assert log.exists()


def test_what_is_there_is_not_believed_to_be_absent(
    place: Path, broom: janitor.BroomOfJanitor
) -> None:
    disk = place / "files/disk"
    disk.touch()
    (place / "files/dangling").symlink_to("nowhere")
    for path in (disk, place / "files/dangling"):
        with pytest.raises(Refused, match="is there"):
            broom.write_down(UUID, noted(absent_files=(str(path),)))
    assert broom.written_down() == {}
    for verb in (broom.remove_file, broom.remove_directory):
        with pytest.raises(Refused, match="was not seen to be absent"):
            verb(str(disk))
    assert disk.exists()


@pytest.mark.parametrize("path", ["relative", "/tmp/../etc/new", "/tmp//x", ""])
def test_a_path_that_is_not_plain_is_refused(path: str, broom: janitor.BroomOfJanitor) -> None:
    with pytest.raises(Refused, match="is no plain path"):
        broom.write_down(UUID, noted(absent_files=(path,)))


def test_what_somebody_has_written_to_is_left(place: Path, broom: janitor.BroomOfJanitor) -> None:
    disk = place / "files/disk"
    broom.write_down(UUID, noted(absent_files=(str(disk),)))
    disk.write_text("a guest's")
    with pytest.raises(Refused, match="somebody has written to it"):
        broom.remove_file(str(disk))
    assert disk.read_text() == "a guest's"


def test_a_screens_socket_that_qemu_left_is_removed(
    place: Path, broom: janitor.BroomOfJanitor
) -> None:
    left = place / "files/a.sock"
    broom.write_down(UUID, noted(absent_files=(str(left),)))
    os.mknod(left, stat.S_IFSOCK | 0o600)  # as a server leaves it that was killed
    broom.remove_file(str(left))
    assert not left.exists()


def test_variables_of_firmware_are_removed_as_libvirt_filled_them(
    place: Path, broom: janitor.BroomOfJanitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "NVRAM_DIRECTORY", f"{place}/files/")
    variables = place / "files/db1_VARS.fd"
    broom.write_down(UUID, noted(absent_files=(str(variables),)))
    variables.write_text("firmware")
    broom.remove_file(str(variables))
    assert not variables.exists()


def test_a_folder_that_has_become_a_link_is_not_followed(
    place: Path, broom: janitor.BroomOfJanitor
) -> None:
    broom.write_down(UUID, noted(absent_files=(f"{place}/files/victim",)))
    (place / "files").rename(place / "moved")
    (place / "elsewhere").mkdir()
    (place / "elsewhere/victim").touch()
    (place / "files").symlink_to("elsewhere")
    with pytest.raises(Refused, match="is another folder than before"):
        broom.remove_file(f"{place}/files/victim")
    assert (place / "elsewhere/victim").exists()


def test_of_folders_only_that_of_the_guests_own_tpm_is_removed(
    place: Path, broom: janitor.BroomOfJanitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "SWTPM_DIRECTORY", f"{place}/files")
    with pytest.raises(Refused, match="is not where libvirt keeps the TPM"):
        broom.write_down(UUID, noted(absent_directories=(f"{place}/files/others",)))
    state = place / "files" / UUID
    broom.write_down(UUID, noted(absent_directories=(str(state),)))
    (state / "tpm2").mkdir(parents=True)
    (state / "tpm2/state").write_text("a TPM's")
    broom.remove_directory(str(state))
    assert list((place / "files").iterdir()) == []


@ROOT_ONLY
def test_a_file_is_given_back_to_whom_it_belonged_and_nobody_else(
    place: Path, broom: janitor.BroomOfJanitor
) -> None:
    disk = place / "files/disk"
    disk.touch()
    os.chown(disk, 107, 108)
    broom.write_down(UUID, noted(owned={str(disk): stat_of(str(disk))}))
    os.chown(disk, 0, 0)
    with pytest.raises(Refused, match="did not belong to 0:108"):
        broom.give_back(str(disk), 0, 108)
    broom.give_back(str(disk), 107, 108)
    assert (disk.stat().st_uid, disk.stat().st_gid) == (107, 108)
    (place / "files/new").touch()
    (place / "files/new").rename(disk)
    with pytest.raises(Refused, match="is another file than before"):
        broom.give_back(str(disk), 107, 108)
    assert disk.stat().st_uid == os.geteuid()


def test_whose_a_file_is_must_be_true_when_it_is_noted(
    place: Path, broom: janitor.BroomOfJanitor
) -> None:
    disk = place / "files/disk"
    disk.touch()
    true = msgspec.to_builtins(stat_of(str(disk)))
    for lie in ({"uid": 4711}, {"gid": 4711}, {"inode": 1}, {"device": 1}):
        owned = {str(disk): msgspec.convert({**true, **lie}, FileStat)}
        with pytest.raises(Refused, match="is not as it was noted"):
            broom.write_down(UUID, noted(owned=owned))
    kept = {str(disk): {"trusted.libvirt.security.dac": b"+0:+0"}}
    owned = {str(disk): stat_of(str(disk))}
    with pytest.raises(Refused, match=r"written down at .* is not as it was noted"):
        broom.write_down(UUID, noted(owned=owned, remembered=kept))
    with pytest.raises(Refused, match="nothing was noted"):
        broom.remember(str(disk), kept[str(disk)])


@ROOT_ONLY
def test_what_libvirt_remembers_is_written_down_as_it_was_seen(
    place: Path, broom: janitor.BroomOfJanitor
) -> None:
    disk, name = place / "files/disk", "trusted.libvirt.security.dac"
    disk.touch()
    try:
        os.setxattr(disk, name, b"+107:+108")
    except OSError as error:
        pytest.skip(f"NOT LOOKED AT: {place} keeps no such notes: {error}")
    before = dict(broom.remembered(str(disk)))
    assert before == {name: b"+107:+108"}
    owned = {str(disk): stat_of(str(disk))}
    broom.write_down(UUID, noted(owned=owned, remembered={str(disk): before}))
    os.removexattr(disk, name)
    broom.remember(str(disk), {name: b"+0:+0"})
    assert os.getxattr(disk, name) == b"+107:+108"


def test_an_agents_notes_outlive_it_and_are_kept_once(broom: janitor.BroomOfJanitor) -> None:
    broom.write_down(UUID, noted())
    with pytest.raises(Refused, match="another rehearsal of the guest is under way"):
        broom.write_down(UUID, noted())
    assert broom.written_down() == {UUID: noted()}
    broom.cross_out(UUID)
    broom.cross_out(UUID)
    assert broom.written_down() == {}


@pytest.mark.parametrize(
    "order",
    [
        {"verb": "write_down", "uuid": "../../etc/passwd", "notes": ""},
        {"verb": "cross_out", "uuid": "/etc/passwd"},
        {"verb": "write_down", "uuid": UUID, "notes": "{}"},
        {"verb": "write_down", "uuid": UUID, "notes": "[" * 100_000},
        {"verb": "rm"},
        {"verb": "remove_file", "path": 5},
        {"verb": "remove_file", "path": "/tmp/a", "force": True},
        {"verb": "give_back", "path": "/etc/passwd", "uid": 0, "gid": 0},
        {"verb": "remove_file", "path": "/tmp/a\0b"},
        [],
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_makes_no_sense_is_answered_so_and_does_nothing(order: object, place: Path) -> None:
    asked = order if isinstance(order, bytes) else json.dumps(order).encode()
    told = json.loads(janitor.Janitor("test:///default", place / "notes").answer(asked))
    assert told["error"] in ("Refused", "Unreadable")
    assert list((place / "notes").iterdir()) == []


@dataclass
class Pools:
    """A libvirtd with one pool, `images`."""

    volumes: list[str]

    def storagePoolLookupByName(self, name: str) -> Pools:  # noqa: N802 - libvirt's own names
        assert name == "images"
        return self

    def listVolumes(self) -> list[str]:  # noqa: N802
        return self.volumes

    def storageVolLookupByPath(self, path: str) -> Volume:  # noqa: N802
        return Volume(pools=self, name_=Path(path).name)


@dataclass
class Volume:
    pools: Pools
    name_: str

    def storagePoolLookupByVolume(self) -> Volume:  # noqa: N802
        return Volume(pools=self.pools, name_="images")

    def name(self) -> str:
        return self.name_

    def delete(self, _: int) -> None:
        self.pools.volumes.remove(self.name_)


def test_a_volume_is_removed_that_was_seen_to_be_absent_and_no_other(
    place: Path, broom: janitor.BroomOfJanitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = Pools(["kept"])
    monkeypatch.setattr(janitor, "own_connection", lambda _: nullcontext(pools))
    with pytest.raises(Refused, match="the volume kept of pool images is there"):
        broom.write_down(UUID, noted(absent_volumes=(("images", "kept"),)))
    image = f"{place}/files/by-path"
    broom.write_down(UUID, noted(absent_volumes=(("images", "new"),), absent_images=(image,)))
    pools.volumes += ["new", "by-path", "another"]
    for path in ("/images/new", image):
        broom.remove_volume(path)
    for path in ("/images/kept", "/images/another"):
        with pytest.raises(Refused, match="was not seen to be absent"):
            broom.remove_volume(path)
    assert pools.volumes == ["kept", "another"]


def test_where_libvirt_does_not_let_it_in_no_image_may_come_to_be(
    place: Path, broom: janitor.BroomOfJanitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: str) -> NoReturn:
        raise libvirt.libvirtError("access denied by policy")

    monkeypatch.setattr(janitor, "own_connection", closed)
    with pytest.raises(Refused, match="access denied by policy"):
        broom.write_down(UUID, noted(absent_images=(f"{place}/files/new",)))
    assert broom.written_down() == {}
    # Without one, nobody asks libvirt.
    broom.write_down(UUID, noted(absent_files=(f"{place}/files/log",)))


class NoSuchVolume(libvirt.libvirtError):  # type: ignore[misc]  # it has no types
    def __init__(self) -> None:
        super().__init__("no storage vol with matching path")

    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_NO_STORAGE_VOL)


def test_a_volume_that_libvirt_shows_to_others_only_is_not_taken_for_removed(
    place: Path, broom: janitor.BroomOfJanitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hidden(Pools):
        def storageVolLookupByPath(self, path: str) -> NoReturn:  # noqa: N802
            raise NoSuchVolume

    monkeypatch.setattr(janitor, "own_connection", lambda _: nullcontext(Hidden([])))
    image = place / "files/new"
    broom.write_down(UUID, noted(absent_images=(str(image),)))
    broom.remove_volume(str(image))
    image.touch()
    with pytest.raises(Refused, match=r"there it is: org\.libvirt\.api\.storage-vol\.getattr"):
        broom.remove_volume(str(image))


def test_so_many_rehearsals_at_most_are_under_way(
    broom: janitor.BroomOfJanitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "NOTES_AT_MOST", 1)
    broom.write_down(UUID, noted())
    with pytest.raises(Refused, match="1 rehearsals are under way"):
        broom.write_down("21111111-2222-4333-8444-555555555555", noted())


def test_without_a_janitor_nothing_is_noted(place: Path) -> None:
    with pytest.raises(Unreadable, match=r"no word from the janitor at .*nobody\.sock"):
        janitor.BroomOfJanitor(str(place / "nobody.sock")).write_down(UUID, noted())


def test_an_agent_that_may_put_nothing_back_notes_nothing() -> None:
    broom = janitor.NoBroom()
    assert broom.written_down() == {}
    for verb in (broom.remembered, partial(broom.write_down, UUID)):
        with pytest.raises(Refused, match="has no janitor"):
            verb("/var/lib/libvirt/images/a")
