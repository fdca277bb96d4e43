"""Firmware, kernels, and the emulated TPM."""

from __future__ import annotations

from tests.lab import faults
from tests.lab.guests import Guest
from tests.lab.scenarios.pieces import NAMED
from tests.lab.scenarios.scenario import Scenario, both, fails, guest, migrates

OVMF = "/usr/share/OVMF"
PLACE = "/var/lib/libvirt/fw"
CODE, VARS = f"{PLACE}/CODE.fd", f"{PLACE}/VARS.fd"
HAVE_CODE = faults.copied(f"{OVMF}/OVMF_CODE_4M.fd", CODE)
HAVE_VARS = faults.copied(f"{OVMF}/OVMF_VARS_4M.fd", VARS)
KERNEL, INITRD = f"{PLACE}/vmlinuz", f"{PLACE}/initrd"
BLOB = f"{PLACE}/blob"
FW_CFG = f"<sysinfo type='fwcfg'><entry name='opt/org.lab/blob' file='{BLOB}'/></sysinfo>"
TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"


def uefi(code: str, variables: str) -> Guest:
    """Under TCG: OVMF crashes by itself under some virtual machines' KVM."""
    return guest(
        accelerator="tcg",
        cpu=NAMED,
        memory_mib=128,
        os=f"<loader readonly='yes' type='pflash'>{code}</loader>"
        f"<nvram template='{variables}'>/var/lib/libvirt/qemu/nvram/@name_VARS.fd</nvram>",
    )


AUTO = guest(
    accelerator="tcg",
    cpu=NAMED,
    memory_mib=128,
    os_attributes=" firmware='efi'",
    os="<firmware><feature enabled='no' name='secure-boot'/></firmware>",
)

SCENARIOS: tuple[Scenario, ...] = (
    migrates("firmware", guest=uefi(f"{OVMF}/OVMF_CODE_4M.fd", f"{OVMF}/OVMF_VARS_4M.fd")),
    # Another build of the same size: the source's own memory travels, the file does not matter.
    migrates(
        "firmware-newer",
        guest=uefi(f"{OVMF}/OVMF_CODE_4M.fd", f"{OVMF}/OVMF_VARS_4M.fd"),
        destination="h3",
    ),
    # Chosen by libvirt from what the source has; by now it is a path like any other.
    migrates("firmware-auto", guest=AUTO),
    migrates("firmware-auto-newer", guest=AUTO, destination="h3"),
    fails(
        "firmware-loader-absent",
        "firmware.missing",
        guest=uefi(CODE, VARS),
        on_source=(HAVE_CODE, HAVE_VARS),
        on_destination=(HAVE_VARS,),
        says=f"Could not open '{CODE}': No such file or directory",
    ),
    fails(
        "firmware-2m-gone-in-newer",
        "firmware.missing",
        guest=uefi(f"{OVMF}/OVMF_CODE.fd", f"{OVMF}/OVMF_VARS.fd"),
        destination="h3",
        says="No such file or directory",
    ),
    fails(
        "firmware-other-size",
        "firmware.other-size",
        guest=uefi(CODE, VARS),
        on_source=(HAVE_CODE, HAVE_VARS),
        on_destination=(faults.copied(f"{OVMF}/OVMF_CODE.fd", CODE), HAVE_VARS),
        says="",
    ),
    fails(
        "firmware-template-absent",
        "firmware.no-template",
        guest=uefi(CODE, VARS),
        on_source=(HAVE_CODE, HAVE_VARS),
        on_destination=(HAVE_CODE,),
        says=f"Failed to open file '{VARS}': No such file or directory",
    ),
    # What is there already is taken as it is, and the template is not asked for.
    migrates(
        "firmware-template-absent-nvram-there",
        guest=uefi(CODE, VARS),
        on_source=(HAVE_CODE, HAVE_VARS),
        on_destination=(
            HAVE_CODE,
            faults.copied(f"{OVMF}/OVMF_VARS_4M.fd", "/var/lib/libvirt/qemu/nvram/@name_VARS.fd"),
        ),
    ),
    fails(
        "kernel-absent",
        "firmware.missing",
        guest=guest(os=f"<kernel>{KERNEL}</kernel>"),
        on_source=(faults.kernel(KERNEL),),
        says=f"{KERNEL}: No such file or directory",
    ),
    fails(
        "kernel-initrd-absent",
        "firmware.missing",
        "firmware.missing",
        guest=guest(os=f"<kernel>{KERNEL}</kernel><initrd>{INITRD}</initrd>"),
        on_source=(faults.kernel(KERNEL), faults.file(INITRD, size="64K")),
        on_destination=(faults.kernel(KERNEL),),
        says=f"{INITRD}: No such file or directory",
    ),
    migrates(
        "kernel",
        guest=guest(os=f"<kernel>{KERNEL}</kernel>"),
        **both(faults.kernel(KERNEL)),
    ),
    migrates("tpm", guest=guest(devices=TPM)),
    migrates("tpm-newer", guest=guest(devices=TPM), destination="h3"),
    fails(
        "tpm-no-swtpm",
        "tpm.no-swtpm",
        guest=guest(devices=TPM),
        on_destination=(faults.moved_away("/usr/bin/swtpm"),),
        says="TPM version '2.0' is not supported",
    ),
    # The guest goes on with the source's; at its next reboot QEMU has this host's kernel for it.
    migrates(
        "kernel-other-content",
        guest=guest(os=f"<kernel>{KERNEL}</kernel><initrd>{INITRD}</initrd>"),
        on_source=(faults.kernel(KERNEL), faults.file(INITRD, size="64K")),
        on_destination=(
            faults.kernel(KERNEL),
            faults.shell(
                "another initrd",
                f"mkdir -p {PLACE}; head -c 65536 /dev/urandom >{INITRD}",
                back=f"rm -f {INITRD}",
            ),
        ),
        checks=("firmware.other-content",),
    ),
    fails(
        "fw-cfg-absent",
        "firmware.missing",
        guest=guest(top=FW_CFG),
        on_source=(faults.file(BLOB),),
        says=f"{BLOB}: No such file or directory",
    ),
    migrates("fw-cfg", guest=guest(top=FW_CFG), **both(faults.file(BLOB))),
)
