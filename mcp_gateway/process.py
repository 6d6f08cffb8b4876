"""The gateway as a process: reads the snapshots, keeps the views, serves Pilots."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from mcp_gateway import metrics
from mcp_gateway.cache_writer import CacheWriter
from mcp_gateway.debug_pages import debug_pages
from mcp_gateway.deliveries import DeliveryTrail
from mcp_gateway.freshness import Freshness
from mcp_gateway.kafka_connection import KafkaConnection
from mcp_gateway.servers.server import PilotServer
from mcp_gateway.servers.sink_dialer import SinkDialer
from mcp_gateway.snapshot_cache import SnapshotCache
from mcp_gateway.snapshot_feed import SnapshotFeed
from runtime.admin_http import AdminServer
from runtime.backoff import Backoff
from runtime.kafka_batch_writer import KafkaBatchWriter
from runtime.kafka_reader import KafkaReader
from runtime.kafka_topics import check_topics
from runtime.kafka_writer import KafkaWriter
from runtime.lifecycle import Readiness
from runtime.supervision import Supervisor
from schemas.avro_codec import codecs
from schemas.topics import DELIVERIES, SNAPSHOTS, topics_of

if TYPE_CHECKING:
    from mcp_gateway.settings import GatewaySettings
    from mcp_gateway.views.view import View
    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.avro_codec import SchemaRegistry

_log = structlog.get_logger()


class Gateway:
    """Serves what the snapshot topic holds.

    Records are decoded and encoded on the reader's thread; the store, the views and the streams belong to the
    event loop. A Pilot is answered only with all namespaces of its view, so no partial push can wipe a mesh. While
    Kafka is away it goes on serving what it has; a start without Kafka takes a cache on disk.
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
        self._supervisor = Supervisor()
        self._views = settings.make_views()

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set.

        Raises:
            ShellError, WrongTopicError: it can't start, or a part of it failed; the text says why.
        """
        self._readiness.wait_for("snapshots", "reading the snapshot topic")
        client_id = f"shiplog-gateway-{socket.gethostname()}-{os.getpid()}"
        deliveries = self._delivery_writer(client_id)
        instance = self._settings.instance or f"{socket.gethostname()}-{self._settings.admin.port}"
        trail = DeliveryTrail(deliveries, self._codecs.delivery, gateway=instance)
        server = PilotServer(self._settings, self._views, trail, self._supervisor)
        port = server.bind()
        dialers = [SinkDialer(sink, self._settings, server) for sink in self._settings.sinks]
        cache = await asyncio.to_thread(self._cache)
        quarantine = KafkaWriter(
            self._kafka,
            client_id=client_id,
            max_queued_records=1000,
            max_queued_bytes=64 * 1024 * 1024,
            supervisor=self._supervisor,
        )
        feed = SnapshotFeed(
            codecs=self._codecs,
            views=self._views,
            partitions=self._topics.partitions,
            quarantine=quarantine,
            loop=asyncio.get_running_loop(),
            keep_records=cache is not None,
            serve_without=self._settings.serve_without,
        )
        reader = KafkaReader(
            self._kafka,
            topic=SNAPSHOTS,
            client_id=client_id,
            deliver=feed.deliver,
            supervisor=self._supervisor,
        )
        freshness = Freshness(self._settings, feed, self._views, reader, self._readiness, cache)
        self._measure(server, feed, freshness)
        pages = debug_pages(server, self._views, feed, freshness)
        admin = AdminServer(self._settings.admin, self._readiness, self._supervisor, pages)
        admin.start()
        parts = await self._read(reader, freshness, has_cache=cache is not None)
        trail.started()
        if deliveries is not None:
            parts.append(self._supervisor.task("delivery marks", lambda: self._mark(trail, deliveries)))
        if cache is not None:
            parts.append(self._write_cache(cache, feed, freshness))
        try:
            await self._serve(stop, server, feed, freshness, dialers, port)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.to_thread(reader.stop)
            await asyncio.to_thread(quarantine.close, 1.0)
            if deliveries is not None:
                await asyncio.to_thread(self._close_trail, trail, deliveries)
            admin.stop()

    async def _read(
        self, reader: KafkaReader, freshness: Freshness, *, has_cache: bool
    ) -> list[asyncio.Task[None]]:
        """Begins to read; the tasks that do so.

        Raises:
            ShellError, WrongTopicError: Kafka can't be used, and there is no cache to serve from meanwhile.
        """
        connection = KafkaConnection(reader, self._check_topics, freshness)
        tasks = []
        if has_cache:
            tasks.append(self._supervisor.task("connection to Kafka", connection.run, restart=Backoff(1.0, 60.0)))
        else:
            await connection.attempt()
        tasks.append(self._supervisor.task("look at freshness", freshness.run, restart=Backoff(0.5, 10.0)))
        return tasks

    def _check_topics(self) -> None:
        wanted = topics_of("gateway", event_retention_days=self._topics.event_retention_days)
        if not self._settings.deliveries.enabled:
            wanted = tuple(topic for topic in wanted if topic.name != DELIVERIES)
        check_topics(self._kafka, self._topics, wanted)

    def _cache(self) -> SnapshotCache | None:
        folder = self._settings.cache_dir
        if folder is None:
            return None
        cache = SnapshotCache(folder, self._settings.cache_max_bytes)
        cache.prepare()
        return cache

    def _write_cache(self, cache: SnapshotCache, feed: SnapshotFeed, freshness: Freshness) -> asyncio.Task[None]:
        settings = self._settings
        writer = CacheWriter(
            cache,
            feed.store,
            interval_s=settings.cache_interval_s,
            in_touch=lambda: freshness.silent_s < settings.stale_after_s,
        )
        return self._supervisor.task(
            "cache writer", lambda: writer.run(lambda: freshness.cluster), restart=Backoff(1.0, 60.0)
        )

    def _measure(self, server: PilotServer, feed: SnapshotFeed, freshness: Freshness) -> None:
        """Gauges that are read when they are asked for."""
        namespaces = feed.store.namespaces
        metrics.DATA_AGE.set_function(lambda: time.time() - freshness.data_at)
        metrics.AT_FAULT.set_function(lambda: len(feed.store.faults))
        metrics.UNKNOWN.set_function(lambda: len(feed.store.unknown))
        metrics.CACHED.set_function(lambda: len(freshness.cached_at))
        metrics.CACHE_AGE.set_function(lambda: time.time() - min(freshness.cached_at, default=time.time()))
        metrics.NAMESPACES.set_function(lambda: len(namespaces))
        metrics.RESOURCES.set_function(lambda: sum(len(held.resources) for held in list(namespaces.values())))
        metrics.MESSAGE_CACHE.set_function(lambda: self._views.messages.size)
        metrics.IN_FLIGHT.set_function(lambda: server.in_flight.bytes)
        metrics.WAITING_FOR_ROOM.set_function(lambda: server.in_flight.waiting)
        metrics.IS_READY.set_function(lambda: not self._readiness.missing)
        for name, publisher in self._views.publishers.items():
            metrics.FOLLOWERS.labels(name).set_function(publisher.count)
            metrics.CLAIMED_BY_SEVERAL.labels(name).set_function(partial(_claimed_by_several, publisher.view))

    async def _serve(
        self,
        stop: asyncio.Event,
        server: PilotServer,
        feed: SnapshotFeed,
        freshness: Freshness,
        dialers: list[SinkDialer],
        port: int,
    ) -> None:
        """Serves once that is possible, until the process is asked to stop or a part of it failed."""
        dialling: list[asyncio.Task[None]] = []

        async def start_serving() -> None:
            await freshness.may_serve.wait()
            await server.serve()
            dialling.extend(
                self._supervisor.task("sink dialer", dialer.run, restart=Backoff(1.0, 60.0)) for dialer in dialers
            )
            self._readiness.met("snapshots")
            _log.info("serving", host=self._settings.host, port=port, namespaces=len(feed.store.namespaces))
            await asyncio.get_running_loop().create_future()

        serving = self._supervisor.task("pilot server", start_serving)
        try:
            await self._supervisor.wait(stop)
        finally:
            self._readiness.wait_for("stopping", "asked to stop" if stop.is_set() else "a part of it failed")
            serving.cancel()
            for task in dialling:
                task.cancel()
            await server.stop()

    async def _mark(self, trail: DeliveryTrail, deliveries: KafkaBatchWriter) -> None:
        """Says now and then how far the trail is whole, so that its silence can be told from its loss."""
        while True:
            await asyncio.sleep(self._settings.deliveries.mark_interval_s)
            until = deliveries.whole_until()
            trail.lost(deliveries.lost)
            trail.whole_until(until)

    def _close_trail(self, trail: DeliveryTrail, deliveries: KafkaBatchWriter) -> None:
        left = deliveries.flush(5.0)
        trail.lost(deliveries.lost)
        if not left:
            trail.stopped()
        if left := deliveries.close(5.0):
            _log.warning("stopped with deliveries that Kafka does not have", deliveries=left)

    def _delivery_writer(self, client_id: str) -> KafkaBatchWriter | None:
        settings = self._settings.deliveries
        if not settings.enabled:
            return None
        return KafkaBatchWriter(
            self._kafka,
            topic=DELIVERIES,
            client_id=f"{client_id}-deliveries",
            max_queued_records=settings.queue_records,
            max_queued_bytes=settings.queue_bytes,
            supervisor=self._supervisor,
        )


def _claimed_by_several(view: View) -> int:
    return len(view.claimed_by_several)
