"""libvirt's schema of domain XML, read for one thing: which names it knows, and where.

A validator is no help here: RelaxNG ends with the first thing that it does not like, tells badly
which, and dislikes values as well, which libvirt does not drop but refuses. So all names that may
stand below an element are gathered, whichever of the schema's alternatives they belong to. What is
not among them no form of that element has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from virt_preflight.agent.xml import BadXml, Element, parse

RELAX_NG = "{http://relaxng.org/ns/structure/1.0}"
# Real ones nest includes four deep and have some 900 definitions.
FILES_AT_MOST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameless:
    """A part of a guest that the schema has no name for, by its path: "devices/disk/@colour".

    `value` of an attribute; of an element it is empty.
    """

    path: str
    value: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class Place:
    """What may stand in an element of the guest, in any of the schema's alternatives."""

    attributes: set[str] = field(default_factory=set)
    # Patterns of the elements that may stand in it, by name; several may have the same.
    patterns_by_name: dict[str, list[Element]] = field(default_factory=dict)
    # Elements or attributes of any name: nothing in it is unknown.
    anything: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Schema:
    """A schema. Places are read when a guest first has them: the whole of it has thousands."""

    start: tuple[Element, ...]
    definitions_by_name: Mapping[str, tuple[Element, ...]]
    _place_by_pattern: dict[Element, Place] = field(default_factory=dict)

    def unknown(self, root: Element) -> Iterator[Nameless]:
        """Elements and attributes that it has no name for.

        What belongs to another namespace, like `<qemu:commandline>`, is not libvirt's schema's, and
        with an element that is unknown goes all that is in it.
        """
        top = Place()
        for start in self.start:
            self._gather(start, top, set())
        patterns = top.patterns_by_name.get(str(root.tag))
        if patterns is None:
            raise BadXml(f"the schema knows no <{root.tag}>")
        yield from self._unknown(root, [self._place(pattern) for pattern in patterns], "")

    def _unknown(self, element: Element, places: list[Place], path: str) -> Iterator[Nameless]:
        if any(place.anything for place in places):
            return
        for name, value in ((str(key), str(value)) for key, value in element.attrib.items()):
            if "{" not in name and not any(name in place.attributes for place in places):
                yield Nameless(path=f"{path}@{name}", value=value)
        for child in element:
            name = str(child.tag)
            if name.startswith("{"):
                continue
            patterns = [one for place in places for one in place.patterns_by_name.get(name, ())]
            if patterns:
                below = [self._place(pattern) for pattern in dict.fromkeys(patterns)]
                yield from self._unknown(child, below, f"{path}{name}/")
            else:
                yield Nameless(path=f"{path}{name}")

    def _place(self, pattern: Element) -> Place:
        place = self._place_by_pattern.get(pattern)
        if place is None:
            place = Place()
            for part in pattern:
                self._gather(part, place, set())
            # Another thread may have read it as well: both read the same.
            self._place_by_pattern[pattern] = place
        return place

    def _gather(self, part: Element, place: Place, followed: set[str]) -> None:
        """Add what this part of a pattern allows."""
        match str(part.tag).removeprefix(RELAX_NG):
            case "element":
                for name in _names(part):
                    if name:
                        place.patterns_by_name.setdefault(name, []).append(part)
                    else:
                        place.anything = True
            case "attribute":
                for name in _names(part):
                    if name:
                        place.attributes.add(name)
                    else:
                        place.anything = True
            case "ref":
                name = part.get("name", "")
                if name not in followed:
                    followed.add(name)
                    for definition in self.definitions_by_name.get(name, ()):
                        self._gather(definition, place, followed)
            case "name" | "value" | "data" | "param" | "anyName" | "nsName":
                pass
            case _:
                for inner in part:
                    self._gather(inner, place, followed)


def _names(pattern: Element) -> Iterator[str]:
    """The names that an element or attribute pattern is for; "" is any name."""
    if name := pattern.get("name"):
        yield name
        return
    for part in pattern:
        match str(part.tag).removeprefix(RELAX_NG):
            case "name":
                yield (part.text or "").strip()
            case "anyName":
                yield ""
            case "choice":
                yield from ((name.text or "").strip() for name in part.iter(f"{RELAX_NG}name"))
        return


def read_schema(text_by_name: Mapping[str, str], first: str) -> Schema:
    """The schema whose main file has that name. Raises BadXml, and KeyError for a missing file."""
    definitions: dict[str, list[Element]] = {}
    start: list[Element] = []
    for grammar in _grammars(text_by_name, first, set()):
        for part in grammar.iter(f"{RELAX_NG}define"):
            definitions.setdefault(part.get("name", ""), []).append(part)
        start += grammar.iter(f"{RELAX_NG}start")
    return Schema(
        start=tuple(start),
        definitions_by_name={name: tuple(parts) for name, parts in definitions.items()},
    )


def _grammars(text_by_name: Mapping[str, str], name: str, seen: set[str]) -> Iterator[Element]:
    if name in seen:
        return
    seen.add(name)
    grammar = parse(text_by_name[name])
    yield grammar
    for include in grammar.iter(f"{RELAX_NG}include"):
        yield from _grammars(text_by_name, include.get("href", ""), seen)


def included(text: str) -> Iterable[str]:
    """The files that this one includes, by its own word."""
    return tuple(include.get("href", "") for include in parse(text).iter(f"{RELAX_NG}include"))
