"""The hosts of the service entries that config items state: services are not generated a second time. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry

if TYPE_CHECKING:
    from consumers.materializer.folded_item import Claimant


@dataclass(slots=True)
class StatedHosts:
    """Which resource of a config item states which host; hosts are compared without case."""

    _hosts: dict[str, frozenset[str]] = field(default_factory=dict)
    _items: dict[str, dict[str, str]] = field(default_factory=dict)

    def put(self, resource: str, stating: Claimant | None) -> frozenset[str]:
        """What the item that has a resource states, None for none; the hosts of which that may differ."""
        former = self._hosts.pop(resource, frozenset())
        for host in former:
            items = self._items[host]
            del items[resource]
            if not items:
                del self._items[host]
        if stating is None:
            return former
        hosts = self._hosts[resource] = _hosts_of(stating.resource.body)
        for host in hosts:
            self._items.setdefault(host, {})[resource] = f"{stating} ({resource})"
        return former | hosts

    def stating(self, host: str) -> tuple[str, ...]:
        """The items that state a host, as an operator reads it."""
        items = self._items.get(host)
        return () if items is None else tuple(items[resource] for resource in sorted(items))


def _hosts_of(body: bytes) -> frozenset[str]:
    return frozenset(host.lower() for host in ServiceEntry.FromString(body).hosts)
