"""A storage path on a mount that never answers: it costs its own answers, and nobody else's.

The mount is a file system in user space whose process is stopped. It is in a mount namespace of its
own, with the agent that is asked, so that nothing else on this machine can hang on it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.lab.conftest import give_up
from tests.lab.machine import LabError, install_missing_programs
from tests.service.controllers import until
from virt_preflight.v1 import agent_pb2, agent_pb2_grpc, guest_pb2, report_pb2

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 60
QUESTIONS = 10
# One look at a dead mount may take a second; the rest is for a busy machine.
MORE_S = 20.0


@pytest.fixture(scope="module")
def fuse() -> None:
    """Mounts can be made here; skipped, loudly, where they cannot."""
    if os.geteuid() != 0:
        give_up("no root, so no mount to stop")
    if not Path("/dev/fuse").exists():
        give_up("no /dev/fuse, so no mount to stop")
    try:
        install_missing_programs()
    except LabError as error:
        give_up(str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Storage that can be stopped, storage beside it, and the agents that look at both."""

    path: Path
    mount: int
    agent: int
    looking: tuple[int, ...]
    stub: agent_pb2_grpc.AgentServiceStub

    def stop(self) -> None:
        os.kill(self.mount, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.mount, signal.SIGCONT)

    def threads(self) -> list[int]:
        """How many each of them has that looks at files."""
        return [len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in self.looking]

    def ask(self, *images: str) -> report_pb2.Report:
        """About a guest with those disks, every fact read anew."""
        disks = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
            f"<source file='{self.path}/{image}'/><target dev='vd{letter}' bus='virtio'/></disk>"
            for image, letter in zip(images, "abcdef", strict=False)
        )
        document = (
            "<domain type='kvm'><name>db1</name><memory unit='MiB'>256</memory><vcpu>1</vcpu><os>"
            f"<type arch='x86_64'>hvm</type></os><devices>{disks}</devices></domain>"
        )
        request = agent_pb2.PrepareDryRunRequest(
            guests=[guest_pb2.Guest(domain_xml=document.encode())],
            questions=guest_pb2.Questions(
                depth=guest_pb2.DEPTH_FACTS, max_age=Duration(), only=["disks"]
            ),
        )
        started = time.monotonic()
        (report,) = self.stub.PrepareDryRun(request, timeout=60).reports
        assert time.monotonic() - started < MORE_S
        return report


@pytest.fixture(params=["by itself", "by a deputy"])
def place(request: pytest.FixtureRequest, tmp_path: Path, fuse: None) -> Iterator[Place]:
    for name in ("origin", "mount", "other"):
        (tmp_path / name).mkdir()
    for image in ("origin/a", "origin/b", "other/c"):
        (tmp_path / image).write_bytes(bytes(4096))
    (tmp_path / "link").symlink_to(tmp_path / "mount")
    (tmp_path / "agent.toml").touch()
    words = ["serve", "--config", "agent.toml", "--listen", "unix:agent"]
    with ExitStack() as ending:

        def start(*command: str) -> int:
            started = ending.enter_context(
                subprocess.Popen(
                    command,
                    cwd=tmp_path,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stderr=2,
                )
            )
            ending.callback(started.kill)
            return started.pid

        private = ("unshare", "--mount", "--propagation", "private")
        mount = start(*private, "bindfs", "-f", "origin", "mount")
        table = Path(f"/proc/{mount}/mountinfo")
        until(lambda: f"{tmp_path}/mount " in table.read_text(), READY_WITHIN_S)
        there = ("nsenter", f"--mount=/proc/{mount}/ns/mnt", f"--wdns={tmp_path}", "--")
        program = (sys.executable, "-m", "tests.service.without_libvirt")
        looking = []
        if request.param == "by a deputy":
            looking.append(start(*there, *program, "deputy", "deputy"))
            until((tmp_path / "deputy").exists, READY_WITHIN_S)
            words += ["--deputy", "deputy"]
        agent = start(*there, *program, *words)
        until((tmp_path / "agent").exists, READY_WITHIN_S)
        channel = ending.enter_context(grpc.insecure_channel(f"unix:{tmp_path}/agent"))
        yield Place(
            path=tmp_path,
            mount=mount,
            agent=agent,
            looking=(agent, *looking),
            stub=agent_pb2_grpc.AgentServiceStub(channel),
        )
        # Whoever waits for it could not be ended otherwise.
        os.kill(mount, signal.SIGCONT)


def unlearned(report: report_pb2.Report) -> set[str]:
    """Disks of which something could not be told because the mount did not answer."""
    return {
        one.subject
        for one in report.unanswered
        if "no answer from" in one.why or "has not answered" in one.why
    }


def found(report: report_pb2.Report) -> set[tuple[str, str]]:
    return {(one.check, one.subject) for one in report.findings}


def test_a_mount_that_never_answers_costs_its_own_answers_and_no_thread_more(place: Place) -> None:
    images = ("mount/a", "mount/b", "other/c", "other/gone")
    before = place.ask(*images)
    assert not unlearned(before)
    assert ("disks.missing", "vdd") in found(before)
    place.stop()
    place.ask(*images)
    first = place.threads()
    for _ in range(QUESTIONS):
        during = place.ask(*images)
        assert unlearned(during) == {"vda", "vdb"}
        assert found(during) == found(before)
    assert place.threads() <= [number + 1 for number in first]
    place.go_on()
    until(lambda: not unlearned(place.ask(*images)))
    assert found(place.ask(*images)) == found(before)


def test_a_link_to_such_a_mount_does_not_make_the_disk_that_it_lies_on_hang(place: Place) -> None:
    images = ("link/a", "other/c", "other/gone")
    before = place.ask(*images)
    assert not unlearned(before)
    place.stop()
    for _ in range(3):
        during = place.ask(*images)
        assert unlearned(during) == {"vda"}
        assert found(during) == found(before)
    place.go_on()
    until(lambda: not unlearned(place.ask(*images)))


def test_many_ask_at_once_about_a_mount_that_never_answers(place: Place) -> None:
    place.ask("mount/a")
    place.stop()
    with ThreadPoolExecutor(QUESTIONS) as threads:
        told = list(threads.map(lambda _: place.ask("mount/a", "other/c"), range(4 * QUESTIONS)))
    assert {frozenset(unlearned(one)) for one in told} == {frozenset({"vda"})}
    place.go_on()
    until(lambda: not unlearned(place.ask("mount/a", "other/c")))
