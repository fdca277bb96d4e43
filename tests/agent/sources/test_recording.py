from pathlib import Path

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.sources import (
    BEYOND_LISTS,
    Absent,
    FileStat,
    Refused,
    Unreached,
    Unreadable,
    User,
    Want,
)
from virt_preflight.agent.sources.recording import (
    FORMAT,
    BadRecording,
    Recorder,
    Recording,
    load,
    save,
)

STAT = FileStat(kind="file", size_bytes=7, mode=0o644, uid=1, gid=2, device=3, inode=4)
QEMU = User(name="qemu", uid=107, gid=107, groups=(36, 107))


def recorded() -> Recording:
    """What a recorder kept of a host, errors included."""
    recorder = Recorder(
        source=FakeSource(
            texts={"/proc/meminfo": "MemTotal: 1 kB\n", "/etc/shadow": Unreadable("denied")},
            directories={"/sys/class/net": ("br0", "lo")},
            stats={"/img": STAT},
            mays={("/img", Want.READ, "qemu"): True},
            users={"qemu": QEMU},
            reaches={("nas", 10809): Refused("connection refused")},
            answers={
                ("domain-capabilities", "", "x86_64", "q35", "kvm"): "<domainCapabilities/>",
                ("hostname",): Unreached("connection refused"),
            },
        )
    )
    recorder.text("/proc/meminfo")
    recorder.names("/sys/class/net")
    recorder.stat("/img")
    recorder.may("/img", Want.READ, QEMU)
    recorder.user("qemu", "")
    recorder.libvirt("domain-capabilities", "", "x86_64", "q35", "kvm")
    for unanswered in (
        lambda: recorder.text("/etc/shadow"),
        lambda: recorder.stat("/nowhere"),
        lambda: recorder.reach("nas", 10809),
        lambda: recorder.libvirt("hostname"),
    ):
        with pytest.raises((Absent, Refused, Unreadable)):
            unanswered()
    return Recording(
        host="h1",
        recorded_at="2026-11-23T10:00:00Z",
        agent_version="0.1.0",
        answers=recorder.answers,
    )


def test_a_recording_answers_as_its_host_did(tmp_path: Path) -> None:
    save(recorded(), tmp_path / "h1")
    host = load(tmp_path / "h1")
    assert host.host == "h1"
    assert host.text("/proc/meminfo") == "MemTotal: 1 kB\n"
    assert host.names("/sys/class/net") == ("br0", "lo")
    assert host.stat("/img") == STAT
    assert host.may("/img", Want.READ, QEMU)
    assert host.user("qemu", "") == QEMU
    assert host.libvirt("domain-capabilities", "", "x86_64", "q35", "kvm").startswith("<domain")
    with pytest.raises(Unreadable, match="denied"):
        host.text("/etc/shadow")
    with pytest.raises(Absent, match="/nowhere"):
        host.stat("/nowhere")
    with pytest.raises(Refused, match="connection refused"):
        host.reach("nas", 10809)
    with pytest.raises(Unreached, match="connection refused"):
        host.libvirt("hostname")


def test_what_was_not_asked_is_not_made_up(tmp_path: Path) -> None:
    save(recorded(), tmp_path)
    with pytest.raises(Unreadable, match="not in the recording: stat /other"):
        load(tmp_path).stat("/other")


def test_what_its_lists_lack_a_recorded_host_has_not() -> None:
    for question in BEYOND_LISTS:
        with pytest.raises(Absent):
            recorded().libvirt(question, "lan")


def test_raising_again_and_again_keeps_nothing(tmp_path: Path) -> None:
    host = recorded()
    with pytest.raises(Absent) as caught:
        host.stat("/nowhere")
    assert caught.value is not host.answers["stat", "/nowhere"]


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (None, "recording.json: No such file or directory"),
        ("{", "recording.json: "),
        ('{"format": 1}', "missing required field"),
        (
            '{"format": 99, "host": "h", "recordedAt": "", "agentVersion": "", "answers": []}',
            f"format 99, this agent reads {FORMAT}",
        ),
        (
            '{"format":1, "host":"", "recordedAt":"", "agentVersion":"", "answers":[], "x":1}',
            "unknown field `x`",
        ),
    ],
)
def test_a_bad_index_is_named_with_its_fault(tmp_path: Path, index: str | None, why: str) -> None:
    if index is not None:
        (tmp_path / "recording.json").write_text(index)
    with pytest.raises(BadRecording) as caught:
        load(tmp_path)
    assert why in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"asked": ["text", "/x"], "file": "answers/gone"}', "No such file or directory"),
        ('{"asked": ["text", "/x"], "file": "../../etc/passwd"}', "outside the recording"),
        ('{"asked": ["dance"], "value": 1}', "answer 0: nobody asks 'dance'"),
        ('{"asked": ["stat", "/x"], "value": {"kind": 7}}', "answer 0: "),
        ('{"asked": ["stat", "/x"]}', "neither value nor file nor error"),
        ('{"asked": ["stat", "/x"], "error": "OSError"}', "no such error as 'OSError'"),
    ],
)
def test_a_bad_answer_is_named_with_its_number(tmp_path: Path, answer: str, why: str) -> None:
    (tmp_path / "recording.json").write_text(
        f'{{"format": 1, "host": "h", "recordedAt": "", "agentVersion": "", "answers": [{answer}]}}'
    )
    with pytest.raises(BadRecording, match=r".") as caught:
        load(tmp_path)
    assert why in str(caught.value)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(BadRecording, match="is not empty"):
        save(recorded(), tmp_path)
