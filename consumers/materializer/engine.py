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
from consumers.errors import LogChangedError
from consumers.materializer.deciding import Deciding
from consumers.materializer.faults import Fault, internal
from consumers.materializer.fold import Outcome
from consumers.materializer.recovery import to_metadata
from consumers.materializer.reporting import Reporting
from consumers.materializer.setting_aside import of_record, of_snapshot
from consumers.materializer.subscribing import Subscribing
from consumers.materializer.taking_over import TakeOver
from consumers.materializer.transaction import NamespaceUpdate, TransactionWriter
from runtime.kafka_clients import make_consumer
from runtime.kafka_reader import LARGE_RECORDS, close_consumer
from runtime.lifecycle import settle_memory
from schemas.errors import SchemaRegistryError, UndecodableRecordError
from schemas.topics import CONTROL_EVENTS, SNAPSHOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Consumer, Message

    from consumers.materializer.group import Group
    from consumers.materializer.partition import MaterializedPartition
    from consumers.materializer.patience import Patience
    from consumers.materializer.reporting import Status
    from consumers.materializer.topic_watch import TopicWatch
    from consumers.settings import ConversionSettings, MaterializerSettings
    from runtime.settings import KafkaSettings
    from runtime.supervision import Supervisor
    from schemas.avro_codec import Codecs
    from schemas.records import Quarantined

_log = structlog.get_logger()

_POLL_S = 0.2
_REPORT_S = 1.0
_SHARE_OF_POLL = 0.25
"""Of the time between two polls, for folding a batch; what it leads to is written after that."""
_SILENCE_S = 5.0
"""The end of a partition is told once, and was once not told at all: a recovery asks again after so long."""


class Engine:
    """Materializes the partitions that the group gives it.

    Everything runs on the thread that calls `run`, rebalance callbacks included. `name` is the process's, in the
    group and for its transactions. Topics in `made_anew` are known to have been; it is kept here, and outlives the
    engine: those whose offsets were committed since are taken out, others come in.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: MaterializerSettings,
        conversion: ConversionSettings,
        codecs: Codecs,
        name: str,
        *,
        patience: Patience,
        supervisor: Supervisor,
        watch: TopicWatch,
        group: Group,
        made_anew: set[str],
    ) -> None:
        self._name = name
        self._settings = settings
        self._codecs = codecs
        self._patience = patience
        self._watch = watch
        self._partitions: dict[int, MaterializedPartition] = {}
        self._deciding = Deciding(kafka, codecs, conversion, settings.guard, supervisor)
        self._longest_fold_s = settings.max_poll_s * _SHARE_OF_POLL
        self._committed_at = self._heard_at = time.monotonic()
        self._assignments = 0
        self._lost = False
        self._closing = False
        self._starts: list[TopicPartition] = []
        self._read: list[TopicPartition] = []
        self._fault: Exception | None = None
        self._reporting = Reporting()
        self._take_over = TakeOver(
            kafka, settings, conversion, codecs, name, group=group, patience=patience, made_anew=made_anew
        )
        self._made_anew = made_anew
        self._subscribing = Subscribing([*settings.event_topics, CONTROL_EVENTS])
        self._consumer = make_consumer(
            kafka,
            name,
            {
                "group.id": settings.group,
                "group.instance.id": name,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                # range keeps the same partition of every input topic with one process
                "partition.assignment.strategy": "range",
                "session.timeout.ms": int(settings.session_timeout_s * 1000),
                "heartbeat.interval.ms": 1500,
                "max.poll.interval.ms": int(settings.max_poll_s * 1000),
                "topic.metadata.refresh.interval.ms": 10_000,  # when another datacenter's topic appears
                "queued.max.messages.kbytes": 16_384,
                **LARGE_RECORDS,
            },
        )
        self._writer = TransactionWriter(kafka, settings, codecs, name, patience=patience, supervisor=supervisor)

    def run(self, report: Callable[[Status], None]) -> None:
        """Reads, folds and publishes until the process is to stop.

        Raises:
            KafkaException: Kafka failed, or refuses; also what a callback met.
            LogChangedError: a topic was made anew under it.
            StoppedError: the process is to stop.
        """
        self._writer.start()
        self._subscribe(self._subscribing.topics)
        reported_at = 0.0
        while True:
            self._patience.turn()
            first = self._consumer.poll(_POLL_S)
            messages = [] if first is None else [first, *self._consumer.consume(self._settings.max_batch, 0)]
            if self._fault is not None:
                raise self._fault
            if self._lost:
                # Kafka was away for longer than a session: the partitions may be another process's. Consumer and
                # producer are made anew, for librdkafka's producers do not always survive that.
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "partitions lost"))
            if self._starts:
                # What was read while partitions changed hands may be of the former assignment, and out of order
                # for the new one: it is read again.
                messages = []
                self._read_from(self._starts)
                self._starts = []
            self._look_for_silence(messages)
            quarantined = self._fold(messages)
            self._publish(quarantined)
            self._deciding.carry_out(self._partitions, self._commit)
            if time.monotonic() - reported_at > _REPORT_S:
                reported_at = time.monotonic()
                self._look_at_topics()
                report(self._reporting.report(self._partitions.values(), self._deciding.waiting()))
                self._measure_lag()

    def _subscribe(self, topics: list[str]) -> None:
        self._consumer.subscribe(
            topics, on_assign=self._on_assign, on_revoke=self._revoked, on_lost=self._lost_membership
        )

    def _look_at_topics(self) -> None:
        """Heeds topics that were made anew, and those that the group forgot to hand out.

        Raises:
            LogChangedError: what was read of one of them counts for nothing.
        """
        changed = self._watch.take_made_anew()
        self._made_anew |= changed & {*self._subscribing.topics}
        if changed := changed & {SNAPSHOTS, *(tp.topic for tp in self._read)}:
            raise LogChangedError(changed, "deleted and made anew")
        assigned = {(tp.topic, tp.partition) for tp in self._read}
        topics = self._subscribing.next(assigned, self._assignments, self._watch.present, time.monotonic())
        if topics is not None:
            self._subscribe(topics)

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
        self._deciding.close()
        self._writer.close()
        close_consumer(self._consumer, leave=self._lost)

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        """Takes partitions over; a fault is kept for `run`.

        What a callback raises comes out of poll or close as something that is no exception of Kafka's client, and
        would end the process; and when it closes, the client may still be handed partitions.
        """
        if self._closing:
            return
        try:
            taken = self._take_over.take(consumer, assigned)
        except Exception as error:  # noqa: BLE001 - raised by `run`
            self._fault = error
            return
        self._partitions.update(taken.partitions)
        for number in taken.partitions:
            self._deciding.begin(number)
        self._starts = taken.starts
        self._assignments += 1
        consumer.assign(self._starts)
        metrics.PARTITIONS.set(len(self._partitions))
        _log.info("partitions_assigned", partitions=sorted(taken.partitions))

    def _read_from(self, starts: list[TopicPartition]) -> None:
        self._heard_at, self._read = time.monotonic(), starts
        self._consumer.assign(starts)
        # Decisions are carried out in the present, behind what is recovered.
        self._consumer.pause(
            [tp for tp in starts if tp.topic == CONTROL_EVENTS and self._partitions[tp.partition].recovering]
        )

    def _look_for_silence(self, messages: list[Message]) -> None:
        """Asks again for what a recovery waits for."""
        if messages:
            self._heard_at = time.monotonic()
            return
        recovering = [partition for partition in self._partitions.values() if partition.recovering]
        if not recovering or time.monotonic() - self._heard_at < _SILENCE_S:
            return
        _log.warning("recovery_silent", partitions=[partition.number for partition in recovering])
        self._read_from(self._positions())

    def _positions(self) -> list[TopicPartition]:
        """Where reading goes on, behind what is folded."""
        positions = {
            (topic, partition.number): offset
            for partition in self._partitions.values()
            for topic, offset in partition.next_offsets.items()
        }
        return [
            TopicPartition(tp.topic, tp.partition, positions.get((tp.topic, tp.partition), tp.offset))
            for tp in self._read
        ]

    def _revoked(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        self._starts, self._read = [], []
        for tp in revoked:
            self._partitions.pop(tp.partition, None)
            self._deciding.end(tp.partition)
        metrics.PARTITIONS.set(len(self._partitions))

    def _lost_membership(self, consumer: Consumer, lost: list[TopicPartition]) -> None:
        self._revoked(consumer, lost)
        self._lost = True

    def _fold(self, messages: list[Message]) -> list[Quarantined]:
        """Folds the records in; what of them can't be used comes back.

        A batch that takes long is cut, and what is left of it read again: only who polls stays a member.
        """
        quarantined: list[Quarantined] = []
        records, until = 0, time.monotonic() + self._longest_fold_s
        for message in messages:
            if records and time.monotonic() > until:
                _log.warning("batch_cut", records=records, of=len(messages))
                self._read_from(self._positions())
                break
            error = message.error()
            topic, number, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            partition = self._partitions.get(number)
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's name
                    self._note(message, error)
                elif partition is not None:
                    partition.reach_end(topic, offset)
                    self._recover_where_caught_up(partition, quarantined)
                continue
            if partition is None:
                continue
            records += 1
            if offset < partition.next_offsets.get(topic, 0):
                raise LogChangedError([topic], f"offset {offset} of partition {number} came behind higher ones")
            if partition.recovering:
                partition.reach(topic, offset)
                # Events of this batch behind the last commit must not be compared with what stands published.
                self._recover_where_caught_up(partition, quarantined)
            faults = self._take(partition, topic, offset, message.value())
            if faults and (topic == CONTROL_EVENTS or offset >= partition.first_read[topic]):
                # Others were set aside when they were first read.
                quarantined += [of_record(message, fault) for fault in faults]
            if partition.recovering:
                self._recover_where_caught_up(partition, quarantined)
        if records:
            metrics.BATCH.observe(records)
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
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            # A datacenter whose events are not mirrored yet, or a topic that was deleted: the others go on.
            _log.warning("topic_missing", topic=message.topic())
        elif not error.retriable():
            raise KafkaException(error)

    def _recover_where_caught_up(self, partition: MaterializedPartition, quarantined: list[Quarantined]) -> None:
        if partition.recovering and partition.has_caught_up():
            self._recover(partition, quarantined)

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
            "partition_recovered",
            partition=partition.number,
            differing_namespaces=len(differing),
            compare_s=round(time.monotonic() - started, 3),
        )

    def _publish(self, quarantined: list[Quarantined]) -> None:
        """Commits what the batch changed; offsets alone only now and then."""
        for partition in self._partitions.values():
            partition.count_applied()
            self._recover_where_caught_up(partition, quarantined)
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
            self._made_anew.difference_update(tp.topic for tp in offsets)

    def _offset_of(self, partition: MaterializedPartition, topic: str, offset: int) -> TopicPartition:
        if topic == CONTROL_EVENTS:
            waiting = self._deciding.first_waiting(partition.number)
            return TopicPartition(topic, partition.number, offset if waiting is None else waiting)
        metadata = to_metadata(
            partition.recovery_offset(topic), self._name, is_unsettled=partition.is_unsettled(topic)
        )
        return TopicPartition(topic, partition.number, offset, metadata=metadata)
