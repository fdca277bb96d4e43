"""Hundreds of hosts announce themselves at the same moment, and come back to a new controller."""

import subprocess
from pathlib import Path

import grpc
import pytest

from tests.service import herd
from tests.service.controllers import PROGRAM, until
from tests.service.test_announcing import Visitor

HOSTS = 400
FULL = (
    "no room for more than 3: the limit of open files is 70 (LimitNOFILE= of the unit, ulimit -n)"
)


def test_hundreds_of_hosts_are_known_cost_little_and_come_back_to_a_new_controller() -> None:
    # Raises where they are not all known, or not all back.
    herd.more_files(herd.FILES_PER_HOST * HOSTS + herd.OTHER_FILES)
    found = herd.measure(HOSTS, processes=2, watched_s=3, every_s=3)
    # One file for its stream, one for the connection by which it is asked, and no others.
    assert found.files <= found.files_at_rest + herd.FILES_PER_HOST * HOSTS + 16
    # About 85 were measured: more than this would not fit into the unit's MemoryMax.
    assert found.host_kib < 190


def test_where_open_files_are_too_few_whoever_is_turned_away_is_told_and_so_is_the_log(
    tmp_path: Path,
) -> None:
    listen, log = f"unix:{tmp_path}/c", tmp_path / "log"
    few = ["sh", "-c", 'ulimit -n 70 && exec "$@"', "sh", str(PROGRAM), "serve"]
    serve = [*few, "--listen", listen, "--hosts", "h1=unix:/none"]
    with log.open("w") as written, subprocess.Popen(serve, stderr=written) as service:
        try:
            until(lambda: "answers at" in log.read_text(), within_s=60)
            visitors = [Visitor(listen) for _ in range(3)]
            for number, visitor in enumerate(visitors):
                visitor.comes(f"a{number}")
            for _ in range(2):
                with pytest.raises(grpc.RpcError) as refused:
                    Visitor(listen).comes("a3")
                assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert refused.value.details() == f"not kept: {FULL}"
            for visitor in visitors:
                visitor.goes()
        finally:
            service.kill()
    assert log.read_text().count(FULL) == 1
