"""How the guest would be moved: the options of `virsh migrate` that change the answer."""

from dataclasses import dataclass, fields, replace

from virt_preflight.controller.trouble import BadFieldError

# The options that take a value, and those that are given or not. Names are virsh's, `-` as `_`.
VALUED = ("migrate_disks", "dname", "xml", "migrateuri", "desturi")
# Whether the guest can move does not hang on these: nobody is asked about them, and the command
# that is printed has them.
UNASKED = ("suspend", "undefinesource")
# These two name one host's address, so they can only be right for one destination.
FOR_ONE_HOST = ("migrateuri", "desturi")


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOptions:
    """The move as the agents are asked about it, and as the printed command would do it."""

    live: bool = False
    offline: bool = False
    p2p: bool = False
    direct: bool = False
    tunnelled: bool = False
    persistent: bool = False
    copy_storage_all: bool = False
    copy_storage_inc: bool = False
    migrate_disks: tuple[str, ...] = ()
    postcopy: bool = False
    auto_converge: bool = False
    tls: bool = False
    parallel: bool = False
    unsafe: bool = False
    suspend: bool = False
    undefinesource: bool = False
    compressed: bool = False
    dname: str = ""
    # The destination's domain XML, and the name of the file that it was read from.
    xml: bytes = b""
    xml_file: str = ""
    migrateuri: str = ""
    desturi: str = ""


FLAGS = tuple(
    field.name
    for field in fields(MigrationOptions)
    if field.name not in VALUED and field.name != "xml_file"
)


def with_defaults(options: MigrationOptions) -> MigrationOptions:
    """A live move by way of libvirtd, unless the user wants another: what the command will do."""
    if options.live and options.offline:
        raise BadFieldError("options.live", "and --offline exclude each other")
    if options.direct and options.p2p:
        raise BadFieldError("options.direct", "and --p2p exclude each other")
    if options.postcopy and options.suspend:
        # "post-copy migration is not supported with non-live or paused migration", when all is
        # prepared, seen with libvirt 9.0 and 11.3.
        raise BadFieldError("options.suspend", "and --postcopy exclude each other")
    return replace(
        options,
        live=options.live or not options.offline,
        p2p=options.p2p or not options.direct,
    )


def flags_given(options: MigrationOptions) -> tuple[str, ...]:
    """The options without a value that are on, in virsh's spelling."""
    return tuple(_spelling(name) for name in FLAGS if getattr(options, name))


def values_given(options: MigrationOptions) -> tuple[tuple[str, str], ...]:
    """The options with a value, as they would be typed; a file stands for what is in it."""
    values = {
        "migrate-disks": ",".join(options.migrate_disks),
        "dname": options.dname,
        "xml": options.xml_file,
        "migrateuri": options.migrateuri,
        "desturi": options.desturi,
    }
    return tuple((name, value) for name, value in values.items() if value)


def names_given(options: MigrationOptions) -> tuple[str, ...]:
    """Every option in force, a value after `=`: what a JSON reader sees."""
    return flags_given(options) + tuple(f"{name}={value}" for name, value in values_given(options))


def _spelling(name: str) -> str:
    return name.replace("_", "-")
