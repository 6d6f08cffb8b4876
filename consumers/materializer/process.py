"""The materializer as a process: a plain loop of read, fold, publish in one transaction.

The consumer group shares the partitions out; the offsets and what they led to are committed together, so
after any crash the log and the snapshots agree. Whatever goes wrong with Kafka, the partitions are given up
and recovered: there is one way to start, and it is used for everything.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from consumers import metrics
from consumers.materializer.partition import MaterializedPartition
from consumers.materializer.recovery import from_metadata, to_metadata
from consumers.materializer.snapshot_reader import read_published
from runtime.admin_http import AdminServer
from runtime.kafka_topics import TopicKeeper
from runtime.lifecycle import Readiness, settle_memory
from schemas import avro_codec
from schemas.errors import UndecodableRecordError
from schemas.records import Quarantined
from schemas.topics import (
    MAX_RECORD_BYTES,
    QUARANTINE,
    SNAPSHOT_HISTORY,
    SNAPSHOTS,
    ManifestKey,
    ResourceKey,
    topic_settings,
)

if TYPE_CHECKING:
    import threading

    from confluent_kafka import Message

    from consumers.materializer.view import NamespaceView, Update
    from consumers.settings import ConversionSettings, MaterializerSettings
    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.avro_codec import SchemaRegistry

_log = structlog.get_logger()

_POLL_S = 0.2
_KAFKA_TIMEOUT_S = 30.0
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
        self._status: dict[str, object] = {}

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set.

        Raises:
            ShellError, WrongTopicError: it can't start; the text says why.
        """
        self._readiness.wait_for("partitions", "no partition held yet")
        admin = AdminServer(self._settings.admin, self._readiness, {"partitions": lambda _: self._status})
        admin.start()
        TopicKeeper(self._kafka, self._topics).check(
            topic_settings(event_retention_days=self._topics.event_retention_days)
        )
        while not stop.is_set():
            engine = _Engine(self._kafka, self._settings, self._conversion, self._codecs, self._instance)
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

    def _report(self, status: dict[str, object], *, ready: bool) -> None:
        self._status = status
        if ready:
            self._readiness.met("partitions")
        else:
            self._readiness.wait_for("partitions", "recovering")


class _Engine:
    """One consumer and one transactional producer, from start to the first fault."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: MaterializerSettings,
        conversion: ConversionSettings,
        codecs: avro_codec.Codecs,
        instance: str,
    ) -> None:
        self._kafka = kafka
        self._settings = settings
        self._conversion = conversion
        self._codecs = codecs
        self._client_id = f"shiplog-materializer-{instance}"
        self._partitions: dict[int, MaterializedPartition] = {}
        self._committed_at = time.monotonic()
        self._consumer = Consumer(
            kafka.client_config(self._client_id)
            | {
                "group.id": settings.group,
                "group.instance.id": self._client_id,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                # range keeps the same partition of every input topic with one process
                "partition.assignment.strategy": "range",
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1500,
                "fetch.message.max.bytes": MAX_RECORD_BYTES,
                "fetch.max.bytes": 4 * MAX_RECORD_BYTES,
                "receive.message.max.bytes": 4 * MAX_RECORD_BYTES + 1024,
            }
        )
        self._producer = Producer(
            kafka.client_config(self._client_id)
            | {
                "transactional.id": self._client_id,
                "transaction.timeout.ms": int(settings.transaction_timeout_s * 1000),
                # The next transaction's first request meets the last one's markers being written, and backs off:
                # by default for 100 ms, which would be most of a change's way to the Pilot.
                "retry.backoff.ms": 2,
                "retry.backoff.max.ms": 10,
                "linger.ms": 0,
                "compression.type": "lz4",
                "message.max.bytes": MAX_RECORD_BYTES,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 1024 * 1024,
            }
        )

    def run(self, stop: threading.Event, report: object) -> None:
        """Reads, folds and publishes until stopped.

        Raises:
            KafkaException: anything that a fresh start mends.
        """
        self._producer.init_transactions(_KAFKA_TIMEOUT_S)
        self._consumer.subscribe(
            list(self._settings.event_topics), on_assign=self._assigned, on_revoke=self._revoked
        )
        reported_at = 0.0
        while not stop.is_set():
            first = self._consumer.poll(_POLL_S)
            messages = [] if first is None else [first, *self._consumer.consume(self._settings.max_batch, 0)]
            quarantined = self._fold(messages)
            self._publish(quarantined)
            if time.monotonic() - reported_at > 1.0:
                reported_at = time.monotonic()
                self._report_to(report)

    def close(self) -> None:
        """Leaves the group."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        """Reads back what stands published, and goes back to where the fold must begin."""
        committed = consumer.committed(assigned, timeout=_KAFKA_TIMEOUT_S)
        numbers = sorted({tp.partition for tp in committed})
        published = read_published(self._kafka, self._codecs, numbers, self._client_id)
        for number in numbers:
            self._partitions[number] = MaterializedPartition(
                number=number,
                settings=self._conversion,
                published=published[number],
                live_from={tp.topic: tp.offset for tp in committed if tp.partition == number and tp.offset > 0},
            )
        starts = []
        for tp in committed:
            recover_from = from_metadata(tp.metadata)
            earliest, end = consumer.get_watermark_offsets(
                TopicPartition(tp.topic, tp.partition), timeout=_KAFKA_TIMEOUT_S
            )
            wanted = recover_from if recover_from is not None else max(tp.offset, 0)
            if wanted < earliest:
                _log.error(
                    "the log no longer holds the keyframes that the fold needs",
                    topic=tp.topic, partition=tp.partition, needed=wanted, earliest=earliest,
                )  # fmt: skip
            start = min(max(wanted, earliest), end)
            self._partitions[tp.partition].next_offsets[tp.topic] = start
            starts.append(TopicPartition(tp.topic, tp.partition, start))
        consumer.assign(starts)
        metrics.PARTITIONS.set(len(self._partitions))
        _log.info("partitions assigned", partitions=numbers)

    def _revoked(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        for tp in revoked:
            self._partitions.pop(tp.partition, None)
        metrics.PARTITIONS.set(len(self._partitions))

    def _fold(self, messages: list[Message]) -> list[Quarantined]:
        """Folds the records in; those that can't be decoded come back."""
        quarantined = []
        if messages:
            metrics.BATCH.observe(len(messages))
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001
                    raise KafkaException(error)
                continue
            topic, number, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            partition = self._partitions.get(number)
            if partition is None:
                continue
            try:
                event = self._codecs.registry_event.decode(message.value())
            except UndecodableRecordError as fault:
                partition.next_offsets[topic] = offset + 1
                if not partition.recovering:  # else it was set aside when it was first read
                    quarantined.append(self._quarantine(message, fault))
            else:
                partition.apply(topic, offset, event)
            if partition.recovering and partition.has_caught_up():
                # Events of this batch behind the last commit must not be compared with what stands published.
                self._recover(partition, quarantined)
        return quarantined

    def _recover(self, partition: MaterializedPartition, quarantined: list[Quarantined]) -> None:
        """Ends a recovery; commits what differs with all that was folded so far, for offsets cover it all."""
        started = time.monotonic()
        differing = list(partition.recovered())
        if differing:
            self._commit([*differing, *self._updates()], quarantined)
            quarantined.clear()
        metrics.RECOVERIES.inc()
        settle_memory()
        _log.info(
            "partition recovered",
            partition=partition.number,
            differing_namespaces=len(differing),
            compare_s=round(time.monotonic() - started, 3),
        )

    def _publish(self, quarantined: list[Quarantined]) -> None:
        """Commits what the batch changed; offsets alone only now and then."""
        for partition in self._partitions.values():
            if partition.recovering and partition.has_caught_up():
                self._recover(partition, quarantined)
        updates = self._updates()
        overdue = time.monotonic() - self._committed_at > self._settings.idle_commit_s
        if updates or quarantined or overdue:
            self._commit(updates, quarantined)

    def _updates(self) -> list[tuple[NamespaceView, Update]]:
        return [
            found
            for partition in self._partitions.values()
            if not partition.recovering
            for found in partition.updates()
        ]

    def _commit(self, updates: list[tuple[NamespaceView, Update]], quarantined: list[Quarantined]) -> None:
        """Writes resources, tombstones, manifests, history, quarantine and offsets in one transaction."""
        started = time.monotonic()
        offsets = [
            TopicPartition(topic, partition.number, offset, metadata=to_metadata(partition.recovery_offset(topic)))
            for partition in self._partitions.values()
            if not partition.recovering
            for topic, offset in partition.next_offsets.items()
        ]
        self._committed_at = started
        if not offsets and not quarantined:
            return
        self._producer.begin_transaction()
        for view, update in updates:
            self._write(view, update)
        for record in quarantined:
            self._producer.produce(QUARANTINE, key=record.key, value=self._codecs.quarantined.encode(record))
        if offsets:
            self._producer.send_offsets_to_transaction(
                offsets, self._consumer.consumer_group_metadata(), _KAFKA_TIMEOUT_S
            )
        self._producer.commit_transaction(_KAFKA_TIMEOUT_S)
        metrics.TRANSACTIONS.labels("committed").inc()
        metrics.COMMIT_SECONDS.observe(time.monotonic() - started)
        for view, update in updates:
            view.published(update)
            metrics.VERSIONS.inc()
            metrics.RESOURCES_WRITTEN.inc(len(update.records))
            metrics.EVENT_TO_SNAPSHOT.observe(max(0.0, time.time() - update.manifest.observed_at / 1e6))

    def _write(self, view: NamespaceView, update: Update) -> None:
        namespace = view.namespace
        number = next(n for n, p in self._partitions.items() if p.views.get(namespace) is view)
        for (collection, name), record in update.records.items():
            self._produce(
                SNAPSHOTS,
                number,
                ResourceKey(namespace, collection, name).encode(),
                None if record is None else self._codecs.resource.encode(record),
            )
        manifest = self._codecs.manifest.encode(update.manifest)
        self._produce(SNAPSHOTS, number, ManifestKey(namespace).encode(), manifest)
        self._produce(SNAPSHOT_HISTORY, number, namespace.encode(), manifest)

    def _produce(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        while True:
            try:
                self._producer.produce(topic, partition=partition, key=key, value=value)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _quarantine(self, message: Message, fault: UndecodableRecordError) -> Quarantined:
        metrics.QUARANTINED.labels(fault.reason).inc()
        _log.warning(
            "record quarantined", topic=message.topic(), offset=message.offset(), reason=fault.reason,
            detail=fault.detail,
        )  # fmt: skip
        return Quarantined(
            topic=message.topic() or "",
            partition=message.partition() or 0,
            offset=message.offset() or 0,
            process="materializer",
            reason=fault.reason,
            detail=fault.detail[:1000],
            key=_bytes(message.key()),
            value=_bytes(message.value()),
            at=time.time_ns() // 1000,
        )

    def _report_to(self, report: object) -> None:
        partitions = self._partitions.values()
        metrics.NAMESPACES.set(sum(len(p.views) for p in partitions))
        metrics.RESOURCES.set(sum(len(v.versions) for p in partitions for v in p.views.values()))
        ready = bool(partitions) and not any(partition.recovering for partition in partitions)
        report({p.number: p.status() for p in partitions}, ready=ready)  # type: ignore[operator]


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
