"""Files by way of a deputy, in this very process: what it tells, and what it does not."""

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from virt_preflight.agent.sources import Absent, Unreadable, User, Want

pytest.importorskip("libvirt", reason="no libvirt binding on this machine")

from virt_preflight.agent.sources.live import deputy
from virt_preflight.agent.sources.live.machine import LiveSource
from virt_preflight.agent.sources.observer import Failed, Unobserved

NOBODY = User(name="nobody", uid=65534, gid=65534, groups=(65534,))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that others may enter; pytest's own are for their maker alone."""
    made = Path("/tmp") / f"virt-preflight-deputy-{os.getpid()}"
    made.mkdir(mode=0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def source(place: Path) -> deputy.ByDeputy:
    address = str(place / "deputy.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen()
    threading.Thread(target=deputy.serve, args=(listener, LiveSource()), daemon=True).start()
    return deputy.ByDeputy("qemu:///system", address)


def test_it_answers_as_the_machine_does(place: Path, source: deputy.ByDeputy) -> None:
    (place / "image").write_bytes(b"QFI\xfb" + bytes(60))
    (place / "link").symlink_to("image")
    path, live = str(place / "image"), LiveSource()
    assert source.stat(path) == live.stat(path)
    assert source.head(path) == live.head(path)
    assert source.digest(path) == live.digest(path)
    assert source.file_system(path) == live.file_system(path)
    assert source.link(str(place / "link")) == "image"
    assert source.names(str(place)) == ("deputy.sock", "image", "link")
    assert source.may(path, Want.READ, User(name="me", uid=os.geteuid(), gid=os.getegid()))


def test_a_name_that_is_no_text_comes_back_as_it_is(place: Path, source: deputy.ByDeputy) -> None:
    os.close(os.open(os.fsencode(place) + b"/\xff", os.O_CREAT))
    assert "\udcff" in source.names(str(place))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")
def test_it_asks_as_another_user(place: Path, source: deputy.ByDeputy) -> None:
    (place / "image").touch(mode=0o600)
    assert not source.may(str(place / "image"), Want.READ, NOBODY)


def test_an_error_comes_back_as_what_it_was(place: Path, source: deputy.ByDeputy) -> None:
    with pytest.raises(Absent, match="No such file"):
        source.stat(str(place / "gone"))
    with pytest.raises(Unreadable, match="neither a file nor a block device"):
        source.head("/dev/null")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/libvirt/../shadow",
        "/etc/libvirt/secrets/a.base64",
        "/run/libvirt/a.xml",
    ],
)
def test_it_reads_no_file_out_that_is_none_of_its_business(path: str) -> None:
    line = json.dumps({"verb": "text", "path": path}).encode()
    told = json.loads(deputy.answer(LiveSource(), line))
    assert told["error"] == "Unreadable"
    assert "reads no such file out" in told["why"]


@pytest.mark.parametrize(
    "line", [b"", b"\xff\n", b"[]\n", b'{"verb": "open"}\n', b'{"verb": "stat", "path": 5}\n']
)
def test_what_it_does_not_understand_is_answered_so(line: bytes) -> None:
    told = json.loads(deputy.answer(LiveSource(), line))
    assert told["error"] == "Unreadable"
    assert "deputy" in told["why"]


def test_a_deputy_that_is_not_there_leaves_the_question_open(place: Path) -> None:
    source = deputy.ByDeputy("qemu:///system", str(place / "nobody.sock"))
    with pytest.raises(Unreadable, match=r"no word from the deputy at .*nobody\.sock"):
        source.stat(str(place))


def test_a_deputy_that_was_started_anew_is_asked_anew(place: Path) -> None:
    address = str(place / "brief.sock")
    source = deputy.ByDeputy("qemu:///system", address)
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(address)
            listener.listen()
            asked = threading.Thread(target=_answer_once, args=(listener,))
            asked.start()
            assert source.file_system("/") == LiveSource().file_system("/")
            asked.join()
        Path(address).unlink()


def _answer_once(listener: socket.socket) -> None:
    line, _ = listener.accept()
    with line, line.makefile("rb") as heard:
        line.sendall(deputy.answer(LiveSource(), heard.readline()))


class Noted(Unobserved):
    """What an observer was told of the deputy."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Failed | None]] = []

    def deputy_answered(self, call: str, seconds: float, failed: Failed | None) -> None:
        assert seconds > 0
        self.told.append((call, failed))


def test_an_observer_is_told_what_the_deputy_was_asked_and_why_in_vain(place: Path) -> None:
    address, noted = str(place / "odd.sock"), Noted()
    source = deputy.ByDeputy("qemu:///system", address, noted)
    with pytest.raises(Unreadable):
        source.stat("/")
    assert noted.told == [("stat", Failed.UNREACHED)]
    noted.told.clear()
    answers = [
        deputy.answer(LiveSource(), b'{"verb": "file_system", "path": "/"}'),
        deputy.answer(LiveSource(), b'{"verb": "names", "path": "/none"}'),
        deputy.answer(LiveSource(), b'{"verb": "head", "path": "/dev/null"}'),
        b"no JSON\n",
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen()
        answering = threading.Thread(target=_answer_with, args=(listener, answers))
        answering.start()
        source.file_system("/")
        for path, error in (("/none", Absent), ("/dev/null", Unreadable), ("/x", Unreadable)):
            with pytest.raises(error):
                source.names(path)
        answering.join(30)
    # That there is no such file is an answer.
    assert [failed for _, failed in noted.told] == [None, None, Failed.UNREADABLE, Failed.GARBLED]


def _answer_with(listener: socket.socket, answers: list[bytes]) -> None:
    line, _ = listener.accept()
    with line, line.makefile("rb") as heard:
        for answer in answers:
            heard.readline()
            line.sendall(answer)


def test_a_silent_deputy_costs_its_time_and_no_more(place: Path) -> None:
    address = str(place / "silent.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen()
        source = deputy.ByDeputy("qemu:///system", address)
        with source.within(0.2), pytest.raises(Unreadable):
            source.stat("/")
