"""When partitions with a namespace at fault are read again from their beginning. Pure but for the pauses' dice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(slots=True)
class _Partition:
    """The pauses of a partition, and when it is due."""

    backoff: Backoff
    due_at: float


@dataclass(slots=True)
class Rereads:
    """The first time a pause of up to `first_s` after the fault, then with pauses that double up to `max_s`.

    A partition whose namespaces all match begins with the first pause again. Times are seconds of one clock.
    """

    first_s: float
    max_s: float
    _waiting: dict[int, _Partition] = field(default_factory=dict)

    def due(self, at_fault: Collection[int], now: float) -> list[int]:
        """The partitions to be read again now, of those that have a namespace at fault."""
        for settled in self._waiting.keys() - set(at_fault):
            del self._waiting[settled]
        found = []
        for partition in at_fault:
            waiting = self._waiting.get(partition)
            if waiting is None:
                backoff = Backoff(self.first_s, self.max_s)
                self._waiting[partition] = _Partition(backoff, now + backoff.pause_s(0.0))
            elif waiting.due_at <= now:
                waiting.due_at = now + waiting.backoff.pause_s(0.0)
                found.append(partition)
        return found
