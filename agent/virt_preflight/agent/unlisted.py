"""What a list of libvirt's lacks: there is none, or its reader may not see it."""

from __future__ import annotations

from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.sources import Absent, Refused, Source, SourceError


def unlisted(source: Source, question: str, *names: str) -> Unknown | None:
    """None: libvirt has none. One of BEYOND_LISTS, put where a list came without that one.

    Where libvirt asks polkit, a list leaves out what its reader has no right to see (getattr), and
    does not say so (virNetworkObjListExport and its like, conf/virnetworkobj.c).
    """
    try:
        source.libvirt(question, *names)
    except (Absent, Refused):  # what libvirt takes for no name or UUID at all it has not either
        return None
    except SourceError as error:
        return Unknown(str(error))
    return Unknown(f"libvirt has {' '.join(names)} and does not list it")
