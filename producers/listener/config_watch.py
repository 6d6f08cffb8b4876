"""The config items of a namespace: found by search, listened to, fetched when they change."""

from __future__ import annotations

import asyncio
import hashlib
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import structlog

from producers import metrics
from producers.errors import NacosError, NacosGarbageError, NacosRefusedError, NacosUnavailableError
from producers.listener.concurrently import for_each
from producers.listener.refusals import Refusals
from producers.listener.usable_item import UnusableItemError, usable_item
from producers.listener.watched import new_backoff, now_us
from producers.nacos.names import is_name
from producers.nacos.payload import GARBAGE
from schemas.events import ConfigKey, Link

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producers.listener.watched import Watched
    from producers.nacos.connection import NacosConnection
    from producers.nacos.http.listing import NacosApi
    from producers.nacos.payload import Envelope
    from producers.nacos.servers import Server

_log = structlog.get_logger()

_LISTEN_BATCH = 500
_LISTEN_ROUNDS = 3
_CONCURRENCY = 16
_MISSED_SEARCHES_UNTIL_ASKED = 2
_RELISTEN_EVERY = 6
_DELETED, _BEING_DUMPED = 300, 400
_OVERLOADED = frozenset({503, -503})
_ASK_AGAIN_S = 0.5


class ConfigWatch:
    """Keeps the config items of a view up to date, over a connection of its own; on 1.x by searching alone.

    A push names an item that changed; its text is fetched, and then it is listened to under the new md5, so that
    a change in between is told at once. An item is gone when two queries say so, and not in the grace period
    after a reconnect. An item or a group that the server refuses is set aside and asked for again now and then;
    the others go on. `settled` is set once the items are known, or it is certain that they are not: services need
    not wait for longer. Runs on the event loop; stops by cancellation.
    """

    def __init__(self, watched: Watched) -> None:
        self.link = Link.BLIND
        self.detail = "the config center is not reached yet"
        self.settled = asyncio.Event()
        self.refused: Refusals[ConfigKey] = Refusals()
        self._watched = watched
        self._md5: dict[ConfigKey, str] = {}
        self._notified: dict[ConfigKey, None] = {}
        self._woken = asyncio.Event()
        self._missed: dict[ConfigKey, int] = {}
        self._searched: set[str] = set()
        self._unsearched: dict[str, str] = {}
        self._removals_believed_from = 0.0

    async def run(self) -> None:
        """Watches until cancelled."""
        watched = self._watched
        if not watched.nacos.config_groups:
            self._completed("config items are not watched (nacos.config_groups is empty)")
            await asyncio.Event().wait()
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
            self.unknown(self.detail)
            self._removals_believed_from = time.monotonic() + watched.settings.removal_grace_s
            pause = backoff.pause_s(time.monotonic() - begun)
            metrics.RECONNECTS.labels(*watched.labels, f"config_{cause}").inc()
            _log.warning("config center", namespace=watched.namespace, cause=cause, detail=self.detail)
            await asyncio.sleep(pause)

    def unknown(self, reason: str) -> None:
        """Nothing of the items was learned so far, for this reason: a keyframe keeps those that the log has."""
        view = self._watched.view
        if not view.configs_complete and not view.unknown_item_groups:
            view.unknown_item_groups = dict.fromkeys(self._watched.nacos.config_groups, reason)
            _log.warning("config_items_unknown", namespace=self._watched.namespace, reason=reason)
            self._watched.changed()
        self.settled.set()

    async def _connect_and_follow(self, api: NacosApi, server: Server) -> str:
        """One connection from its beginning to its end; why it ended."""
        watched = self._watched
        connection = await watched.cluster.connect(server, watched.namespace, self._receive, "config")
        try:
            known = set(watched.view.configs)
            await self._listen(connection, {*known, *await self._search(api, known), *self.refused})
            self._completed(f"connected to {connection.address}")
            rounds = 0
            while not connection.ended.done():
                searched = not await connection.wait_for(self._woken, timeout_s=watched.settings.config_interval_s)
                await self._listen(connection, self._take_notified())
                if searched:
                    rounds += 1
                    known = set(watched.view.configs)
                    found = await self._search(api, known) | set(self.refused.due(time.monotonic()))
                    # Once in a while all: an item whose push was lost says so.
                    await self._listen(connection, found | known if rounds % _RELISTEN_EVERY == 0 else found)
                    self._completed(f"connected to {connection.address}")
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
                    md5 = hashlib.md5(content.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
                    self._observe(key, content, "", md5)
            for key in self._missing(items.keys()):
                self._forget(key)
            self._watched.heard()
            self._completed("the config center is searched")
            await asyncio.sleep(self._watched.settings.config_interval_s)

    def _completed(self, detail: str) -> None:
        """All that can be known of the items is known: of groups that could never be searched nothing is."""
        view = self._watched.view
        unknown = {group: reason for group, reason in self._unsearched.items() if group not in self._searched}
        before = (view.configs_complete, view.unknown_item_groups)
        view.configs_complete |= len(unknown) < max(1, len(self._watched.nacos.config_groups))
        view.unknown_item_groups = unknown
        failures = [*self._unsearched.values(), *filter(None, [self.refused.first])]
        self.link, self.detail = (Link.DEGRADED, failures[0]) if failures else (Link.LIVE, detail)
        if before != (view.configs_complete, unknown):
            self._watched.changed()
        self.settled.set()

    def _receive(self, message: Envelope) -> None:
        if message.type == GARBAGE:
            self._watched.garbage(str(message.body))
        if message.type != "ConfigChangeNotifyRequest":
            return
        self._watched.heard()
        group, data_id = message.body.get("group"), message.body.get("dataId")
        if is_name(group) and is_name(data_id) and self._is_wanted(key := ConfigKey(group, data_id)):
            self._notified[key] = None
            self._woken.set()

    def _take_notified(self) -> set[ConfigKey]:
        self._woken.clear()
        notified, self._notified = self._notified, {}
        return set(notified)

    async def _search(self, api: NacosApi, known: set[ConfigKey]) -> set[ConfigKey]:
        """Items to be listened to anew: those not known, and those that searches no longer find."""
        found = (await self._search_all(api)).keys()
        return {key for key in found - known if key not in self.refused} | self._missing(found)

    async def _search_all(self, api: NacosApi) -> dict[ConfigKey, str | None]:
        """The items of all groups; one that the server refuses to search is left out."""
        found: dict[ConfigKey, str | None] = {}
        self._unsearched = {}
        for group in self._watched.nacos.config_groups:
            try:
                found |= await api.search_configs(self._watched.namespace, group)
            except (NacosRefusedError, NacosGarbageError) as error:
                self._unsearched[group] = f"config items of {group}: {error}"
            else:
                self._searched.add(group)
        return {key: content for key, content in found.items() if self._is_wanted(key)}

    def _missing(self, found: Iterable[ConfigKey]) -> set[ConfigKey]:
        """Known items that two searches in a row did not find, of the groups that were searched."""
        missing = {
            key
            for key in (self._watched.view.configs.keys() | self._watched.view.left_out_items.keys()) - set(found)
            if not any(fnmatchcase(key.group, group) for group in self._unsearched)
        }
        self._missed = {key: self._missed.get(key, 0) + 1 for key in missing}
        return {key for key, times in self._missed.items() if times >= _MISSED_SEARCHES_UNTIL_ASKED}

    def _is_wanted(self, key: ConfigKey) -> bool:
        nacos = self._watched.nacos
        return any(fnmatchcase(key.group, pattern) for pattern in nacos.config_groups) and any(
            fnmatchcase(key.data_id, pattern) for pattern in nacos.config_data_ids
        )

    async def _listen(self, connection: NacosConnection, keys: set[ConfigKey]) -> None:
        """Listens to the items under the md5 fetched last, and fetches those that have another one, until none.

        An item that changes all the time is fetched again with the next search.
        """
        pending = keys
        for _ in range(_LISTEN_ROUNDS):
            if not pending:
                return
            ordered = sorted(pending)
            changed: set[ConfigKey] = set()
            for first in range(0, len(ordered), _LISTEN_BATCH):
                changed |= await self._changed_of(connection, ordered[first : first + _LISTEN_BATCH])

            async def fetch(key: ConfigKey) -> None:
                await self._fetch(connection, key)

            await for_each(changed, fetch, at_once=_CONCURRENCY)
            pending = {key for key in changed if key in self._md5}

    async def _changed_of(self, connection: NacosConnection, keys: list[ConfigKey]) -> set[ConfigKey]:
        """Those of the items that have another md5; the odd ones of a batch that is refused are set aside."""
        contexts = [
            {
                "group": key.group,
                "dataId": key.data_id,
                "tenant": connection.namespace,
                "md5": self._md5.get(key, ""),
            }
            for key in keys
        ]
        try:
            answer = await connection.request(
                "ConfigBatchListenRequest", {"listen": True, "configListenContexts": contexts}
            )
        except (NacosRefusedError, NacosGarbageError) as error:
            if isinstance(error, NacosRefusedError) and error.code in _OVERLOADED:
                raise
            if len(keys) == 1:
                self._set_aside(keys[0], error)
                return set()
            half = len(keys) // 2
            first = await self._changed_of(connection, keys[:half])
            return first | await self._changed_of(connection, keys[half:])
        entries = answer.get("changedConfigs")
        changed = {
            ConfigKey(str(entry.get("group")), str(entry.get("dataId")))
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, dict)
        }
        for key in keys:
            if key not in changed:
                self.refused.settle(key)
        return changed & set(keys)

    async def _fetch(self, connection: NacosConnection, key: ConfigKey) -> None:
        """Fetches an item's text; twice, when it seems to be gone or is just being written."""
        try:
            for last in (False, True):
                try:
                    answer = await connection.request(
                        "ConfigQueryRequest",
                        {"group": key.group, "dataId": key.data_id, "tenant": connection.namespace},
                        timeout_s=30.0,
                    )
                except NacosRefusedError as error:
                    if error.code not in {_DELETED, _BEING_DUMPED} or (last and error.code == _BEING_DUMPED):
                        raise
                    if last:
                        self._forget(key)
                        return
                    await asyncio.sleep(_ASK_AGAIN_S)
                    continue
                content, md5 = answer.get("content"), answer.get("md5")
                if not isinstance(content, str) or not isinstance(md5, str):
                    raise NacosGarbageError(f"config item {key} without content or md5")
                self._observe(key, content, str(answer.get("contentType") or ""), md5)
                return
        except NacosUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is in an item, the others go on
            self._set_aside(key, error)

    def _set_aside(self, key: ConfigKey, error: Exception) -> None:
        """The item can't be had. One that searches don't show any more, either, is gone."""
        if isinstance(error, NacosGarbageError):
            self._watched.garbage(str(error))
        if self._missed.get(key, 0) >= _MISSED_SEARCHES_UNTIL_ASKED:
            self._forget(key)
            return
        is_news = self.refused.note(key, error, time.monotonic())
        self._watched.leave_out(key, error, is_news=is_news)

    def _observe(self, key: ConfigKey, content: str, content_type: str, md5: str) -> None:
        """Observes an item's text, or quarantines it; the last good one stands."""
        self._md5[key] = md5
        self.refused.settle(key)
        try:
            item = usable_item(key, content, content_type, md5)
        except UnusableItemError as error:
            self._watched.set_config_aside(key, reason=error.reason, detail=str(error), value=content)
            self._watched.leave_out(key, error, is_news=False)
            return
        if self._watched.view.configs.get(key) != item:
            self._watched.view.observe_config(item, now_us())
            self._watched.changed()

    def _forget(self, key: ConfigKey) -> None:
        if time.monotonic() < self._removals_believed_from:
            self._missed[key] = 1
            return
        self._missed.pop(key, None)
        self._md5.pop(key, None)
        self.refused.settle(key)
        self._watched.view.forget_config(key, now_us())
        self._watched.changed()
