"""Where a rehearsal could do harm it is not played, and nothing of the two hosts has changed.

Each guard is met on real hosts: what it guards is there before and after, to the time of its last
change, and the answer says why and how deep it went instead.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.lab import faults, guests, traces
from tests.lab.faults import Fault
from tests.lab.guests import CLUSTER, Disk, Guest, uuid_of
from tests.lab.hosts import Host, Lab, attempt_on, beside, entering, run_on, script_on
from tests.lab.machine import attempt
from tests.lab.programs import TOUCHER
from tests.lab.score import LASTING_S, both, make_disks, parsed
from tests.lab.traces import Watcher

pytestmark = pytest.mark.lab

NAME = "guarded"
ANSWERS_WITHIN_S = 60.0
TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
PLAIN = Guest(name=NAME, disks=(Disk(path=f"/srv/shared/{NAME}.qcow2"),))
SOCKET = f"/srv/shared/{NAME}.sock"
WITH_SOCKET = Guest(
    name=NAME,
    devices=f"<channel type='unix'><source mode='bind' path='{SOCKET}'/>"
    "<target type='virtio' name='org.lab.0'/></channel>",
)
WITH_TPM = Guest(name=NAME, devices=TPM)
SWTPM = "/var/lib/libvirt/swtpm"


@contextlib.contextmanager
def running(lab: Lab, guest: Guest, *arranged: tuple[str, Fault]) -> Iterator[None]:
    """The guest runs on h1, after that was arranged on hosts by their names."""
    done: list[tuple[Host, Fault]] = []
    try:
        for name, fault in arranged:
            done.append((lab[name], fault))
            faults.apply(lab[name], fault)
        make_disks(guest, lab["h1"], lab["h2"])
        guests.start(lab["h1"], guest, lab)
        yield
    finally:
        for name in ("h1", "h2", "h3"):
            guests.remove(lab[name], NAME)
        for host, fault in reversed(done):
            faults.undo(host, fault)
        script_on(lab["h1"], f"rm -f /srv/shared/{NAME}.*")


def argv(lab: Lab, *options: str, to: str = "h2") -> list[str]:
    program = Path(sys.executable).parent / "virt-preflight"
    return [
        *beside(lab),
        *(str(program), "check", NAME, "--from", "h1", "--to", to, "--unsafe"),
        *("--fleet", str(lab.run / "fleet.toml"), "--depth", "rehearsal", "-o", "json"),
        *("--timeout", "15", *options),
    ]


def check(lab: Lab, *options: str, to: str = "h2") -> dict[str, Any]:
    ran = attempt(argv(lab, *options, to=to), within_s=ANSWERS_WITHIN_S, cwd=Path("/"))
    host: dict[str, Any] = parsed(ran)["hosts"][0]
    return host


def traceless(lab: Lab, *options: str) -> dict[str, Any]:
    """The answer, when no lasting trace of the question is left on either host."""
    two = [Watcher(lab["h1"]), Watcher(lab["h2"])]
    try:
        before = both(Watcher.look, two)
        answer = check(lab, *options)
        time.sleep(LASTING_S)
        after = both(Watcher.look, two)
    finally:
        for watcher in two:
            watcher.end()
    assert [
        line
        for side, was, now in zip(traces.SIDES, before, after, strict=True)
        for line in traces.traces(was, now, depth="rehearsal", side=side, guest=NAME)
    ] == []
    assert guests.state_of(lab["h1"], NAME) == "running"
    return answer


def refused(answer: dict[str, Any], why: str) -> None:
    assert answer["depth"] != "rehearsal"
    assert why in answer["shallower"]


# --------------------------------------------------------------------------- what others hold


def test_a_socket_that_is_there_is_left_to_whom_it_belongs(lab: Lab) -> None:
    with running(lab, WITH_SOCKET):
        was = script_on(lab["h1"], f"stat -c %i {SOCKET}")
        refused(traceless(lab), f"the socket {SOCKET} is there")
        assert script_on(lab["h1"], f"stat -c %i {SOCKET}") == was


def test_a_tpm_that_an_earlier_guest_left_is_kept(lab: Lab) -> None:
    left = f"{SWTPM}/{uuid_of(WITH_TPM)}/tpm2/tpm2-00.permall"
    kept = faults.shell(
        "state of a TPM",
        f"mkdir -p {left.rpartition('/')[0]}; echo kept >{left}",
        back=f"rm -rf {SWTPM}/{uuid_of(WITH_TPM)}",
    )
    with running(lab, WITH_TPM, ("h2", kept)):
        refused(traceless(lab), "is there, and libvirt would remove it")
        assert run_on(lab["h2"], ["cat", left]) == "kept\n"


SHARED_SWTPM = faults.shell(
    "the TPMs' state is on a cluster file system",
    f"mkdir -p /srv/shared/swtpm {SWTPM}; chmod 711 /srv/shared/swtpm\n"
    f"bindfs -o subtype=glusterfs,fsname=storage:/swtpm /srv/shared/swtpm {SWTPM}",
    back=f"umount {SWTPM}; rm -rf /srv/shared/swtpm",
)


def test_the_state_of_a_tpm_on_shared_storage_is_kept_from_a_libvirt_that_would_remove_it(
    lab: Lab,
) -> None:
    with running(lab, WITH_TPM, ("h1", SHARED_SWTPM), ("h2", SHARED_SWTPM)):
        state = f"find {SWTPM}/{uuid_of(WITH_TPM)} -type f | sort"
        was = script_on(lab["h1"], state)
        assert was
        # The guest's own firmware writes to its TPM while it boots.
        resting = f"find {SWTPM}/{uuid_of(WITH_TPM)} -type f -printf '%p %s %T@\\n' | sort"
        script_on(
            lab["h1"],
            f"for _ in $(seq 10); do was=$({resting}); sleep 3; "
            f'[ "$was" != "$({resting})" ] || exit 0; done; exit 1',
        )
        refused(traceless(lab), "a libvirt before 9.1 removes the TPM's state there")
        assert script_on(lab["h1"], state) == was


# ------------------------------------------------------------------------------- what is given back


MADE = "/srv/shared/guarded"
BOOTED = Guest(
    name=NAME,
    os=f"<kernel>{MADE}.kernel</kernel><initrd>{MADE}.initrd</initrd>",
    devices=f"<serial type='file'><source path='{MADE}.log' append='on'/></serial>",
)
OWNED = ("kernel", "initrd", "log")


def test_kernel_initrd_and_log_are_given_back_to_whom_they_belonged(lab: Lab) -> None:
    user = faults.qemu_user("libvirt-qemu")
    files = faults.shell(
        "files of somebody's",
        f"{faults.kernel(f'{MADE}.kernel').do}; truncate -s 64K {MADE}.initrd {MADE}.log",
        back=f"rm -f {MADE}.*",
    )
    with running(lab, BOOTED, ("h1", user), ("h2", user), ("h1", files)):
        owners = "stat -c %u:%g " + " ".join(f"{MADE}.{name}" for name in OWNED)
        was = script_on(lab["h1"], owners)
        assert was != "0:0\n" * len(OWNED), "the running guest's are QEMU's"
        assert traceless(lab)["depth"] == "rehearsal"
        assert script_on(lab["h1"], owners) == was


# ---------------------------------------------------------------------------------- what is copied


COPIED = Guest(name=NAME, disks=(Disk(path=f"{CLUSTER}/{NAME}.qcow2"),))
OWN = Guest(name=NAME, disks=(Disk(path=f"/var/lib/libvirt/images/{NAME}.qcow2"),))


@pytest.mark.parametrize("there", ["absent", "present"])
def test_an_image_for_a_copy_goes_only_if_it_was_not_there(lab: Lab, there: str) -> None:
    image = faults.image(OWN.disks[0].path)
    arranged = (("h2", image),) if there == "present" else ()
    with running(lab, OWN, *arranged):
        assert traceless(lab, "--copy-storage-all")["depth"] == "rehearsal"
        assert (lab["h2"].files / OWN.disks[0].path.lstrip("/")).exists() is (there == "present")
        script_on(lab["h1"], f"rm -f {OWN.disks[0].path}")


def test_a_copy_is_not_rehearsed_where_nobody_can_look_for_its_image(lab: Lab) -> None:
    """A FUSE server that does not answer: whoever looks at a file of it waits."""
    pid = "pgrep -f '[b]indfs .*/srv/cluster'"
    with running(lab, COPIED):
        script_on(lab["h2"], f"kill -STOP $({pid})")
        try:
            answer = check(lab, "--copy-storage-all")
        finally:
            script_on(lab["h2"], f"kill -CONT $({pid})")
        assert answer["verdict"] == "UNSURE"
        told = json.dumps(answer)
        assert "could not be told" in told or "not answered" in told, told
        assert guests.state_of(lab["h2"], NAME) == "absent"


# ----------------------------------------------------------------------------------- one at a time


def test_of_two_rehearsals_at_once_one_is_played(lab: Lab) -> None:
    with running(lab, PLAIN):
        for _ in range(3):
            with ThreadPoolExecutor(max_workers=2) as pool:
                answers = list(pool.map(lambda _: check(lab), range(2)))
            # Who asks while the other's guest waits there is told so: a move would now be refused.
            blockers = {
                finding["check"]
                for answer in answers
                for finding in answer["findings"]
                if finding["severity"] == "BLOCKER"
            }
            assert blockers <= {"tenants.already-there"}
            whys = [answer["shallower"] or "" for answer in answers]
            if any("another rehearsal" in why for why in whys):
                break
        else:
            pytest.fail(f"they never met: {answers}")
        assert guests.state_of(lab["h1"], NAME) == "running"
        assert guests.state_of(lab["h2"], NAME) == "absent"
        assert check(lab)["depth"] == "rehearsal"


SLOW = Guest(
    name=NAME,
    memory_mib=128,
    disks=(Disk(path=f"/srv/shared/{NAME}.raw", format="raw", on="nowhere"),),
)


@pytest.mark.parametrize("there", ["h2", "h3"], ids=["to where it moves", "elsewhere"])
def test_a_guest_that_is_really_moving_is_left_alone(lab: Lab, there: str) -> None:
    program = faults.booting(SLOW.disks[0].path, TOUCHER)
    source = lab["h1"]
    with running(lab, SLOW, ("h1", program)):
        faults.apply(source, faults.resident(NAME, mib=90))
        run_on(source, ["virsh", "-q", "migrate-setspeed", NAME, "2"])
        move = ["virsh", "-q", "migrate", "--live", "--p2p", "--unsafe", NAME]
        moving = subprocess.Popen([*entering(source), *move, "qemu+tcp://h2/system"])
        try:
            until = time.monotonic() + 20
            while "Outgoing migration" not in (
                attempt_on(source, ["virsh", "domjobinfo", NAME], within_s=20).out
            ):
                assert time.monotonic() < until, "it does not move"
                time.sleep(0.2)
            answer = check(lab, to=there)
            assert answer["depth"] != "rehearsal" or answer["verdict"] == "BLOCKED"
            assert moving.poll() is None, "the real migration was ended"
            job = run_on(source, ["virsh", "domjobinfo", NAME])
            assert "Outgoing migration" in job
            run_on(source, ["virsh", "-q", "migrate-setspeed", NAME, "8000"])
            assert moving.wait(timeout=60) == 0
        finally:
            moving.kill()
            moving.wait(timeout=10)
        assert guests.state_of(lab["h2"], NAME) == "running"
        assert guests.state_of(source, NAME) == "absent"
