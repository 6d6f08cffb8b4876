"""Writes a session's events to Kafka, while the partition is held, within the size that Kafka takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException

from producers import metrics
from schemas.errors import UndecodableRecordError
from schemas.topics import MAX_RECORD_BYTES, REGISTRY_EVENTS

if TYPE_CHECKING:
    from producers.listener.ownership import Ownership
    from producers.listener.session import Session
    from runtime.kafka_writer import KafkaWriter, LostRecord
    from schemas.avro_codec import AvroCodec
    from schemas.events import Namespace, RegistryBody, RegistryEvent

_log = structlog.get_logger()

_TOO_LARGE = "MSG_SIZE_TOO_LARGE"
_OVERHEAD_BYTES = 64 * 1024
"""Of a record's key, headers and batch: more than they take."""
_PART_BYTES = 4 * 1024 * 1024
_BATCH_BYTES = 1_000_000
"""What librdkafka puts into one batch: a smaller record may have been refused because of its neighbours."""
_LEAST_BYTES = 64 * 1024


class QueueFullError(Exception):
    """Kafka's client takes nothing more now."""


class GaveUpError(Exception):
    """The partition is not held any more."""


class EventLog:
    """Numbers, encodes and queues events; used on the event loop.

    When the topic turns out to take smaller records than shiplog's, `part_bytes` follows, so that large services
    are stated in smaller parts.
    """

    def __init__(
        self, codec: AvroCodec[RegistryEvent], writer: KafkaWriter, ownership: Ownership, *, datacenter: str
    ) -> None:
        self._codec = codec
        self._writer = writer
        self._ownership = ownership
        self._datacenter = datacenter
        self._limit = MAX_RECORD_BYTES - _OVERHEAD_BYTES
        self._refused_once: set[tuple[str, object]] = set()

    @property
    def part_bytes(self) -> int:
        """The size of a part of a service's state."""
        return min(_PART_BYTES, self._limit // 2)

    @property
    def limit(self) -> int:
        """The size from which on records are not tried."""
        return self._limit

    def forget_limit(self) -> None:
        """Larger records are tried again: somebody may have altered the topic."""
        self._limit = MAX_RECORD_BYTES - _OVERHEAD_BYTES
        self._refused_once.clear()

    def write(self, session: Session, namespace: Namespace, body: RegistryBody, at: int) -> bool:
        """Queues the session's next event; False when it is too large for the log and was left out.

        Raises:
            QueueFullError: not now.
            GaveUpError: the partition is not held any more.
            KafkaException: the producer is not usable any more.
        """
        value = self._codec.encode(session.event(namespace, body, at))
        if len(value) >= self._limit:
            return False
        with self._ownership.lock:
            if not self._ownership.holds(session.partition, session.epoch):
                raise GaveUpError
            try:
                taken = self._writer.write(
                    REGISTRY_EVENTS, partition=session.partition, key=namespace.encode(), value=value
                )
            except KafkaException as error:
                if error.args[0].name() != _TOO_LARGE:
                    raise
                return False
        if not taken:
            raise QueueFullError
        session.taken()
        metrics.EVENTS.labels(self._datacenter, metrics.namespace_label(namespace), type(body).__name__).inc()
        return True

    def read_lost(self, record: LostRecord) -> RegistryEvent | None:
        """The event in a record that Kafka refused, if it is one; learns what the topic takes."""
        metrics.LOST.labels(self._datacenter, record.reason).inc()
        if record.topic != REGISTRY_EVENTS:
            return None
        try:
            event = self._codec.decode(record.value)
        except UndecodableRecordError:
            _log.exception("lost_record_unreadable", partition=record.partition)
            return None
        size, kind = len(record.value or b""), type(event.body).__name__
        _log.warning("event_lost", namespace=event.namespace, kind=kind, bytes=size, reason=record.reason)
        if record.reason == _TOO_LARGE:
            self._learn(event, size)
        return event

    def _learn(self, event: RegistryEvent, size: int) -> None:
        about = (event.namespace, getattr(event.body, "key", None))
        is_by_itself = size >= _BATCH_BYTES or about in self._refused_once
        self._refused_once.add(about)
        if is_by_itself and _LEAST_BYTES <= size < self._limit:
            self._limit = size
            _log.error(
                "topic_takes_only_small_records",
                topic=REGISTRY_EVENTS,
                refused_bytes=size,
                remedy=f"set max.message.bytes of the topic to {MAX_RECORD_BYTES}",
            )
