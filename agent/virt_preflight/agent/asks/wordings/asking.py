"""What the options of a migration, the way and the state of the guest come to."""

from __future__ import annotations

from virt_preflight.agent.asks.wording import NOT_OURS, TAKEN, Wording

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
    Wording(
        check="certificates.client-refused",
        by=("command object-add",),
        says=(
            "The client certificate {path:path} has expired",
            "The client certificate {path:path} is not yet active",
            (
                "Our own certificate {path:path}/client-cert.pem failed validation against "
                "{authority:path}: {why:text}"
            ),
        ),
        subject="{path}",
        wanted="a certificate that is valid now",
        found="refused by QEMU itself",
    ),
    # Of the CA's either side's QEMU may say so; the destination's is asked first.
    Wording(
        check="certificates.server-refused",
        alike=("certificates.client-refused",),
        by=("command object-add",),
        says=(
            "The server certificate {path:path} has expired",
            "The server certificate {path:path} is not yet active",
            "The CA certificate {path:path} has expired",
            "The CA certificate {path:path} is not yet active",
            (
                "Our own certificate {path:path}/server-cert.pem failed validation against "
                "{authority:path}: {why:text}"
            ),
        ),
        subject="{path}",
        wanted="a certificate that is valid now",
        found="refused by QEMU itself",
    ),
    # Either side's QEMU asks for the CA's; the destination's is asked first.
    Wording(
        check="certificates.server-absent",
        alike=("certificates.client-absent",),
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
        alike=("daemon.tls-forced-at-source",),
        says=("this libvirtd instance allows migration only with VIR_MIGRATE_TLS flag",),
        subject="migrate_tls_force",
        wanted="--tls",
        found="not given",
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
        says=("Target {what:part} does not match source{more:rest}",),
        subject="--xml",
        wanted="as on the source",
    ),
    Wording(
        check="options.changed-xml",
        says=(
            "State of feature '{what}' differs: source: '{wanted}', destination: '{given}'",
            (
                "Target memoryBacking source '{given}' doesn't match source memoryBacking "
                "source'{wanted}'"
            ),
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
            (
                "use of 'VIR_MIGRATE_PARAM_MIGRATE_DISKS' requires use of "
                "'VIR_MIGRATE_NON_SHARED_DISK' or 'VIR_MIGRATE_NON_SHARED_INC' flag"
            ),
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
        alike=("options.postcopy-of-files",),
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
            (
                "migration of non-shared storage is not supported with tunnelled migration and "
                "this QEMU"
            ),
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
            (
                "Flags 'VIR_MIGRATE_NON_SHARED_DISK' and 'VIR_MIGRATE_NON_SHARED_INC' are mutually "
                "exclusive"
            ),
            (
                "Flags 'VIR_MIGRATE_NON_SHARED_INC' and 'VIR_MIGRATE_NON_SHARED_DISK' are mutually "
                "exclusive"
            ),
        ),
        subject="--copy-storage-all",
        wanted="no --copy-storage-inc",
        found="both",
    ),
)

_SOCKETS = (
    Wording(
        check="transport.no-place-for-socket",
        by=("command migrate-incoming",),
        says=("Failed to bind socket to {path:path}: {why:errno}",),
        subject="--migrateuri {path}",
        wanted="a place where QEMU's user may make it",
        found="{why}",
    ),
)

# qemuMigrationParamsSetCompression, qemu/qemu_migration_params.c.
_COMPRESSED = (
    Wording(
        check="options.compressed-parallel",
        says=(
            "No compression algorithm selected for parallel migration",
            "Compression method 'xbzrle' isn't supported with parallel migration",
        ),
        subject="--compressed",
        wanted="no --parallel",
        found="both",
    ),
)

_STATE = (
    Wording(
        check="state.block-job",
        says=("domain has active block job",),
        subject="a disk",
        wanted="no block job",
        found="one is active",
    ),
    Wording(
        check="state.confidential",
        by=("reason",),
        says=(
            "{kind}: Migration is not implemented",
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
        says=("'hv-passthrough' CPU flag prevents migration{more:rest}",),
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
            (
                "shmem device '{name}' cannot be migrated, only shmem with role='{role}' can be "
                "migrated"
            ),
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
            "non-migratable device: {device:device}",
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

_TENANTS = (
    Wording(
        check="tenants.name-taken",
        says=("domain '{name}' already exists with uuid {uuid:uuid}",),
        subject="guest {name}",
        wanted="a name that is free",
        found="taken by guest {uuid}",
    ),
    Wording(
        check="tenants.uuid-taken",
        says=("domain '{name}' is already defined with uuid {uuid:uuid}",),
        subject="UUID {uuid}",
        wanted="a UUID that is free",
        found="taken by guest {name}",
    ),
    Wording(
        check="tenants.already-there",
        says=("domain '{name}' is already active",),
        subject="guest {name}",
        wanted="not there yet",
        found="running",
    ),
    Wording(
        check="tenants.already-there",
        says=("domain '{name}' is already being started",),
        subject="guest {name}",
        wanted="not there yet",
        found="being started",
    ),
    Wording(
        check="tenants.same-host",
        says=("Attempt to migrate guest to the same host {uuid:uuid}",),
        subject="host UUID {uuid}",
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

_TRANSPORT = (
    Wording(
        check="transport.no-connection",
        says=(
            "Failed to verify peer's certificate",
            "Unable to read TLS confirmation: {why:errno}",
            "Cannot read CA certificate '{path}': {why:errno}",
            "The client certificate {path:path} has expired",
            "The client certificate {path:path} is not yet active",
            (
                "Our own certificate {path:path} failed validation against {authority:path}: "
                "{why:text}"
            ),
        ),
        subject="libvirtd of the destination",
        wanted="a connection with TLS",
        found="not given",
    ),
    Wording(
        check="transport.unknown-name",
        alike=("transport.own-name-unknown",),
        says=("Unable to resolve address '{host}' service '{port:port}': {why:errno}",),
        subject="address {host}",
        wanted="known to the source",
        found="{why}",
    ),
    # At the ports of libvirtd itself it is about the connection (daemon.not-answering).
    Wording(
        check="transport.no-way",
        # Of a name that is the source itself there: nobody listens at that port of its own.
        alike=("transport.own-name-unknown",),
        says=("unable to connect to server at '{host}:{port:port}': {why:errno}",),
        subject="address {host}",
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
        check="transport.address-not-here",
        by=("command migrate-incoming",),
        says=(
            f"Failed to bind socket: {NOT_OURS}",
            f"Failed to find an available port: {NOT_OURS}",
        ),
        subject="migration_address",
        wanted="an address of this host",
        found="none of its own",
    ),
    Wording(
        check="transport.no-free-port",
        says=("Unable to find an unused port in range 'migration' ({low}-{high})",),
        subject="the migration's port",
        wanted="a free one of {low} to {high}",
        found="somebody listens on each",
    ),
    Wording(
        check="transport.port-taken",
        by=("command migrate-incoming",),
        says=(
            f"Failed to find an available port: {TAKEN}",
            f"Failed to listen on socket: {TAKEN}",
        ),
        subject="the migration's port",
        wanted="free",
        found="in use",
    ),
)

# virXMLPropEnumInternal, util/virxml.c; virDomainFeaturesHyperVDefParse, conf/domain_conf.c.
_DEFINITION = (
    Wording(
        check="definition.word-unknown",
        alike=("definition.stored-refused",),
        says=(
            "Invalid value for attribute '{attribute}' in element '{element}': '{value}'.",
            "Invalid value for attribute '{attribute}' in element '{element}': '{value}'",
        ),
        subject="<{element} {attribute}='{value}'>",
        wanted="known to libvirt",
        found="unknown to it",
    ),
    Wording(
        check="definition.word-unknown",
        alike=("definition.stored-refused",),
        says=("unsupported HyperV Enlightenment feature: {name}",),
        subject="<hyperv><{name}>",
        wanted="known to libvirt",
        found="unknown to it",
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

ASKING: tuple[Wording, ...] = (
    *_CERTIFICATES,
    *_COMPRESSED,
    *_DAEMON,
    *_DEFINITION,
    *_OPTIONS,
    *_SOCKETS,
    *_STATE,
    *_TENANTS,
    *_TRANSPORT,
    *_VERSIONS,
)
