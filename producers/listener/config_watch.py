"""The config items of a namespace: found by search, listened to, fetched when they change."""

from __future__ import annotations

import asyncio
import hashlib
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import structlog

from producers import metrics
from producers.errors import NacosError, NacosRefusedError
from producers.listener.watched import new_backoff, now_us
from producers.nacos.payload import GARBAGE
from schemas.events import ConfigKey, ConfigState, Link
from schemas.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producers.listener.watched import Watched
    from producers.nacos.connection import NacosConnection
    from producers.nacos.http.listing import NacosApi
    from producers.nacos.payload import Envelope
    from producers.nacos.servers import Server

_log = structlog.get_logger()

MAX_CONTENT_BYTES = MAX_RECORD_BYTES - 64 * 1024
_LISTEN_BATCH = 500
_CONCURRENCY = 16
_MISSED_SEARCHES_UNTIL_ASKED = 2
_RELISTEN_EVERY = 6
_DELETED, _BEING_DUMPED = 300, 400
_ASK_AGAIN_S = 0.5


class ConfigWatch:
    """Keeps the config items of a view up to date, over a connection of its own; on 1.x by searching alone.

    A push names an item that changed; its text is fetched, and then it is listened to under the new md5, so that
    a change in between is told at once. An item is gone when two queries say so, and not in the grace period
    after a reconnect. Runs on the event loop; stops by cancellation.
    """

    def __init__(self, watched: Watched) -> None:
        self.link = Link.BLIND
        self.detail = "the config center is not reached yet"
        self._watched = watched
        self._notified: dict[ConfigKey, None] = {}
        self._woken = asyncio.Event()
        self._missed: dict[ConfigKey, int] = {}
        self._removals_believed_from = 0.0

    async def run(self) -> None:
        """Watches until cancelled; returns at once when no groups are wanted."""
        watched = self._watched
        if not watched.nacos.config_groups:
            self._completed("config items are not watched (nacos.config_groups is empty)")
            return
        server: Server | None = None
        backoff = new_backoff()
        while True:
            begun = time.monotonic()
            try:
                api = await watched.cluster.api()
                if api.mode == "1.x":
                    cause = await self._follow_by_search(api)
                else:
                    server = await watched.cluster.servers.following(server)
                    cause = await self._connect_and_follow(api, server)
            except (NacosError, TimeoutError) as error:
                cause = getattr(error, "cause", "timeout")
                self.detail = f"config center: {error}"
            self.link = Link.BLIND
            self._removals_believed_from = time.monotonic() + watched.settings.removal_grace_s
            pause = backoff.pause_s(time.monotonic() - begun)
            metrics.RECONNECTS.labels(*watched.labels, f"config_{cause}").inc()
            _log.warning("config center", namespace=watched.namespace, cause=cause, detail=self.detail)
            await asyncio.sleep(pause)

    async def _connect_and_follow(self, api: NacosApi, server: Server) -> str:
        """One connection from its beginning to its end; why it ended."""
        watched = self._watched
        connection = await watched.cluster.connect(server, watched.namespace, self._receive, "config")
        try:
            known = set(watched.view.configs)
            await self._listen(connection, known | await self._search(api, known))
            self._completed(f"connected to {connection.address}")
            rounds = 0
            while not connection.ended.done():
                searched = await self._pause(connection)
                await self._listen(connection, self._take_notified())
                if searched:
                    rounds += 1
                    known = set(watched.view.configs)
                    found = await self._search(api, known)
                    # Once in a while all: an item whose push was lost says so.
                    await self._listen(connection, found | known if rounds % _RELISTEN_EVERY == 0 else found)
                watched.heard()
            return connection.ended.result().cause
        finally:
            await connection.close()

    async def _follow_by_search(self, api: NacosApi) -> str:
        """1.x: each search brings the texts; never returns."""
        while True:
            items = await self._search_all(api)
            for key, content in items.items():
                if content is not None:
                    self._observe(
                        key, content, "", hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
                    )
            for key in self._missing(items.keys()):
                self._forget(key)
            self._watched.heard()
            self._completed("the config center is searched")
            await asyncio.sleep(self._watched.settings.config_interval_s)

    def _completed(self, detail: str) -> None:
        self.link, self.detail = Link.LIVE, detail
        if not self._watched.view.configs_complete:
            self._watched.view.configs_complete = True
            self._watched.changed()

    def _receive(self, message: Envelope) -> None:
        if message.type == GARBAGE:
            self._watched.garbage(str(message.body))
        if message.type != "ConfigChangeNotifyRequest":
            return
        self._watched.heard()
        key = ConfigKey(str(message.body.get("group")), str(message.body.get("dataId")))
        if self._is_wanted(key):
            self._notified[key] = None
            self._woken.set()

    async def _pause(self, connection: NacosConnection) -> bool:
        """Waits for a push, the end of the connection or the next search; whether it is time for that."""
        woken = asyncio.ensure_future(self._woken.wait())
        interval = self._watched.settings.config_interval_s
        either: set[asyncio.Future[Any]] = {woken, connection.ended}
        try:
            done, _ = await asyncio.wait(either, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        return not done

    def _take_notified(self) -> set[ConfigKey]:
        self._woken.clear()
        notified, self._notified = self._notified, {}
        return set(notified)

    async def _search(self, api: NacosApi, known: set[ConfigKey]) -> set[ConfigKey]:
        """Items to be listened to anew: those not known, and those that searches no longer find."""
        found = (await self._search_all(api)).keys()
        return (found - known) | self._missing(found)

    async def _search_all(self, api: NacosApi) -> dict[ConfigKey, str | None]:
        found: dict[ConfigKey, str | None] = {}
        for group in self._watched.nacos.config_groups:
            found |= await api.search_configs(self._watched.namespace, group)
        return {key: content for key, content in found.items() if self._is_wanted(key)}

    def _missing(self, found: Iterable[ConfigKey]) -> set[ConfigKey]:
        """Known items that two searches in a row did not find."""
        missing = self._watched.view.configs.keys() - set(found)
        self._missed = {key: self._missed.get(key, 0) + 1 for key in missing}
        return {key for key, times in self._missed.items() if times >= _MISSED_SEARCHES_UNTIL_ASKED}

    def _is_wanted(self, key: ConfigKey) -> bool:
        nacos = self._watched.nacos
        return any(fnmatchcase(key.group, pattern) for pattern in nacos.config_groups) and any(
            fnmatchcase(key.data_id, pattern) for pattern in nacos.config_data_ids
        )

    async def _listen(self, connection: NacosConnection, keys: set[ConfigKey]) -> None:
        """Listens to the items under the md5 that we have, and fetches those that have another one, until none."""
        pending = keys
        while pending:
            changed: set[ConfigKey] = set()
            ordered = sorted(pending)
            for first in range(0, len(ordered), _LISTEN_BATCH):
                changed |= await self._changed_of(connection, ordered[first : first + _LISTEN_BATCH])
            waiting = iter(changed)

            async def fetch(waiting: Iterable[ConfigKey] = waiting) -> None:
                for key in waiting:
                    await self._fetch(connection, key)

            await asyncio.gather(*(fetch() for _ in range(_CONCURRENCY)))
            pending = {key for key in changed if key in self._watched.view.configs}

    async def _changed_of(self, connection: NacosConnection, keys: Iterable[ConfigKey]) -> set[ConfigKey]:
        configs = self._watched.view.configs
        contexts = [
            {
                "group": key.group,
                "dataId": key.data_id,
                "tenant": connection.namespace,
                "md5": configs[key].md5 if key in configs else "",
            }
            for key in keys
        ]
        answer = await connection.request(
            "ConfigBatchListenRequest", {"listen": True, "configListenContexts": contexts}
        )
        entries = answer.get("changedConfigs")
        changed = {
            ConfigKey(str(entry.get("group")), str(entry.get("dataId")))
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, dict)
        }
        return changed & set(keys)

    async def _fetch(self, connection: NacosConnection, key: ConfigKey) -> None:
        """Fetches an item's text; twice, when it seems to be gone or is just being written."""
        for last in (False, True):
            try:
                answer = await connection.request(
                    "ConfigQueryRequest",
                    {"group": key.group, "dataId": key.data_id, "tenant": connection.namespace},
                    timeout_s=30.0,
                )
            except NacosRefusedError as error:
                if error.code not in {_DELETED, _BEING_DUMPED}:
                    raise
                if last and error.code == _DELETED:
                    self._forget(key)
                elif last:
                    self._notified[key] = None
                await asyncio.sleep(_ASK_AGAIN_S)
                continue
            content, md5 = answer.get("content"), answer.get("md5")
            if not isinstance(content, str) or not isinstance(md5, str):
                self._watched.garbage(f"config item {key} without content or md5")
                return
            self._observe(key, content, str(answer.get("contentType") or ""), md5)
            return

    def _observe(self, key: ConfigKey, content: str, content_type: str, md5: str) -> None:
        try:
            size = len(content.encode()) + len(key.group.encode()) + len(key.data_id.encode())
        except UnicodeEncodeError:
            self._watched.set_config_aside(key, reason="bad_text", detail="not Unicode", value=content)
            return
        if size > MAX_CONTENT_BYTES:
            detail = f"{size} bytes are more than a record of the log may have ({MAX_CONTENT_BYTES})"
            self._watched.set_config_aside(key, reason="too_large", detail=detail, value=content)
            return
        item = ConfigState(key=key, content=content, content_type=content_type, md5=md5)
        if self._watched.view.configs.get(key) != item:
            self._watched.view.observe_config(item, now_us())
            self._watched.changed()

    def _forget(self, key: ConfigKey) -> None:
        if time.monotonic() < self._removals_believed_from:
            self._missed[key] = 1
            return
        self._missed.pop(key, None)
        self._watched.view.forget_config(key, now_us())
        self._watched.changed()
