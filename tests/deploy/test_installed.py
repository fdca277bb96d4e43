"""The packages, installed into a booted release of each kind, and asked: as an operator would.

Needs root and the lab's Debian roots; where they cannot be, skipped as loudly as the lab is.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import booted, packages, rights
from tests.deploy.booted import Machine
from tests.deploy.page import commands
from tests.lab import machine as below
from tests.lab.conftest import give_up
from tests.lab.machine import CHECKOUT, LabError

pytestmark = pytest.mark.lab

HERE = Path(__file__).resolve().parent
BY_UNIT, BY_ROOT = "127.0.0.1", "localhost"
RECORDED = CHECKOUT / "tests/recordings/h2"
BOTH = f"{BY_UNIT}:50551,{BY_ROOT}:50571"
# Three questions, and by which of them a right is missed: what its name has in it, else the first.
ARRIVING: tuple[str, ...] = ("--xml", "/packages/guest.xml", "--to", BY_UNIT)
COPIED = (*ARRIVING, "--copy-storage-all")
LEAVING: tuple[str, ...] = ("db1", "--from", BY_UNIT, "--to", BY_ROOT)
SHOWN_BY = {"search-storage-vols": COPIED, "domain": LEAVING}
POLKIT = 'access_drivers = [ "polkit" ]'


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A release that has booted, with both packages installed and storage to ask about.

    Beside the agent of the unit another one runs by hand, with all of root's rights.
    """
    if reason := below.why_not() or booted.why_not():
        give_up(reason)
    try:
        debs = packages.built(request.param)
        older = tmp_path_factory.mktemp("older") / "older"
        older.mkdir()
        packages.older(request.param, older)
        given = [*debs, *HERE.glob("*.xml"), RECORDED, older]
        with booted.booted(request.param, given) as machine:
            for part in commands("host"):
                machine.script(f"cd /packages\n{part}", within_s=180)
            machine.wait_for(50551)
            install, _ = commands("operator")
            machine.script(f"cd /packages\n{install}", within_s=180)
            machine.run("sh", "-eus", stdin=(HERE / "storage.sh").read_text())
            machine.script(
                "setsid --fork virt-preflight-agent serve --listen 127.0.0.1:50571 "
                "</dev/null >/var/log/by-root.log 2>&1"
            )
            # What the page has at the end of a tunnel: a host that was recorded.
            machine.script(
                "setsid --fork virt-preflight-agent replay /packages/h2 --listen 127.0.0.1:50561 "
                "</dev/null >/var/log/recorded.log 2>&1"
            )
            for port in (50561, 50571):
                machine.wait_for(port)
            install, *_ = commands("controller")[0].splitlines()
            machine.script(f"cd /packages\n{install}", within_s=180)
            machine.wait_for(50552)
            yield machine
    except LabError as error:
        give_up(str(error))


def check(machine: Machine, *words: str) -> dict[str, Any]:
    patient = ("--timeout", "30", "-o", "json")
    ran = machine.attempt("virt-preflight", "check", *words, "--hosts", BOTH, *patient)
    assert ran.code in (0, 3, 5), ran.err
    told: dict[str, Any] = json.loads(ran.out)
    return told


def parts(host: dict[str, Any]) -> list[str]:
    """What an agent said, but for what is of the moment."""
    told = [*host["findings"], *host["unanswered"]]
    keys = ("check", "subject", "wanted", "found", "severity", "why", "depth")
    return sorted(json.dumps({key: one.get(key) for key in keys}) for one in told)


def test_the_first_dry_run_is_as_the_readme_says(host: Machine) -> None:
    _, asking = commands("operator")
    for command in asking.splitlines():
        # Pages are left out of the lab's roots.
        if not command.startswith("man "):
            ran = host.attempt("sh", "-euc", command)
            assert ran.code in (0, 3), f"{command}: {ran.err}"
            assert ran.out, command
    assert "h1" in host.run("virt-preflight", "hosts")


def test_the_controller_answers_as_the_readme_says(host: Machine) -> None:
    _, *asking = commands("controller")[0].splitlines()
    for command in asking:
        ran = host.attempt("sh", "-euc", command)
        assert ran.code in (0, 3), f"{command}: {ran.err}"
    by_service = host.attempt("virt-preflight", "check", "db1", "--server", "127.0.0.1")
    by_command = host.attempt("virt-preflight", "check", "db1")
    taken = re.compile(r"in [\d.]+ s")
    assert taken.sub("", by_service.out) == taken.sub("", by_command.out)


def test_the_controller_is_nobody_and_writes_to_its_own_folder_alone(host: Machine) -> None:
    controller = status(host, "virt-preflight-controller.service")
    assert controller["user"] == "virt-preflight-controller"
    assert controller["CapEff"] == controller["CapBnd"] == "0000000000000000"
    assert (controller["NoNewPrivs"], controller["Seccomp"]) == ("1", "2")
    inside = ("nsenter", "-t", controller["pid"], "-m")
    mounts = host.run(*inside, "findmnt", "-rno", "TARGET,OPTIONS").splitlines()
    options = {
        point: words.split(",") for point, _, words in (one.partition(" ") for one in mounts)
    }
    assert "ro" in options["/"]
    assert "rw" in options["/var/lib/virt-preflight"]
    listening = host.run("ss", "-Hltn", "sport = :50552").split()
    assert "127.0.0.1" in listening[3]


def test_a_sandbox_changes_no_verdict(host: Machine) -> None:
    told = check(host, "--xml", "/packages/guest.xml")
    by_name = {one["host"]: one for one in told["hosts"]}
    assert parts(by_name[BY_UNIT]) == parts(by_name[BY_ROOT])
    found = {(one["check"], one["subject"]) for one in by_name[BY_UNIT]["findings"]}
    # A fault of each kind that the sandbox could hide or make, and none where there is none.
    assert {
        ("disks.unreadable", "vdb"),
        ("disks.unwritable", "vdd"),
        ("disks.missing", "vde"),
    } <= found
    assert not [one for one in found if one[1] in ("vda", "vdc", "vdg", "vdh")]


def test_a_guest_that_runs_here_may_leave_as_root_would_let_it(host: Machine) -> None:
    ways = ((BY_UNIT, BY_ROOT), (BY_ROOT, BY_UNIT))
    by_unit, by_root = (
        check(host, "db1", "--from", source, "--to", destination) for source, destination in ways
    )
    assert parts(by_unit["hosts"][0]) == parts(by_root["hosts"][0])
    assert "disks.unsafe" in {one["check"] for one in by_unit["hosts"][0]["findings"]}


def test_the_agent_is_nobody_and_its_deputy_has_no_network(host: Machine) -> None:
    agent, deputy = (status(host, f"virt-preflight-{unit}.service") for unit in ("agent", "deputy"))
    assert agent["user"] == "virt-preflight"
    assert agent["CapEff"] == agent["CapBnd"] == "0000000000000000"
    assert deputy["user"] == "virt-preflight-deputy"
    # DAC_OVERRIDE, DAC_READ_SEARCH, SETGID, SETUID.
    assert deputy["CapBnd"] == "00000000000000c6"
    assert agent["NoNewPrivs"] == deputy["NoNewPrivs"] == "1"
    assert agent["Seccomp"] == deputy["Seccomp"] == "2"
    links = host.run("nsenter", "-t", deputy["pid"], "-n", "cat", "/proc/self/net/dev")
    assert [line.split(":")[0].strip() for line in links.splitlines()[2:]] == ["lo"]
    listening = host.run("ss", "-Hltn", "sport = :50551").split()
    assert "127.0.0.1" in listening[3]


def status(host: Machine, unit: str) -> dict[str, str]:
    pid = host.run("systemctl", "show", "-p", "MainPID", "--value", unit).strip()
    lines = host.run("cat", f"/proc/{pid}/status").splitlines()
    told = {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}
    user = host.run("stat", "-c", "%U", f"/proc/{pid}").strip()
    return {**told, "pid": pid, "user": user}


def test_the_deputy_is_reached_by_the_agent_alone(host: Machine) -> None:
    ask = (
        "import socket; s = socket.socket(socket.AF_UNIX); "
        "s.connect('/run/virt-preflight-deputy.sock'); print('in')"
    )
    by = {
        user: host.attempt("runuser", "-u", user, "--", "python3", "-c", ask).out.strip()
        for user in ("nobody", "libvirt-qemu", "virt-preflight")
    }
    assert by == {"nobody": "", "libvirt-qemu": "", "virt-preflight": "in"}


def test_the_deputy_may_not_become_root(host: Machine) -> None:
    """setuid(2) is what its capability would give, and what its filter takes."""
    unit = "virt-preflight-deputy"
    shown = host.run("systemctl", "show", "-p", "SystemCallFilter", "--value", unit)
    words = set(shown.split())
    assert {"setfsuid", "setfsgid", "setgroups", "capset"} <= words
    others = {"setuid", "setreuid", "setresuid", "setgid", "setregid", "setresgid"}
    assert words & (others | {"chown", "mount", "bpf", "ptrace"}) == set()


@pytest.fixture
def fine_grained(host: Machine) -> Iterator[Machine]:
    """libvirtd asks polkit for every single thing."""
    conf = host.files / "etc/libvirt/libvirtd.conf"
    before = conf.read_text()
    conf.write_text(f"{before}\n{POLKIT}\n")
    host.run("systemctl", "restart", "libvirtd")
    yield host
    conf.write_text(before)
    host.run("systemctl", "restart", "libvirtd")


def test_the_rule_for_polkit_gives_what_is_needed_and_no_more(fine_grained: Machine) -> None:
    test_a_sandbox_changes_no_verdict(fine_grained)
    test_a_guest_that_runs_here_may_leave_as_root_would_let_it(fine_grained)
    for forbidden in (
        "destroy db1",
        "suspend db1",
        "undefine db1",
        "create /packages/running.xml",
        "pool-destroy guests",
        "net-start default",
        "nodedev-list",
        "secret-undefine 0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f",
        "vol-delete v1 guests",
    ):
        as_agent = ("runuser", "-u", "virt-preflight", "--", "virsh", "-c", "qemu:///system")
        refused = fine_grained.attempt(*as_agent, *forbidden.split())
        assert refused.code == 1, forbidden
        assert "access denied" in refused.err, f"{forbidden}: {refused.err}"
    assert "db1" in fine_grained.run("virsh", "-q", "list", "--name")


def test_no_right_of_the_rule_is_superfluous_and_one_that_is_missing_is_named(
    fine_grained: Machine,
) -> None:
    questions = (ARRIVING, COPIED, LEAVING)
    whole = {asked: told_by_unit(fine_grained, asked) for asked in questions}
    assert not [told for told in whole.values() if "needs the right" in told]
    silent = []
    for right in rights.rights(rights.RULE):
        asked = next((ask for part, ask in SHOWN_BY.items() if part in right), ARRIVING)
        with rights.without(fine_grained, right):
            if right == "org.libvirt.unix.manage":
                # Whoever is in stays in.
                fine_grained.run("systemctl", "restart", "virt-preflight-agent")
                fine_grained.wait_for(50551)
            told = told_by_unit(fine_grained, asked)
        assert told != whole[asked], f"nobody misses {right}"
        if not rights.HIDING.fullmatch(right) and right not in told:
            silent.append((right, told))
    fine_grained.run("systemctl", "restart", "virt-preflight-agent")
    fine_grained.wait_for(50551)
    assert silent == []


def told_by_unit(machine: Machine, asked: tuple[str, ...]) -> str:
    """All that a check says, but for what is of the moment; or the sentence that it ends with."""
    patient = ("--timeout", "30", "-o", "json")
    ran = machine.attempt("virt-preflight", "check", *asked, "--hosts", BOTH, *patient)
    if not ran.out:
        return ran.err
    hosts = json.loads(ran.out)["hosts"]
    return "\n".join(
        f"{one['host']} {one['verdict']} {one.get('silent')} {parts(one)}" for one in hosts
    )


def test_a_stranger_is_not_let_in_by_the_rule(host: Machine) -> None:
    refused = host.attempt("runuser", "-u", "nobody", "--", "virsh", "-c", "qemu:///system", "list")
    assert refused.code == 1
    assert "authenti" in refused.err


def test_whoever_is_not_root_is_a_scheduler_to_both_units(host: Machine) -> None:
    """Their sandboxes have no netlink: the kernel's table is read."""
    unit = f"--hosts={BY_UNIT}:50551"
    asked = ("virt-preflight", "check", "--xml", "-", "-o", "json", "--timeout", "30")
    xml = (HERE / "plain.xml").read_text()

    def by_daemon(*words: str) -> str:
        as_daemon = ("runuser", "-u", "daemon", "--", "env", "HOME=/")
        ran = host.attempt(*as_daemon, *asked, *words, stdin=xml)
        return f"{ran.out}{ran.err}"

    refused = "has the role scheduler, and this at the depth trial takes the role admin"
    # The controller's unit knows no other user by his number (PrivateUsers=).
    for way, number in ((unit, 1), (f"--server={BY_UNIT}", 65534)):
        assert f"ipv4:127.0.0.1 uid={number} {refused}" in by_daemon("--depth", "trial", way)
        assert '"findings"' in by_daemon("--depth", "libvirt", way)
    by_root = host.attempt(*asked, "--depth", "trial", unit, stdin=xml)
    assert "has the role" not in by_root.out
    assert '"findings"' in by_root.out, by_root.err


def test_trials_work_with_the_example_and_leave_nothing(fine_grained: Machine) -> None:
    examples = "/usr/share/virt-preflight-agent/trial"
    unit = "/etc/systemd/system/virt-preflight-agent.service.d"
    before = check_trial(fine_grained)
    assert before["depth"] == "libvirt"
    assert "may not remove what a stand-in leaves" in before["shallower"]
    fine_grained.script(
        f"mkdir -p {unit}\ncp {examples}/virt-preflight-trial.conf {unit}\n"
        f"cp {examples}/59-virt-preflight-trial.rules /etc/polkit-1/rules.d\n"
        "systemctl daemon-reload\nsystemctl restart virt-preflight-agent"
    )
    fine_grained.wait_for(50551)
    noted = wait_for_silence(fine_grained)
    after = check_trial(fine_grained)
    assert (after["depth"], after["verdict"], after["unanswered"]) == ("trial", "CLEAR", [])
    assert wait_for_silence(fine_grained) == noted
    # To stop one is for a libvirt without phases, and for when libvirt has not done it by itself.
    for right in set(rights.rights(rights.TRIAL_RULE)) - {"org.libvirt.api.domain.stop"}:
        with rights.without(fine_grained, right, rights.TRIAL_INSTALLED):
            told = check_trial(fine_grained)
        assert right in told["unanswered"][0]["why"]
        assert wait_for_silence(fine_grained) == noted


def wait_for_silence(machine: Machine) -> tuple[str, ...]:
    """What a trial could leave, once the agent has no act noted as under way."""
    until = time.monotonic() + 30
    while machine.run("ls", "/run/virt-preflight"):
        assert time.monotonic() < until, "the agent has not cleared up"
        time.sleep(0.2)
    notes = "import os; p = '/var/lib/libvirt/images/run.qcow2'; "
    notes += "print(sorted((n, os.getxattr(p, n)) for n in os.listxattr(p)), os.stat(p)[4:6])"
    xattrs = machine.run("python3", "-c", notes)
    assert "trusted.libvirt.security" in xattrs, "the disk of the guest that runs has its notes"
    logs = machine.run("ls", "/var/log/libvirt/qemu")
    return xattrs, logs, machine.run("virsh", "-q", "list", "--name")


def check_trial(host: Machine) -> dict[str, Any]:
    words = ("--xml", "/packages/plain.xml", "--depth", "trial", "--to", BY_UNIT)
    told: dict[str, Any] = check(host, *words)["hosts"][0]
    return told


def test_completion_and_pages_are_where_shells_look(host: Machine) -> None:
    host.script(
        "bash -n /usr/share/bash-completion/completions/virt-preflight\n"
        "grep -q '#compdef virt-preflight' /usr/share/zsh/vendor-completions/_virt-preflight\n"
        "grep -q virt-preflight /usr/share/fish/vendor_completions.d/virt-preflight.fish\n"
    )
    asked = host.run(
        "env", "COMP_WORDS=virt-preflight che", "COMP_CWORD=1",
        "_VIRT_PREFLIGHT_COMPLETE=bash_complete", "virt-preflight",
    )  # fmt: skip
    assert set(asked.split()) == {"plain,check", "plain,checks"}


def test_both_units_expose_their_metrics_as_their_users(host: Machine) -> None:
    try:
        for unit, port in (("agent", 9551), ("controller", 9552)):
            conf = host.files / f"etc/virt-preflight/{unit}.toml"
            text = conf.read_text()
            assert '\nmetrics = ""\n' in text
            conf.write_text(text.replace('metrics = ""', f'metrics = "127.0.0.1:{port}"'))
            host.run("systemctl", "restart", f"virt-preflight-{unit}")
        assert host.attempt("virt-preflight", "check", "db1", "--server", "127.0.0.1").code in (
            0,
            3,
        )
        for unit, port in (("agent", 9551), ("controller", 9552)):
            told = host.scraped(port)
            assert re.search(rf"^virt_preflight_{unit}_questions_total\{{.*}} [1-9]", told, re.M)
            user = status(host, f"virt-preflight-{unit}.service")["user"]
            listening = host.run("ss", "-Hltne", f"sport = :{port}").split()
            assert listening[3] == f"127.0.0.1:{port}"
            assert f"uid:{host.run('id', '-u', user).strip()}" in listening
    finally:
        for unit in ("agent", "controller"):
            conf = host.files / f"etc/virt-preflight/{unit}.toml"
            conf.write_text(re.sub(r'metrics = ".*"', 'metrics = ""', conf.read_text()))
            host.run("systemctl", "restart", f"virt-preflight-{unit}")


def test_a_restart_that_cannot_be_says_so_and_why(host: Machine) -> None:
    for unit in ("agent", "controller"):
        conf = host.files / f"etc/virt-preflight/{unit}.toml"
        before = conf.read_text()
        conf.write_text(f"lisen = []\n{before}")
        assert host.attempt("systemctl", "restart", f"virt-preflight-{unit}").code == 1
        journal = host.run("journalctl", "-o", "cat", "-u", f"virt-preflight-{unit}")
        assert f"/etc/virt-preflight/{unit}.toml: line 1" in journal
        conf.write_text(before)
        host.run("systemctl", "restart", f"virt-preflight-{unit}")


ALL_OURS = "virt-preflight-controller virt-preflight-agent virt-preflight"
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -y -o Dpkg::Options::=--force-confold"
EDITED = "memory_reserved_mib = 1024"


def active(host: Machine) -> list[str]:
    """Which of the units that the packages enable are up."""
    units = ("agent.service", "deputy.socket", "controller.service")
    names = [f"virt-preflight-{unit}" for unit in units]
    return host.attempt("systemctl", "is-active", *names).out.split()


def processes(host: Machine) -> str:
    users = "virt-preflight,virt-preflight-deputy,virt-preflight-janitor,virt-preflight-controller"
    return host.run("sh", "-c", f"pgrep -u {users} -a || :")


def test_purged_it_is_gone(host: Machine) -> None:
    # What the operator put there is his: the files for trials, and the list of hosts.
    host.script(
        "rm -rf /etc/systemd/system/virt-preflight-agent.service.d /etc/virt-preflight/fleet.toml\n"
        "rm -f /etc/polkit-1/rules.d/59-virt-preflight-trial.rules\n"
        f"dpkg -P {ALL_OURS}"
    )
    assert left_of_us(host) == ""
    assert processes(host) == ""


def left_of_us(host: Machine) -> str:
    """Files and folders anywhere; sockets and the like of the moment too."""
    ours = "-name '*virt-preflight*' -not -path '/packages/*' -print"
    return host.run("sh", "-c", f"find / -xdev {ours}; find /run -xdev {ours}")


def test_an_upgrade_keeps_what_was_configured_and_runs_what_was_installed(host: Machine) -> None:
    host.script(f"cd /packages/older\n{INSTALL} ./*.deb", within_s=180)
    assert active(host) == ["active"] * 3
    host.script(f"sed -i 's/^memory_reserved_mib = .*/{EDITED}/' /etc/virt-preflight/agent.toml")
    # Its first question starts the deputy.
    host.run("virt-preflight", "hosts", "--hosts", "127.0.0.1")
    units = [f"virt-preflight-{unit}" for unit in ("agent", "deputy", "controller")]
    before = [status(host, unit)["pid"] for unit in units]
    host.script(f"cd /packages\n{INSTALL} ./*.deb", within_s=180)
    assert "0.0.9" not in host.run("dpkg-query", "-W", *ALL_OURS.split())
    assert active(host) == ["active"] * 3
    settings = (host.files / "etc/virt-preflight/agent.toml").read_text()
    assert EDITED in settings
    assert "As it was" not in (host.files / "etc/virt-preflight/controller.toml").read_text()
    gone = "find /usr/lib/virt-preflight /usr/lib/virt-preflight-agent -name 'gone*'"
    assert host.script(gone) == ""
    assert "127.0.0.1" in host.run("virt-preflight", "hosts", "--hosts", "127.0.0.1")
    host.run("virt-preflight", "hosts", "--hosts", "127.0.0.1")
    after = [status(host, unit)["pid"] for unit in units]
    assert not set(before) & set(after)


def test_what_the_operator_disabled_stays_down_and_what_was_removed_comes_back_as_it_was(
    host: Machine,
) -> None:
    host.run("systemctl", "disable", "-q", "--now", "virt-preflight-controller")
    host.run("apt-get", "remove", "-y", *ALL_OURS.split(), within_s=120)
    assert active(host) == ["inactive"] * 3
    assert processes(host) == ""
    assert EDITED in (host.files / "etc/virt-preflight/agent.toml").read_text()
    host.script(f"cd /packages\n{INSTALL} ./*.deb", within_s=180)
    assert active(host) == ["active", "active", "inactive"]
    assert EDITED in (host.files / "etc/virt-preflight/agent.toml").read_text()
    host.run("dpkg", "-P", *ALL_OURS.split(), within_s=120)
    assert left_of_us(host) == ""
    assert processes(host) == ""
