"""What gRPC says when a handshake came to nothing, what it means, and what can be done about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuff:
    """Why it came to nothing; `{who}` in the next step is whoever was spoken to.

    `{name}` in the reason is the name that its certificate should have had.
    """

    why: str
    next_step: str


NEW = "Give {who} a new certificate, and see that the clocks agree."
# Parts of gRPC's UNAVAILABLE texts, as seen with 1.81.
BY_PART = (
    (
        "WRONG_VERSION_NUMBER",
        Rebuff(
            why="it answers without TLS",
            next_step="Give {who} a certificate, or say `insecure = true` in the fleet file.",
        ),
    ),
    ("certificate has expired", Rebuff(why="its certificate has expired", next_step=NEW)),
    ("certificate is not yet valid", Rebuff(why="its certificate is not valid yet", next_step=NEW)),
    (
        "Hostname Verification Check failed",
        Rebuff(
            why="its certificate is for another name than {name}",
            next_step="Call it as its certificate does, or give {who} one of the name you use.",
        ),
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        Rebuff(
            why="its certificate is not by our authority",
            next_step="Have one authority sign all certificates, or name {who}'s as `ca` in [tls].",
        ),
    ),
)
OTHER = Rebuff(why="the TLS handshake failed", next_step="See what listens where {who} should be.")
# A connection that is closed before a call is on it: who did it is silent about the reason.
CLOSED = re.compile(r"failed to connect.*(Socket closed|Connection reset)", re.DOTALL)
CLOSED_ON_PLAIN = Rebuff(
    why="it closed the connection at once: it may want TLS, and was spoken to without",
    next_step="Name our certificates in [tls] of the fleet file (--fleet; on loopback with"
    " loopback = true), or put them where libvirt does.",
)
CLOSED_ON_TLS = Rebuff(
    why="it closed the connection after the handshake: it may not take our certificate",
    next_step="See whether ours has expired, or is not by the authority that {who} knows.",
)


def rebuff(details: str, name: str, *, secret: bool) -> Rebuff | None:
    """What the details of UNAVAILABLE say about TLS, if they do; `secret`: we spoke by TLS.

    Which names the certificate has gRPC does not tell.
    """
    if CLOSED.search(details):
        return CLOSED_ON_TLS if secret else CLOSED_ON_PLAIN
    for part, known in BY_PART:
        if part in details:
            return replace(known, why=known.why.replace("{name}", name))
    return OTHER if "handshake failed" in details else None
