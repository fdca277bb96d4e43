"""The table: which check each error text of libvirt or QEMU belongs to.

Texts of libvirt 7.0 to 12.x and QEMU 5.2 to 10.x. Each check is a BLOCKER: what libvirt said no to
is never less. One text belongs to one check; where it could be about several things, it stands
under the likeliest, and the others are `alike`. Their order means nothing.
"""

from __future__ import annotations

from virt_preflight.agent.asks.wording import Wording
from virt_preflight.agent.asks.wordings.asking import ASKING
from virt_preflight.agent.asks.wordings.devices import DEVICES
from virt_preflight.agent.asks.wordings.machine import MACHINE
from virt_preflight.agent.asks.wordings.storage import STORAGE

WORDINGS: tuple[Wording, ...] = (*ASKING, *MACHINE, *STORAGE, *DEVICES)
