"""What deploy/ hands out, looked at by the tools of those who take it: no host is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.machine import CHECKOUT, LabError, attempt, cache, digest, run
from tests.lab.roots import locked
from virt_preflight.agent.settings import read_settings
from virt_preflight.controller.cli import cli
from virt_preflight.controller.fleet import parse as read_fleet
from virt_preflight.controller.settings import parse as read_controller_settings

DEPLOY = CHECKOUT / "deploy"
BIN = Path(sys.executable).parent
ROLE = DEPLOY / "ansible"
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


# ----------------------------------------------------------------------------------------- Ansible


@pytest.fixture(scope="module")
def ansible() -> dict[str, str]:
    """The environment in which Ansible's programs are found; made once."""
    wanted = ROLE / "requirements.txt"
    place = cache().parent / f"ansible-{digest(wanted.read_text(), sys.version)}"
    with locked(place.parent / ".ansible.lock"):
        if not (place / "ready").exists():
            run([sys.executable, "-m", "venv", "--clear", place], within_s=120)
            pip = [str(place / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
            run([*pip, "install", "--quiet", "-r", str(wanted)], within_s=600)
            (place / "ready").touch()
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}


def played(ansible: dict[str, str], playbook: str, *words: str) -> str:
    # /usr/bin/python3 has the distribution's python3-apt, which the role's modules import.
    to_here = [
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        "ansible_python_interpreter=/usr/bin/python3",
    ]
    command = ["ansible-playbook", *to_here, "-e", "ansible_become=false", playbook, *words]
    return run(command, cwd=ROLE, env=ansible, within_s=120)


def test_both_roles_pass_the_lint_of_production(ansible: dict[str, str]) -> None:
    lint = ["ansible-lint", "--offline", "--profile=production", "--nocolor"]
    run(lint, cwd=ROLE, env=ansible, within_s=180)


@pytest.mark.parametrize("playbook", ["site.yml", "controller.yml"])
def test_ansible_takes_it_for_a_playbook(ansible: dict[str, str], playbook: str) -> None:
    assert f"playbook: {playbook}" in played(ansible, playbook, "--syntax-check")


@pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="the role is for Debian")
def test_in_check_mode_the_agents_role_says_what_it_would_write(
    ansible: dict[str, str], tmp_path: Path
) -> None:
    package = tmp_path / "virt-preflight-agent_0_amd64.deb"
    package.touch()
    told = played(
        ansible,
        "site.yml",
        *("--check", "--diff", "-e", f"virt_preflight_agent_deb={package}"),
        *("-e", '{"virt_preflight_agent_listen": ["unix:/run/virt-preflight/agent.sock"]}'),
        *("-e", "virt_preflight_agent_memory_reserved_mib=2048"),
    )
    written = would_write(told, "agent.toml.j2").splitlines()
    assert 'listen = ["unix:/run/virt-preflight/agent.sock"]' in written
    assert "memory_reserved_mib = 2048" in written
    assert "failed=0" in told
    settings = tmp_path / "agent.toml"
    settings.write_text("\n".join(written))
    assert read_settings(settings).policy.memory_reserved_mib == 2048


def would_write(told: str, template: str) -> str:
    """What --diff shows of a file that comes to be of that template."""
    _, _, shown = told.partition(f"{template}\n")
    shown, _, _ = shown.partition("\nTASK ")
    return "\n".join(line[1:] for line in shown.splitlines() if line.startswith("+"))


@pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="the role is for Debian")
def test_in_check_mode_the_controllers_role_says_what_it_would_write(
    ansible: dict[str, str], tmp_path: Path
) -> None:
    packages = [tmp_path / f"{name}_0_amd64.deb" for name in ("virt-preflight", "controller")]
    for package in packages:
        package.touch()
    fleet = [
        {"name": "h1"},
        {"name": "h2", "address": "10.0.0.2:50551", "labels": {"rack": "r1", "a/b": 2}},
    ]
    told = played(
        ansible,
        "controller.yml",
        *("--check", "--diff"),
        *("-e", json.dumps({"virt_preflight_controller_debs": [str(one) for one in packages]})),
        *("-e", json.dumps({"virt_preflight_controller_hosts": fleet})),
        *("-e", '{"virt_preflight_controller_listen": ["unix:/run/virt-preflight-controller/s"]}'),
        *("-e", "virt_preflight_controller_requests_per_caller=7"),
    )
    assert "failed=0" in told
    settings = read_controller_settings(would_write(told, "controller.toml.j2").encode())
    assert settings.listen == ("unix:/run/virt-preflight-controller/s",)
    assert settings.limits.requests_per_caller == 7
    hosts = read_fleet(would_write(told, "fleet.toml.j2").encode()).hosts
    assert [(host.name, host.address) for host in hosts] == [
        ("h1", "h1:50551"),
        ("h2", "10.0.0.2:50551"),
    ]
    assert dict(hosts[1].labels) == {"rack": "r1", "a/b": "2"}


@pytest.mark.parametrize(
    ("playbook", "given"),
    [
        ("site.yml", "virt_preflight_agent_memory_reserved_mib=much"),
        ("controller.yml", "virt_preflight_controller_requests=many"),
        ("controller.yml", '{"virt_preflight_controller_hosts": [{"address": "10.0.0.2"}]}'),
    ],
)
def test_a_variable_of_the_wrong_kind_is_refused(
    ansible: dict[str, str], playbook: str, given: str
) -> None:
    with pytest.raises(LabError, match=re.search(r"virt_preflight_\w+", given)[0]):  # type: ignore[index]
        played(ansible, playbook, "--check", "-e", given)
