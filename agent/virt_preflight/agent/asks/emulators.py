"""Whether libvirt may be asked about a guest at all: it runs the emulator that the guest names.

To learn what a QEMU can do libvirt starts it, as QEMU's user, be it for a command line that is
only written or a CPU that is only compared (virQEMUCapsInitQMP, qemu/qemu_capabilities.c). The
guest's XML is the caller's, so the emulator is whatever file he names.
"""

from __future__ import annotations

from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.factstore import Question
from virt_preflight.agent.families.machine import SeenEmulator


def not_run(question: Question) -> str:
    """Why the guest's emulator must not be run; empty when it may."""
    emulator = question.value(SeenEmulator)
    if isinstance(emulator, Unknown):
        return f"whether the emulator may be run: {emulator.why}"
    if isinstance(emulator, SeenEmulator) and emulator.unsafe:
        return f"{emulator.path} is not run: {emulator.unsafe}"
    return ""
