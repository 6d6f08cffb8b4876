"""Services whose last instance went: their entries stay for a while, with their head and no endpoints. Pure.

A removed entry costs each Pilot a full push, and another one when the service returns. Time is that of the guard's
clock: of records, and standing still while the listener is blind.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumers.materializer.conversion.folded_instance import ENABLED
from consumers.materializer.folded_service import FoldedService
from consumers.materializer.guard import NOWHERE, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.materializer.conversion.folded_instance import FoldedInstance
    from consumers.materializer.guard import Guard
    from schemas.events import Namespace, ServiceKey


@dataclass(slots=True)
class Departed:
    """A service whose last instance went: when on the guard's clock, and since when it had been there.

    `service` has the instances that told its head, none of which is listed.
    """

    at: int
    since: int
    service: FoldedService


@dataclass(slots=True)
class Departures:
    """Of one datacenter, in the order in which they went; `grace_us` is how long entries stay, 0: not at all."""

    grace_us: float
    _line: deque[tuple[int, Place]] = field(default_factory=deque)
    _by_namespace: dict[Namespace, dict[ServiceKey, Departed]] = field(default_factory=dict)

    @property
    def is_any(self) -> bool:
        """Whether any entry stays."""
        return bool(self._line)

    def of(self, namespace: Namespace) -> Mapping[ServiceKey, Departed]:
        """The services of a namespace that went and whose entries stay."""
        return self._by_namespace.get(namespace, _NONE)

    def note(self, place: Place, clock: int, since: int, service: FoldedService) -> None:
        """The service that had these instances last is not there any more."""
        if not self.grace_us or not service.last:
            return
        unlisted = FoldedService(service.names, service.joins_repeated, service.rules)
        unlisted.replace({key: _unlisted(one) for key, one in service.last.items()}, 0.0)
        self._by_namespace.setdefault(place.namespace, {})[place.service] = Departed(clock, since, unlisted)
        self._line.append((clock, place))

    def returned(self, place: Place) -> int | None:
        """The service is there again: since when, if its entry stayed."""
        departed = self._by_namespace.get(place.namespace, _NONE).get(place.service)
        if departed is None:
            return None
        self._forget(place)
        return departed.since

    def clear(self, namespace: Namespace) -> None:
        """The namespace is gone, and its entries with it."""
        self._by_namespace.pop(namespace, None)

    def end(self, namespace: Namespace) -> int:
        """When on the guard's clock the last of those that are there now goes; 0 without any."""
        times = [one.at for one in self.of(namespace).values()]
        return int(max(times) + self.grace_us) if times else 0

    def expired(self, guard: Guard) -> frozenset[Place]:
        """Those whose time is over, which go. While a guard keeps endpoints of one its time begins anew."""
        found = NOWHERE
        while self._line and guard.clock - self._line[0][0] >= self.grace_us:
            at, place = self._line.popleft()
            departed = self.of(place.namespace).get(place.service)
            if departed is None or departed.at != at:
                continue  # it returned meanwhile
            if guard.holds and guard.held(place):
                departed.at = guard.clock
                self._line.append((guard.clock, place))
                continue
            self._forget(place)
            found |= {place}
        return found

    def _forget(self, place: Place) -> None:
        there = self._by_namespace[place.namespace]
        del there[place.service]
        if not there:
            del self._by_namespace[place.namespace]


_NONE: Mapping[ServiceKey, Departed] = {}


def _unlisted(instance: FoldedInstance) -> FoldedInstance:
    return instance._replace(flags=instance.flags & ~ENABLED)
