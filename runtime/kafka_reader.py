"""Reads a topic from its beginning, all partitions, without a group: replay, then tail."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from runtime.errors import KafkaUnusableError
from runtime.kafka_clients import make_consumer
from schemas.records import Quarantined
from schemas.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import Consumer, Message

    from runtime.settings import KafkaSettings
    from runtime.supervision import Supervisor
    from schemas.errors import UndecodableRecordError

_log = structlog.get_logger()

_TIMEOUT_S = 10.0
_DRAIN_S = 1.0
_SILENCE_S = 5.0
"""The end of a partition is told once, and was once not told at all: after so long it is asked for again."""

LARGE_RECORDS: Final[dict[str, int]] = {
    "fetch.message.max.bytes": MAX_RECORD_BYTES,
    "fetch.max.bytes": 4 * MAX_RECORD_BYTES,
    "receive.message.max.bytes": 4 * MAX_RECORD_BYTES + 1024,
}
"""What a consumer needs to take in our largest records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordBatch:
    """Records in the order of their partitions, and the partitions that are read behind them to where they ended.

    That end is the one at the start of the reader, or the present one if nothing more is there.
    """

    records: tuple[Message, ...]
    ends_reached: tuple[int, ...]


class KafkaReader:
    """A thread that reads every partition of a topic and hands over batches.

    `deliver` is called on that thread and may block: that is the back-pressure, nothing is read meanwhile
    beyond librdkafka's own queue. Reads only what is committed. Never commits; needs only read permission.
    While Kafka is away it waits, and goes on where it was; `in_touch_at` is when it last answered, seconds (UTC).
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        topic: str,
        client_id: str,
        deliver: Callable[[RecordBatch], None],
        supervisor: Supervisor,
        max_batch: int = 2000,
        queued_kbytes: int = 65536,
    ) -> None:
        self._topic = topic
        self._deliver = deliver
        self._max_batch = max_batch
        self._stop = threading.Event()
        self._ends: dict[int, int] = {}
        self.in_touch_at = 0.0
        self._thread = supervisor.thread(f"reader of {topic}", self._run)
        self._consumer = ungrouped_consumer(kafka, client_id, when_gone="earliest", queued_kbytes=queued_kbytes)

    def start(self) -> int:
        """Starts reading; the number of partitions.

        Raises:
            KafkaUnusableError: Kafka can't be reached or the topic does not exist.
        """
        try:
            metadata = self._consumer.list_topics(self._topic, timeout=20).topics[self._topic]
        except KafkaException as error:
            raise KafkaUnusableError(f"cannot read {self._topic}: {error.args[0].str()}") from error
        if metadata.error is not None:
            raise KafkaUnusableError(f"cannot read {self._topic}: {metadata.error.str()}")
        partitions = sorted(metadata.partitions)
        for number in partitions:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=20)
            self._ends[number] = end
        self._consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in partitions])
        self.in_touch_at = time.time()
        self._thread.start()
        return len(partitions)

    def stop(self) -> None:
        """Ends the thread; `deliver` is not called afterwards."""
        self._thread.end()
        self._stop.set()
        self._thread.join(timeout=10)
        self._consumer.close()

    def _keep_in_touch(self) -> None:
        """A quiet topic and a Kafka that is away look the same: asks, when it was quiet for long."""
        if time.time() - self.in_touch_at < _SILENCE_S:
            return
        with suppress(KafkaException):
            self._consumer.list_topics(self._topic, timeout=1.0)
            self.in_touch_at = time.time()

    def _run(self) -> None:
        while not self._stop.is_set():
            # One blocking poll for the first record, then what is there: consume(n, t) would wait for n.
            first = self._consumer.poll(0.2)
            if first is None:
                self._keep_in_touch()
                continue
            messages = [first, *self._consumer.consume(self._max_batch, timeout=0)]
            records = []
            ends = []
            for message in messages:
                error = message.error()
                number = message.partition() or 0
                if error is None:
                    records.append(message)
                    # On a busy topic the end is never reached: where it was at the start is what counts.
                    if number in self._ends and (message.offset() or 0) >= self._ends[number] - 1:
                        ends.append(number)
                        del self._ends[number]
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's name
                    ends.append(number)
                    self._ends.pop(number, None)
                else:
                    _log.warning("kafka reader", topic=self._topic, error=error.str())
            if records or ends:
                self.in_touch_at = time.time()
            if (records or ends) and not self._stop.is_set():
                self._deliver(RecordBatch(records=tuple(records), ends_reached=tuple(ends)))


def ungrouped_consumer(
    kafka: KafkaSettings,
    client_id: str,
    *,
    when_gone: str = "error",
    queued_kbytes: int = 16_384,
    fetch_wait_ms: int = 500,
) -> Consumer:
    """A consumer that joins no group, commits nothing, sees what is committed, and tells the ends of partitions.

    It needs only read permission. `when_gone`, as `auto.offset.reset`, is for an offset that is not there.
    """
    return make_consumer(
        kafka,
        client_id,
        {
            "group.id": f"{client_id}-unused",  # librdkafka wants one; nothing joins or commits
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": when_gone,
            "queued.max.messages.kbytes": queued_kbytes,
            "fetch.wait.max.ms": fetch_wait_ms,
            **LARGE_RECORDS,
        },
    )


class PartitionReader:
    """Reads ranges of one partition number, of any topic, one range at a time. Use it as a context.

    Raises KafkaException where Kafka can't be read.
    """

    def __init__(self, kafka: KafkaSettings, client_id: str, number: int) -> None:
        # A broker answers one request of a connection after the other: a fetch that waits holds up every question.
        self._consumer = ungrouped_consumer(kafka, client_id, fetch_wait_ms=10)
        self._number = number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def bounds(self, topic: str) -> tuple[int, int]:
        """The first offset that is there, and the one behind the last."""
        found = self._consumer.get_watermark_offsets(TopicPartition(topic, self._number), timeout=_TIMEOUT_S)
        return found or (0, 0)

    def offset_at(self, topic: str, time_ms: int) -> int:
        """The first offset that is not older than that time; the end when all are."""
        asked = TopicPartition(topic, self._number, time_ms)
        found = self._consumer.offsets_for_times([asked], timeout=_TIMEOUT_S)[0].offset
        return found if found >= 0 else self.bounds(topic)[1]

    def read(self, topic: str, first: int = 0, end: int | None = None) -> Iterator[Message]:
        """The committed records from offset `first` up to before `end`, as far as there are any now."""
        earliest, latest = self.bounds(topic)
        following, end = max(first, earliest), latest if end is None else min(end, latest)
        heard_at = 0.0
        while following < end:
            if time.monotonic() - heard_at > _SILENCE_S:
                heard_at = time.monotonic()
                self._consumer.assign([TopicPartition(topic, self._number, following)])
            messages = self._some()
            if messages:
                heard_at = time.monotonic()
            for message in messages:
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's name
                        return
                    if not error.retriable():
                        raise KafkaException(error)
                    continue
                following = message.offset() + 1  # type: ignore[operator]  # whatever was read has one
                if following > end:
                    return
                yield message

    def _some(self) -> list[Message]:
        """What is there, at once: consume(n, t) would wait for n."""
        first = self._consumer.poll(0.2)
        return [] if first is None else [first, *self._consumer.consume(1000, timeout=0)]


def close_consumer(consumer: Consumer, *, leave: bool, timeout_s: float = 5.0) -> None:
    """Ends the group membership; gives up after so long, because a client whose broker stood still may hang.

    A static member that does not `leave` gets its partitions back if it joins again within the session timeout.
    Rebalance callbacks run on another thread meanwhile. What is left behind is fenced by who comes next under
    its name.
    """
    closing = threading.Thread(target=_close, args=(consumer, leave), name="close-consumer", daemon=True)
    closing.start()
    closing.join(timeout_s)
    if closing.is_alive():
        _log.warning("a consumer does not close; it is left behind")


def _close(consumer: Consumer, leave: bool) -> None:  # noqa: FBT001 - a thread's argument
    # An assignment that is answered after the close has begun never returns, and with confluent-kafka holds the
    # interpreter's lock meanwhile (librdkafka issue 4884). So whatever waits in the queue is served first.
    try:
        if leave:
            consumer.unsubscribe()  # no new assignment comes after this
        deadline = time.monotonic() + _DRAIN_S
        while consumer.consume(10_000, timeout=0.05 if leave else 0) and time.monotonic() < deadline:
            pass
    except KafkaException as error:
        _log.info("closing a consumer that failed", error=error.args[0].str())
    consumer.close()


def set_aside(message: Message, fault: UndecodableRecordError, process: str) -> Quarantined:
    """The record that sets a record aside, whole, with the reason."""
    return Quarantined(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        process=process,
        reason=fault.reason,
        detail=fault.detail[:1000],
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        at=time.time_ns() // 1000,
    )


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
