"""A store in an SQLite file, for one controller at a time; what it keeps outlives a power cut."""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from virt_preflight.controller.store import (
    Change,
    Forget,
    KeptHost,
    Remember,
    Seen,
    StoreError,
    StoreFullError,
)
from virt_preflight.controller.store.migrations import MIGRATIONS

# "vpf1": whose file it is, in its own header (https://sqlite.org/pragma.html#pragma_application_id).
APPLICATION = 0x76706631
# One that is being stopped may still have it; longer than that it is another controller's.
WAIT_S = 2.0
# Of an extended result code, as SQLITE_READONLY_DBMOVED, the low byte is the code.
CODE = 0xFF

UPSERT = """
    INSERT INTO host (name, address, labels, agent_version, seen_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET address = excluded.address, labels = excluded.labels,
        agent_version = excluded.agent_version, seen_at = excluded.seen_at
"""


class SqliteStore:
    """An open file. Another controller that opens it is told that it is in use."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """The file, made if it is not there, brought to this version if it is older.

        A StoreError says why not. A file that is no store of ours is left as it is.
        """
        with _told(path):
            # By URI the path needs escaping, and without one `mode` cannot be said; a file that is
            # missing is made by SQLite itself.
            connection = sqlite3.connect(
                path, timeout=WAIT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _told(path):
                _prepare(path, connection)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection)

    def hosts(self) -> tuple[KeptHost, ...]:
        """All that are kept, in the order of their names."""
        with _told(self._path):
            rows = self._connection.execute(
                "SELECT name, address, labels, agent_version, seen_at FROM host ORDER BY name"
            ).fetchall()
        return tuple(
            KeptHost(
                name=name,
                address=address,
                labels=tuple(sorted(json.loads(labels).items())),
                agent_version=agent_version,
                seen_at=seen_at,
            )
            for name, address, labels, agent_version, seen_at in rows
        )

    def keep(self, changes: Sequence[Change]) -> None:
        """All changes, in this order, or with a StoreError none. On the disk when it returns."""
        with _told(self._path), _transaction(self._connection):
            for change in changes:
                _apply(self._connection, change)

    def close(self) -> None:
        """The file is let go."""
        self._connection.close()


def _apply(connection: sqlite3.Connection, change: Change) -> None:
    match change:
        case Remember(host=host):
            labels = json.dumps(dict(host.labels), ensure_ascii=False)
            row = (host.name, host.address, labels, host.agent_version, host.seen_at)
            connection.execute(UPSERT, row)
        case Seen(name=name, at=at):
            connection.execute("UPDATE host SET seen_at = ? WHERE name = ?", (at, name))
        case Forget(name=name):
            connection.execute("DELETE FROM host WHERE name = ?", (name,))


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    """Whose it is is asked before anything is written."""
    # Held for as long as the file is open: two controllers would each forget what the other keeps.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION and (tables or version or application):
        raise StoreError(f"{path}: is a database of another program")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path}: is of a newer version of virt-preflight: it has format {version}, and this"
            f" one knows {len(MIGRATIONS)}"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    # In WAL mode NORMAL, the other choice, may lose the last of what was kept to a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    # Even where there is nothing to migrate: that it cannot be written is to be known at the start.
    with _transaction(connection):
        if application != APPLICATION:
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After some errors SQLite has done it by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What SQLite says, in our words and with the file's name."""
    try:
        yield
    except sqlite3.Error as error:
        match getattr(error, "sqlite_errorcode", 0) & CODE:
            case sqlite3.SQLITE_FULL:
                raise StoreFullError(f"{path}: the disk is full") from error
            case sqlite3.SQLITE_NOTADB:
                why = "is not a database"
            case sqlite3.SQLITE_CORRUPT:
                why = "is damaged; put it aside, and agents that announce themselves fill a new one"
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                why = "is in use by another controller"
            case sqlite3.SQLITE_READONLY:
                why = "cannot be written"
            case sqlite3.SQLITE_IOERR if not os.access(path, os.W_OK):
                why = "cannot be written"
            case sqlite3.SQLITE_CANTOPEN:
                why = f"cannot be opened: {_why_not(path)}"
            case _:
                why = str(error)
        raise StoreError(f"{path}: {why}") from error


def _why_not(path: Path) -> str:
    """SQLite does not say; the kernel does when it is asked the same."""
    try:
        if not path.parent.is_dir():
            return f"no directory {path.parent}"
        with path.open("rb"):
            pass
    except FileNotFoundError:
        return f"it cannot be made in {path.parent}"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "its journal cannot be written beside it"
