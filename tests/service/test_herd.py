"""Hundreds of hosts announce themselves at the same moment, and come back to a new controller."""

import subprocess

from tests.service import herd
from tests.service.controllers import PROGRAM

HOSTS = 400


def test_hundreds_of_hosts_are_known_cost_little_and_come_back_not_all_at_once() -> None:
    herd.more_files(herd.FILES_PER_HOST * HOSTS + herd.OTHER_FILES)
    found = herd.measure(HOSTS, processes=2, watched_s=3, every_s=3)
    # One file for its stream, one for the connection by which it is asked, and no others.
    assert found.files <= found.files_at_rest + herd.FILES_PER_HOST * HOSTS + 16
    # About 85 were measured: more than this would not fit into the unit's MemoryMax.
    assert found.host_kib < 190
    # A wait before each attempt is chance by half: nobody can have them all come in one second.
    assert found.at_once < HOSTS


def test_where_open_files_are_too_few_for_all_that_is_said_when_it_starts() -> None:
    command = (
        f"ulimit -n 300; exec {PROGRAM} serve --listen unix:/nowhere/c --hosts h1=unix:/nowhere"
    )
    ended = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (
        "room for 118 hosts to announce themselves, not for the 10000 of [limits] announced_hosts:"
        " the limit of open files is 300 (LimitNOFILE= of the unit, ulimit -n)"
    ) in ended.stderr
