"""Writes decisions to the control topic, and reads what became of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaException, TopicPartition

from runtime.errors import KafkaUnusableError
from runtime.kafka_clients import make_producer, partitions_of
from runtime.kafka_permissions import explain
from runtime.kafka_reader import PartitionReader, ungrouped_consumer
from schemas.errors import UndecodableRecordError
from schemas.partitioner import partition_of
from schemas.topics import (
    CONTROL_EVENTS,
    QUARANTINE,
    SNAPSHOT_HISTORY,
    SNAPSHOTS,
    ManifestKey,
    decode_snapshot_key,
)
from shiplog.errors import CommandError, DecisionRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from confluent_kafka import KafkaError, Message

    from runtime.settings import KafkaSettings
    from schemas.avro_codec import Codecs
    from schemas.control import ControlEvent
    from schemas.events import Namespace
    from schemas.records import Manifest

_TIMEOUT_S = 10.0


class ControlClient:
    """Talks to Kafka only; the materializer of the namespace's partition carries decisions out.

    Raises KafkaUnusableError where Kafka can't be reached. Use it as a context.
    """

    def __init__(self, kafka: KafkaSettings, codecs: Codecs, client_id: str = "shiplog-control") -> None:
        self._client_id = client_id
        self._kafka = kafka
        self._codecs = codecs
        self._consumer = ungrouped_consumer(kafka, self._client_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()
        if isinstance(error, KafkaException):
            raise KafkaUnusableError(
                f"Kafka at {self._kafka.servers}: {explain(self._kafka, error.args[0])}"
            ) from error

    def manifests(self) -> dict[Namespace, Manifest]:
        """What stands published, of every namespace."""
        found: dict[Namespace, Manifest] = {}
        for number in range(self._partitions(SNAPSHOTS)):
            for message in self._read_whole(SNAPSHOTS, number):
                value = message.value()
                if isinstance(decode_snapshot_key(message.key()), ManifestKey) and value is not None:
                    manifest = self._codecs.manifest.decode(value)
                    found[manifest.namespace] = manifest
        return found

    def resources(self, namespace: Namespace) -> dict[tuple[str, str], str]:
        """The versions of what stands published of a namespace, by collection and name."""
        found: dict[tuple[str, str], str] = {}
        for message in self._read_whole(SNAPSHOTS, partition_of(namespace, self._partitions(SNAPSHOTS))):
            key, value = decode_snapshot_key(message.key()), message.value()
            if isinstance(key, ManifestKey) or key.namespace != namespace:
                continue
            if value is None:
                found.pop((key.collection, key.name), None)
            else:
                found[key.collection, key.name] = self._codecs.resource.decode(value).version
        return found

    def history(self, namespace: Namespace) -> Iterator[Manifest]:
        """Every manifest of a namespace within retention, oldest first."""
        number = partition_of(namespace, self._partitions(SNAPSHOT_HISTORY))
        for message in self._read_whole(SNAPSHOT_HISTORY, number):
            if message.key() == namespace.encode():
                yield self._codecs.manifest.decode(message.value())

    def decide(self, event: ControlEvent, wait_s: float) -> Manifest | None:
        """Writes the decision, and waits until it is carried out; the manifest that says so, None if not waiting.

        Raises:
            DecisionRefusedError: it can't be carried out.
            CommandError: nothing was heard of it for so long.
        """
        number = partition_of(event.namespace, self._partitions(CONTROL_EVENTS))
        answers = [TopicPartition(SNAPSHOT_HISTORY, number)]
        answers += [TopicPartition(QUARANTINE, other) for other in range(self._partitions(QUARANTINE))]
        for one in answers:
            one.offset = self._ends(one)[1]
        offset = self._write(event, number)
        if not wait_s:
            return None
        self._consumer.assign(answers)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            for message in self._consumer.consume(500, timeout=0.2):
                found = self._answer(message, event, number, offset) if message.error() is None else None
                if found is not None:
                    return found
        raise CommandError(
            f"written at offset {offset} of {CONTROL_EVENTS}, partition {number}, and not carried out within "
            f"{wait_s:.0f} s: is a materializer running? It will be when one does; see `shiplog control list`"
        )

    def _answer(self, message: Message, event: ControlEvent, number: int, offset: int) -> Manifest | None:
        if message.topic() == SNAPSHOT_HISTORY:
            if message.key() != event.namespace.encode():
                return None
            manifest = self._codecs.manifest.decode(message.value())
            return manifest if manifest.version.get(CONTROL_EVENTS, -1) >= offset else None
        try:
            refused = self._codecs.quarantined.decode(message.value())
        except UndecodableRecordError:
            return None
        if (refused.topic, refused.partition, refused.offset) == (CONTROL_EVENTS, number, offset):
            raise DecisionRefusedError(f"refused: {refused.detail}")
        return None

    def _write(self, event: ControlEvent, number: int) -> int:
        written: list[int] = []
        failed: list[str] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(explain(self._kafka, error))
            else:
                written.append(message.offset() or 0)

        own = {"enable.idempotence": True, "message.timeout.ms": int(_TIMEOUT_S * 1000)}
        producer = make_producer(self._kafka, self._client_id, own)
        producer.produce(
            CONTROL_EVENTS,
            partition=number,
            key=event.namespace.encode(),
            value=self._codecs.control_event.encode(event),
            on_delivery=delivered,
        )
        producer.flush(_TIMEOUT_S + 1)
        if not written:
            raise KafkaUnusableError(f"cannot write to {CONTROL_EVENTS}: {' '.join(failed) or 'no answer'}")
        return written[0]

    def _partitions(self, topic: str) -> int:
        return len(partitions_of(self._consumer, self._kafka, topic))

    def _ends(self, partition: TopicPartition) -> tuple[int, int]:
        found = self._consumer.get_watermark_offsets(partition, timeout=_TIMEOUT_S)
        return found or (0, 0)

    def _read_whole(self, topic: str, number: int) -> Iterator[Message]:
        with PartitionReader(self._kafka, self._client_id, number) as reader:
            yield from reader.read(topic)
