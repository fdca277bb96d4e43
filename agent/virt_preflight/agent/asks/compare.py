"""libvirt's own comparison of the guest's live CPU with what the destination can give."""

from __future__ import annotations

from virt_preflight.agent.asks.refusals import said_of
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.hearing import Hearing
from virt_preflight.agent.report import Phase, Side
from virt_preflight.agent.sources import Impossible, LibvirtRefused, Source, SourceError
from virt_preflight.agent.xml import text_form, text_of

ASK = "libvirt's CPU comparison"


def compare_cpu(source: Source, domain: Domain) -> Hearing | None:
    """virConnectCompareHypervisorCPU, incompatible ones refused; None when the guest names no CPU.

    It names the features that are missing. The CPU has to be the live one: with the one that was
    asked for it refuses guests that migrate, and passes guests that do not.
    """
    cpu = domain.root.find("cpu")
    kind = domain.root.find("os/type")
    if cpu is None or kind is None:
        return None
    try:
        source.libvirt(
            "compare-cpu",
            text_of(domain.root, "devices/emulator") or "",
            kind.get("arch", ""),
            kind.get("machine", ""),
            domain.root.get("type", ""),
            text_form(cpu).decode(),
        )
    except LibvirtRefused as error:
        said = said_of(error, depth=Depth.LIBVIRT, side=Side.DESTINATION, phase=Phase.PREPARE)
        return Hearing(ask=ASK, depth=Depth.LIBVIRT, said=(said,))
    except Impossible as error:
        return Hearing(ask=ASK, depth=Depth.LIBVIRT, impossible=str(error))
    except SourceError as error:
        return Hearing(ask=ASK, depth=Depth.LIBVIRT, doubt=str(error))
    return Hearing(ask=ASK, depth=Depth.LIBVIRT)
