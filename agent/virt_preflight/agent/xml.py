"""The one door for XML: bounded, without DTD, entities or network; errors name the line."""

from __future__ import annotations

import re

from lxml import etree

Element = etree._Element  # noqa: SLF001 - lxml's own name for the type is private

# libvirt's own limit for a domain XML over RPC is 4 MiB (REMOTE_STRING_MAX, remote_protocol.x).
MAX_BYTES = 4 * 1024 * 1024

# virScaleInteger, util/virutil.c: decimal and binary suffixes of <memory unit=...>.
BYTES_BY_UNIT = {
    "b": 1,
    "bytes": 1,
    "kb": 10**3,
    "k": 2**10,
    "kib": 2**10,
    "mb": 10**6,
    "m": 2**20,
    "mib": 2**20,
    "gb": 10**9,
    "g": 2**30,
    "gib": 2**30,
    "tb": 10**12,
    "t": 2**40,
    "tib": 2**40,
    "pb": 10**15,
    "p": 2**50,
    "pib": 2**50,
    "eb": 10**18,
    "e": 2**60,
    "eib": 2**60,
}


class BadXml(Exception):
    """The document cannot be used; the text says what is wrong and where."""


def parse(document: bytes | str) -> Element:
    """The root element. Raises BadXml for what is too large, too deep or not well-formed."""
    data = document.encode() if isinstance(document, str) else document
    if len(data) > MAX_BYTES:
        raise BadXml(f"{len(data)} bytes, at most {MAX_BYTES} are read")
    if not data.strip():
        raise BadXml("empty")
    # Without huge_tree libxml2 itself bounds depth (256), names and text.
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        # libxml2 repeats the place at the end of its sentence.
        sentence = re.sub(r", line \d+, column \d+.*$", "", error.msg or "not well-formed")
        raise BadXml(f"line {error.lineno or 1}: {sentence}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise BadXml("line 1: a document type declaration is not accepted")
    return root


def text_form(element: Element) -> bytes:
    """The element and all in it, in UTF-8."""
    return etree.tostring(element, encoding="UTF-8")


def where(element: Element) -> str:
    """`line 7: <memory>`, for error texts."""
    return f"line {element.sourceline}: <{element.tag}>"


def text_of(parent: Element, path: str) -> str | None:
    """Stripped text of the first element at `path`; None when there is none or it is empty."""
    text = parent.findtext(path)
    return text.strip() or None if text is not None else None


def attribute(parent: Element, path: str, name: str) -> str | None:
    """An attribute of the first element at `path`; None when element or attribute is absent."""
    element = parent.find(path)
    return None if element is None else element.get(name)


def number(element: Element, name: str | None = None) -> int:
    """A decimal number: an attribute's, or the element's text. Raises BadXml."""
    text = (element.get(name) if name else element.text) or ""
    if not re.fullmatch(r"\s*\d{1,20}\s*", text, re.ASCII):
        named = f"attribute {name}" if name else "its text"
        raise BadXml(f"{where(element)}: {named} is {text!r}, wanted a number")
    return int(text)


def kib(element: Element, name: str | None = None) -> int:
    """A scaled memory size in KiB, rounded up as libvirt does: an attribute's, or the text.

    The attribute `unit` scales it; without it the number is KiB.
    """
    scale = BYTES_BY_UNIT.get(element.get("unit", "KiB").lower())
    if scale is None:
        raise BadXml(f"{where(element)}: unit {element.get('unit')!r} is not known")
    return -(-number(element, name) * scale // 1024)


def bitmap(text: str, *, limit: int = 16384) -> frozenset[int]:
    """libvirt's set of numbers, as "0-3,^2,8" (virBitmapParse). Raises BadXml."""
    members: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\^?)(\d{1,6})(?:-(\d{1,6}))?", part, re.ASCII)
        if match is None or (match[1] and match[3]):
            raise BadXml(f"{text!r} is no set of numbers")
        first, last = int(match[2]), int(match[3] or match[2])
        if last < first or last >= limit:
            raise BadXml(f"{text!r}: {part} is out of range")
        if match[1]:
            members.discard(first)
        else:
            members.update(range(first, last + 1))
    return frozenset(members)
