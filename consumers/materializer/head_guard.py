"""The guard of heads: other ports or another protocol that instances vote for take effect after a while. Pure.

Theory of operation, for one datacenter in one partition:

- A service of at least `min_size` endpoints whose instances vote for another head keeps the former one for
  `delay_s`, on the guard's clock: time is that of records. A vote that changes once more begins anew.
- The hold ends when the former head has the majority again, when its time is over, or when an operator releases
  the service. Endpoints are not held: they come and go as ever, and each maps the head's port to its own.
- Which addresses are listed (STATIC or DNS) is not held: what would be kept may list nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from consumers.materializer.guard import NOWHERE, Ending, Place
from consumers.settings import GuardMode

if TYPE_CHECKING:
    from consumers.materializer.conversion.head import Head
    from consumers.settings import HeadSettings
    from schemas.events import Datacenter, Namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadHold:
    """A head being kept; `since` on the guard's clock is when its instances began to vote for `wanted`."""

    place: Place
    mode: GuardMode
    since: int
    former: Head
    wanted: Head

    @property
    def where(self) -> tuple[str, ...]:
        """As a release names it."""
        return (self.place.namespace, self.place.service.group, self.place.service.service)

    def describe(self, datacenter: Datacenter) -> str:
        """As a manifest names it."""
        mode = "" if self.mode is GuardMode.ENFORCE else f" ({self.mode})"
        return f"head {'/'.join((datacenter, *self.where))}: {_ports(self.former)} to {_ports(self.wanted)}{mode}"


@dataclass(slots=True)
class HeadGuard:
    """Holds of one datacenter; methods that answer with services name those that look different."""

    settings: HeadSettings
    holds: dict[Place, HeadHold] = field(default_factory=dict)
    ended: list[tuple[HeadHold, Ending]] = field(default_factory=list)
    has_opened: bool = False

    @property
    def is_on(self) -> bool:
        """Whether heads are looked at."""
        return self.settings.mode is not GuardMode.OFF

    def note(self, place: Place, before: Head | None, now: Head | None, size: int, clock: int) -> None:
        """The service's instances vote for that head now, and for another before; it has so many endpoints."""
        hold = self.holds.get(place)
        if hold is not None:
            if now is None or now == hold.former:
                self._end(place, Ending.RETURNED)
            elif now != hold.wanted:
                self.holds[place] = replace(hold, wanted=now, since=clock)
        elif before is not None and now is not None and before != now and size >= self.settings.min_size:
            self.holds[place] = HeadHold(
                place=place, mode=self.settings.mode, since=clock, former=before, wanted=now
            )
            self.has_opened = True

    def tick(self, clock: int) -> frozenset[Place]:
        """Time passes; new heads may take effect with it."""
        due = [place for place, hold in self.holds.items() if clock - hold.since >= self.settings.delay_s * 1e6]
        for place in due:
            self._end(place, Ending.EXPIRED)
        return frozenset(due) if due else NOWHERE

    def release(self, where: tuple[str, ...]) -> frozenset[Place]:
        """An operator's word: the new head of that service takes effect; nothing where none is held."""
        found = [place for place, hold in self.holds.items() if hold.where == where]
        for place in found:
            self._end(place, Ending.OVERRIDDEN)
        return frozenset(found) if found else NOWHERE

    def kept(self, place: Place) -> Head | None:
        """The head that a service keeps although its instances vote for another."""
        hold = self.holds.get(place)
        return hold.former if hold is not None and hold.mode is GuardMode.ENFORCE else None

    def holds_of(self, namespace: Namespace) -> list[HeadHold]:
        """The open holds of a namespace."""
        found = [hold for hold in self.holds.values() if hold.place.namespace == namespace]
        return sorted(found, key=lambda hold: hold.place)

    def _end(self, place: Place, ending: Ending) -> None:
        self.ended.append((self.holds.pop(place), ending))


def _ports(head: Head) -> str:
    return ",".join(f"{port.number}/{port.protocol}" for port in head.ports)
