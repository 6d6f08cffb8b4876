"""Which resources the last versions of a collection changed, so that a stream may be sent the difference. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_STEPS = 1000
MAX_NAMES = 50_000
"""A stream that is further behind is sent everything, which is hardly more."""


@dataclass(slots=True)
class ChangeRing:
    """Steps from version to version, the oldest forgotten first; a stream remembers a version, and no more."""

    _steps: deque[tuple[str, frozenset[str]]] = field(default_factory=deque)
    _names: int = 0

    def note(self, before: str, names: Collection[str]) -> None:
        """From that version on, these resources came, changed or went."""
        self._steps.append((before, frozenset(names)))
        self._names += len(names)
        while self._steps and (len(self._steps) > MAX_STEPS or self._names > MAX_NAMES):
            self._names -= len(self._steps.popleft()[1])

    def since(self, version: str) -> frozenset[str] | None:
        """The names of all that may differ from that version; None when it is forgotten or was never there.

        A version that was there twice had the same content both times: the later one counts.
        """
        found: set[str] = set()
        for before, names in reversed(self._steps):
            found |= names
            if before == version:
                return frozenset(found)
        return None

    def steps_since(self, version: str) -> int | None:
        """How many versions came after that one; None when it is forgotten or was never there. From any thread."""
        for count, (before, _) in enumerate(reversed(list(self._steps)), 1):
            if before == version:
                return count
        return None
