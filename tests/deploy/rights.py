"""The rules for polkit as they are installed, and each of them without one of its rights."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.booted import Machine
from tests.lab.machine import CHECKOUT

RULE = CHECKOUT / "deploy/polkit/60-virt-preflight.rules"
TRIAL_RULE = CHECKOUT / "deploy/trial/59-virt-preflight-trial.rules"
INSTALLED = "usr/share/polkit-1/rules.d/60-virt-preflight.rules"
TRIAL_INSTALLED = "etc/polkit-1/rules.d/59-virt-preflight-trial.rules"
REHEARSAL_RULE = CHECKOUT / "deploy/rehearsal/59-virt-preflight-rehearsal.rules"
REHEARSAL_INSTALLED = "etc/polkit-1/rules.d/59-virt-preflight-rehearsal.rules"
AGENT = "virt-preflight-agent.service"
JANITOR = "virt-preflight-janitor.service"
# libvirt refuses nobody for want of these: it leaves the object out of its lists, as if there
# were none, and tells nobody that it did.
HIDING = re.compile(r"org\.libvirt\.api\.(?:domain|network|nwfilter|storage-pool|secret)\.getattr")


def rights(rule: Path) -> list[str]:
    """All that the rule gives."""
    found = re.findall(r'^ +"(org\.libvirt\.[\w.-]+)",?$', rule.read_text(), re.MULTILINE)
    assert found, rule
    return found


@contextlib.contextmanager
def without(
    machine: Machine, right: str, rule: str = INSTALLED, unit: str = AGENT
) -> Iterator[None]:
    """The host's rule gives all but that; polkitd has read it when this is entered."""
    place = machine.files / rule
    before = place.read_text()
    # Its line; a comma before "]" is one too many for no JavaScript since 2009.
    place.write_text(re.sub(rf'^ +"{re.escape(right)}",?\n', "", before, flags=re.MULTILINE))
    try:
        _settled(machine, right, unit, given=False)
        yield
    finally:
        place.write_text(before)
        _settled(machine, right, unit, given=True)


def _settled(machine: Machine, right: str, unit: str, *, given: bool) -> None:
    """polkitd sees by itself that a rule is another."""
    pid = machine.run("systemctl", "show", "-p", "MainPID", "--value", unit).strip()
    until = time.monotonic() + 20
    standin = ("--detail", "domain_name", "virt-preflight-dry-run-00000000")
    asked = ("pkcheck", "--process", pid, "--action-id", right, *standin)
    while (machine.attempt(*asked).code == 0) is not given:
        assert time.monotonic() < until, f"polkitd has not read its rules anew: {right}"
        time.sleep(0.1)
