"""The instances of a namespace that are not listed although Nacos gives them out, for operators. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumers.materializer.candidates import SetAside
    from schemas.events import ServiceKey

_MOST_SERVICES = 200
_MOST_INSTANCES = 20


class _OfService(NamedTuple):
    counts: Counter[str]
    first: tuple[SetAside, ...]


@dataclass(slots=True)
class SetAsideInstances:
    """By service; `counts` is how many there are for each reason."""

    counts: Counter[str] = field(default_factory=Counter)
    _services: dict[ServiceKey, _OfService] = field(default_factory=dict)

    def note(self, key: ServiceKey, found: Sequence[SetAside]) -> None:
        """These are set aside of a service now; what was before is forgotten."""
        former = self._services.pop(key, None)
        if former:
            self.counts.subtract(former.counts)
        if found:
            counts = Counter[str](one.why for one in found)
            self._services[key] = _OfService(counts, tuple(found[:_MOST_INSTANCES]))
            self.counts.update(counts)

    def describe(self) -> dict[str, list[str]]:
        """As the debug page shows them: the first services, the first instances of each."""
        shown = sorted(self._services.items())[:_MOST_SERVICES]
        return {"@@".join(key): _describe(found) for key, found in shown}


def _describe(found: _OfService) -> list[str]:
    lines = [
        f"{one.key.ip}:{one.key.port} ({one.key.cluster}) in {one.datacenter}: {one.why}" for one in found.first
    ]
    more = found.counts.total() - len(lines)
    return [*lines, f"{more} more"] if more else lines
