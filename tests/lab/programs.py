"""Two programs for guests without a system: 512 bytes each, started by the firmware from a disk."""

from __future__ import annotations

SECTOR = 512


def sector(code: str) -> bytes:
    """A boot sector of this code, with the mark that firmware looks for."""
    machine = bytes.fromhex(code)
    if len(machine) > SECTOR - 2:
        raise ValueError(f"{len(machine)} bytes do not fit into a boot sector")
    return machine.ljust(SECTOR - 2, b"\0") + b"\x55\xaa"


# Writes the time-stamp counter to the first serial port, 8 bytes, low byte first, for ever. While
# the guest stands still the counter of the machine goes on, so a pause is a gap between two.
SEND_EAX = "ee" + "66 c1 e8 08 ee" * 3  # out dx, al; three times: shr eax, 8; out dx, al
TICKER = sector(
    "0f 31"  # again: rdtsc
    "66 89 d3"  # mov ebx, edx
    "ba f8 03"  # mov dx, 0x3f8
    f"{SEND_EAX}"
    "66 89 d8"  # mov eax, ebx
    f"{SEND_EAX}"
    "eb d3"  # jmp again
)
TICK = 8  # bytes

# Writes into each page from 1 MiB up to 96 MiB, then stands still. Above the first MiB only
# 32-bit addresses reach, which a data segment of 4 GiB allows: the code itself stays 16-bit.
TOUCHER = sector(
    "fa"  # cli
    "31 c0 8e d8"  # xor ax, ax; mov ds, ax
    "0f 01 16 40 7c"  # lgdt [0x7c40]
    "0f 20 c0 0c 01 0f 22 c0"  # mov eax, cr0; or al, 1; mov cr0, eax
    "bb 08 00 8e c3"  # mov bx, 8; mov es, bx
    "66 bf 00 00 10 00"  # mov edi, 0x100000
    "26 67 66 89 3f"  # again: mov [es:edi], edi
    "66 81 c7 00 10 00 00"  # add edi, 0x1000
    "66 81 ff 00 00 00 06"  # cmp edi, 0x6000000
    "72 eb"  # jb again
    "f4 eb fd"  # stop: hlt; jmp stop
    "90 90 90 90 90 90 90 90 90 90 90"  # up to 0x40
    "0f 00 46 7c 00 00"  # the table: 16 bytes at 0x7c46
    "00 00 00 00 00 00 00 00"  # its first entry, which is never used
    "ff ff 00 00 00 92 cf 00"  # data, from 0, of 4 GiB
)
