"""Follows the services of a Nacos 2.x or 3.x namespace over one or more gRPC connections."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from producers.listener.subscriptions import Subscriptions

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from producers.listener.watched import Watched
    from producers.nacos.connection import NacosConnection
    from producers.nacos.http.listing import Counts
    from producers.nacos.payload import Envelope
    from producers.nacos.servers import Server
    from schemas.events import Instance, Link, ServiceKey


class GrpcFollower:
    """Spreads services over connections; another one is opened when all are full.

    `on_name_push` gets the pushes that are not about a service's instances.
    """

    def __init__(self, watched: Watched, tasks: asyncio.TaskGroup) -> None:
        self.on_name_push: Callable[[Envelope], None] = lambda _: None
        self._watched = watched
        self._tasks = tasks
        self._shards: list[Subscriptions] = []
        self._shard_of: dict[ServiceKey, Subscriptions] = {}

    async def complete(self) -> None:
        """Waits until every service was observed once."""
        for shard in self._shards:
            await shard.completed.wait()

    def links(self) -> list[tuple[Link, str]]:
        """How each connection is."""
        return [(shard.link, shard.detail) for shard in self._shards]

    async def add(self, keys: Iterable[ServiceKey]) -> None:
        """Gives each service to the connection with the fewest."""
        new = [key for key in keys if key not in self._shard_of]
        wanted = math.ceil((len(self._shard_of) + len(new)) / self._watched.settings.services_per_connection)
        while len(self._shards) < max(1, wanted):
            shard = Subscriptions(self._watched, on_other=self._receive)
            self._shards.append(shard)
            self._tasks.create_task(shard.run(), name=f"subscriptions-{self._watched.namespace}")
        shares: dict[Subscriptions, list[ServiceKey]] = {shard: [] for shard in self._shards}
        for key in new:
            shard = min(shares, key=lambda shard: len(shard.keys) + len(shares[shard]))
            shares[shard].append(key)
            self._shard_of[key] = shard
        for shard, share in shares.items():
            await shard.add(share)

    async def ask(self, key: ServiceKey) -> tuple[Instance, ...] | None:
        """The instances that subscribers are told of; None while the connection is down."""
        shard = self._shard_of.get(key)
        info = await shard.ask(key) if shard is not None else None
        return None if info is None else info.hosts.instances

    async def drop(self, key: ServiceKey) -> None:
        """Follows the service no longer."""
        shard = self._shard_of.pop(key, None)
        if shard is not None:
            await shard.drop(key)

    async def listed(self, counts: Mapping[ServiceKey, Counts]) -> None:
        """Nothing: instances are pushed."""

    def listing_failed(self) -> None:
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

    def _receive(self, message: Envelope) -> None:
        self.on_name_push(message)
