"""The words that a command may be given, and how each is spelt."""

import math
from collections.abc import Callable

import click

from virt_preflight.controller.depth import Depth
from virt_preflight.controller.options import FLAGS
from virt_preflight.controller.printable import printable
from virt_preflight.controller.render.forms import Form
from virt_preflight.controller.words import Colour
from virt_preflight.treaty.allowable import ALLOWABLE

Command = Callable[..., int]

# The values of treaty.logs.LogFormat, which would import more than `--help` should wait for.
LOG_FORMATS = ("text", "json")

HELP_BY_FLAG = {
    "live": "While it runs (the default).",
    "offline": "Only its definition, while it is shut off.",
    "p2p": "Source libvirtd to destination libvirtd (the default).",
    "direct": "Left to the hypervisor.",
    "tunnelled": "Through libvirtd's own connection.",
    "persistent": "Define it on the destination.",
    "copy_storage_all": "Copy its disks.",
    "copy_storage_inc": "Copy its disks on top of a common backing file.",
    "postcopy": "It may switch over before all memory has arrived.",
    "auto_converge": "Slow it down until its memory can be copied.",
    "tls": "Encrypt its memory on the way.",
    "parallel": "Over several connections.",
    "unsafe": "Even where libvirt says that its disks may be harmed.",
    "suspend": "Leave it paused on the destination (only printed).",
    "undefinesource": "Undefine it on the source afterwards (only printed).",
    "compressed": "Compress its memory on the way.",
}


def word(text: str) -> str:
    """Text that can go over the wire: UTF-8, and not empty as an unset variable would be."""
    if not text.strip():
        raise click.BadParameter("is empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise click.BadParameter(f"{printable(text)} is not UTF-8")
    return text


def guest_name(text: str) -> str:
    """A name that libvirt takes: QEMU's driver wants no slash in it, and no name has two lines."""
    for character, called in (("/", "a slash"), ("\n", "a line feed")):
        if character in word(text):
            raise click.BadParameter(f"{printable(text)} has {called}: no guest is called that")
    return text


def words(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(word(part.strip()) for part in text.split(","))


def allowed(text: str) -> tuple[str, ...]:
    """What agents know to be touched by a rehearsal, and nothing else."""
    given = words(text)
    for what in given:
        if what not in ALLOWABLE:
            known = ", ".join(ALLOWABLE)
            raise click.BadParameter(f"nothing is called {printable(what)}, only {known}")
    return given


def label(text: str) -> str:
    """What an operator says of a host in the fleet file."""
    key, parted, _ = word(text).partition("=")
    if not key or not parted:
        raise click.BadParameter(f"{printable(text)} is not KEY=VALUE")
    return text


def seconds(text: str) -> float:
    """A time to wait: more than nothing, at most an hour."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 3600:
        raise click.BadParameter(f"{text} is not a number of seconds above 0, at most 3600")
    return number


def hosts_options(command: Command) -> Command:
    """Which hosts."""
    return _with(
        command,
        click.option(
            "--hosts",
            type=word,
            metavar="HOST[:PORT],...",
            help="Ask these hosts (default: those of a fleet file).",
        ),
        click.option("--fleet", type=click.Path(), metavar="FILE", help="Read them from FILE."),
    )


def fleet_options(command: Command) -> Command:
    """Which hosts or which controller, and how patient to be."""
    return _with(
        hosts_options(command),
        click.option(
            "--server",
            type=word,
            metavar="ADDRESS",
            help="Let the controller there ask its hosts: HOST[:PORT] or unix:/path."
            " Of a fleet file then only [tls] and insecure count.",
        ),
        click.option(
            "--timeout",
            "timeout_s",
            type=seconds,
            metavar="SECONDS",
            help="How long to wait for one host (default: the fleet file's, or 5; for"
            " --depth trial 5 more, for rehearsal 10 more).",
        ),
    )


def listen_options(command: Command) -> Command:
    """Where a service listens, and its configuration."""
    return _with(
        command,
        click.option(
            "--config",
            type=click.Path(),
            metavar="FILE",
            help="Default: /etc/virt-preflight/controller.toml, if it is there.",
        ),
        click.option(
            "--listen",
            type=word,
            multiple=True,
            metavar="ADDRESS",
            help="HOST:PORT or unix:/path (default: 127.0.0.1:50552). May be repeated.",
        ),
        click.option(
            "--insecure",
            is_flag=True,
            help="Listen beyond loopback without TLS: whoever reaches the port may ask.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(LOG_FORMATS),
            help="Lines for people or an object a line (default: text).",
        ),
        click.option(
            "--metrics",
            type=word,
            metavar="ADDRESS",
            help="HOST:PORT where Prometheus asks for metrics (default: nowhere).",
        ),
        click.option(
            "--check-config",
            is_flag=True,
            help="Only say what of the configuration, the fleet file and the certificates it could "
            "not start with.",
        ),
    )


def show_options(command: Command) -> Command:
    """In which form to answer."""
    return _with(
        command,
        click.option(
            "-o",
            "--output",
            "form",
            type=click.Choice([form.value for form in Form]),
            default=Form.TABLE.value,
            help="The form of the answer (default: table).",
        ),
        click.option(
            "--color",
            "colour",
            type=click.Choice([colour.value for colour in Colour]),
            default=Colour.AUTO.value,
            help="Colours: on a terminal, always or never.",
        ),
    )


def migrate_options(command: Command) -> Command:
    """The options of `virsh migrate` that change the answer, by its names."""
    flags = (
        click.option(f"--{name.replace('_', '-')}", name, is_flag=True, help=HELP_BY_FLAG[name])
        for name in FLAGS
    )
    return _with(
        command,
        *flags,
        click.option(
            "--migrate-disks",
            type=words,
            metavar="TARGET,...",
            help="Disks to copy, as vda,vdb.",
        ),
        click.option(
            "--dname", type=guest_name, metavar="NAME", help="Its name on the destination."
        ),
        click.option("--migrateuri", type=word, metavar="URI", help="Where its memory is sent."),
        click.option("--desturi", type=word, metavar="URI", help="How the destination is reached."),
    )


def place_options(command: Command) -> Command:
    """Which guest, from where, and where to."""
    return _with(
        command,
        click.argument("domain", type=word, required=False),
        click.option(
            "--from",
            "from_host",
            type=word,
            metavar="HOST",
            help="The host that runs it (default: found by asking all).",
        ),
        click.option(
            "--to",
            "to_hosts",
            type=words,
            multiple=True,
            metavar="HOST,...",
            help="Only these hosts (default: all others). May be repeated.",
        ),
        click.option(
            "--label",
            "labels",
            type=label,
            multiple=True,
            metavar="KEY=VALUE",
            help="Of those, only hosts with this label in the fleet file. May be repeated.",
        ),
        click.option(
            "--xml",
            "xml_file",
            type=click.Path(allow_dash=True),
            metavar="FILE",
            help="With DOMAIN: its XML for the destination. Without: a domain that runs"
            " nowhere yet. - is standard input.",
        ),
    )


def question_options(command: Command) -> Command:
    """Which checks, how far to go, and what counts."""
    return _with(
        command,
        click.option(
            "--depth",
            type=click.Choice([depth.value for depth in Depth]),
            default="libvirt",
            help="How far to go to know (default: libvirt). trial and rehearsal touch the"
            " destinations, see below.",
        ),
        _checks("--only", "ID|FAMILY", "Only these checks."),
        _checks("--skip", "ID|FAMILY", "Not these checks."),
        _checks("--waive", "ID", "Show what these checks find, but do not count it."),
        click.option(
            "--allow",
            type=allowed,
            multiple=True,
            metavar="WHAT",
            help=f"Let a rehearsal touch this: {', '.join(ALLOWABLE)}. May be repeated.",
        ),
        click.option(
            "--strict", is_flag=True, help="Exit with 4 if it could only be moved at a risk."
        ),
    )


def _with(command: Command, *options: Callable[[Command], Command]) -> Command:
    """The command with these options, which its help lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def _checks(name: str, metavar: str, what: str) -> Callable[[Command], Command]:
    return click.option(
        name, type=words, multiple=True, metavar=metavar, help=f"{what} May be repeated."
    )
