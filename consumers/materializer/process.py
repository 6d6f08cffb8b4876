"""The materializer as a process: an engine, and a new one whenever Kafka, or a fault of ours, ends it.

There is one way to start, and it is used for everything that ends an engine: partitions are taken over and
recovered. What passes by itself is waited for within the engine (see `patience` and `transactional_producer`).
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException

from consumers import metrics
from consumers.errors import LogChangedError, StoppedError
from consumers.materializer.engine import Engine
from consumers.materializer.group import Group
from consumers.materializer.patience import Patience
from consumers.materializer.reporting import Status, namespace_page, namespaces_page
from consumers.materializer.starts import Cause, Ending, Starts, kafka_ending
from consumers.materializer.topic_watch import TopicWatch
from runtime.admin_http import AdminServer
from runtime.errors import ShellError
from runtime.kafka_topics import check_topics
from runtime.lifecycle import Readiness
from runtime.supervision import Supervisor
from schemas import avro_codec
from schemas.errors import SchemaRegistryError
from schemas.events import Namespace
from schemas.topics import mirrored_topic_settings, topics_of

if TYPE_CHECKING:
    import threading

    from consumers.settings import ConversionSettings, MaterializerSettings
    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.avro_codec import SchemaRegistry

_log = structlog.get_logger()

_LOOP = "engine"
_PAUSE_STEP_S = 0.5
_NAMESAKE_S = 5.0
"""How often a process that was fenced looks whether its name is free again."""


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
        self._name = f"shiplog-materializer-{settings.instance or f'{socket.gethostname()}-{settings.admin.port}'}"
        self._readiness = Readiness()
        self._supervisor = Supervisor()
        self._status = Status({}, {}, "")
        self._starts = Starts()
        self._made_anew: set[str] = set()
        self._group = Group(kafka, settings.group)
        self._watch = TopicWatch(
            kafka,
            topics=[topic.name for topic in topics_of("materializer")],
            mirrored=[topic.name for topic in mirrored_topic_settings(settings.event_topics)],
        )

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set.

        Raises:
            ShellError, WrongTopicError: it can't start, or can't go on; the text says why.
        """
        self._readiness.wait_for("partitions", "no partition held yet")
        pages = {
            "engine": lambda _: self._starts.describe(),
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
        patience = Patience(stop, lambda: self._turn(stop), self._note_wait)
        while not stop.is_set():
            self._run_engine(patience)
            self._pause(patience)
        self._supervisor.forget_loop(_LOOP)
        admin.stop()
        self._supervisor.raise_fault()

    def _run_engine(self, patience: Patience) -> None:
        """Runs one engine to its end."""
        engine: Engine | None = None
        self._starts.begin(time.monotonic())
        try:
            engine = Engine(
                self._kafka,
                self._settings,
                self._conversion,
                self._codecs,
                self._name,
                patience=patience,
                supervisor=self._supervisor,
                watch=self._watch,
                group=self._group,
                made_anew=self._made_anew,
            )
            engine.run(self._report)
        except StoppedError:
            self._starts.pause_s = 0.0
        except ShellError:
            raise  # settings that can't be used: for a person
        except LogChangedError as error:
            self._made_anew |= error.topics
            self._start_over(Ending(Cause.LOG_CHANGED, str(error), time.time()))
        except SchemaRegistryError as error:
            self._start_over(Ending(Cause.SCHEMA_REGISTRY, f"{error}; see schema_registry.url", time.time()))
        except KafkaException as error:
            self._start_over(kafka_ending(error.args[0], self._name, time.time()))
        except Exception as error:  # noqa: BLE001 - a fault of ours: another engine, and some day another process
            self._start_over(Ending(Cause.INTERNAL_FAULT, f"{type(error).__name__}: {error}", time.time()))
            _log.exception("engine_failed")
            if self._starts.is_hopeless:
                self._supervisor.fail(_LOOP, error)
        finally:
            if engine is not None:
                engine.close()

    def _start_over(self, ending: Ending) -> None:
        """Notes why the engine ended, for operators."""
        self._starts.ended(ending, time.monotonic())
        missing = sorted(self._watch.missing)
        text = f"{ending.text}; missing topics: {', '.join(missing)}" if missing else ending.text
        metrics.STARTS_OVER.labels(ending.cause).inc()
        _log.warning("starting_over", cause=ending.cause.value, error=text, pause_s=round(self._starts.pause_s, 1))
        self._readiness.wait_for("partitions", f"starting over: {text}")

    def _pause(self, patience: Patience) -> None:
        """Waits until the next engine may begin."""
        last = self._starts.last
        is_name_taken = last is not None and last.cause is Cause.NAME_TAKEN
        until = time.monotonic() + self._starts.pause_s
        try:
            while time.monotonic() < until:
                patience.turn()
                patience.stop.wait(min(_PAUSE_STEP_S, max(0.0, until - time.monotonic())))
                if is_name_taken and time.monotonic() >= until and self._group.has_member(self._name):
                    until = time.monotonic() + _NAMESAKE_S
        except StoppedError:
            return

    def _turn(self, stop: threading.Event) -> None:
        """Called several times a second, also while Kafka is waited for."""
        self._supervisor.turned(_LOOP)
        if self._supervisor.fault is not None:
            stop.set()
        self._watch.look()
        if self._watch.missing:
            names = ", ".join(sorted(self._watch.missing))
            self._readiness.mark_stale("topics", f"missing: {names}; run `shiplog topics ensure`")
        else:
            self._readiness.mark_fresh("topics")

    def _note_wait(self, what: str) -> None:
        if what:
            self._readiness.mark_stale("kafka", what)
        else:
            self._readiness.mark_fresh("kafka")

    def _report(self, status: Status) -> None:
        self._status = status
        if status.waiting_for:
            self._readiness.wait_for("partitions", status.waiting_for)
        else:
            self._readiness.met("partitions")
        if status.awaiting:
            self._readiness.mark_stale("namespaces", status.awaiting)
        else:
            self._readiness.mark_fresh("namespaces")
