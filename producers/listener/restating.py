"""When namespaces whose events were lost are stated again: at once, and later when it happens again. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.backoff import Backoff

if TYPE_CHECKING:
    from schemas.events import Namespace

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0


@dataclass(slots=True)
class _Restatement:
    backoff: Backoff = field(default_factory=lambda: Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S))
    last_at: float = -math.inf
    due_at: float | None = None


@dataclass(slots=True)
class Restating:
    """The namespaces of one tenure that lost events; times are the caller's clock, in seconds."""

    _of: dict[Namespace, _Restatement] = field(default_factory=dict)

    @property
    def next_at(self) -> float:
        """When the next one is due; infinity when none is."""
        return min((one.due_at for one in self._of.values() if one.due_at is not None), default=math.inf)

    def schedule(self, namespace: Namespace, now: float) -> None:
        """An event of the namespace was lost. Until it is stated again, further losses change nothing."""
        one = self._of.setdefault(namespace, _Restatement())
        if one.due_at is None:
            lasted_s = now - one.last_at
            one.due_at = now if lasted_s >= _LONGEST_PAUSE_S else now + one.backoff.pause_s(lasted_s)

    def due(self, now: float) -> list[Namespace]:
        """The namespaces that are to be stated now; each once."""
        found = []
        for namespace, one in self._of.items():
            if one.due_at is not None and one.due_at <= now:
                one.due_at, one.last_at = None, now
                found.append(namespace)
        return found

    def forget(self, namespace: Namespace) -> None:
        """The namespace is gone."""
        self._of.pop(namespace, None)
