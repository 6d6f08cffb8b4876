"""One consumer and one transactional producer: read, fold, publish, until the first fault.

The consumer group shares the partitions out; the offsets and what they led to are committed together, so
after any crash the log and the snapshots agree.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumers import metrics
from consumers.materializer.deciding import Deciding
from consumers.materializer.faults import Fault, internal
from consumers.materializer.fold import Outcome
from consumers.materializer.partition import MaterializedPartition
from consumers.materializer.recovery import from_metadata, to_metadata
from consumers.materializer.reporting import Reporting
from consumers.materializer.setting_aside import of_record, of_snapshot
from consumers.materializer.snapshot_reader import read_published
from consumers.materializer.transaction import NamespaceUpdate, TransactionWriter
from runtime.kafka_clients import make_consumer
from runtime.kafka_reader import LARGE_RECORDS, close_consumer
from runtime.lifecycle import settle_memory
from schemas.errors import SchemaRegistryError, UndecodableRecordError
from schemas.topics import CONTROL_EVENTS

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from confluent_kafka import Consumer, Message

    from consumers.materializer.reporting import Status
    from consumers.settings import ConversionSettings, MaterializerSettings
    from runtime.settings import KafkaSettings
    from schemas.avro_codec import Codecs
    from schemas.records import Quarantined

_log = structlog.get_logger()

_POLL_S = 0.2
_KAFKA_TIMEOUT_S = 10.0
"""No operation is worth waiting longer for: a fresh start is the surer way back."""


class Engine:
    """Materializes the partitions that the group gives it.

    Everything runs on the thread that calls `run`, rebalance callbacks included.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: MaterializerSettings,
        conversion: ConversionSettings,
        codecs: Codecs,
        instance: str,
    ) -> None:
        self._kafka = kafka
        self._settings = settings
        self._conversion = conversion
        self._codecs = codecs
        self._client_id = f"shiplog-materializer-{instance}"
        self._partitions: dict[int, MaterializedPartition] = {}
        self._deciding = Deciding(kafka, codecs, conversion, settings.guard)
        self._committed_at = time.monotonic()
        self._lost = False
        self._closing = False
        self._starts: list[TopicPartition] = []
        self._fault: KafkaException | None = None
        self._reporting = Reporting()
        self._consumer = make_consumer(
            kafka,
            self._client_id,
            {
                "group.id": settings.group,
                "group.instance.id": self._client_id,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                # range keeps the same partition of every input topic with one process
                "partition.assignment.strategy": "range",
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1500,
                "max.poll.interval.ms": int(settings.max_poll_s * 1000),
                "topic.metadata.refresh.interval.ms": 10_000,  # when another datacenter's topic appears
                "queued.max.messages.kbytes": 16_384,
                **LARGE_RECORDS,
            },
        )
        self._writer = TransactionWriter(kafka, settings, codecs, self._client_id)

    def run(self, stop: threading.Event, report: Callable[[Status], None]) -> None:
        """Reads, folds and publishes until stopped.

        Raises:
            KafkaException: anything that a fresh start mends; also what a callback met.
        """
        self._writer.start()
        self._consumer.subscribe(
            [*self._settings.event_topics, CONTROL_EVENTS],
            on_assign=self._on_assign,
            on_revoke=self._revoked,
            on_lost=self._lost_membership,
        )
        reported_at = 0.0
        while not stop.is_set():
            first = self._consumer.poll(_POLL_S)
            messages = [] if first is None else [first, *self._consumer.consume(self._settings.max_batch, 0)]
            if self._fault is not None:
                raise self._fault
            if self._lost:
                # Kafka was away: a transactional producer from before can hang for a minute in its first
                # transaction afterwards, a new one does not.
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "partitions lost"))
            if self._starts:
                # What was read while partitions changed hands may be of the former assignment, and out of order
                # for the new one: it is read again.
                messages = []
                self._start_reading()
            quarantined = self._fold(messages)
            self._publish(quarantined)
            self._deciding.carry_out(self._partitions, self._commit)
            if time.monotonic() - reported_at > 1.0:
                reported_at = time.monotonic()
                report(self._reporting.report(self._partitions.values()))
                self._measure_lag()

    def _measure_lag(self) -> None:
        """What is in the log and not folded yet, as far as the client has heard."""
        lags = dict.fromkeys(self._settings.event_topics, 0)
        for partition in self._partitions.values():
            for topic in partition.next_offsets.keys() & lags.keys():
                at = TopicPartition(topic, partition.number)
                _, end = self._consumer.get_watermark_offsets(at, cached=True) or (0, 0)
                lags[topic] += max(0, end - partition.next_offsets[topic])
        for topic, lag in lags.items():
            metrics.LAG.labels(topic).set(lag)

    def close(self) -> None:
        """Ends the membership; the next engine of this name gets the partitions back, unless they were lost."""
        self._closing = True
        close_consumer(self._consumer, leave=self._lost)

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        """Takes partitions over; a fault is kept for `run`.

        What a callback raises comes out of poll or close as something that is no exception of Kafka's client, and
        would end the process; and when it closes, the client may still be handed partitions.
        """
        if self._closing:
            return
        try:
            self._assigned(consumer, assigned)
        except KafkaException as error:
            self._fault = error

    def _assigned(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        """Reads back what stands published, and goes back to where the fold must begin."""
        committed = consumer.committed(assigned, timeout=_KAFKA_TIMEOUT_S)
        numbers = sorted({tp.partition for tp in committed})
        published = read_published(self._kafka, self._codecs, numbers, self._client_id)
        for number in numbers:
            self._partitions[number] = MaterializedPartition(
                number=number,
                settings=self._conversion,
                guard=self._settings.guard,
                expected=self._settings.expected,
                published=published[number],
                live_from={
                    tp.topic: tp.offset
                    for tp in committed
                    if tp.partition == number and tp.offset > 0 and tp.topic != CONTROL_EVENTS
                },
            )
            self._deciding.begin(number)
        controls = [tp for tp in committed if tp.topic == CONTROL_EVENTS]
        self._starts = [TopicPartition(tp.topic, tp.partition, max(tp.offset, 0)) for tp in controls]
        for tp in committed:
            if tp.topic == CONTROL_EVENTS:
                continue
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
            self._partitions[tp.partition].begin(tp.topic, start)
            self._starts.append(TopicPartition(tp.topic, tp.partition, start))
        consumer.assign(self._starts)
        metrics.PARTITIONS.set(len(self._partitions))
        _log.info("partitions assigned", partitions=numbers)

    def _start_reading(self) -> None:
        self._consumer.assign(self._starts)
        # Decisions are carried out in the present, behind what is recovered.
        self._consumer.pause([tp for tp in self._starts if tp.topic == CONTROL_EVENTS])
        self._starts = []

    def _revoked(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        self._starts = []
        for tp in revoked:
            self._partitions.pop(tp.partition, None)
            self._deciding.end(tp.partition)
        metrics.PARTITIONS.set(len(self._partitions))

    def _lost_membership(self, consumer: Consumer, lost: list[TopicPartition]) -> None:
        self._revoked(consumer, lost)
        self._lost = True

    def _fold(self, messages: list[Message]) -> list[Quarantined]:
        """Folds the records in; what of them can't be used comes back."""
        quarantined: list[Quarantined] = []
        if messages:
            metrics.BATCH.observe(len(messages))
        for message in messages:
            error = message.error()
            if error is not None:
                self._note(message, error)
                continue
            topic, number, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            partition = self._partitions.get(number)
            if partition is None:
                continue
            faults = self._take(partition, topic, offset, message.value())
            if topic == CONTROL_EVENTS or not partition.recovering:  # else they were set aside when first read
                quarantined += [of_record(message, fault) for fault in faults]
            if partition.recovering and partition.has_caught_up():
                # Events of this batch behind the last commit must not be compared with what stands published.
                self._recover(partition, quarantined)
        return quarantined

    def _take(
        self, partition: MaterializedPartition, topic: str, offset: int, value: bytes | None
    ) -> Sequence[Fault]:
        """Takes a record in; what of it can't be used. Nothing that the record says raises anything."""
        try:
            if topic == CONTROL_EVENTS:
                self._deciding.take(partition.number, offset, value)
                partition.next_offsets[topic] = offset + 1
                return ()
            outcome = partition.apply(topic, offset, self._codecs.registry_event.decode(value))
        except UndecodableRecordError as error:
            partition.next_offsets[topic] = offset + 1
            return (Fault(error.reason, "", error.detail),)
        except SchemaRegistryError:
            raise  # no fault of the record
        except Exception as error:  # noqa: BLE001 - it costs this record
            partition.next_offsets[topic] = offset + 1
            return (internal("the record", error),)
        return () if outcome is Outcome.APPLIED else partition.faults

    def _note(self, message: Message, error: KafkaError) -> None:
        """An error among the records; raises what a fresh start may mend."""
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and message.topic() in self._settings.event_topics:
            # A datacenter whose events are not mirrored yet keeps the others waiting for nothing.
            _log.warning("an event topic does not exist yet; it is joined when it does", topic=message.topic())
        elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001
            raise KafkaException(error)

    def _recover(self, partition: MaterializedPartition, quarantined: list[Quarantined]) -> None:
        """Ends a recovery; commits what differs with all that was folded so far, for offsets cover it all."""
        started = time.monotonic()
        differing = [NamespaceUpdate(partition.number, *found) for found in partition.recovered()]
        if differing:
            updates = self._updates()
            self._commit([*differing, *updates], [*quarantined, *self._view_faults()])
            quarantined.clear()
        metrics.RECOVERIES.inc()
        self._consumer.resume([TopicPartition(CONTROL_EVENTS, partition.number)])
        if not any(other.recovering for other in self._partitions.values()):
            settle_memory()  # once for all partitions: it walks the whole heap
        _log.info(
            "partition recovered",
            partition=partition.number,
            differing_namespaces=len(differing),
            compare_s=round(time.monotonic() - started, 3),
        )

    def _publish(self, quarantined: list[Quarantined]) -> None:
        """Commits what the batch changed; offsets alone only now and then."""
        for partition in self._partitions.values():
            partition.count_applied()
            if partition.recovering and partition.has_caught_up():
                self._recover(partition, quarantined)
        updates = self._updates()
        quarantined = [*quarantined, *self._view_faults()]
        overdue = time.monotonic() - self._committed_at > self._settings.idle_commit_s
        if updates or quarantined or overdue:
            self._commit(updates, quarantined)

    def _updates(self) -> list[NamespaceUpdate]:
        return [
            NamespaceUpdate(number, *found)
            for number, partition in self._partitions.items()
            if not partition.recovering
            for found in partition.updates()
        ]

    def _view_faults(self) -> list[Quarantined]:
        """What could not be published, and is new."""
        return [
            of_snapshot(number, fault)
            for number, partition in self._partitions.items()
            for fault in partition.take_view_faults()
        ]

    def _commit(self, updates: list[NamespaceUpdate], quarantined: list[Quarantined]) -> None:
        """Writes them in one transaction, with the offsets of all that is folded."""
        self._committed_at = time.monotonic()
        offsets = [
            self._offset_of(partition, topic, offset)
            for partition in self._partitions.values()
            if not partition.recovering
            for topic, offset in partition.next_offsets.items()
        ]
        if offsets or quarantined:
            for one in self._writer.commit(updates, quarantined, offsets, self._consumer):
                self._partitions[one.partition].note_unwritten(one.view.namespace)

    def _offset_of(self, partition: MaterializedPartition, topic: str, offset: int) -> TopicPartition:
        if topic == CONTROL_EVENTS:
            waiting = self._deciding.first_waiting(partition.number)
            return TopicPartition(topic, partition.number, offset if waiting is None else waiting)
        metadata = to_metadata(partition.recovery_offset(topic))
        return TopicPartition(topic, partition.number, offset, metadata=metadata)
