"""Writes to one topic in batches, several times a second: for many small records that nobody waits for.

One by one, a record costs its writer 4 us, and a call under the interpreter's lock, on another thread, as soon as
Kafka has it: two records a push were half of what a gateway does (`python -m bench pilots`). In a batch a record
costs 1 us; and since Kafka takes a partition's records in order, only the last one of each has to call back.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import KafkaException

from runtime.kafka_writer import lasting_producer, serve
from schemas.partitioner import partition_of_key

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from runtime.settings import KafkaSettings
    from runtime.supervision import Supervisor

BATCH_S = 0.1
_METADATA_S = 5.0

_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Batch:
    """Records that were written after a moment, and of how many partitions' last ones Kafka has yet to speak."""

    since: float
    records: int = 0
    bytes: int = 0
    waits_for: int = 1  # for itself, until it is handed over


class KafkaBatchWriter:
    """An idempotent producer of one topic with a bounded queue, and a thread that hands the queue over.

    `write` and `whole_until` never wait, and belong to one thread. What was taken is kept until Kafka has it,
    however long it is away, in the order of its key. Records that Kafka refuses for good are counted in `lost`:
    all of a batch and partition, for it takes or refuses these together. So are those of a batch that could not be
    handed over at all.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        topic: str,
        client_id: str,
        max_queued_records: int,
        max_queued_bytes: int,
        supervisor: Supervisor,
    ) -> None:
        self.lost = 0
        self._kafka = kafka
        self._topic = topic
        self._max_records, self._max_bytes = max_queued_records, max_queued_bytes
        self._queue: deque[tuple[bytes, bytes]] = deque()
        self._batches: deque[_Batch] = deque()
        # Each is counted on one thread only; what is queued is the difference.
        self._records_taken = self._bytes_taken = 0
        self._records_settled = self._bytes_settled = 0
        self._collected_at = time.time()
        self._partitions = 0
        # Twice of what is ever handed over, so that this queue's limits are those that count.
        self._producer = lasting_producer(kafka, client_id, 2 * max_queued_records, 2 * max_queued_bytes)
        self._stop = threading.Event()
        self._thread = supervisor.thread("kafka batch writer", self._serve)
        self._thread.start()

    def write(self, key: bytes, value: bytes) -> bool:
        """Queues a record; False when the queue is full."""
        if self.queued >= self._max_records or self._bytes_taken - self._bytes_settled >= self._max_bytes:
            return False
        self._records_taken += 1
        self._bytes_taken += len(value)
        self._queue.append((key, value))
        return True

    def whole_until(self) -> float:
        """Until when, seconds (UTC), everything that was written is in Kafka, but for what is `lost`.

        Read this before `lost`. In steps of a tenth of a second: what was written in one counts as a whole.
        """
        collected_at = self._collected_at
        try:
            return self._batches[0].since
        except IndexError:
            return collected_at

    @property
    def queued(self) -> int:
        """Records that Kafka does not have yet."""
        return self._records_taken - self._records_settled

    def flush(self, timeout_s: float) -> int:
        """Waits for what is queued, for so long at most; the number of records that are left."""
        deadline = time.monotonic() + timeout_s
        while self.queued and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.queued

    def close(self, timeout_s: float) -> int:
        """Waits for what is queued, for so long at most; the number of records given up."""
        left = self.flush(timeout_s)
        self._thread.end()
        self._stop.set()
        self._thread.join(timeout=_METADATA_S + 1)
        return left

    def _serve(self) -> None:
        while not self._stop.wait(BATCH_S):
            serve(self._producer, self._kafka, 0)
            while self._batches and self._batches[0].waits_for <= 0:
                settled = self._batches.popleft()
                self._records_settled += settled.records
                self._bytes_settled += settled.bytes
            try:
                self._hand_over()
            except KafkaException as error:
                # The topic can't be looked up: nothing was taken from the queue.
                _log.warning("records can't be handed to Kafka", topic=self._topic, error=str(error))

    def _hand_over(self) -> None:
        """Everything that was written by now, with a call back for the last record of each partition."""
        now = time.time()  # before the look at the queue: what is written behind that is younger
        if not self._queue:
            self._collected_at = now
            return
        if not self._partitions:
            found = self._producer.list_topics(self._topic, timeout=_METADATA_S).topics.get(self._topic)
            if found is None or not found.partitions:
                _log.warning("there is no such topic", topic=self._topic)
                return
            self._partitions = len(found.partitions)
        # In this order: `whole_until` reads the time before it looks at the batches.
        batch = _Batch(self._collected_at)
        self._batches.append(batch)
        self._collected_at = now
        records = [self._queue.popleft() for _ in range(len(self._queue))]
        batch.records = len(records)
        batch.bytes = sum(len(value) for _, value in records)
        try:
            self._produce(batch, records)
        except Exception:  # noqa: BLE001 - counted and logged: the next batch may be well
            # Counted before the batch is let go: nothing is called whole that has a loss in it.
            _log.exception("batch_lost", topic=self._topic, records=batch.records)
            self.lost += batch.records
            batch.waits_for = 0

    def _produce(self, batch: _Batch, records: list[tuple[bytes, bytes]]) -> None:
        messages: list[dict[str, Any]] = []
        last: dict[int, tuple[int, int]] = {}
        for key, value in records:
            where = _partition_of(key, self._partitions)
            last[where] = (len(messages), last.get(where, (0, 0))[1] + 1)
            messages.append({"key": key, "value": value, "partition": where})
        for index, count in last.values():
            messages[index]["callback"] = partial(self._settle, batch, count)
        batch.waits_for += len(last)
        self._producer.produce_batch(self._topic, messages)
        batch.waits_for -= 1
        for message in messages:
            if "_error" in message:
                self._refused(batch, message)

    def _refused(self, batch: _Batch, message: dict[str, Any]) -> None:
        _log.error("a record can't be handed to Kafka", topic=self._topic, error=str(message["_error"]))
        self.lost += 1
        if "callback" in message:
            batch.waits_for -= 1

    def _settle(self, batch: _Batch, count: int, error: KafkaError | None, _: Message) -> None:
        """Kafka has the last record of a partition, or never will: `count` are of that partition and batch."""
        if error is not None:
            _log.error("records are lost", topic=self._topic, at_most=count, error=error.str())
            self.lost += count
        batch.waits_for -= 1


_partition_of = lru_cache(maxsize=16_384)(partition_of_key)
