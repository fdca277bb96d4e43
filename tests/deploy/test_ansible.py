"""The Ansible roles by Ansible's own tools, and what they would write; no host is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import plays
from tests.deploy.plays import played
from tests.lab.machine import LabError, run
from virt_preflight.agent.settings import read_settings
from virt_preflight.controller.fleet import parse as read_fleet
from virt_preflight.controller.settings import parse as read_controller_settings

HERE = ("-i", "localhost,", "-c", "local")
FOR_DEBIAN = pytest.mark.skipif(
    not Path("/usr/bin/apt-get").exists(), reason="the roles are for Debian"
)


@pytest.fixture(scope="module")
def ansible() -> dict[str, str]:
    return plays.environment()


def test_both_roles_pass_the_lint_of_production(ansible: dict[str, str]) -> None:
    lint = ["ansible-lint", "--offline", "--profile=production", "--nocolor"]
    run(lint, cwd=plays.ROLES, env=ansible, within_s=180)


@pytest.mark.parametrize("playbook", ["site.yml", "controller.yml"])
def test_ansible_takes_it_for_a_playbook(ansible: dict[str, str], playbook: str) -> None:
    assert f"playbook: {playbook}" in played(ansible, playbook, *HERE, "--syntax-check")


def would_write(told: str, task: str) -> str:
    """What --diff shows of the file that a task would write."""
    _, _, shown = told.partition(f": {task}] ")
    _, _, shown = shown.partition("toml.j2\n")
    shown, _, _ = shown.partition("\nTASK ")
    return "\n".join(line[1:] for line in shown.splitlines() if line.startswith("+"))


def given(**variables: Any) -> tuple[str, str]:
    return "-e", json.dumps(variables)


@FOR_DEBIAN
def test_in_check_mode_the_agents_role_says_what_it_would_write(
    ansible: dict[str, str], tmp_path: Path
) -> None:
    for name in ("agent.deb", "ca", "cert", "key"):
        (tmp_path / name).write_text(f"of {name}")
    config = {
        "listen": ["0.0.0.0:50551"],
        "log_format": "json",
        "libvirt_uri": 'qemu:///session \\ "é" \U0001f600',
        "metrics": "127.0.0.1:9551",
        "roles": {"local": "viewer", "admin": ["DNS:ctl", 'O=us,CN="x"']},
        "limits": {"requests": 7},
        "policy": {"memory_reserved_mib": 2048, "memory_overcommit": 1.5, "storage": ["/srv/vm"]},
        "announce": {"controllers": ["ctl"], "labels": {"rack": "r1", "a/b": "2"}},
        "tls": {"loopback": True},
    }
    told = played(
        ansible,
        "site.yml",
        *(*HERE, "--check", "--diff"),
        *given(
            virt_preflight_agent_deb=str(tmp_path / "agent.deb"),
            virt_preflight_agent_config=config,
            virt_preflight_agent_tls={key: str(tmp_path / key) for key in ("ca", "cert", "key")},
        ),
    )
    assert "failed=0" in told
    assert "of key" not in told, "a key is shown to nobody"
    (tmp_path / "agent.toml").write_text(would_write(told, "Write agent.toml"))
    settings = read_settings(tmp_path / "agent.toml")
    assert settings.listen == ("0.0.0.0:50551",)
    assert settings.libvirt_uri == config["libvirt_uri"]
    assert settings.roles.admin == ("DNS:ctl", 'O=us,CN="x"')
    assert settings.limits.requests == 7
    assert settings.policy.storage == ("/srv/vm",)
    assert settings.policy.memory_overcommit == 1.5
    assert settings.announce.labels == {"rack": "r1", "a/b": "2"}
    assert settings.tls.loopback
    assert settings.tls.client_key == "/etc/virt-preflight/agent-tls/key.pem"


@FOR_DEBIAN
def test_in_check_mode_the_controllers_role_says_what_it_would_write(
    ansible: dict[str, str], tmp_path: Path
) -> None:
    packages = [tmp_path / f"{name}_0_amd64.deb" for name in ("virt-preflight", "controller")]
    for package in packages:
        package.touch()
    hosts = [
        {"name": "h1"},
        {"name": "h2", "address": "10.0.0.2:50551", "labels": {"rack": "r1", "a/b": "2"}},
    ]
    told = played(
        ansible,
        "controller.yml",
        *(*HERE, "--check", "--diff"),
        *given(
            virt_preflight_controller_debs=[str(one) for one in packages],
            virt_preflight_controller_config={
                "listen": ["unix:/run/virt-preflight-controller/s"],
                "store": "/var/lib/virt-preflight/controller.db",
                "limits": {"requests_per_caller": 7},
                "tls": {"cert": "/srv/mine.pem"},
            },
            virt_preflight_controller_fleet={"host": hosts, "defaults": {"timeout_s": 2.5}},
        ),
    )
    assert "failed=0" in told
    settings = read_controller_settings(would_write(told, "Write controller.toml").encode())
    assert settings.listen == ("unix:/run/virt-preflight-controller/s",)
    assert settings.limits.requests_per_caller == 7
    assert (settings.tls.cert, settings.tls.key) == ("/srv/mine.pem", None)
    fleet = read_fleet(would_write(told, "Write fleet.toml").encode())
    assert [(host.name, host.address) for host in fleet.hosts] == [
        ("h1", "h1:50551"),
        ("h2", "10.0.0.2:50551"),
    ]
    assert dict(fleet.hosts[1].labels) == {"rack": "r1", "a/b": "2"}


@pytest.mark.parametrize(
    ("playbook", "variable"),
    [
        ("site.yml", {"virt_preflight_agent_config": "much"}),
        ("site.yml", {"virt_preflight_agent_tls": {"ca": "x", "cert": "y"}}),
        ("controller.yml", {"virt_preflight_controller_fleet": "h1"}),
        ("controller.yml", {"virt_preflight_controller_tls": {"kye": "x"}}),
    ],
)
def test_a_variable_of_the_wrong_kind_is_refused(
    ansible: dict[str, str], playbook: str, variable: dict[str, Any]
) -> None:
    (name,) = variable
    with pytest.raises(LabError, match=name):
        played(ansible, playbook, *HERE, "--check", *given(**variable))
