"""The machine with the authority, where the operator sits: a checkout, an ssh to the machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.booted import Machine
from tests.deploy.network import Network
from tests.lab.machine import CHECKOUT, LabError, Ran

BIN = CHECKOUT / ".venv/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """A directory, in the network of the machines."""

    place: Path
    network: Network

    def home(self, who: str) -> Path:
        """Of a person for whom `make.sh` made certificates."""
        return self.place / "pki" / who

    def attempt(self, script: str, *, home: Path, fleet: Path | None = None) -> Ran:
        """Run it as whoever lives there."""
        environment = {"HOME": str(home), "PATH": f"{self.place}/bin:{BIN}:/usr/bin:/bin:/usr/sbin"}
        if fleet is not None:
            environment["VIRT_PREFLIGHT_FLEET"] = str(fleet)
        return self.network.attempt("sh", "-euc", script, env=environment, cwd=self.place)

    def run(self, script: str) -> str:
        """One that has to work."""
        ran = self.attempt(script, home=self.place)
        if ran.code != 0:
            raise LabError(f"{script[:200]}: {ran.code}\n{ran.out}{ran.err}")
        return ran.out


def trusted(place: Path, network: Network, machines: Mapping[str, Machine]) -> Trusted:
    """With `deploy` of this checkout in it. Its ssh is a way into the machines' namespaces."""
    (place / "deploy").symlink_to(CHECKOUT / "deploy")
    (place / "bin").mkdir()
    ssh = place / "bin/ssh"
    known = "".join(f"root@{name}) pid={one.pid} ;;\n" for name, one in machines.items())
    ssh.write_text(
        f'#!/bin/sh\ncase $1 in\n{known}*) echo "ssh: nobody is $1" >&2; exit 255 ;;\nesac\n'
        'shift\nexec nsenter -t "$pid" -a sh -c "$*"\n'
    )
    ssh.chmod(0o755)
    return Trusted(place=place, network=network)
