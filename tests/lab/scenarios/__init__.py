"""The scenarios: what each expects was seen to happen; where it surprises, a comment says why.

About half of them have to migrate, and many of those look as if they could not: a wrong no is as
bad as a wrong yes.
"""

from __future__ import annotations

from tests.lab.scenarios import (
    classes,
    cpu,
    devices,
    disks,
    firmware,
    machine,
    memory,
    nics,
    nowhere,
    numa,
    odd,
    options,
    owners,
    pairs,
    storage,
    tenants,
    tls,
    unlike,
    versions,
    wants,
)
from tests.lab.scenarios.scenario import Scenario, here

__all__ = ["SCENARIOS", "Scenario", "here"]

FAMILIES = (
    pairs,
    cpu,
    machine,
    memory,
    numa,
    disks,
    storage,
    nics,
    firmware,
    devices,
    tenants,
    owners,
    options,
    versions,
    nowhere,
    tls,
    odd,
    unlike,
    wants,
    classes,
)
SCENARIOS: tuple[Scenario, ...] = tuple(
    scenario for family in FAMILIES for scenario in family.SCENARIOS
)
