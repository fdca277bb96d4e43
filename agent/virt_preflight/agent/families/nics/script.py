"""The script that brings up a NIC's device, which has to be on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, Unknown, look, need
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Absent, Source, SourceError
from virt_preflight.agent.xml import attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNicScripts:
    """The scripts that its NICs name."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNicScripts:
    """What is wrong with each of them; "" nothing."""

    fault_by_path: Mapping[str, str | Unknown]


@need
def guest_nic_scripts(domain: Domain) -> GuestNicScripts | None:
    """`<script path>` of NICs of type ethernet: others have none (virDomainNetDefParseXML)."""
    nics = domain.root.findall("devices/interface[@type='ethernet']")
    paths = [path for nic in nics if (path := attribute(nic, "script", "path"))]
    return GuestNicScripts(paths=tuple(dict.fromkeys(paths))) if paths else None


@look(Pace.MOVING)
def seen_nic_scripts(source: Source, guest: GuestNicScripts) -> SeenNicScripts:
    """libvirtd runs it, by its path."""
    return SeenNicScripts(fault_by_path={path: _fault(source, path) for path in guest.paths})


def _fault(source: Source, path: str) -> str | Unknown:
    if not path.startswith("/"):
        return ""  # looked up where libvirtd looks for programs
    try:
        found = source.stat(path)
    except Absent:
        return "not there"
    except SourceError as error:
        return Unknown(str(error))
    if found.kind != "file":
        return f"a {found.kind}"
    return "" if found.mode & 0o111 else "not executable"


@check(
    "nics.script-absent",
    Severity.BLOCKER,
    title="the NIC's script cannot be run",
    remedy="Put the script on this host, or move with --xml naming another.",
)
def script_absent(_guest: GuestNicScripts, seen: SeenNicScripts) -> Problems:
    """libvirt runs `<script>` when it has made the NIC's tap.

    Error: "Child process (... /etc/qemu-ifup vnet3) unexpected exit status 127: libvirt:  error :
    cannot execute binary /etc/qemu-ifup: No such file or directory" (virNetDevRunEthernetScript,
    util/virnetdev.c).
    """
    for path, fault in seen.fault_by_path.items():
        if isinstance(fault, Unknown):
            yield CouldNotTell(subject=f"script {path}", why=fault.why)
        elif fault:
            yield Problem(subject=f"script {path}", wanted="a program", found=fault)
