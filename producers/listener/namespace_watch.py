"""Watches one namespace of a Nacos 2.x cluster, over one connection at a time, for ever."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import structlog

from producers import metrics
from producers.errors import NacosError, NacosGarbageError, NacosUnavailableError
from producers.listener.diff import without_removals
from producers.nacos.connection import NacosConnection
from producers.nacos.service_info import parse_service_info
from schemas.events import Link, ServiceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from producers.listener.namespace_view import NamespaceView
    from producers.nacos.http_api import NacosHttp
    from producers.nacos.payload import Envelope
    from producers.settings import ListenerSettings, NacosSettings

_log = structlog.get_logger()

_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 10.0
_MISSED_LISTINGS_UNTIL_GONE = 2


def now_us() -> int:
    """The time, in microseconds since 1970 (UTC)."""
    return time.time_ns() // 1000


class NamespaceWatch:
    """Keeps a view up to date with what Nacos says; `changed` is called after each observation.

    Any end of the connection leads to a new one, to another server where there is one, with resubscription and
    comparison. For a grace period after a reconnect nothing is removed: what a server does not list while it
    loads from its peers is asked for again at the end of it. Runs on the event loop; stops by cancellation.
    """

    def __init__(
        self,
        view: NamespaceView,
        *,
        http: NacosHttp,
        nacos: NacosSettings,
        settings: ListenerSettings,
        changed: Callable[[], None],
    ) -> None:
        self.view = view
        self.link = Link.BLIND
        self.detail = "not connected yet"
        self._http = http
        self._nacos = nacos
        self._settings = settings
        self._changed = changed
        self._connection: NacosConnection | None = None
        self._pushed: set[ServiceKey] = set()
        self._missed: dict[ServiceKey, int] = {}
        self._withheld: set[ServiceKey] = set()
        self._removals_believed_from = 0.0
        self._connections = 0

    async def run(self) -> None:
        """Connects, follows, and begins again, until cancelled."""
        attempt = 0
        while True:
            server = self._nacos.servers[self._connections % len(self._nacos.servers)]
            cause = "refused"
            try:
                async with asyncio.timeout(30):
                    self._connection = await self._connect(server)
                attempt = 0
                cause = await self._follow(self._connection)
            except (NacosUnavailableError, TimeoutError) as error:
                cause = getattr(error, "cause", "timeout")
                self.detail = str(error)
            except NacosError as error:
                self.detail = str(error)
            finally:
                if self._connection is not None:
                    await self._connection.close()
                    self._connection = None
            self.link = Link.BLIND
            self._connections += 1
            attempt += 1
            pause = random.uniform(0.5, 1.0) * min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** min(attempt, 10))  # noqa: S311 - jitter
            metrics.RECONNECTS.labels(self._settings.datacenter, cause).inc()
            _log.warning(
                "connection to nacos ended",
                namespace=self.view.namespace,
                server=server,
                cause=cause,
                detail=self.detail,
                retry_in_s=round(pause, 2),
            )
            await asyncio.sleep(pause)

    async def _connect(self, server: str) -> NacosConnection:
        self._pushed.clear()
        self._missed.clear()
        connection = NacosConnection(
            self._nacos.grpc_address(server), namespace=self.view.namespace, on_push=self._pushed_by_nacos
        )
        connection.access_token = await self._http.access_token()
        if self.view.complete:
            self._removals_believed_from = time.monotonic() + self._settings.removal_grace_s
        return await connection.open()

    async def _follow(self, connection: NacosConnection) -> str:
        """Lists, subscribes, then looks for new services until the connection ends; why it ended."""
        self.link, self.detail = Link.DEGRADED, "subscribing"
        listed = (await self._http.list_services(self.view.namespace)).services
        await self._subscribe(connection, listed | self.view.observed.keys())
        self.view.complete = True
        self.link, self.detail = Link.LIVE, f"connected to {connection.address}"
        self._changed()
        _log.info("watching", namespace=self.view.namespace, server=connection.address, services=len(listed))
        looks = 0
        while not connection.ended.done():
            await asyncio.wait({connection.ended}, timeout=self._settings.listing_interval_s)
            if connection.ended.done():
                break
            looks += 1
            try:
                await self._look_for_services(connection, full=looks % self._settings.full_listing_every == 0)
                await self._second_look(connection)
                connection.access_token = await self._http.access_token()
            except NacosError as error:
                # The stream may be well while HTTP is not; its own end is what counts.
                self.link, self.detail = Link.DEGRADED, str(error)
            else:
                self.link, self.detail = Link.LIVE, f"connected to {connection.address}"
        return connection.ended.result()

    async def _subscribe(self, connection: NacosConnection, keys: Iterable[ServiceKey]) -> None:
        """Subscribes with bounded concurrency; the first fault ends it, and is raised as it is."""
        waiting = iter(list(keys))

        async def worker() -> None:
            for key in waiting:
                info = await connection.subscribe(key.group, key.service)
                # A push came after the subscription was made, so it is at least as new as this answer.
                if key not in self._pushed:
                    self._observe(info)

        # Not a TaskGroup: it would wrap the fault, and `run` would take a lost connection for a fault of ours.
        workers = [asyncio.create_task(worker()) for _ in range(self._settings.subscribe_concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()

    def _pushed_by_nacos(self, message: Envelope) -> None:
        if message.type != "NotifySubscriberRequest":
            return
        metrics.PUSHES.labels(self._settings.datacenter).inc()
        key = self._observe(message.body.get("serviceInfo"))
        if key is not None:
            self._pushed.add(key)
            self._missed.pop(key, None)

    def _observe(self, info: Any) -> ServiceKey | None:
        at = now_us()
        datacenter = self._settings.datacenter
        try:
            parsed = parse_service_info(info)
        except NacosGarbageError as error:
            metrics.GARBAGE.labels(datacenter).inc()
            _log.warning("garbage from nacos", namespace=self.view.namespace, error=str(error))
            return None
        for bad in parsed.bad:
            metrics.BAD_INSTANCES.labels(datacenter, bad.reason).inc()
            _log.warning(
                "an instance that can't be used",
                namespace=self.view.namespace,
                service=parsed.key,
                reason=bad.reason,
                detail=bad.detail,
            )
        instances = parsed.instances
        if time.monotonic() < self._removals_believed_from:
            instances, withheld = without_removals(self.view.observed.get(parsed.key, ()), instances)
            if withheld:
                self._withheld.add(parsed.key)
                metrics.REMOVALS_WITHHELD.labels(datacenter).inc()
        self.view.observe(parsed.key, instances, at)
        self._changed()
        return parsed.key

    async def _look_for_services(self, connection: NacosConnection, *, full: bool) -> None:
        """Finds new and vanished services: by their number every time, by their names now and then."""
        known = self.view.observed.keys()
        if not full and await self._http.count_services(self.view.namespace) == len(known):
            return
        listed = (await self._http.list_services(self.view.namespace)).services
        new = listed - known
        if new:
            await self._subscribe(connection, new)
        if time.monotonic() >= self._removals_believed_from:
            await self._confirm_gone(connection, known - listed)

    async def _confirm_gone(self, connection: NacosConnection, missing: set[ServiceKey]) -> None:
        """A service is gone when two listings in a row lack it and the server shows no instance of it."""
        self._missed = {key: self._missed.get(key, 0) + 1 for key in missing}
        certain = [key for key, times in self._missed.items() if times >= _MISSED_LISTINGS_UNTIL_GONE]
        for key in certain:
            info = parse_service_info(await connection.subscribe(key.group, key.service))
            del self._missed[key]
            if info.instances:
                self.view.observe(info.key, info.instances, now_us())
            else:
                self.view.forget(key, now_us())
        if certain:
            self._changed()

    async def _second_look(self, connection: NacosConnection) -> None:
        """After the grace period, asks again for what seemed to have lost instances."""
        if self._withheld and time.monotonic() >= self._removals_believed_from:
            keys, self._withheld = self._withheld, set()
            self._pushed -= keys
            await self._subscribe(connection, keys)
