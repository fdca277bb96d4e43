"""What a program cannot start with is one line that says what and where, on both sides alike."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from tests.replayed import RECORDINGS
from tests.service.controllers import PROGRAM
from tests.treaty.pki import PAST, issue
from virt_preflight.controller.store.sqlite import SqliteStore
from virt_preflight.treaty.certificates import Files

AGENT = Path(sys.executable).parent / "virt-preflight-agent"
COMMANDS = {
    "agent": [str(AGENT), "replay", str(RECORDINGS / "h1")],
    "controller": [str(PROGRAM), "serve", "--hosts", "h1=unix:/nowhere"],
}
EXPIRED = PAST + timedelta(days=1)


@pytest.fixture(params=COMMANDS)
def side(request: pytest.FixtureRequest) -> str:
    """Each of the two programs that listen."""
    return str(request.param)


def refused(side: str, config: Path, *options: str) -> str:
    """The one line, without the program's name."""
    command = [*COMMANDS[side], "--config", str(config), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    name, _, said = ended.stderr.partition(": ")
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    assert (name, said.count("\n")) == (Path(command[0]).name, 1), ended.stderr
    return said.strip()


def expired(place: Path) -> Files:
    return issue(place / "pki", trustme.CA(), "h1", not_before=PAST, not_after=EXPIRED)


def good(place: Path) -> Files:
    return issue(place / "pki", trustme.CA(), "h1")


def cut(place: Path) -> Files:
    files = good(place)
    files.cert.write_bytes(files.cert.read_bytes()[:200])
    return files


def without_key(place: Path) -> Files:
    files = good(place)
    files.key.unlink()
    return files


def unreadable(place: Path) -> Files:
    """What nobody may read, not even root: a directory in its place."""
    files = good(place)
    files.key.unlink()
    files.key.mkdir()
    return files


def of_another(place: Path) -> Files:
    files = good(place)
    files.key.write_bytes(issue(place / "other", trustme.CA(), "h1").key.read_bytes())
    return files


@pytest.mark.parametrize(
    ("made", "file", "why"),
    [
        (expired, "cert", "expired on "),
        (cut, "cert", "holds no certificate in PEM form"),
        (without_key, "key", "no such file"),
        (unreadable, "key", "is a directory"),
        (of_another, "key", "is not the key of "),
    ],
)
def test_a_certificate_of_no_use_is_told_with_its_file(
    tmp_path: Path, side: str, made: Callable[[Path], Files], file: str, why: str
) -> None:
    files, config = made(tmp_path), tmp_path / "config.toml"
    config.write_text(
        f'listen = ["0.0.0.0:1"]\n[tls]\nca = "{files.ca}"\n'
        f'cert = "{files.cert}"\nkey = "{files.key}"\n'
    )
    said = refused(side, config)
    assert said.startswith(f"{getattr(files, file)}: {why}"), said


def test_an_unknown_field_is_told_with_file_and_line(tmp_path: Path, side: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text('listen = ["127.0.0.1:1"]\n\n[limits]\nhands = 2\n')
    said = refused(side, config)
    assert said.startswith(f"{config}: line 4: limits.hands: "), said


def test_a_port_in_use_is_told(tmp_path: Path, side: str) -> None:
    config = tmp_path / "config.toml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        config.write_text(f'listen = ["{at}"]\n')
        assert refused(side, config) == f"cannot listen at {at}: address already in use"


def test_beyond_loopback_nothing_is_answered_without_certificates(
    tmp_path: Path, side: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'listen = ["0.0.0.0:1"]\n[tls]\nca = "{tmp_path}/none.pem"\n')
    said = refused(side, config)
    assert said.startswith(f"0.0.0.0:1 is not loopback, and there is no {tmp_path}/none.pem: ")
    assert "--insecure" in said


def test_a_database_of_a_newer_version_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    store, config = tmp_path / "controller.db", tmp_path / "config.toml"
    config.write_text(f'listen = ["unix:{tmp_path}/c"]\nstore = "{store}"\n')
    SqliteStore.open(store).close()
    with sqlite3.connect(store) as made:
        made.execute("PRAGMA user_version = 99")
    made.close()
    before = store.read_bytes()
    assert refused("controller", config).startswith(f"{store}: is of a newer version")
    assert store.read_bytes() == before
