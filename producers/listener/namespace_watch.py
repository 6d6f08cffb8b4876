"""Watches one namespace of a Nacos cluster, for ever: its services and its config items."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import structlog

from producers.errors import NacosError
from producers.listener.config_watch import ConfigWatch
from producers.listener.grpc_follower import GrpcFollower
from producers.listener.http_follower import HttpFollower
from producers.listener.names import ServiceNames
from producers.listener.truth import TrueState
from schemas.events import Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producers.listener.namespace_view import NamespaceView
    from producers.listener.watched import Watched

_log = structlog.get_logger()

_RETRY_S = 2.0

LinkState = tuple[Link, str]
"""How a link is, and why."""


class NamespaceWatch:
    """Keeps a view up to date with what Nacos says.

    On 2.x and 3.x the services are spread over as many connections as their number wants; on 1.x they are asked
    for. Runs on the event loop; stops by cancellation; an exception that comes out of it is a fault of ours.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._follower: GrpcFollower | HttpFollower | None = None
        self._names: ServiceNames | None = None
        self._configs = ConfigWatch(watched)
        self._failure = "not connected yet"

    @property
    def view(self) -> NamespaceView:
        """What Nacos says of the namespace."""
        return self._watched.view

    @property
    def heard_at(self) -> float:
        """When Nacos was last heard of, on the monotonic clock."""
        return self._watched.heard_at

    def link(self) -> LinkState:
        """How the link to Nacos is."""
        if self._follower is None or self._names is None:
            return Link.BLIND, self._failure
        names = (self._names.link, self._names.detail)
        return combine(self._follower.links(), names, (self._configs.link, self._configs.detail))

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            try:
                api = await self._watched.cluster.api()
            except NacosError as error:
                await self._failed("cannot reach nacos", error)
            else:
                break
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._configs.run(), name=f"configs-{self.view.namespace}")
            if api.mode == "1.x":
                http_follower = HttpFollower(self._watched)
                await self._follow(tasks, http_follower, http_follower.truth)
            else:
                grpc_follower = GrpcFollower(self._watched, tasks)
                await self._follow(tasks, grpc_follower, TrueState(self._watched, grpc_follower))

    async def _follow(
        self, tasks: asyncio.TaskGroup, follower: GrpcFollower | HttpFollower, truth: TrueState
    ) -> None:
        self._follower = follower
        self._names = names = ServiceNames(self._watched, follower)
        if isinstance(follower, GrpcFollower):
            follower.on_name_push = names.receive
        while True:
            try:
                await names.first_listing()
            except NacosError as error:
                names.detail = str(error)
                await self._failed("cannot list services", error)
            else:
                break
        for part in (names.run(), truth.sweep(), truth.look_closely()):
            tasks.create_task(part)
        await follower.complete()
        self.view.services_complete = True
        self._watched.changed()

    async def _failed(self, what: str, error: NacosError) -> None:
        self._failure = str(error)
        _log.warning(what, namespace=self.view.namespace, error=str(error))
        await asyncio.sleep(random.uniform(0.5, 1.0) * _RETRY_S)  # noqa: S311 - jitter


def combine(followers: Sequence[LinkState], names: LinkState, configs: LinkState) -> LinkState:
    """The link of a namespace from those of its parts.

    Blind only when no follower has a connection, or when listings can't be believed: a namespace of which a
    part is lost, or whose config items are, is degraded.
    """
    down = [state for state in followers if state[0] is Link.BLIND]
    if len(down) == len(followers):
        return down[0] if down else (Link.BLIND, names[1])
    if names[0] is Link.BLIND:
        return names
    if down:
        return Link.DEGRADED, f"{len(down)} of {len(followers)} connections are down: {down[0][1]}"
    for state in (*followers, names):
        if state[0] is Link.DEGRADED:
            return state
    if configs[0] is not Link.LIVE:
        return Link.DEGRADED, configs[1]
    return followers[0]
