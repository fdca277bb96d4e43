"""Models of network cards that came with a QEMU that is not old."""

from __future__ import annotations

from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import need
from virt_preflight.agent.families.versions import HostVersions, written
from virt_preflight.agent.report import Severity
from virt_preflight.agent.xml import attribute, text_of

# With the release of QEMU that each came with; libvirt asks nobody whether there is one.
SINCE = {"igb": 8_000_000}
# The host's default QEMU, whose release libvirt tells.
DEFAULT = ("/usr/bin/", "/usr/libexec/")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCard:
    """One of the guest's cards of such a model."""

    subject: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNewCards:
    """A guest with such cards, and the QEMU that it runs in."""

    cards: tuple[NewCard, ...]
    emulator: str


@need
def guest_new_cards(domain: Domain) -> GuestNewCards | None:
    """`<interface><model type>`."""
    cards = tuple(
        NewCard(subject=f"interface {attribute(nic, 'mac', 'address') or ''}".strip(), model=model)
        for nic in domain.root.findall("devices/interface")
        if (model := attribute(nic, "model", "type") or "") in SINCE
    )
    emulator = text_of(domain.root, "devices/emulator") or ""
    return GuestNewCards(cards=cards, emulator=emulator) if cards else None


@check(
    "nics.model-unknown",
    Severity.BLOCKER,
    title="QEMU here has no such network card",
    remedy="Upgrade QEMU on the host, or give the guest another card (virtio) and restart it.",
)
def model_unknown(guest: GuestNewCards, versions: HostVersions) -> Problems:
    """libvirt hands a card's model on to QEMU, which knows it or does not start.

    Error: "'igb' is not a valid device model name" (QEMU).
    """
    for card in guest.cards:
        since = SINCE[card.model]
        if versions.qemu >= since:
            continue
        if guest.emulator and not guest.emulator.startswith(DEFAULT):
            why = f"{guest.emulator} may be newer than the host's QEMU {written(versions.qemu)}"
            yield CouldNotTell(subject=card.subject, why=why)
            continue
        yield Problem(
            subject=card.subject,
            wanted=f"{card.model}, of QEMU {written(since)} or newer",
            found=f"QEMU {written(versions.qemu)}",
        )
