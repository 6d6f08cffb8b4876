"""The listener as a process: tenures from Kafka, one watch per namespace of ours, one publication."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import structlog

from producers import metrics
from producers.listener.namespace_view import NamespaceView
from producers.listener.namespace_watch import NamespaceWatch
from producers.listener.namespaces import Namespaces
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
from schemas.events import Link, Namespace
from schemas.topics import topics_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producers.settings import ListenerSettings, NacosSettings
    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.avro_codec import SchemaRegistry

_log = structlog.get_logger()

_FLUSH_S = 5.0
_PAGE = 100


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
            on_lost=lambda reason: _on_loop(loop, self._lost, reason),
        )
        self._wire(cluster, writer, client_id)
        tenure = TenureKeeper(
            self._kafka,
            group=f"{self._settings.group}-{self._settings.datacenter}",
            client_id=client_id,
            supervisor=self._supervisor,
            on_won=lambda partition, epoch: _on_loop(loop, self._won, partition, epoch),
            on_lost=lambda partitions: _on_loop(loop, self._gave_up, partitions),
        )
        tenure.start()
        tasks = [
            self._supervisor.task("publication", self._publication.run),
            self._supervisor.task("search for namespaces", self._namespaces.run),
            self._supervisor.task("listener metrics", self._namespaces.measure),
        ]
        try:
            await self._supervisor.wait(stop)
        finally:
            await asyncio.to_thread(tenure.stop)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            left = await asyncio.to_thread(writer.close, _FLUSH_S)
            if left:
                _log.warning("stopped with events that Kafka does not have", events=left)

    def _wire(self, cluster: NacosCluster, writer: KafkaWriter, client_id: str) -> None:
        datacenter = self._settings.datacenter
        quarantine = Quarantine(writer, self._codecs.quarantined, datacenter=datacenter, process=client_id)
        self._publication = Publication(
            settings=self._settings,
            codec=self._codecs.registry_event,
            writer=writer,
            quarantine=quarantine,
            link_of=self._link_of,
        )
        self._cluster = cluster
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
                    changed=self._changed,
                )
            ),
            supervisor=self._supervisor,
        )

    def _won(self, partition: int, epoch: int) -> None:
        self._publication.open(partition, epoch)
        self._namespaces.won(partition)
        self._readiness.met("kafka")

    def _gave_up(self, partitions: list[int]) -> None:
        for partition in partitions:
            self._publication.close(partition)
        self._namespaces.gave_up(partitions)

    def _link_of(self, partition: int) -> tuple[Link, str]:
        return self._namespaces.link_of(partition)

    def _lost(self, reason: str) -> None:
        metrics.LOST.labels(self._settings.datacenter, reason).inc()
        self._publication.restate("lost")

    def _changed(self) -> None:
        if all(watch.view.complete for watch in self._namespaces.watches.values()):
            self._readiness.met("nacos")
        self._publication.wake()

    def _debug_services(self, query: Mapping[str, str]) -> Any:
        """Called on the admin thread: reads only what the event loop replaces as a whole."""
        namespace = Namespace(query.get("namespace", ""))
        watch = self._namespaces.watches.get(namespace)
        if watch is None:
            return {
                "nacos": self._cluster.version,
                "namespaces": {ns: _summary(watch) for ns, watch in list(self._namespaces.watches.items())},
                "partitions": {
                    partition: {"session": tenure.session.id, "sequence": tenure.session.sequence}
                    for partition, tenure in list(self._publication.tenures.items())
                },
            }
        page = int(query.get("page", "1")) if query.get("page", "1").isdigit() else 1
        services = sorted(watch.view.observed.items())
        return {
            "namespace": namespace,
            **_summary(watch),
            "page": page,
            "pages": -(-len(services) // _PAGE),
            "on_this_page": [
                {
                    "group": key.group,
                    "service": key.service,
                    "instances": len(known.visible),
                    "disabled": len(known.hidden),
                    "unhealthy": sum(not instance.healthy for instance in known.instances),
                    "protect_threshold": known.protect_threshold,
                }
                for key, known in services[max(0, page - 1) * _PAGE : page * _PAGE]
            ],
        }


def _summary(watch: NamespaceWatch) -> dict[str, Any]:
    link, detail = watch.link()
    return {
        "link": link,
        "detail": detail,
        "complete": watch.view.complete,
        "services": len(watch.view.observed),
        "config_items": len(watch.view.configs),
        "not_published_yet": watch.view.dirty,
    }


def _on_loop(loop: asyncio.AbstractEventLoop, call: Any, *args: Any) -> None:
    """Calls on the event loop and waits until it is done; returns at once when the loop has ended."""
    done = asyncio.run_coroutine_threadsafe(_as_coroutine(call, *args), loop)
    try:
        done.result(timeout=10)
    except TimeoutError:
        done.cancel()


async def _as_coroutine(call: Any, *args: Any) -> None:
    call(*args)
