"""Bad days of libvirt at the depth `libvirt`: each costs its own answer, and the next is there.

Somebody's libvirtd is frozen, killed or restarted, or his guest's QEMU hangs. The answer comes at
its deadline and is UNSURE with the reason, never a wrong yes or no; once he is back, the agent
answers as before, without having been restarted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab import guests
from tests.lab.guests import Disk, Guest
from tests.lab.hosts import (
    AGENT_PID,
    Host,
    Lab,
    attempt_on,
    restart_agent,
    run_on,
    script_on,
    start_libvirtd,
    wait_for,
)
from tests.lab.machine import LabError
from tests.lab.roots import VENV
from tests.lab.score import Question, ask_cli, make_disks

pytestmark = pytest.mark.lab

LIBVIRTD_PID = "/run/libvirtd.pid"
GUEST = Guest(
    name="days",
    disks=(Disk(path="/srv/shared/days.qcow2"),),
    devices="<graphics type='vnc' autoport='yes' passwd='hush-hus'/>",
)
OTHER = Guest(name="days-other", disks=(Disk(path="/srv/shared/days-other.qcow2"),))
# What `ask_cli` waits for one host, and a start of the command on a busy machine.
ANSWERS_WITHIN_S = 15 + 15
BACK_WITHIN_S = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What goes wrong with a libvirtd, and how it is made good."""

    name: str
    strike: Callable[[Host], object]
    mend: Callable[[Host], object]


FROZEN = Day(
    name="frozen",
    strike=lambda host: script_on(host, f"kill -STOP $(cat {LIBVIRTD_PID})"),
    mend=lambda host: script_on(host, f"kill -CONT $(cat {LIBVIRTD_PID})"),
)
KILLED = Day(
    name="killed",
    strike=lambda host: script_on(host, f"kill -KILL $(cat {LIBVIRTD_PID}); rm {LIBVIRTD_PID}"),
    mend=start_libvirtd,
)


@pytest.fixture
def guest(lab: Lab) -> Iterator[Guest]:
    source = lab["h1"]
    for one in (GUEST, OTHER):
        make_disks(one, source, lab["h2"])
        guests.start(source, one, lab)
    try:
        yield GUEST
    finally:
        guests.remove(source, GUEST.name, OTHER.name)
        script_on(source, "rm -f /srv/shared/days*.qcow2")


def ask(lab: Lab, to: str = "h2", name: str = GUEST.name) -> dict[str, Any]:
    """The whole answer at the depth `libvirt`, or LabError when the source had none."""
    options = ("--live", "--p2p", "--unsafe")
    question = Question(guest=name, source="h1", destination=to, options=options, depth="libvirt")
    return ask_cli(lab, question)


def verdict(answer: dict[str, Any]) -> str:
    (host,) = answer["hosts"]
    return str(host["verdict"])


def answers_again(lab: Lab) -> bool:
    try:
        return verdict(ask(lab)) == "CLEAR"
    except LabError:
        return False


def agent_of(host: Host) -> str:
    return run_on(host, ["cat", AGENT_PID]).strip()


@pytest.mark.parametrize("day", [FROZEN, KILLED], ids=lambda day: day.name)
@pytest.mark.parametrize("name", ["h1", "h2"], ids=["source", "destination"])
def test_a_libvirtd_that_is_gone_costs_one_answer(
    lab: Lab, guest: Guest, name: str, day: Day
) -> None:
    host, agent = lab[name], agent_of(lab[name])
    assert verdict(ask(lab)) == "CLEAR"
    day.strike(host)
    try:
        started = time.monotonic()
        found = ask(lab)
        # A destination without a libvirtd refuses each guest, and that is sure.
        surely = (name, day) == ("h2", KILLED)
        assert verdict(found) == ("BLOCKED" if surely else "UNSURE")
        assert "libvirtd" in json.dumps(found)
        assert time.monotonic() - started < ANSWERS_WITHIN_S
    finally:
        day.mend(host)
    wait_for(lambda: answers_again(lab), "an answer", log=host.files, within_s=BACK_WITHIN_S)
    assert agent_of(host) == agent, "the agent was not restarted"


@pytest.mark.parametrize("name", ["h1", "h2"], ids=["source", "destination"])
@pytest.mark.parametrize("moment_s", [0.0, 0.2, 0.4, 0.6])
def test_a_libvirtd_that_is_restarted_meanwhile_gives_no_wrong_answer(
    lab: Lab, guest: Guest, name: str, moment_s: float
) -> None:
    host = lab[name]
    with ThreadPoolExecutor(max_workers=1) as pool:
        asking = pool.submit(ask, lab)
        time.sleep(moment_s)
        KILLED.strike(host)
        KILLED.mend(host)
        try:
            found = verdict(asking.result(timeout=ANSWERS_WITHIN_S))
        except LabError:
            found = "none"
    # While it is down it refuses each guest, which is as true as the rest.
    assert found in ("CLEAR", "UNSURE", "none", *(["BLOCKED"] if name == "h2" else []))
    wait_for(lambda: answers_again(lab), "an answer", log=host.files, within_s=BACK_WITHIN_S)


def test_a_guest_whose_qemu_hangs_holds_up_no_other(lab: Lab, guest: Guest) -> None:
    source = lab["h1"]
    pid = run_on(source, ["cat", f"/run/libvirt/qemu/{GUEST.name}.pid"]).strip()
    run_on(source, ["kill", "-STOP", pid])
    try:
        found = ask(lab)
        assert verdict(found) == "UNSURE"
        assert "libvirtd about guest" in json.dumps(found), "it says for whom nobody answers"
        assert verdict(ask(lab, name=OTHER.name)) == "CLEAR"
    finally:
        run_on(source, ["kill", "-CONT", pid])
    wait_for(lambda: answers_again(lab), "an answer", log=source.files, within_s=BACK_WITHIN_S)


@pytest.mark.parametrize("name", ["h2", "h3"], ids=["9.0", "11.3"])
def test_no_password_of_the_guest_leaves_its_host(lab: Lab, guest: Guest, name: str) -> None:
    assert "hush-hus" in run_on(lab["h1"], ["virsh", "dumpxml", "--security-info", GUEST.name])
    assert "hush-hus" not in json.dumps(ask(lab, to=name))
    script = f"import sys; {BEGIN}print(begin(sys.argv[1]))"
    cookie = run_on(lab["h1"], [f"{VENV}/bin/python", "-c", script, GUEST.name])
    assert "<qemu-migration>" in cookie
    assert "hush-hus" not in cookie


# As the agent asks it, without the agent.
BEGIN = """
from virt_preflight.agent.sources.live.machine import LiveSource
import json
source = LiveSource("qemu:///system")
def begin(name):
    domains = json.loads(source.libvirt("domains"))
    uuid = next(one["uuid"] for one in domains if one["name"] == name)
    return source.libvirt("begin", uuid, "513", "{}")
"""


# ------------------------------------------------------------------------------------- rights


ASKING = f"""
import sys
{BEGIN}
from virt_preflight.agent.sources import SourceError
for question in (
    lambda: begin("{GUEST.name}"),
    lambda: source.libvirt("compare-cpu", "", "", "", "", "<cpu/>"),
    lambda: source.libvirt("native", "<domain/>"),
):
    try:
        question()
        print("answered")
    except SourceError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def reads_only(lab: Lab) -> Iterator[Host]:
    """A source whose libvirtd lets an ordinary user read and no more."""
    source = lab["h1"]
    conf, kept = "/etc/libvirt/libvirtd.conf", "/tmp/libvirtd.conf"
    perms = 'unix_sock_rw_perms = "0700"\nunix_sock_ro_perms = "0777"\nauth_unix_ro = "none"\n'
    script_on(source, f"cp {conf} {kept}; printf '%s' '{perms}' >>{conf}")
    restart_libvirtd(source)
    try:
        yield source
    finally:
        script_on(source, f"mv {kept} {conf}")
        restart_libvirtd(source)


def restart_libvirtd(host: Host) -> None:
    script_on(host, f"kill $(cat {LIBVIRTD_PID}); while pgrep -x libvirtd; do sleep 0.1; done")
    start_libvirtd(host)


def as_nobody(host: Host, script: str) -> list[str]:
    argv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    return run_on(host, [*argv, f"{VENV}/bin/python", "-c", script]).splitlines()


def test_a_user_who_may_not_connect_is_told_the_right_that_he_lacks(
    guest: Guest, reads_only: Host
) -> None:
    said = as_nobody(reads_only, ASKING)
    assert len(said) == 3
    for line in said:
        assert line.startswith("Unreadable the agent needs the right org.libvirt.unix.manage")
        assert "Permission denied" in line


def test_a_connection_that_only_reads_is_told_to_be_too_little(
    guest: Guest, reads_only: Host
) -> None:
    # libvirt chooses its read-only socket by the flag of the connection, which is ours to set.
    script = "import libvirt; libvirt.open = libvirt.openReadOnly\n" + ASKING
    said = as_nobody(reads_only, script)
    assert len(said) == 3
    for line in said:
        assert line.startswith("Unreadable the agent needs a read-write connection to libvirt")


# ------------------------------------------------------------------------- other hypervisors


def test_another_hypervisor_is_asked_as_deep_as_it_can_be(lab: Lab, guest: Guest) -> None:
    host = lab["h4"]
    conf = "/etc/virt-preflight/agent.toml"
    script_on(
        host,
        f"mkdir -p {conf.rpartition('/')[0]}; echo 'libvirt_uri = \"test:///default\"' >{conf}",
    )
    try:
        restart_agent(host)
        (found,) = ask(lab, to="h4")["hosts"]
        assert found["depth"] == "facts"
        assert "not supported by the connection driver" in found["shallower"]
    finally:
        attempt_on(host, ["rm", "-f", conf])
        restart_agent(host)
