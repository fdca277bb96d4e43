"""The machine's CPU: what guests really get of it, and how a host comes to have a lesser one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.lab import roots
from tests.lab.machine import HERE, Ran, cache, digest, run

Accelerator = Literal["kvm", "tcg"]

# Where a host has the library that hides features, if it hides any; and the one that would make
# its CPU a lesser one, which every host has.
LESSER = "/etc/lesser_cpu.so"
SPARE_LESSER = "/etc/lesser_cpu.spare.so"
# As QEMU and libvirt call it: (leaf, subleaf, register, bit), from the manuals of Intel and AMD; in
# the order in which we would rather miss them.
CPUID = {
    "gfni": (7, 0, "ECX", 8),
    "clwb": (7, 0, "EBX", 24),
    "clflushopt": (7, 0, "EBX", 23),
    "vaes": (7, 0, "ECX", 9),
    "vpclmulqdq": (7, 0, "ECX", 10),
    "rdpid": (7, 0, "ECX", 22),
    "sha-ni": (7, 0, "EBX", 29),
    "adx": (7, 0, "EBX", 19),
    "bmi2": (7, 0, "EBX", 8),
    "avx2": (7, 0, "EBX", 5),
}
ARCH_CAPABILITIES = {"arch-capabilities": (7, 0, "EDX", 29)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Silicon:
    """What guests really get of this machine's CPU."""

    accelerator: Accelerator
    lesser: tuple[str, ...] = ()  # two features that KVM offers and that a lesser host will not
    broken: tuple[str, ...] = ()  # offered, but a guest that takes them does not start

    def hidden_on(self, cpu: Literal["full", "lesser"]) -> tuple[str, ...]:
        """What a host with such a CPU does not show."""
        return (*self.broken, *(self.lesser if cpu == "lesser" else ()))


def look_at_cpu(attempt: Callable[[Sequence[str]], Ran]) -> Silicon:
    """Whether a guest really runs under KVM: a /dev/kvm alone says little inside another VM.

    Some virtual machines' KVM offers arch-capabilities and then refuses to set its MSR: every
    guest with the host's CPU dies. That feature is hidden then, on all hosts alike.
    """
    for cpu, broken in (("host", ()), ("host,-arch-capabilities", tuple(ARCH_CAPABILITIES))):
        offered = features_of_running_guest(attempt, cpu)
        if offered is not None:
            lesser = tuple(name for name in CPUID if name in offered)[:2]
            return Silicon(accelerator="kvm", lesser=lesser, broken=broken)
    return Silicon(accelerator="tcg")


def features_of_running_guest(
    attempt: Callable[[Sequence[str]], Ran], cpu: str
) -> frozenset[str] | None:
    """Run a guest with this CPU under KVM for a moment; None if it does not really run."""
    qemu = f"qemu-system-x86_64 -machine q35,accel=kvm -cpu {cpu} -m 16 -display none -qmp stdio"
    expand = {"type": "full", "model": {"name": "host"}}
    asked = (
        {"execute": "qmp_capabilities"},
        {"execute": "query-cpu-model-expansion", "arguments": expand},
        {"execute": "query-status"},
        {"execute": "quit"},
    )
    first, *rest = (shlex.quote(json.dumps(question)) for question in asked)
    script = f"(echo {first}; sleep 0.6; for q in {' '.join(rest)}; do echo $q; done) | {qemu}"
    ran = attempt(["timeout", "15", "sh", "-c", script])
    answers = [json.loads(line) for line in ran.out.splitlines() if line.startswith("{")]
    returned = [answer["return"] for answer in answers if "return" in answer]
    if not any(answer.get("status") == "running" for answer in returned):
        return None
    properties = next(answer["model"]["props"] for answer in returned if "model" in answer)
    return frozenset(name for name, value in properties.items() if value is True)


def lesser_cpu_library(features: Iterable[str]) -> Path:
    """The library that hides them, compiled once."""
    source = HERE / "lesser_cpu.c"
    known = CPUID | ARCH_CAPABILITIES
    bits = ", ".join(
        f"{{{leaf}, {subleaf}, {register}, {bit}}}"
        for leaf, subleaf, register, bit in (known[name] for name in features)
    )
    place = cache() / f"lesser-{digest(source.read_bytes(), bits)}"

    def build(at: Path) -> None:
        flags = ["-shared", "-fPIC", "-O2", "-Wall", "-nostdlib", f"-DCLEAR={bits}"]
        run(["gcc", *flags, "-o", at / "lesser_cpu.so", source])

    return roots.built_once(place, build) / "lesser_cpu.so"
