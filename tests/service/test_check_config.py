"""`serve --check-config`: for what writes configuration files, ahead of a restart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.treaty.pki import issue

BIN = Path(sys.executable).parent
PROGRAMS = {"agent": BIN / "virt-preflight-agent", "controller": BIN / "virt-preflight"}


def checked(side: str, config: Path, *words: str) -> tuple[int, str]:
    command = [str(PROGRAMS[side]), "serve", "--check-config", "--config", str(config), *words]
    clean = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=clean
    )
    assert ran.stdout == ""
    return ran.returncode, ran.stderr


def written(place: Path, text: str) -> Path:
    config = place / "given.toml"
    config.write_text(text)
    return config


@pytest.mark.parametrize("side", PROGRAMS)
def test_a_good_one_is_nothing_to_speak_of_and_nothing_is_started(
    side: str, tmp_path: Path
) -> None:
    files = issue(tmp_path, trustme.CA(), "h1")
    tls = f'[tls]\nca = "{files.ca}"\ncert = "{files.cert}"\nkey = "{files.key}"\n'
    kept = f'store = "{tmp_path}/kept.db"\n' if side == "controller" else ""
    above = f'listen = ["192.0.2.1:50551"]\nmetrics = "192.0.2.1:9551"\n{kept}'
    assert checked(side, written(tmp_path, above + tls)) == (0, "")
    assert not (tmp_path / "kept.db").exists()


@pytest.mark.parametrize("side", PROGRAMS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lisen = []\n", "line 1"),
        ('listen = ["nowhere"]\n', "line 1: listen: 'nowhere': wanted HOST:PORT"),
        ('[roles]\nlocal = "king"\n', "line 2"),
        ('listen = ["192.0.2.1:1"]\n[tls]\nca = "/no/ca"\ncert = "/no/c"\nkey = "/no/k"\n', "/no/"),
        ('metrics = "9551"\n', "metrics at 9551: wanted HOST:PORT"),
        ('metrics = "192.0.2.1:9551"\n[tls]\nca = "/no/ca"\ncert = "/c"\nkey = "/k"\n', "/no/ca"),
    ],
)
def test_what_it_could_not_start_with_is_one_line(
    side: str, tmp_path: Path, text: str, said: str
) -> None:
    code, told = checked(side, written(tmp_path, text))
    assert code == 1
    assert said in told
    assert told.count("\n") == 1


def test_an_announcement_that_nobody_could_use_is_told(tmp_path: Path) -> None:
    config = written(tmp_path, '[announce]\ncontrollers = ["ctl"]\n')
    code, told = checked("agent", config)
    assert code == 1
    assert "where no controller elsewhere reaches it" in told


def test_a_fleet_file_is_checked_with_it(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('[[host]]\nname = "h1"\nadress = "h1:1"\n')
    words = ("--fleet", f"{tmp_path}/fleet.toml")
    code, told = checked("controller", Path("/dev/null"), *words)
    assert code == 1
    assert "fleet.toml: line 3" in told
    (tmp_path / "fleet.toml").write_text('[[host]]\nname = "h1"\n')
    assert checked("controller", Path("/dev/null"), *words) == (0, "")
