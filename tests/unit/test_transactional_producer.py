"""Transactions where Kafka, or its client, fails in the middle: written again, or given up, never half.

The faults are those that real brokers show when they die (`python -m bench failover`), and not one by one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumers.errors import RecordRefusedError, StoppedError
from consumers.materializer import transactional_producer
from consumers.materializer.patience import Patience
from consumers.materializer.transactional_producer import TransactionalProducer
from runtime.settings import KafkaSettings
from runtime.supervision import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORMER = [TopicPartition("events", 0, 5, metadata="recover-from=1")]
OFFSETS = [TopicPartition("events", 0, 7, metadata="recover-from=1")]
Step = KafkaError | None | str


def error(code: int, **kind: bool) -> KafkaError:
    """An error of Kafka's client."""
    return KafkaError(code, "as told", **kind)


PASSING = error(KafkaError.NOT_COORDINATOR, retriable=True)
ABORTABLE = error(KafkaError._TIMED_OUT, txn_requires_abort=True)
FENCED = error(KafkaError._FENCED, fatal=True)


class Group:
    """The consumer, as far as transactions need it; `offsets` is what the group has committed."""

    def __init__(self) -> None:
        self.offsets: list[TopicPartition] = [TopicPartition("events", 0, -1001)]

    def consumer_group_metadata(self) -> object:
        return object()

    def committed(self, _: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout
        return self.offsets


class Undelivered(NamedTuple):
    """A record of which delivery is reported."""

    on: str
    by: bytes
    value: bytes

    def topic(self) -> str:
        return self.on

    def key(self) -> bytes:
        return self.by

    def __len__(self) -> int:
        return len(self.value)


class Fake:
    """A producer that does as the script says; what it was asked for is in `done`."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.name = f"producer-{len(broker.producers)}"
        broker.producers.append(self)

    def _do(self, operation: str, *_: Any) -> None:
        self.broker.done.append(f"{self.name}: {operation}")
        steps = self.broker.script.get(operation)
        step = steps.popleft() if steps else None
        if isinstance(step, KafkaError):
            raise KafkaException(step)
        if step == "hang":
            self.broker.released.wait(30)
            raise KafkaException(FENCED)
        if operation == "commit":
            self.broker.group.offsets = OFFSETS

    def init_transactions(self, *_: Any) -> None:
        self._do("init")

    def begin_transaction(self) -> None:
        self._do("begin")

    def produce(self, topic: str, **options: Any) -> None:
        self._do("produce")
        if (undelivered := self.broker.undelivered) is not None:
            options["on_delivery"](undelivered, Undelivered(topic, options["key"], options["value"]))

    def poll(self, *_: Any) -> None:
        self._do("poll")

    def list_topics(self, *_: Any, timeout: float) -> Any:
        assert timeout
        known = self.broker.brokers
        return SimpleNamespace(brokers=known.popleft() if len(known) > 1 else known[0])

    def send_offsets_to_transaction(self, *_: Any) -> None:
        self._do("offsets")

    def commit_transaction(self, *_: Any) -> None:
        self._do("commit")

    def abort_transaction(self, *_: Any) -> None:
        self._do("abort")


class Broker:
    """The script of what fails, by operation, and the producers that were made."""

    def __init__(self, **script: list[Step]) -> None:
        self.script = {name: deque(steps) for name, steps in script.items()}
        self.done: list[str] = []
        self.producers: list[Fake] = []
        self.group = Group()
        self.undelivered: KafkaError | None = None
        self.brokers: deque[set[int]] = deque([{1, 2, 3}])
        self.released = threading.Event()
        self.stop = threading.Event()
        self.waits: list[str] = []
        self.turns = 0
        self.writes = 0

    def turned(self) -> None:
        self.turns += 1

    def run(self, made: TransactionalProducer, offsets: list[TopicPartition] = OFFSETS) -> None:
        """A transaction of one record."""

        def write() -> None:
            self.writes += 1
            made.produce("snapshots", 0, b"key", b"value")

        made.run(write, offsets, self.group)  # type: ignore[arg-type]

    def count(self, operation: str) -> int:
        return sum(one.endswith(f": {operation}") for one in self.done)


@pytest.fixture
def producing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Broker], TransactionalProducer]]:
    """Makes the producer under test, whose clients are fakes; it does not wait long for anything."""
    made: list[tuple[Broker, TransactionalProducer]] = []
    monkeypatch.setattr(transactional_producer, "_HUNG_S", 0.05)
    monkeypatch.setattr(transactional_producer, "_HUNG_ANYWAY_S", 2.0)
    monkeypatch.setattr(transactional_producer, "_STEP_S", 0.05)

    def make(broker: Broker, timeout_s: float = 5.0) -> TransactionalProducer:
        monkeypatch.setattr(transactional_producer, "make_producer", lambda *_: Fake(broker))
        producer = TransactionalProducer(
            KafkaSettings(),
            "shiplog-materializer-x",
            {},
            transaction_timeout_s=timeout_s,
            patience=Patience(broker.stop, broker.turned, broker.waits.append),
            supervisor=Supervisor(),
        )
        made.append((broker, producer))
        producer.start()
        return producer

    yield make
    for broker, producer in made:
        broker.released.set()
        producer.close()


def test_errors_that_pass_are_waited_for(producing: Callable[..., TransactionalProducer]) -> None:
    """A coordinator that moves costs no transaction: operations are repeated, and the process says it lives."""
    broker = Broker(init=[PASSING], offsets=[PASSING, PASSING], commit=[PASSING])
    broker.run(producing(broker))
    assert (broker.writes, len(broker.producers)) == (1, 1)
    assert broker.done[-6:] == [
        "producer-0: produce",
        "producer-0: offsets",
        "producer-0: offsets",
        "producer-0: offsets",
        "producer-0: commit",
        "producer-0: commit",
    ]
    assert broker.turns > 4


def test_a_transaction_that_was_given_up_is_aborted_and_written_again(
    producing: Callable[..., TransactionalProducer],
) -> None:
    """Nobody above has to fold anything again."""
    broker = Broker(commit=[ABORTABLE], abort=[PASSING])
    broker.run(producing(broker))
    assert (broker.writes, broker.count("abort"), len(broker.producers)) == (2, 2, 1)


def test_what_can_not_be_aborted_is_left_to_a_new_producer(
    producing: Callable[..., TransactionalProducer],
) -> None:
    """Its first act ends what the former left open."""
    broker = Broker(offsets=[ABORTABLE], abort=[FENCED])
    broker.run(producing(broker))
    assert (broker.writes, len(broker.producers)) == (2, 2)
    assert broker.done[-5:] == [
        "producer-1: init",
        "producer-1: begin",
        "producer-1: produce",
        "producer-1: offsets",
        "producer-1: commit",
    ]


@pytest.mark.parametrize("brokers", [[{1, 2, 3}, {1, 3}], [{1, 2, 3}]])
def test_offsets_that_never_arrive_are_sent_by_a_new_producer(
    producing: Callable[..., TransactionalProducer], brokers: list[set[int]]
) -> None:
    """librdkafka's call does not return: soon where a broker is seen to be gone, else after some time."""
    broker = Broker(offsets=["hang"])
    broker.brokers = deque(brokers)
    began = time.monotonic()
    broker.run(producing(broker))
    assert (broker.writes, len(broker.producers)) == (2, 2)
    assert broker.done[-1] == "producer-1: commit"
    assert (time.monotonic() - began < 1) is (len(brokers) == 2)


def test_a_process_stops_although_a_call_hangs(producing: Callable[..., TransactionalProducer]) -> None:
    """Its thread is left behind."""
    broker = Broker(offsets=["hang"])
    threading.Timer(0.3, broker.stop.set).start()
    with pytest.raises(StoppedError):
        broker.run(producing(broker))
    assert len(broker.producers) == 1


def test_a_commit_of_unknown_outcome_is_looked_up_in_the_groups_offsets(
    producing: Callable[..., TransactionalProducer],
) -> None:
    """The offsets are part of the transaction: where they arrived, nothing is written twice."""
    broker = Broker(commit=[None, FENCED])
    made = producing(broker)
    broker.run(made, FORMER)
    broker.group.offsets = OFFSETS  # it was committed all the same
    broker.run(made)
    assert (broker.writes, len(broker.producers)) == (2, 2)

    broker = Broker(commit=[None, FENCED])
    made = producing(broker)
    broker.run(made, FORMER)
    broker.group.offsets = FORMER  # it was not
    broker.run(made)
    assert (broker.writes, len(broker.producers)) == (3, 2)


@pytest.mark.parametrize(("former", "offsets"), [(None, OFFSETS), (OFFSETS, OFFSETS), (FORMER, [])])
def test_an_unknown_outcome_that_the_offsets_do_not_tell_ends_the_producer(
    producing: Callable[..., TransactionalProducer],
    former: list[TopicPartition] | None,
    offsets: list[TopicPartition],
) -> None:
    """Committed or not, they may be the same: what stands published has to be read back."""
    broker = Broker(commit=[FENCED] if former is None else [None, FENCED])
    made = producing(broker)
    if former is not None:
        broker.run(made, former)
    with pytest.raises(KafkaException) as caught:
        broker.run(made, offsets)
    assert caught.value.args[0].code() == KafkaError._FENCED


@pytest.mark.parametrize(
    "code", [KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID]
)
def test_nothing_is_written_again_for_partitions_that_may_be_lost(
    producing: Callable[..., TransactionalProducer], code: int
) -> None:
    """Another process may have them."""
    broker = Broker(offsets=[error(code, txn_requires_abort=True)])
    with pytest.raises(KafkaException) as caught:
        broker.run(producing(broker))
    assert caught.value.args[0].code() == code
    assert broker.writes == 1


def test_a_refused_record_names_its_topic(producing: Callable[..., TransactionalProducer]) -> None:
    """librdkafka's own error counts the records and names neither topic nor reason."""
    broker = Broker(commit=[ABORTABLE])
    broker.undelivered = error(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException) as caught:
        broker.run(producing(broker))
    assert caught.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert "snapshots" in caught.value.args[0].str()
    assert broker.writes == 1


def test_a_record_that_is_too_large_is_named(producing: Callable[..., TransactionalProducer]) -> None:
    """The largest of those that were sent with it; another transaction can be written without it."""
    broker = Broker(commit=[ABORTABLE])
    broker.undelivered = error(KafkaError.MSG_SIZE_TOO_LARGE)
    made = producing(broker)

    def write() -> None:
        for key, size in ((b"small", 1), (b"large", 9), (b"other", 2)):
            made.produce("snapshots", 0, key, b"x" * size)

    with pytest.raises(RecordRefusedError) as caught:
        made.run(write, OFFSETS, broker.group)  # type: ignore[arg-type]
    assert (caught.value.topic, caught.value.key) == ("snapshots", b"large")
    assert broker.done[-1] == "producer-0: abort"
    broker.undelivered = None
    broker.run(made)
    assert len(broker.producers) == 1


def test_it_is_not_written_for_ever(producing: Callable[..., TransactionalProducer]) -> None:
    """A transaction that fails again and again ends the producer, with the last reason."""
    broker = Broker(commit=[ABORTABLE] * 100)
    with pytest.raises(KafkaException):
        broker.run(producing(broker))
    assert 1 < broker.writes < 10


def test_what_passes_is_not_waited_for_for_ever(producing: Callable[..., TransactionalProducer]) -> None:
    """After twice the transaction's timeout Kafka has aborted it, and a fresh start is the surer way."""
    broker = Broker(commit=[PASSING] * 100_000)
    made = producing(broker, timeout_s=0.2)
    with pytest.raises(KafkaException):
        broker.run(made)


def test_a_process_that_is_to_stop_does_not_wait(producing: Callable[..., TransactionalProducer]) -> None:
    """What is open is aborted by its next start."""
    broker = Broker(commit=[PASSING] * 100_000)
    made = producing(broker)
    threading.Timer(0.3, broker.stop.set).start()
    with pytest.raises(StoppedError):
        broker.run(made)


def test_a_full_queue_is_waited_for(producing: Callable[..., TransactionalProducer]) -> None:
    """Of librdkafka: it is served until there is room."""
    broker = Broker()
    made = producing(broker)
    refused = deque([True, True, False])
    fake = broker.producers[0]
    produce = fake.produce

    def full(topic: str, **options: Any) -> None:
        if refused.popleft():
            raise BufferError
        produce(topic, **options)

    fake.produce = full  # type: ignore[method-assign]
    broker.run(made)
    assert broker.count("poll") == 2
