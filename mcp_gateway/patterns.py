"""Names against patterns such as those of files (`*`, `?`), as settings have them. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

_SHORT = 300
"""Characters of a name that is worth remembering: namespaces, collections, identities."""


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name matches one of the patterns."""
    return _remembered(name, patterns) if len(name) <= _SHORT else _matches(name, patterns)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


_remembered = lru_cache(maxsize=4096)(_matches)
