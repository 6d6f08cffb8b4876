"""Follows the services of a Nacos 1.x namespace, which pushes nothing to us: by asking."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from producers.listener.observation import NOTHING
from producers.listener.truth import TrueState
from producers.nacos.service_info import parse_hosts
from schemas.events import Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from producers.listener.watched import Watched
    from producers.nacos.connection import NacosConnection
    from producers.nacos.http.listing import Counts
    from producers.nacos.servers import Server
    from schemas.events import Instance, ServiceKey

_CONCURRENCY = 16


class HttpFollower:
    """Looks at the services whose numbers of instances, all or healthy, a listing shows changed.

    What changes neither number (weights, metadata) is found by the sweep. After an outage removals wait for
    the grace period, because the servers may have been restarted.
    """

    def __init__(self, watched: Watched) -> None:
        self.truth = TrueState(watched, self, exact=True)
        self._watched = watched
        self._link = (Link.BLIND, "not listed yet")
        self._counts: dict[ServiceKey, Counts] = {}
        self._removals_believed_from = 0.0

    async def complete(self) -> None:
        """Nothing to wait for: the first listing looked at every service."""

    def links(self) -> list[tuple[Link, str]]:
        """Whether the servers answer."""
        return [self._link]

    async def add(self, keys: Iterable[ServiceKey]) -> None:
        """Looks at these, a few at a time."""
        waiting = iter(list(keys))

        async def worker() -> None:
            for key in waiting:
                # Of two looks the second one decides, where something is missing.
                await self._look(key) or await self._look(key)

        workers = [asyncio.create_task(worker()) for _ in range(_CONCURRENCY)]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()

    async def ask(self, key: ServiceKey) -> tuple[Instance, ...] | None:
        """Looks at the service now."""
        await self.add([key])
        return self._watched.view.observed.get(key, NOTHING).instances

    async def drop(self, key: ServiceKey) -> None:
        """Forgets its numbers."""
        self._counts.pop(key, None)

    async def listed(self, counts: Mapping[ServiceKey, Counts]) -> None:
        """Looks at the services whose numbers changed."""
        self._link = (Link.LIVE, "asked over HTTP")
        if time.monotonic() < self._removals_believed_from:
            return
        await self.add(key for key, count in counts.items() if self._counts.get(key) != count)
        self._counts = dict(counts)

    def listing_failed(self) -> None:
        """From here on removals wait."""
        self._link = (Link.BLIND, "no server answers")
        self._removals_believed_from = time.monotonic() + self._watched.settings.removal_grace_s

    def removals_believed(self, key: ServiceKey) -> bool:  # noqa: ARG002 - the same for all
        """Whether the servers have been answering for long enough."""
        return time.monotonic() >= self._removals_believed_from

    def server_of(self, key: ServiceKey) -> Server | None:  # noqa: ARG002 - the same for all
        """None: whoever answers."""
        return None

    def names_connection(self) -> NacosConnection | None:
        """None: nothing is pushed."""
        return None

    async def _look(self, key: ServiceKey) -> bool:
        api = await self._watched.cluster.api()
        info = await api.visible_service(self._watched.namespace, key)
        clusters = {instance.cluster for instance in parse_hosts(info.get("hosts") or ()).instances}
        return await self.truth.look(key, clusters)
