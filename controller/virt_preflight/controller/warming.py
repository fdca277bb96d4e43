"""Connections to all agents, made ahead of any question, and made again when they break."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from virt_preflight.controller.agents import Agents, Key, key_of
from virt_preflight.controller.fleet import FleetHost
from virt_preflight.controller.roll import Roll

# Connections that are being made at a time, and how long each may take: a fleet that starts, or
# lost its network, is not to be knocked at all at once.
AT_ONCE = 64
WITHIN_S = 5.0
# Between two attempts: at first, and at most. A question does not wait for it: it tries at once.
AGAIN_AFTER_S = 0.5
AGAIN_AT_MOST_S = 10.0
# Up to so much of a wait is left to chance.
JITTER = 0.5
# Hosts seldom come alone.
SETTLED_AFTER_S = 0.2


@asynccontextmanager
async def warmed(roll: Roll, agents: Agents) -> AsyncIterator[None]:
    """While the block lasts, the hosts of the fleet are connected as far as they can be."""
    following = asyncio.create_task(_follow(roll, agents))
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _follow(roll: Roll, agents: Agents) -> None:
    """Whoever comes is connected, whoever goes is let go."""
    gate = asyncio.Semaphore(AT_ONCE)
    task_by_key: dict[Key, asyncio.Task[None]] = {}
    try:
        while True:
            host_by_key = {key_of(host): host for host in roll.fleet.hosts}
            for key in task_by_key.keys() - host_by_key.keys():
                task_by_key.pop(key).cancel()
                await agents.drop(key)
            for key in host_by_key.keys() - task_by_key.keys():
                keeping = _keep_warm(host_by_key[key], agents, gate)
                task_by_key[key] = asyncio.create_task(keeping)
            await roll.changed()
            await asyncio.sleep(SETTLED_AFTER_S)
    finally:
        for task in task_by_key.values():
            task.cancel()
        await asyncio.gather(*task_by_key.values(), return_exceptions=True)


async def _keep_warm(host: FleetHost, agents: Agents, gate: asyncio.Semaphore) -> None:
    wait_s = AGAIN_AFTER_S
    while True:
        async with gate:
            connected = await agents.connected(host, WITHIN_S)
        if connected:
            await agents.lost(host)
            wait_s = AGAIN_AFTER_S
        await asyncio.sleep(wait_s * random.uniform(1 - JITTER, 1))  # noqa: S311 - no secret
        wait_s = min(wait_s * 2, AGAIN_AT_MOST_S)
