from __future__ import annotations

import time

from tests.agent.fake import FakeSource
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.description import describe
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.sources import Unreached
from virt_preflight.agent.wire import description

DOWN = Unreached("libvirtd cannot be reached: Connection refused")


def test_a_host_without_libvirtd_does_not_say_that_no_guest_runs() -> None:
    found = describe(store(DOWN), host="h1", policy=Policy())
    assert found.domains_running is None
    assert str(DOWN) in found.unlearned["HostTenants"]
    said = description(found, agent_version="1")
    assert (said.domains_running, said.domains_running_unknown) == (0, True)


def test_a_host_on_which_no_guest_runs_says_so() -> None:
    said = description(describe(store("[]"), host="h1", policy=Policy()), agent_version="1")
    assert (said.domains_running, said.domains_running_unknown) == (0, False)


def store(domains: str | Unreached) -> FactStore:
    source = FakeSource(answers={("domains",): domains})
    return FactStore(source=source, catalogue=catalogue(), clock=time.monotonic)
