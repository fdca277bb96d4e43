import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.controller.fakes import Attends, Hangs, Script, running
from tests.controller.samples import destination, source
from virt_preflight.controller import cli
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.exits import Exit
from virt_preflight.v1 import agent_pb2

PROGRAM = [sys.executable, "-c", "from virt_preflight.controller.cli import main; main()"]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a fleet or a setting of the machine it runs on."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("VIRT_PREFLIGHT_FLEET", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def complaint(capsys: pytest.CaptureFixture[str], code: Exit, *arguments: str) -> str:
    """The one line on stderr; anything else is a failure."""
    assert cli.run(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("virt-preflight: ")
    assert err.count("\n") == 1
    return err.removeprefix("virt-preflight: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], "No such command 'frob'"),
        (["check"], "check: name a domain, or give the XML of one with --xml FILE"),
        (["check", ""], "is empty"),
        (["check", "db1", "--to", ""], "'--to': is empty"),
        (["check", "db1", "--to", "h1,,h2"], "'--to': is empty"),
        (["check", "db1", "--live", "--offline"], "--live and --offline exclude each other"),
        (["check", "db1", "--direct", "--p2p"], "--direct and --p2p exclude each other"),
        (["check", "db1", "--postcopy", "--suspend"], "--suspend and --postcopy exclude"),
        (["check", "db1", "--dname", "a/b"], "'--dname': a/b has a slash"),
        (["check", "db1", "--dname", "a\nb"], "'--dname': a\\x0ab has a line feed"),
        (["check", "db1", "--depth", "deep"], "'deep' is not one of 'facts', 'libvirt', 'trial'"),
        (["check", "db1", "--timeout", "nan"], "nan is not a number of seconds"),
        (["check", "db1", "--timeout", "0"], "0 is not a number of seconds"),
        (["check", "db1", "--timeout", "1e99"], "1e99 is not a number of seconds"),
        (["check", "db1", "-o", "xml"], "'xml' is not one of 'table', 'wide'"),
        (["check", "db1", "--server", "x:y:1"], "--server x:y:1: wanted HOST"),
        (["check", "db1", "--server", "x", "--hosts", "h"], "--hosts and --server exclude"),
        (
            ["check", "db1", "--allow", "bees"],
            "'--allow': nothing is called bees, only hooks, open-",
        ),
        (["check", "db1", "--allow", "hooks,"], "'--allow': is empty"),
        (["check", "db1", "--label", "rack"], "rack is not KEY=VALUE"),
        (["check", "db1", "db2"], "unexpected extra argument"),
        (["check", "db\udcff1"], "db\\udcff1 is not UTF-8"),
        (["check", "db1", "--hosts", "h1", "--fleet", "f"], "--hosts and --fleet exclude"),
        (["check", "db1", "--hosts", "h1,h1"], "--hosts: host h1 is listed more than once"),
        (["check", "db1", "--hosts", "h1", "--to", "h2"], "--to h2: not in the fleet (h1)"),
        (["serve", "--listen", "nowhere"], "--listen nowhere: wanted HOST:PORT"),
        (["explain"], "Missing argument 'CHECK'"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in complaint(capsys, Exit.USAGE, *arguments)


def test_a_guest_from_a_file_has_no_host_to_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.xml").write_text("<domain/>")
    said = complaint(capsys, Exit.USAGE, "check", "--xml", "x.xml", "--from", "h1", "--hosts", "h1")
    assert said.startswith("--from: a domain from a file runs nowhere yet")


def test_no_fleet_at_all_says_where_it_was_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(capsys, Exit.CANNOT_RUN, "check", "db1")
    assert "$VIRT_PREFLIGHT_FLEET (not set)" in said
    assert ".config/virt-preflight/fleet.toml" in said
    assert "/etc/virt-preflight/fleet.toml" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "bad.xml: No such file or directory"),
        (b"", "bad.xml: is empty"),
        (b" \n", "bad.xml: is empty"),
        (b"<domain>\n\xff\xfe", "bad.xml: not UTF-8 (at line 2)"),
        (b"x" * (10 * 1024 * 1024 + 1), "bad.xml: larger than 10 MiB"),
    ],
)
@pytest.mark.parametrize("domain", [[], ["db1"]])
def test_a_file_that_cannot_be_used_is_1(
    content: bytes | None,
    said: str,
    domain: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "bad.xml").write_bytes(content)
    arguments = ["check", *domain, "--xml", "bad.xml", "--hosts", "h1"]
    assert complaint(capsys, Exit.CANNOT_RUN, *arguments) == said


def test_a_directory_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(capsys, Exit.CANNOT_RUN, "check", "--xml", ".", "--hosts", "h1")
    assert said == ".: Is a directory"
    said = complaint(capsys, Exit.CANNOT_RUN, "check", "db1", "--fleet", str(tmp_path))
    assert said == f"{tmp_path}: Is a directory"


def test_a_broken_fleet_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text("[[host]]\nname = h1\n")
    monkeypatch.setenv("VIRT_PREFLIGHT_FLEET", str(file))
    said = complaint(capsys, Exit.CANNOT_RUN, "hosts")
    assert said.startswith(f"{file}: ")
    assert "line 2" in said


def test_nobody_to_list_the_checks_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    with running(absent=("h1",)) as fleet:
        for words in (["checks"], ["explain", "nics.bridge-absent"]):
            said = complaint(capsys, Exit.CANNOT_RUN, *words, "--hosts", fleet.hosts)
            assert said.startswith("no agent lists its checks: h1: no such socket. Start virt-")


def test_no_command_shows_the_help_and_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == Exit.USAGE
    assert "Usage: virt-preflight" in capsys.readouterr().err


def test_help_and_version_are_0(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["--version"], ["check", "-h"]):
        assert cli.run(words) == Exit.OK
    assert "130  interrupted" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from virt_preflight.controller import cli; cli.run(['check', '--help']);"
        "heavy = {'grpc', 'rich', 'msgspec', 'yaml', 'google.protobuf', 'asyncio',"
        " 'virt_preflight.controller.answers', 'virt_preflight.controller.ranking'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_the_shell_can_complete() -> None:
    environ = os.environ | {
        "_VIRT_PREFLIGHT_COMPLETE": "bash_complete",
        "COMP_WORDS": "virt-preflight ch",
        "COMP_CWORD": "1",
    }
    run = subprocess.run(PROGRAM, capture_output=True, text=True, check=False, env=environ)
    assert run.stdout.split() == ["plain,check", "plain,checks"]


def _interruptible(command: list[str]) -> "subprocess.Popen[bytes]":
    """As from a terminal, even where the tests themselves run in the background."""
    return subprocess.Popen(
        ["env", "--default-signal=INT", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_an_interrupt_is_130_in_one_line() -> None:
    with running(source(ListDomains=Hangs())) as fleet:
        command = [*PROGRAM, "check", "db1", "--hosts", fleet.hosts, "--timeout", "20"]
        with _interruptible(command) as run:
            _wait_until(lambda: bool(fleet["h1"].heard))
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=20)
    assert (run.returncode, out) == (130, b"")
    assert err.strip() == b"virt-preflight: interrupted"


@pytest.mark.parametrize(
    ("attends", "played", "moment"),
    [
        (Attends(ready=False), Hangs(), "AttendRehearsal"),
        (Attends(), Hangs(), "RehearseDryRun"),
        (Attends(tidies=False), agent_pb2.RehearseDryRunResponse(), "ended"),
    ],
    ids=["while the destination gets ready", "while it is played", "while it tidies up"],
)
def test_an_interrupted_rehearsal_ends_at_once_and_the_destination_learns_it(
    attends: Attends, played: Script, moment: str
) -> None:
    with running(
        source(RehearseDryRun=played), destination("h2", AttendRehearsal=attends)
    ) as fleet:
        command = [*PROGRAM, "check", "db1", "--hosts", fleet.hosts, "--timeout", "120"]
        command += ["--depth", "rehearsal"]
        heard = [fleet["h1"].heard, fleet["h2"].heard]
        with _interruptible(command) as run:
            _wait_until(lambda: moment in (method for one in heard for method, _ in one))
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=20)
        _wait_until(lambda: bool(fleet["h2"].requests("over")))
    assert (run.returncode, out) == (130, b"")
    assert err.strip() == b"virt-preflight: interrupted"


# Hands the signal to a thread that is not the main one, as the kernel may.
ELSEWHERE = """
import signal, sys, threading
from virt_preflight.controller import cli

def interrupt():
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
sys.exit(cli.run(sys.argv[1:]))
"""


def test_an_interrupt_is_noticed_though_the_loop_sleeps_and_another_thread_was_told() -> None:
    with running(source(ListDomains=Hangs())) as fleet:
        command = [sys.executable, "-c", ELSEWHERE, "check", "db1", "--hosts", fleet.hosts]
        command += ["--timeout", "120"]
        with _interruptible(command) as run:
            _wait_until(lambda: bool(fleet["h1"].heard))
            time.sleep(0.2)  # the loop has gone to sleep by then
            _, err = run.communicate(b"\n", timeout=20)
    assert (run.returncode, err.strip()) == (130, b"virt-preflight: interrupted")


def test_whom_the_shell_has_ignore_interrupts_ignores_them() -> None:
    with running(source(ListDomains=Hangs())) as fleet:
        line = shlex.join([*PROGRAM, "check", "db1", "--hosts", fleet.hosts, "--timeout", "3"])
        with subprocess.Popen(
            ["sh", "-c", f"trap '' INT; exec {line}"], stdout=subprocess.PIPE
        ) as run:
            _wait_until(lambda: bool(fleet["h1"].heard))
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=20)
    assert run.returncode == 5


def test_a_reader_that_leaves_early_is_no_error() -> None:
    with running(source(), destination("h2")) as fleet:
        line = (
            f"{shlex.join(PROGRAM)} check db1 --hosts {fleet.hosts} | true; echo ${{PIPESTATUS[0]}}"
        )
        run = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("0\n", "")


def test_a_full_disk_is_told() -> None:
    with running(source(), destination("h2")) as fleet, Path("/dev/full").open("w") as full:
        command = [*PROGRAM, "check", "db1", "--hosts", fleet.hosts]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == "virt-preflight: standard output: No space left on device\n"


def test_a_terminal_that_knows_no_utf_8_gets_escapes_and_no_traceback() -> None:
    with running(source(), destination("h2")) as fleet:
        run = subprocess.run(
            [*PROGRAM, "check", "db1", "--hosts", fleet.hosts],
            capture_output=True,
            check=False,
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
        )
    assert run.returncode == 0
    assert b"db1 on h1 \\xb7 4 vCPUs" in run.stdout


def test_a_terminal_sees_colours_and_a_counter_and_a_pipe_sees_neither() -> None:
    with running(source(), destination("h2")) as fleet:
        command = [*PROGRAM, "check", "db1", "--hosts", fleet.hosts]
        on_terminal = _on_a_terminal(command, {})
        without_colour = _on_a_terminal(command, {"NO_COLOR": "1"})
        piped = subprocess.run(command, capture_output=True, check=False)
    assert b"\x1b[32mCLEAR" in on_terminal
    assert b"looking for db1: 2 of 2 hosts" in on_terminal
    assert b"\x1b[32m" not in without_colour
    assert b"\x1b" not in piped.stdout
    assert piped.stderr == b""


def _on_a_terminal(command: list[str], environ: dict[str, str]) -> bytes:
    ours, theirs = pty.openpty()
    settings = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    with subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env=settings | {"TERM": "xterm"} | environ
    ) as run:
        os.close(theirs)
        said = b"".join(iter(lambda: _read(ours), b""))
        run.wait(timeout=20)
    os.close(ours)
    return said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO when the last writer has gone
        return b""


def _wait_until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_each_command_s_help_says_what_its_exit_codes_mean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command, of_five in (
        ("check", "5    cannot say: no host can take it"),
        ("hosts", "5    cannot say: no host answered"),
    ):
        assert cli.run([command, "--help"]) == Exit.OK
        assert of_five in capsys.readouterr().out
    for command in ("checks", "explain"):
        assert cli.run([command, "--help"]) == Exit.OK
        assert "1    could not run: no host answered" in capsys.readouterr().out


def test_the_help_says_what_each_depth_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check", "--help"]) == Exit.OK
    said = capsys.readouterr().out
    for depth in Depth:
        assert f"\n  {depth:11}" in said or f"\n    {depth:11}" in said
    assert max(map(len, said.splitlines())) <= 80
