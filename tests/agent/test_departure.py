import json
import time
from pathlib import Path
from typing import Any

from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.departure import departure
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.dryrun import Asked
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Verdict
from virt_preflight.agent.sources import Unreadable
from virt_preflight.agent.sources.recording import Recording, load

H1 = load(Path(__file__).parents[1] / "recordings/h1")


class Busy:
    """A host whose guest is being backed up: Begin waits for that, and then nobody is heard."""

    def __init__(self, host: Recording) -> None:
        self._host = host
        self._deaf = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def libvirt(self, question: str, *arguments: str) -> str:
        if question == "begin" or self._deaf:
            self._deaf = True
            raise Unreadable("no answer from libvirtd about guest db1 within 2 s")
        told = self._host.libvirt(question, *arguments)
        if question == "domain-jobs":
            return json.dumps({**json.loads(told), "job": "backup", "block_jobs": ["vda"]})
        return told


def test_what_keeps_begin_waiting_is_told_though_begin_does_not_answer() -> None:
    told = departure(
        FactStore(source=Busy(H1), catalogue=catalogue(), clock=time.monotonic),
        "db1",
        host="h1",
        policy=Policy(),
        options=MigrationOptions(live=True, p2p=True, unsafe=True),
        asked=Asked(max_age_s=0, depth=Depth.LIBVIRT),
    )
    assert told.report.verdict is Verdict.BLOCKED
    found = {finding.check for finding in told.report.findings}
    assert {"state.job", "state.block-job"} <= found
