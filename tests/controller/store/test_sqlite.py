"""The file behind the store: it lasts, it is not shared, and what is not ours is left alone."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.controller.store.test_contract import H1, H2
from virt_preflight.controller.store import Remember, Seen, StoreError, StoreFullError
from virt_preflight.controller.store.migrations import MIGRATIONS
from virt_preflight.controller.store.sqlite import APPLICATION, SqliteStore


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as refused:
        SqliteStore.open(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def made(path: Path, *statements: str) -> bytes:
    """A database of somebody else."""
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path.read_bytes()


def test_what_was_kept_is_there_after_a_kill(tmp_path: Path) -> None:
    """Nobody closes the file: the process ends in the middle of the next change."""
    script = f"""
import os
from pathlib import Path
from tests.controller.store.test_contract import H1, H2
from virt_preflight.controller.store import Remember
from virt_preflight.controller.store.sqlite import SqliteStore
store = SqliteStore.open(Path({str(tmp_path)!r}) / "controller.db")
store.keep([Remember(host=H1)])
store._connection.execute("BEGIN IMMEDIATE")
store._connection.execute("DELETE FROM host")
os.kill(os.getpid(), 9)
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, cwd=Path.cwd())
    assert ended.returncode == -9
    store = SqliteStore.open(tmp_path / "controller.db")
    assert store.hosts() == (H1,)
    store.close()


def test_it_is_strict_and_has_a_write_ahead_log_that_is_written_through(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "controller.db")
    ask = store._connection.execute
    assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ask("PRAGMA synchronous").fetchone() == (2,), "FULL"
    assert ask("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert ask(
        "SELECT min(strict) FROM pragma_table_list WHERE schema = 'main'"
        " AND name NOT LIKE 'sqlite_%'"
    ).fetchone() == (1,)
    store.close()


def test_a_database_of_a_newer_version_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    before = made(
        path,
        f"PRAGMA application_id = {APPLICATION}",
        "PRAGMA user_version = 99",
        "CREATE TABLE host (future TEXT)",
    )
    assert refusal(path) == (
        f"{path}: is of a newer version of virt-preflight: it has format 99, and this one knows"
        f" {len(MIGRATIONS)}"
    )
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    before = made(path, "CREATE TABLE host (name TEXT)")
    assert refusal(path) == f"{path}: is a database of another program"
    assert path.read_bytes() == before


def test_what_is_no_database_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    path.write_bytes(b"[[host]]\nname = 'h1'\n" * 100)
    before = path.read_bytes()
    assert refusal(path) == f"{path}: is not a database"
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["controller.db"]


def test_a_database_that_is_damaged_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    store = SqliteStore.open(path)
    store.keep([Remember(host=H1)])
    store.close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3996)
    before = path.read_bytes()
    assert refusal(path).startswith(f"{path}: is damaged; put it aside")
    assert path.read_bytes() == before


def test_one_that_another_controller_has_is_told(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    first = SqliteStore.open(path)
    first.keep([Remember(host=H1)])
    assert refusal(path) == f"{path}: is in use by another controller"
    first.keep([Remember(host=H2)])
    first.close()
    second = SqliteStore.open(path)
    assert second.hosts() == (H1, H2)
    second.close()


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none" / "controller.db"
    assert refusal(path) == f"{path}: cannot be opened: no directory {path.parent}"


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: cannot be opened: is a directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("mode", "told"),
    [(0o644, "cannot be written"), (0o600, "cannot be opened: permission denied")],
)
def test_one_that_is_somebody_elses_is_told(mode: int, told: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        path = Path(place) / "controller.db"
        SqliteStore.open(path).close()
        path.chmod(mode)
        script = f"""
import os
from pathlib import Path
from virt_preflight.controller.store.sqlite import SqliteStore, StoreError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    SqliteStore.open(Path({str(path)!r}))
except StoreError as error:
    print(error)
"""
        ended = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        )
        assert ended.stdout == f"{path}: {told}\n"


def test_an_older_database_is_brought_to_this_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "controller.db"
    old = SqliteStore.open(path)
    old.keep([Remember(host=H1)])
    old.close()
    further = (*MIGRATIONS, ("ALTER TABLE host ADD COLUMN note TEXT", "UPDATE host SET note = 'x'"))
    monkeypatch.setattr("virt_preflight.controller.store.sqlite.MIGRATIONS", further)
    new = SqliteStore.open(path)
    assert new.hosts() == (H1,)
    assert new._connection.execute("PRAGMA user_version").fetchone() == (len(further),)
    new.close()


def test_a_step_that_fails_leaves_the_database_at_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "controller.db"
    old = SqliteStore.open(path)
    old.keep([Remember(host=H1)])
    old.close()
    with monkeypatch.context() as patch:
        patch.setattr(
            "virt_preflight.controller.store.sqlite.MIGRATIONS",
            (*MIGRATIONS, ("DELETE FROM host", "ALTER TABLE guest ADD COLUMN note TEXT")),
        )
        assert "no such table" in refusal(path)
    again = SqliteStore.open(path)
    assert again.hosts() == (H1,)
    again.close()


def test_a_full_disk_loses_nothing_and_says_so_and_is_over_when_there_is_room(
    tmp_path: Path,
) -> None:
    path = tmp_path / "controller.db"
    store = SqliteStore.open(path)
    store.keep([Remember(host=H1)])
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    large = replace(H2, labels=(("note", "x" * 20_000),))
    with pytest.raises(StoreFullError, match="the disk is full"):
        store.keep([Seen(name="h1", at=1), Remember(host=large)])
    assert store.hosts() == (H1,), "all or none"
    store.keep([Seen(name="h1", at=2)])
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.keep([Remember(host=large)])
    store.close()
    again = SqliteStore.open(path)
    assert [(host.name, host.seen_at) for host in again.hosts()] == [("h1", 2), ("h2", H2.seen_at)]
    again.close()
