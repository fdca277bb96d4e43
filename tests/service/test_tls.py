"""Agent, controller and command by TLS on loopback, each a process of its own as an operator's."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from tests.replayed import RECORDINGS
from tests.service.controllers import program
from tests.treaty.pki import PAST, issue
from virt_preflight.controller import cli
from virt_preflight.controller.client import Controller, ServiceError
from virt_preflight.controller.fleet import Trust
from virt_preflight.treaty.tls import ClientTls

EXPIRED = PAST + timedelta(days=1)
AGENT = Path(sys.executable).parent / "virt-preflight-agent"


def free_address() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


@contextmanager
def replayed(config: Path) -> Iterator[None]:
    """An agent that answers as a recorded host did, once it says that it does."""
    command = [str(AGENT), "replay", str(RECORDINGS / "h1"), "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            line = started.stderr.readline()
            assert "answers at" in line, line
            yield
        finally:
            started.kill()


def keys(folder: Path, ca: trustme.CA, name: str, prefix: str = "") -> str:
    files = issue(folder / name, ca, name, "127.0.0.1")
    return (
        f'ca = "{files.ca}"\n{prefix}cert = "{files.cert}"\n{prefix}key = "{files.key}"\n'
        "loopback = true\n"
    )


def test_agent_controller_and_command_speak_by_tls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, at_agent, at_controller = trustme.CA(), free_address(), free_address()
    agent, controller, fleet = (tmp_path / f"{it}.toml" for it in ("agent", "controller", "fleet"))
    agent.write_text(f'listen = ["{at_agent}"]\n[tls]\n{keys(tmp_path, ca, "h1")}')
    controller.write_text(f'listen = ["{at_controller}"]\n[tls]\n{keys(tmp_path, ca, "ctl")}')
    fleet.write_text(
        f"[tls]\n{keys(tmp_path, ca, 'operator', 'client_')}"
        f'[[host]]\nname = "h1"\naddress = "{at_agent}"\n'
    )
    monkeypatch.setenv("VIRT_PREFLIGHT_FLEET", str(fleet))
    hosts = []
    with replayed(agent):
        assert cli.run(["hosts", "-o", "json"]) == 0
        hosts.append(json.loads(capsys.readouterr().out)["hosts"][0])
        with program("--config", str(controller), "--fleet", str(fleet), listen=at_controller):
            assert cli.run(["hosts", "-o", "json", "--server", at_controller]) == 0
            hosts.append(json.loads(capsys.readouterr().out)["hosts"][0])
            with pytest.raises(ServiceError, match="it may want TLS, and was spoken to without"):
                Controller(at_controller).hosts(within_s=5)
            of_nobody = issue(tmp_path / "nobody", trustme.CA(), "nobody")
            stranger = Trust(
                tls=ClientTls(
                    ca=str(of_nobody.ca),
                    client_cert=str(of_nobody.cert),
                    client_key=str(of_nobody.key),
                    loopback=True,
                )
            )
            with pytest.raises(ServiceError, match="its certificate is not by our authority"):
                Controller(at_controller, stranger).hosts(within_s=5)
            of_nobody.ca.write_bytes(of_nobody.ca.read_bytes() + ca.cert_pem.bytes())
            with pytest.raises(ServiceError, match="it may not take our certificate"):
                Controller(at_controller, stranger).hosts(within_s=5)
    # As the authority of tests has them.
    assert [it["certificateEnds"] for it in hosts] == ["3000-01-01T00:00:00Z"] * 2
    assert hosts[0]["libvirt"] == hosts[1]["libvirt"] is not None


def test_an_agent_whose_certificate_has_expired_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    files = issue(tmp_path / "h1", trustme.CA(), "h1", not_before=PAST, not_after=EXPIRED)
    config.write_text(
        f'listen = ["0.0.0.0:1"]\n[tls]\nca = "{files.ca}"\n'
        f'cert = "{files.cert}"\nkey = "{files.key}"\n'
    )
    ended = subprocess.run(
        [str(AGENT), "replay", str(RECORDINGS / "h1"), "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1
    why = f"{files.cert}: expired on {EXPIRED:%Y-%m-%d %H:%M} UTC"
    assert ended.stderr == f"virt-preflight-agent: {why}\n"
