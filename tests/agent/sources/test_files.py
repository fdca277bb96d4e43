"""The live machine's files, on this very machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from virt_preflight.agent.sources import Absent, Unreadable, User, Want
from virt_preflight.agent.sources.live import files

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that others may enter; pytest's own are for their maker alone."""
    made = Path("/tmp") / f"virt-preflight-test-{os.getpid()}"
    made.mkdir(mode=0o711)
    yield made
    shutil.rmtree(made)


def nobody() -> User:
    return files.look_up("nobody", "")


def may(path: Path, want: Want) -> bool:
    return files.may_as(str(path), want, nobody())


@AS_ROOT
def test_another_user_may_what_the_mode_lets_him(place: Path) -> None:
    path = place / "image"
    path.touch(mode=0o604)
    assert [may(path, want) for want in Want] == [True, True, False, False]


@AS_ROOT
def test_a_directory_that_he_may_not_enter_hides_all_below(place: Path) -> None:
    path = place / "image"
    path.touch(mode=0o666)
    place.chmod(0o700)
    assert not may(path, Want.EXISTS)
    assert not may(place / "not there", Want.EXISTS)


@AS_ROOT
def test_what_is_not_there_is_absent_for_him_too(place: Path) -> None:
    with pytest.raises(Absent, match="No such file"):
        may(place / "image", Want.READ)


@AS_ROOT
def test_groups_count_and_end_with_the_question(place: Path) -> None:
    path = place / "image"
    path.touch()
    os.chown(path, 0, 4242)
    path.chmod(0o640)
    member = User(name="member", uid=65534, gid=65534, groups=(65534, 4242))
    assert files.may_as(str(path), Want.READ, member)
    assert not may(path, Want.READ)
    assert os.access(path, os.W_OK)


def test_a_device_or_a_fifo_is_not_read(place: Path) -> None:
    os.mkfifo(place / "fifo")
    with pytest.raises(Unreadable, match="no regular file"):
        files.read_text(str(place / "fifo"))


def test_stat_follows_links_and_names_the_kind(place: Path) -> None:
    (place / "image").write_bytes(b"x" * 10)
    (place / "link").symlink_to("image")
    seen = files.stat_of(str(place / "link"))
    assert (seen.kind, seen.size_bytes) == ("file", 10)
    assert files.stat_of("/dev/null").kind == "char"


def test_another_header_is_another_image(place: Path) -> None:
    path = place / "image"
    path.write_bytes(b"a" * 100_000)
    before = files.image_key(str(path))
    path.write_bytes(b"a" * 70_000 + b"b" * 30_000)
    assert files.image_key(str(path)) == before, "what the guest writes changes nothing"
    path.write_bytes(b"b" * 100_000)
    assert files.image_key(str(path)) != before


def test_mount_points_are_told_from_the_kernels_table() -> None:
    assert files.mounted("/proc/self/status") == ("/proc", "proc")
    assert files.mounted("/nowhere at all")[0] == "/"


def test_a_path_is_held_by_whoever_its_links_lead_to(place: Path) -> None:
    (place / "status").symlink_to("/proc/self/status")
    (place / "there").symlink_to("status")
    (place / "up").symlink_to("../../proc")
    (place / "round").symlink_to("round")
    own = files.mounted(str(place))[0]
    for name, holder in (
        ("there", "/proc"),
        ("up/self/status", "/proc"),
        ("./up//../tmp", files.mounted("/tmp")[0]),
        ("round/gone", own),
        ("gone/status", own),
    ):
        assert files.holder(f"{place}/{name}") == holder
    assert files.holder("/") == "/"


def test_a_link_of_another_machine_is_not_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "link").symlink_to("/proc")
    monkeypatch.setattr(files, "OWN_KINDS", frozenset())
    assert files.holder(f"{place}/link") == files.mounted(str(place))[0]


def test_a_user_keeps_his_own_group_beside_the_one_that_is_named() -> None:
    games = files.look_up("games", "daemon")
    own = files.look_up("games", "")
    assert games.gid != own.gid
    assert {games.gid, own.gid} <= set(games.groups)


def test_a_file_stays_made_when_it_was_made(place: Path) -> None:
    path = place / "image"
    path.touch()
    made = files.stat_of(str(path)).born_ns
    path.write_bytes(b"x")
    os.utime(path, (1, 1))
    assert files.stat_of(str(path)).born_ns == made
    path.rename(place / "away")
    path.touch()
    assert files.stat_of(str(path)).inode != files.stat_of(str(place / "away")).inode


def test_a_files_content_has_a_digest_that_is_as_sha256sum_prints_it(place: Path) -> None:
    path = place / "kernel"
    path.write_bytes(b"abc")
    assert files.digest(str(path)) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    before = files.file_key(str(path))
    path.write_bytes(b"xyz")
    os.utime(path, ns=(1, 1))
    assert files.file_key(str(path)) != before


def test_only_files_that_are_not_large_are_read_through(place: Path) -> None:
    path = place / "disk"
    path.touch()
    os.truncate(path, files.DIGEST_AT_MOST + 1)
    with pytest.raises(Unreadable, match="64 MiB"):
        files.digest(str(path))


TABLE = """\
1 0 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
2 1 254:0 /usr /usr ro,relatime shared:1 - ext4 /dev/vda rw
3 1 0:40 / /srv/a\\040b rw shared:2 - nfs4 store:/a ro
4 1 0:41 / /srv/c ro shared:3 - ext4 /dev/vdb rw
5 4 0:42 / /srv/c rw shared:4 - ext4 /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/x", False),
        ("/usr/x", True),
        ("/usrx", False),
        ("/srv/a b/x", True),
        ("/srv/c", False),
    ],
)
def test_a_mount_is_read_only_as_the_host_has_it(path: str, *, expected: bool) -> None:
    assert files.read_only(path, TABLE) is expected


@AS_ROOT
def test_a_mount_that_is_read_only_for_us_alone_does_not_count(place: Path) -> None:
    """So a unit may be kept from writing anywhere, and still tells what QEMU may."""
    for name, mode in (("image", 0o666), ("others", 0o644)):
        (place / name).touch()
        (place / name).chmod(mode)
    asked = f"""
import sys
from virt_preflight.agent.sources import User, Want
from virt_preflight.agent.sources.live import files
nobody = User(name="nobody", uid=65534, gid=65534, groups=(65534,))
for name in ("image", "others"):
    print(files.may_as("{place}/" + name, Want.WRITE, nobody))
"""
    sandbox = f"mount --bind -r {place} {place} && exec \"$0\" -c '{asked}'"
    told = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", sandbox, sys.executable],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["True", "False"]


@AS_ROOT
def test_an_ordinary_user_with_the_capabilities_asks_as_root_does(place: Path) -> None:
    for name, mode, owner in (("qemus", 0o600, 4242), ("roots", 0o600, 0), ("all", 0o666, 0)):
        (place / name).touch()
        (place / name).chmod(mode)
        os.chown(place / name, owner, owner)
    asked = f"""
from virt_preflight.agent.sources import User, Want
from virt_preflight.agent.sources.live import files
for uid in (4242, 0):
    user = User(name="", uid=uid, gid=uid, groups=(uid,))
    for name in ("qemus", "roots", "all"):
        print(files.may_as("{place}/" + name, Want.WRITE, user))
print(files.head("{place}/roots") == "")
"""
    names = ("dac_override", "dac_read_search", "setuid", "setgid")
    given = ",".join(f"+{name}" for name in names)
    told = subprocess.run(
        [
            *("setpriv", "--reuid=4343", "--regid=4343", "--clear-groups"),
            *(f"--inh-caps=-all,{given}", f"--ambient-caps=-all,{given}"),
            *(sys.executable, "-c", asked),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = ["True", "False", "True", *["True"] * 3, "True"]
    assert told.stdout.split() == expected


@AS_ROOT
def test_an_ordinary_user_without_them_cannot_ask_as_another(place: Path) -> None:
    asked = """
from virt_preflight.agent.sources import Unreadable, User, Want
from virt_preflight.agent.sources.live import files
try:
    files.may_as("/", Want.READ, User(name="q", uid=4242, gid=4242))
except Unreadable as error:
    print(error)
"""
    words = ("setpriv", "--reuid=4343", "--regid=4343", "--clear-groups", "--inh-caps=-all")
    reader = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    told = subprocess.run(
        [*words[:-1], *reader, sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "only root can ask what user q may do\n"
