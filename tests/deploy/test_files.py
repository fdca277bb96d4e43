"""What deploy/ hands out, looked at by the tools of those who take it: no host is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.machine import CHECKOUT, attempt, run
from virt_preflight.agent.settings import read_settings
from virt_preflight.controller.cli import cli

DEPLOY = CHECKOUT / "deploy"
BIN = Path(sys.executable).parent
EXPOSURE_AT_MOST = 2.0


def program(name: str, package: str) -> str:
    """A program of Debian's, installed where we may; a skip that says so where not."""
    if not shutil.which(name):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            pytest.skip(f"NOT LOOKED AT: no {name} here (Debian: apt install {package})")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], within_s=300, env=quiet)
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
        run(install, within_s=300, env=quiet)
    return name


# ------------------------------------------------------------------------------------------- units


def exposure(unit: Path) -> float:
    told = run([program("systemd-analyze", "systemd"), "security", "--offline=yes", unit])
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
    assert found, told
    return float(found[1])


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*/*.service")), ids=lambda unit: unit.stem)
def test_a_service_is_exposed_little(unit: Path) -> None:
    assert exposure(unit) <= EXPOSURE_AT_MOST


def test_an_unhardened_service_would_be_told(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(bare) > EXPOSURE_AT_MOST


# ------------------------------------------------------------------------------ pages, completion


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("man")
    run([BIN / "python", DEPLOY / "man/generate.py", place])
    return place


def test_every_command_has_a_page_that_is_well_formed(pages: Path) -> None:
    found = {page.name for page in pages.iterdir()}
    assert found == {
        "virt-preflight.1",
        "virt-preflight-agent.8",
        *(f"virt-preflight-{name}.1" for name in cli.commands),
    }
    lint = program("mandoc", "mandoc")
    for page in sorted(pages.iterdir()):
        said = attempt([lint, "-Tlint", "-Wwarning", page])
        assert (said.code, said.out) == (0, ""), said.out


def test_a_page_says_what_the_command_takes(pages: Path) -> None:
    check = (pages / "virt-preflight-check.1").read_text()
    assert r"\-\-copy\-storage\-all" in check
    assert ".SH EXIT STATUS" in check
    agent = (pages / "virt-preflight-agent.8").read_text()
    assert r"\-\-deputy" in agent


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_generated_for(shell: str) -> None:
    asked = {"_VIRT_PREFLIGHT_COMPLETE": f"{shell}_source"}
    script = run([BIN / "virt-preflight"], env=asked)
    assert "_VIRT_PREFLIGHT_COMPLETE" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


# --------------------------------------------------------------------------------- configuration


def test_the_example_of_the_agents_settings_is_its_defaults() -> None:
    assert read_settings(DEPLOY / "agent.toml") == read_settings(Path("/dev/null"))


@pytest.mark.parametrize("script", [*sorted(DEPLOY.glob("deb/*/p*")), DEPLOY / "deb/build.sh"])
def test_a_script_is_one_to_the_shell(script: Path) -> None:
    run(["sh", "-n", script])
    # What dpkg runs ends at the first thing that does not work.
    assert re.search(r"^set -eu?$", script.read_text(), re.MULTILINE)
