"""Which service of a namespace has which virtual address. Pure.

Where hashes meet, the service that is there for longest has the address and the other one its next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumers.materializer.allotment import Allotment
from consumers.materializer.claimed_names import named_claims, rank_of
from consumers.materializer.conversion.addresses import candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.materializer.claimed_names import Since
    from consumers.settings import AddressSettings
    from schemas.events import ServiceKey


@dataclass(slots=True)
class ClaimedAddresses:
    """The addresses of the services that want one; `lacking` are those for which none was found."""

    settings: AddressSettings
    since: Since
    lacking: set[ServiceKey] = field(default_factory=set)
    _hosts: dict[ServiceKey, str] = field(default_factory=dict)
    _given: Allotment[ServiceKey, str] = field(init=False)
    _claims: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._given = Allotment(self)

    def rank(self, key: ServiceKey, /) -> tuple[object, ...]:
        """The service's place among those that want the same."""
        return rank_of(key, self.since)

    def wish(self, key: ServiceKey, number: int, /) -> tuple[str, tuple[str]] | None:
        """One address after the other."""
        address = candidate(self.settings, self._hosts[key], number)
        return None if address is None else (address, (address,))

    def claim(self, wanted: Mapping[ServiceKey, str | None]) -> set[ServiceKey]:
        """Takes note of the hosts of those that want an address, None where they don't.

        Answers with those that have another address now, others than these among them.
        """
        given = self._given
        coming, going, moved = [], [], []
        for key, host in wanted.items():
            former = self._hosts.get(key)
            if host == former:
                if host is not None and given.has_moved(key):
                    moved.append(key)
                continue
            if former is not None:
                going.append(key)
                del self._hosts[key]
            if host is not None:
                coming.append(key)
                self._hosts[key] = host
        if not (coming or going or moved):
            return set()
        changed = given.change(coming, going, moved).keys()
        for key in {*changed, *moved}:
            if key in given and given.get(key) is None:
                self.lacking.add(key)
            else:
                self.lacking.discard(key)
        self._claims = named_claims(given, self.since)
        return set(changed)

    def get(self, key: ServiceKey) -> str | None:
        """The address of a service; None where it wants none, or lacks one."""
        return self._given.get(key)

    def claims(self) -> list[tuple[int, str]]:
        """Since when those are there who want one address, and how a manifest names them."""
        return self._claims
