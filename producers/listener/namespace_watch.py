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
from producers.listener.removals import Removals
from producers.listener.truth import TrueState
from runtime.backoff import Backoff
from schemas.events import Link

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from producers.listener.namespace_view import NamespaceView
    from producers.listener.watched import Watched
    from producers.nacos.http.listing import NacosApi
    from runtime.supervision import Supervisor
    from schemas.events import ConfigKey, ServiceKey

_log = structlog.get_logger()

_RETRY_S = 2.0
_ITEMS_PATIENCE_S = 5.0

LinkState = tuple[Link, str]
"""How a link is, and why."""


class NamespaceWatch:
    """Keeps a view up to date with what Nacos says.

    On 2.x and 3.x the services are spread over as many connections as their number wants; on 1.x they are asked
    for. Each part runs under the supervisor and is started again by itself when it fails; the view, and what is
    followed, outlast that. Runs on the event loop; stops by cancellation.
    """

    def __init__(self, watched: Watched, supervisor: Supervisor) -> None:
        self._watched = watched
        self._supervisor = supervisor
        self._follower: GrpcFollower | HttpFollower | None = None
        self._names: ServiceNames | None = None
        self._configs = ConfigWatch(watched)
        self._failure = "not connected yet"
        self._parts: list[asyncio.Task[None]] = []

    @property
    def view(self) -> NamespaceView:
        """What Nacos says of the namespace."""
        return self._watched.view

    @property
    def heard_at(self) -> float:
        """When Nacos was last heard of, on the monotonic clock."""
        return self._watched.heard_at

    @property
    def refused_services(self) -> dict[ServiceKey, str]:
        """The services that are set aside, with the reasons."""
        return {} if self._follower is None else self._follower.refused

    @property
    def refused_items(self) -> dict[ConfigKey, str]:
        """The config items that are set aside, with the reasons."""
        return {**self.view.left_out_items, **self._configs.refused.reasons}

    @property
    def left_to_find(self) -> int:
        """How many services are counted and not known by name."""
        return 0 if self._names is None else self._names.left_to_find

    @property
    def left_to_confirm(self) -> int:
        """How many services are not listed any more, and not confirmed to be gone."""
        return 0 if self._names is None else self._names.left_to_confirm

    @property
    def is_complete(self) -> bool:
        """Whether every service and config item that there is was observed, as far as Nacos tells."""
        view = self.view
        known = len(view.observed) if self._follower is None else len(self._follower.followed)
        return (
            view.services_complete
            and view.configs_complete
            and self.left_to_find == 0
            and self.left_to_confirm == 0
            and len(view.observed) >= known
            and not (view.unknown_item_groups or view.left_out_items or self.refused_services)
        )

    def link(self) -> LinkState:
        """How the link to Nacos is."""
        if self._follower is None or self._names is None:
            return Link.BLIND, self._failure
        return combine(self._follower.links(), self._names.link, (self._configs.link, self._configs.detail))

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            api = await self._reach()
            try:
                await self._watch(api)
            finally:
                parts, self._parts = self._parts, []
                for part in parts:
                    part.cancel()
                await asyncio.gather(*parts, return_exceptions=True)

    async def _reach(self) -> NacosApi:
        """The HTTP interface, once a server answers."""
        while True:
            try:
                return await self._watched.cluster.api()
            except NacosError as error:
                self._failure = str(error)
                _log.warning("cannot reach nacos", namespace=self.view.namespace, error=str(error))
                await asyncio.sleep(random.uniform(0.5, 1.0) * _RETRY_S)  # noqa: S311 - jitter

    async def _watch(self, api: NacosApi) -> None:
        """Watches until the servers turn out to speak a dialect that is followed in another way."""
        follower: GrpcFollower | HttpFollower
        if api.mode == "1.x":
            follower = http = HttpFollower(self._watched)
            truth = http.truth
            self._start("looks at services", http.run)
        else:
            follower = GrpcFollower(self._watched, self._start)
            truth = TrueState(self._watched, follower)
        removals = Removals(self._watched, follower)
        names = ServiceNames(self._watched, follower, removals, pushes=api.mode != "1.x")
        if isinstance(follower, GrpcFollower):
            follower.on_name_push = names.receive
        self._follower, self._names = follower, names
        # After a failure of ours, or a change of dialect: what was known stays followed.
        follower.follow([*self.view.observed, *self.view.left_out])
        for name, run in (
            ("config items", self._configs.run),
            ("search for services", names.run),
            ("removals", removals.run),
            ("sweep", truth.sweep),
            ("close looks", truth.look_closely),
        ):
            self._start(name, run)
        await names.found.wait()
        await follower.complete()
        self.view.services_complete = True
        self._watched.changed()
        await self._wait_for_items()
        await names.dialect_changed.wait()

    async def _wait_for_items(self) -> None:
        """Services wait for the config items, but not for long."""
        try:
            async with asyncio.timeout(_ITEMS_PATIENCE_S):
                await self._configs.settled.wait()
        except TimeoutError:
            self._configs.unknown(f"the config center has not answered in {_ITEMS_PATIENCE_S:.0f} s")

    def _start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        self._parts.append(self._supervisor.task(name, run, restart=Backoff(1.0, 60.0)))


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
