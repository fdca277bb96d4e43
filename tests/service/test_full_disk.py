"""A full disk under the store of a controller: nothing is lost, it answers on, and recovers."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import grpc
import pytest

from tests.service.controllers import PROGRAM, until
from tests.service.test_announcing import HEARTBEAT, Visitor, listed, presence, refusal, status_of
from virt_preflight.controller.store.sqlite import SqliteStore

SMALL = 'mount -t tmpfs -o size=512k tmpfs "$1" && shift && exec "$@"'


def can_mount() -> bool:
    """Whether there may be a file system of our own, in a namespace of our own."""
    tried = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return os.geteuid() == 0 and subprocess.run(tried, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs root, to mount a small file system")
def test_a_full_disk_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    disk, config, listen = tmp_path / "d", tmp_path / "controller.toml", f"unix:{tmp_path}/c"
    disk.mkdir()
    config.write_text(f'store = "{disk}/controller.db"\n[announced]\nhear_every_s = 1.0\n')
    command = ["unshare", "--mount", "sh", "-c", SMALL, "sh", str(disk)]
    command += [str(PROGRAM), "serve", "--config", str(config), "--listen", listen]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr is not None
        assert any("answers at" in line for line in service.stderr)
        # What it sees there, and nobody else.
        inside = Path(f"/proc/{service.pid}/root{disk}")
        first = Visitor(listen)
        first.comes("h1", rack="r1")
        ballast = inside / "ballast"
        fill(ballast)

        full = (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL", "")
        assert refusal(listen, presence("h2")) == full
        assert status_of(until_refused(first)) == full
        assert list(listed(listen)) == ["h1"], "it answers on, by what it has kept"

        ballast.unlink()
        second, again = Visitor(listen), Visitor(listen)
        second.comes("h2")
        again.comes("h1", rack="r2")
        until(lambda: list(listed(listen)) == ["h1", "h2"])
        service.send_signal(signal.SIGSTOP)
        for name in os.listdir(inside):
            shutil.copy(inside / name, tmp_path / name)
        service.kill()
        second.cut()
        again.cut()
    store = SqliteStore.open(tmp_path / "controller.db")
    assert [(host.name, host.labels) for host in store.hosts()] == [
        ("h1", (("rack", "r2"),)),
        ("h2", ()),
    ]
    store.close()


def until_refused(visitor: Visitor) -> grpc.RpcError:
    """There may be room for a heartbeat still, and there is none for many."""
    try:
        for _ in range(1000):
            visitor.says(HEARTBEAT)
    except grpc.RpcError as error:
        return error
    finally:
        visitor.cut()
    raise AssertionError("it was never refused")


def fill(path: Path) -> None:
    """All that is left, to the last byte."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
