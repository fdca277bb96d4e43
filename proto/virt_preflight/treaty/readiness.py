"""Tells systemd that a service answers from now on (sd_notify(3)), where systemd wants to know."""

from __future__ import annotations

import logging
import os
import socket

VARIABLE = "NOTIFY_SOCKET"
# A datagram to the socket of a service manager: it is taken at once, or something is wrong.
WITHIN_S = 5.0


def ready() -> None:
    """What waits for the service, be it `systemctl restart`, goes on."""
    # Taken out: whom we start is not to speak for us.
    named = os.environ.pop(VARIABLE, None)
    if not named:
        return
    address = f"\0{named[1:]}" if named.startswith("@") else named
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.settimeout(WITHIN_S)
            line.sendto(b"READY=1", address)
    except OSError as error:
        logging.warning("%s: systemd could not be told: %s", named, error.strerror or error)
