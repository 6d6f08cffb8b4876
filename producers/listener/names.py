"""Which services a namespace has: new ones found, vanished ones confirmed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from producers import metrics
from producers.errors import NacosError, NacosRefusedError
from producers.nacos.fuzzy_watch import OVER_LIMIT, REQUEST, RESEND_S, FuzzyWatch
from schemas.events import Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from producers.listener.watched import Watched
    from producers.nacos.connection import NacosConnection
    from producers.nacos.http.listing import Counts, NacosApi
    from producers.nacos.payload import Envelope
    from producers.nacos.servers import Server
    from schemas.events import Instance, ServiceKey

_log = structlog.get_logger()

_MISSED_LISTINGS_UNTIL_GONE = 2
_LISTED = "services are listed"
_DOUBTED_FROM = 10
"""A listing that lacks more services than this, and more than half of them, is not believed at once."""


class Follower(Protocol):
    """Follows the services of a namespace; every call may raise NacosError."""

    async def add(self, keys: Iterable[ServiceKey]) -> None:
        """Follows these too."""

    async def ask(self, key: ServiceKey) -> tuple[Instance, ...] | None:
        """Looks at a service now; its instances, None when nobody can tell."""

    async def drop(self, key: ServiceKey) -> None:
        """Follows it no longer."""

    async def listed(self, counts: Mapping[ServiceKey, Counts]) -> None:
        """A listing said so."""

    def listing_failed(self) -> None:
        """A listing got no answer."""

    def removals_believed(self, key: ServiceKey) -> bool:
        """Whether a service that is not listed may be gone."""

    def server_of(self, key: ServiceKey) -> Server | None:
        """The server that tells of the service; None when any does."""

    def names_connection(self) -> NacosConnection | None:
        """The connection over which names may be pushed, if any."""


class ServiceNames:
    """Looks for new and vanished services: by their number, by their names now and then, by push on 3.x.

    A service is gone when two listings lack it, the second one of another server where there is one, and
    the service itself, asked for, has no instance. A listing that lacks most of what is known makes the link
    blind, and counts only when it stays so for a grace period.
    """

    def __init__(self, watched: Watched, follower: Follower) -> None:
        self.link = Link.DEGRADED
        self.detail = "not listed yet"
        self._watched = watched
        self._follower = follower
        self._missed: dict[ServiceKey, int] = {}
        self._counted = -1
        self._doubted_since: float | None = None
        self._fuzzy: FuzzyWatch | None = None
        self._fuzzy_connection: NacosConnection | None = None
        self._fuzzy_refused: NacosConnection | None = None
        self._fuzzy_sent_at = 0.0
        self._woken = asyncio.Event()

    async def first_listing(self) -> None:
        """Lists all services and follows them."""
        listed = await (await self._watched.cluster.api()).list_services(self._watched.namespace)
        await self._heed_listing(listed)
        self.link, self.detail = Link.LIVE, _LISTED

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        settings = self._watched.settings
        looks, listed_at = 0, time.monotonic()
        while True:
            try:
                api = await self._watched.cluster.api()
                pushed = api.mode == "3.x" and await self._watch_names()
                interval = settings.http_interval_s if api.mode == "1.x" else settings.listing_interval_s
                await self._pause(interval)
                looks += 1
                if pushed:
                    full = bool(self._missed) or time.monotonic() - listed_at >= settings.sweep_interval_s
                else:
                    full = api.mode == "1.x" or bool(self._missed) or looks % settings.full_listing_every == 0
                if full or (not pushed and await self._number_changed(api)):
                    listed_at = time.monotonic()
                    await self._look(api)
            except NacosError as error:
                self._fail(error)
                await self._pause(settings.listing_interval_s)
            else:
                self._watched.heard()
                if self._doubted_since is None:
                    self.link, self.detail = Link.LIVE, _LISTED

    def receive(self, message: Envelope) -> None:
        """A push that may be about names."""
        changes = self._fuzzy.receive(message) if self._fuzzy is not None else None
        if changes is None:
            return
        for key in changes.deleted & self._watched.view.observed.keys():
            self._missed.setdefault(key, 0)
        if changes.added or changes.deleted:
            self._woken.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    def _fail(self, error: NacosError) -> None:
        # The streams may be well while HTTP is not; their own ends are what counts.
        self.link, self.detail = Link.DEGRADED, str(error)
        self._follower.listing_failed()
        if isinstance(error, NacosRefusedError) and error.code in {404, 405, 410}:
            self._watched.cluster.forget_version()

    async def _number_changed(self, api: NacosApi) -> bool:
        """Compared with the last number, not with what is known: a service may be counted and not listed."""
        count = await api.count_services(self._watched.namespace)
        changed, self._counted = count != self._counted, count
        return changed

    async def _look(self, api: NacosApi) -> None:
        namespace = self._watched.namespace
        listed = await api.list_services(namespace)
        if self._missed.keys() - listed.keys():
            servers = await self._watched.cluster.servers.all()
            for server in servers[1:2]:
                listed = {**await api.list_services(namespace, server=server), **listed}
        await self._heed_listing(listed)

    async def _heed_listing(self, listed: Mapping[ServiceKey, Counts]) -> None:
        known = self._watched.view.observed.keys()
        await self._follower.add(listed.keys() - known)
        await self._follower.listed(listed)
        missing = set(known - listed.keys())
        if self._is_doubted(missing, len(known)):
            return
        missing = {key for key in missing if self._follower.removals_believed(key)}
        self._missed = {key: self._missed.get(key, 0) + 1 for key in missing}
        for key in [key for key, times in self._missed.items() if times >= _MISSED_LISTINGS_UNTIL_GONE]:
            del self._missed[key]
            if await self._follower.ask(key) == ():
                await self._follower.drop(key)
                self._watched.forget(key)

    def _is_doubted(self, missing: set[ServiceKey], known: int) -> bool:
        if len(missing) <= max(_DOUBTED_FROM, known // 2):
            self._doubted_since = None
            return False
        now = time.monotonic()
        if self._doubted_since is None:
            self._doubted_since = now
        metrics.LISTINGS_DOUBTED.labels(*self._watched.labels).inc()
        self._missed = dict.fromkeys(missing, 1)
        self.link = Link.BLIND
        self.detail = f"a listing lacks {len(missing)} of {known} services: not believed yet"
        _log.warning("listing doubted", namespace=self._watched.namespace, lacks=len(missing), known=known)
        return now - self._doubted_since < self._watched.settings.removal_grace_s

    async def _watch_names(self) -> bool:
        """Whether names are pushed; asks for it on a new connection, and again every few minutes."""
        connection = self._follower.names_connection()
        if connection is None or connection is self._fuzzy_refused or not connection.abilities.get("fuzzyWatch"):
            self._fuzzy = None
            return False
        if connection is not self._fuzzy_connection:
            self._fuzzy, self._fuzzy_connection = FuzzyWatch(connection.namespace), connection
            self._fuzzy_sent_at = float("-inf")
        fuzzy = self._fuzzy
        if fuzzy is None:
            return False
        try:
            if time.monotonic() - self._fuzzy_sent_at >= RESEND_S:
                await connection.request(REQUEST, fuzzy.request())
                self._fuzzy_sent_at = time.monotonic()
            if fuzzy.finished:
                await self._follower.add(fuzzy.names - self._watched.view.observed.keys())
        except NacosRefusedError as error:
            if error.code not in OVER_LIMIT:
                raise
            self._refuse_names(connection, str(error))
            return False
        return fuzzy.finished

    def _refuse_names(self, connection: NacosConnection, reason: str) -> None:
        self._fuzzy, self._fuzzy_refused = None, connection
        _log.warning("names are listed, not pushed", namespace=self._watched.namespace, reason=reason)
