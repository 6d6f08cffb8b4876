"""Follows the services of a Nacos 2.x or 3.x namespace over one or more gRPC connections."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from producers.listener.subscriptions import Subscriptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from producers.listener.watched import Watched
    from producers.nacos.connection import NacosConnection
    from producers.nacos.http.listing import Counts
    from producers.nacos.payload import Envelope
    from producers.nacos.servers import Server
    from schemas.events import Instance, Link, ServiceKey


class GrpcFollower:
    """Spreads services over connections; another one is opened when all are full.

    `start` runs a part under supervision. `on_name_push` gets the pushes that are not about a service's instances.
    """

    def __init__(self, watched: Watched, start: Callable[[str, Callable[[], Awaitable[None]]], None]) -> None:
        self.on_name_push: Callable[[Envelope], None] = lambda _: None
        self._watched = watched
        self._start = start
        self._shards: list[Subscriptions] = []
        self._shard_of: dict[ServiceKey, Subscriptions] = {}

    @property
    def followed(self) -> frozenset[ServiceKey]:
        """Every service that it follows, those that are set aside included."""
        return frozenset(self._shard_of)

    @property
    def refused(self) -> dict[ServiceKey, str]:
        """The services that are set aside, with the reasons."""
        return {key: reason for shard in self._shards for key, reason in shard.refused.reasons.items()}

    async def complete(self) -> None:
        """Waits until every service was observed once, or set aside."""
        while pending := [shard for shard in self._shards if not shard.completed.is_set()]:
            await pending[0].completed.wait()

    def links(self) -> list[tuple[Link, str]]:
        """How each connection is."""
        return [shard.link for shard in self._shards]

    def follow(self, keys: Iterable[ServiceKey]) -> None:
        """Gives each service to the connection with the fewest."""
        new = [key for key in keys if key not in self._shard_of]
        wanted = math.ceil((len(self._shard_of) + len(new)) / self._watched.settings.services_per_connection)
        while len(self._shards) < max(1, wanted):
            shard = Subscriptions(self._watched, on_other=self._receive, others_are_told=self._are_others_told)
            self._shards.append(shard)
            self._start("subscriptions", shard.run)
        shares: dict[Subscriptions, list[ServiceKey]] = {shard: [] for shard in self._shards}
        for key in new:
            shard = min(shares, key=lambda shard: len(shard.keys) + len(shares[shard]))
            shares[shard].append(key)
            self._shard_of[key] = shard
        for shard, share in shares.items():
            shard.add(share)

    async def ask(self, key: ServiceKey) -> tuple[Instance, ...] | None:
        """The instances that subscribers are told of; None while the connection is down. Raises NacosError."""
        shard = self._shard_of.get(key)
        info = await shard.ask(key) if shard is not None else None
        return None if info is None else info.hosts.instances

    def drop(self, key: ServiceKey) -> None:
        """Follows the service no longer."""
        shard = self._shard_of.pop(key, None)
        if shard is not None:
            shard.drop(key)

    def listed(self, counts: Mapping[ServiceKey, Counts]) -> None:
        """Nothing: instances are pushed."""

    def listing_failed(self, reason: str) -> None:
        """Nothing: the connections know for themselves."""

    def removals_believed(self, key: ServiceKey) -> bool:
        """Whether its connection stands, and has stood for long enough."""
        shard = self._shard_of.get(key)
        return shard is not None and shard.connection is not None and shard.removals_believed

    def server_of(self, key: ServiceKey) -> Server | None:
        """The server of its connection."""
        shard = self._shard_of.get(key)
        return None if shard is None else shard.server

    def names_connection(self) -> NacosConnection | None:
        """The first connection."""
        return self._shards[0].connection if self._shards else None

    def _are_others_told(self, asking: Subscriptions) -> bool:
        return any(shard.is_told for shard in self._shards if shard is not asking)

    def _receive(self, message: Envelope) -> None:
        self.on_name_push(message)
