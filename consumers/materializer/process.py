"""The materializer as a process: an engine, and a new one whenever Kafka fails it.

Whatever goes wrong with Kafka, the partitions are given up and recovered: there is one way to start, and it
is used for everything.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException

from consumers import metrics
from consumers.materializer.engine import Engine
from consumers.materializer.reporting import Status, namespace_page, namespaces_page
from runtime.admin_http import AdminServer
from runtime.kafka_topics import check_topics
from runtime.lifecycle import Readiness
from runtime.supervision import Supervisor
from schemas import avro_codec
from schemas.events import Namespace
from schemas.topics import mirrored_topic_settings, topics_of

if TYPE_CHECKING:
    import threading

    from consumers.settings import ConversionSettings, MaterializerSettings
    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.avro_codec import SchemaRegistry

_log = structlog.get_logger()

_RESTART_PAUSE_S = 1.0


class Materializer:
    """Materializes the partitions that the group gives to this process, until stopped.

    Everything runs on the calling thread, rebalance callbacks included; only the admin pages do not, and read
    a status that is replaced as a whole.
    """

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        topics: TopicsSettings,
        settings: MaterializerSettings,
        conversion: ConversionSettings,
        registry: SchemaRegistry | None = None,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._settings = settings
        self._conversion = conversion
        self._codecs = avro_codec.codecs(registry)
        # Stable over restarts: Kafka then fences the former process of this name and aborts what it left open.
        self._instance = settings.instance or f"{socket.gethostname()}-{settings.admin.port}"
        self._readiness = Readiness()
        self._supervisor = Supervisor()
        self._status = Status({}, {}, "")

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set.

        Raises:
            ShellError, WrongTopicError: it can't start; the text says why.
        """
        self._readiness.wait_for("partitions", "no partition held yet")
        pages = {
            "partitions": lambda _: self._status.partitions,
            "namespaces": lambda _: namespaces_page(self._status),
            "namespace/": lambda query: namespace_page(self._status, Namespace(query["name"])),
        }
        admin = AdminServer(self._settings.admin, self._readiness, self._supervisor, pages)
        admin.start()
        days = self._topics.event_retention_days
        wanted = (
            *topics_of("materializer", event_retention_days=days),
            *mirrored_topic_settings(self._settings.event_topics, event_retention_days=days),
        )
        check_topics(self._kafka, self._topics, wanted)
        while not stop.is_set():
            engine = Engine(self._kafka, self._settings, self._conversion, self._codecs, self._instance)
            try:
                engine.run(stop, self._report)
            except KafkaException as error:
                fault = error.args[0]
                _log.warning("starting over from the last commit", error=fault.str(), code=fault.name())
                metrics.TRANSACTIONS.labels("failed").inc()
                self._readiness.wait_for("partitions", f"starting over: {fault.name()}")
                stop.wait(_RESTART_PAUSE_S)
            finally:
                engine.close()
        admin.stop()

    def _report(self, status: Status) -> None:
        self._status = status
        if status.waiting_for:
            self._readiness.wait_for("partitions", status.waiting_for)
        else:
            self._readiness.met("partitions")
