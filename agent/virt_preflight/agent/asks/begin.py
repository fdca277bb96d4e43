"""libvirt's own Begin phase on the source: whether the guest may leave, as libvirt decides it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from virt_preflight.agent.asks.flags import Migrate, flags_of, parameters_of
from virt_preflight.agent.asks.refusals import said_of
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.hearing import Hearing
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Side
from virt_preflight.agent.sources import Impossible, LibvirtRefused, Source, SourceError

ASK = "libvirt's Begin phase"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What Begin said, and its cookie for destinations; empty when there is none."""

    hearing: Hearing
    cookie: bytes = b""


def begin(source: Source, uuid: str, options: MigrationOptions) -> Begun:
    """Ask. No job is taken on the guest: qemuMigrationSrcBegin without CHANGE_PROTECTION."""
    flags = flags_of(options) & ~Migrate.CHANGE_PROTECTION
    parameters = json.dumps(parameters_of(options))
    try:
        cookie = source.libvirt("begin", uuid, str(int(flags)), parameters)
    except LibvirtRefused as error:
        said = said_of(error, depth=Depth.LIBVIRT, side=Side.SOURCE, phase=Phase.BEGIN)
        return Begun(hearing=Hearing(ask=ASK, depth=Depth.LIBVIRT, said=(said,)))
    except Impossible as error:
        return Begun(hearing=Hearing(ask=ASK, depth=Depth.LIBVIRT, impossible=str(error)))
    except SourceError as error:
        return Begun(hearing=Hearing(ask=ASK, depth=Depth.LIBVIRT, doubt=str(error)))
    return Begun(
        hearing=Hearing(
            ask=ASK, depth=Depth.LIBVIRT, settles=frozenset({(Side.SOURCE, Phase.BEGIN)})
        ),
        cookie=cookie.encode(),
    )
