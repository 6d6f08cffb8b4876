"""The listener as a process: tenures from Kafka, one watch per namespace of ours, one publication."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import structlog

from producers import metrics
from producers.errors import NacosError
from producers.listener.namespace_view import NamespaceView
from producers.listener.namespace_watch import NamespaceWatch
from producers.listener.publication import Publication
from producers.listener.tenure import TenureKeeper
from producers.nacos.http_api import NacosHttp
from runtime.admin_http import AdminServer
from runtime.kafka_topics import TopicKeeper
from runtime.kafka_writer import KafkaWriter
from runtime.lifecycle import Readiness
from schemas.avro_codec import codecs
from schemas.events import Link, Namespace
from schemas.partitioner import partition_of
from schemas.topics import topic_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producers.settings import ListenerSettings, NacosSettings
    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.avro_codec import SchemaRegistry

_log = structlog.get_logger()

_MISSED_LISTINGS_UNTIL_GONE = 2


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
        self._codec = codecs(registry).registry_event
        self._readiness = Readiness()
        self._watches: dict[Namespace, tuple[NamespaceWatch, asyncio.Task[None]]] = {}
        self._missed: dict[Namespace, int] = {}
        self._namespaces_checked = asyncio.Event()
        self._http_detail = "not asked yet"
        self._http_answers = False

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set; what is queued for Kafka then gets 5 s.

        Raises:
            ShellError, WrongTopicError: it can't start; the text says why.
        """
        self._readiness.wait_for("kafka", f"no partition held yet; Kafka at {self._kafka.servers}")
        self._readiness.wait_for("nacos", f"not connected yet; Nacos at {', '.join(self._nacos.servers)}")
        admin = AdminServer(self._settings.admin, self._readiness, {"services": self._debug_services})
        admin.start()
        keeper = TopicKeeper(self._kafka, self._topics)
        await asyncio.to_thread(
            keeper.check, topic_settings(event_retention_days=self._topics.event_retention_days)
        )
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
            on_lost=lambda reason: _on_loop(loop, self._lost, reason),
        )
        self._publication = Publication(
            settings=self._settings, codec=self._codec, writer=writer, link_of=self._link_of
        )
        tenure = TenureKeeper(
            self._kafka,
            group=f"{self._settings.group}-{self._settings.datacenter}",
            client_id=client_id,
            on_won=lambda partition, epoch: _on_loop(loop, self._won, partition, epoch),
            on_lost=lambda partitions: _on_loop(loop, self._gave_up, partitions),
        )
        tenure.start()
        async with NacosHttp(self._nacos) as self._http:
            tasks = [
                asyncio.create_task(self._publication.run(), name="publication"),
                asyncio.create_task(self._follow_namespaces(), name="namespaces"),
            ]
            stopped = asyncio.create_task(stop.wait())
            done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(tenure.stop)
            for task in [*tasks, stopped, *(task for _, task in self._watches.values())]:
                task.cancel()
            await asyncio.gather(*tasks, *(t for _, t in self._watches.values()), return_exceptions=True)
            left = await asyncio.to_thread(writer.close, 5.0)
            if left:
                _log.warning("stopped with events that Kafka does not have", events=left)
            admin.stop()
            for task in done - {stopped}:
                task.result()  # a fault of ours ends the process with its trace

    def _won(self, partition: int, epoch: int) -> None:
        self._publication.open(partition, epoch)
        for namespace, (watch, _) in self._watches.items():
            if self._partition(namespace) == partition:
                self._publication.add(partition, watch.view)
        self._readiness.met("kafka")
        self._namespaces_checked.set()

    def _gave_up(self, partitions: list[int]) -> None:
        for partition in partitions:
            self._publication.close(partition)
        for namespace in list(self._watches):
            if self._partition(namespace) in partitions:
                self._unwatch(namespace)

    def _lost(self, reason: str) -> None:
        metrics.LOST.labels(self._settings.datacenter, reason).inc()
        self._publication.restate("lost")

    async def _follow_namespaces(self) -> None:
        """Watches the namespaces of our partitions as they appear; one that two listings lack is gone."""
        while True:
            try:
                listed = await self._http.namespaces()
                self._http_answers = True
            except NacosError as error:
                self._http_answers = False
                self._http_detail = str(error)
                _log.warning("cannot list namespaces", error=str(error))
            else:
                self._watch_ours(listed)
            self._namespaces_checked.clear()
            try:
                # Until Nacos answers for the first time, ask often: start-up should not take a whole interval.
                pause = self._settings.namespace_interval_s if self._http_answers else 1.0
                async with asyncio.timeout(pause):
                    await self._namespaces_checked.wait()
            except TimeoutError:
                pass

    def _watch_ours(self, listed: frozenset[Namespace]) -> None:
        wanted = frozenset(map(Namespace, self._nacos.namespaces)) or listed
        for namespace in wanted - self._watches.keys():
            if self._partition(namespace) in self._publication.tenures:
                self._watch(namespace)
        self._missed = {ns: self._missed.get(ns, 0) + 1 for ns in self._watches.keys() - wanted}
        for namespace in [ns for ns, times in self._missed.items() if times >= _MISSED_LISTINGS_UNTIL_GONE]:
            self._unwatch(namespace)
            self._publication.remove(self._partition(namespace), namespace)

    def _watch(self, namespace: Namespace) -> None:
        watch = NamespaceWatch(
            NamespaceView(namespace),
            http=self._http,
            nacos=self._nacos,
            settings=self._settings,
            changed=self._changed,
        )
        self._watches[namespace] = (watch, asyncio.create_task(watch.run(), name=f"watch-{namespace}"))
        self._publication.add(self._partition(namespace), watch.view)

    def _unwatch(self, namespace: Namespace) -> None:
        watched = self._watches.pop(namespace, None)
        if watched is not None:
            watched[1].cancel()

    def _changed(self) -> None:
        if all(watch.view.complete for watch, _ in self._watches.values()):
            self._readiness.met("nacos")
        self._publication.wake()

    def _partition(self, namespace: Namespace) -> int:
        return partition_of(namespace, self._topics.partitions)

    def _link_of(self, partition: int) -> tuple[Link, str]:
        """The worst link among the partition's namespaces; without any, whether Nacos answers at all."""
        links = [
            (watch.link, watch.detail)
            for namespace, (watch, _) in self._watches.items()
            if self._partition(namespace) == partition
        ]
        if not links:
            return (Link.LIVE, "no namespaces here") if self._http_answers else (Link.BLIND, self._http_detail)
        return max(links, key=lambda link: [Link.LIVE, Link.DEGRADED, Link.BLIND].index(link[0]))

    def _debug_services(self, query: Mapping[str, str]) -> Any:
        """Called on the admin thread: reads only what the event loop replaces as a whole."""
        namespace = Namespace(query.get("namespace", ""))
        watched = self._watches.get(namespace)
        if watched is None:
            return {
                "namespaces": {
                    ns: {
                        "link": watch.link,
                        "detail": watch.detail,
                        "complete": watch.view.complete,
                        "services": len(watch.view.observed),
                    }
                    for ns, (watch, _) in list(self._watches.items())
                },
                "partitions": {
                    partition: {"session": tenure.session.id, "sequence": tenure.session.sequence}
                    for partition, tenure in list(self._publication.tenures.items())
                },
            }
        page, size = int(query.get("page", "1")), 100
        services = sorted(watched[0].view.observed.items())[(page - 1) * size : page * size]
        return {
            "namespace": namespace,
            "page": page,
            "services": [
                {"group": key.group, "service": key.service, "instances": len(instances)}
                for key, instances in services
            ],
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
