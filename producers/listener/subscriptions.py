"""A share of a namespace's services, followed over one gRPC connection at a time, for ever."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from producers import metrics
from producers.errors import NacosError, NacosGarbageError, NacosRefusedError, NacosUnavailableError
from producers.listener.concurrently import for_each
from producers.listener.refusals import Refusals
from producers.listener.second_look import is_held_elsewhere
from producers.listener.watched import new_backoff
from producers.nacos import payload
from producers.nacos.service_info import named_service
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
_LOOK_S = 1.0
_MORE_ATTEMPTS = 2
_ATTEMPT_PAUSE_S = 0.3


class Subscriptions:
    """Keeps a share of the services subscribed; observations go into the view through `Watched`.

    Any end of the connection leads to a new one, to another server where there is one, with resubscription and
    comparison. For a grace period after a reconnect nothing is removed: what a server does not list while it
    loads from its peers is asked for again at the end of it, then of another server. A service that the server
    refuses, or whose messages can't be handled, is set aside and asked for again now and then; the others go on.
    A server that refuses all, and not for their names, is left, unless other connections fare better
    (`others_are_told`). `on_other` gets pushes that are not about a service's instances. Runs on the event loop;
    stops by cancellation.
    """

    def __init__(
        self,
        watched: Watched,
        *,
        on_other: Callable[[Envelope], None],
        others_are_told: Callable[[Subscriptions], bool],
    ) -> None:
        self.keys: set[ServiceKey] = set()
        self.connection: NacosConnection | None = None
        self.completed = asyncio.Event()
        self.refused: Refusals[ServiceKey] = Refusals()
        self.server: Server | None = None
        self._detail = "not connected yet"
        self._watched = watched
        self._pushes = metrics.PUSHES.labels(*watched.labels)
        self._on_other = on_other
        self._others_are_told = others_are_told
        self._redirected: Server | None = None
        self._subscribed: set[ServiceKey] = set()
        self._dropped: set[ServiceKey] = set()
        self._pushed: set[ServiceKey] = set()
        self._withheld: set[ServiceKey] = set()
        self._woken = asyncio.Event()
        self._removals_believed_from = 0.0
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
                if cause == "connection_ended" and self.connection is not None and self.connection.ended.done():
                    cause = self.connection.ended.result().cause  # a call in flight tells of it first
                self._detail = str(error) or "no answer in time"
            finally:
                self._following = False
                if self.connection is not None:
                    await self.connection.close()
                    self.connection = None
            pause = backoff.pause_s(time.monotonic() - begun)
            metrics.RECONNECTS.labels(*self._watched.labels, cause).inc()
            _log.warning(
                "connection to nacos ended",
                namespace=self._watched.namespace,
                server=self.server.url if self.server else None,
                cause=cause,
                detail=self._detail,
                retry_in_s=round(pause, 2),
            )
            await asyncio.sleep(pause)

    @property
    def link(self) -> tuple[Link, str]:
        """How the connection is, and why."""
        connection = self.connection
        if connection is None:
            return Link.BLIND, self._detail
        waiting = len(self.keys) - len(self._subscribed)
        if not self._following:
            return Link.DEGRADED, f"subscribing to {len(self.keys)} services at {connection.address}"
        if self.refused:
            return Link.DEGRADED, f"{len(self.refused)} services are set aside: {self.refused.first}"
        if waiting > 0:
            return Link.DEGRADED, f"{waiting} of {len(self.keys)} services are not subscribed to yet"
        if time.monotonic() - self._garbage_at < _GARBAGE_REMEMBERED_S:
            return Link.DEGRADED, f"garbage from {connection.address}"
        return Link.LIVE, f"connected to {connection.address}"

    @property
    def is_told(self) -> bool:
        """Whether the server tells of any service."""
        return bool(self._subscribed)

    @property
    def removals_believed(self) -> bool:
        """Whether what is missing now is gone."""
        return time.monotonic() >= self._removals_believed_from

    def add(self, keys: Iterable[ServiceKey]) -> None:
        """Follows these services too, as soon as it is connected."""
        new = set(keys) - self.keys
        self.keys |= new
        self._dropped -= new
        if new:
            self.completed.clear()
            self._woken.set()

    def drop(self, key: ServiceKey) -> None:
        """Follows the service no longer."""
        self.keys.discard(key)
        self.refused.settle(key)
        self._withheld.discard(key)
        if key in self._subscribed:
            self._subscribed.discard(key)
            self._dropped.add(key)
            self._woken.set()

    async def ask(self, key: ServiceKey) -> ServiceInfo | None:
        """Asks the server for a service once more, and observes the answer; None while not connected.

        Raises:
            NacosError: the connection ended, or the server refuses.
        """
        if self.connection is None or not self._following:
            return None
        self._pushed.discard(key)
        answer = await self.connection.request(
            "SubscribeServiceRequest", _subscription(self._watched.namespace, key, subscribe=True)
        )
        return self._take_answer(key, answer.get("serviceInfo"))

    async def _connect_and_follow(self) -> str:
        """One connection from its beginning to its end; why it ended."""
        watched = self._watched
        self.server = self._redirected or await watched.cluster.servers.following(self.server)
        self._redirected = None
        self._pushed.clear()
        self._subscribed.clear()
        self._dropped.clear()
        if watched.view.observed:
            self._removals_believed_from = time.monotonic() + watched.settings.removal_grace_s
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            connection = await watched.cluster.connect(self.server, watched.namespace, self._receive)
        self.connection = connection
        watched.heard()
        await self._subscribe(connection, self.refused)
        await self._subscribe_waiting(connection)
        self._following = True
        watched.changed()
        _log.info("watching", namespace=watched.namespace, server=connection.address, services=len(self.keys))
        while not connection.ended.done():
            await connection.wait_for(self._woken, timeout_s=_LOOK_S)
            self._woken.clear()
            if connection.ended.done():
                break
            try:
                await self._catch_up(connection)
            except NacosError as error:
                _log.warning("cannot catch up yet", namespace=watched.namespace, error=str(error))
                await connection.wait_for(asyncio.Event(), timeout_s=_LOOK_S)
            self._raise_if_all_refused()
        return await self._heed(connection.ended.result())

    async def _subscribe_waiting(self, connection: NacosConnection) -> None:
        """Subscribes to what is new. What is refused is tried twice more: a refusal may be over in a moment."""
        while waiting := [key for key in self.keys if key not in self._subscribed and key not in self.refused]:
            await self._subscribe(connection, waiting)  # more may be added meanwhile
            for _ in range(_MORE_ATTEMPTS):
                passing = self.refused.passing(waiting)
                if not passing:
                    break
                await asyncio.sleep(_ATTEMPT_PAUSE_S)
                await self._subscribe(connection, passing)
        self._raise_if_all_refused()
        self.completed.set()

    def _raise_if_all_refused(self) -> None:
        """Leaves a server that refuses every service, and not for their names: another one may not."""
        error = self.refused.refuse_all(self.keys)
        if error is not None and not self._others_are_told(self):
            raise NacosUnavailableError(getattr(error, "cause", "refused"), str(error)) from error

    async def _catch_up(self, connection: NacosConnection) -> None:
        """Subscribes to what is new or was refused, and looks again at what removals were withheld of."""
        for key in list(self._dropped):
            self._dropped.discard(key)
            await self._unsubscribe(connection, key)
        if not self.completed.is_set() or len(self._subscribed) < len(self.keys):
            await self._subscribe_waiting(connection)
        if self.refused:
            await self._subscribe(connection, self.refused.due(time.monotonic()))
        if self._withheld and self.removals_believed:
            await self._second_look(connection)

    async def _heed(self, ending: Ending) -> str:
        self._detail = f"the connection ended: {ending.cause}"
        if ending.redirect is not None:
            self._redirected = await self._watched.cluster.servers.at(*ending.redirect)
        return ending.cause

    async def _subscribe(self, connection: NacosConnection, keys: Iterable[ServiceKey]) -> None:
        """Subscribes with bounded concurrency; what is refused is set aside.

        Raises:
            NacosUnavailableError: the connection ended.
        """

        async def subscribe(key: ServiceKey) -> None:
            body = _subscription(self._watched.namespace, key, subscribe=True)
            try:
                answer = await connection.request("SubscribeServiceRequest", body)
            except (NacosRefusedError, NacosGarbageError) as error:
                self._set_aside(key, error)
                return
            if key in self.keys:
                self._subscribed.add(key)
                self._take_answer(key, answer.get("serviceInfo"))

        await for_each(keys, subscribe, at_once=self._watched.settings.subscribe_concurrency)

    async def _unsubscribe(self, connection: NacosConnection, key: ServiceKey) -> None:
        try:
            await connection.request(
                "SubscribeServiceRequest", _subscription(self._watched.namespace, key, subscribe=False)
            )
        except (NacosRefusedError, NacosGarbageError) as error:
            _log.info("cannot unsubscribe", namespace=self._watched.namespace, service=key, error=str(error))

    def _set_aside(self, key: ServiceKey, error: Exception) -> None:
        if key in self.keys:
            is_news = self.refused.note(key, error, time.monotonic())
            self._watched.leave_out(key, error, is_news=is_news)

    def _take_answer(self, key: ServiceKey, info: object) -> ServiceInfo | None:
        """Observes a subscription's answer, unless a push overtook it.

        The answer is computed before the subscription is made, so any push is at least as new.
        """
        if key in self._pushed:
            self.refused.settle(key)
            return None
        return self._take(key, info)

    def _receive(self, message: Envelope) -> None:
        """A push, in the order of arrival."""
        match message.type:
            case "NotifySubscriberRequest":
                self._pushes.inc()
                info = message.body.get("serviceInfo")
                parsed = self._take(named_service(info), info)
                if parsed is not None:
                    self._pushed.add(parsed.key)
            case payload.GARBAGE:
                self._note_garbage(str(message.body))
            case _:
                self._watched.heard()
                self._on_other(message)

    def _take(self, key: ServiceKey | None, info: object) -> ServiceInfo | None:
        """Observes what was said of a service; where that can't be handled the service is asked again."""
        try:
            if key is not None and key not in self.keys:
                return None  # of a service that is not followed any more
            parsed, withheld = self._watched.take(info, removals_believed=self.removals_believed, expected=key)
        except Exception as error:  # noqa: BLE001 - whatever is in it, the next message is handled
            if not isinstance(error, NacosGarbageError):
                _log.exception("service_not_observed", namespace=self._watched.namespace, service=key)
            self._note_garbage(str(error) or type(error).__name__)
            if key is not None:
                self._set_aside(key, error)
            return None
        self.refused.settle(parsed.key)
        if withheld:
            self._withheld.add(parsed.key)
        return parsed

    def _note_garbage(self, detail: str) -> None:
        self._garbage_at = time.monotonic()
        self._watched.garbage(detail)

    async def _second_look(self, connection: NacosConnection) -> None:
        """After the grace period, asks again for what seemed to have lost instances.

        Where there is another server, one that still has them is believed for another grace period.
        """
        for key in list(self._withheld):
            try:
                if await is_held_elsewhere(self._watched, connection, self.server, key):
                    self._removals_believed_from = time.monotonic() + self._watched.settings.removal_grace_s
                    return
                self._withheld.discard(key)
                await self.ask(key)
            except NacosUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - it costs this service
                self._withheld.discard(key)
                self._set_aside(key, error)


def _subscription(namespace: str, key: ServiceKey, *, subscribe: bool) -> dict[str, object]:
    return {
        "namespace": namespace,
        "groupName": key.group,
        "serviceName": key.service,
        "subscribe": subscribe,
        "clusters": "",
    }
