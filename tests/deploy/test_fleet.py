"""A fleet of two releases, installed, and asked through an installed controller by mutual TLS.

h1 is a bookworm and the controller's machine, h2 a trixie; who asks is neither.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.deploy import booted, network, packages
from tests.deploy.booted import Machine
from tests.deploy.network import Network
from tests.deploy.page import commands
from tests.lab import machine as below
from tests.lab.conftest import give_up
from tests.lab.machine import CHECKOUT, LabError, Ran
from tests.treaty.pki import issue

pytestmark = pytest.mark.lab

HERE = Path(__file__).resolve().parent
PROGRAM = CHECKOUT / ".venv/bin/virt-preflight"
RELEASES = {"h1": "bookworm", "h2": "trixie"}
UUIDS = {"h1": "6a1e6b1c-0000-4000-8000-000000000001", "h2": "6a1e6b1c-0000-4000-8000-000000000002"}
USER_BY_UNIT = {"agent": "virt-preflight", "controller": "virt-preflight-controller"}
ABOVE_TABLES = {"agent": "", "controller": 'store = "/var/lib/virt-preflight/controller.db"\n'}
TABLES = {
    "agent": '[roles]\nadmin = ["DNS:h1"]\n',
    "controller": '[roles]\nscheduler = ["*CN=scheduler1*"]\nadmin = ["*CN=admin1*"]\n',
}
IMAGE = "/var/lib/libvirt/images/run.qcow2"
REHEARSAL = "/usr/share/virt-preflight-agent/rehearsal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Both hosts, what joins them, and where who asks has his certificates."""

    machines: Mapping[str, Machine]
    network: Network
    certificates: Path

    def ask(self, *words: str, as_who: str | None, within_s: float = 60) -> Ran:
        """`virt-preflight` from the third place."""
        fleet = self.certificates / f"{as_who}.toml"
        environment = {"HOME": "/nonexistent", "VIRT_PREFLIGHT_FLEET": str(fleet)}
        return self.network.attempt(PROGRAM, *words, env=environment)

    def told(self, *words: str, as_who: str) -> dict[str, Any]:
        """The answer of a controller that gives one."""
        given = ("--server", "h1", "-o", "json", "--timeout", "30")
        ran = self.ask(*words, *given, as_who=as_who)
        assert ran.code in (0, 3, 5), ran.err
        answer: dict[str, Any] = json.loads(ran.out)
        return answer


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Up and running: packages, certificates, a guest on h1."""
    if reason := below.why_not() or booted.why_not():
        give_up(reason)
    certificates = tmp_path_factory.mktemp("certificates")
    try:
        with contextlib.ExitStack() as held:
            machines = {
                name: held.enter_context(
                    booted.booted(release, [*packages.built(release), HERE / "running.xml"])
                )
                for name, release in RELEASES.items()
            }
            joined = held.enter_context(network.joined(machines))
            for name, machine in machines.items():
                installed(name, machine)
            with_certificates(machines, joined, certificates)
            up = Fleet(machines=machines, network=joined, certificates=certificates)
            until = time.monotonic() + 60
            while len(up.told("hosts", as_who="viewer1")["hosts"]) < len(machines):
                assert time.monotonic() < until, "h2 has not announced itself"
                time.sleep(0.5)
            yield up
    except LabError as error:
        give_up(str(error))


def installed(name: str, machine: Machine) -> None:
    for part in commands("host"):
        machine.script(f"cd /packages\n{part}", within_s=180)
    if name == "h1":
        install, *_ = commands("controller")[0].splitlines()
        machine.script(f"cd /packages\n{install}", within_s=180)
    # Two namespaces of one machine have one DMI, and to libvirt would be one host.
    conf = machine.files / "etc/libvirt/libvirtd.conf"
    settings = f'host_uuid = "{UUIDS[name]}"\nlisten_tls = 0\nauth_tcp = "none"\n'
    conf.write_text(f"{conf.read_text()}\n{settings}")
    machine.script(
        # Whoever asks meanwhile would start libvirtd again before it has the socket: nobody can.
        "systemctl stop virt-preflight-agent libvirtd.socket libvirtd-ro.socket"
        " libvirtd-admin.socket libvirtd.service\n"
        "systemctl start libvirtd-tcp.socket libvirtd.socket\n"
        "systemctl start libvirtd.service\n"
        "virsh -q pool-define-as images dir --target /var/lib/libvirt/images\n"
        "virsh -q pool-start images\n"
    )
    if name == "h1":
        machine.script(
            f"qemu-img create -q -f qcow2 {IMAGE} 8M\nvirsh -q create /packages/running.xml"
        )


def with_certificates(machines: Mapping[str, Machine], joined: Network, place: Path) -> None:
    authority = trustme.CA()
    for name, machine in machines.items():
        for owner, unit in (
            ("virt-preflight", "agent"),
            ("virt-preflight-controller", "controller"),
        ):
            if unit == "controller" and name != "h1":
                continue
            issue(place / f"{name}-{unit}", authority, name, common_name=name)
            there = machine.files / f"etc/virt-preflight/{unit}-tls"
            there.mkdir()
            for file in (place / f"{name}-{unit}").iterdir():
                (there / file.name).write_bytes(file.read_bytes())
            inside = f"/etc/virt-preflight/{unit}-tls"
            machine.script(f"chgrp -R {owner} {inside}\nchmod 750 {inside}\nchmod 640 {inside}/*")
            tls = (
                f'[tls]\nca = "{inside}/cacert.pem"\ncert = "{inside}/cert.pem"\n'
                f'key = "{inside}/key.pem"\nclient_cert = "{inside}/cert.pem"\n'
                f'client_key = "{inside}/key.pem"\n'
            )
            port = 50551 if unit == "agent" else 50552
            listen = f'listen = ["{joined.address_by_name[name]}:{port}"]\n'
            whole = f"{listen}{ABOVE_TABLES[unit]}{tls}{TABLES[unit]}"
            if (unit, name) == ("agent", "h2"):
                whole += '[announce]\nname = "h2"\ncontrollers = ["h1:50552"]\n'
            (machine.files / f"etc/virt-preflight/{unit}.toml").write_text(whole)
    known = '[uris]\nmigrate = "qemu+tcp://{host}/system"\n'
    hosts = "".join(f'[[host]]\nname = "{name}"\n' for name in machines)
    # Of h2 the controller hears by h2 itself.
    (machines["h1"].files / "etc/virt-preflight/fleet.toml").write_text(
        f'{known}[[host]]\nname = "h1"\n'
    )
    for name, machine in machines.items():
        units = [*(["controller"] if name == "h1" else []), "agent"]
        machine.run("systemctl", "restart", *(f"virt-preflight-{unit}" for unit in units))
        machine.wait_for(50551)
    machines["h1"].wait_for(50552)
    for who in ("scheduler1", "admin1", "viewer1"):
        issue(place / who, authority, common_name=who)
    stranger = trustme.CA()
    issue(place / "stranger", stranger, common_name="admin1")
    authority.cert_pem.write_to_path(place / "stranger/cacert.pem")
    for who in ("scheduler1", "admin1", "viewer1", "stranger"):
        mine = place / who
        (place / f"{who}.toml").write_text(
            f'[tls]\nca = "{mine}/cacert.pem"\nclient_cert = "{mine}/cert.pem"\n'
            f'client_key = "{mine}/key.pem"\n{hosts}'
        )


def test_a_fleet_of_two_releases_answers_through_the_controller(fleet: Fleet) -> None:
    hosts = {host["host"]: host for host in fleet.told("hosts", as_who="scheduler1")["hosts"]}
    assert {name: host.get("silent") for name, host in hosts.items()} == {"h1": None, "h2": None}
    told = fleet.told("check", "db1", "--copy-storage-all", as_who="scheduler1")
    assert told["domain"]["source"] == "h1"
    assert [(one["host"], one.get("silent")) for one in told["hosts"]] == [("h2", None)]
    assert told["hosts"][0]["depth"] == "libvirt"


def test_a_caller_without_the_role_is_refused_and_logged(fleet: Fleet) -> None:
    assert fleet.told("hosts", as_who="viewer1")["hosts"]
    refused = fleet.ask("check", "db1", "--server", "h1", "-o", "json", as_who="viewer1")
    assert (refused.code, refused.out) == (1, "")
    too_deep = ("check", "db1", "--depth", "rehearsal", "--server", "h1", "-o", "json")
    assert fleet.ask(*too_deep, as_who="scheduler1").code == 1
    unit = ("journalctl", "--no-pager", "-o", "cat", "-u", "virt-preflight-controller")
    journal = fleet.machines["h1"].run(*unit).splitlines()
    for who in ("viewer1", "scheduler1"):
        lines = [line for line in journal if who in line and "PERMISSION_DENIED" in line]
        assert lines, "\n".join(journal[-20:])


def test_whom_nobody_vouches_for_learns_nothing(fleet: Fleet) -> None:
    by_controller = fleet.ask("hosts", "--server", "h1", "-o", "json", as_who="stranger")
    assert (by_controller.code, by_controller.out) == (1, "")
    by_agents = fleet.ask("hosts", "-o", "json", as_who="stranger")
    assert all(host["silent"] for host in json.loads(by_agents.out)["hosts"])


def test_a_key_is_for_its_unit_alone(fleet: Fleet) -> None:
    key = "/etc/virt-preflight/agent-tls/key.pem"
    for user in ("nobody", "virt-preflight-controller", "virt-preflight-deputy"):
        tried = fleet.machines["h1"].attempt("runuser", "-u", user, "--", "cat", key)
        assert "Permission denied" in tried.err, user


def rehearsed(fleet: Fleet, *words: str) -> dict[str, Any]:
    asked = ("check", "db1", "--to", "h2", "--depth", "rehearsal", *words)
    told: dict[str, Any] = fleet.told(*asked, as_who="admin1")["hosts"][0]
    return told


def traces(machine: Machine) -> str:
    """What a rehearsal could leave: files with their owners, libvirt's objects, processes."""
    return machine.script(
        "find /var/lib/libvirt/images /var/lib/libvirt/qemu/nvram /var/lib/libvirt/swtpm "
        "-type f -printf '%p %U:%G %m %s\\n' | sort\n"
        "virsh -q list --all --name\nvirsh -q vol-list images\nls /run/virt-preflight-janitor\n"
        "pgrep -a qemu-system || :"
    )


def test_a_rehearsal_works_with_the_example_and_leaves_nothing(fleet: Fleet) -> None:
    without = rehearsed(fleet, "--copy-storage-all")
    assert without["depth"] == "libvirt"
    assert "has no janitor that would" in without["shallower"]
    for machine in fleet.machines.values():
        machine.script(
            "mkdir -p /etc/systemd/system/virt-preflight-agent.service.d\n"
            f"cp {REHEARSAL}/virt-preflight-rehearsal.conf "
            "/etc/systemd/system/virt-preflight-agent.service.d\n"
            f"cp {REHEARSAL}/virt-preflight-janitor.* /etc/systemd/system\n"
            f"cp {REHEARSAL}/*.rules /etc/polkit-1/rules.d\n"
            "systemctl daemon-reload\n"
            "systemctl enable -q --now virt-preflight-janitor.socket\n"
            "systemctl restart virt-preflight-agent\n"
        )
        machine.wait_for(50551)
    h2 = fleet.machines["h2"]
    # Started by its first question.
    h2.run("systemctl", "start", "virt-preflight-janitor.service")
    before = traces(h2)
    copied = rehearsed(fleet, "--copy-storage-all")
    assert copied["depth"] == "rehearsal", copied
    assert "transport.no-way" not in {one["check"] for one in copied["findings"]}
    assert settled(h2) == before, "the volume that libvirt made for the copy is gone"
    # One that is there, of another owner, that only libvirt may open as it is.
    h2.script(f"qemu-img create -q -f qcow2 {IMAGE} 8M\nchown 4711:4712 {IMAGE}\nchmod 600 {IMAGE}")
    before = traces(h2)
    kept = rehearsed(fleet, "--unsafe")
    assert kept["depth"] == "rehearsal", kept
    assert settled(h2) == before, "the image is its owner's again"
    assert fleet.machines["h1"].run("virsh", "domstate", "db1").strip() == "running"
    user = h2.run("systemctl", "show", "-p", "User", "--value", "virt-preflight-agent").strip()
    assert user == "virt-preflight"


def settled(machine: Machine) -> str:
    """What there is once the agent has put all back."""
    until = time.monotonic() + 30
    while machine.run("ls", "/run/virt-preflight-janitor"):
        assert time.monotonic() < until, "the agent has not put all back"
        time.sleep(0.2)
    return traces(machine)
