"""Partitions that the group gives to this process: what stands published, and where their topics are read from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumers import metrics
from consumers.materializer.partition import MaterializedPartition
from consumers.materializer.recovery import LogBounds, begin_control, begin_events, from_metadata
from consumers.materializer.snapshot_reader import read_published
from schemas.topics import CONTROL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from confluent_kafka import Consumer

    from consumers.materializer.group import Group
    from consumers.materializer.patience import Patience
    from consumers.materializer.view import PublishedNamespace
    from consumers.settings import ConversionSettings, MaterializerSettings
    from runtime.settings import KafkaSettings
    from schemas.avro_codec import Codecs
    from schemas.events import Namespace
    from schemas.records import Manifest

_log = structlog.get_logger()

_STEP_S = 1.0
_LIMIT_S = 60.0


class TakenOver(NamedTuple):
    """The partitions by number, and the offsets from which all their topics are read."""

    partitions: dict[int, MaterializedPartition]
    starts: list[TopicPartition]


class TakeOver:
    """Takes partitions over; blocks while Kafka is asked. Belongs to the engine's thread.

    Topics in `made_anew` are known to have been, whatever their offsets look like.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: MaterializerSettings,
        conversion: ConversionSettings,
        codecs: Codecs,
        name: str,
        *,
        group: Group,
        patience: Patience,
        made_anew: Collection[str],
    ) -> None:
        self._kafka = kafka
        self._settings = settings
        self._conversion = conversion
        self._codecs = codecs
        self._name = name
        self._group = group
        self._patience = patience
        self._made_anew = made_anew

    def take(self, consumer: Consumer, assigned: list[TopicPartition]) -> TakenOver:
        """The partitions as they are to be recovered.

        Raises:
            KafkaException: Kafka can't be asked or read.
            StoppedError: the process is to stop.
        """
        assigned = self._owned(assigned)
        # Offsets that an open transaction holds are not told before it ends.
        self._group.end_transactions_of_former_owners(assigned, self._name)
        committed = self._patience.until_done(
            "the group's offsets", lambda: consumer.committed(assigned, timeout=_STEP_S), _LIMIT_S
        )
        bounds = {(tp.topic, tp.partition): self._bounds(consumer, tp) for tp in committed}
        numbers = sorted({tp.partition for tp in committed})
        published = read_published(self._kafka, self._codecs, numbers, self._name, each_turn=self._patience.turn)
        taken = TakenOver({}, [])
        for number in numbers:
            here = [tp for tp in committed if tp.partition == number]
            taken.partitions[number], starts = self._begin(number, here, bounds, published[number])
            taken.starts.extend(starts)
        return taken

    def _owned(self, assigned: list[TopicPartition]) -> list[TopicPartition]:
        """Those of partitions that are ours: their first event topic is, or their control topic without one.

        While materializers with different event topics are in the group, as in a rolling restart, the topics of
        one partition may be spread over several of them.
        """
        first = self._settings.event_topics[0]
        deciding = first if any(tp.topic == first for tp in assigned) else CONTROL_EVENTS
        numbers = {tp.partition for tp in assigned if tp.topic == deciding}
        return [tp for tp in assigned if tp.partition in numbers]

    def _begin(
        self,
        number: int,
        committed: Iterable[TopicPartition],
        bounds: Mapping[tuple[str, int], LogBounds],
        published: dict[Namespace, PublishedNamespace],
    ) -> tuple[MaterializedPartition, list[TopicPartition]]:
        manifests = [one.manifest for one in published.values() if one.manifest is not None]
        partition = MaterializedPartition(
            number=number,
            settings=self._conversion,
            guard=self._settings.guard,
            expected=self._settings.expected,
            published=published,
        )
        starts = []
        for tp in committed:
            found, log = from_metadata(tp.offset, tp.metadata), bounds[tp.topic, number]
            if tp.topic == CONTROL_EVENTS:
                control = begin_control(
                    found, log, decided_to=_latest(manifests, tp.topic), is_published=bool(manifests)
                )
                partition.control_void_from = control.void_from
                if control.void_from is not None:
                    _log.error("control_topic_began_anew", partition=number, committed=found.offset, end=log.end)
                starts.append(TopicPartition(tp.topic, number, control.start))
                continue
            folded_to = max((m.folded_to[tp.topic] for m in manifests if tp.topic in m.folded_to), default=None)
            beginning = begin_events(found, log, folded_to)
            if beginning.fault is not None:
                metrics.LOG_FAULTS.labels(beginning.fault).inc()
                _log.error(
                    "log_not_as_folded", topic=tp.topic, partition=number, fault=beginning.fault.value,
                    committed=found.offset, recover_from=found.recover_from, folded_to=folded_to,
                    earliest=log.earliest, end=log.end,
                )  # fmt: skip
            partition.begin(tp.topic, beginning)
            starts.append(TopicPartition(tp.topic, number, beginning.start))
        return partition, starts

    def _bounds(self, consumer: Consumer, tp: TopicPartition) -> LogBounds:
        def ask() -> tuple[int, int]:
            found = consumer.get_watermark_offsets(TopicPartition(tp.topic, tp.partition), timeout=_STEP_S)
            if found is None:
                timed_out = KafkaError._TIMED_OUT  # noqa: SLF001 - confluent-kafka's name
                raise KafkaException(KafkaError(timed_out, "no answer in time", retriable=True))
            return found

        earliest, end = self._patience.until_done(f"the offsets of {tp.topic}", ask, _LIMIT_S)
        return LogBounds(earliest=earliest, end=end, is_made_anew=tp.topic in self._made_anew)


def _latest(manifests: Iterable[Manifest], topic: str) -> int | None:
    """The latest offset of a topic that any of their versions names."""
    return max((m.version[topic] for m in manifests if topic in m.version), default=None)
