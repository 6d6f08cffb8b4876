"""What a schema can say of single fields, as data. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

MANY = 2**32
"""No limit: more than any field can hold."""


class Facts(NamedTuple):
    """The values that a field takes.

    `size` is the number of items of a list or map; `length` the characters of a text, each text or each value;
    `number` the range of a number, each number or each value. `keys` is what holds for the keys of a map.
    """

    size: tuple[int, int] | None = None
    length: tuple[int, int] | None = None
    number: tuple[float, float] | None = None
    pattern: re.Pattern[str] | None = None
    kind: str = ""
    """What a text that the pattern takes is called."""
    keys: Facts | None = None


class Exclusion(NamedTuple):
    """Where a field's text matches a pattern, another field can't be set, not even to nothing."""

    field: str
    pattern: re.Pattern[str]
    other: str
    default: str = ""


class MessageFacts(NamedTuple):
    """What holds for a message, by its fields' names in protobuf.

    Of each group in `one_of` one field may be set at most; `unique` names a list's field that no two items may
    share.
    """

    required: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    unique: tuple[tuple[str, str], ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    fields: dict[str, Facts] = {}  # noqa: RUF012 - a default that nobody changes


PORT = Facts(number=(1, 65535))
NOT_EMPTY = Facts(length=(1, MANY))
NO_STAR = re.compile(r"[^*]*")
PERCENT = Facts(number=(0, 100))
SELECTED = ("selector", "targetRef", "targetRefs")
"""Fields that say to which workloads a policy applies."""


def items(most: int, least: int = 0) -> Facts:
    """A list or map of so many items."""
    return Facts(size=(least, most))


def text(most: int, least: int = 0) -> Facts:
    """A text of so many characters."""
    return Facts(length=(least, most))
