"""The listener as a process: tenures from Kafka, one watch per namespace of ours, one publication."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from producers import metrics
from producers.listener.event_log import EventLog
from producers.listener.inspection import Inspection
from producers.listener.namespace_view import NamespaceView
from producers.listener.namespace_watch import NamespaceWatch
from producers.listener.namespaces import Namespaces
from producers.listener.ownership import Ownership
from producers.listener.publication import Publication
from producers.listener.quarantine import Quarantine
from producers.listener.tenure import TenureKeeper
from producers.listener.watched import Watched
from producers.nacos.cluster import NacosCluster
from runtime.admin_http import AdminServer
from runtime.kafka_topics import check_topics
from runtime.kafka_writer import KafkaWriter
from runtime.lifecycle import Readiness
from runtime.supervision import Supervisor
from schemas.avro_codec import codecs
from schemas.topics import topics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from producers.settings import ListenerSettings, NacosSettings
    from runtime.kafka_writer import LostRecord
    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.avro_codec import SchemaRegistry
    from schemas.events import Link, Namespace

_log = structlog.get_logger()

_FLUSH_S = 5.0


class Listener:
    """Watches the namespaces of the partitions that this process holds.

    Everything but the group membership runs on one event loop.
    """

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        topics: TopicsSettings,
        nacos: NacosSettings,
        settings: ListenerSettings,
        registry: SchemaRegistry | None = None,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._nacos = nacos
        self._settings = settings
        self._codecs = codecs(registry)
        self._readiness = Readiness()
        self._supervisor = Supervisor()
        self._ownership = Ownership()
        self._inspection: Inspection | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set; what is queued for Kafka then gets 5 s.

        Raises:
            ShellError, WrongTopicError: it can't start; the text says why.
        """
        self._readiness.wait_for("kafka", f"no partition held yet; Kafka at {self._kafka.servers}")
        self._readiness.wait_for("nacos", f"not connected yet; Nacos at {', '.join(self._nacos.servers)}")
        admin = AdminServer(
            self._settings.admin, self._readiness, self._supervisor, {"services": self._debug_services}
        )
        admin.start()
        wanted = topics_of("listener", event_retention_days=self._topics.event_retention_days)
        await asyncio.to_thread(check_topics, self._kafka, self._topics, wanted)
        async with NacosCluster(self._nacos) as cluster:
            try:
                await self._run(stop, cluster)
            finally:
                admin.stop()

    async def _run(self, stop: asyncio.Event, cluster: NacosCluster) -> None:
        loop = asyncio.get_running_loop()
        # Stable over restarts: Kafka gives a listener of this name its partitions back without waiting for the
        # former process to be missed.
        instance = self._settings.instance or f"{socket.gethostname()}-{self._settings.admin.port}"
        client_id = f"shiplog-listener-{self._settings.datacenter}-{instance}"
        writer = KafkaWriter(
            self._kafka,
            client_id=client_id,
            max_queued_records=self._settings.queue_records,
            max_queued_bytes=self._settings.queue_bytes,
            supervisor=self._supervisor,
            on_lost=lambda record: self._on_loop(loop, self._lost, record),
        )
        self._wire(cluster, writer, client_id)
        tenure = TenureKeeper(
            self._kafka,
            group=f"{self._settings.group}-{self._settings.datacenter}",
            client_id=client_id,
            supervisor=self._supervisor,
            on_won=lambda partition, epoch: self._won(loop, partition, epoch),
            on_lost=lambda partitions: self._gave_up(loop, partitions),
        )
        tenure.start()
        tasks = [
            self._supervisor.task("publication", self._publication.run),
            self._supervisor.task("search for namespaces", self._namespaces.run),
        ]
        gauges = metrics.NamespaceGauges(self._settings.datacenter, self._namespaces.facts)
        try:
            await self._supervisor.wait(stop)
        finally:
            await asyncio.to_thread(tenure.stop)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            gauges.close()
            left = await asyncio.to_thread(writer.close, _FLUSH_S)
            if left:
                _log.warning("stopped with events that Kafka does not have", events=left)

    def _wire(self, cluster: NacosCluster, writer: KafkaWriter, client_id: str) -> None:
        datacenter = self._settings.datacenter
        quarantine = Quarantine(writer, self._codecs.quarantined, datacenter=datacenter, process=client_id)
        self._publication = Publication(
            settings=self._settings,
            log=EventLog(self._codecs.registry_event, writer, self._ownership, datacenter=datacenter),
            writer=writer,
            quarantine=quarantine,
            link_of=self._link_of,
        )
        self._namespaces = Namespaces(
            cluster=cluster,
            nacos=self._nacos,
            settings=self._settings,
            partitions=self._topics.partitions,
            publication=self._publication,
            make_watch=lambda namespace: NamespaceWatch(
                Watched(
                    view=NamespaceView(namespace),
                    cluster=cluster,
                    nacos=self._nacos,
                    settings=self._settings,
                    quarantine=quarantine,
                    changed=partial(self._changed, namespace),
                ),
                self._supervisor,
            ),
            on_complete=lambda: self._readiness.met("nacos"),
            supervisor=self._supervisor,
        )
        self._inspection = Inspection(cluster, self._namespaces, self._publication)

    def _won(self, loop: asyncio.AbstractEventLoop, partition: int, epoch: int) -> None:
        """Called on the membership's thread: the session is opened when the event loop gets to it."""
        self._ownership.win(partition, epoch)
        self._on_loop(loop, self._open, partition, epoch)

    def _gave_up(self, loop: asyncio.AbstractEventLoop, partitions: list[int]) -> None:
        """Called on the membership's thread: when it returns nothing more is written of these partitions."""
        self._ownership.lose(partitions)
        self._on_loop(loop, self._close, partitions)

    def _open(self, partition: int, epoch: int) -> None:
        if self._ownership.holds(partition, epoch):  # or it was lost again while the event loop was busy
            self._publication.open(partition, epoch)
            self._namespaces.won(partition)
            self._readiness.met("kafka")

    def _close(self, partitions: list[int]) -> None:
        for partition in partitions:
            self._publication.close(partition)
            self._readiness.mark_fresh(_source(partition))
        self._namespaces.gave_up(partitions)

    def _lost(self, record: LostRecord) -> None:
        self._publication.lost(record)

    def _link_of(self, partition: int) -> tuple[Link, str]:
        """Asked for with each heartbeat; `/readyz` says the same."""
        stale = self._namespaces.stale_of(partition)
        if stale:
            self._readiness.mark_stale(_source(partition), stale)
        else:
            self._readiness.mark_fresh(_source(partition))
        return self._namespaces.link_of(partition)

    def _changed(self, namespace: Namespace) -> None:
        self._namespaces.changed(namespace)
        self._publication.changed(namespace)

    def _debug_services(self, query: Mapping[str, str]) -> Any:
        """Called on the admin thread."""
        return {} if self._inspection is None else self._inspection.page(query)

    def _on_loop(self, loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
        """Has the event loop call this, in the order of these calls; a failure of it ends the process."""

        def run() -> None:
            try:
                call(*args)
            except Exception as error:  # noqa: BLE001 - nobody else hears of a callback's failure
                self._supervisor.fail("partition handover", error)

        try:
            loop.call_soon_threadsafe(run)
        except RuntimeError:
            _log.info("event loop has ended", call=call.__name__)


def _source(partition: int) -> str:
    return f"partition {partition}"
