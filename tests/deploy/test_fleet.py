"""A fleet of two releases, installed as the README says, and asked by mutual TLS.

h1 is a bookworm, h2 a trixie, ctl the controller's machine; who asks is none of them.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import booted, network, packages, rights
from tests.deploy.booted import Machine
from tests.deploy.page import commands
from tests.deploy.trusted import Trusted, trusted
from tests.lab import machine as below
from tests.lab.conftest import give_up
from tests.lab.machine import LabError, Ran

pytestmark = pytest.mark.lab

HERE = Path(__file__).resolve().parent
RELEASES = {"h1": "bookworm", "h2": "trixie", "ctl": "bookworm"}
UUIDS = {"h1": "6a1e6b1c-0000-4000-8000-000000000001", "h2": "6a1e6b1c-0000-4000-8000-000000000002"}
IMAGE = "/var/lib/libvirt/images/run.qcow2"
REHEARSAL = "/usr/share/virt-preflight-agent/rehearsal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All machines, and where the operator sits."""

    machines: Mapping[str, Machine]
    trusted: Trusted

    @property
    def hosts(self) -> list[Machine]:
        """Those with an agent."""
        return [machine for name, machine in self.machines.items() if name in UUIDS]

    def ask(self, *words: str, as_who: str) -> Ran:
        """`virt-preflight` as that person; without --server he asks the agents."""
        home, fleet = self.trusted.home(as_who), self.trusted.place / "fleet.toml"
        command = " ".join(("virt-preflight", *words))
        return self.trusted.attempt(command, home=home, fleet=fleet)

    def told(self, *words: str, as_who: str, server: str | None = "ctl") -> dict[str, Any]:
        """The answer of the controller, or of all agents."""
        given = () if server is None else ("--server", server)
        ran = self.ask(*words, *given, "-o", "json", "--timeout", "30", as_who=as_who)
        assert ran.code in (0, 3, 5), ran.err
        answer: dict[str, Any] = json.loads(ran.out)
        return answer

    def hosts_told(self, server: str | None = "ctl") -> dict[str, dict[str, Any]]:
        """`hosts`, by name."""
        told = self.told("hosts", as_who="nova", server=server)
        return {host["host"]: host for host in told["hosts"]}

    def journal(self, name: str, unit: str) -> list[str]:
        """All lines of a unit of ours."""
        of = ("journalctl", "--no-pager", "-o", "cat", "-u", f"virt-preflight-{unit}")
        return self.machines[name].run(*of).splitlines()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Up and running: packages, certificates, a guest on h1."""
    if reason := below.why_not() or booted.why_not():
        give_up(reason)
    place = tmp_path_factory.mktemp("trusted")
    try:
        with contextlib.ExitStack() as held:
            machines = {
                name: held.enter_context(
                    booted.booted(release, [*packages.built(release), HERE / "running.xml"], name)
                )
                for name, release in RELEASES.items()
            }
            joined = held.enter_context(network.joined(machines))
            up = Fleet(machines=machines, trusted=trusted(place, joined, machines))
            for name in UUIDS:
                installed(name, machines[name])
            install, *_ = commands("controller")[0].splitlines()
            machines["ctl"].script(f"cd /packages\n{install}", within_s=180)
            with_certificates(up)
            yield up
    except LabError as error:
        give_up(str(error))


def installed(name: str, machine: Machine) -> None:
    for part in commands("host"):
        machine.script(f"cd /packages\n{part}", within_s=180)
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


def with_certificates(fleet: Fleet) -> None:
    """By the commands of the page; nobody waits for anything between them."""
    for part in commands("authority"):
        fleet.trusted.run(part)
    for part in commands("host-tls"):
        for host in fleet.hosts:
            host.script(part)
    for part in commands("controller-tls"):
        fleet.machines["ctl"].script(part)
    place = fleet.trusted.place
    # Whom ctl gives no role, and who has alice's name by an authority of his own.
    fleet.trusted.run("deploy/tls/make.sh pki person bob")
    fleet.trusted.run("deploy/tls/make.sh his ca\ndeploy/tls/make.sh his person alice")
    fleet.trusted.run("cp -r his/alice pki/stranger\ncp pki/cacert.pem pki/stranger/.pki/libvirt/")
    (place / "fleet.toml").write_text("".join(f'[[host]]\nname = "{name}"\n' for name in UUIDS))


def test_the_page_leads_to_a_first_dry_run_by_tls(fleet: Fleet) -> None:
    home = fleet.trusted.place / "home"
    home.mkdir()
    copying, *asking = commands("operator-tls")[0].splitlines()
    assert fleet.trusted.attempt(copying, home=home).code == 0
    hosts, check = (fleet.trusted.attempt(command, home=home) for command in asking)
    assert hosts.code == 0, hosts.err
    lines = [line.split()[0] for line in hosts.out.splitlines() if line.split()]
    assert {"h1", "h2"} <= set(lines), hosts.out
    assert "no answer" not in hosts.out
    # The guest's disk is on h1 alone, and nobody said that it is to be copied.
    assert check.code == 3, check.err
    assert check.out.startswith("db1 on h1"), check.out
    assert "disks.missing" in check.out


def test_nothing_is_answered_without_a_certificate(fleet: Fleet) -> None:
    ran = fleet.trusted.attempt("virt-preflight hosts --server ctl", home=Path("/nonexistent"))
    assert (ran.code, ran.out) == (1, "")


def test_a_fleet_of_two_releases_answers_through_the_controller(fleet: Fleet) -> None:
    hosts = fleet.hosts_told()
    assert {name: host.get("silent") for name, host in hosts.items()} == {"h1": None, "h2": None}
    told = fleet.told("check", "db1", "--copy-storage-all", as_who="nova")
    assert told["domain"]["source"] == "h1"
    assert [(one["host"], one.get("silent")) for one in told["hosts"]] == [("h2", None)]
    assert told["hosts"][0]["depth"] == "libvirt"


def test_a_caller_without_the_role_is_refused_and_logged(fleet: Fleet) -> None:
    assert fleet.told("hosts", as_who="bob")["hosts"]
    refused = fleet.ask("check", "db1", "--server", "ctl", "-o", "json", as_who="bob")
    assert (refused.code, refused.out) == (1, "")
    too_deep = ("check", "db1", "--depth", "rehearsal", "--server", "ctl", "-o", "json")
    assert fleet.ask(*too_deep, as_who="nova").code == 1
    refusals = fleet.machines["ctl"].script(commands("audit")[0]).splitlines()
    for who in ("bob", "nova"):
        caller = f'caller="O=virt-preflight,OU=person,CN={who}"'
        assert [line for line in refusals if caller in line], refusals
    # An agent hears the controller, and from whoever else has a certificate no more than a viewer.
    told = fleet.told("check", "db1", "--from", "h1", as_who="alice", server=None)
    assert {host["verdict"] for host in told["hosts"]} == {"UNSURE"}
    assert [one for one in fleet.journal("h1", "agent") if "alice" in one and "DENIED" in one]


def test_whom_nobody_vouches_for_learns_nothing(fleet: Fleet) -> None:
    by_controller = fleet.ask("hosts", "--server", "ctl", "-o", "json", as_who="stranger")
    assert (by_controller.code, by_controller.out) == (1, "")
    by_agents = fleet.ask("hosts", "-o", "json", as_who="stranger")
    assert all(host["silent"] for host in json.loads(by_agents.out)["hosts"])


def test_a_key_is_for_its_unit_alone(fleet: Fleet) -> None:
    key = "/etc/pki/libvirt/private/serverkey.pem"
    for user in ("nobody", "virt-preflight-deputy", "libvirt-qemu"):
        tried = fleet.machines["h1"].attempt("runuser", "-u", user, "--", "cat", key)
        assert "Permission denied" in tried.err, user


def test_certificates_are_renewed_without_a_restart(fleet: Fleet) -> None:
    before = fleet.hosts_told(server=None)
    units = {"h1": "agent", "h2": "agent", "ctl": "controller"}
    pids = {name: main_pid(fleet.machines[name], unit) for name, unit in units.items()}
    making, copying = commands("authority")
    again = "".join(line for line in making.splitlines(keepends=True) if " ca\n" not in line)
    fleet.trusted.run(again)
    fleet.trusted.run(copying)
    # The new keys are not readable yet: those before are used, and it is said.
    assert ends(fleet.hosts_told(server=None)) == ends(before)
    assert fleet.told("hosts", as_who="nova")["hosts"]
    for name, unit in units.items():
        assert [line for line in fleet.journal(name, unit) if "certificate before is used" in line]
    for host in fleet.hosts:
        host.script(commands("host-tls")[0])
    fleet.machines["ctl"].script(commands("controller-tls")[0])
    now = ends(fleet.hosts_told(server=None))
    assert all(now[name] > was for name, was in ends(before).items()), (before, now)
    assert ends(fleet.hosts_told()) == now
    for name, unit in units.items():
        assert [line for line in fleet.journal(name, unit) if "new certificate in use" in line]
    assert pids == {name: main_pid(fleet.machines[name], unit) for name, unit in units.items()}


def ends(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: host["certificateEnds"] for name, host in hosts.items()}


def main_pid(machine: Machine, unit: str) -> str:
    show = ("systemctl", "show", "-p", "MainPID", "--value")
    return machine.run(*show, f"virt-preflight-{unit}").strip()


def test_a_changed_fleet_file_is_read_by_a_reload_and_a_broken_one_changes_nothing(
    fleet: Fleet,
) -> None:
    ctl = fleet.machines["ctl"]
    known, pid = ctl.files / "etc/virt-preflight/fleet.toml", main_pid(ctl, "controller")
    whole = known.read_text()
    known.write_text('[[host]]\nname = "h1"\nlabels = { rack = "r7" }\n')
    reloaded(fleet, "read the fleet file again: it has 1 hosts")
    hosts = fleet.hosts_told()
    assert {name: host["labels"] for name, host in hosts.items()} == {"h1": {"rack": "r7"}}
    known.write_text('[[host]]\nname = "h1"\nadress = "h1:50551"\n')
    reloaded(fleet, "the fleet stays as it was: /etc/virt-preflight/fleet.toml: line 3")
    assert {name: host["labels"] for name, host in fleet.hosts_told().items()} == {
        "h1": {"rack": "r7"}
    }
    known.write_text(whole)
    reloaded(fleet, "read the fleet file again: it has 2 hosts")
    assert set(fleet.hosts_told()) == {"h1", "h2"}
    assert main_pid(ctl, "controller") == pid


def test_a_reload_right_after_the_start_ends_nobody(fleet: Fleet) -> None:
    ctl = fleet.machines["ctl"]
    unit = "virt-preflight-controller"
    for _ in range(3):
        ctl.script(f"systemctl restart {unit}\nsystemctl reload {unit}")
        assert set(fleet.hosts_told()) == {"h1", "h2"}


def reloaded(fleet: Fleet, line: str) -> None:
    said = sum(line in one for one in fleet.journal("ctl", "controller"))
    fleet.machines["ctl"].run("systemctl", "reload", "virt-preflight-controller")
    until = time.monotonic() + 30
    while sum(line in one for one in fleet.journal("ctl", "controller")) == said:
        assert time.monotonic() < until, fleet.journal("ctl", "controller")[-10:]
        time.sleep(0.2)


def test_a_host_that_announces_itself_needs_no_line_in_the_fleet_file(fleet: Fleet) -> None:
    ctl, h2 = fleet.machines["ctl"], fleet.machines["h2"]
    known = '[uris]\nmigrate = "qemu+tcp://{host}/system"\n[[host]]\nname = "h1"\n'
    (ctl.files / "etc/virt-preflight/fleet.toml").write_text(known)
    settings = ctl.files / "etc/virt-preflight/controller.toml"
    store = 'store = "/var/lib/virt-preflight/controller.db"\n'
    settings.write_text(f"{store}{settings.read_text()}")
    ctl.run("systemctl", "restart", "virt-preflight-controller")
    settings = h2.files / "etc/virt-preflight/agent.toml"
    announce = '[announce]\ncontrollers = ["ctl"]\nlabels = { rack = "r1" }\n'
    settings.write_text(f"{settings.read_text()}{announce}")
    h2.run("systemctl", "restart", "virt-preflight-agent")
    until = time.monotonic() + 60
    while (hosts := fleet.hosts_told()).keys() != {"h1", "h2"}:
        assert time.monotonic() < until, "h2 has not announced itself"
        time.sleep(0.5)
    assert hosts["h2"]["labels"] == {"rack": "r1"}
    # What it knows outlives it, and its folder is its own.
    ctl.run("systemctl", "restart", "virt-preflight-controller")
    assert fleet.hosts_told().keys() == {"h1", "h2"}
    assert ctl.run("stat", "-c", "%U %a", "/var/lib/virt-preflight").split() == [
        "virt-preflight-controller",
        "700",
    ]


def rehearsed(fleet: Fleet, *words: str, guest: str = "db1") -> dict[str, Any]:
    asked = ("check", guest, "--to", "h2", "--depth", "rehearsal", *words)
    told: dict[str, Any] = fleet.told(*asked, as_who="alice")["hosts"][0]
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
    for host in fleet.hosts:
        host.script(
            "mkdir -p /etc/systemd/system/virt-preflight-agent.service.d\n"
            f"cp {REHEARSAL}/virt-preflight-rehearsal.conf "
            "/etc/systemd/system/virt-preflight-agent.service.d\n"
            f"cp {REHEARSAL}/virt-preflight-janitor.* /etc/systemd/system\n"
            f"cp {REHEARSAL}/*.rules /etc/polkit-1/rules.d\n"
            "systemctl daemon-reload\n"
            "systemctl enable -q --now virt-preflight-janitor.socket\n"
            "systemctl restart virt-preflight-agent\n"
        )
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


@pytest.fixture
def fine_grained(fleet: Fleet) -> Fleet:
    """Both hosts' libvirtd asks polkit for every single thing; h1 runs a guest on a volume, too.

    Whoever comes by TCP has no process that polkit could be asked about, so that h1 comes to h2 as
    it would by ssh: somebody there takes it to the socket, here as root.
    """
    for host in fleet.hosts:
        conf = host.files / "etc/libvirt/libvirtd.conf"
        conf.write_text(f'{conf.read_text()}\naccess_drivers = [ "polkit" ]\n')
        host.run("systemctl", "restart", "libvirtd")
    fleet.machines["h2"].script(
        "systemctl stop virt-preflight-agent libvirtd.socket libvirtd-ro.socket"
        " libvirtd-admin.socket libvirtd-tcp.socket libvirtd.service\n"
        "systemctl start libvirtd.socket libvirtd.service virt-preflight-agent\n"
        "systemd-run -q --unit=by-ssh --socket-property=ListenStream=16509 "
        "/lib/systemd/systemd-socket-proxyd /run/libvirt/libvirt-sock\n"
    )
    fleet.machines["h1"].script(
        "virsh -q vol-create-as images db2.qcow2 8M --format qcow2\n"
        "sed -e s/db1/db2/ -e \"s/disk type='file'/disk type='volume'/\" "
        "-e \"s,<source file=.*/>,<source pool='images' volume='db2.qcow2'/>,\" "
        "/packages/running.xml >/tmp/db2.xml\n"
        "virsh -q create /tmp/db2.xml\n"
    )
    return fleet


def test_the_janitor_needs_each_right_of_its_rule_and_no_other(fine_grained: Fleet) -> None:
    fleet, h2 = fine_grained, fine_grained.machines["h2"]
    h2.script(f"rm -f {IMAGE}\nvirsh -q pool-refresh images")
    # Started by its first question.
    h2.run("systemctl", "start", rights.JANITOR)
    before = traces(h2)
    assert missed(fleet) == []
    assert settled(h2) == before
    for right in rights.rights(rights.REHEARSAL_RULE):
        with rights.without(h2, right, rights.REHEARSAL_INSTALLED, rights.JANITOR):
            told = missed(fleet)
        assert told, f"nobody misses {right}"
        assert [line for line in told if "denied" in line or right in line], told
        # What could not be put back stays, and is root's to remove.
        settled(h2)
        h2.script(
            "virsh -q pool-refresh images\n"
            "for name in $(virsh -q vol-list images | awk '{ print $1 }'); do\n"
            '    virsh -q vol-delete "$name" images\n'
            "done"
        )
        assert traces(h2) == before
    as_janitor = ("runuser", "-u", "virt-preflight-janitor", "--", "virsh", "-c", "qemu:///system")
    for forbidden in (
        "create /packages/running.xml",
        "pool-destroy images",
        "vol-create-as images new 1M",
        "net-start default",
        "domcapabilities",
    ):
        refused = h2.attempt(*as_janitor, *forbidden.split())
        assert refused.code == 1, forbidden
        assert "access denied" in refused.err, f"{forbidden}: {refused.err}"


def missed(fleet: Fleet) -> list[str]:
    """What is said of rehearsals that went less far, or of what was not put back after them."""
    said = len(undone(fleet))
    hosts = [rehearsed(fleet, "--copy-storage-all", guest=guest) for guest in ("db1", "db2")]
    settled(fleet.machines["h2"])
    for host in hosts:
        assert host["verdict"] == ("RISKY" if host["findings"] else "CLEAR")
    found = [one for host in hosts for one in host["findings"]]
    assert {one["check"] for one in found} <= {"libvirt.left-behind"}
    # Who asked is told what the log has.
    lines = undone(fleet)[said:]
    beside = re.compile(r".*left undone after .*? of \S+: | \[\w+\]$")  # the request's id
    logged = [beside.sub("", line) for line in lines]
    assert [one["found"] for one in found] == [f"left undone: {line}" for line in logged]
    shallower = [host["shallower"] for host in hosts if host["depth"] != "rehearsal"]
    return [*shallower, *logged]


def undone(fleet: Fleet) -> list[str]:
    return [line for line in fleet.journal("h2", "agent") if "left undone" in line]
