"""NUMA nodes and CPUs that the destination is told to use."""

from __future__ import annotations

from tests.lab.scenarios.scenario import Scenario, fails, guest, migrates


def tuned(element: str) -> tuple[tuple[str, str], ...]:
    """What the destination is to do otherwise."""
    return (("<os>", f"{element}<os>"),)


SCENARIOS: tuple[Scenario, ...] = (
    fails(
        "numa-node-absent",
        "numa.cell-absent",
        rewrite=tuned("<numatune><memory mode='strict' nodeset='7'/></numatune>"),
        says="NUMA node 7 is unavailable",
    ),
    fails(
        "numa-preferred-node-absent",
        "numa.cell-absent",
        rewrite=tuned("<numatune><memory mode='preferred' nodeset='7'/></numatune>"),
        says="NUMA node 7 is unavailable",
    ),
    migrates(
        "numa-node-there",
        rewrite=tuned("<numatune><memory mode='strict' nodeset='0'/></numatune>"),
    ),
    migrates(
        "numa-cell-bound",
        guest=guest(
            memory_mib=128,
            vcpus=2,
            cpu="<cpu mode='host-model'><numa>"
            "<cell id='0' cpus='0' memory='64' unit='MiB'/>"
            "<cell id='1' cpus='1' memory='64' unit='MiB'/></numa></cpu>",
            top="<numatune><memory mode='strict' nodeset='0'/>"
            "<memnode cellid='1' mode='preferred' nodeset='0'/></numatune>",
        ),
    ),
    fails(
        "numa-cell-node-absent",
        "numa.cell-absent",
        guest=guest(
            memory_mib=128,
            cpu="<cpu mode='host-model'><numa>"
            "<cell id='0' cpus='0' memory='128' unit='MiB'/></numa></cpu>",
        ),
        rewrite=tuned("<numatune><memnode cellid='0' mode='strict' nodeset='7'/></numatune>"),
        says="NUMA node 7 is unavailable",
    ),
    fails(
        "pin-vcpu-absent",
        "pinning.cpu-absent",
        rewrite=tuned("<cputune><vcpupin vcpu='0' cpuset='77'/></cputune>"),
        says="cannot set CPU affinity",
    ),
    # One of the two is there, and the kernel is content with that.
    migrates(
        "pin-vcpu-partly-absent",
        rewrite=tuned("<cputune><vcpupin vcpu='0' cpuset='0,77'/></cputune>"),
    ),
    migrates(
        "pin-vcpu",
        guest=guest(
            top="<cputune><vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='0'/></cputune>"
        ),
    ),
    fails(
        "pin-emulator-absent",
        "pinning.cpu-absent",
        rewrite=tuned("<cputune><emulatorpin cpuset='77'/></cputune>"),
        says="cannot set CPU affinity",
    ),
    fails(
        "pin-iothread-absent",
        "pinning.cpu-absent",
        guest=guest(top="<iothreads>1</iothreads>"),
        rewrite=tuned("<cputune><iothreadpin iothread='1' cpuset='77'/></cputune>"),
        says="cannot set CPU affinity",
    ),
    fails(
        "pin-cpuset-absent",
        "pinning.cpu-absent",
        rewrite=(("<vcpu placement='static'>", "<vcpu placement='static' cpuset='77'>"),),
        says="cannot set CPU affinity",
    ),
    fails(
        "numa-auto",
        "numa.no-numad",
        rewrite=(("<vcpu placement='static'>", "<vcpu placement='auto'>"),),
        says="numad",
    ),
)
