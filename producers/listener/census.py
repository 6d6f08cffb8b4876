"""How many services a namespace has by its server's count, and which are known by name. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.events import ServiceKey

_TRIES = 4


@dataclass(slots=True)
class Census:
    """The count decides whether all services were found.

    Names come from listings, whose pages are cut from an unordered set and may skip some, and from pushes, which a
    server's limits cut short in silence.
    """

    is_listed: bool = False
    _names: set[ServiceKey] = field(default_factory=set)
    _known: set[ServiceKey] = field(default_factory=set)
    _unusable: int = 0
    _counted: int | None = None
    _fruitless: int = 0
    _last: tuple[int | None, int] = (None, -1)

    @property
    def left_to_find(self) -> int:
        """How many services are counted and not known by name."""
        return 0 if self._counted is None else max(0, self._counted - len(self._known) - self._unusable)

    @property
    def is_whole(self) -> bool:
        """Whether every service that is counted is known by name."""
        return self.is_listed and self.left_to_find == 0

    @property
    def is_stubborn(self) -> bool:
        """Whether several listings in a row made no difference: as many are counted, and as few are listed."""
        return self._fruitless >= _TRIES

    @property
    def differs(self) -> bool:
        """Whether names are to be listed: the count is another one than that of the names that are told."""
        return not self.is_listed or self._counted != len(self._names) + self._unusable

    def count(self, counted: int) -> None:
        """So many services are counted now."""
        self._counted = counted
        if not self.differs:
            self._fruitless = 0

    def list(self, names: Iterable[ServiceKey], unusable: int, followed: Iterable[ServiceKey]) -> None:
        """A listing shows these names, and so many that can't be used; these are followed, listed or not."""
        self._names, self._unusable, self.is_listed = set(names), unusable, True
        self._known = self._names.union(followed)
        numbers = (self._counted, len(self._names))
        self._fruitless = self._fruitless + 1 if self.differs and numbers == self._last else 0
        self._last = numbers

    def push(self, added: Iterable[ServiceKey], deleted: Iterable[ServiceKey]) -> None:
        """A push says that these came and those went."""
        self._names.update(added)
        self._names.difference_update(deleted)
        self._known.update(added)
