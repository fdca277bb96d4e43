"""The table: which check each error text of libvirt or QEMU belongs to.

Texts of libvirt 7.0 to 12.x and QEMU 5.2 to 10.x, in the order of the families. Each check is a
BLOCKER: what libvirt said no to is never less. One text belongs to one check; where it could be
about several things, it stands under the likeliest, and a comment says so.
"""

from __future__ import annotations

from virt_preflight.agent.asks.wording import Wording

_ABSENT = "No such file or directory"
_DENIED = "Permission denied"
_TAKEN = "Address already in use"
_NOT_OURS = "Cannot assign requested address"

_CERTIFICATES = (
    Wording(
        check="certificates.client-absent",
        by=("command object-add",),
        says=(
            "Unable to access credentials {folder:path}/client-cert.pem: {why:errno}",
            "Unable to access credentials {folder:path}/client-key.pem: {why:errno}",
        ),
        subject="TLS",
        wanted="a client's certificate and key in {folder}",
        found="{why}",
    ),
    # Either side's QEMU asks for the CA's; the destination's is asked first.
    Wording(
        check="certificates.server-absent",
        by=("command object-add",),
        says=(
            "Unable to access credentials {folder:path}/ca-cert.pem: {why:errno}",
            "Unable to access credentials {folder:path}/server-cert.pem: {why:errno}",
            "Unable to access credentials {folder:path}/server-key.pem: {why:errno}",
        ),
        subject="TLS",
        wanted="certificates and key in {folder}",
        found="{why}",
    ),
)

_CHARDEVS = (
    Wording(
        check="chardevs.address-not-here",
        by=("-chardev port", "-serial"),
        says=(
            f"Failed to find an available port: {_NOT_OURS}",
            f"Failed to bind socket: {_NOT_OURS}",
        ),
        subject="serial port",
        wanted="an address of this host",
        found="another",
    ),
    Wording(
        check="chardevs.port-in-use",
        by=("-chardev port", "-serial"),
        says=(
            f"Failed to find an available port: {_TAKEN}",
            f"Failed to bind socket: {_TAKEN}",
            f"Failed to listen on socket: {_TAKEN}",
        ),
        subject="serial port",
        wanted="its TCP port free",
        found="in use",
    ),
    Wording(
        check="chardevs.device-absent",
        by=("-chardev port",),
        says=(f"Could not open '{{path}}': {_ABSENT}",),
        subject="serial port",
        wanted="{path}",
        found="not there",
    ),
    # Of the DAC driver, which says so of disks, too: these names are the kernel's own.
    Wording(
        check="chardevs.device-absent",
        says=(f"unable to stat: /dev/tty{{name}}: {_ABSENT}",
              f"unable to stat: /dev/parport{{name}}: {_ABSENT}"),
        subject="serial or parallel port",
        wanted="the host's device",
        found="not there",
    ),
    Wording(
        check="chardevs.no-directory",
        says=(
            f"Failed to create file '{{path}}.log': {_ABSENT}",
        ),
        subject="{path}.log",
        wanted="its directory",
        found="not there",
    ),
    Wording(
        check="chardevs.no-directory",
        says=(f"Unable to bind to UNIX socket path '{{path}}': {_ABSENT}",),
        subject="{path}",
        wanted="its directory",
        found="not there",
    ),
    Wording(
        check="chardevs.no-directory",
        by=("-chardev port",),
        says=(
            f"Failed to bind socket to {{path:path}}: {_ABSENT}",
            f"Failed to bind socket to '{{path}}': {_ABSENT}",
            f"Unable to open logfile {{path:path}}: {_ABSENT}",
        ),
        subject="{path}",
        wanted="its directory",
        found="not there",
    ),
    Wording(
        check="chardevs.path-taken",
        says=(
            "Failed to create file '{path}': Is a directory",
            "Unable to unlink {path:path}: Is a directory",
        ),
        subject="{path}",
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

_CPU = (
    # QEMU 10 turns it on by itself, and libvirt before 11.10 minds.
    Wording(
        check="cpu.ht-added",
        says=("guest CPU doesn't match specification: extra features: ht",),
        subject="CPU",
        wanted="no ht, as the guest has it",
        found="QEMU turns it on",
    ),
    Wording(
        check="cpu.features-absent",
        says=(
            "guest CPU doesn't match specification: missing features: {features:text}",
            "guest CPU doesn't match specification: extra features: {more}, "
            "missing features: {features:text}",
            "Host CPU does not provide required features: {features:text}",
        ),
        subject="CPU",
        wanted="{features}",
        found="not given by this host",
    ),
    Wording(
        check="cpu.features-absent",
        says=("host doesn't support invariant TSC",),
        subject="CPU",
        wanted="invtsc",
        found="not given by this host",
    ),
    Wording(
        check="cpu.features-absent",
        by=("-bare", "-cpu", "-accel"),
        says=("Host doesn't support requested features",),
        subject="CPU",
        wanted="what the guest has",
        found="not given by this host",
    ),
    Wording(
        check="cpu.features-unknown",
        says=("unknown CPU feature: {name}", "Unknown CPU feature {name}"),
        subject="CPU",
        wanted="a name known: {name}",
        found="unknown to libvirt",
    ),
    Wording(
        check="cpu.features-unknown",
        by=("-",),
        says=(
            "Property '{model}-cpu.{name}' not found",
            "Property '.{name}' not found",
            "can't apply global {model}-cpu.{name}={value}: Property '{property}' not found",
        ),
        subject="CPU",
        wanted="a name known: {name}",
        found="unknown to QEMU",
    ),
    Wording(
        check="cpu.forbidden-features",
        says=("Host CPU provides forbidden feature '{name}'",),
        subject="CPU",
        wanted="no {name}",
        found="the host has it",
    ),
    Wording(
        check="cpu.hyperv-absent",
        says=(
            "host doesn't support hyperv '{name}' feature",
            "host doesn't support hyperv stimer '{name}' feature",
        ),
        subject="Hyper-V enlightenments",
        wanted="{name}",
        found="not given by this host",
    ),
    Wording(
        check="cpu.hyperv-absent",
        by=("-",),
        says=(
            "Hyper-V {name:text} is not supported by kernel",
            "Hyper-V {name:text} (requested by '{flag}' cpu flag) is not supported by kernel",
            "kernel doesn't allow setting HyperV {name}",
            "Hyper-V enlightenments not supported by kernel{name:rest}",
        ),
        subject="Hyper-V enlightenments",
        wanted="{name}",
        found="not given by this host",
    ),
    Wording(
        check="cpu.mode-unsupported",
        says=(
            "CPU mode '{mode}' for {guest} {type} domain on {host} host is not supported by "
            "hypervisor",
            "CPU mode '{mode}' is not supported by hypervisor",
        ),
        subject="CPU",
        wanted="mode {mode}",
        found="not supported",
    ),
    Wording(
        check="cpu.model-unknown",
        says=(
            "Unknown CPU model {name}",
            "unknown CPU model: {name}",
            "unknown CPU model {name}",
            "CPU model {name} is not supported by hypervisor",
            "CPU model '{name}' is not supported by hypervisor",
        ),
        subject="CPU {name}",
        wanted="a known model",
        found="not known",
    ),
    Wording(
        check="cpu.model-unknown",
        by=("-",),
        says=("unable to find CPU model '{name}'",),
        subject="CPU {name}",
        wanted="a known model",
        found="unknown to QEMU",
    ),
    Wording(
        check="cpu.tsc-frequency",
        says=(
            "Requested TSC frequency {wanted:number} Hz is outside tolerance range "
            "([{low:number}, {high:number}] Hz) around host frequency {host:number} Hz and TSC "
            "scaling is not supported by the host CPU",
            "Requested TSC frequency {wanted:number} Hz does not match host "
            "({host:number} Hz) and TSC scaling is not supported by the host CPU",
        ),
        subject="TSC",
        wanted="{wanted} Hz",
        found="{host} Hz, without scaling",
    ),
)

_DAEMON = (
    # Ports of libvirtd: other ports are those of a migration (transport.no-way).
    Wording(
        check="daemon.not-answering",
        says=(
            "unable to connect to server at '{host}:16509': {why:errno}",
            "unable to connect to server at '{host}:16514': {why:errno}",
        ),
        subject="libvirtd on {host}",
        wanted="an answer",
        found="{why}",
    ),
    Wording(
        check="daemon.not-answering",
        says=tuple(
            f"Failed to connect socket to '{folder}/libvirt/{name}': {{why:errno}}"
            for folder in ("/run", "/var/run")
            for name in ("libvirt-sock", "virtqemud-sock", "virtproxyd-sock")
        ),
        subject="libvirtd",
        wanted="an answer",
        found="{why}",
    ),
    Wording(
        check="daemon.tls-forced",
        says=("this libvirtd instance allows migration only with VIR_MIGRATE_TLS flag",),
        subject="migrate_tls_force",
        wanted="--tls",
        found="not given",
    ),
)

_DEVICES = (
    Wording(
        check="devices.not-offered",
        says=(
            "domain configuration does not support rng model '{name}'",
            "this qemu doesn't support the {name} backend",
            "{name} redirection is not supported by this version of QEMU",
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
        says=(f"Could not open '{{path}}': {_ABSENT}",),
        subject="{path}",
        wanted="the host's device",
        found="not there",
    ),
    Wording(
        check="devices.node-absent",
        says=(
            f"unable to stat: /dev/input/{{name}}: {_ABSENT}",
            f"unable to stat: /dev/hwrng: {_ABSENT}",
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

_DISKS = (
    Wording(
        check="disks.backing-format",
        says=(
            "format of backing image '{below}' of image '{path}' was not specified in the image "
            "metadata{more:rest}",
        ),
        subject="{path}",
        wanted="the format of {below} recorded in it",
        found="none recorded",
    ),
    Wording(
        check="disks.backing-format",
        says=(
            "backing store for {path:path} is self-referential or too deeply nested",
            "backing store for {path:path} ({more:rest}) is self-referential",
            "backing chains more than 200 layers deep are not supported for disk '{path}'",
        ),
        subject="{path}",
        wanted="at most 200 images in a chain",
        found="more than 200",
    ),
    Wording(
        check="disks.backing-missing",
        says=(
            f"Cannot access backing file '{{below}}' of storage file '{{path}}': {_ABSENT}",
            "Cannot access backing file '{below}' of storage file '{path}' "
            f"(as uid:{{uid:number}}, gid:{{gid:number}}): {_ABSENT}",
        ),
        subject="{path}",
        wanted="its backing file {below}",
        found="not there",
    ),
    # An image's own file is the node "...-storage": what "...-format" opens lies beside it.
    Wording(
        check="disks.backing-missing",
        by=("-blockdev format",),
        says=(f"Could not open '{{path}}': {_ABSENT}",),
        subject="a disk",
        wanted="file {path}, beside its image",
        found="not there",
    ),
    # "unable to stat" the DAC driver says of all files that it labels, kernel and initrd too.
    Wording(
        check="disks.missing",
        says=(
            f"Cannot access storage file '{{path}}': {_ABSENT}",
            "Cannot access storage file '{path}' "
            f"(as uid:{{uid:number}}, gid:{{gid:number}}): {_ABSENT}",
            f"unable to set user and group to '{{owner}}' on '{{path}}': {_ABSENT}",
            f"unable to set security context '{{label}}' on '{{path}}': {_ABSENT}",
        ),
        subject="{path}",
        wanted="there",
        found="nothing there",
    ),
    Wording(
        check="disks.missing",
        says=(
            f"unable to stat: /{{path:rest}}: {_ABSENT}",
        ),
        subject="/{path}",
        wanted="there",
        found="nothing there",
    ),
    Wording(
        check="disks.missing",
        by=("-blockdev storage",),
        says=(
            f"Could not open '{{path}}': {_ABSENT}",
            f"Failed to connect to '/{{path}}': {_ABSENT}",
        ),
        subject="{path}",
        wanted="there",
        found="nothing there",
    ),
    Wording(
        check="disks.missing",
        by=("-blockdev storage",),
        says=("Could not open '{path}': Is a directory",),
        subject="{path}",
        wanted="a file",
        found="a directory",
    ),
    Wording(
        check="disks.unreadable",
        says=(
            f"Cannot access storage file '{{path}}': {_DENIED}",
            "Cannot access storage file '{path}' "
            f"(as uid:{{uid:number}}, gid:{{gid:number}}): {_DENIED}",
            f"Cannot access backing file '{{path}}' of storage file '{{above}}': {_DENIED}",
            "Cannot access backing file '{path}' of storage file '{above}' "
            f"(as uid:{{uid:number}}, gid:{{gid:number}}): {_DENIED}",
            f"unable to stat: {{path:path}}: {_DENIED}",
        ),
        subject="{path}",
        wanted="readable for QEMU",
        found="permission denied",
    ),
    Wording(
        check="disks.unreadable",
        by=("-blockdev storage", "-blockdev format"),
        says=(f"Could not open '{{path}}': {_DENIED}",),
        subject="{path}",
        wanted="readable for QEMU",
        found="permission denied",
    ),
    # NVRAM says the same; disks are opened first.
    Wording(
        check="disks.unwritable",
        by=("command cont", "command set_password"),
        says=(
            f"Could not open '{{path}}': {_DENIED}",
            f"Could not reopen file: {_DENIED}{{path:rest}}",
            "Could not open '{path}': Read-only file system",
        ),
        subject="{path}",
        wanted="writable for QEMU",
        found="not writable",
    ),
    Wording(
        check="disks.wrong-format",
        by=("-blockdev format",),
        says=(
            "Image is not in {format} format",
            "Image not in {format} format",
            "Volume is not in {format} format",
        ),
        subject="a disk",
        wanted="an image of format {format}",
        found="another format",
    ),
    Wording(
        check="disks.copy-needs-target",
        says=(
            "pre-creation of storage targets for incremental storage migration is not supported",
        ),
        subject="a disk that is copied",
        wanted="an image to copy into",
        found="none",
    ),
    Wording(
        check="disks.copy-needs-target",
        says=(
            "cannot precreate storage for disk type '{kind}'",
            "non-shared storage migration into '{kind}' target is not supported",
        ),
        subject="a disk that is copied",
        wanted="a target of type {kind} that is there",
        found="none",
    ),
    Wording(
        check="disks.copy-of-other-size",
        by=("copy", "command blockdev-mirror", "command drive-mirror"),
        says=("Source and target image have different sizes",),
        subject="a disk that is copied",
        wanted="a target of the source's size",
        found="another size",
    ),
    Wording(
        check="disks.copy-of-readonly",
        says=("Cannot migrate empty or read-only disk {name}",),
        subject="disk {name}",
        wanted="a disk that can be written",
        found="empty or read-only",
    ),
    Wording(
        check="disks.copy-without-pool",
        says=("no storage pool with matching target path '{path}'",),
        subject="a disk that is copied",
        wanted="an active pool with target {path}",
        found="no such pool",
    ),
    Wording(
        check="disks.immovable-format",
        by=("reason",),
        says=(
            "The {format} format used by node '{node}' does not support live migration",
            "The {format} (as QEMU block driver) used by node '{node}' does not support live "
            "migration",
        ),
        subject="a disk",
        wanted="a format that migrates",
        found="{format}",
    ),
    Wording(
        check="disks.transient",
        says=("migration with transient disk is not supported",),
        subject="a disk",
        wanted="no <transient/>",
        found="it is set",
    ),
    Wording(
        check="disks.unsafe",
        says=(
            "Migration without shared storage is unsafe",
            "Migration may lead to data corruption if disks use cache other than none or "
            "directsync",
            "Migration may lead to data corruption if disks use cache != none or cache != "
            "directsync",
        ),
        subject="a disk",
        wanted="a file system that libvirt knows to be shared",
        found="another",
    ),
    Wording(
        check="disks.no-pool",
        says=(
            "no storage pool with matching name '{name}'",
            "no storage pool with matching uuid '{name}'",
        ),
        subject="a disk",
        wanted="pool {name}",
        found="no pool of that name",
    ),
    Wording(
        check="disks.no-pool",
        says=(
            "storage pool '{name}' containing volume '{volume}' is not active",
            "storage pool '{name}' is not active",
        ),
        subject="a disk",
        wanted="pool {name} active",
        found="inactive",
    ),
    Wording(
        check="disks.no-volume",
        says=(
            "no storage vol with matching name '{name}'",
            "no storage vol with matching path '{name}'",
            "no storage vol with matching key '{name}'",
        ),
        subject="a disk",
        wanted="volume {name}",
        found="the pool has none of that name",
    ),
    Wording(
        check="disks.no-driver",
        by=("-blockdev", "-drive"),
        says=("Unknown driver '{name}'", "Unknown protocol '{name}'"),
        subject="a network disk",
        wanted="QEMU's driver {name}",
        found="not there",
    ),
    # Of a TPM's state it is said, too: disks with secrets are more.
    Wording(
        check="disks.no-secret",
        says=(
            "no secret with matching uuid '{secret}'",
            "no secret with matching uuid {secret:uuid}",
            "no secret with matching usage '{secret}'",
        ),
        subject="secret {secret}",
        wanted="defined on this host",
        found="no such secret",
    ),
    Wording(
        check="disks.no-secret",
        says=("secret '{secret}' does not have a value",),
        subject="secret {secret}",
        wanted="a value",
        found="none",
    ),
    Wording(
        check="disks.unreachable",
        by=("-blockdev storage", "-blockdev format"),
        says=(
            "Failed to connect to '{server}': Connection refused",
            "Failed to connect to '{server}': No route to host",
            "Failed to connect to '{server}': Network is unreachable",
            "Failed to connect to '{server}': Connection timed out",
            "address resolution failed for {server:text}: {why:errno}",
        ),
        subject="a network disk",
        wanted="its server {server}",
        found="no answer",
    ),
    Wording(
        check="disks.unreachable",
        by=("-blockdev storage", "-blockdev format"),
        says=(
            "error connecting: {why:errno}",
            "Failed to connect socket: {why:errno}",
            "iSCSI: Failed to connect to LUN : {why:text}",
            "Unable to connect to iSCSI portal{why:rest}",
        ),
        subject="a network disk",
        wanted="its server",
        found="{why}",
    ),
)

_FIRMWARE = (
    Wording(
        check="firmware.missing",
        by=("-blockdev pflash", "-kernel", "-initrd", "-fw_cfg", "-acpitable"),
        says=(
            f"Could not open '{{path}}': {_ABSENT}",
            f"can't load {{path:path}}: {_ABSENT}",
        ),
        subject="firmware or kernel",
        wanted="{path}",
        found="not there",
    ),
    # QEMU does not say whether it is there, and unreadable.
    Wording(
        check="firmware.missing",
        by=("-bare", "-bios"),
        says=("could not load PC BIOS '{path}'",),
        subject="BIOS",
        wanted="{path}",
        found="QEMU cannot load it",
    ),
    Wording(
        check="firmware.missing",
        by=("-bare", "-device"),
        says=(
            'failed to find romfile "{path}"',
            "failed to find romfile '{path}'",
        ),
        subject="ROM of a device",
        wanted="{path}",
        found="QEMU cannot find it",
    ),
    Wording(
        check="firmware.missing",
        by=("-bare", "-kernel"),
        says=(
            f"could not open kernel file '{{path}}': {_ABSENT}",
            f"could not load kernel '{{path}}': {_ABSENT}",
            f"error reading initrd {{path:path}}: Failed to open file “{{name:text}}”: {_ABSENT}",
        ),
        subject="kernel",
        wanted="{path}",
        found="not there",
    ),
    Wording(
        check="firmware.unreadable",
        by=("-blockdev pflash", "-kernel", "-initrd", "-fw_cfg", "-acpitable"),
        says=(
            f"Could not open '{{path}}': {_DENIED}",
            f"can't load {{path:path}}: {_DENIED}",
        ),
        subject="firmware or kernel",
        wanted="{path} readable for QEMU",
        found="permission denied",
    ),
    Wording(
        check="firmware.unreadable",
        by=("-bare", "-kernel"),
        says=(
            f"could not open kernel file '{{path}}': {_DENIED}",
            f"could not load kernel '{{path}}': {_DENIED}",
        ),
        subject="kernel",
        wanted="{path} readable for QEMU",
        found="permission denied",
    ),
    Wording(
        check="firmware.no-template",
        says=(
            "unable to find any master var store for loader: {loader:path}",
            "unable to find any master var store for loader '{loader}'",
        ),
        subject="NVRAM",
        wanted="a template for {loader}",
        found="none",
    ),
    Wording(
        check="firmware.no-template",
        says=(f"Failed to open file '{{path}}': {_ABSENT}",),
        subject="NVRAM",
        wanted="its template {path}",
        found="not there",
    ),
    # libvirt writes NAME.new and renames it.
    Wording(
        check="firmware.nvram-folder",
        says=(f"Failed to create file '{{path}}.new': {_ABSENT}",),
        subject="NVRAM",
        wanted="the directory of {path}",
        found="not there",
    ),
    Wording(
        check="firmware.other-size",
        by=("-bare", "libvirt", "job"),
        says=(
            "Size mismatch: system.flash0: {was:hex} != {is:hex}: Invalid argument",
            "Length mismatch: system.flash0: {was:hex} in != {is:hex}: Invalid argument",
        ),
        subject="firmware",
        wanted="{was} bytes, as on the source",
        found="{is} bytes",
    ),
    Wording(
        check="firmware.template-of-other-size",
        by=("-bare", "libvirt", "job"),
        says=(
            "Size mismatch: system.flash1: {was:hex} != {is:hex}: Invalid argument",
            "Length mismatch: system.flash1: {was:hex} in != {is:hex}: Invalid argument",
        ),
        subject="NVRAM",
        wanted="{was} bytes, as on the source",
        found="{is} bytes",
    ),
    Wording(
        check="firmware.rom-of-other-size",
        by=("-bare", "libvirt", "job"),
        says=(
            "Size mismatch: pc.bios: {was:hex} != {is:hex}: Invalid argument",
            "Length mismatch: pc.bios: {was:hex} in != {is:hex}: Invalid argument",
            "Size mismatch: {device}.rom: {was:hex} != {is:hex}: Invalid argument",
            "Length mismatch: {device}.rom: {was:hex} in != {is:hex}: Invalid argument",
        ),
        subject="QEMU's ROM",
        wanted="{was} bytes, as on the source",
        found="{is} bytes",
    ),
)

_GRAPHICS = (
    Wording(
        check="graphics.address-not-here",
        by=("-vnc", "-spice"),
        says=(
            f"Failed to bind socket: {_NOT_OURS}",
            f"Failed to find an available port: {_NOT_OURS}",
            f"Failed to start VNC server: Failed to bind socket: {_NOT_OURS}",
        ),
        subject="screen",
        wanted="an address of this host",
        found="another",
    ),
    Wording(
        check="graphics.port-in-use",
        by=("-vnc", "-spice"),
        says=(
            f"Failed to find an available port: {_TAKEN}",
            f"Failed to bind socket: {_TAKEN}",
            f"Failed to listen on socket: {_TAKEN}",
            f"Failed to start VNC server: Failed to find an available port: {_TAKEN}",
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
    ),
    Wording(
        check="graphics.no-directory",
        by=("-vnc", "-spice"),
        says=(
            f"Failed to bind socket to {{path:path}}: {_ABSENT}",
            f"Failed to bind socket to '{{path}}': {_ABSENT}",
        ),
        subject="screen",
        wanted="the directory of {path}",
        found="not there",
    ),
    Wording(
        check="graphics.no-render-node",
        says=(
            "No DRM render nodes available",
            f"unable to stat: /dev/dri/{{name}}: {_ABSENT}",
        ),
        subject="screen",
        wanted="the GPU's render node",
        found="not there",
    ),
    Wording(
        check="graphics.no-render-node",
        by=("-",),
        says=(
            "egl: no drm render node available",
            "egl: failed to open render node{node:rest}",
            "no drm render node available",
        ),
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
        says=(
            "There is no option group 'spice'",
            "invalid option",
        ),
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
            "spice defaultMode secure requested in XML configuration, but TLS connection is not "
            "available",
            "spice defaultMode secure requested in XML configuration but TLS is disabled in "
            "qemu.conf",
        ),
        subject="spice",
        wanted="spice_tls = 1",
        found="off",
    ),
    Wording(
        check="graphics.video-not-offered",
        says=(
            "domain configuration does not support video model '{name}'",
            "this QEMU does not support '{name}' video device",
        ),
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
        says=(
            "invalid device API '{wanted}' for device {name}: device only supports '{given}'",
        ),
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
        says=("Device {address:pci} not found: could not access {path:path}: {why:errno}",
              "Device {address:pci} not found: could not access {path:path}"),
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
            "PCI device {address:pci} allocated from network {network:text} is already in use by "
            "domain {guest:text}",
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
            "Multiple VFIO devices migration is supported only if all of them support P2P "
            "migration",
            "non-migratable device: {name}/vfio-pci",
        ),
        subject="PCI device",
        wanted="a device that migrates",
        found="it does not",
    ),
    Wording(
        check="hostdevs.scsi-absent",
        says=(
            "SCSI device '{address}': could not access {path:path}: {why:errno}",
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

_MACHINE = (
    Wording(
        check="machine.emulator-absent",
        says=(f"Cannot check QEMU binary {{path:path}}: {_ABSENT}",),
        subject="{path}",
        wanted="an executable file",
        found="not there",
    ),
    Wording(
        check="machine.emulator-absent",
        says=(
            "QEMU binary {path:path} is not executable: {why:errno}",
            "QEMU binary {path:path} is not executable",
        ),
        subject="{path}",
        wanted="an executable file",
        found="not executable",
    ),
    Wording(
        check="machine.emulator-broken",
        says=("Failed to start QEMU binary {path:path} for probing: {why:rest}",
              "Failed to probe QEMU binary with QMP: {path:path}: {why:rest}"),
        subject="{path}",
        wanted="a QEMU that starts",
        found="{why}",
    ),
    Wording(
        check="machine.emulator-refused",
        says=("QEMU version >= {least} is required, but {given} found",),
        subject="emulator",
        wanted="QEMU {least} or later",
        found="QEMU {given}",
    ),
    Wording(
        check="machine.type-unsupported",
        says=(
            "Emulator '{path}' does not support machine type '{name}'",
            "the machine '{name}' is not supported by emulator '{path}'",
        ),
        subject="machine type {name}",
        wanted="known to {path}",
        found="not known to it",
    ),
    Wording(
        check="machine.type-unsupported",
        by=("-machine", "-M"),
        says=(
            "unsupported machine type{more:rest}",
            "unsupported machine type: \"{name}\"",
        ),
        subject="machine type",
        wanted="known to QEMU",
        found="not known to it",
    ),
    Wording(
        check="machine.architecture-unsupported",
        says=(
            "Emulator '{path}' does not support arch '{name}'",
            "unable to find any emulator to serve '{name}' architecture",
            "No emulator found for arch '{name}'",
        ),
        subject="emulator",
        wanted="one for {name}",
        found="none",
    ),
    Wording(
        check="machine.virt-type-unsupported",
        says=(
            "Emulator '{path}' does not support virt type '{name}'",
            "the accel '{name}' is not supported by '{path}' on this host",
        ),
        subject="type {name}",
        wanted="supported by {path}",
        found="not supported by it",
    ),
    Wording(
        check="machine.kvm-absent",
        says=("Domain requires KVM, but it is not available.{more:rest}",),
        subject="/dev/kvm",
        wanted="there",
        found="not there",
    ),
    Wording(
        check="machine.kvm-absent",
        by=("-",),
        says=(f"Could not access KVM kernel module: {_ABSENT}",),
        subject="/dev/kvm",
        wanted="there",
        found="not there",
    ),
    Wording(
        check="machine.kvm-forbidden",
        by=("-",),
        says=(f"Could not access KVM kernel module: {_DENIED}",),
        subject="/dev/kvm",
        wanted="readable and writable for QEMU",
        found="not allowed",
    ),
    Wording(
        check="machine.too-many-vcpus",
        says=("Maximum CPUs greater than specified machine type limit {most:number}",),
        subject="vCPUs",
        wanted="as many as the guest has",
        found="at most {most}",
    ),
    Wording(
        check="machine.too-many-vcpus",
        by=("-",),
        says=(
            "Number of hotpluggable cpus requested ({wanted:number}) exceeds the maximum cpus "
            "supported by KVM ({most:number})",
            "Number of SMP cpus requested ({wanted:number}) exceeds the maximum cpus supported "
            "by KVM ({most:number})",
            "Invalid SMP CPUs {wanted:number}. The max CPUs supported by machine '{name}' is "
            "{most:number}",
        ),
        subject="vCPUs",
        wanted="{wanted}",
        found="at most {most}",
    ),
)

_MEMORY = (
    # A limit of libvirtd's (memory.address-space-limit) reads the same.
    Wording(
        check="memory.cannot-be-mapped",
        by=("-",),
        says=("cannot set up guest memory '{name}': Cannot allocate memory",),
        subject="memory",
        wanted="all of it mapped",
        found="the kernel refuses",
    ),
)

_NICS = (
    Wording(
        check="nics.bridge-absent",
        says=(
            "Cannot get interface MTU on '{name}': No such device",
            "Cannot find bridge '{name}'",
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
        subject="{name}",
        wanted="a bridge of the kernel",
        found="another kind of device",
    ),
    Wording(
        check="nics.not-an-ovs-bridge",
        says=("Unable to add port {port} to OVS bridge {name}",),
        subject="bridge {name}",
        wanted="a bridge of Open vSwitch",
        found="the port cannot be added",
    ),
    Wording(
        check="nics.vlan-unsupported",
        says=(
            "interface {name} - vlan tag not supported for this connection type",
            "vlan tag not supported for this connection type",
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
            "interface {name} - filterref is not supported for network interfaces of type "
            "{kind:text}",
            "filterref is not supported for network interfaces of type {kind:text}",
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
            "Invalid use of 'floor' on interface with MAC address {mac} - network '{name}' has no "
            "inbound QoS set",
            "Invalid use of 'floor' on interface with MAC address {mac} - 'floor' is only "
            "supported for interface type 'network' with forward type {forwards:text}",
        ),
        subject="NIC {mac}",
        wanted="guaranteed bandwidth",
        found="none is given there",
    ),
    Wording(
        check="nics.no-bandwidth-floor",
        says=tuple(
            f"Cannot plug '{{nic}}' interface into '{{bridge}}' because {new} would overcommit "
            f"{most} on network '{{name}}'"
            for new, most in (
                ("new combined inbound floor={floor:number}", "average={most:number}"),
                ("new combined inbound floor={floor:number}", "peak={most:number}"),
                ("it", "average={most:number}"),
                ("it", "peak={most:number}"),
            )
        ),
        subject="network {name}",
        wanted="all floors within its inbound bandwidth",
        found="{most} kB/s",
    ),
    Wording(
        check="nics.pool-exhausted",
        says=(
            "network '{name}' requires exclusive access to interfaces, but none are available",
            "network '{name}' uses a direct mode, but has no forward dev and no interface pool",
            "No usable Vf's present on SRIOV PF {name}",
            "Could not get Virtual functions on {name}",
        ),
        subject="{name}",
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
        check="nics.no-traffic-control",
        says=(
            "Child process (tc {command:text}) unexpected exit status {code:number}: {why:text}",
            "Child process ({folder:path}/tc {command:text}) unexpected exit status "
            "{code:number}: {why:text}",
        ),
        subject="bandwidth of NICs",
        wanted="tc",
        found="{why}",
    ),
)

_NUMA = (
    Wording(
        check="numa.cell-absent",
        says=(
            "NUMA node {cell:number} is unavailable",
            "NUMA node {cell:number} is not available",
            "NUMA node {cell:number} is out of range",
        ),
        subject="memory",
        wanted="NUMA cell {cell}",
        found="no such cell",
    ),
    Wording(
        check="numa.cell-absent",
        says=("Unable to write to '{folder}cpuset.mems': {why:errno}",),
        subject="memory",
        wanted="the NUMA cells that it is bound to",
        found="{why}",
    ),
    Wording(
        check="numa.no-numad",
        says=(
            "Failed to query numad for the advisory nodeset",
            "numad is not available on this host",
        ),
        subject="placement",
        wanted="numad",
        found="it gives no answer",
    ),
)

_OPTIONS = (
    Wording(
        check="options.bad-migrateuri",
        says=(
            "missing scheme in migration URI: {uri:rest}",
            "missing host in migration URI: {uri:rest}",
            "unsupported scheme {scheme} in migration URI {uri:rest}",
        ),
        subject="--migrateuri",
        wanted="tcp://HOST",
        found="{uri}",
    ),
    Wording(
        check="options.changed-xml-cpu",
        says=(
            "Target CPU {what:text} does not match source{more:rest}",
            "Target CPU does not match source{more:rest}",
        ),
        subject="--xml: CPU",
        wanted="as the guest's own XML asks for it",
    ),
    # The other parts of a guest that the two must have in common.
    Wording(
        check="options.changed-xml",
        says=tuple(
            f"Target {what} {{what:text}} does not match source{{more:rest}}"
            for what in (
                "domain", "OS", "network", "disk", "controller", "device", "memory", "timer",
                "video", "sound", "input", "serial", "parallel", "channel", "console", "hub",
                "watchdog", "balloon", "RNG", "panic", "TPM", "shared", "host", "TSC", "NVDIMM",
                "filesystem", "smartcard", "redirected", "USB", "sysinfo", "SMBIOS", "hostdev",
                "vsock", "IOMMU", "vCPU", "NUMA", "model", "ROM", "virtio", "PCI", "max", "feature",
            )
        ),
        subject="--xml",
        wanted="as on the source",
    ),
    Wording(
        check="options.changed-xml",
        says=(
            "State of feature '{what}' differs: source: '{wanted}', destination: '{given}'",
            "Target memoryBacking source '{given}' doesn't match source memoryBacking "
            "source'{wanted}'",
        ),
        subject="--xml",
        wanted="{wanted}",
        found="{given}",
    ),
    Wording(
        check="options.changed-xml",
        says=("target domain name doesn't match source name",),
        subject="--xml",
        wanted="the guest's own name",
        found="another",
    ),
    Wording(
        check="options.direct",
        says=("direct migration is not supported by the source host",),
        subject="--direct",
        wanted="--p2p or a managed migration",
        found="--direct",
    ),
    Wording(
        check="options.disks-not-copied",
        says=(
            "use of 'VIR_MIGRATE_PARAM_MIGRATE_DISKS' requires use of "
            "'VIR_MIGRATE_NON_SHARED_DISK' or 'VIR_MIGRATE_NON_SHARED_INC' flag",
        ),
        subject="--migrate-disks",
        wanted="--copy-storage-...",
        found="not given",
    ),
    Wording(
        check="options.no-such-disk",
        says=("disk target {name} not found",),
        subject="disk {name}",
        wanted="one of the guest's disks",
        found="none of that name",
    ),
    Wording(
        check="options.offline-not-persistent",
        says=("offline migration must be specified with the persistent flag set",),
        subject="--offline",
        wanted="--persistent",
        found="not given",
    ),
    Wording(
        check="options.offline-tunnelled",
        says=("tunnelled offline migration does not make sense",),
        subject="--offline",
        wanted="no --tunnelled",
        found="it is given",
    ),
    Wording(
        check="options.offline-with-storage",
        says=("offline migration cannot handle non-shared storage",),
        subject="--offline",
        wanted="no --copy-storage-...",
        found="it is given",
    ),
    Wording(
        check="options.postcopy-not-live",
        says=("post-copy migration is not supported with non-live or paused migration",),
        subject="--postcopy",
        wanted="--live, and a guest that runs",
        found="not so",
    ),
    Wording(
        check="options.postcopy-refused",
        by=("command migrate-set-capabilities",),
        says=("Postcopy is not supported{why:rest}",),
        subject="userfaultfd",
        wanted="allowed to the user that QEMU runs as",
    ),
    Wording(
        check="options.postcopy-tunnelled",
        says=("post-copy is not supported with tunnelled migration",),
        subject="--postcopy",
        wanted="no --tunnelled",
        found="it is given",
    ),
    Wording(
        check="options.rdma-without-limit",
        says=("cannot start RDMA migration with no memory hard limit set",),
        subject="--migrateuri",
        wanted="<hard_limit>",
        found="none",
    ),
    # With a UUID it is about hosts that say they are one: tenants.same-host.
    Wording(
        check="options.same-host",
        says=("Attempt to migrate guest to the same host",),
        subject="--desturi",
        wanted="another host",
        found="this very host",
    ),
    Wording(
        check="options.tunnelled-not-p2p",
        says=("cannot perform tunnelled migration without using peer2peer flag",),
        subject="--tunnelled",
        wanted="--p2p",
        found="not given",
    ),
    Wording(
        check="options.tunnelled-parallel",
        says=(
            "Flags 'VIR_MIGRATE_TUNNELLED' and 'VIR_MIGRATE_PARALLEL' are mutually exclusive",
            "Flags 'VIR_MIGRATE_PARALLEL' and 'VIR_MIGRATE_TUNNELLED' are mutually exclusive",
        ),
        subject="--tunnelled",
        wanted="no --parallel",
        found="it is given",
    ),
    Wording(
        check="options.tunnelled-with-storage",
        says=(
            "migration of non-shared storage is not supported with tunnelled migration and this "
            "QEMU",
            # What libvirt 9.0 comes to when it goes on all the same.
            "argument key 'host' must not have null value",
        ),
        subject="--tunnelled",
        wanted="no --copy-storage-...",
        found="it is given",
    ),
    Wording(
        check="options.tunnelled-with-uri",
        says=("migration URI is not supported by tunnelled migration",),
        subject="--tunnelled",
        wanted="no --migrateuri",
        found="it is given",
    ),
    Wording(
        check="options.two-copies",
        says=(
            "Flags 'VIR_MIGRATE_NON_SHARED_DISK' and 'VIR_MIGRATE_NON_SHARED_INC' are mutually "
            "exclusive",
            "Flags 'VIR_MIGRATE_NON_SHARED_INC' and 'VIR_MIGRATE_NON_SHARED_DISK' are mutually "
            "exclusive",
        ),
        subject="--copy-storage-all",
        wanted="no --copy-storage-inc",
        found="both",
    ),
)

_PAGES = (
    Wording(
        check="pages.no-mount",
        says=("Unable to find any usable hugetlbfs mount for {size:number} KiB",),
        subject="{size} KiB pages",
        wanted="a hugetlbfs with pagesize={size}K",
        found="no hugetlbfs that libvirt uses",
    ),
    Wording(
        check="pages.no-mount",
        says=("hugetlbfs filesystem is not mounted or disabled by administrator config",),
        subject="huge pages",
        wanted="a hugetlbfs",
        found="no hugetlbfs that libvirt uses",
    ),
    # Memory that has to be there at once says the same.
    Wording(
        check="pages.too-few-free",
        by=("-",),
        says=(
            "unable to map backing store for guest RAM: Cannot allocate memory",
            "qemu_prealloc_mem: preallocating memory failed{more:rest}",
            "qemu_prealloc_mem: Insufficient free host memory pages available to allocate guest "
            "RAM",
            "os_mem_prealloc: Insufficient free host memory pages available to allocate guest RAM",
        ),
        subject="huge pages",
        wanted="enough free",
        found="too few",
    ),
    Wording(
        check="pages.smaller-than-a-page",
        by=("-",),
        says=(
            "memory size {memory:hex} must be equal to or larger than page size {page:hex}",
            "memory size {memory:hex} must be equal to or larger than page size "
            "{page:hex}{more:rest}",
        )[:1],
        subject="memory",
        wanted="pages of at most {memory} bytes",
        found="pages of {page} bytes",
    ),
)

_PINNING = (
    Wording(
        check="pinning.cpu-absent",
        says=("cannot set CPU affinity on process {process:number}: Invalid argument",),
        subject="pins",
        wanted="CPUs of this host",
        found="none of those wanted",
    ),
    Wording(
        check="pinning.cpu-absent",
        says=(
            "Unable to write to '{folder}cpuset.cpus': {why:errno}",
            "Invalid value '{cpus}' for 'cpuset.cpus': {why:errno}",
        ),
        subject="pins",
        wanted="CPUs of this host",
        found="{why}",
    ),
    Wording(
        check="pinning.no-realtime",
        says=(
            "Cannot set scheduler parameters for pid {process:number}: Operation not permitted",
        ),
        subject="scheduler",
        wanted="real-time for the guest's cgroup",
        found="not permitted",
    ),
)

_SHARES = (
    Wording(
        check="shares.virtiofs-stays",
        says=(
            "migration with virtiofs device is not supported",
            "migration with this virtiofs device is not supported",
        ),
        subject="virtiofs",
        wanted="no virtiofs",
        found="libvirt does not let it go",
    ),
    Wording(
        check="shares.virtiofs-stays",
        by=("reason",),
        says=("non-migratable device: {device}/vhost-user-fs",),
        subject="virtiofs",
        wanted="no virtiofs",
        found="QEMU does not let it go",
    ),
    Wording(
        check="shares.mounted",
        by=("reason",),
        says=(
            "Migration is disabled when VirtFS export path '{path}' is mounted in the guest using "
            "mount_tag '{tag}'",
        ),
        subject="share {tag}",
        wanted="not mounted in the guest",
        found="mounted",
    ),
    Wording(
        check="shares.no-directory",
        says=("the virtiofs export directory '{path}' does not exist",),
        subject="share",
        wanted="directory {path}",
        found="not there",
    ),
    Wording(
        check="shares.no-directory",
        by=("-",),
        says=(f"cannot initialize fsdev '{{name}}': failed to open '{{path}}': {_ABSENT}",),
        subject="share",
        wanted="directory {path}",
        found="not there",
    ),
    Wording(
        check="shares.no-server",
        says=("virtiofsd binary '{path}' is not executable",),
        subject="share",
        wanted="{path}",
        found="not executable",
    ),
    Wording(
        check="shares.no-server",
        says=("Unable to find a satisfying virtiofsd",),
        subject="share",
        wanted="virtiofsd",
        found="none installed",
    ),
    Wording(
        check="shares.no-server",
        by=("-chardev share",),
        says=("Failed to connect to '{path}': {why:errno}",),
        subject="share",
        wanted="a virtiofsd at {path}",
        found="{why}",
    ),
)

_STATE = (
    Wording(
        check="state.block-job",
        says=("domain has active block job", "domain has an active block job"),
        subject="a disk",
        wanted="no block job",
        found="one is active",
    ),
    Wording(
        check="state.confidential",
        by=("reason",),
        says=(
            "SEV: Migration is not implemented",
            "SEV-ES: Migration is not implemented",
            "SEV-SNP: Migration is not implemented",
            "TDX: Migration is not implemented",
            "PEF: Migration is not implemented",
            "protected VMs are currently not migratable.",
        ),
        subject="launch security",
        wanted="none",
        found="QEMU cannot migrate it",
    ),
    Wording(
        check="state.dimm-without-address",
        says=("domain's dimm info lacks slot ID or base address",),
        subject="dimm",
        wanted="slot and base address",
        found="none",
    ),
    Wording(
        check="state.hyperv-passthrough",
        by=("reason",),
        says=("'hv-passthrough' CPU flag prevents migration, use explicit set of hv-* flags"
              " instead",),
        subject="Hyper-V",
        wanted="features by name",
        found="mode passthrough",
    ),
    Wording(
        check="state.invariant-tsc",
        says=("domain has 'invtsc' CPU feature but TSC frequency is not specified",),
        subject="CPU",
        wanted="a TSC frequency",
        found="invtsc without one",
    ),
    Wording(
        check="state.invariant-tsc",
        by=("reason",),
        says=("State blocked by non-migratable CPU device (invtsc flag)",),
        subject="CPU",
        wanted="a TSC frequency",
        found="invtsc without one",
    ),
    Wording(
        check="state.job",
        says=(
            "another migration job is already running for domain '{name}'",
            "cannot acquire state change lock{holder:rest}",
        ),
        subject="the guest",
        wanted="no other job",
        found="one is under way",
    ),
    Wording(
        check="state.not-running",
        says=("domain is not running", "domain is no longer running"),
        subject="the guest",
        wanted="running or paused",
        found="shut off",
    ),
    Wording(
        check="state.shared-memory",
        says=(
            "migration with legacy shmem device is not supported",
            "shmem device '{name}' cannot be migrated, only shmem with role='{role}' can be "
            "migrated",
        ),
        subject="shmem",
        wanted="role master",
        found="it stays with others",
    ),
    Wording(
        check="state.shared-memory",
        by=("reason",),
        says=("Migration is disabled when using feature 'peer mode' in device 'ivshmem'",),
        subject="shmem",
        wanted="role master",
        found="role peer",
    ),
    Wording(
        check="state.snapshots",
        says=(
            "cannot migrate domain with {count:number} snapshots",
            "cannot migrate domain with {count:number} snapshot",
        ),
        subject="the guest",
        wanted="no snapshots",
        found="{count}",
    ),
    Wording(
        check="state.unmigratable-device",
        says=("vDPA devices cannot be migrated",),
        subject="vDPA",
        wanted="a device that migrates",
        found="it does not",
    ),
    Wording(
        check="state.unmigratable-device",
        by=("reason",),
        says=(
            "virgl is not yet migratable",
            "rutabaga is not yet migratable",
            "The vdagent chardev doesn't yet support migration",
            "Migration disabled: TPM emulator does not support migration",
            "Migration disabled: vhost-user backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD feature.",
            "Migration disabled: vhost lacks VHOST_F_LOG_ALL feature.",
        ),
        subject="a device",
        wanted="one that migrates",
    ),
)
# Whose own checks look for them: all other devices that QEMU does not migrate are alike.
_DEVICES_OF_OTHERS = ("vhost-user-fs", "vfio-ap", "vfio-ccw", "vfio-pci")

_TENANTS = (
    Wording(
        check="tenants.name-taken",
        says=(
            "domain '{name}' already exists with uuid {uuid:uuid}",
            "domain '{name}' is already defined with uuid {uuid:uuid} under that name",
        )[:1],
        subject="{name}",
        wanted="a name that is free",
        found="taken by guest {uuid}",
    ),
    Wording(
        check="tenants.uuid-taken",
        says=("domain '{name}' is already defined with uuid {uuid:uuid}",),
        subject="{uuid}",
        wanted="a UUID that is free",
        found="taken by guest {name}",
    ),
    Wording(
        check="tenants.already-there",
        says=("domain '{name}' is already active",),
        subject="{name}",
        wanted="not there yet",
        found="running",
    ),
    Wording(
        check="tenants.already-there",
        says=("domain '{name}' is already being started",),
        subject="{name}",
        wanted="not there yet",
        found="being started",
    ),
    Wording(
        check="tenants.same-host",
        says=("Attempt to migrate guest to the same host {uuid:uuid}",),
        subject="{uuid}",
        wanted="a host of another UUID",
        found="the source's",
    ),
    Wording(
        check="tenants.host-nameless",
        says=("hostname on destination resolved to localhost, but migration requires an FQDN",),
        subject="the host's name",
        wanted="one that others can resolve",
        found="localhost",
    ),
)

_TPM = (
    Wording(
        check="tpm.not-offered",
        says=(
            "The QEMU executable {path:path} does not support TPM backend type {name}",
            "The QEMU executable {path:path} does not support TPM model {name}",
        ),
        subject="TPM",
        wanted="{name}",
        found="this QEMU has it not",
    ),
    # libvirt asks swtpm which versions there are: none without it.
    Wording(
        check="tpm.no-swtpm",
        says=("TPM version '{version}' is not supported",),
        subject="TPM",
        wanted="version {version} of swtpm",
        found="not there",
    ),
    Wording(
        check="tpm.no-swtpm",
        says=(
            "Unable to find '{name}' binary in $PATH: {why:errno}",
            "Unable to find '{name}' binary in $PATH",
        ),
        subject="TPM",
        wanted="{name}",
        found="not installed",
    ),
    Wording(
        check="tpm.device-absent",
        says=(
            "Could not open TPM device {path:path}: {why:errno}",
            "Could not open TPM device {path:path}",
        ),
        subject="TPM",
        wanted="{path}",
        found="it cannot be opened",
    ),
    Wording(
        check="tpm.device-absent",
        by=("-chardev tpm",),
        says=("Failed to connect to '{path}': {why:errno}",),
        subject="TPM",
        wanted="a TPM at {path}",
        found="{why}",
    ),
)

_TRANSPORT = (
    Wording(
        check="transport.unknown-name",
        says=("Unable to resolve address '{host}' service '49{port}': {why:errno}",),
        subject="{host}",
        wanted="known to the source",
        found="{why}",
    ),
    # Ports of a migration: libvirt's range is 49152 to 49215 (migration_port_min, qemu.conf).
    Wording(
        check="transport.no-way",
        says=("unable to connect to server at '{host}:49{port}': {why:errno}",),
        subject="{host}",
        wanted="a way to the destination's migration port",
        found="{why}",
    ),
    Wording(
        check="transport.no-way",
        by=("job", "command migrate"),
        says=(
            "Failed to connect to '{host}': {why:errno}",
            "Failed to connect socket: {why:errno}",
        ),
        subject="the migration's stream",
        wanted="a way to the destination's migration port",
        found="{why}",
    ),
    Wording(
        check="transport.port-taken",
        by=("command migrate-incoming",),
        says=(
            f"Failed to find an available port: {_TAKEN}",
            f"Failed to listen on socket: {_TAKEN}",
        ),
        subject="the migration's port",
        wanted="free",
        found="in use",
    ),
)

_VERSIONS = (
    Wording(
        check="versions.feature-unknown",
        says=("unexpected feature '{name}'", "unexpected feature {name}"),
        subject="feature {name}",
        wanted="known to libvirt",
        found="unknown to it",
    ),
)

WORDINGS: tuple[Wording, ...] = (
    *_CERTIFICATES, *_CHARDEVS, *_CPU, *_DAEMON, *_DEVICES, *_DISKS, *_FIRMWARE, *_GRAPHICS,
    *_HOSTDEVS, *_MACHINE, *_MEMORY, *_NICS, *_NUMA, *_OPTIONS, *_PAGES, *_PINNING, *_SHARES,
    *_STATE, *_TENANTS, *_TPM, *_TRANSPORT, *_VERSIONS,
)
