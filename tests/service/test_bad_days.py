"""What goes wrong on a host costs its answer at most, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.replayed import replayed

PROGRAM = Path(sys.executable).parent / "virt-preflight"


def check(fleet: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "check", "db1", "--unsafe", "--fleet", fleet, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def agents_of(fleet: Path) -> dict[str, int]:
    """Process ids of the recorded hosts' agents, by the name of the host."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode().split("\0")
        except OSError:
            continue
        for word in words:
            if word.startswith(f"unix:{fleet.parent}/"):
                found[Path(word).stem] = int(entry.parent.name)
    return found


def test_a_frozen_agent_is_silent_after_its_time_and_the_others_answer() -> None:
    with replayed(("h1", "h2", "h3")) as fleet:
        os.kill(agents_of(fleet)["h3"], signal.SIGSTOP)
        try:
            started = time.monotonic()
            said = check(fleet, "--timeout", "2")
            took_s = time.monotonic() - started
        finally:
            os.kill(agents_of(fleet)["h3"], signal.SIGCONT)
        assert said.returncode == 0, said.stderr
        assert "no answer within 2 s" in said.stdout
        assert took_s < 20
        assert "h3    CLEAR" in check(fleet).stdout, "it is asked again as soon as it answers"


def test_a_killed_agent_is_listed_with_the_reason() -> None:
    with replayed(("h1", "h2", "h3")) as fleet:
        os.kill(agents_of(fleet)["h3"], signal.SIGKILL)
        said = check(fleet)
        assert said.returncode == 0, said.stderr
        assert "1 did not answer" in said.stdout
        (line,) = [one for one in said.stdout.splitlines() if one.startswith("  h3 ")]
        assert "UNSURE" in line
        assert "nobody listens" in line or "refused" in line, line


def test_an_interrupted_question_ends_with_130_and_no_word_of_python() -> None:
    with replayed(("h1", "h2")) as fleet:
        os.kill(agents_of(fleet)["h2"], signal.SIGSTOP)
        asking = subprocess.Popen(
            [PROGRAM, "check", "db1", "--fleet", fleet, "--timeout", "30"],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            time.sleep(3)
            asking.send_signal(signal.SIGINT)
            _, told = asking.communicate(timeout=30)
        finally:
            os.kill(agents_of(fleet)["h2"], signal.SIGCONT)
        assert asking.returncode == 130
        assert "Traceback" not in told
