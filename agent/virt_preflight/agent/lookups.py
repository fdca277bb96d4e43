"""What this host's resolver finds under the names of others, many at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from virt_preflight.agent.origin import Lookup
from virt_preflight.agent.sources import Absent, Impossible, Refused, Source, SourceError

# A name takes a local resolver well below a millisecond, and one far away some.
AT_ONCE = 16
# For all of them: a resolver that does not answer costs this once.
WITHIN_S = 2.0


def look_up(source: Source, names: Sequence[str]) -> Mapping[str, Lookup] | None:
    """Each name that is not empty. None where there is no resolver, as in a recording."""

    def one(name: str) -> Lookup:
        with source.within(WITHIN_S):
            try:
                source.resolve(name)
            except Impossible:
                raise
            except (Absent, Refused) as error:
                return Lookup(fault=str(error))
            except SourceError as error:
                return Lookup(doubt=str(error))
        return Lookup()

    wanted = [name for name in dict.fromkeys(names) if name]
    if not wanted:
        return None
    with ThreadPoolExecutor(min(AT_ONCE, len(wanted))) as pool:
        try:
            return dict(zip(wanted, pool.map(one, wanted), strict=True))
        except Impossible:
            return None
