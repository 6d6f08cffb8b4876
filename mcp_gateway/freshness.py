"""Looks each second at what is held: whether Pilots may be served, what is stale, what is to be read again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from mcp_gateway import metrics
from mcp_gateway.rereads import Rereads
from mcp_gateway.store import NOT_IN_TOPIC
from runtime.lifecycle import settle_memory

if TYPE_CHECKING:
    from mcp_gateway.settings import GatewaySettings
    from mcp_gateway.snapshot_cache import SnapshotCache
    from mcp_gateway.snapshot_feed import SnapshotFeed
    from mcp_gateway.views.views import Views
    from runtime.kafka_reader import KafkaReader
    from runtime.lifecycle import Readiness

_log = structlog.get_logger()

_LOOK_S, _STARTING_LOOK_S = 1.0, 0.05
_LISTED = 5
_FIRST_REREAD_S = 2.0
_REPEATED_S = 30.0
"""A starting gateway logs what it waits for when that changes, and after so long."""


class Freshness:
    """Decides when Pilots are served first, keeps `/readyz` true, and has partitions read again.

    Pilots are served once everything is read and matches. After `start_patience_s` they are served with less:
    without what is at fault, and, where Kafka does not answer and there is a cache, from the cache. A view that
    lacks a namespace that exists is not served, see `Views.choose`, until `serve_without_after_s` after the start.
    Belongs to the event loop.

    `kafka_fault` is set by the connection to Kafka and says why it can't be used; `cluster` is Kafka's id, once it
    is known.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        feed: SnapshotFeed,
        views: Views,
        reader: KafkaReader,
        readiness: Readiness,
        cache: SnapshotCache | None,
    ) -> None:
        self.may_serve = asyncio.Event()
        self.kafka_fault = ""
        self.cluster = ""
        self.cached_cluster = ""
        self._settings = settings
        self._feed = feed
        self._views = views
        self._reader = reader
        self._readiness = readiness
        self._cache = cache
        self._rereads = Rereads(_FIRST_REREAD_S, settings.reread_max_s)
        self._started = time.time()
        self._read_all_at: float | None = None
        self._sought: frozenset[str] | None = None
        self._has_cache = False
        self._logged: tuple[str, float] = ("", 0.0)

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await self.look(time.time())
            await asyncio.sleep(_LOOK_S if self.may_serve.is_set() else _STARTING_LOOK_S)

    async def look(self, now: float) -> None:
        """One look, at a time in seconds (UTC)."""
        store = self._feed.store
        if self._read_all_at is None and store.has_read_all:
            self._read_all_at = now
        if not self._feed.answers_without_unknown:
            self._answer_without_unknown_if_late(now)
        if not self.may_serve.is_set():
            await self._serve_if_possible(now)
        self._mark(now)
        at_fault = {store.partition(name) for name in store.faults if name not in self._missing()}
        for partition in self._rereads.due(sorted(at_fault), now):
            if not store.is_reading(partition):
                metrics.REREADS.inc()
                self._reader.read_again(partition)

    @property
    def silent_s(self) -> float:
        """For how long Kafka has not answered."""
        return time.time() - (self._reader.in_touch_at or self._started)

    @property
    def data_at(self) -> float:
        """When what is served was last known to be what Kafka holds, in seconds (UTC)."""
        cached = self.cached_at
        return self._reader.in_touch_at or (min(cached) if cached else self._started)

    @property
    def cached_at(self) -> list[float]:
        """Of each namespace that is served from the cache, when it was last known to be what Kafka holds."""
        held = list(self._feed.store.namespaces.values())
        return [one.cached_at for one in held if one.cached_at is not None]

    async def _serve_if_possible(self, now: float) -> None:
        store, patience_s = self._feed.store, self._settings.start_patience_s
        waiting_for = store.waiting_for
        if self.kafka_fault and not store.has_read_all:
            waiting_for = f"{self.kafka_fault}; {waiting_for}"
        if waiting_for and self._cache is not None:
            await self._use_cache(now)
        if not store.waiting_for or self._is_out_of_patience(now, patience_s):
            if store.waiting_for:
                _log.error("serving_less", waiting_for=waiting_for, unknown=sorted(store.unknown)[:_LISTED])
            settle_memory()
            self.may_serve.set()
            return
        if store.unknown and self._read_all_at is not None and now - self._read_all_at >= patience_s:
            waiting_for += (
                ": every view shows a namespace of which no good snapshot is known; see namespace_at_fault"
            )
        self._readiness.wait_for("snapshots", waiting_for)
        logged, at = self._logged
        if waiting_for != logged or now - at > _REPEATED_S:
            self._logged = waiting_for, now
            _log.info("not_serving_yet", waiting_for=waiting_for)

    def _answer_without_unknown_if_late(self, now: float) -> None:
        """Lets answers lack what is still unknown so long after the start."""
        after_s, unknown = self._settings.serve_without_after_s, self._views.unknown
        if now - self._started < after_s:
            return
        self._feed.answers_without_unknown = True
        self._feed.note_unknown()
        if unknown:
            _log.error("answers_without_namespaces", after_s=after_s, namespaces=sorted(unknown)[:_LISTED])

    def _is_out_of_patience(self, now: float, patience_s: float) -> bool:
        """Whether Pilots are served although something is missing."""
        store = self._feed.store
        if not store.has_snapshots or all(
            self._views.lacking(one.view) for one in self._views.publishers.values()
        ):
            return False
        if self._read_all_at is not None:
            return now - self._read_all_at >= patience_s
        # Only a cache says what exists in partitions that were not read.
        return self._has_cache and (bool(self.kafka_fault) or self.silent_s >= patience_s)

    async def _use_cache(self, now: float) -> None:
        """Takes snapshots from the cache: of namespaces at fault, or of all where Kafka does not answer."""
        store, only = self._feed.store, None
        if store.has_read_all:
            only = frozenset(store.unknown)
            if not only or only == self._sought:
                return
        elif self._has_cache or not (self.kafka_fault or self.silent_s >= self._settings.start_patience_s):
            return
        assert self._cache is not None  # noqa: S101 - the caller has looked
        self._sought = only
        loaded = await asyncio.to_thread(self._cache.load, self._views.shapes, cluster=self.cluster, only=only)
        if self.cluster and loaded.cluster not in {"", self.cluster}:
            return  # Kafka answered meanwhile, and is another cluster
        for cached in loaded.namespaces:
            self._feed.hold(cached)
            await asyncio.sleep(0)
        for namespace, fault in loaded.unusable.items():
            self._feed.miss(namespace, fault)
        if loaded.namespaces:
            self.cached_cluster = loaded.cluster
            self._has_cache = self._has_cache or only is None
            _log.warning("cache_used", namespaces=len(loaded.namespaces), age_s=round(now - min(self.cached_at)))

    def _missing(self) -> set[str]:
        """Namespaces at fault because the topic has nothing of them: reading it again would show nothing else."""
        return {name for name, fault in self._feed.store.faults.items() if fault == NOT_IN_TOPIC}

    def _mark(self, now: float) -> None:
        """Says what is stale, to operators and in metrics."""
        store, cached = self._feed.store, self.cached_at
        silent_s, is_served = self.silent_s, self.may_serve.is_set()
        fault = self.kafka_fault or f"Kafka has not answered for {silent_s:.0f} s"
        is_silent = (
            silent_s > self._settings.stale_after_s or not self._reader.in_touch_at or bool(self.kafka_fault)
        )
        self._set("kafka", is_silent and is_served, f"{fault}; what is served is {now - self.data_at:.0f} s old")
        oldest_s = now - min(cached, default=now)
        self._set(
            "cache", bool(cached), f"{len(cached)} namespaces from the cache, the oldest {oldest_s:.0f} s old"
        )
        listed = "; ".join(f"{name}: {why}" for name, why in sorted(store.faults.items())[:_LISTED])
        self._set("namespaces", bool(store.faults), f"{len(store.faults)} at fault: {listed}")

    def _set(self, source: str, is_stale: bool, detail: str) -> None:  # noqa: FBT001 - what it is set to
        if is_stale:
            self._readiness.mark_stale(source, detail)
        else:
            self._readiness.mark_fresh(source)
