"""Disks, firmware, shares and the TPM: what is kept in files."""

from __future__ import annotations

from virt_preflight.agent.asks.wording import ABSENT, DENIED, Wording

_DISKS = (
    Wording(
        check="disks.backing-format",
        says=(
            (
                "format of backing image '{below}' of image '{path}' was not specified in the "
                "image metadata{more:rest}"
            ),
        ),
        subject="disk {path}",
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
        subject="disk {path}",
        wanted="at most 200 images in a chain",
        found="more than 200",
    ),
    Wording(
        check="disks.backing-missing",
        says=(
            f"Cannot access backing file '{{below}}' of storage file '{{path}}': {ABSENT}",
            (
                "Cannot access backing file '{below}' of storage file '{path}' "
                f"(as uid:{{uid:number}}, gid:{{gid:number}}): {ABSENT}"
            ),
        ),
        subject="disk {path}",
        wanted="its backing file {below}",
        found="not there",
    ),
    # An image's own file is the node "...-storage": what "...-format" opens lies beside it.
    Wording(
        check="disks.backing-missing",
        by=("-blockdev format",),
        says=(f"Could not open '{{path}}': {ABSENT}",),
        subject="a disk",
        wanted="file {path}, beside its image",
        found="not there",
    ),
    # "unable to stat" the DAC driver says of all files that it labels, kernel and initrd too.
    Wording(
        check="disks.missing",
        says=(
            f"Cannot access storage file '{{path}}': {ABSENT}",
            (
                "Cannot access storage file '{path}' "
                f"(as uid:{{uid:number}}, gid:{{gid:number}}): {ABSENT}"
            ),
            f"unable to set user and group to '{{owner}}' on '{{path}}': {ABSENT}",
            f"unable to set security context '{{label}}' on '{{path}}': {ABSENT}",
        ),
        subject="disk {path}",
        wanted="a file or device",
        found="nothing there",
    ),
    Wording(
        check="disks.missing",
        alike=(
            "disks.backing-missing",
            "firmware.missing",
            "devices.node-absent",
            "memory.file-absent",
            "chardevs.device-absent",
            "chardevs.peer-absent",
            "disks.copy-into-ghost",
        ),
        says=(f"unable to stat: {{path:file}}: {ABSENT}",),
        subject="{path}",
        wanted="a file or device",
        found="nothing there",
    ),
    Wording(
        check="disks.missing",
        by=("-blockdev storage",),
        says=(
            f"Could not open '{{path}}': {ABSENT}",
            f"Failed to connect to '{{path}}': {ABSENT}",
        ),
        subject="disk {path}",
        wanted="a file or device",
        found="nothing there",
    ),
    Wording(
        check="disks.missing",
        by=("-blockdev storage",),
        says=("Could not open '{path}': Is a directory",),
        subject="disk {path}",
        wanted="a file",
        found="a directory",
    ),
    Wording(
        check="disks.missing",
        says=("cannot read header '{path}': Is a directory",),
        subject="disk {path}",
        wanted="a file",
        found="a directory",
    ),
    Wording(
        check="disks.unreadable",
        says=(
            f"Cannot access storage file '{{path}}': {DENIED}",
            (
                "Cannot access storage file '{path}' "
                f"(as uid:{{uid:number}}, gid:{{gid:number}}): {DENIED}"
            ),
            f"Cannot access backing file '{{path}}' of storage file '{{above}}': {DENIED}",
            (
                "Cannot access backing file '{path}' of storage file '{above}' "
                f"(as uid:{{uid:number}}, gid:{{gid:number}}): {DENIED}"
            ),
            f"unable to stat: {{path:path}}: {DENIED}",
        ),
        subject="disk {path}",
        wanted="readable for QEMU",
        found="permission denied",
    ),
    Wording(
        check="disks.unreadable",
        alike=("disks.copy-not-openable",),
        by=("-blockdev storage", "-blockdev format"),
        says=(f"Could not open '{{path}}': {DENIED}",),
        subject="disk {path}",
        wanted="readable for QEMU",
        found="permission denied",
    ),
    # NVRAM says the same; disks are opened first.
    Wording(
        check="disks.unwritable",
        alike=(
            "disks.unreadable",
            "firmware.unwritable",
        ),
        by=("command cont",),
        says=(
            f"Could not open '{{path}}': {DENIED}",
            "Could not open '{path}': Read-only file system",
        ),
        subject="disk {path}",
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
            (
                "pre-creation of storage target for incremental storage migration of disk "
                "'{name}' is not supported"
            ),
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
    # nbd_export_create, QEMU's nbd/server.c: the lock that the running guest holds reaches here.
    Wording(
        check="disks.copy-onto-itself",
        by=("command block-export-add", "command nbd-server-add"),
        says=("Block node is read-only",),
        subject="a disk that is copied",
        wanted="another image than the source's",
        found="one that is written to elsewhere",
        alike=("disks.copy-into-held",),
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
        says=("The {format} format used by node '{node}' does not support live migration",),
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
            (
                "Migration may lead to data corruption if disks use cache other than none or "
                "directsync"
            ),
            (
                "Migration may lead to data corruption if disks use cache != none or cache != "
                "directsync"
            ),
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
        alike=("tpm.no-secret",),
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
        alike=("tpm.no-secret",),
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
        ),
        subject="a network disk",
        wanted="its server",
        found="{why}",
    ),
)

_FIRMWARE = (
    Wording(
        check="firmware.missing",
        by=("-blockdev pflash", "-acpitable"),
        says=(
            f"Could not open '{{path}}': {ABSENT}",
            f"can't open file {{path:path}}: {ABSENT}",
        ),
        subject="firmware or kernel",
        wanted="{path}",
        found="not there",
    ),
    # QEMU does not say whether it is there, and unreadable.
    Wording(
        check="firmware.missing",
        alike=("firmware.unreadable",),
        by=("-bare", "-bios"),
        says=("could not load PC BIOS '{path}'",),
        subject="BIOS",
        wanted="{path}",
        found="QEMU cannot load it",
    ),
    Wording(
        check="firmware.missing",
        alike=(
            "firmware.unreadable",
            "firmware.rom-of-other-size",
        ),
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
        by=("-bare",),
        says=(f"could not open kernel file '{{path}}': {ABSENT}",),
        subject="kernel",
        wanted="{path}",
        found="not there",
    ),
    Wording(
        check="firmware.missing",
        alike=("firmware.unreadable",),
        by=("-bare", "-fw_cfg"),
        says=(
            "could not load kernel '{path}'",
            "error reading initrd {path:path}: {why:text}",
            "can't load {path:path}",
        ),
        subject="kernel, initrd or fw_cfg",
        wanted="{path}",
        found="QEMU cannot load it",
    ),
    Wording(
        check="firmware.unreadable",
        alike=("firmware.nvram-folder",),
        by=("-blockdev pflash", "-acpitable"),
        says=(
            f"Could not open '{{path}}': {DENIED}",
            f"can't open file {{path:path}}: {DENIED}",
        ),
        subject="firmware or kernel",
        wanted="{path} readable for QEMU",
        found="permission denied",
    ),
    Wording(
        check="firmware.unreadable",
        by=("-bare",),
        says=(f"could not open kernel file '{{path}}': {DENIED}",),
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
        alike=("firmware.missing",),
        says=(f"Failed to open file '{{path}}': {ABSENT}",),
        subject="NVRAM",
        wanted="its template {path}",
        found="not there",
    ),
    # libvirt writes NAME.new and renames it.
    Wording(
        check="firmware.nvram-folder",
        says=(f"Failed to create file '{{path}}.new': {ABSENT}",),
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
        alike=("firmware.other-size",),
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
            (
                "Migration is disabled when VirtFS export path '{path}' is mounted in the guest "
                "using mount_tag '{tag}'"
            ),
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
        says=(f"cannot initialize fsdev '{{name}}': failed to open '{{path}}': {ABSENT}",),
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
        alike=("tpm.not-offered",),
        says=("TPM version '{version}' is not supported",),
        subject="TPM",
        wanted="version {version} of swtpm",
        found="not there",
    ),
    Wording(
        check="tpm.no-swtpm",
        says=(
            "Unable to find 'swtpm' binary in $PATH{more:rest}",
            "Unable to find 'swtpm_setup' binary in $PATH{more:rest}",
            "Unable to find 'swtpm_ioctl' binary in $PATH{more:rest}",
        ),
        subject="TPM",
        wanted="swtpm",
        found="not installed",
    ),
    Wording(
        check="tpm.device-absent",
        says=("Could not open TPM device {path:path}",),
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

STORAGE: tuple[Wording, ...] = (*_DISKS, *_FIRMWARE, *_SHARES, *_TPM)
