"""Bandwidth limits of a guest's NICs, and whether the host's kernel can keep them."""

from __future__ import annotations

from dataclasses import dataclass

from virt_preflight.agent.check import Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, look, need
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Absent, Source, Unreadable

# virNetDevSupportsBandwidth, conf/netdev_bandwidth_conf.c.
SHAPED = ("bridge", "network", "direct", "ethernet")
# What `tc` is asked for (virNetDevBandwidthSet, util/virnetdevbandwidth.c).
FOR_INBOUND = ("sch_htb", "sch_sfq", "cls_fw")
FOR_OUTBOUND = ("sch_ingress", "cls_u32", "act_police")
# So much of a text a source gives: what is not in a longer one may be in its rest.
TEXT_AT_MOST = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestShaping:
    """The kernel's modules of traffic control that the guest's `<bandwidth>` needs."""

    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostShaping:
    """Those of them that the running kernel has neither built in nor as modules."""

    release: str
    missing: tuple[str, ...]


@need
def guest_shaping(domain: Domain) -> GuestShaping | None:
    """`<bandwidth>` of any NIC that is shaped by `tc`."""
    modules: dict[str, None] = {}
    for interface in domain.root.findall("devices/interface"):
        if interface.get("type") not in SHAPED:
            continue
        if interface.find("bandwidth/inbound[@average]") is not None:
            modules |= dict.fromkeys(FOR_INBOUND)
        if interface.find("bandwidth/outbound") is not None:
            modules |= dict.fromkeys(FOR_OUTBOUND)
    return GuestShaping(modules=tuple(modules)) if modules else None


@look(Pace.FIXED)
def host_shaping(source: Source, guest: GuestShaping) -> HostShaping:
    """From the lists that depmod(8) keeps beside the running kernel's modules."""
    release = source.text("/proc/sys/kernel/osrelease").strip()
    lists = []
    for name in ("modules.builtin", "modules.dep"):
        try:
            lists.append(source.text(f"/lib/modules/{release}/{name}"))
        except Absent:
            raise Unreadable(f"what kernel {release} can shape: it has no {name}") from None
    known = "\n".join(lists)
    missing = tuple(module for module in guest.modules if f"/{module}.ko" not in known)
    if missing and any(len(text) >= TEXT_AT_MOST for text in lists):
        raise Unreadable(f"the list of kernel {release}'s modules is too long")
    return HostShaping(release=release, missing=missing)


@check(
    "nics.no-traffic-control",
    Severity.BLOCKER,
    title="no traffic control",
    remedy="Install the kernel's package of further modules, or take the limit off the NIC.",
)
def no_traffic_control(guest: GuestShaping, host: HostShaping) -> Problems:
    """libvirt limits bandwidth by tc(8), whose kinds are modules of the kernel.

    Error (tried): "Child process (tc qdisc add dev vnet20 parent 1:1 handle 2: sfq perturb 10)
    unexpected exit status 2: Error: Specified qdisc kind is unknown."
    """
    if host.missing:
        yield Problem(
            subject="bandwidth of NICs",
            wanted=f"kernel modules {', '.join(guest.modules)}",
            found=f"kernel {host.release} has no {', '.join(host.missing)}",
        )
