"""Which service of a namespace has which name, as the first revision decided it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumers.materializer.revision_1.names import is_canonical, service_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from consumers.materializer.conversion.names import ServiceName
    from consumers.settings import ConversionSettings
    from schemas.events import Namespace, ServiceKey


@dataclass(slots=True)
class ClaimedNames:
    """The names of services, and what each service would be called if it were alone.

    Nacos's names may come out the same in Istio. The one whose name is kept as it is has it; without such a one,
    all that want it carry a hash. Whoever comes or goes may so change the names of others. `failed` are the
    services of the last claim whose names could not be made, and why: they are left as they were.
    """

    settings: ConversionSettings
    namespace: Namespace
    failed: dict[ServiceKey, Exception] = field(default_factory=dict)
    _names: dict[ServiceKey, ServiceName] = field(default_factory=dict)
    _claims: dict[str, set[ServiceKey]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ServiceKey]:
        """The services that have a name."""
        return iter(self._names)

    def claim(self, present: Mapping[ServiceKey, Collection[object]]) -> dict[ServiceKey, ServiceName | None]:
        """Takes note of who is there and, with nothing to show, who is not.

        Answers with those that are to be named anew, others than these among them, and the names that they lose.
        """
        unnamed: set[ServiceKey] = set()
        self.failed = {}
        for key, found in present.items():
            if (key in self._names) == bool(found):
                continue
            try:
                claims = _claims_of(service_name(self.settings, self.namespace, key))
            except Exception as error:  # noqa: BLE001 - it costs this service
                self.failed[key] = error
                continue
            unnamed.add(key)
            for claim in claims:
                claimants = self._claims.setdefault(claim, set())
                if found:
                    claimants.add(key)
                else:
                    claimants.discard(key)
                if len(claimants) > 1 or not found:
                    unnamed |= claimants
                if not claimants:
                    del self._claims[claim]
        return {key: self._names.pop(key, None) for key in unnamed}

    def name(self, key: ServiceKey) -> ServiceName:
        """The name of a service that is there."""
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = self._choose(key)
        return name

    def known(self, key: ServiceKey) -> ServiceName | None:
        """The name that a service has already."""
        return self._names.get(key)

    def resources(self) -> set[str]:
        """The names of all resources."""
        return {name.resource for name in self._names.values()}

    def named(self, resources: Collection[str]) -> set[ServiceKey]:
        """The services whose resources have these names."""
        return {key for key, name in self._names.items() if name.resource in resources} if resources else set()

    def rivals(self) -> dict[str, tuple[ServiceKey, ...]]:
        """Resources' names and hosts that several want; none of them has it where several are first."""
        return {claim.partition(" ")[2]: tuple(sorted(who)) for claim, who in self._claims.items() if len(who) > 1}

    def claims(self) -> list[tuple[int, str]]:
        """No manifest named any."""
        return []

    def _choose(self, key: ServiceKey) -> ServiceName:
        plain = service_name(self.settings, self.namespace, key)
        for claim in _claims_of(plain):
            rivals = self._claims[claim]
            if len(rivals) > 1 and [rival for rival in rivals if is_canonical(rival)] != [key]:
                return service_name(self.settings, self.namespace, key, collides=True)
        return plain


def _claims_of(plain: ServiceName) -> tuple[str, str]:
    return f"name {plain.resource}", f"host {plain.host}"
