"""How long to wait before the next attempt at a connection that should never end. Pure but for its dice."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Pauses that double from `first_s` to `max_s`, each shortened by up to half so that many don't come at once.

    A connection that lasted for `max_s` was a good one: the pause after it is the first again.
    """

    first_s: float
    max_s: float
    _next_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._next_s = self.first_s

    def pause_s(self, lasted_s: float) -> float:
        """The pause after a connection, or an attempt at one, that lasted for so long."""
        whole_s = self.first_s if lasted_s >= self.max_s else self._next_s
        self._next_s = min(2 * whole_s, self.max_s)
        return random.uniform(whole_s / 2, whole_s)  # noqa: S311 - spreads load, no secret
