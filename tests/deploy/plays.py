"""Ansible, in an environment of its own, and the playbooks of deploy/ansible played with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.lab.machine import CHECKOUT, cache, digest, run
from tests.lab.roots import locked

ROLES = CHECKOUT / "deploy/ansible"
CONNECTION = Path(__file__).resolve().parent / "connection"


def environment() -> dict[str, str]:
    """In which Ansible's programs are found; made once."""
    wanted = ROLES / "requirements.txt"
    place = cache().parent / f"ansible-{digest(wanted.read_text(), sys.version)}"
    with locked(place.parent / ".ansible.lock"):
        if not (place / "ready").exists():
            run([sys.executable, "-m", "venv", "--clear", place], within_s=120)
            pip = [str(place / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
            run([*pip, "install", "--quiet", "-r", str(wanted)], within_s=600)
            (place / "ready").touch()
    return {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_CONNECTION_PLUGINS": str(CONNECTION),
    }


def played(env: dict[str, str], playbook: str, *words: str, within_s: float = 300) -> str:
    """What a play says; one that fails is a LabError with it."""
    # /usr/bin/python3 has the distribution's python3-apt, which the roles' modules import.
    given = ("-e", "ansible_python_interpreter=/usr/bin/python3", "-e", "ansible_become=false")
    return run(
        ["ansible-playbook", *given, playbook, *words], cwd=ROLES, env=env, within_s=within_s
    )
