"""Agent and controller as systemd starts them (Type=notify): ready is who answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.replayed import RECORDINGS

BIN = Path(sys.executable).parent
AGENT = (BIN / "virt-preflight-agent", "replay", RECORDINGS / "h1")
CONTROLLER = (BIN / "virt-preflight", "serve", "--hosts", "h1=unix:/nowhere")


@pytest.mark.parametrize("program", [AGENT, CONTROLLER], ids=["agent", "controller"])
def test_who_says_that_it_is_ready_answers(tmp_path: Path, program: tuple[Path | str, ...]) -> None:
    at = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        command = [*map(str, program), "--listen", f"unix:{at}"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as started:
            try:
                assert systemd.recv(64) == b"READY=1"
                with socket.socket(socket.AF_UNIX) as asking:
                    asking.connect(str(at))
                # It may be told at once to read its fleet again.
                if program is CONTROLLER:
                    started.send_signal(signal.SIGHUP)
                started.terminate()
                assert started.wait(30) == 0
            finally:
                started.kill()


@pytest.mark.parametrize("program", [AGENT, CONTROLLER], ids=["agent", "controller"])
def test_who_cannot_listen_is_not_ready(tmp_path: Path, program: tuple[Path | str, ...]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        command = [*map(str, program), "--listen", f"unix:{tmp_path}/nowhere/socket"]
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode
        with pytest.raises(BlockingIOError):
            systemd.recv(64)
