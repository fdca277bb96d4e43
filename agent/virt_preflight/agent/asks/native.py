"""The guest's QEMU command line as the destination's libvirt would write it: never started."""

from __future__ import annotations

from copy import deepcopy

from virt_preflight.agent.asks.refusals import said_of
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.families.disks.guest import copied, guest_disks
from virt_preflight.agent.hearing import Hearing
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Side
from virt_preflight.agent.sources import Impossible, LibvirtRefused, Source, SourceError
from virt_preflight.agent.xml import Element, attribute, text_form, text_of

ASK = "libvirt's QEMU command line"
PLAIN = MigrationOptions()

# What is taken out before libvirt is asked, all or with that inside, each seen with libvirt 9.0
# and 11.3.
TAKEN_OUT = (
    # It makes a tap device for each NIC, brings it up and takes it down again.
    ("devices/interface", ""),
    # It opens the host's own TPM, which serves one at a time.
    ("devices/tpm", "backend[@type='passthrough']"),
    # What a start looks up on the host first is missing here: "invalid PCI passthrough type
    # 'default'", "USB host device is missing bus/device information".
    ("devices/hostdev", ""),
    # The same for numad: "Advice from numad is needed in case of automatic numa placement".
    ("numatune", "memory[@placement='auto']"),
    # It takes them as a cold start does, a migration leaves out those that are not there.
    ("devices/disk", "source[@startupPolicy]"),
)


def write_out(source: Source, domain: Domain, options: MigrationOptions = PLAIN) -> Hearing:
    """virConnectDomainXMLToNative: libvirt parses the guest, and prepares it as far as words go.

    So it finds what this libvirt or its QEMU does not know or cannot do, secrets, pools and mounts
    of huge pages that are missing; it opens no disk, no port, no network.
    """
    try:
        source.libvirt("native", text_form(spoken_of(domain, options)).decode())
    except LibvirtRefused as error:
        said = said_of(error, depth=Depth.LIBVIRT, side=Side.DESTINATION, phase=Phase.PREPARE)
        return Hearing(ask=ASK, depth=Depth.LIBVIRT, said=(said,))
    except Impossible as error:
        return Hearing(ask=ASK, depth=Depth.LIBVIRT, impossible=str(error))
    except SourceError as error:
        return Hearing(ask=ASK, depth=Depth.LIBVIRT, doubt=str(error))
    return Hearing(ask=ASK, depth=Depth.LIBVIRT)


def spoken_of(domain: Domain, options: MigrationOptions = PLAIN) -> Element:
    """The guest without what would touch the host or raise a false alarm."""
    root = deepcopy(domain.root)
    _without_volumes_to_come(root, domain, options)
    for path, only in TAKEN_OUT:
        above, _, name = path.rpartition("/")
        for parent in root.findall(above) if above else [root]:
            for element in parent.findall(name):
                if not only or element.find(only) is not None:
                    parent.remove(element)
    for element in root.findall("vcpu[@placement='auto']"):
        del element.attrib["placement"]
    _keep_firmware(root)
    return root


def _without_volumes_to_come(root: Element, domain: Domain, options: MigrationOptions) -> None:
    """A volume that is copied a migration makes first where there is none: a start looks it up."""
    known = guest_disks(domain) if options.copies_storage else None
    to_come = {
        disk.target
        for disk in (known.disks if known else ())
        if disk.top.kind == "volume" and copied(disk, options)
    }
    for devices in root.findall("devices"):
        for disk in devices.findall("disk"):
            if attribute(disk, "target", "dev") in to_come:
                devices.remove(disk)


def _keep_firmware(root: Element) -> None:
    """A guest that has its firmware keeps it: a start would choose anew, a migration does not."""
    os = root.find("os")
    if os is None or text_of(os, "loader") is None:
        return
    if "firmware" in os.attrib:
        del os.attrib["firmware"]
    for element in os.findall("firmware"):
        os.remove(element)
