"""Gives each claimant the first of its wishes of which no earlier claimant has a part. Pure.

Theory of operation: claimants are served in their order (`Order.rank`), each with the first of its wishes
(`Order.wish`) whose parts are all free. So what each has is a function of who is there and in which order, and not
of the way to it. Only those are looked at again that a change can bear on: they share a part that one has and
another was refused, directly or through others.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_WISHES = 1000
"""That are looked at; each is refused by a claimant of its own, and no other service has so many."""

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Parts = tuple[Hashable, ...]


class Order(Protocol[K_contra, T_co]):
    """What claimants want, and which comes first. Ranks of different claimants differ."""

    def rank(self, claimant: K_contra, /) -> tuple[object, ...]:
        """Its place in the order, the least first."""

    def wish(self, claimant: K_contra, number: int, /) -> tuple[T_co, Parts] | None:
        """Its wish of that number, from 0, and the parts of it that one may have; None when it has no more."""


@dataclass(slots=True)
class Allotment(Generic[K, T]):
    """What each claimant has; `refused` names those of whom an earlier one had what they wanted first."""

    order: Order[K, T]
    refused: dict[K, tuple[Hashable, ...]] = field(default_factory=dict)
    _given: dict[K, tuple[T, Parts] | None] = field(default_factory=dict)
    _owners: dict[Hashable, K] = field(default_factory=dict)
    _refusals: dict[Hashable, set[K]] = field(default_factory=dict)
    _ranks: dict[K, tuple[object, ...]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[K]:
        """The claimants that are there."""
        return iter(self._given)

    def __contains__(self, claimant: object) -> bool:
        """Whether the claimant is there, whatever it has."""
        return claimant in self._given

    def get(self, claimant: K) -> T | None:
        """What the claimant has."""
        given = self._given.get(claimant)
        return None if given is None else given[0]

    def owner(self, part: Hashable) -> K | None:
        """The claimant that has this part."""
        return self._owners.get(part)

    def is_disputed(self, claimant: K) -> bool:
        """Whether it was refused anything, or has what another was refused."""
        if claimant in self.refused:
            return True
        given = self._given.get(claimant)
        return bool(self._refusals) and given is not None and any(part in self._refusals for part in given[1])

    def has_moved(self, claimant: K) -> bool:
        """Whether the rank of one that is disputed is another than when it was served last."""
        return self.is_disputed(claimant) and self._ranks.get(claimant) != self.order.rank(claimant)

    def disputes(self) -> dict[Hashable, tuple[K, ...]]:
        """The parts that several want: the one that has it first, then those that were refused it, in order."""
        return {
            part: (*([self._owners[part]] if part in self._owners else ()), *sorted(who, key=self.order.rank))
            for part, who in self._refusals.items()
        }

    def change(
        self, coming: Iterable[K] = (), going: Iterable[K] = (), moved: Iterable[K] = ()
    ) -> dict[K, T | None]:
        """Claimants that are new, gone, or may have another rank; what those had who have something else now."""
        stirred: set[K] = set()
        former: dict[K, tuple[T, Parts] | None] = {}
        differ: set[K] = set()
        for claimant in going:
            if claimant in self._given:
                stirred |= self._neighbours(claimant)
                former[claimant] = self._given[claimant]
                self._take_back(claimant)
                del self._given[claimant]
                self._ranks.pop(claimant, None)
                differ.add(claimant)
        stirred.update(claimant for claimant in moved if claimant in self._given)
        for claimant in coming:
            if claimant in self._given:
                continue
            former.setdefault(claimant, None)
            differ.add(claimant)
            self._given[claimant] = None
            wish = self.order.wish(claimant, 0)
            if wish is not None and all(part not in self._owners for part in wish[1]):
                self._give(claimant, wish)
            else:
                stirred.add(claimant)
        stirred &= self._given.keys()
        if stirred:
            self._settle(stirred, former)
        return {one: had and had[0] for one, had in former.items() if one in differ or self._given.get(one) != had}

    def _settle(self, stirred: set[K], former: dict[K, tuple[T, Parts] | None]) -> None:
        """Serves anew those who may have something else, and whoever shares a part with them."""
        while True:
            stirred = self._connected(stirred)
            for claimant in stirred:
                former.setdefault(claimant, self._given[claimant])
                self._take_back(claimant)
            found: set[K] = set()
            ranks = {claimant: self.order.rank(claimant) for claimant in stirred}
            self._ranks.update(ranks)
            for claimant in sorted(stirred, key=ranks.__getitem__):
                found |= self._serve(claimant)
            if found <= stirred:
                return
            stirred |= found

    def _serve(self, claimant: K) -> set[K]:
        """Gives it the first wish that is free; who has what it was refused."""
        refused: list[Hashable] = []
        found: set[K] = set()
        for number in range(MAX_WISHES):
            wish = self.order.wish(claimant, number)
            if wish is None:
                break
            taken = [part for part in wish[1] if part in self._owners]
            if not taken:
                self._give(claimant, wish)
                break
            refused += taken
            found.update(self._owners[part] for part in taken)
        for part in refused:
            self._refusals.setdefault(part, set()).add(claimant)
        if refused:
            self.refused[claimant] = tuple(refused)
        return found

    def _give(self, claimant: K, wish: tuple[T, Parts]) -> None:
        self._given[claimant] = wish
        for part in wish[1]:
            self._owners[part] = claimant

    def _take_back(self, claimant: K) -> None:
        given = self._given[claimant]
        for part in () if given is None else given[1]:
            del self._owners[part]
        self._given[claimant] = None
        for part in self.refused.pop(claimant, ()):
            if (who := self._refusals.get(part)) is not None:
                who.discard(claimant)
                if not who:
                    del self._refusals[part]

    def _neighbours(self, claimant: K) -> set[K]:
        """Those that share a part with it which one of them was refused."""
        found: set[K] = set()
        for part in self._parts_of(claimant):
            found |= self._claimants_of(part)
        return found

    def _parts_of(self, claimant: K) -> Iterator[Hashable]:
        given = self._given.get(claimant)
        yield from () if given is None else given[1]
        yield from self.refused.get(claimant, ())

    def _claimants_of(self, part: Hashable) -> set[K]:
        """Those that were refused it, and the one that has it; none where nobody was refused it."""
        refused = self._refusals.get(part)
        if not refused:
            return set()
        return refused | {self._owners[part]} if part in self._owners else refused

    def _connected(self, claimants: set[K]) -> set[K]:
        """These and all that share parts with them, directly or through others; each part is looked at once."""
        connected, left = set(claimants), list(claimants)
        seen: set[Hashable] = set()
        while left:
            for part in self._parts_of(left.pop()):
                if part not in seen:
                    seen.add(part)
                    new = self._claimants_of(part) - connected
                    connected |= new
                    left += new
        return connected
