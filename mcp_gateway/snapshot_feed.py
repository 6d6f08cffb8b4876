"""Takes in the snapshot topic: decodes on the reader's thread, applies on the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

import structlog
from confluent_kafka import KafkaException

from mcp_gateway import metrics
from mcp_gateway.patterns import matches
from mcp_gateway.resources import store_resource
from mcp_gateway.store import SnapshotStore
from runtime.kafka_reader import set_aside
from schemas.errors import SchemaRegistryError, UndecodableRecordError
from schemas.topics import QUARANTINE, ManifestKey, ResourceKey, decode_snapshot_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

    from mcp_gateway.resources import StoredResource
    from mcp_gateway.snapshot_cache import CachedNamespace
    from mcp_gateway.store import AppliedChanges
    from mcp_gateway.views.views import Views
    from runtime.kafka_reader import RecordBatch
    from runtime.kafka_writer import KafkaWriter
    from schemas.avro_codec import Codecs
    from schemas.records import Manifest

_log = structlog.get_logger()

_SLICE = 500
"""So many records are applied before the event loop may do something else."""
_REMEMBERED = 10_000
"""Places of records that were set aside, so that each is set aside once however often it is read."""


class _Decoded(NamedTuple):
    """A record, and what stands in it; None for a tombstone or a manifest that can't be used."""

    message: Message
    key: ResourceKey | ManifestKey
    value: StoredResource | Manifest | None


class SnapshotFeed:
    """The way from the topic to the store and the views.

    `deliver` belongs to the reader's thread, all else to the event loop. An exception costs the record that it
    came from: it is set aside as an `internal_fault`, and its namespace keeps the last good snapshot. One of the
    views that can't be undone leaves `deliver`, and so ends the reader and the process. `keep_records` keeps what
    resources were made of, for the cache on disk; `serve_without` are patterns of namespaces that answers may
    lack. With `answers_without_unknown` they may lack any of which no good snapshot is known.
    """

    def __init__(
        self,
        *,
        codecs: Codecs,
        views: Views,
        partitions: int,
        quarantine: KafkaWriter,
        loop: asyncio.AbstractEventLoop,
        keep_records: bool = False,
        serve_without: Sequence[str] = (),
    ) -> None:
        self.store = SnapshotStore(partitions=partitions)
        self.read_at = 0.0
        self.answers_without_unknown = False
        self._codecs = codecs
        self._views = views
        self._quarantine = quarantine
        self._loop = loop
        self._keep_records = keep_records
        self._serve_without = tuple(serve_without)
        self._aside: set[tuple[int, int]] = set()
        self._reported: dict[str, str] = {}
        self._claimed: dict[str, list[str]] = {}

    def deliver(self, batch: RecordBatch) -> None:
        """Decodes, and waits until the event loop has taken the batch in.

        Raises what taking it in raised.
        """
        decoded = [found for message in batch.records if (found := self._decode(message)) is not None]
        taken = asyncio.run_coroutine_threadsafe(self._take(decoded, batch), self._loop)
        while True:
            try:
                return taken.result(timeout=1.0)
            except TimeoutError:
                if taken.done():  # then it is what taking it in raised
                    return taken.result()
                if self._loop.is_closed() or not self._loop.is_running():
                    return None

    def hold(self, cached: CachedNamespace) -> None:
        """Takes in a snapshot from the disk, unless a good one is known."""
        changes = self.store.hold(cached.namespace, cached.manifest, cached.resources, cached.cached_at)
        if changes is not None:
            self._show(changes)
        self.note_unknown()

    def miss(self, namespace: str, fault: str) -> None:
        """A snapshot on the disk can't be used."""
        self.store.miss(namespace, fault)
        self.note_unknown()

    def note_unknown(self) -> None:
        """Tells the views which namespaces no stream may be begun without; reports new faults."""
        refused = () if self.answers_without_unknown else self.store.unknown
        self._views.unknown = frozenset(name for name in refused if not matches(name, self._serve_without))
        for namespace, fault in self.store.faults.items():
            if self._reported.get(namespace) != fault:
                held = self.store.namespaces.get(namespace)
                stands = held is not None and held.manifest is not None
                _log.error("namespace_at_fault", namespace=namespace, fault=fault, last_good_stands=stands)
        for namespace in self._reported.keys() - self.store.faults.keys():
            _log.info("namespace_is_good_again", namespace=namespace)
        self._reported = dict(self.store.faults)

    def _decode(self, message: Message) -> _Decoded | None:
        raw_key, value = message.key(), message.value()
        key: ResourceKey | ManifestKey | None = None
        try:
            key = decode_snapshot_key(raw_key.encode() if isinstance(raw_key, str) else raw_key)
            if isinstance(key, ManifestKey):
                # Nothing removes a manifest: a namespace that is gone has one without resources.
                return _Decoded(message, key, self._codecs.manifest.decode(value))
            if value is None:
                return _Decoded(message, key, None)
            record = self._codecs.resource.decode(value)
            resource = store_resource(record, self._views.shapes, keep_record=self._keep_records)
            return _Decoded(message, key, resource)
        except SchemaRegistryError:
            raise  # no fault of the record
        except Exception as error:  # noqa: BLE001 - whatever a record says, the next one is read
            self._set_aside(message, error)
            return _Decoded(message, key, None) if isinstance(key, ManifestKey) else None

    async def _take(self, decoded: list[_Decoded], batch: RecordBatch) -> None:
        self.read_at = time.time()
        for partition in batch.begun:
            self.store.begin(partition)
        for number, record in enumerate(decoded, 1):
            try:
                changes = self._put(record)
            except Exception as error:  # noqa: BLE001 - as in decoding
                self._set_aside(record.message, error)
                self.store.spoil(ManifestKey(record.key.namespace))
                continue
            if changes is not None:
                self._show(changes)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        for partition in batch.ends_reached:
            for changes in self.store.end_reached(partition):
                self._show(changes)
                await asyncio.sleep(0)
        if self._reported != self.store.faults or self._views.unknown or self.store.unknown:
            self.note_unknown()
        self._views.announce()
        self._report_claims()

    def _report_claims(self) -> None:
        """Logs names that resources of several namespaces have come to want."""
        for name, publisher in self._views.publishers.items():
            claimed = publisher.view.claimed_by_several
            if new := sorted(set(claimed) - set(self._claimed.get(name, ()))):
                _log.warning("name_claimed_by_several", view=name, names=new[:10], count=len(claimed))
            self._claimed[name] = claimed

    def _put(self, record: _Decoded) -> AppliedChanges | None:
        """Takes a record into the store; what it changed, if it is a manifest that matches."""
        _, key, value = record
        if isinstance(key, ResourceKey):
            self.store.put_resource(key, value)  # type: ignore[arg-type]
            return None
        if value is None:
            self.store.spoil(key)
            return None
        changes = self.store.put_manifest(key, value)  # type: ignore[arg-type]
        if changes is None and not self.store.is_reading(self.store.partition(key.namespace)):
            metrics.DIGEST_MISMATCHES.inc()
        return changes

    def _show(self, changes: AppliedChanges) -> None:
        """Takes changes into the views, whole or not at all."""
        namespace = changes.namespace
        try:
            self._views.apply(changes)
        except Exception:  # noqa: BLE001 - what a namespace can't be shown for costs that namespace
            # What follows raises where the views can't be brought back either: then the process ends.
            self._views.apply(changes.undone())
            self.store.retract(changes)
            metrics.QUARANTINED.labels("internal_fault").inc()
            _log.exception("internal_fault", namespace=namespace)
            return
        metrics.APPLIED.inc()
        held = self.store.namespaces[namespace]
        if held.manifest is not None:
            partition = self.store.partition(namespace)
            here = {f"{topic}-{partition}": offset for topic, offset in held.manifest.folded_to.items()}
            self._views.note_log(namespace, here)

    def _set_aside(self, message: Message, error: Exception) -> None:
        """Counts, logs and quarantines a record that can't be used, the first time that it is read."""
        place = message.partition() or 0, message.offset() or 0
        if place in self._aside:
            return
        if len(self._aside) >= _REMEMBERED:
            self._aside.clear()
        self._aside.add(place)
        where = {"topic": message.topic(), "partition": place[0], "offset": place[1]}
        if isinstance(error, UndecodableRecordError):
            fault = error
            _log.warning("record quarantined", reason=fault.reason, detail=fault.detail, **where)
        else:
            fault = UndecodableRecordError("internal_fault", f"{type(error).__name__}: {error}")
            _log.error("internal_fault", detail=fault.detail, exc_info=error, **where)
        metrics.QUARANTINED.labels(fault.reason).inc()
        if fault is error and self.store.is_reading(place[0]):
            return  # it was set aside when it was new; every start reads it again
        record = set_aside(message, reason=fault.reason, detail=fault.detail, process="gateway")
        try:
            self._quarantine.write(
                QUARANTINE, partition=-1, key=record.key, value=self._codecs.quarantined.encode(record)
            )
        except KafkaException as refusal:
            _log.warning("quarantine_write_failed", error=refusal.args[0].str(), **where)
