"""A config item's text as its resources: documents of YAML or JSON, and the items of Kubernetes's lists. Pure.

A text that begins with a brace and is JSON is read as such: two escapes (a surrogate pair) may be a character.
The parser of YAML reads it, since that knows the lines, after what it would read otherwise is spelled its way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from consumers.materializer.conversion.safe_yaml import MAX_BYTES, YamlError, read_documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.materializer.conversion.safe_yaml import Document, Path

_BYTE_ORDER_MARK = "\ufeff"
_SPELLED_OTHERWISE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|(\\.)|([^\x00-\x7e])", re.DOTALL
)


class BadItemError(Exception):
    """An item that can't be used: where, and why, each in a few hundred characters."""

    def __init__(self, line: int, field: str, detail: str) -> None:
        self.line = line
        self.field = _cut(field)
        self.detail = _cut(detail)
        super().__init__(f"line {line}, {self.field or 'the text'}: {self.detail}")


@dataclass(frozen=True, slots=True)
class Stated:
    """A resource as it stands in a text: its value, and its place in the document."""

    document: Document
    place: Path
    value: Any

    def line(self, path: Path) -> int:
        """Where a part of it stands, or the nearest part around it that is there."""
        return self.document.line((*self.place, *path))

    def line_of_names(self, names: tuple[str, ...]) -> int:
        """The first line of this document whose path has these names, whatever numbers stand between them."""
        wanted = tuple(part for part in (*self.place, *names) if isinstance(part, str))
        for at, line in self.document.lines.items():
            if at[: len(self.place)] == self.place and tuple(p for p in at if isinstance(p, str)) == wanted:
                return line
        return self.line(names)

    def bad(self, path: Path, detail: str) -> BadItemError:
        """What is wrong with a part of it."""
        return BadItemError(self.line(path), written((*self.place, *path)), detail)


def read_resources(text: str, *, strict: bool) -> Iterator[Stated]:
    """The resources of a text, one after the other; `strict` is how revisions after the first read.

    Raises:
        BadItemError: it is neither YAML nor JSON, or holds what is not taken.
    """
    try:
        for document in read_documents(_as_yaml(text) if strict else text, strict=strict):
            yield from _resources(document, strict=strict)
    except YamlError as error:
        raise BadItemError(error.line, written(error.path), error.detail) from error


def _resources(document: Document, *, strict: bool) -> Iterator[Stated]:
    whole = document.value
    if not strict or not isinstance(whole, dict) or (whole.get("apiVersion"), whole.get("kind")) != ("v1", "List"):
        yield Stated(document, (), whole)
        return
    items = whole.get("items")
    if not isinstance(items, list):
        raise BadItemError(document.line(("items",)), "items", "must be a list")
    for number, item in enumerate(items):
        yield Stated(document, ("items", number), item)


def _as_yaml(text: str) -> str:
    """The text without a byte order mark; JSON spelled as YAML."""
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if not text.lstrip(" \t\r\n").startswith("{") or len(text) > MAX_BYTES:
        return text
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text  # YAML may begin with a brace too
    return _SPELLED_OTHERWISE.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    """An escape of JSON's, or a character, that YAML reads otherwise."""
    high, low, escape, character = found.groups()
    if high is not None:
        return f"\\U{0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00):08X}"
    if escape is not None:
        return "/" if escape == "\\/" else str(escape)
    return f"\\U{ord(character):08X}"


def written(path: Path) -> str:
    """A way to a field as an operator reads it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TOLD else f"{text[:_MAX_TOLD]}..."


_MAX_TOLD = 300
