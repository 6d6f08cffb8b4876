"""What a peer says that it has of a collection from before, and the bytes that names take in memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from sys import getsizeof
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PER_ENTRY = 110
"""Bytes of a place in a dict or set, while it is at its emptiest."""


@dataclass(frozen=True, slots=True)
class Stated:
    """Resources by name and version, as a peer stated them; `bytes` is what they take in memory."""

    versions: Mapping[str, str]
    bytes: int


@dataclass(frozen=True, slots=True)
class Differing:
    """What was stated, compared with a version of the collection: the names of all that differed from it.

    `is_whole` says that most of the collection did: `names` are then only those that it does not have.
    """

    version: str
    names: frozenset[str]
    bytes: int
    is_whole: bool = False


def stated(versions: Mapping[str, str]) -> Stated | None:
    """What a request states; None for nothing."""
    found = dict(versions)
    if not found:
        return None
    return Stated(found, size_of(found) + sum(map(getsizeof, found.values())))


def size_of(names: Iterable[str]) -> int:
    """Bytes that names take in a dict or set."""
    return sum(getsizeof(name) + _PER_ENTRY for name in names)
