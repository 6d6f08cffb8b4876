"""A share of a namespace's services, followed over one gRPC connection at a time, for ever."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from producers import metrics
from producers.errors import NacosError
from producers.listener import observation as known
from producers.listener.watched import new_backoff
from producers.nacos import payload
from producers.nacos.service_info import parse_hosts, parse_service_info
from schemas.events import Link, ServiceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from producers.listener.watched import Watched
    from producers.nacos.connection import Ending, NacosConnection
    from producers.nacos.payload import Envelope
    from producers.nacos.servers import Server
    from producers.nacos.service_info import ServiceInfo

_log = structlog.get_logger()

_CONNECT_TIMEOUT_S = 30.0
_GARBAGE_REMEMBERED_S = 30.0


class Subscriptions:
    """Keeps a share of the services subscribed; observations go into the view through `Watched`.

    Any end of the connection leads to a new one, to another server where there is one, with resubscription and
    comparison. For a grace period after a reconnect nothing is removed: what a server does not list while it
    loads from its peers is asked for again at the end of it, then of another server. `on_other` gets pushes that
    are not about a service's instances. Runs on the event loop; stops by cancellation.
    """

    def __init__(self, watched: Watched, *, on_other: Callable[[Envelope], None]) -> None:
        self.keys: set[ServiceKey] = set()
        self.connection: NacosConnection | None = None
        self.link = Link.BLIND
        self.detail = "not connected yet"
        self.completed = asyncio.Event()
        self.removals_believed_from = 0.0
        self._watched = watched
        self._pushes = metrics.PUSHES.labels(*watched.labels)
        self._on_other = on_other
        self.server: Server | None = None
        self._redirected: Server | None = None
        self._subscribed: set[ServiceKey] = set()
        self._pushed: set[ServiceKey] = set()
        self._withheld: set[ServiceKey] = set()
        self._garbage_at = float("-inf")
        self._following = False

    async def run(self) -> None:
        """Connects, subscribes, follows, and begins again, until cancelled."""
        backoff = new_backoff()
        while True:
            begun = time.monotonic()
            try:
                cause = await self._connect_and_follow()
            except (NacosError, TimeoutError) as error:
                cause = getattr(error, "cause", "timeout")
                self.detail = str(error) or "no answer in time"
            finally:
                self._following = False
                if self.connection is not None:
                    await self.connection.close()
                    self.connection = None
            self.link = Link.BLIND
            pause = backoff.pause_s(time.monotonic() - begun)
            metrics.RECONNECTS.labels(*self._watched.labels, cause).inc()
            _log.warning(
                "connection to nacos ended",
                namespace=self._watched.namespace,
                server=self.server.url if self.server else None,
                cause=cause,
                detail=self.detail,
                retry_in_s=round(pause, 2),
            )
            await asyncio.sleep(pause)

    @property
    def removals_believed(self) -> bool:
        """Whether what is missing now is gone."""
        return time.monotonic() >= self.removals_believed_from

    async def add(self, keys: Iterable[ServiceKey]) -> None:
        """Follows these services too: at once when connected, else with the next connection.

        One whose subscription fails is tried again every second.
        """
        new = set(keys) - self.keys
        self.keys |= new
        if new and self.connection is not None and self._following:
            await self._subscribe(self.connection, new)

    async def ask(self, key: ServiceKey) -> ServiceInfo | None:
        """Asks the server for a service once more, and observes the answer; None while not connected."""
        if self.connection is None or not self._following:
            return None
        self._pushed.discard(key)
        answer = await self.connection.request(
            "SubscribeServiceRequest", _subscription(self._watched.namespace, key, subscribe=True)
        )
        return self._take_answer(key, answer.get("serviceInfo"))

    async def drop(self, key: ServiceKey) -> None:
        """Follows the service no longer."""
        self.keys.discard(key)
        self._subscribed.discard(key)
        if self.connection is not None and self._following:
            await self.connection.request(
                "SubscribeServiceRequest", _subscription(self._watched.namespace, key, subscribe=False)
            )

    async def _connect_and_follow(self) -> str:
        """One connection from its beginning to its end; why it ended."""
        watched = self._watched
        self.server = self._redirected or await watched.cluster.servers.following(self.server)
        self._redirected = None
        self._pushed.clear()
        self._subscribed.clear()
        if self.completed.is_set():
            self.removals_believed_from = time.monotonic() + watched.settings.removal_grace_s
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            connection = await watched.cluster.connect(self.server, watched.namespace, self._receive)
        self.connection = connection
        watched.heard()
        self.link, self.detail = Link.DEGRADED, f"subscribing to {len(self.keys)} services at {connection.address}"
        while missing := self.keys - self._subscribed:  # more may be added meanwhile
            await self._subscribe(connection, missing)
        self._following = True
        self.completed.set()
        watched.changed()
        _log.info("watching", namespace=watched.namespace, server=connection.address, services=len(self.keys))
        while not connection.ended.done():
            self._judge_link(connection)
            await asyncio.wait({connection.ended}, timeout=1.0)
            if not connection.ended.done():
                try:
                    await self._catch_up(connection)
                except NacosError as error:
                    _log.warning("cannot catch up yet", namespace=watched.namespace, error=str(error))
        return await self._heed(connection.ended.result())

    async def _catch_up(self, connection: NacosConnection) -> None:
        """Subscribes to what could not be, and looks again at what removals were withheld of."""
        if len(self._subscribed) < len(self.keys):
            await self._subscribe(connection, self.keys - self._subscribed)
        if self._withheld and self.removals_believed:
            await self._second_look()

    async def _heed(self, ending: Ending) -> str:
        self.detail = f"the connection ended: {ending.cause}"
        if ending.redirect is not None:
            self._redirected = await self._watched.cluster.servers.at(*ending.redirect)
        return ending.cause

    def _judge_link(self, connection: NacosConnection) -> None:
        if time.monotonic() - self._garbage_at < _GARBAGE_REMEMBERED_S:
            self.link, self.detail = Link.DEGRADED, f"garbage from {connection.address}"
        else:
            self.link, self.detail = Link.LIVE, f"connected to {connection.address}"

    async def _subscribe(self, connection: NacosConnection, keys: Iterable[ServiceKey]) -> None:
        """Subscribes with bounded concurrency; the first fault ends it, and is raised as it is."""
        waiting = iter(list(keys))

        async def worker() -> None:
            for key in waiting:
                answer = await connection.request(
                    "SubscribeServiceRequest", _subscription(self._watched.namespace, key, subscribe=True)
                )
                self._subscribed.add(key)
                self._take_answer(key, answer.get("serviceInfo"))

        # Not a TaskGroup: it would wrap the fault, and `run` would take a lost connection for a fault of ours.
        workers = [asyncio.create_task(worker()) for _ in range(self._watched.settings.subscribe_concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()

    def _take_answer(self, key: ServiceKey, info: object) -> ServiceInfo | None:
        """Observes a subscription's answer, unless a push overtook it.

        The answer is computed before the subscription is made, so any push is at least as new.
        """
        if key in self._pushed:
            return None
        return self._take(info)

    def _receive(self, message: Envelope) -> None:
        """A push, in the order of arrival."""
        match message.type:
            case "NotifySubscriberRequest":
                self._pushes.inc()
                parsed = self._take(message.body.get("serviceInfo"))
                if parsed is not None:
                    self._pushed.add(parsed.key)
            case payload.GARBAGE:
                self._garbage_at = time.monotonic()
                self._watched.garbage(str(message.body))
            case _:
                self._watched.heard()
                self._on_other(message)

    def _take(self, info: object) -> ServiceInfo | None:
        taken = self._watched.take(info, removals_believed=self.removals_believed)
        if taken is None:
            self._garbage_at = time.monotonic()
            return None
        parsed, withheld = taken
        if withheld:
            self._withheld.add(parsed.key)
        return parsed

    async def _second_look(self) -> None:
        """After the grace period, asks again for what seemed to have lost instances.

        Where there is another server, one that still has them is believed for another grace period.
        """
        for key in list(self._withheld):
            if await self._is_held_elsewhere(key):
                self.removals_believed_from = time.monotonic() + self._watched.settings.removal_grace_s
                return
            self._withheld.discard(key)
            await self.ask(key)

    async def _is_held_elsewhere(self, key: ServiceKey) -> bool:
        """Whether another server has instances of ours that the connected one lacks."""
        watched = self._watched
        others = [server for server in await watched.cluster.servers.all() if server != self.server]
        former = watched.view.observed.get(key)
        if not others or former is None or self.connection is None:
            return False
        answer = await self.connection.request(
            "ServiceQueryRequest",
            {
                "namespace": watched.namespace,
                "groupName": key.group,
                "serviceName": key.service,
                "cluster": "",
                "healthyOnly": False,
            },
        )
        here = parse_service_info(answer.get("serviceInfo")).hosts.instances
        if not known.lacks(former, here):
            return False
        missing = {instance.key for instance in former.visible} - {instance.key for instance in here}
        for server in others:
            try:
                api = await watched.cluster.api()
                info = await api.visible_service(watched.namespace, key, server=server)
            except NacosError:
                continue
            if any(one.key in missing for one in parse_hosts(info.get("hosts") or ()).instances):
                return True
        return False


def _subscription(namespace: str, key: ServiceKey, *, subscribe: bool) -> dict[str, object]:
    return {
        "namespace": namespace,
        "groupName": key.group,
        "serviceName": key.service,
        "subscribe": subscribe,
        "clusters": "",
    }
