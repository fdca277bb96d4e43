"""What else a guest is plugged into: NICs, screens, ports, devices of the host."""

from __future__ import annotations

from virt_preflight.agent.asks.wording import ABSENT, NOT_OURS, TAKEN, Wording

_CHARDEVS = (
    Wording(
        check="chardevs.address-not-here",
        by=("-chardev port", "-serial"),
        says=(
            f"Failed to find an available port: {NOT_OURS}",
            f"Failed to bind socket: {NOT_OURS}",
        ),
        subject="serial port",
        wanted="an address of this host",
        found="another",
    ),
    Wording(
        check="chardevs.port-in-use",
        by=("-chardev port", "-serial"),
        says=(
            f"Failed to find an available port: {TAKEN}",
            f"Failed to bind socket: {TAKEN}",
            f"Failed to listen on socket: {TAKEN}",
        ),
        subject="serial port",
        wanted="its TCP port free",
        found="in use",
    ),
    Wording(
        check="chardevs.device-absent",
        by=("-chardev port",),
        says=(f"Could not open '{{path}}': {ABSENT}",),
        subject="serial port",
        wanted="{path}",
        found="not there",
    ),
    # Of the DAC driver, which says so of disks, too: these names are the kernel's own.
    Wording(
        check="chardevs.device-absent",
        says=(
            f"unable to stat: /dev/tty{{name}}: {ABSENT}",
            f"unable to stat: /dev/parport{{name}}: {ABSENT}",
        ),
        subject="serial or parallel port",
        wanted="the host's device",
        found="not there",
    ),
    # NAME.new is NVRAM that libvirt makes (firmware.nvram-folder).
    Wording(
        check="chardevs.no-directory",
        says=(
            f"Failed to create file '{{path:lasting}}': {ABSENT}",
            f"Unable to bind to UNIX socket path '{{path}}': {ABSENT}",
        ),
        subject="character device: {path}",
        wanted="its directory",
        found="not there",
    ),
    Wording(
        check="chardevs.no-directory",
        by=("-chardev port",),
        says=(
            f"Failed to bind socket to {{path:path}}: {ABSENT}",
            f"Failed to bind socket to '{{path}}': {ABSENT}",
            f"Unable to open logfile {{path:path}}: {ABSENT}",
        ),
        subject="character device: {path}",
        wanted="its directory",
        found="not there",
    ),
    Wording(
        check="chardevs.port-reserved",
        by=("-chardev port",),
        says=("Failed to find an available port: Permission denied",),
        subject="character device",
        wanted="a port that QEMU's user may listen on",
        found="one of root's",
    ),
    Wording(
        check="chardevs.path-taken",
        says=(
            "Failed to create file '{path}': Is a directory",
            "Unable to unlink {path:path}: Is a directory",
        ),
        subject="character device: {path}",
        wanted="a file or nothing",
        found="a directory",
    ),
    Wording(
        check="chardevs.peer-absent",
        by=("-chardev port",),
        says=(
            "Failed to connect to '{peer}': {why:errno}",
            "Failed to connect socket {peer:path}: {why:errno}",
            "Failed to connect socket: {why:errno}",
        ),
        subject="character device",
        wanted="somebody who listens",
        found="{why}",
    ),
)

_DEVICES = (
    Wording(
        check="devices.not-offered",
        says=(
            "domain configuration does not support rng model '{name}'",
            "this qemu doesn't support the {name} backend",
            "USB redirection is not supported by this version of QEMU",
            "vsock device is not supported with this QEMU binary",
            "ivshmem device is not supported with this QEMU binary",
            "shmem model '{name}' is not supported by this QEMU binary",
            "IOMMU device: '{name}' is not supported with this QEMU binary",
            "The '{name}' device is not supported by this QEMU binary",
            "'{name}' is not supported in this QEMU binary",
            "USB controller model '{name}' not supported in this QEMU binary",
            "usb keyboard is not supported by this QEMU binary",
            "This QEMU doesn't support virtio scsi controller",
            "This QEMU doesn't support vhost-scsi devices",
            "Memory balloon device type '{name}' is not supported by this version of qemu",
            "the QEMU binary does not support the ISA panic device",
            "chardev '{name}' not supported in this QEMU binary",
            "virtiofs is not supported with this QEMU binary",
            "vDPA devices are not supported with this QEMU binary",
            "vhostuser disk is not supported with this QEMU binary",
            "nvdimm isn't supported by this QEMU binary",
            "virtio-mem isn't supported by this QEMU binary",
            "virtio-pmem isn't supported by this QEMU binary",
            "VFIO PCI device assignment is not supported by this version of QEMU",
            "VFIO AP device assignment is not supported by this version of QEMU",
            "VFIO CCW device assignment is not supported by this version of QEMU",
            "sclpconsole is not supported in this QEMU binary",
        ),
        subject="a device",
        wanted="one that this QEMU has",
    ),
    Wording(
        check="devices.not-offered",
        by=("-device",),
        says=("'{name}' is not a valid device model name",),
        subject="device {name}",
        wanted="one that this QEMU has",
        found="not known to it",
    ),
    # Objects are made when no option is spoken of any more: of those only the files of random
    # numbers and of input events are opened so.
    Wording(
        check="devices.node-absent",
        by=("-bare", "-object"),
        says=(f"Could not open '{{path}}': {ABSENT}",),
        subject="device file {path}",
        wanted="the host's device",
        found="not there",
    ),
    Wording(
        check="devices.node-absent",
        says=(
            f"unable to stat: /dev/input/{{name}}: {ABSENT}",
            f"unable to stat: /dev/hwrng: {ABSENT}",
        ),
        subject="a device file",
        wanted="the host's device",
        found="not there",
    ),
    Wording(
        check="devices.no-vsock",
        says=("unable to open vhost-vsock device",),
        subject="vsock",
        wanted="/dev/vhost-vsock",
        found="it cannot be opened",
    ),
    Wording(
        check="devices.no-security-model",
        says=("Security driver model '{name}' is not available",),
        subject="security label",
        wanted="model {name}",
        found="not on this host",
    ),
    Wording(
        check="devices.no-lock-daemon",
        says=(
            "Failed to connect socket to '/run/libvirt/virtlockd-sock': {why:errno}",
            "Failed to connect socket to '/var/run/libvirt/virtlockd-sock': {why:errno}",
        ),
        subject="disk locks",
        wanted="virtlockd",
        found="{why}",
    ),
)

_GRAPHICS = (
    Wording(
        check="graphics.address-not-here",
        by=("-vnc", "-spice"),
        says=(
            f"Failed to bind socket: {NOT_OURS}",
            f"Failed to find an available port: {NOT_OURS}",
        ),
        subject="screen",
        wanted="an address of this host",
        found="another",
    ),
    Wording(
        check="graphics.port-in-use",
        by=("-vnc", "-spice"),
        says=(
            f"Failed to find an available port: {TAKEN}",
            f"Failed to bind socket: {TAKEN}",
            f"Failed to listen on socket: {TAKEN}",
        ),
        subject="screen",
        wanted="its port free",
        found="in use",
    ),
    Wording(
        check="graphics.port-in-use",
        says=("Failed to reserve port {port:number}",),
        subject="screen",
        wanted="port {port} free",
        found="in use by another guest",
    ),
    Wording(
        check="graphics.network-unusable",
        says=(
            "network '{name}' doesn't have an IP address",
            "network '{name}' has no associated interface or bridge",
        ),
        subject="screen",
        wanted="an address of network {name}",
        found="none",
    ),
    Wording(
        check="graphics.network-unusable",
        says=(
            "no IP address found for interface '{name}'",
            "Unable to get address for interface '{name}'",
        ),
        subject="screen",
        wanted="an address of {name}",
        found="none",
    ),
    Wording(
        check="graphics.network-unusable",
        says=("network-based listen isn't possible, network driver isn't present",),
        subject="screen",
        wanted="libvirt's network driver",
        found="not there",
    ),
    # A character device or a disk with TLS says the same, and is rarer.
    Wording(
        check="graphics.no-certificates",
        by=("-bare", "-object", "-vnc"),
        says=("Unable to access credentials {path:path}: {why:errno}",),
        subject="screen",
        wanted="{path}",
        found="{why}",
        alike=("certificates.chardev-absent",),
    ),
    Wording(
        check="graphics.directory-shut",
        by=("-vnc", "-spice"),
        says=("Failed to bind socket to {path:path}: Permission denied",),
        subject="socket {path}",
        wanted="a directory open to QEMU's user",
        found="shut to it",
    ),
    Wording(
        check="graphics.keymap-absent",
        by=("-vnc",),
        says=("could not read keymap file: '{name}'",),
        subject="keymap {name}",
        wanted="there",
        found="not there",
    ),
    Wording(
        check="graphics.no-directory",
        by=("-vnc", "-spice"),
        says=(
            f"Failed to bind socket to {{path:path}}: {ABSENT}",
            f"Failed to bind socket to '{{path}}': {ABSENT}",
        ),
        subject="screen",
        wanted="the directory of {path}",
        found="not there",
    ),
    Wording(
        check="graphics.no-render-node",
        says=(
            "No DRM render nodes available",
            f"unable to stat: /dev/dri/{{name}}: {ABSENT}",
        ),
        subject="screen",
        wanted="the GPU's render node",
        found="not there",
    ),
    Wording(
        check="graphics.no-render-node",
        by=("-",),
        says=("egl: no drm render node available",),
        subject="screen",
        wanted="the GPU's render node",
        found="not there",
    ),
    Wording(
        check="graphics.server-not-offered",
        says=("{kind} graphics are not supported with this QEMU",),
        subject="screen",
        wanted="{kind}",
        found="this QEMU has it not",
    ),
    Wording(
        check="graphics.server-not-offered",
        by=("-spice",),
        says=("There is no option group 'spice'",),
        subject="screen",
        wanted="spice",
        found="this QEMU has it not",
    ),
    Wording(
        check="graphics.spice-tls-off",
        says=(
            "spice TLS port set in XML configuration, but TLS is disabled in qemu.conf",
            "Auto allocation of spice TLS port requested but spice TLS is disabled in qemu.conf",
            "spice secure channels set in XML configuration, but TLS connection is not available",
            "spice defaultMode secure requested{more:rest}",
        ),
        subject="spice",
        wanted="spice_tls = 1",
        found="off",
    ),
    Wording(
        check="graphics.video-not-offered",
        says=("domain configuration does not support video model '{name}'",),
        subject="video card",
        wanted="{name}",
        found="this QEMU has it not",
    ),
)

_HOSTDEVS = (
    Wording(
        check="hostdevs.mdev-absent",
        says=("mediated device '{name}' not found",),
        subject="mediated device {name}",
        wanted="made, of the same type as at the source",
        found="not there",
    ),
    Wording(
        check="hostdevs.mdev-in-use",
        says=(
            "mediated device {name:uuid} is in use by driver {driver}, domain {guest:text}",
            "mediated device {name:path} is in use by driver {driver}, domain {guest:text}",
            "mediated device {name:uuid} is in use",
        ),
        subject="mediated device {name}",
        wanted="free",
        found="in use by another guest",
    ),
    Wording(
        check="hostdevs.mdev-model",
        says=("invalid device API '{wanted}' for device {name}: device only supports '{given}'",),
        subject="mediated device {name}",
        wanted="{wanted}",
        found="{given}",
    ),
    Wording(
        check="hostdevs.mdev-not-migratable",
        says=("cannot migrate a domain with <hostdev mode='subsystem' type='mdev'>",),
        subject="mediated device",
        wanted="a device that migrates",
        found="it does not",
    ),
    Wording(
        check="hostdevs.mdev-not-migratable",
        by=("reason",),
        says=(
            "{name:uuid}: VFIO migration is not supported in kernel{more:rest}",
            "non-migratable device: {name}/vfio-ap",
            "non-migratable device: {name}/vfio-ccw",
        ),
        subject="mediated device {name}",
        wanted="a device that migrates",
        found="it does not",
    ),
    Wording(
        check="hostdevs.pci-absent",
        says=("Device {address:pci} not found: could not access {path:path}",),
        subject="PCI {address}",
        wanted="the guest's device",
        found="nothing there",
    ),
    Wording(
        check="hostdevs.pci-bridge",
        says=("Non-endpoint PCI devices cannot be assigned to guests",),
        subject="PCI device",
        wanted="an endpoint",
        found="a bridge",
    ),
    Wording(
        check="hostdevs.pci-group-not-free",
        by=("-",),
        says=(
            "vfio {address:pci}: group {group:number} is not viable{more:rest}",
            "vfio error: {address:pci}: group {group:number} is not viable{more:rest}",
        ),
        subject="PCI {address}",
        wanted="IOMMU group {group} free of the host's drivers",
        found="a device of it is held",
    ),
    Wording(
        check="hostdevs.pci-in-use",
        says=(
            "PCI device {address:pci} is in use by driver {driver}, domain {guest:text}",
            "PCI device {address:pci} is in use",
            (
                "PCI device {address:pci} allocated from network {network:text} is already in use "
                "by domain {guest:text}"
            ),
        ),
        subject="PCI {address}",
        wanted="free",
        found="in use by another guest",
    ),
    Wording(
        check="hostdevs.pci-in-use",
        by=("-",),
        says=(
            "vfio {address:pci}: failed to open /dev/vfio/{group:number}: Device or resource busy",
        ),
        subject="PCI {address}",
        wanted="free",
        found="its IOMMU group is in use",
    ),
    Wording(
        check="hostdevs.pci-not-detached",
        says=("Unmanaged PCI device {address:pci} must be manually detached from the host",),
        subject="PCI {address}",
        wanted="bound to vfio-pci",
        found="held by the host",
    ),
    Wording(
        check="hostdevs.pci-not-migratable",
        says=(
            "cannot migrate a domain with <hostdev mode='subsystem' type='pci'>",
            "cannot migrate a domain with <interface type='hostdev'>",
        ),
        subject="PCI device",
        wanted="a device that migrates",
        found="it does not",
    ),
    Wording(
        check="hostdevs.pci-not-migratable",
        by=("reason",),
        says=(
            "{name:pci}: VFIO migration is not supported in kernel{more:rest}",
            "{name:pci}: Migration couldn't be initialized for VFIO device{more:rest}",
            "VFIO device doesn't support migration",
            "VFIO device doesn't support device dirty tracking{more:rest}",
            (
                "Multiple VFIO devices migration is supported only if all of them support P2P "
                "migration"
            ),
            "non-migratable device: {name}/vfio-pci",
        ),
        subject="PCI device",
        wanted="a device that migrates",
        found="it does not",
    ),
    Wording(
        check="hostdevs.scsi-absent",
        says=(
            "SCSI device '{address}': could not access {path:path}",
            "cannot open directory '/sys/bus/scsi/devices/{address}/scsi_generic': {why:errno}",
        ),
        subject="SCSI {address}",
        wanted="a device with an sg node",
        found="none",
    ),
    Wording(
        check="hostdevs.usb-absent",
        says=(
            "Did not find USB device {name:text}",
            "cannot open directory '/sys/bus/usb/devices': {name:errno}",
        ),
        subject="USB device",
        wanted="the device",
        found="not plugged in",
    ),
    Wording(
        check="hostdevs.usb-ambiguous",
        says=(
            "Multiple USB devices for {make}, use <address> to specify one",
            "Multiple USB devices for {make} were found, but none of them is at {place:text}",
        ),
        subject="USB device {make}",
        wanted="one device",
        found="several of that make",
    ),
    Wording(
        check="hostdevs.usb-in-use",
        says=(
            "USB device {place} is in use by driver {driver}, domain {guest:text}",
            "USB device {place} is already in use",
        ),
        subject="USB device {place}",
        wanted="free",
        found="in use by another guest",
    ),
    Wording(
        check="hostdevs.vfio-off",
        says=(
            "host doesn't support passthrough of host PCI devices",
            "host doesn't support VFIO PCI passthrough",
            "host doesn't support legacy PCI passthrough",
            "Mediated host device assignment requires VFIO support",
        ),
        subject="VFIO",
        wanted="on",
        found="off",
    ),
    Wording(
        check="hostdevs.vhost-scsi-not-migratable",
        says=("cannot migrate a domain with <hostdev mode='subsystem' type='scsi_host'>",),
        subject="vhost-scsi",
        wanted="no vhost-scsi",
        found="vhost-scsi",
    ),
    Wording(
        check="hostdevs.vhost-scsi-not-migratable",
        by=("reason",),
        says=("vhost-scsi does not support migration{more:rest}",),
        subject="vhost-scsi",
        wanted="no vhost-scsi",
        found="vhost-scsi",
    ),
)

_NICS = (
    Wording(
        check="nics.bridge-absent",
        says=(
            "Cannot get interface MTU on '{name}': No such device",
            "Unable to add bridge {name} port {port}: No such device",
        ),
        subject="bridge {name}",
        wanted="there",
        found="no device of that name",
    ),
    Wording(
        check="nics.bridge-full",
        says=("Unable to add bridge {name} port {port}: Exchange full",),
        subject="bridge {name}",
        wanted="a free port",
        found="none",
    ),
    Wording(
        check="nics.not-a-bridge",
        says=("Unable to add bridge {name} port {port}: Operation not supported",),
        subject="bridge {name}",
        wanted="a bridge of the kernel",
        found="another kind of device",
    ),
    Wording(
        check="nics.not-an-ovs-bridge",
        says=(
            "Unable to add port {port} to OVS bridge {name}",
            "Unable to add port {port} to OVS bridge {name}: {why:rest}",
        ),
        subject="bridge {name}",
        wanted="a bridge of Open vSwitch",
        found="the port cannot be added",
    ),
    Wording(
        check="nics.vlan-unsupported",
        says=(
            "interface {name} - vlan tag not supported for this connection type",
            (
                "an interface of type '{name}' is requesting a vlan tag, but that is not supported "
                "for this type of connection"
            ),
            "error adding vlan filter to interface {name}: {why:errno}",
        ),
        subject="NIC",
        wanted="its VLANs",
        found="not supported there",
    ),
    Wording(
        check="nics.filter-absent",
        says=("referenced filter '{name}' is missing",),
        subject="network filter {name}",
        wanted="there",
        found="no filter of that name",
    ),
    Wording(
        check="nics.filter-unsupported",
        says=(
            (
                "interface {name} - filterref is not supported for network interfaces of type "
                "{kind:text}"
            ),
        ),
        subject="NIC",
        wanted="its network filter",
        found="not supported for type {kind}",
    ),
    Wording(
        check="nics.lower-device-absent",
        says=(
            "Unable to get index for interface {name}: No such device",
            "Cannot get interface MAC on '{name}': No such device",
        ),
        subject="device {name}",
        wanted="there",
        found="no device of that name",
    ),
    Wording(
        check="nics.lower-device-busy",
        says=(
            "error creating {kind} interface {nic}@{name} ({mac}): Device or resource busy",
            "error creating {kind} interface {nic}@{name} ({mac}): Invalid argument",
        ),
        subject="device {name}",
        wanted="free for a macvtap",
        found="held by something else",
    ),
    Wording(
        check="nics.name-taken",
        says=(
            "The {name} interface already exists",
            "Unable to create tap device {name}: Device or resource busy",
        ),
        subject="NIC {name}",
        wanted="the name free",
        found="a device of that name",
        alike=("nics.tap-unfit",),
    ),
    Wording(
        check="nics.tap-unfit",
        says=("Unable to create tap device {name}: Invalid argument",),
        subject="NIC {name}",
        wanted="a tap for as many queues",
        found="one for another number",
    ),
    Wording(
        check="nics.no-device-node",
        says=(
            "Unable to open {path:path}, is tun module loaded?: {why:errno}",
            "Unable to open '{path}' for vdpa device: {why:errno}",
            "cannot open macvtap tap device {path:path}: {why:errno}",
        ),
        subject="NIC",
        wanted="{path}",
        found="{why}",
    ),
    Wording(
        check="nics.no-device-node",
        says=("vhost-net was requested for an interface, but is unavailable",),
        subject="NIC",
        wanted="/dev/vhost-net",
        found="unavailable",
    ),
    Wording(
        check="nics.no-device-node",
        by=("-chardev nic", "-netdev"),
        says=("Failed to connect to '{path}': {why:errno}",),
        subject="NIC",
        wanted="{path}",
        found="{why}",
    ),
    Wording(
        check="nics.tap-absent",
        says=("target managed='no' but specified dev doesn't exist",),
        subject="NIC",
        wanted="its tap",
        found="no device of that name",
    ),
    # A screen that listens in a network says the same (graphics.network-unusable).
    Wording(
        check="nics.network-absent",
        alike=("graphics.network-unusable",),
        says=(
            "no network with matching name '{name}'",
            "no network with matching uuid '{name}'",
        ),
        subject="network {name}",
        wanted="there",
        found="no network of that name",
    ),
    Wording(
        check="nics.network-inactive",
        says=("network '{name}' is not active",),
        subject="network {name}",
        wanted="active",
        found="inactive",
    ),
    Wording(
        check="nics.no-bandwidth-floor",
        says=(
            (
                "Invalid use of 'floor' on interface with MAC address {mac} - network '{name}' has "
                "no inbound QoS set"
            ),
            (
                "Invalid use of 'floor' on interface with MAC address {mac} - 'floor' is only "
                "supported for interface type 'network' with forward type {forwards:text}"
            ),
        ),
        subject="NIC {mac}",
        wanted="guaranteed bandwidth",
        found="none is given there",
    ),
    Wording(
        check="nics.no-bandwidth-floor",
        says=(
            (
                "Cannot plug '{nic}' interface into '{bridge}' because new combined inbound "
                "floor={floor:number} would overcommit average={most:number} on network '{name}'"
            ),
            (
                "Cannot plug '{nic}' interface into '{bridge}' because new combined inbound "
                "floor={floor:number} would overcommit peak={most:number} on network '{name}'"
            ),
            (
                "Cannot plug '{nic}' interface into '{bridge}' because it would overcommit "
                "'{most}' on network '{name}'"
            ),
        ),
        subject="network {name}",
        wanted="all floors within its inbound bandwidth",
        found="it is less: {most}",
    ),
    Wording(
        check="nics.pool-exhausted",
        says=(
            "network '{name}' requires exclusive access to interfaces, but none are available",
            "network '{name}' uses a direct mode, but has no forward dev and no interface pool",
            "No usable Vf's present on SRIOV PF {name}",
            "Could not get Virtual functions on {name}",
        ),
        subject="network or device {name}",
        wanted="a free device",
        found="none",
    ),
    Wording(
        check="nics.virtualport-unsupported",
        says=tuple(
            f"<virtualport type='{{kind}}'> not supported for network '{{name}}' which uses {how}"
            for how in (
                "IP forwarding",
                "a bridge device",
                "a macvtap device",
                "an SR-IOV Virtual Function via PCI passthrough",
            )
        ),
        subject="NIC",
        wanted="virtualport {kind} on network {name}",
        found="not supported there",
    ),
    Wording(
        check="nics.script-absent",
        says=(
            (
                "Child process (LC_ALL=C {command:text}) unexpected exit status {code:number}: "
                "libvirt:  error : cannot execute binary {path:path}: {why:errno}"
            ),
        ),
        subject="script {path}",
        wanted="a program",
        found="{why}",
    ),
    Wording(
        check="nics.no-traffic-control",
        says=(
            "Child process (tc {command:text}) unexpected exit status {code:number}: {why:text}",
            (
                "Child process ({folder:path}/tc {command:text}) unexpected exit status "
                "{code:number}: {why:text}"
            ),
        ),
        subject="bandwidth of NICs",
        wanted="tc",
        found="{why}",
    ),
)

DEVICES: tuple[Wording, ...] = (*_CHARDEVS, *_DEVICES, *_GRAPHICS, *_HOSTDEVS, *_NICS)
