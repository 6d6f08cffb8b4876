"""The blast-radius guard: endpoints that vanish too many at once are held. Pure.

Theory of operation, for one datacenter in one partition:

- Three scopes are counted: each service, each namespace, all of them. A scope whose listed endpoints fall below
  `1 - max_share` of the most that it had within the window is *held*: Pilots keep the endpoints that it lost
  since the drop began.
- A hold ends when nearly all that was lost has returned, under whatever addresses, when its deadline passes, or
  when an operator releases it.
- Time is that of records, and stands still while the listener is blind or away: then nothing is known to have
  vanished, and no deadline passes. A step of more than an hour, ahead or back, is no time that passed: the clock
  follows it, without moving, once a second record is there, too. One record with a false time moves nothing.
- What was lost within the window is remembered, so that a drop that came one by one is given back whole when
  it turns out to be one. A drop begins where the scope last had enough, and before that for as long as it went
  down without a pause: what was replaced earlier, in the ordinary course of things, is not brought back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from consumers.settings import GuardMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumers.materializer.conversion.folded_instance import FoldedInstance, PortNames
    from consumers.settings import GuardSettings, ScopeSettings
    from schemas.events import Datacenter, InstanceKey, Namespace, ServiceKey

_RETURNED = 0.9
"""So much of the drop that trips a scope must have returned: ended sooner, a hold would let go of the rest."""
_PAUSE_US = 15_000_000
"""Losses further apart than this are not one drop."""
LONGEST_STEP_US = 3_600_000_000
"""A listener that lives writes every few seconds; its clock may be set, and records come out of order."""


class Scope(StrEnum):
    """What is counted."""

    SERVICE = "service"
    NAMESPACE = "namespace"
    DATACENTER = "datacenter"


class Ending(StrEnum):
    """Why a hold ended."""

    RETURNED = "returned"
    EXPIRED = "expired"
    OVERRIDDEN = "overridden"


class Place(NamedTuple):
    """A service of the datacenter."""

    namespace: Namespace
    service: ServiceKey


NOWHERE: frozenset[Place] = frozenset()


class Lost(NamedTuple):
    """An endpoint that is no longer listed: when, and as it was; `names` are what it calls its ports."""

    at: int
    instance: FoldedInstance
    names: PortNames


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Endpoints being kept; `since` and `drop_began` on the guard's clock, `peak` and `floor` in endpoints."""

    scope: Scope
    mode: GuardMode
    where: tuple[str, ...]
    since: int
    drop_began: int
    peak: int
    floor: float

    def describe(self, datacenter: Datacenter) -> str:
        """As a manifest names it."""
        mode = "" if self.mode is GuardMode.ENFORCE else f" ({self.mode})"
        return (
            f"{self.scope} {'/'.join((datacenter, *self.where))}: fell below {self.floor:.0f} of {self.peak}{mode}"
        )


@dataclass(slots=True)
class Keyframe:
    """Where a namespace's keyframe begins.

    Quiet while no hold was open then, nor within a window of it; whole when what it states is all that counts.
    """

    offset: int
    clock: int
    is_quiet: bool
    is_whole: bool = True
    departed_until: int = 0


@dataclass(slots=True)
class _History:
    """How many endpoints a scope has, and the most that it had: each entry is a number and until when it stood."""

    count: int = 0
    _former: deque[tuple[int, int]] = field(default_factory=deque)

    def set(self, count: int, now: int) -> None:
        """From now on it is this many. Entries that a later and greater one makes pointless go."""
        if count < self.count:
            while self._former and self._former[-1][1] <= self.count:
                self._former.pop()
            self._former.append((now, self.count))
        self.count = count

    def peak(self, begin: int) -> int:
        """The most that it had since then."""
        while self._former and self._former[0][0] < begin:
            self._former.popleft()
        return max(self.count, self._former[0][1]) if self._former else self.count

    def drop_began(self, floor: float) -> int:
        """When it last had so many, or earlier, where it had been going down without a pause."""
        began: int | None = None
        for until, count in reversed(self._former):
            if began is not None and began - until > _PAUSE_US:
                break
            if began is not None or count >= floor:
                began = until
        return 0 if began is None else began

    def forget(self) -> None:
        """What is, is the measure from now on."""
        self._former.clear()


@dataclass(slots=True)
class Guard:
    """The guard of one datacenter in one partition; its methods answer with the services that look different.

    `observed_at` is the time of records that it follows, microseconds (UTC); `skipped_us` what of it is steps that
    count as no time, `jumps` how many such records there were.
    """

    settings: GuardSettings
    holds: dict[tuple[str, ...], Hold] = field(default_factory=dict)
    ended: list[tuple[Hold, Ending]] = field(default_factory=list)
    has_opened: bool = False
    clock: int = 0
    longest_step_us: float = LONGEST_STEP_US
    observed_at: int = 0
    skipped_us: int = 0
    jumps: int = 0
    _elsewhere: tuple[int, int] = (0, 0)
    _lost: dict[Place, dict[InstanceKey, Lost]] = field(default_factory=dict)
    _histories: dict[tuple[str, ...], _History] = field(default_factory=dict)
    _swept_at: int = 0
    _is_on: bool = field(init=False)
    _window_us: float = field(init=False)
    _sweep_us: float = field(init=False)

    def __post_init__(self) -> None:
        """Asks the settings once for what every event needs."""
        self._is_on = self.settings.is_on
        self._window_us = self.settings.longest_window_us
        self._sweep_us = self._window_us / 4

    def tick(self, observed_at: int, *, blind: bool) -> frozenset[Place]:
        """Time passes, up to this record's; deadlines may pass with it."""
        passed = observed_at - self.observed_at
        if 0 < passed <= self.longest_step_us:
            if not blind and self.observed_at:
                self.clock += passed
            self.observed_at = observed_at
        elif passed > 0 or -passed > self.longest_step_us:
            self._jump(observed_at)
        touched = NOWHERE
        if self.holds:
            for where, hold in list(self.holds.items()):
                if self.clock - hold.since >= self._of(hold.scope).deadline_s * 1e6:
                    touched |= self._end(where, Ending.EXPIRED)
        if self.clock - self._swept_at > self._sweep_us:
            self._swept_at = self.clock
            self._forget_old()
        return touched

    def change(
        self,
        place: Place,
        lost: Mapping[InstanceKey, FoldedInstance],
        listed: Iterable[InstanceKey],
        difference: int,
        names: PortNames,
    ) -> frozenset[Place]:
        """A service lists `difference` endpoints more or fewer: without those lost, with those newly listed."""
        if not self._is_on:
            return NOWHERE
        if place in self._lost:
            for key in listed:
                self._lost[place].pop(key, None)
        if lost:
            entries = self._lost.setdefault(place, {})
            entries.update((key, Lost(self.clock, instance, names)) for key, instance in lost.items())
        touched = NOWHERE
        if difference:
            for scope, where in _scopes_of(place):
                touched |= self._count(scope, where, difference)
        return touched

    def restarted(self, counts: Iterable[tuple[Place, int]]) -> Guard:
        """A guard of the same time that holds nothing and remembers no loss; `counts` are the endpoints listed.

        It follows a guard that raised, of which nothing can be trusted any more.
        """
        other = Guard(self.settings, clock=self.clock, longest_step_us=self.longest_step_us, _swept_at=self.clock)
        other.observed_at, other.skipped_us, other.jumps = self.observed_at, self.skipped_us, self.jumps
        for place, count in counts:
            for scope, where in _scopes_of(place) if count and self._is_on else ():
                if self._of(scope).mode is not GuardMode.OFF:
                    other._histories.setdefault(where, _History()).count += count
        return other

    @property
    def steady_at(self) -> int:
        """A time that moves as records' does, without the steps that count as none."""
        return self.observed_at - self.skipped_us

    @property
    def places(self) -> frozenset[Place]:
        """Services that lost endpoints and may look different because of that."""
        return frozenset(self._lost)

    def release(self, where: tuple[str, ...]) -> frozenset[Place]:
        """An operator's word against a hold; nothing where there is none."""
        return self._end(where, Ending.OVERRIDDEN) if where in self.holds else NOWHERE

    def held(self, place: Place) -> dict[InstanceKey, Lost]:
        """The endpoints of a service that Pilots keep although it has them no longer."""
        lost = self._lost.get(place)
        if not lost or not self.holds:
            return {}
        begins = [
            hold.drop_began
            for _, where in _scopes_of(place)
            if (hold := self.holds.get(where)) is not None and hold.mode is GuardMode.ENFORCE
        ]
        return {key: one for key, one in lost.items() if one.at >= min(begins)} if begins else {}

    def held_services(self, namespace: Namespace) -> set[ServiceKey]:
        """Services of a namespace of which endpoints may be held, gone ones among them."""
        return {place.service for place in self._lost if place.namespace == namespace} if self.holds else set()

    def holds_of(self, namespace: Namespace) -> list[Hold]:
        """The open holds that bear on a namespace, the widest first."""
        found = [hold for where, hold in self.holds.items() if not where or where[0] == namespace]
        return sorted(found, key=lambda hold: (len(hold.where), hold.where))

    def is_reproduced(self, keyframe: Keyframe) -> bool:
        """Whether folding from there arrives at this state.

        A fold that begins there does not know what was before. That matters for as long as the window reaches back
        behind it, and then no more, unless a hold was open meanwhile.
        """
        return (
            keyframe.is_quiet
            and keyframe.is_whole
            and keyframe.departed_until <= self.clock
            and keyframe.clock + self._window_us <= self.clock
        )

    def _jump(self, observed_at: int) -> None:
        """A record of quite another time: followed if it is the first of all, or the second there in a row."""
        if not self.observed_at:
            self.observed_at = observed_at
            return
        self.jumps += 1
        former, since = self._elsewhere
        if since == self.observed_at and abs(observed_at - former) <= self.longest_step_us:
            self.skipped_us += observed_at - self.observed_at
            self.observed_at = observed_at
        self._elsewhere = (observed_at, self.observed_at)

    def _count(self, scope: Scope, where: tuple[str, ...], difference: int) -> frozenset[Place]:
        settings = self._of(scope)
        if settings.mode is GuardMode.OFF:
            return NOWHERE
        history = self._histories.setdefault(where, _History())
        history.set(history.count + difference, self.clock)
        hold = self.holds.get(where)
        if hold is not None:
            enough = hold.peak - (hold.peak - hold.floor) * (1 - _RETURNED)
            return self._end(where, Ending.RETURNED) if history.count >= enough else NOWHERE
        peak = history.peak(int(self.clock - settings.window_s * 1e6))
        floor = peak * (1 - settings.max_share)
        if difference > 0 or peak < settings.min_size or history.count >= floor:
            return NOWHERE
        began = history.drop_began(floor)
        self.holds[where] = Hold(
            scope=scope,
            mode=settings.mode,
            where=where,
            since=self.clock,
            drop_began=began,
            peak=peak,
            floor=floor,
        )
        self.has_opened = True
        return self._covered(where, began)

    def _end(self, where: tuple[str, ...], ending: Ending) -> frozenset[Place]:
        hold = self.holds.pop(where)
        self._histories[where].forget()
        self.ended.append((hold, ending))
        return self._covered(where, hold.drop_began)

    def _covered(self, where: tuple[str, ...], began: int) -> frozenset[Place]:
        """Services of the scope that lost endpoints since then."""
        return frozenset(
            place
            for place, lost in self._lost.items()
            if _path(place)[: len(where)] == where and any(one.at >= began for one in lost.values())
        )

    def _forget_old(self) -> None:
        """What was lost before the window, and no hold keeps, will not be asked for."""
        begins = [hold.drop_began for hold in self.holds.values()]
        needed = int(min([self.clock - self._window_us, *begins]))
        for place, lost in list(self._lost.items()):
            kept = {key: one for key, one in lost.items() if one.at >= needed}
            if kept:
                self._lost[place] = kept
            else:
                del self._lost[place]
        for where, history in list(self._histories.items()):
            if not history.count and not history.peak(needed) and where not in self.holds:
                del self._histories[where]

    def _of(self, scope: Scope) -> ScopeSettings:
        match scope:
            case Scope.SERVICE:
                return self.settings.service
            case Scope.NAMESPACE:
                return self.settings.namespace
            case Scope.DATACENTER:
                return self.settings.datacenter


def _path(place: Place) -> tuple[str, ...]:
    return (place.namespace, place.service.group, place.service.service)


def _scopes_of(place: Place) -> tuple[tuple[Scope, tuple[str, ...]], ...]:
    """Where a service is counted."""
    return (
        (Scope.SERVICE, _path(place)),
        (Scope.NAMESPACE, (place.namespace,)),
        (Scope.DATACENTER, ()),
    )
