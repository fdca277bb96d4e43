"""The agent's command line: what is wrong with it, and with the file that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replayed import RECORDINGS
from virt_preflight.agent.cli import main


@pytest.fixture(autouse=True)
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that goes to what is captured here would go nowhere in the tests that follow."""
    monkeypatch.setattr("virt_preflight.agent.cli.log_to_stderr", lambda *_: None)


REPLAY = ("replay", str(RECORDINGS / "h1"))


@pytest.mark.parametrize("command", [("serve",), REPLAY])
@pytest.mark.parametrize("address", ["foo", "h1:0", "unix:", "::1:5"])
def test_an_address_on_the_command_line_that_is_none_is_a_usage_error(
    command: tuple[str, ...], address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--listen", "127.0.0.1:1", "--listen", address]) == 2
    wanted = f"virt-preflight-agent: --listen {address}: wanted HOST:PORT or unix:/path\n"
    assert capsys.readouterr().err == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "insecure = false\nlisten = ['foo']\n",
            "line 2: listen: 'foo': wanted HOST:PORT or unix:",
        ),
        (
            "[announce]\ncontrollers = ['c1']\naddress = 'h1'\n",
            "line 3: announce.address: 'h1': wanted HOST:PORT or unix:/path",
        ),
        (
            "[announce]\ncontrollers = ['c1']\n",
            "announce.address: this agent listens at 127.0.0.1:50551, where no controller",
        ),
        (
            "[announce]\ncontrollers = ['127.0.0.1']\nlabels = { 'a=b' = 'c' }\n",
            "announce.labels.a=b: a=b=c is not a label",
        ),
    ],
)
def test_what_the_file_says_wrongly_is_told_with_file_line_and_key(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(text)
    assert main([*REPLAY, "--config", str(config)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"virt-preflight-agent: {config}: ")
    assert said in told
    assert told.count("\n") == 1
