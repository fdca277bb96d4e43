"""A store that lasts as long as its controller."""

from collections.abc import Sequence
from dataclasses import replace

from virt_preflight.controller.store import Change, Forget, KeptHost, Remember, Seen


class MemoryStore:
    """Forgets all at its end."""

    def __init__(self) -> None:
        self._host_by_name: dict[str, KeptHost] = {}

    def hosts(self) -> tuple[KeptHost, ...]:
        """All that are kept, in the order of their names."""
        return tuple(host for _, host in sorted(self._host_by_name.items()))

    def keep(self, changes: Sequence[Change]) -> None:
        """All changes, in this order."""
        for change in changes:
            match change:
                case Remember(host=host):
                    self._host_by_name[host.name] = host
                case Seen(name=name, at=at) if name in self._host_by_name:
                    self._host_by_name[name] = replace(self._host_by_name[name], seen_at=at)
                case Forget(name=name):
                    self._host_by_name.pop(name, None)

    def close(self) -> None:
        """Nothing is left to do."""
