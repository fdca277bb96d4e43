"""What to do about hosts that gave no answer: one line each, or one for all that need the same."""

from collections.abc import Iterator, Mapping, Sequence

from virt_preflight.controller.naming import listed
from virt_preflight.controller.render.forms import Form
from virt_preflight.controller.render.painting import Part, indented, words

# Each silent host may need a step of its own, and a page has an end.
SHOWN = 8


def next_steps(step_by_host: Mapping[str, str], form: Form) -> Iterator[Part]:
    """Each step under the hosts that need it."""
    hosts_by_step: dict[str, list[str]] = {}
    for host, step in step_by_host.items():
        if step:
            hosts_by_step.setdefault(step, []).append(host)
    told = list(hosts_by_step.items())
    shown = told if form is Form.WIDE else told[:SHOWN]
    for step, hosts in shown:
        yield ""
        yield words(f"{named(hosts, form)}, silent", "bold")
        yield indented(words(step, "dim"))
    if len(told) > len(shown):
        yield ""
        yield f"{len(told) - len(shown)} more are silent: -o wide says what to do for each."


def named(hosts: Sequence[str], form: Form) -> str:
    """Hosts in one line: all of them where there is room."""
    return ", ".join(hosts) if form is Form.WIDE else listed(hosts)
