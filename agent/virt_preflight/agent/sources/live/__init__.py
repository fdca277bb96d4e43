"""The live machine: this package alone touches it. Every question is bounded in time."""

from virt_preflight.agent.sources.live.machine import LiveSource

__all__ = ["LiveSource"]
