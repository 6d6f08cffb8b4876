"""The gateway as a process: reads the snapshots, keeps the view, serves Pilots."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import structlog

from mcp_gateway import metrics
from mcp_gateway.deliveries import DeliveryTrail
from mcp_gateway.publisher import Publisher
from mcp_gateway.resources import EncodedResource, encode_resource
from mcp_gateway.servers.server import PilotServer
from mcp_gateway.store import SnapshotStore
from mcp_gateway.view import View
from runtime.admin_http import AdminServer
from runtime.kafka_reader import KafkaReader, RecordBatch, set_aside
from runtime.kafka_topics import TopicKeeper
from runtime.kafka_writer import KafkaWriter
from runtime.lifecycle import Readiness, settle_memory
from schemas.avro_codec import codecs
from schemas.errors import UndecodableRecordError
from schemas.partitioner import partition_of
from schemas.records import Manifest
from schemas.topics import (
    QUARANTINE,
    SNAPSHOTS,
    ManifestKey,
    ResourceKey,
    decode_snapshot_key,
    topic_settings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message

    from mcp_gateway.settings import GatewaySettings
    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.avro_codec import SchemaRegistry

_log = structlog.get_logger()

_Decoded = tuple[ResourceKey, EncodedResource | None] | tuple[ManifestKey, Manifest]


class Gateway:
    """Serves what the snapshot topic holds.

    Records are decoded and encoded on the reader's thread; the store, the view and the streams belong to the
    event loop. Pilots are answered only when the store is complete, so no empty push can wipe a mesh. While
    Kafka is away it goes on serving what it has.
    """

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        topics: TopicsSettings,
        settings: GatewaySettings,
        registry: SchemaRegistry | None = None,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._settings = settings
        self._codecs = codecs(registry)
        self._readiness = Readiness()
        self._view = View()
        self._publisher = Publisher(self._view)
        self._complete = asyncio.Event()
        self._read_at = 0.0
        self._store = SnapshotStore(partitions=topics.partitions)

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set.

        Raises:
            ShellError, WrongTopicError: it can't start; the text says why.
        """
        self._readiness.wait_for("snapshots", "reading the snapshot topic")
        client_id = f"shiplog-gateway-{socket.gethostname()}-{os.getpid()}"
        deliveries = self._delivery_writer(client_id)
        instance = self._settings.instance or f"{socket.gethostname()}-{self._settings.admin.port}"
        trail = DeliveryTrail(deliveries, self._codecs.delivery, gateway=instance, view=self._view.name)
        self._server = PilotServer(self._settings, self._publisher, trail)
        port = self._server.bind()
        pages = {"pilots": self._debug_pilots, "snapshot": self._debug_snapshot}
        admin = AdminServer(self._settings.admin, self._readiness, pages)
        admin.start()
        keeper = TopicKeeper(self._kafka, self._topics)
        settings = topic_settings(event_retention_days=self._topics.event_retention_days)
        await asyncio.to_thread(keeper.check, settings)
        self._quarantine_writer = KafkaWriter(
            self._kafka, client_id=client_id, max_queued_records=1000, max_queued_bytes=64 * 1024 * 1024
        )
        loop = asyncio.get_running_loop()
        reader = KafkaReader(
            self._kafka,
            topic=SNAPSHOTS,
            client_id=client_id,
            deliver=lambda batch: self._deliver(loop, batch),
        )
        await asyncio.to_thread(reader.start)
        stopped = asyncio.create_task(stop.wait())
        complete = asyncio.create_task(self._complete.wait())
        await asyncio.wait({stopped, complete}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await self._server.serve()
            self._readiness.met("snapshots")
            _log.info("serving", host=self._settings.host, port=port, namespaces=len(self._store.namespaces))
            await stopped
        complete.cancel()
        self._readiness.wait_for("stopping", "asked to stop")
        await self._server.stop()
        await asyncio.to_thread(reader.stop)
        await asyncio.to_thread(self._quarantine_writer.close, 1.0)
        if deliveries is not None and (left := await asyncio.to_thread(deliveries.close, 5.0)):
            _log.warning("stopped with deliveries that Kafka does not have", deliveries=left)
        admin.stop()

    def _delivery_writer(self, client_id: str) -> KafkaWriter | None:
        settings = self._settings.deliveries
        if not settings.enabled:
            return None
        return KafkaWriter(
            self._kafka,
            client_id=f"{client_id}-deliveries",
            max_queued_records=settings.queue_records,
            max_queued_bytes=settings.queue_bytes,
        )

    def _deliver(self, loop: asyncio.AbstractEventLoop, batch: RecordBatch) -> None:
        """On the reader's thread: decodes, and waits until the event loop has taken the batch in."""
        decoded = [found for message in batch.records if (found := self._decode(message)) is not None]
        taken = asyncio.run_coroutine_threadsafe(self._take(decoded, batch.ends_reached), loop)
        while not taken.done():
            try:
                taken.result(timeout=1.0)
            except TimeoutError:
                if loop.is_closed() or not loop.is_running():
                    return

    def _decode(self, message: Message) -> _Decoded | None:
        raw_key, value = message.key(), message.value()
        try:
            key = decode_snapshot_key(raw_key.encode() if isinstance(raw_key, str) else raw_key)
            if isinstance(key, ManifestKey):
                # Nothing removes a manifest: a namespace that is gone has one without resources.
                return key, self._codecs.manifest.decode(value)
            return key, None if value is None else encode_resource(self._codecs.resource.decode(value))
        except UndecodableRecordError as fault:
            self._quarantine(message, fault)
            return None

    async def _take(self, decoded: list[_Decoded], ends_reached: tuple[int, ...]) -> None:
        self._read_at = time.time()
        changed = False
        for key, value in decoded:
            if isinstance(key, ResourceKey):
                self._store.put_resource(key, value)  # type: ignore[arg-type]
                continue
            changes = self._store.put_manifest(key, value)  # type: ignore[arg-type]
            if changes is None:
                metrics.DIGEST_MISMATCHES.inc()
                _log.error(
                    "a manifest does not match what is held; the last good snapshot stands",
                    namespace=key.namespace,
                )
                continue
            metrics.APPLIED.inc()
            self._note_log(value)  # type: ignore[arg-type]
            if self._complete.is_set():
                changed = bool(self._view.apply(changes)) or changed
        for partition in ends_reached:
            self._store.end_reached(partition)
        if not self._complete.is_set():
            self._complete_if_possible()
        if changed:
            self._publisher.changed()
        metrics.NAMESPACES.set(len(self._store.namespaces))
        metrics.RESOURCES.set(sum(len(c.resources) for c in self._view.collections.values()))

    def _note_log(self, manifest: Manifest) -> None:
        partition = partition_of(manifest.namespace, self._topics.partitions)
        here = {f"{topic}-{partition}": offset for topic, offset in manifest.folded_to.items()}
        if here.items() - self._view.folded_to.items():
            self._view.folded_to = {**self._view.folded_to, **here}

    def _complete_if_possible(self) -> None:
        waiting_for = self._store.waiting_for
        if waiting_for:
            self._readiness.wait_for("snapshots", waiting_for)
        else:
            self._view.fill(self._store)
            settle_memory()
            self._complete.set()

    def _quarantine(self, message: Message, fault: UndecodableRecordError) -> None:
        metrics.QUARANTINED.labels(fault.reason).inc()
        where = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
        _log.warning("record quarantined", reason=fault.reason, detail=fault.detail, **where)
        if not self._store.has_read_all:
            return  # it was set aside when it was new; every start reads it again
        record = set_aside(message, fault, "gateway")
        self._quarantine_writer.write(
            QUARANTINE, partition=-1, key=record.key, value=self._codecs.quarantined.encode(record)
        )

    def _debug_pilots(self, _: Mapping[str, str]) -> Any:
        return {"pilots": [status.as_json() for status in list(self._server.streams.values())]}

    def _debug_snapshot(self, query: Mapping[str, str]) -> Any:
        namespace = query.get("namespace")
        snapshot = self._store.namespaces.get(namespace or "")
        if snapshot is None:
            return {
                "read_at": self._read_at,
                "collections": {name: self._view.version(name) for name in list(self._view.collections)},
                "namespaces": {
                    name: {
                        "version": held.manifest and held.manifest.version,
                        "digest": held.manifest and held.manifest.digest,
                        "observed_at": held.manifest and held.manifest.observed_at,
                        "resources": len(held.resources),
                        "matches": held.matches,
                        "changes": [
                            f"{change.kind.lower()} {change.name}"
                            for change in (held.manifest.changes[:3] if held.manifest else ())
                        ],
                    }
                    for name, held in list(self._store.namespaces.items())
                },
            }
        resources = {f"{c} {n}": resource.version for (c, n), resource in list(snapshot.resources.items())}
        return {"namespace": namespace, "resources": resources}
