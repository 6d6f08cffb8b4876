"""What the fake server knows, and the faults that it has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Key = tuple[str, str, str]
"""Namespace, group, service or data id; the public namespace is `public`."""
Host = dict[str, Any]


@dataclass(slots=True)
class Service:
    """A service's instances, all of them, and its protect threshold."""

    hosts: list[Host] = field(default_factory=list)
    protect_threshold: float = 0.0

    def visible(self) -> tuple[list[Host], bool]:
        """What subscribers are told, and whether the service is protected."""
        enabled = [host for host in self.hosts if host.get("enabled", True)]
        healthy = [host for host in enabled if host.get("healthy", True)]
        protected = bool(enabled) and len(healthy) / len(enabled) <= self.protect_threshold
        return ([{**host, "healthy": True} for host in enabled] if protected else enabled), protected


@dataclass(slots=True)
class Faults:
    """What goes wrong; each may be set and taken back while the server runs."""

    starting: bool = False
    not_registered: bool = False
    busy: bool = False
    silent: bool = False
    """Half-open: connections stand, nothing is answered."""
    refused_subscriptions: int = 0
    """So many of the next subscriptions are refused."""
    refused: dict[str, int] = field(default_factory=dict)
    """Services and data ids, or groups, that are refused with this code, over gRPC and HTTP."""
    config_center_away: bool = False
    """Its database is: every call about config items fails, naming does not."""
    cancelled: Callable[[str], bool] | None = None
    """Requests, by their type, upon which the server closes the connection instead of answering."""
    reset_at_once: bool = False
    """Every connection is reset as soon as it is set up."""
    empty_answers: bool = False
    """Subscriptions and lists show no instances, as of a server that has not loaded its peers' data."""
    listing: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
    """Changes what a list of services holds."""
    page: Callable[[list[dict[str, Any]], int], list[dict[str, Any]]] | None = None
    """Changes a page of services with instances, given its number."""
    garbage_lists: bool = False
    patterns_over_limit: int = 0
    """The error code that a fuzzy watch is refused with."""
    listing_code: int = 0
    """The HTTP status that lists of services are refused with."""
    refuse_tokens: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Registry:
    """Namespaces, services, config items; and what was asked, for tests to look at."""

    namespaces: set[str] = field(default_factory=lambda: {"public"})
    services: dict[Key, Service] = field(default_factory=dict)
    configs: dict[Key, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    asked: list[str] = field(default_factory=list)

    def refusal(self, group: str, name: str) -> int:
        """The code that this service or config item is refused with; 0 for none."""
        return self.faults.refused.get(name) or self.faults.refused.get(group) or 0

    def service(self, namespace: str, group: str, name: str) -> Service:
        return self.services.setdefault((namespace, group, name), Service())

    def of(self, namespace: str) -> list[tuple[Key, Service]]:
        return [(key, service) for key, service in self.services.items() if key[0] == namespace]

    def service_info(self, key: Key) -> dict[str, Any]:
        """As subscribers get it."""
        service = self.services.get(key, Service())
        hosts, protected = service.visible()
        return {
            "name": key[2],
            "groupName": key[1],
            "clusters": "",
            "cacheMillis": 10000,
            "hosts": [] if self.faults.empty_answers else hosts,
            "lastRefTime": 0,
            "reachProtectionThreshold": protected,
        }


def md5(text: str) -> str:
    """Nacos's mark of a config item's text."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def host(ip: str = "10.0.0.1", port: Any = 8080, **changes: Any) -> Host:
    """An instance in Nacos's form."""
    return {
        "ip": ip,
        "port": port,
        "weight": 1.0,
        "healthy": True,
        "enabled": True,
        "ephemeral": True,
        "clusterName": "DEFAULT",
        "metadata": {},
        **changes,
    }
