"""The threads that serve Kafka producers: a fault in one batch, or in a call back, is counted and heard of."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from mcp_gateway.deliveries import DeliveryTrail, Recipient
from mcp_gateway.process import Gateway
from mcp_gateway.settings import GatewaySettings
from runtime import kafka_writer
from runtime.errors import PartFailedError
from runtime.kafka_batch_writer import KafkaBatchWriter
from runtime.kafka_writer import KafkaWriter
from runtime.settings import KafkaSettings, TopicsSettings
from runtime.supervision import Supervisor
from schemas.avro_codec import codecs
from schemas.records import DeliveryKind
from tests.harness.pilot import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

CODEC = codecs().delivery
PEER = Recipient("ipv4:127.0.0.1:1", "mcp", node="pilot-1")
TOPIC = "shiplog.deliveries"


class Producer:
    """In the place of confluent-kafka's, which has no way to fail at a time of our choice."""

    def __init__(self, _: dict[str, Any]) -> None:
        self.fault: Exception | None = None
        self.poll_fault: Exception | None = None
        self.taken: list[bytes] = []
        self._reports: list[Callable[[], None]] = []

    def list_topics(self, topic: str, timeout: float) -> Any:
        assert timeout
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions={0: None})})

    def produce_batch(self, topic: str, messages: list[dict[str, Any]]) -> int:
        assert topic == TOPIC
        if self.fault is not None:
            raise self.fault
        for message in messages:
            self.taken.append(message["value"])
            report = message.get("callback")
            if report is not None:
                self._reports.append(lambda report=report: report(None, None))
        return len(messages)

    def poll(self, _: float) -> int:
        if self.poll_fault is not None:
            raise self.poll_fault
        reports, self._reports = self._reports, []
        for report in reports:
            report()
        return len(reports)

    def flush(self, _: float) -> int:
        return 0


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Producer]:
    """The producers that are made."""
    producers: list[Producer] = []

    def make(config: dict[str, Any]) -> Producer:
        producers.append(Producer(config))
        return producers[-1]

    monkeypatch.setattr(kafka_writer, "make_producer", lambda *_: make({}))
    return producers


def batch_writer(supervisor: Supervisor, kafka: KafkaSettings | None = None) -> KafkaBatchWriter:
    """One with room for a hundred records."""
    return KafkaBatchWriter(
        kafka or KafkaSettings(), topic=TOPIC, client_id="x", max_queued_records=100, max_queued_bytes=1 << 20,
        supervisor=supervisor,
    )  # fmt: skip


@pytest.mark.parametrize("fault", [BufferError("full"), RuntimeError("a fault"), MemoryError()])
def test_a_batch_that_can_not_be_handed_over_is_lost_and_nothing_is_called_whole_over_it(
    made: list[Producer], fault: Exception
) -> None:
    """Whatever was raised: its records are a gap in the trail, its room is free, the next batch is written."""
    supervisor = Supervisor()
    writer = batch_writer(supervisor)
    trail = DeliveryTrail(writer, CODEC, gateway="gw-1")
    (producer,) = made
    producer.fault = fault
    for number in range(7):
        trail.acknowledged(PEER, "c", str(number))
    written_at = time.time()
    wait_for(lambda: writer.lost == 7 and writer.queued == 0, timeout_s=5, what="the batch given up")
    until = writer.whole_until()
    trail.lost(writer.lost)
    trail.whole_until(until)
    assert writer.queued == 0, "no mark over a loss"
    producer.fault = None
    trail.acknowledged(PEER, "c", "7")
    wait_for(lambda: len(producer.taken) == 2 and writer.queued == 0, timeout_s=5, what="the gap and what follows")
    gap, following = [CODEC.decode(value) for value in producer.taken]
    assert (gap.kind, gap.message) == (DeliveryKind.GAP, "7 deliveries are missing before this")
    assert following.version == "7"
    wait_for(lambda: writer.whole_until() > written_at, timeout_s=5, what="whole again, behind the gap")
    assert supervisor.fault is None
    writer.close(1)


def test_a_batch_writer_whose_thread_ends_ends_the_process(made: list[Producer]) -> None:
    """`/healthz` names it; what is queued is not called whole any more."""
    supervisor = Supervisor()
    writer = batch_writer(supervisor)
    made[0].poll_fault = RuntimeError("a call back failed")
    wait_for(lambda: supervisor.fault is not None, timeout_s=5, what="the failure")
    assert "a call back failed" in supervisor.unhealthy["kafka batch writer"]
    before = writer.whole_until()
    writer.write(b"k", b"v")
    assert (writer.whole_until(), writer.close(0.1)) == (before, 1)


def test_a_writer_whose_thread_ends_ends_the_process(made: list[Producer]) -> None:
    """A fault in what is called at deliveries comes up there."""
    supervisor = Supervisor()
    writer = KafkaWriter(
        KafkaSettings(), client_id="x", max_queued_records=10, max_queued_bytes=1 << 20, supervisor=supervisor
    )
    made[0].poll_fault = RuntimeError("a call back failed")
    wait_for(lambda: supervisor.fault is not None, timeout_s=5, what="the failure")
    assert "a call back failed" in supervisor.unhealthy["kafka writer"]
    writer.close(0.1)
    assert not [one for one in threading.enumerate() if one.name == "kafka writer"]


@pytest.mark.parametrize("kind", ["kafka writer", "kafka batch writer"])
def test_a_writer_that_kafka_refuses_ends_the_process_in_words(
    made: list[Producer], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fatal error of its producer, as for a login that may write nothing: what to do, and no stack trace."""
    supervisor, kafka = Supervisor(), KafkaSettings(sasl_username="gateway")
    if kind == "kafka writer":
        KafkaWriter(kafka, client_id="x", max_queued_records=10, max_queued_bytes=1 << 20, supervisor=supervisor)
    else:
        batch_writer(supervisor, kafka)
    made[0].poll_fault = KafkaException(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, fatal=True))
    wait_for(lambda: supervisor.fault is not None, timeout_s=5, what="the failure")
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert "the login gateway lacks a permission, see Permissions in Kafka" in supervisor.unhealthy[kind]


def test_marks_that_can_not_be_made_end_the_process(made: list[Producer]) -> None:
    """A trail that is not marked whole any more would look like a gateway that was killed."""
    settings = GatewaySettings.model_validate({"deliveries": {"mark_interval_s": 0.01}})
    gateway = Gateway(kafka=KafkaSettings(), topics=TopicsSettings(), settings=settings)

    async def process() -> None:
        supervisor = Supervisor()
        writer = batch_writer(supervisor)
        trail = DeliveryTrail(writer, CODEC, gateway="gw-1")
        writer.whole_until = lambda: made[5]  # type: ignore[method-assign,return-value,assignment]
        supervisor.task("delivery marks", lambda: gateway._mark(trail, writer))
        try:
            await supervisor.wait(asyncio.Event())
        finally:
            writer.close(0.1)

    with pytest.raises(PartFailedError, match=r"delivery marks ended .*IndexError"):
        asyncio.run(asyncio.wait_for(process(), 10))
