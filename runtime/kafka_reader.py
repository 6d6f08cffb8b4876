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

_log = structlog.get_logger()

_TIMEOUT_S = 10.0
_CONNECT_S = 3.0
_PAUSE_S = 0.2
_ELECTION_S = 15.0
_ELECTING = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})
"""Of a topic that was just made, or whose broker died: over in a moment."""
_AGAIN_PAUSE_S = 1.0
_DRAIN_S = 1.0
_UNKNOWN_TOPIC_ID = 100
"""Kafka's error code, which confluent-kafka has no name for."""
_SILENCE_S = 5.0
"""The end of a partition is told once, and was once not told at all: after so long it is asked for again."""

_TOPIC_GONE: Final = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - confluent-kafka's names
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    _UNKNOWN_TOPIC_ID,
}

LARGE_RECORDS: Final[dict[str, int]] = {
    "fetch.message.max.bytes": MAX_RECORD_BYTES,
    "fetch.max.bytes": 4 * MAX_RECORD_BYTES,
    "receive.message.max.bytes": 4 * MAX_RECORD_BYTES + 1024,
}
"""What a consumer needs to take in our largest records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordBatch:
    """Records in the order of their partitions, and the partitions that are read behind them to where they ended.

    That end is the one at the start of the reader, or the present one if nothing more is there. The partitions in
    `begun` are read again from their beginning: the records of this batch and of those that follow are the first.
    """

    records: tuple[Message, ...] = ()
    ends_reached: tuple[int, ...] = ()
    begun: tuple[int, ...] = ()


class KafkaReader:
    """A thread that reads every partition of a topic and hands over batches.

    `deliver` is called on that thread and may block: that is the back-pressure, nothing is read meanwhile
    beyond librdkafka's own queue. An exception of it ends the thread, and the supervisor hears of that. Reads only
    what is committed. Never commits; needs only read permission.

    While Kafka is away it waits, and goes on where it was; `in_touch_at` is when it last answered, in seconds
    (UTC), 0 before the first time. A partition whose offsets begin anew (the topic was deleted and made again, or
    lost its end) is read from its beginning.
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
        self._supervisor = supervisor
        self._max_batch = max_batch
        self._stop = threading.Event()
        self._in_use = threading.Lock()  # a consumer must not be closed while another thread asks it something
        self._ends: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._again: dict[int, float] = {}
        self.in_touch_at = 0.0
        self._name = f"reader of {topic}"
        self._thread = supervisor.thread(self._name, self._run)
        self._consumer = ungrouped_consumer(kafka, client_id, when_gone="earliest", queued_kbytes=queued_kbytes)

    def connect(self) -> str:
        """The id of the cluster, once Kafka answers; may be called again after a failure.

        Raises:
            KafkaUnusableError: Kafka can't be reached.
        """
        try:
            with self._in_use:
                return self._consumer.list_topics(self._topic, timeout=_CONNECT_S).cluster_id or ""
        except KafkaException as error:
            raise KafkaUnusableError(f"cannot read {self._topic}: {error.args[0].str()}") from error

    def start(self) -> int:
        """Starts reading; the number of partitions. May be called again after a failure.

        Raises:
            KafkaUnusableError: Kafka can't be reached or the topic does not exist.
        """
        deadline = time.monotonic() + _ELECTION_S
        while True:
            try:
                with self._in_use:
                    partitions = self._assign_all()
                break
            except KafkaException as error:
                fault = error.args[0]
                if fault.code() not in _ELECTING or time.monotonic() > deadline:
                    raise KafkaUnusableError(f"cannot read {self._topic}: {fault.str()}") from error
            time.sleep(_PAUSE_S)
        self._next = dict.fromkeys(partitions, 0)
        self.in_touch_at = time.time()
        self._thread.start()
        return len(partitions)

    def read_again(self, partition: int) -> None:
        """The partition is read from its beginning as soon as Kafka answers. From any thread."""
        self._again.setdefault(partition, 0.0)

    def stop(self) -> None:
        """Ends the thread; `deliver` is not called afterwards."""
        self._thread.end()
        self._stop.set()
        self._thread.join(timeout=10)
        with self._in_use:
            self._consumer.close()
        self._supervisor.forget_loop(self._name)

    def _assign_all(self) -> list[int]:
        metadata = self._consumer.list_topics(self._topic, timeout=_TIMEOUT_S).topics[self._topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        partitions = sorted(metadata.partitions)
        for number in partitions:
            self._ends[number] = self._end_of(number)
        self._consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in partitions])
        return partitions

    def _run(self) -> None:
        while not self._stop.is_set():
            self._supervisor.turned(self._name)
            if self._again:
                self._begin_again()
            # One blocking poll for the first record, then what is there: consume(n, t) would wait for n.
            first = self._consumer.poll(0.2)
            if first is None:
                self._keep_in_touch()
                continue
            batch = self._sorted([first, *self._consumer.consume(self._max_batch, timeout=0)])
            if batch.records or batch.ends_reached:
                self.in_touch_at = time.time()
                if not self._stop.is_set():
                    self._deliver(batch)

    def _sorted(self, messages: list[Message]) -> RecordBatch:
        """The records among the messages, and the ends that they reach."""
        records, ends, following = [], [], self._next
        for message in messages:
            error = message.error()
            number, offset = message.partition() or 0, message.offset() or 0
            if error is None:
                if offset < following.get(number, 0):
                    self.read_again(number)
                if number in self._again:
                    continue  # it comes again, behind the beginning
                following[number] = offset + 1
                records.append(message)
                # On a busy topic the end is never reached: where it was at the start is what counts.
                if number in self._ends and offset >= self._ends[number] - 1:
                    ends.append(number)
                    del self._ends[number]
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's name
                if offset < following.get(number, 0):
                    self.read_again(number)  # the log ends before what was read of it: it is another one
                if number not in self._again:
                    ends.append(number)
                    self._ends.pop(number, None)
            else:
                self._heed(error, message.partition())
        return RecordBatch(records=tuple(records), ends_reached=tuple(ends))

    def _heed(self, error: KafkaError, partition: int | None) -> None:
        """An error among the records: where the topic is gone, what comes back is another topic of that name."""
        _log.warning("kafka_reader_error", topic=self._topic, partition=partition, error=error.str())
        if error.code() in _TOPIC_GONE:
            for number in self._next if partition is None or partition < 0 else (partition,):
                self.read_again(number)

    def _begin_again(self) -> None:
        """Goes back to the beginning of the partitions that are to be read again, as far as Kafka answers."""
        now = time.monotonic()
        for number, not_before in list(self._again.items()):
            if now < not_before or number not in self._next:
                continue
            beginning = TopicPartition(self._topic, number, OFFSET_BEGINNING)
            try:
                self._ends[number] = self._end_of(number)
                self._consumer.incremental_unassign([beginning])
                self._consumer.incremental_assign([beginning])
            except KafkaException as error:
                _log.info("read_again_failed", partition=number, error=error.args[0].str())
                # The others would wait for Kafka as long, one after another, and this loop would seem to be stuck.
                self._again.update(dict.fromkeys(self._again, time.monotonic() + _AGAIN_PAUSE_S))
                return
            self._next[number] = 0
            del self._again[number]
            _log.info("read_again", topic=self._topic, partition=number, end=self._ends[number])
            self._deliver(RecordBatch(begun=(number,)))
            self._supervisor.turned(self._name)

    def _end_of(self, partition: int) -> int:
        found = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=_TIMEOUT_S)
        return 0 if found is None else int(found[1])

    def _keep_in_touch(self) -> None:
        """A quiet topic and a Kafka that is away look the same: asks, when it was quiet for long."""
        if time.time() - self.in_touch_at < _SILENCE_S:
            return
        with suppress(KafkaException):
            self._consumer.list_topics(self._topic, timeout=1.0)
            self.in_touch_at = time.time()


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


def is_about_group(error: KafkaError) -> bool:
    """Whether an error of an ungrouped consumer is about the group that it has in name only.

    librdkafka looks for that group's coordinator all the same, and may not be allowed to.
    """
    return error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


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
                    if not error.retriable() and not is_about_group(error):
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
        _log.warning("consumer_left_behind", reason="it does not close")


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
        _log.info("closing_a_consumer_that_failed", error=error.args[0].str())
    try:
        consumer.close()
    except (KafkaException, RuntimeError) as error:
        _log.warning("consumer_not_closed", error=str(error))


def set_aside(message: Message, *, reason: str, detail: str, process: str) -> Quarantined:
    """The record that sets a record aside, cut to what always fits, with the reason."""
    return Quarantined.cut(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        process=process,
        reason=reason,
        detail=detail,
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        at=time.time_ns() // 1000,
    )


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
