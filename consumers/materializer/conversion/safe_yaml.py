"""YAML as Kubernetes understands it, to plain values, with the line of everything. Pure.

Plain values only: no tags, no merge keys, no duplicate keys. Size, depth, numbers and what aliases amount to are
limited, so a small text can't become a large value, and no text takes long.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_DIRECTIVES = 10
"""Lines of one item that begin with `%`, which Istio's resources have none of."""
MAX_VALUES = 100_000
"""Of one item, with what aliases stand for counted each time."""
MAX_CHARACTERS = 16 * MAX_BYTES
"""Of all values and keys of one item, with what aliases stand for counted each time: a record holds no more."""
MAX_KEY = 4096
"""Characters of a key: errors name the way to a value, key by key."""
MAX_DIGITS = 400
"""Of a whole number: more than a double has, fewer than Python refuses to read."""

_DIRECTIVE = re.compile("(?:\\A|[\n\r\x85\u2028\u2029])\ufeff?%")
_YAML = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")
_EXPONENT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[eE][-+]?[0-9]+\Z")
"""A number that YAML 1.1 reads as a text, and JSON and Kubernetes as a number: 1e5."""

Path = tuple[str | int, ...]


class YamlError(Exception):
    """The text is not taken; `line` counts from 1."""

    def __init__(self, line: int, detail: str, path: Path = ()) -> None:
        super().__init__(detail)
        self.line = line
        self.path = path
        self.detail = detail


@dataclass(slots=True)
class _Budget:
    """What the documents of an item may still hold."""

    strict: bool
    values: int = MAX_VALUES
    characters: int = MAX_CHARACTERS


class Document:
    """One document: its value, and at which line each part of it stands."""

    def __init__(self, node: yaml.Node, budget: _Budget) -> None:
        self.lines: dict[Path, int] = {}
        self._budget = budget
        self._spelled: dict[Path, int] | None = None
        self.value = self._value(node, ())

    def line(self, path: Path) -> int:
        """Where that part stands, or the nearest part around it; `corsPolicy` may be written `cors_policy`."""
        if path in self.lines:
            return self.lines[path]
        if self._spelled is None:
            odd = (at for at in self.lines if any(isinstance(part, str) and "_" in part for part in at))
            self._spelled = {tuple(map(_camel, at)): self.lines[at] for at in odd}
        while path:
            wanted = tuple(map(_camel, path))
            for known, key in ((self.lines, path), (self.lines, wanted), (self._spelled, wanted)):
                if key in known:
                    return known[key]
            path = path[:-1]
        return self.lines[()]

    def _value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._budget.values -= 1
        if self._budget.values < 0:
            raise YamlError(line, f"more than {MAX_VALUES} values", path)
        if len(path) > MAX_DEPTH:
            raise YamlError(line, f"nested deeper than {MAX_DEPTH}", path)
        match node:
            case yaml.ScalarNode():
                self._spend(node.value, line, path)
                return self._scalar(node, path)
            case yaml.SequenceNode(value=items):
                return [self._value(item, (*path, number)) for number, item in enumerate(items)]
            case yaml.MappingNode(value=pairs):
                return self._mapping(pairs, path)
        raise YamlError(line, "neither a value, a list nor a map", path)

    def _mapping(self, pairs: list[tuple[yaml.Node, yaml.Node]], path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            line = key.start_mark.line + 1
            if key.tag == f"{_YAML}merge":
                raise YamlError(line, "merge keys (<<) are not taken", path)
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError(line, "a key that is no text", path)
            if len(key.value) > MAX_KEY:
                raise YamlError(line, f"a key of more than {MAX_KEY} characters", path)
            if key.value in found:
                raise YamlError(line, f"{key.value} stands twice", (*path, key.value))
            self._spend(key.value, line, path)
            self.lines[*path, key.value] = line
            found[key.value] = self._value(value, (*path, key.value))
        return found

    def _spend(self, text: str, line: int, path: Path) -> None:
        self._budget.characters -= len(text)
        if self._budget.characters < 0:
            raise YamlError(line, f"more than {MAX_CHARACTERS} characters, with aliases counted out", path)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text: str = node.value
        line = node.start_mark.line + 1
        match node.tag.removeprefix(_YAML):
            case "null":
                return None
            case "bool":
                return text.lower() in {"true", "yes", "on", "y"}
            case "int" if _INTEGER.match(text):
                if len(text) > MAX_DIGITS:
                    raise YamlError(line, f"a number of {len(text)} digits", path)
                return int(text)
            case "float" if _FLOAT.match(text):
                return self._number(text, line, path)
            case "str" if self._budget.strict and not node.style and _EXPONENT.match(text):
                return self._number(text, line, path)
            case "str" | "timestamp" | "int" | "float" | "value":
                return text
        raise YamlError(line, f"the tag {node.tag} is not taken", path)

    def _number(self, text: str, line: int, path: Path) -> float:
        number = float(text)
        if self._budget.strict and not math.isfinite(number):
            raise YamlError(line, f"{text[:50]} is too large a number", path)
        return number


@lru_cache(maxsize=4096)
def _camel(part: str | int) -> str | int:
    """A field's name as JSON has it."""
    return part if isinstance(part, int) else re.sub("_([a-z0-9])", lambda found: found[1].upper(), part)


def read_documents(text: str, *, strict: bool = True) -> Iterator[Document]:
    """The documents of a text, empty ones left out; numbers beyond a double are refused, unless not `strict`.

    Raises:
        YamlError: it is no YAML, or holds what is not taken.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise YamlError(line, "not Unicode: half a surrogate pair") from error
    if size > MAX_BYTES:
        raise YamlError(1, f"larger than {MAX_BYTES} bytes")
    if (directive := _too_many_directives(text)) is not None:
        raise YamlError(text.count("\n", 0, directive) + 1, f"more than {MAX_DIRECTIVES} directives (%)")
    budget = _Budget(strict)
    try:
        _measure(text)
        for node in yaml.compose_all(text, Loader=yaml.CSafeLoader):
            if node is not None and node.tag != f"{_YAML}null":
                yield Document(node, budget)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        detail = " ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(1 if mark is None else mark.line + 1, detail) from error
    except yaml.YAMLError as error:
        raise YamlError(1, str(error)) from error


def _too_many_directives(text: str) -> int | None:
    """Where the first directive too many begins; None where there is none.

    libyaml compares each with all before it, without giving other threads a turn: a text of 1 MiB took a minute.
    """
    found = islice(_DIRECTIVE.finditer(text), MAX_DIRECTIVES, None)
    return next((match.start() for match in found), None)


def _measure(text: str) -> None:
    """Refuses what is nested too deep or has too many parts, before anything is built of it."""
    depth = parts = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.NodeEvent):  # each value has at most a key beside it
            parts += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or parts > 2 * MAX_VALUES:
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            raise YamlError(line, f"nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else _TOO_MANY)


_TOO_MANY = f"more than {MAX_VALUES} values"
