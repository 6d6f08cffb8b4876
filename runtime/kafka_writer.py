"""Writes to Kafka without ever making its caller wait."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, Producer

from schemas.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message

    from runtime.settings import KafkaSettings

    _OnDelivery = Callable[[KafkaError | None, Message], None]  # on the writer's thread

_LOT_S = 0.1

_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Lot:
    """Tracked records that were written one after the other, from a moment on: counted, not listed."""

    since: float
    on_delivered: _OnDelivery
    taken: int = 0
    settled: int = 0

    def settle(self, error: KafkaError | None, message: Message) -> None:
        """Kafka has one of them, or never will; on the writer's thread."""
        self.settled += 1
        self.on_delivered(error, message)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is waited for; asked when no more are written."""
        return self.settled == self.taken


class KafkaWriter:
    """An idempotent producer with a bounded queue and a thread that serves its delivery reports.

    `write` never blocks: it answers False when the queue is full, and the caller tries again later. What was
    taken is kept until Kafka has it, however long it is away, and in order; only a fatal error loses it.
    `on_delivered(bytes)` and `on_lost(reason)` are called on the writer's thread.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        client_id: str,
        max_queued_records: int,
        max_queued_bytes: int,
        on_delivered: Callable[[int], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        self._on_delivered = on_delivered
        self._on_lost = on_lost
        self._lots = deque([_Lot(time.time(), self._delivered)])
        self._producer = Producer(
            kafka.client_config(client_id)
            | {
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 1,
                "message.timeout.ms": 0,  # never: what was taken must reach the log, in order
                "message.max.bytes": MAX_RECORD_BYTES,
                "queue.buffering.max.messages": max_queued_records,
                "queue.buffering.max.kbytes": max(1, max_queued_bytes // 1024),
                "error_cb": _log_error,
            }
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"{client_id}-delivery", daemon=True)
        self._thread.start()

    def write(self, topic: str, *, partition: int, key: bytes, value: bytes | None) -> bool:
        """Queues a record; False when the queue is full.

        Raises:
            KafkaException: the record can't be sent at all (too large, fatal producer error).
        """
        return self._produce(topic, partition, key, value, self._delivered)

    def write_tracked(self, topic: str, *, partition: int, key: bytes, value: bytes | None) -> bool:
        """As `write`, for a record that `whole_until` waits for; both are called on one thread."""
        lot, now = self._lots[-1], time.time()
        if now - lot.since > _LOT_S:
            lot = _Lot(now, self._delivered)
            self._lots.append(lot)
        taken = self._produce(topic, partition, key, value, lot.settle)
        lot.taken += taken
        return taken

    def whole_until(self) -> float:
        """Until when, seconds (UTC), every tracked record that was written is in Kafka.

        In steps of a tenth of a second: what was written in one counts as a whole.
        """
        now = time.time()
        self._lots.append(_Lot(now, self._delivered))
        while len(self._lots) > 1 and self._lots[0].is_settled:
            self._lots.popleft()
        return self._lots[0].since

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
        self._stop.set()
        self._thread.join(timeout=5)
        return left

    def _produce(
        self, topic: str, partition: int, key: bytes, value: bytes | None, on_delivery: _OnDelivery
    ) -> bool:
        try:
            self._producer.produce(topic, value=value, key=key, partition=partition, on_delivery=on_delivery)
        except BufferError:
            return False
        return True

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(0.2)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            if self._on_lost is not None:
                self._on_lost(error.name())
        elif self._on_delivered is not None:
            self._on_delivered(len(message))


def _log_error(error: KafkaError) -> None:
    _log.warning("kafka writer", error=error.str(), fatal=error.fatal())
