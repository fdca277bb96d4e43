"""Firmware: a guest's loader, variables, kernel and ROMs, and whether the host has the like."""

from __future__ import annotations

from virt_preflight.agent.families.firmware.checks import (
    format_unknown,
    missing,
    no_template,
    nvram_folder,
    other_content,
    other_size,
    rom_of_other_size,
    template_of_other_size,
    unreadable,
    unwritable,
)
from virt_preflight.agent.families.firmware.guest import GuestFirmware, guest_firmware
from virt_preflight.agent.families.firmware.host import (
    FirmwareDigests,
    FlashFormats,
    SeenFirmware,
    firmware_digests,
    firmware_openings,
    flash_formats,
    guest_bytes,
    guest_doubts,
    nvram_to_make,
    seen_firmware,
)

__all__ = (
    "FirmwareDigests",
    "FlashFormats",
    "GuestFirmware",
    "SeenFirmware",
    "firmware_digests",
    "firmware_openings",
    "flash_formats",
    "format_unknown",
    "guest_bytes",
    "guest_doubts",
    "guest_firmware",
    "missing",
    "no_template",
    "nvram_folder",
    "nvram_to_make",
    "other_content",
    "other_size",
    "rom_of_other_size",
    "seen_firmware",
    "template_of_other_size",
    "unreadable",
    "unwritable",
)
