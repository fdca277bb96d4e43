"""A network that booted releases share, in a namespace of its own; who asks is there, too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.booted import Machine
from tests.lab.machine import Ran, attempt, instance, run

# 198.18.0.0/15 is for tests between networks (RFC 2544): nobody else's.
HERE = "198.18.77.1"
# What `ip netns exec` puts over /etc (ip-netns(8)).
OVER_ETC = Path("/etc/netns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The namespace that the machines' links end in."""

    namespace: str
    address_by_name: Mapping[str, str]

    def attempt(
        self, *argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Ran:
        """Run a program of this checkout in the third place, by the names of the machines."""
        inside = ("ip", "netns", "exec", self.namespace)
        return attempt([*inside, *map(str, argv)], within_s=90, env=env, cwd=cwd)


@contextlib.contextmanager
def joined(machines: Mapping[str, Machine]) -> Iterator[Network]:
    """A link for each; all know each other by those names."""
    namespace = f"vp-deploy-{instance()}"
    addresses = {name: f"198.18.77.{number}" for number, name in enumerate(machines, start=11)}
    hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
    take_down(namespace)
    here = ("ip", "-n", namespace)
    run(["ip", "netns", "add", namespace], within_s=20)
    try:
        (OVER_ETC / namespace).mkdir(parents=True)
        (OVER_ETC / namespace / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        run([*here, "link", "add", "br0", "type", "bridge"], within_s=20)
        run([*here, "addr", "add", f"{HERE}/24", "dev", "br0"], within_s=20)
        for link in ("lo", "br0"):
            run([*here, "link", "set", link, "up"], within_s=20)
        for name, machine in machines.items():
            there = ("type", "veth", "peer", "name", "eth0", "netns", str(machine.pid))
            run([*here, "link", "add", f"to-{name}", *there], within_s=20)
            run([*here, "link", "set", f"to-{name}", "master", "br0", "up"], within_s=20)
            machine.run("ip", "addr", "add", f"{addresses[name]}/24", "dev", "eth0")
            machine.run("ip", "link", "set", "eth0", "up")
            known = machine.files / "etc/hosts"
            known.write_text(f"{known.read_text()}{hosts}")
        yield Network(namespace=namespace, address_by_name=addresses)
    finally:
        take_down(namespace)


def take_down(namespace: str) -> None:
    """The links go with it."""
    attempt(["ip", "netns", "del", namespace], within_s=20)
    over = OVER_ETC / namespace
    if over.exists():
        (over / "hosts").unlink(missing_ok=True)
        over.rmdir()
    with contextlib.suppress(OSError):
        os.rmdir(OVER_ETC)
