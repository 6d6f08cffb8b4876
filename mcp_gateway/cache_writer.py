"""Writes what changed to the cache on disk, now and then, beside the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from mcp_gateway import metrics
from mcp_gateway.cache_file import CacheHeader

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_gateway.snapshot_cache import SnapshotCache
    from mcp_gateway.store import NamespaceSnapshot, SnapshotStore
    from schemas.records import Manifest

_log = structlog.get_logger()

_SHARE = 20
"""After a round the writer pauses at least so many times as long as the round took: it shares the interpreter."""


class CacheWriter:
    """Writes each namespace whose snapshot is another than the one on disk; belongs to the event loop.

    Encoding and writing happen on a thread, one namespace after another. `in_touch` says whether Kafka answers:
    then the snapshots that did not change are known to be what it holds.
    """

    def __init__(
        self, cache: SnapshotCache, store: SnapshotStore, *, interval_s: float, in_touch: Callable[[], bool]
    ) -> None:
        self._cache = cache
        self._store = store
        self._interval_s = interval_s
        self._in_touch = in_touch
        self._written: dict[str, Manifest] = {}
        self._refused: set[str] = set()
        self._indexed: set[str] = set()

    async def run(self, cluster: Callable[[], str]) -> None:
        """Writes until it is cancelled; `cluster` is the id of the Kafka cluster, empty while it is not known."""
        while True:
            began = time.monotonic()
            if found := cluster():
                await self.write_changed(found)
            await asyncio.sleep(max(self._interval_s, _SHARE * (time.monotonic() - began)))

    async def write_changed(self, cluster: str) -> None:
        """One round: the index first, so that no round that was cut short looks whole."""
        exist = {name for name, held in self._store.namespaces.items() if held.manifest} | self._store.unknown
        if exist != self._indexed and not await self._write_index(cluster, exist):
            return
        current = []
        for namespace, held in list(self._store.namespaces.items()):
            if held.manifest is None or held.cached_at is not None:
                continue
            if self._written.get(namespace) != held.manifest:
                await self._write(CacheHeader(cluster, namespace), held, held.manifest)
            elif namespace not in self._store.faults:
                current.append(namespace)
        if self._in_touch():
            await asyncio.to_thread(self._cache.touch, current)
        metrics.CACHE_BYTES.set(await asyncio.to_thread(self._cache.size))

    async def _write_index(self, cluster: str, exist: set[str]) -> bool:
        try:
            await asyncio.to_thread(self._cache.write_index, cluster, exist)
        except OSError as error:
            metrics.CACHE_WRITES.labels("failed").inc()
            _log.error("cache_write_failed", error=str(error))
            return False
        self._indexed = exist
        return True

    async def _write(self, header: CacheHeader, held: NamespaceSnapshot, manifest: Manifest) -> None:
        resources = list(held.resources.values())  # what the thread reads must not change meanwhile

        def write() -> bool:
            records = [resource.record for resource in resources if resource.record is not None]
            return self._cache.write(header, manifest, records)

        try:
            fitted = await asyncio.to_thread(write)
        except Exception as error:  # noqa: BLE001 - it costs this namespace
            metrics.CACHE_WRITES.labels("failed").inc()
            _log.error("cache_write_failed", namespace=header.namespace, error=str(error))
            return
        self._written[header.namespace] = manifest
        metrics.CACHE_WRITES.labels("written" if fitted else "too_large").inc()
        if fitted:
            self._refused.discard(header.namespace)
        elif header.namespace not in self._refused:
            self._refused.add(header.namespace)
            _log.error(
                "cache_is_full", namespace=header.namespace, remedy="raise gateway.cache_max_bytes; "
                "the snapshot that was written before, if there is one, stands",
            )  # fmt: skip
