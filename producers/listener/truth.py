"""The true state of services: what pushes hide, read from the catalog slowly, all the time."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, NamedTuple

import structlog

from producers.errors import NacosError, NacosUnavailableError
from producers.listener import observation as known
from producers.nacos.service_info import parse_hosts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from producers.listener.names import Follower
    from producers.listener.watched import Watched
    from producers.nacos.http.listing import SweptService
    from producers.nacos.servers import Server
    from producers.nacos.service_info import Hosts
    from schemas.events import Instance, InstanceKey, ServiceKey

_log = structlog.get_logger()

_PAGE = 500
"""3.x gives no more."""
_LOOKS_PER_S = 20
_RETRY_S = 2.0
_TIMES_OVERTAKEN = 3


class Truth(NamedTuple):
    """A service as the catalog has it."""

    hosts: Hosts
    protect_threshold: float


class MissingTwice:
    """Tells a removal that two looks in a row saw from one that was seen once."""

    def __init__(self) -> None:
        self._missing_once: dict[ServiceKey, frozenset[InstanceKey]] = {}

    def confirms(self, key: ServiceKey, former: tuple[Instance, ...], truth: tuple[Instance, ...]) -> bool:
        """Whether what is missing was missing at the last look, too."""
        missing = frozenset({one.key for one in former} - {one.key for one in truth})
        if missing <= self._missing_once.pop(key, frozenset()):
            return True
        self._missing_once[key] = missing
        return False


async def read_truth(
    watched: Watched, key: ServiceKey, clusters: Collection[str], server: Server | None
) -> Truth | None:
    """A service's true state in these clusters; None when a push overtook the answer.

    Raises:
        NacosError: as the HTTP interface.
    """
    told = watched.told.get(key, 0)
    api = await watched.cluster.api()
    stated = await api.true_hosts(watched.namespace, key, clusters or {"DEFAULT"}, server=server)
    hosts = parse_hosts(stated, portless=key.is_of_consumers)
    watched.set_aside(key, hosts)
    threshold = await api.protect_threshold(watched.namespace, key, server=server)
    return Truth(hosts, threshold) if watched.told.get(key, 0) == told else None


class TrueState:
    """Compares page after page of the catalog with what is known, and looks closely at what differs.

    A page is only a hint: pages skip and repeat, and do not tell all. A close look reads one service whole; when
    a push overtook it, it counts for nothing. What a look would remove is looked at twice; in the grace period
    after a reconnect there are no looks. `look` is another way to look closely, for servers that push nothing: it
    answers False when it has to be done again, and sees to the grace period itself.
    """

    def __init__(
        self,
        watched: Watched,
        follower: Follower,
        look: Callable[[ServiceKey, Collection[str]], Awaitable[bool]] | None = None,
    ) -> None:
        self._watched = watched
        self._follower = follower
        self._look = look or self._correct
        self._waits = look is None
        self._clusters: dict[ServiceKey, frozenset[str]] = {}
        self._missing = MissingTwice()

    async def sweep(self) -> None:
        """Reads all pages in the sweep's interval, spread out; again and again, until cancelled."""
        watched = self._watched
        page = 1
        while True:
            pages = max(1, math.ceil(len(watched.view.observed) / _PAGE))
            await asyncio.sleep(watched.settings.sweep_interval_s / pages * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            try:
                swept = await (await watched.cluster.api()).sweep_page(watched.namespace, page, _PAGE)
            except NacosError as error:
                _log.warning("sweep", namespace=watched.namespace, page=page, error=str(error))
                continue
            watched.heard()
            for service in swept:
                try:
                    self._compare(service)
                except Exception:  # noqa: BLE001 - it costs this service's comparison
                    _log.exception("sweep", namespace=watched.namespace, service=service.key)
            # A server that repeats pages must not keep us from beginning again.
            page = 1 if len(swept) < _PAGE or page > 2 * pages else page + 1

    async def look_closely(self) -> None:
        """Looks at doubtful services, a few in a second, until cancelled.

        A service that the server refuses is looked at again when a push or a page makes it doubtful.
        """
        doubtful = self._watched.doubtful
        overtaken: dict[ServiceKey, int] = {}
        while True:
            await asyncio.sleep(1 / _LOOKS_PER_S)
            key = next(iter(doubtful), None)
            if key is None:
                continue
            del doubtful[key]
            if self._waits and not self._follower.removals_believed(key):
                doubtful[key] = None  # behind the others, which may be of another connection
                continue
            try:
                done = await self._look(key, self._clusters.get(key, frozenset()))
            except NacosUnavailableError as error:
                _log.warning("true state", namespace=self._watched.namespace, service=key, error=str(error))
                await asyncio.sleep(_RETRY_S)
                done = False
            except NacosError as error:
                _log.warning("true state", namespace=self._watched.namespace, service=key, error=str(error))
                done = True
            except Exception:  # noqa: BLE001 - it costs this look
                _log.exception("true state", namespace=self._watched.namespace, service=key)
                done = True
            times = 0 if done else overtaken.pop(key, 0) + 1
            if 0 < times < _TIMES_OVERTAKEN:
                overtaken[key] = times
                doubtful[key] = None

    async def _correct(self, key: ServiceKey, clusters: Collection[str]) -> bool:
        """Reads one service's true state and puts right what is known; False when it has to be done again."""
        watched = self._watched
        former = watched.view.observed.get(key, known.NOTHING)
        asked = {instance.cluster for instance in former.instances} | set(clusters)
        # Another node may lag behind the one that pushes, and would take back what it told last.
        truth = await read_truth(watched, key, asked, self._follower.server_of(key))
        if truth is None:
            return False
        correction = known.corrected(former, truth.hosts.instances, truth.protect_threshold)
        if not self._missing.confirms(key, former.hidden, truth.hosts.instances):
            return False
        watched.correct(key, correction.observation)
        if correction.ask_again:
            await self._follower.ask(key)
        return True

    def _compare(self, service: SweptService) -> None:
        key = service.key
        observed = self._watched.view.observed.get(key)
        if observed is None:
            return
        before = {instance.key: instance for instance in observed.instances}
        hosts = parse_hosts(service.hosts, before, portless=key.is_of_consumers)
        if known.agrees(observed, hosts.instances, service.protect_threshold):
            return
        self._clusters[key] = frozenset(instance.cluster for instance in hosts.instances)
        self._watched.doubtful[key] = None
