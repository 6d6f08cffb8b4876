"""Takes in the snapshot topic: decodes on the reader's thread, applies on the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from mcp_gateway import metrics
from mcp_gateway.resources import store_resource
from mcp_gateway.store import SnapshotStore
from runtime.kafka_reader import set_aside
from runtime.lifecycle import settle_memory
from schemas.errors import UndecodableRecordError
from schemas.partitioner import partition_of
from schemas.topics import QUARANTINE, ManifestKey, ResourceKey, decode_snapshot_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

    from mcp_gateway.resources import StoredResource
    from mcp_gateway.views.views import Views
    from runtime.kafka_reader import RecordBatch
    from runtime.kafka_writer import KafkaWriter
    from runtime.lifecycle import Readiness
    from schemas.avro_codec import Codecs
    from schemas.records import Manifest

_log = structlog.get_logger()

_Decoded = tuple[ResourceKey, "StoredResource | None"] | tuple[ManifestKey, "Manifest"]
_SLICE = 500
"""So many records are applied before the event loop may do something else."""


class SnapshotFeed:
    """The way from the topic to the store and the views.

    `deliver` belongs to the reader's thread, all else to the event loop. `complete` is set when all that was
    published at the start is held and matches its manifests.
    """

    def __init__(
        self,
        *,
        codecs: Codecs,
        views: Views,
        partitions: int,
        readiness: Readiness,
        quarantine: KafkaWriter,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.store = SnapshotStore(partitions=partitions)
        self.complete = asyncio.Event()
        self.read_at = 0.0
        self._partitions = partitions
        self._codecs = codecs
        self._views = views
        self._readiness = readiness
        self._quarantine = quarantine
        self._loop = loop
        self._mismatched: set[str] = set()

    def deliver(self, batch: RecordBatch) -> None:
        """Decodes, and waits until the event loop has taken the batch in."""
        decoded = [found for message in batch.records if (found := self._decode(message)) is not None]
        taken = asyncio.run_coroutine_threadsafe(self._take(decoded, batch.ends_reached), self._loop)
        while not taken.done():
            try:
                taken.result(timeout=1.0)
            except TimeoutError:
                if self._loop.is_closed() or not self._loop.is_running():
                    return

    def _decode(self, message: Message) -> _Decoded | None:
        raw_key, value = message.key(), message.value()
        try:
            key = decode_snapshot_key(raw_key.encode() if isinstance(raw_key, str) else raw_key)
            if isinstance(key, ManifestKey):
                # Nothing removes a manifest: a namespace that is gone has one without resources.
                return key, self._codecs.manifest.decode(value)
            if value is None:
                return key, None
            return key, store_resource(self._codecs.resource.decode(value), self._views.shapes)
        except UndecodableRecordError as fault:
            self._set_aside(message, fault)
            return None

    async def _take(self, decoded: list[_Decoded], ends_reached: Iterable[int]) -> None:
        self.read_at = time.time()
        for number, (key, value) in enumerate(decoded, 1):
            if isinstance(key, ResourceKey):
                self.store.put_resource(key, value)  # type: ignore[arg-type]
            else:
                self._take_manifest(key, value)  # type: ignore[arg-type]
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        for partition in ends_reached:
            self.store.end_reached(partition)
        if not self.complete.is_set():
            self._complete_if_possible()
        self._views.announce()

    def _take_manifest(self, key: ManifestKey, manifest: Manifest) -> None:
        changes = self.store.put_manifest(key, manifest)
        if changes is None:
            metrics.DIGEST_MISMATCHES.inc()
            if key.namespace not in self._mismatched:
                self._mismatched.add(key.namespace)
                _log.error(
                    "a manifest does not match what is held; the last good snapshot stands",
                    namespace=key.namespace,
                )
            return
        self._mismatched.discard(key.namespace)
        metrics.APPLIED.inc()
        partition = partition_of(key.namespace, self._partitions)
        here = {f"{topic}-{partition}": offset for topic, offset in manifest.folded_to.items()}
        self._views.note_log(key.namespace, here)
        if self.complete.is_set():
            self._views.apply(changes)

    def _complete_if_possible(self) -> None:
        waiting_for = self.store.waiting_for
        if waiting_for:
            self._readiness.wait_for("snapshots", waiting_for)
        else:
            self._views.fill(self.store)
            settle_memory()
            self.complete.set()

    def _set_aside(self, message: Message, fault: UndecodableRecordError) -> None:
        metrics.QUARANTINED.labels(fault.reason).inc()
        where = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
        _log.warning("record quarantined", reason=fault.reason, detail=fault.detail, **where)
        if not self.store.has_read_all:
            return  # it was set aside when it was new; every start reads it again
        record = set_aside(message, fault, "gateway")
        self._quarantine.write(
            QUARANTINE, partition=-1, key=record.key, value=self._codecs.quarantined.encode(record)
        )
