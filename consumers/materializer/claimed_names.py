"""Which service of a namespace has which name in Istio, where several may want one. Pure.

Nacos's names may come out the same in Istio. The service that is there for longest has the name, in any
datacenter; of those that came together, one whose names need no change, then the one that sorts first. The others
carry a hash. A name with a hash is wanted like any other: no two services ever have one name or one host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from consumers.materializer.allotment import Allotment
from consumers.materializer.conversion import FIRST_REVISION
from consumers.materializer.conversion.names import ServiceName, is_canonical, service_name
from consumers.materializer.fold_state import claim_name
from consumers.materializer.revision_1 import claimed_names as first_claimed_names
from consumers.materializer.revision_1 import names as first_names

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, Namespace, ServiceKey

    Since = Callable[[ServiceKey], Mapping[Datacenter, int]]
    """Since when a service is there, by datacenter; empty for one of which a guard keeps the last endpoints."""

T = TypeVar("T")
MAX_CLAIMS = 1000
"""Of services of datacenters that a manifest names, the oldest ones."""


class Names(Protocol):
    """Who has which name; `failed` are the services of the last claim whose names could not be made, and why."""

    failed: dict[ServiceKey, Exception]

    def __iter__(self) -> Iterator[ServiceKey]:
        """The services that have a name."""

    def claim(self, present: Mapping[ServiceKey, Collection[object]]) -> dict[ServiceKey, ServiceName | None]:
        """Takes note of who is there and, with nothing to show, who is not.

        Answers with those that are to be named anew, others than these among them, and the names that they lose.
        """

    def name(self, key: ServiceKey) -> ServiceName:
        """The name of a service that is there."""

    def known(self, key: ServiceKey) -> ServiceName | None:
        """The name that a service has already."""

    def resources(self) -> set[str]:
        """The names of all resources."""

    def named(self, resources: Collection[str]) -> set[ServiceKey]:
        """The services whose resources, or hosts, have these names."""

    def rivals(self) -> dict[str, tuple[ServiceKey, ...]]:
        """Resources' names and hosts that several want; the first has it."""

    def claims(self) -> list[tuple[int, str]]:
        """Since when those are there who want the same, and how a manifest names them."""


def names_of(revision: str, settings: ConversionSettings, namespace: Namespace, since: Since) -> Names:
    """Nobody yet, to be named as a revision of the conversion does."""
    if revision == FIRST_REVISION:
        return first_claimed_names.ClaimedNames(settings, namespace)
    return ClaimedNames(settings, namespace, since)


def plain_name(revision: str, settings: ConversionSettings, namespace: Namespace, key: ServiceKey) -> ServiceName:
    """The names of a service that has no rival."""
    make = first_names.service_name if revision == FIRST_REVISION else service_name
    return make(settings, namespace, key)


@dataclass(slots=True)
class ClaimedNames:
    """The names of services; whoever comes or goes may change those of others, and never of who came before."""

    settings: ConversionSettings
    namespace: Namespace
    since: Since
    failed: dict[ServiceKey, Exception] = field(default_factory=dict)
    _given: Allotment[ServiceKey, ServiceName] = field(init=False)
    _claims: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._given = Allotment(self)

    def __iter__(self) -> Iterator[ServiceKey]:
        """The services that have a name."""
        return iter(self._given)

    def rank(self, key: ServiceKey, /) -> tuple[object, ...]:
        """The service's place among those that want the same."""
        return rank_of(key, self.since)

    def wish(self, key: ServiceKey, number: int, /) -> tuple[ServiceName, tuple[str, str]] | None:
        """The plain name, then those with a hash; nothing where it can't be made."""
        try:
            name = service_name(self.settings, self.namespace, key, attempt=number)
        except Exception as error:  # noqa: BLE001 - it costs this service
            self.failed[key] = error
            return None
        return name, (name.resource, name.host)

    def claim(self, present: Mapping[ServiceKey, Collection[object]]) -> dict[ServiceKey, ServiceName | None]:
        """See `Names`."""
        given, coming, going, moved = self._given, [], [], []
        self.failed = {}
        for key, found in present.items():
            if key in given:
                if not found:
                    going.append(key)
                elif given.has_moved(key):
                    moved.append(key)
            elif found:
                coming.append(key)
        if not (coming or going or moved):
            return {}
        unnamed = given.change(coming, going, moved)
        if self.failed:
            unnamed |= {key: one for key, one in given.change(going=self.failed).items() if key not in unnamed}
            for key in self.failed:
                del unnamed[key]
        self._claims = named_claims(given, self.since)
        return unnamed

    def name(self, key: ServiceKey) -> ServiceName:
        """The name of a service that is there."""
        name = self._given.get(key)
        if name is None:
            raise LookupError(f"{key.group}@@{key.service} has no name")
        return name

    def known(self, key: ServiceKey) -> ServiceName | None:
        """The name that a service has already."""
        return self._given.get(key)

    def resources(self) -> set[str]:
        """The names of all resources."""
        return {name.resource for key in self._given if (name := self._given.get(key)) is not None}

    def named(self, resources: Collection[str]) -> set[ServiceKey]:
        """The services whose resources, or hosts, have these names."""
        return {key for one in resources if (key := self._given.owner(one)) is not None}

    def rivals(self) -> dict[str, tuple[ServiceKey, ...]]:
        """Resources' names and hosts that several want; the first has it."""
        return {str(part): who for part, who in self._given.disputes().items()}

    def claims(self) -> list[tuple[int, str]]:
        """Since when those are there who want the same, and how a manifest names them."""
        return self._claims


def rank_of(key: ServiceKey, since: Since) -> tuple[object, ...]:
    """The service's place among those that want the same: the least has it."""
    return min(since(key).values(), default=0), not is_canonical(key), key


def named_claims(given: Allotment[ServiceKey, T], since: Since) -> list[tuple[int, str]]:
    """Since when those are there who want the same, and how a manifest names them; the oldest ones."""
    who = {key for rivals in given.disputes().values() for key in rivals}
    found = [(at, claim_name(datacenter, key)) for key in who for datacenter, at in since(key).items()]
    return sorted(found)[:MAX_CLAIMS]
