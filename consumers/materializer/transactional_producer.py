"""Transactions that go on where Kafka's brokers change: written again where one was given up.

Theory of operation:

- While a broker is away, operations fail in a way that passes, or time out; they are repeated, and librdkafka
  resumes them. So the death of one broker costs no more than Kafka takes to replace it.
- A transaction that librdkafka gives up is aborted, and written again from what is in memory.
- librdkafka may wait for ever in `send_offsets_to_transaction`, whatever its timeout (its issues 5456 and 5511):
  it keeps the group's coordinator, and when that broker has left the cluster nothing wakes the request. What it
  keeps is forgotten after 3 s without use, and a broker's death nearly always takes longer; for the rest the call
  is made on a thread of its own. Where it does not return although Kafka has let go of a broker, producer and
  thread are left behind, and a new producer takes their place.
- A new producer of the same name ends what the former left open. Whether a transaction whose commit had been asked
  for was committed then shows in the group's offsets: they are part of it.
"""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumers import metrics
from consumers.errors import RecordRefusedError
from consumers.materializer.refusals import refusal_of
from runtime.kafka_clients import make_producer
from schemas.topics import SNAPSHOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer, Message, Producer

    from consumers.materializer.patience import Patience
    from runtime.settings import KafkaSettings
    from runtime.supervision import Supervisor

_log = structlog.get_logger()

_STEP_S = 1.0
"""How long one call into librdkafka may take; it is repeated."""
_OFFSETS_S = 5.0
"""As `_STEP_S`, for the call that is made on a thread of its own."""
_HUNG_S = 3.0
"""The cluster goes on without a broker for so long, and our offsets don't arrive: the call hangs."""
_HUNG_ANYWAY_S = 20.0
"""As `_HUNG_S`, where no broker is seen to be gone: longer than Kafka takes to replace one."""
_LOOK_S = 60.0
"""How often the brokers are looked at while all is well."""
_MOST_TIMES = 4
"""So often a transaction is written before it is given up."""
_METADATA: Mapping[str, int] = {
    "topic.metadata.refresh.interval.ms": 1000,
    # So long librdkafka keeps a coordinator that it does not use; its default is 15 minutes.
    "metadata.max.age.ms": 3000,
}
_NOT_OURS = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
    }
)
"""The partitions may be another process's: nothing is to be written for them."""
_RECORD_FAULTS = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD}
)
"""Kafka says nothing against the others."""
_HUNG = KafkaError(
    KafkaError._TIMED_OUT,  # noqa: SLF001 - confluent-kafka's name
    "send_offsets_to_transaction does not return",
)


class _HungError(Exception):
    """librdkafka's call does not return."""


class TransactionalProducer:
    """Writes transactions under one name. Belongs to the engine's thread.

    Raises KafkaException where Kafka fails for good or for too long: then it is of no more use.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        name: str,
        own: Mapping[str, Any],
        *,
        transaction_timeout_s: float,
        patience: Patience,
        supervisor: Supervisor,
    ) -> None:
        self._kafka = kafka
        self._name = name
        self._own = {
            **_METADATA,
            **own,
            "transactional.id": name,
            "transaction.timeout.ms": int(transaction_timeout_s * 1000),
            "delivery.report.only.error": True,
        }
        self._limit_s = 2 * transaction_timeout_s
        self._patience = patience
        self._supervisor = supervisor
        self._undelivered: list[_Undelivered] = []
        self._is_commit_asked = False
        self._committed: dict[tuple[str, int], tuple[int, str]] = {}
        self._brokers: frozenset[int] = frozenset()
        self._looked_at = -_LOOK_S
        self._producer, self._caller = self._make()

    def start(self) -> None:
        """Takes the name over: whoever had it before is fenced, and what it left open is aborted."""
        self._patience.until_done(
            "init_transactions", lambda: self._producer.init_transactions(_STEP_S), self._limit_s
        )

    def produce(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        """Adds a record to the transaction that is being written; a negative partition lets the key choose."""
        while True:
            try:
                self._producer.produce(
                    topic, partition=partition, key=key, value=value, on_delivery=self._note_undelivered
                )
            except BufferError:
                self._patience.turn()
                self._producer.poll(0.1)
            else:
                return

    def run(self, write: Callable[[], None], offsets: list[TopicPartition], consumer: Consumer) -> None:
        """Commits the records that `write` produces together with the consumer's offsets, or raises.

        `write` may be called several times; what it produced before counts for nothing then.

        Raises:
            KafkaException: Kafka failed, or refuses.
            RecordRefusedError: it refuses one of the records; another transaction may be written.
        """
        is_fenced = False
        for _ in range(_MOST_TIMES):
            self._undelivered, self._is_commit_asked = [], False
            try:
                self._attempt(write, offsets, consumer)
                break
            except _HungError:
                fault = _HUNG
            except KafkaException as error:
                fault = self._cause(error.args[0])
                if fault.txn_requires_abort() and fault.code() in _RECORD_FAULTS:
                    self._refuse(fault)
                if fault.code() in _NOT_OURS or refusal_of(fault) is not None or is_fenced:
                    raise KafkaException(fault) from error
                if fault.txn_requires_abort() and self._abort(fault):
                    continue
                is_fenced = fault.fatal()
            if self._renew(fault, offsets, consumer):
                break
        else:
            raise KafkaException(fault)
        self._committed.update(_by_place(offsets))

    def close(self) -> None:
        """Ends the thread. The transaction that is open is aborted by whoever has the name next."""
        self._caller.end()

    def _make(self) -> tuple[Producer, _Caller]:
        producer = make_producer(self._kafka, self._name, self._own)
        return producer, _Caller(producer, self._supervisor)

    def _attempt(self, write: Callable[[], None], offsets: list[TopicPartition], consumer: Consumer) -> None:
        self._producer.begin_transaction()
        write()
        if offsets:
            self._patience.until_done(
                "send_offsets_to_transaction", lambda: self._send_offsets(offsets, consumer), self._limit_s
            )
        self._is_commit_asked = True
        self._patience.until_done(
            "commit_transaction", lambda: self._producer.commit_transaction(_STEP_S), self._limit_s
        )

    def _send_offsets(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        """Sends the offsets on the caller's thread, and looks after it while it takes long.

        Raises:
            _HungError: it does not return.
        """
        if time.monotonic() - self._looked_at > _LOOK_S:
            self._brokers, self._looked_at = self._present_brokers() or self._brokers, time.monotonic()
        began = time.monotonic()
        gone_since: float | None = None
        self._caller.send_offsets(offsets, consumer.consumer_group_metadata())
        while True:
            try:
                self._caller.result(_STEP_S)
            except TimeoutError:
                self._patience.turn()
                now = time.monotonic()
                present = self._present_brokers()
                if present is not None and self._brokers - present:
                    gone_since = gone_since or now
                if now - began > _HUNG_ANYWAY_S or (gone_since is not None and now - gone_since > _HUNG_S):
                    raise _HungError from None
            else:
                return

    def _present_brokers(self) -> frozenset[int] | None:
        """The brokers of the cluster; None where Kafka does not say."""
        try:
            return frozenset(self._producer.list_topics(SNAPSHOTS, timeout=_STEP_S).brokers)
        except KafkaException:
            return None

    def _abort(self, fault: KafkaError) -> bool:
        """Aborts the transaction; False where that fails, too, and the producer can't be used any more."""
        _log.warning("transaction_written_again", error=fault.str(), code=fault.name())
        metrics.TRANSACTIONS.labels("written_again").inc()
        try:
            self._patience.until_done(
                "abort_transaction", lambda: self._producer.abort_transaction(_STEP_S), self._limit_s
            )
        except KafkaException as error:
            _log.warning("transaction_not_aborted", error=error.args[0].str(), code=error.args[0].name())
            return False
        return True

    def _renew(self, fault: KafkaError, offsets: list[TopicPartition], consumer: Consumer) -> bool:
        """Puts a new producer in this one's place; True when the former transaction turns out to be committed.

        Raises:
            KafkaException: `fault`, where the offsets don't tell.
        """
        _log.warning("producer_made_anew", error=fault.str(), code=fault.name())
        metrics.TRANSACTIONS.labels("producer_made_anew").inc()
        is_commit_asked = self._is_commit_asked
        self._looked_at = -_LOOK_S
        self._caller.end()
        self._producer, self._caller = self._make()
        self.start()
        if not is_commit_asked:
            return False
        wanted = _by_place(offsets)
        if not wanted.keys() <= self._committed.keys() or wanted.items() <= self._committed.items():
            raise KafkaException(fault)  # committed or not, they would be the same, as far as we know
        found = self._patience.until_done(
            "the group's offsets", lambda: consumer.committed(offsets, timeout=_STEP_S), self._limit_s
        )
        return _by_place(found) == wanted

    def _refuse(self, fault: KafkaError) -> None:
        """Ends a transaction of which Kafka refuses a record.

        Raises:
            RecordRefusedError: naming the largest of those that were refused: one that is too large takes down
                those that are sent with it.
        """
        refused = [one for one in self._undelivered if one.error.code() in _RECORD_FAULTS]
        largest = max(refused, key=lambda one: one.size)
        if self._abort(fault):
            raise RecordRefusedError(largest.topic, largest.key, fault.str())

    def _note_undelivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            key = message.key() or b""
            self._undelivered.append(
                _Undelivered(
                    message.topic() or "", key.encode() if isinstance(key, str) else key, len(message), error
                )
            )

    def _cause(self, fault: KafkaError) -> KafkaError:
        """What stands behind an error that only counts the records that were not delivered."""
        if not self._undelivered:
            return fault
        topic, _, _, cause = self._undelivered[0]
        return KafkaError(
            cause.code(),
            f"{topic}: {cause.str()}",
            fatal=fault.fatal(),
            txn_requires_abort=fault.txn_requires_abort(),
        )


class _Undelivered(NamedTuple):
    """A record that Kafka did not take, and why."""

    topic: str
    key: bytes
    size: int
    error: KafkaError


class _Caller:
    """Sends offsets on a thread of its own, which is left behind where librdkafka does not return."""

    def __init__(self, producer: Producer, supervisor: Supervisor) -> None:
        self._producer = producer
        self._asked: queue.SimpleQueue[tuple[list[TopicPartition], object] | None] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._thread = supervisor.thread("transaction offsets", self._serve)
        self._thread.start()

    def send_offsets(self, offsets: list[TopicPartition], group: object) -> None:
        """Begins to; `result` tells how it went."""
        self._asked.put((offsets, group))

    def result(self, timeout_s: float) -> None:
        """Returns when the offsets are sent.

        Raises:
            TimeoutError: not yet.
            KafkaException: they can't be.
        """
        try:
            error = self._answered.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if error is not None:
            raise error

    def end(self) -> None:
        """Its end is wanted, as soon as librdkafka returns."""
        self._thread.end()
        self._asked.put(None)

    def _serve(self) -> None:
        while (asked := self._asked.get()) is not None:
            try:
                self._producer.send_offsets_to_transaction(*asked, _OFFSETS_S)
            except Exception as error:  # noqa: BLE001 - raised where it was asked for
                self._answered.put(error)
            else:
                self._answered.put(None)


def _by_place(offsets: list[TopicPartition]) -> dict[tuple[str, int], tuple[int, str]]:
    return {(tp.topic, tp.partition): (tp.offset, tp.metadata or "") for tp in offsets}
