"""What the engine subscribes to, and when again: Kafka's group may forget to hand a topic out.

A static member that comes back within its session gets the assignment that it had, also where its topics are
others by then (a topic was added, or made anew, meanwhile): the leader is asked again only when the group
rebalances for another cause. A member that comes with another list is such a cause. So it is cut for a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_log = structlog.get_logger()

_PATIENCE_S = 15.0
"""The client notices a new topic by itself within 10 s."""
_MOST_PATIENCE_S = 3600.0


@dataclass(slots=True)
class Subscribing:
    """Finds topics that exist and are not assigned; `topics` is what is wanted. Times on a monotonic clock."""

    topics: list[str]
    _patience_s: float = _PATIENCE_S
    _lacking_since: float | None = None
    _cut_in: int | None = None

    def next(
        self, assigned: AbstractSet[tuple[str, int]], assignment: int, present: AbstractSet[str], now: float
    ) -> list[str] | None:
        """The topics to subscribe to now, if these are others than before.

        `assigned` is by topic and partition, `assignment` how many there were, `present` the topics that exist.
        """
        if self._cut_in is not None:
            if not assigned or assignment == self._cut_in:
                return None  # the group has not answered yet
            self._cut_in, self._lacking_since = None, None
            self._patience_s = min(2 * self._patience_s, _MOST_PATIENCE_S)
            return self.topics
        lacking = self._lacking(assigned) & present
        if not lacking:
            self._lacking_since = None
            return None
        self._lacking_since = now if self._lacking_since is None else self._lacking_since
        if now - self._lacking_since < self._patience_s:
            return None
        _log.warning("topics_not_assigned", topics=sorted(lacking))
        self._cut_in = assignment
        return [topic for topic in self.topics if topic not in lacking]

    def _lacking(self, assigned: AbstractSet[tuple[str, int]]) -> frozenset[str]:
        """The topics of which we have not every partition that we have of another one."""
        numbers = {number for _, number in assigned}
        return frozenset(
            topic for topic in self.topics if any((topic, number) not in assigned for number in numbers)
        )
