"""Follows the services of a Nacos 1.x namespace, which pushes nothing to us: by asking."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from producers.errors import NacosError, NacosUnavailableError
from producers.listener import observation as known
from producers.listener.concurrently import for_each
from producers.listener.observation import NOTHING
from producers.listener.refusals import Refusals
from producers.listener.truth import MissingTwice, TrueState, read_truth
from producers.nacos.service_info import parse_hosts
from schemas.events import Link

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from producers.listener.watched import Watched
    from producers.nacos.connection import NacosConnection
    from producers.nacos.http.listing import Counts
    from producers.nacos.servers import Server
    from schemas.events import Instance, ServiceKey

_log = structlog.get_logger()

_CONCURRENCY = 16
_RETRY_S = 1.0
_FAULTS_UNTIL_PAUSE = 64
"""So many services may find no server before the others are left for the next time."""


class HttpFollower:
    """Looks at the services whose numbers of instances, all or healthy, a listing shows changed.

    What changes neither number (weights, metadata) is found by the sweep. After an outage removals wait for
    the grace period, because the servers may have been restarted; additions and changes don't. A service that the
    servers refuse is set aside and asked for again now and then; the others go on.
    """

    def __init__(self, watched: Watched) -> None:
        self.truth = TrueState(watched, self, self.look)
        self._watched = watched
        self._link = (Link.BLIND, "not listed yet")
        self._counts: dict[ServiceKey, Counts | None] = {}
        self._waiting: dict[ServiceKey, None] = {}
        self._withheld: set[ServiceKey] = set()
        self._refusals: Refusals[ServiceKey] = Refusals()
        self._missing = MissingTwice()
        self._removals_believed_from = 0.0
        self._woken = asyncio.Event()
        self._looked_at_all = asyncio.Event()

    @property
    def followed(self) -> frozenset[ServiceKey]:
        """Every service that it follows, those that are set aside included."""
        return frozenset(self._counts)

    @property
    def refused(self) -> dict[ServiceKey, str]:
        """The services that are set aside, with the reasons."""
        return self._refusals.reasons

    async def complete(self) -> None:
        """Waits until every service was looked at once, or set aside."""
        await self._looked_at_all.wait()

    def links(self) -> list[tuple[Link, str]]:
        """Whether the servers answer."""
        if self._link[0] is not Link.LIVE:
            return [self._link]
        error = self._refusals.refuse_all(self._counts)
        if error is not None:
            return [(Link.BLIND, str(error))]
        if self._refusals:
            return [(Link.DEGRADED, f"{len(self._refusals)} services are set aside: {self._refusals.first}")]
        return [self._link]

    async def run(self) -> None:
        """Looks at what is waiting, a few at a time, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self._look_at_all()
            except NacosError as error:
                _log.warning("cannot look at services", namespace=self._watched.namespace, error=str(error))
                self._woken.set()
                await asyncio.sleep(_RETRY_S)
                continue
            if not self._waiting and self._refusals.refuse_all(self._counts) is None:
                self._looked_at_all.set()

    async def _look_at_all(self) -> None:
        """Looks at what is waiting; raises the last error about a server once all had their turn."""
        faults: list[NacosError] = []

        async def look(key: ServiceKey) -> None:
            try:
                await self._look_at(key)
            except NacosError as error:
                faults.append(error)
                if len(faults) >= _FAULTS_UNTIL_PAUSE:
                    raise

        await for_each(list(self._waiting), look, at_once=_CONCURRENCY)
        if faults:
            raise faults[-1]

    def follow(self, keys: Iterable[ServiceKey]) -> None:
        """Looks at these as soon as it can."""
        for key in keys:
            self._counts.setdefault(key, None)
            self._wait(key)
        self._woken.set()

    async def ask(self, key: ServiceKey) -> tuple[Instance, ...] | None:
        """Looks at the service now. Raises NacosError."""
        await self._look_twice(key)
        return self._watched.view.observed.get(key, NOTHING).instances

    def drop(self, key: ServiceKey) -> None:
        """Follows it no longer."""
        self._counts.pop(key, None)
        self._waiting.pop(key, None)
        self._withheld.discard(key)
        self._refusals.settle(key)

    def listed(self, counts: Mapping[ServiceKey, Counts]) -> None:
        """Looks at services whose numbers changed, that were refused, or that lost instances in a grace period."""
        self._link = (Link.LIVE, "asked over HTTP")
        for key, count in counts.items():
            if self._counts.get(key) != count:
                self._counts[key] = count
                self._wait(key)
        if self._withheld and time.monotonic() >= self._removals_believed_from:
            for key in self._withheld:
                self._wait(key)
            self._withheld.clear()
        for key in self._refusals.due(time.monotonic()):
            self._wait(key)
        self._woken.set()

    def listing_failed(self, reason: str) -> None:
        """From here on removals wait."""
        self._link = (Link.BLIND, reason)
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

    async def look(self, key: ServiceKey, clusters: Collection[str] = ()) -> bool:
        """Reads the service and observes it; False when something is missing that was not missing before.

        Raises:
            NacosError: as the HTTP interface.
        """
        watched = self._watched
        api = await watched.cluster.api()
        info = await api.visible_service(watched.namespace, key)
        former = watched.view.observed.get(key, NOTHING)
        asked = {
            instance.cluster
            for instance in parse_hosts(info.get("hosts") or (), portless=key.is_of_consumers).instances
        }
        asked |= {instance.cluster for instance in former.instances} | set(clusters)
        truth = await read_truth(watched, key, asked, None)
        if truth is None:
            return False
        if key not in self._counts:
            return True  # dropped meanwhile
        after = known.stated(truth.hosts.instances, truth.protect_threshold)
        is_confirmed = True
        if not self.removals_believed(key):
            after, is_withheld = known.without_removals(former, after)
            if is_withheld:
                self._withheld.add(key)
        elif not self._missing.confirms(key, former.instances, truth.hosts.instances):
            after, is_confirmed = known.without_removals(former, after)[0], False
        watched.state(key, after)
        return is_confirmed

    def _wait(self, key: ServiceKey) -> None:
        self._waiting[key] = None
        self._looked_at_all.clear()

    async def _look_twice(self, key: ServiceKey) -> None:
        """Of two looks the second one decides, where something is missing."""
        _ = await self.look(key) or await self.look(key)

    async def _look_at(self, key: ServiceKey) -> None:
        """Looks at one that is waiting. What goes wrong with one is its own; raises where no server answers."""
        try:
            await self._look_twice(key)
        except NacosUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - it costs this service
            if not isinstance(error, NacosError):
                _log.exception("service_not_observed", namespace=self._watched.namespace, service=key)
            if key in self._counts:
                is_news = self._refusals.note(key, error, time.monotonic())
                self._watched.leave_out(key, error, is_news=is_news)
        else:
            self._refusals.settle(key)
        self._waiting.pop(key, None)
