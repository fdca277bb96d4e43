from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from virt_preflight.treaty.readiness import VARIABLE, ready


@contextmanager
def waiting(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(address)
        line.settimeout(30)
        yield line


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_where_it_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, abstract: bool
) -> None:
    at = f"{tmp_path}/notify"
    monkeypatch.setenv(VARIABLE, f"@{at}" if abstract else at)
    with waiting(f"\0{at}" if abstract else at) as line:
        ready()
        assert line.recv(64) == b"READY=1"


def test_whom_we_start_does_not_speak_for_us(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, f"{tmp_path}/notify")
    with waiting(f"{tmp_path}/notify"):
        ready()
    assert VARIABLE not in os.environ


def test_that_nobody_waits_ends_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    ready()
    assert caplog.messages == []
    monkeypatch.setenv(VARIABLE, f"{tmp_path}/gone")
    ready()
    assert caplog.messages == [
        f"{tmp_path}/gone: systemd could not be told: No such file or directory"
    ]
