"""`virt-preflight-agent` on a machine where libvirt's binding may not be installed.

Of libvirt there is then nobody to ask, which is a bad day of its own; the host's files are read by
the code that always reads them. `python -m tests.service.without_libvirt WORD...` takes the agent's
words, and `deputy SOCKET` stands for the deputy that systemd would start.
"""

from __future__ import annotations

import itertools
import socket
import sys
from types import ModuleType


class Nobody(ModuleType):
    """As much of the binding as is needed to find that nobody answers."""

    class libvirtError(Exception):  # noqa: N801 - its name in the binding
        def get_error_code(self) -> int:
            return 38  # VIR_ERR_SYSTEM_ERROR

        def get_error_message(self) -> str:
            return str(self)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._numbers = itertools.count(1000)

    def __getattr__(self, name: str) -> object:
        if name.startswith("VIR_"):
            return next(self._numbers)
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: object) -> None:
            raise self.libvirtError("no libvirt binding here")

        return refuse


def main() -> int:
    for name in ("libvirt", "libvirtmod", "libvirt_qemu"):
        sys.modules[name] = Nobody(name)
    from virt_preflight.agent import cli
    from virt_preflight.agent.sources.live import deputy
    from virt_preflight.agent.sources.live.machine import LiveSource

    if sys.argv[1] != "deputy":
        return cli.main(sys.argv[1:])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[2])
        listener.listen()
        deputy.serve(listener, LiveSource())
    return 0


if __name__ == "__main__":
    sys.exit(main())
