"""Writes to Kafka without ever making its caller wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from confluent_kafka import KafkaException

from runtime.errors import KafkaUnusableError
from runtime.kafka_clients import make_producer
from runtime.kafka_permissions import explain
from schemas.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError, Message, Producer

    from runtime.settings import KafkaSettings
    from runtime.supervision import Supervisor

_log = structlog.get_logger()


def lasting_producer(
    kafka: KafkaSettings, client_id: str, max_queued_records: int, max_queued_bytes: int
) -> Producer:
    """A producer that keeps what it took until Kafka has it, in order."""
    own: dict[str, Any] = {
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 1,
        "message.timeout.ms": 0,  # never: what was taken must reach the log, in order
        "message.max.bytes": MAX_RECORD_BYTES,
        "queue.buffering.max.messages": max_queued_records,
        "queue.buffering.max.kbytes": max(1, max_queued_bytes // 1024),
        "error_cb": _log_error,
    }
    return make_producer(kafka, client_id, own)


def serve(producer: Producer, kafka: KafkaSettings, timeout_s: float) -> None:
    """Serves a producer's call backs, for so long.

    Raises:
        KafkaUnusableError: the producer can write no more (a login without permissions, another one's id).
    """
    try:
        producer.poll(timeout_s)
    except KafkaException as error:
        raise KafkaUnusableError(f"Kafka lets it write no more: {explain(kafka, error.args[0])}") from None


class LostRecord(NamedTuple):
    """A record that Kafka refused for good, and librdkafka's name of the error."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    reason: str


class KafkaWriter:
    """An idempotent producer with a bounded queue and a thread that serves its delivery reports.

    `write` never blocks: it answers False when the queue is full, and the caller tries again later. What was
    taken is kept until Kafka has it, however long it is away, and in order; only a fatal error loses it.
    `on_delivered(bytes)` and `on_lost(record)` are called on the writer's thread.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        client_id: str,
        max_queued_records: int,
        max_queued_bytes: int,
        supervisor: Supervisor,
        on_delivered: Callable[[int], None] | None = None,
        on_lost: Callable[[LostRecord], None] | None = None,
    ) -> None:
        self._kafka = kafka
        self._on_delivered = on_delivered
        self._on_lost = on_lost
        self._producer = lasting_producer(kafka, client_id, max_queued_records, max_queued_bytes)
        self._stop = threading.Event()
        self._thread = supervisor.thread("kafka writer", self._serve)
        self._thread.start()

    def write(self, topic: str, *, partition: int, key: bytes, value: bytes | None) -> bool:
        """Queues a record; False when the queue is full.

        Raises:
            KafkaException: the record can't be sent at all (too large, fatal producer error).
        """
        try:
            self._producer.produce(topic, value=value, key=key, partition=partition, on_delivery=self._delivered)
        except BufferError:
            return False
        return True

    @property
    def queued(self) -> int:
        """Records that Kafka does not have yet."""
        return len(self._producer)

    def flush(self, timeout_s: float) -> int:
        """Waits for what is queued, for so long at most; the number of records that are left."""
        return self._producer.flush(timeout_s)

    def close(self, timeout_s: float) -> int:
        """Waits for what is queued, for so long at most; the number of records given up."""
        left = self._producer.flush(timeout_s)
        self._thread.end()
        self._stop.set()
        self._thread.join(timeout=5)
        return left

    def _serve(self) -> None:
        while not self._stop.is_set():
            serve(self._producer, self._kafka, 0.2)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            if self._on_lost is not None:
                lost = LostRecord(
                    message.topic() or "", message.partition() or 0, message.key(), message.value(), error.name()
                )
                self._on_lost(lost)
        elif self._on_delivered is not None:
            self._on_delivered(len(message))


def _log_error(error: KafkaError) -> None:
    _log.warning("kafka writer", error=error.str(), fatal=error.fatal())
