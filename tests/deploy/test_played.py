"""The Ansible roles, played for real on a booted release of each kind that has nothing of ours.

h1 is a bookworm; h2, a trixie, is the controller's machine as well.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import booted, network, packages, plays
from tests.deploy.booted import Machine
from tests.deploy.trusted import Trusted, trusted
from tests.lab import machine as below
from tests.lab.conftest import give_up
from tests.lab.machine import LabError

pytestmark = pytest.mark.lab

RELEASES = {"h1": "bookworm", "h2": "trixie"}
UNITS = {"h1": ("agent",), "h2": ("agent", "controller")}
JANITOR = "virt-preflight-janitor.socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Two machines, the variables of both roles, and the machine that runs Ansible."""

    machines: Mapping[str, Machine]
    trusted: Trusted
    ansible: dict[str, str]
    variables: dict[str, Any] = field(default_factory=dict)

    def play(self, *playbooks: str) -> str:
        """With the variables as they are by now."""
        given = self.trusted.place / "variables.json"
        given.write_text(json.dumps(self.variables))
        inventory = ("-i", str(self.trusted.place / "inventory.ini"), "-e", f"@{given}")
        told = ""
        for playbook in playbooks:
            only = ("--limit", "h2") if playbook == "controller.yml" else ()
            told += plays.played(self.ansible, playbook, *inventory, *only)
        return told

    def pids(self) -> dict[tuple[str, str], str]:
        """Of each unit's process."""
        show = ("systemctl", "show", "-p", "MainPID", "--value")
        return {
            (name, unit): self.machines[name].run(*show, f"virt-preflight-{unit}").strip()
            for name, units in UNITS.items()
            for unit in units
        }

    def hosts(self, where: str = "--server h2") -> dict[str, dict[str, Any]]:
        """`hosts` as alice, by the controller where nobody else is named."""
        command = f"virt-preflight hosts {where} -o json --timeout 30"
        ran = self.trusted.attempt(command, home=self.trusted.home("alice"))
        assert ran.code == 0, ran.err
        return {host["host"]: host for host in json.loads(ran.out)["hosts"]}


def certificate(place: Path, name: str) -> dict[str, str]:
    pki = place / "pki" / name / "etc/pki"
    private = pki / "libvirt/private"
    return {
        "ca": str(pki / "CA/cacert.pem"),
        "cert": str(pki / "libvirt/servercert.pem"),
        "key": str(private / "serverkey.pem"),
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both machines as they came, and certificates for them."""
    if reason := below.why_not() or booted.why_not():
        give_up(reason)
    place = tmp_path_factory.mktemp("site")
    try:
        with contextlib.ExitStack() as held:
            machines = {
                name: held.enter_context(booted.booted(release, [], name))
                for name, release in RELEASES.items()
            }
            joined = held.enter_context(network.joined(machines))
            up = Site(
                machines=machines,
                trusted=trusted(place, joined, machines),
                ansible=plays.environment(),
            )
            prepare(up, place)
            yield up
    except LabError as error:
        give_up(str(error))


def prepare(site: Site, place: Path) -> None:
    make = "deploy/tls/make.sh pki"
    hosts = f"{make} host h1\n{make} host h2\n{make} controller h2c h2\n"
    site.trusted.run(f"{make} ca\n{hosts}{make} person alice")
    lines = ["[all]"]
    for name, release in RELEASES.items():
        agent = next(one for one in packages.built(release) if "preflight-agent" in one.name)
        pid = site.machines[name].pid
        lines.append(f"{name} inside_pid={pid} virt_preflight_agent_deb={agent}")
    lines += ["[all:vars]", "ansible_connection=inside"]
    (place / "inventory.ini").write_text("\n".join(lines) + "\n")
    both = [one for one in packages.built("trixie") if "preflight-agent" not in one.name]
    site.variables.update(
        # The command's package first.
        virt_preflight_controller_debs=sorted(map(str, both), key=len),
        virt_preflight_agent_tls={
            key: path.replace("/h1/", "/{{ inventory_hostname }}/")
            for key, path in certificate(place, "h1").items()
        },
        virt_preflight_agent_config={
            "listen": ["0.0.0.0:50551"],
            "log_format": "json",
            "metrics": "127.0.0.1:9551",
            "roles": {"admin": ["O=virt-preflight,OU=controller,CN=h2c"]},
            "policy": {"storage": ["/var/lib/libvirt/images"]},
            "announce": {"controllers": ["h2"], "labels": {"on": "{{ inventory_hostname }}"}},
        },
        virt_preflight_agent_trials=True,
        virt_preflight_agent_rehearsals=True,
        virt_preflight_controller_tls=certificate(place, "h2c"),
        virt_preflight_controller_config={
            "listen": ["0.0.0.0:50552"],
            "store": "/var/lib/virt-preflight/controller.db",
            "metrics": "127.0.0.1:9552",
            "roles": {"scheduler": ["O=virt-preflight,OU=person,CN=alice"]},
        },
        virt_preflight_controller_fleet={
            "host": [{"name": name, "labels": {"rack": "r1"}} for name in RELEASES]
        },
    )


def test_two_plays_make_a_fleet_and_two_more_change_nothing(site: Site) -> None:
    first = site.play("site.yml", "controller.yml")
    assert not re.search(r"failed=[1-9]", first), first
    hosts = site.hosts()
    assert {name: host.get("silent") for name, host in hosts.items()} == {"h1": None, "h2": None}
    pids = site.pids()
    second = site.play("site.yml", "controller.yml")
    assert re.findall(r"^(h\d) +: .* changed=(\d+)", second, re.MULTILINE) == [
        ("h1", "0"),
        ("h2", "0"),
        ("h2", "0"),
    ], second
    assert site.pids() == pids


def test_what_was_asked_for_is_there(site: Site) -> None:
    for name, machine in site.machines.items():
        for unit in UNITS[name]:
            port = {"agent": 9551, "controller": 9552}[unit]
            assert f"virt_preflight_{unit}_" in machine.scraped(port)
            folder = f"/etc/virt-preflight/{unit}-tls"
            owner = {"agent": "virt-preflight", "controller": "virt-preflight-controller"}[unit]
            shown = machine.run("stat", "-c", "%U %G %a", folder, f"{folder}/key.pem")
            assert shown.splitlines() == [f"root {owner} 750", f"root {owner} 640"]
        assert machine.run("systemctl", "is-active", JANITOR).strip() == "active"
        running = machine.run("systemctl", "show", "-p", "ExecStart", "virt-preflight-agent")
        assert "--janitor" in running
        bound = ("systemctl", "show", "-p", "CapabilityBoundingSet", "virt-preflight-agent")
        assert "cap_sys_admin" in machine.run(*bound)
        logged = machine.run("journalctl", "-o", "cat", "-u", "virt-preflight-agent")
        assert '"message"' in logged


def test_a_fleet_file_that_changed_is_read_again_without_a_restart(site: Site) -> None:
    pids = site.pids()
    site.variables["virt_preflight_controller_fleet"]["host"][0]["labels"]["rack"] = "r2"
    told = site.play("controller.yml")
    assert "Reload the controller" in told
    assert "Restart the controller" not in told
    assert site.hosts()["h1"]["labels"]["rack"] == "r2"
    assert site.pids() == pids


def test_what_the_programs_could_not_start_with_is_told_and_changes_nothing(site: Site) -> None:
    pids = site.pids()
    before = (site.machines["h1"].files / "etc/virt-preflight/agent.toml").read_text()
    config = site.variables["virt_preflight_agent_config"]
    site.variables["virt_preflight_agent_config"] = {**config, "lisen": []}
    with pytest.raises(LabError, match="lisen"):
        site.play("site.yml")
    site.variables["virt_preflight_agent_config"] = config
    fleet = site.variables["virt_preflight_controller_fleet"]
    site.variables["virt_preflight_controller_fleet"] = {"host": [{"name": "h1", "addr": "x"}]}
    with pytest.raises(LabError, match="addr"):
        site.play("controller.yml")
    site.variables["virt_preflight_controller_fleet"] = fleet
    after = (site.machines["h1"].files / "etc/virt-preflight/agent.toml").read_text()
    assert after == before
    assert site.pids() == pids
    assert set(site.hosts()) == set(RELEASES)


def test_what_is_no_longer_wanted_is_taken_back_and_a_renewed_certificate_is_there(
    site: Site,
) -> None:
    # By the agents themselves: the controller's connections go on.
    agents = "--hosts h1,h2"
    old = {name: host["certificateEnds"] for name, host in site.hosts(agents).items()}
    pids = site.pids()
    site.trusted.run("deploy/tls/make.sh pki host h1\ndeploy/tls/make.sh pki host h2")
    site.variables["virt_preflight_agent_trials"] = False
    site.variables["virt_preflight_agent_rehearsals"] = False
    site.play("site.yml")
    now = {name: host["certificateEnds"] for name, host in site.hosts(agents).items()}
    assert all(now[name] > old[name] for name in RELEASES), (old, now)
    for name, machine in site.machines.items():
        places = "/etc/polkit-1/rules.d /etc/systemd/system /etc/systemd/system/*.service.d"
        left = machine.run("sh", "-c", f"ls {places}")
        assert "janitor" not in left
        assert "59-virt" not in left
        assert site.pids()[name, "agent"] != pids[name, "agent"]
        bound = ("systemctl", "show", "-p", "CapabilityBoundingSet", "virt-preflight-agent")
        assert "cap_sys_admin" not in machine.run(*bound)
    assert set(site.hosts()) == set(RELEASES)
