"""What was sent to whom, in the log, on real servers."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from runtime.kafka_batch_writer import KafkaBatchWriter
from runtime.settings import KafkaSettings
from runtime.supervision import Supervisor
from schemas.avro_codec import codecs
from schemas.records import DeliveryKind
from schemas.topics import DELIVERIES
from tests.harness.load import make_instance
from tests.harness.logs import read_all, read_history
from tests.harness.pilot import SERVICE_ENTRIES, wait_for
from tests.harness.processes import standing_still
from tests.harness.servers import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.records import Delivery
    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import KafkaServer


PROBE = b"probe"


def deliveries(kafka: KafkaServer) -> list[Delivery]:
    """The whole trail, by time, without the gateways' own marks."""
    found = [codecs().delivery.decode(message.value()) for message in read_all(kafka, DELIVERIES)]
    marks = {DeliveryKind.STARTED, DeliveryKind.WHOLE, DeliveryKind.STOPPED}
    return sorted((one for one in found if one.kind not in marks), key=lambda delivery: delivery.at)


def trail_writer(kafka: KafkaServer, records: int = 100) -> KafkaBatchWriter:
    """A queue of so many records."""
    settings = KafkaSettings(servers=kafka.servers)
    return KafkaBatchWriter(
        settings,
        topic=DELIVERIES,
        client_id="trail",
        max_queued_records=records,
        max_queued_bytes=2**20,
        supervisor=Supervisor(),
    )


def refuse_large_records(kafka: KafkaServer) -> None:
    """Lowers the topic's limit to some 500 bytes, until the broker heeds it.

    A partition that was made anew a moment before may be opened with the former limit, whatever the topic says.
    """
    admin = AdminClient({"bootstrap.servers": kafka.servers})
    producer = Producer({"bootstrap.servers": kafka.servers})
    refused: list[bool] = []
    for limit in range(500, 560):
        entry = ConfigEntry("max.message.bytes", str(limit), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, DELIVERIES, incremental_configs=[entry])
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(10)
        refused.clear()
        for partition in range(PARTITIONS):
            value = PROBE + random.Random(limit).randbytes(5000)
            producer.produce(
                DELIVERIES,
                value,
                partition=partition,
                on_delivery=lambda error, _: refused.append(error is not None),
            )
        producer.flush(10)
        if all(refused):
            return
        time.sleep(0.5)
    raise AssertionError("the broker does not heed the limit")


def test_the_trail_says_who_was_sent_what(
    processes: Processes, kafka: KafkaServer, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """Each push with its answer, and how much of the log is in it; what had no room is a gap."""
    load.register(5, 2)
    _, _, gateway = processes.start_all()
    gateway.child.kill()
    small = {"QUEUE_RECORDS": "4", "MARK_INTERVAL_S": "3600"}
    gateway = processes.start(
        "gateway", **{f"SHIPLOG_GATEWAY__DELIVERIES__{name}": value for name, value in small.items()}
    )
    gateway.wait()
    pilot = pilots(gateway.address)
    wait_for(lambda: len(pilot.versions) == 1, timeout_s=20, what="a first push")
    load.state("svc-0", [make_instance(0, 7)])
    wait_for(lambda: len(pilot.versions) == 2, timeout_s=20, what="a change")
    wait_for(lambda: len(deliveries(kafka)) == 4, timeout_s=10, what="two pushes, two answers")
    trail = deliveries(kafka)
    assert [one.kind for one in trail] == [
        DeliveryKind.SENT, DeliveryKind.ACK, DeliveryKind.SENT, DeliveryKind.ACK,
    ]  # fmt: skip
    assert [one.version for one in trail] == [pilot.versions[0]] * 2 + [pilot.versions[1]] * 2
    assert {one.collection for one in trail} == {SERVICE_ENTRIES}
    (manifest,) = [one for one in read_history(kafka) if one.digest == pilot.versions[1]]
    assert manifest.namespace == namespace
    assert set(manifest.folded_to.values()) <= set(trail[2].folded_to.values())

    with standing_still(kafka.child):
        others = [pilots(gateway.address) for _ in range(5)]
        wait_for(lambda: all(other.versions for other in others), timeout_s=20, what="served without Kafka")
        wait_for(lambda: gateway.debug("snapshot")["kafka_silent_s"] > 6, timeout_s=15, what="the age of the data")
        assert gateway.is_ready()
    wait_for(lambda: gateway.debug("snapshot")["kafka_silent_s"] < 6, timeout_s=15, what="in touch again")
    missing = gateway.metric("shiplog_gateway_deliveries_missing_total")
    assert missing == 6, "ten deliveries, room for four"
    wait_for(lambda: len(deliveries(kafka)) == 8, timeout_s=20, what="those that had room")
    load.state("svc-0", [make_instance(0, 8)])
    wait_for(lambda: any(one.kind is DeliveryKind.GAP for one in deliveries(kafka)), timeout_s=20, what="the gap")
    (gap,) = [one for one in deliveries(kafka) if one.kind is DeliveryKind.GAP][:1]
    assert gap.message == "6 deliveries are missing before this"


def test_the_trail_is_whole_until_what_kafka_does_not_have(kafka: KafkaServer) -> None:
    """Never later than a record that waits, and up to the present when none does."""
    kafka.renew_topics()
    writer = trail_writer(kafka)

    def write(value: bytes) -> None:
        assert writer.write(b"pilot", value)

    write(b"1")
    written = time.time()
    wait_for(lambda: writer.whole_until() >= written, timeout_s=10, what="the first record in Kafka")
    with standing_still(kafka.child):
        time.sleep(0.2)
        before = time.time()
        write(b"2")
        time.sleep(0.3)
        write(b"3")
        time.sleep(0.3)
        assert before - 0.1 < writer.whole_until() <= before + 0.1
    written = time.time()
    wait_for(lambda: writer.whole_until() >= written, timeout_s=20, what="all records in Kafka")
    assert writer.close(5.0) == 0
    assert len(read_all(kafka, DELIVERIES)) == 3


def test_a_pilots_deliveries_stay_in_order_in_one_partition(kafka: KafkaServer) -> None:
    """In many batches; what has no room is refused, and only that."""
    kafka.renew_topics()
    writer = trail_writer(kafka, records=1000)
    taken = []
    for number in range(20_000):
        key = f"pilot-{number % 50}".encode()
        if writer.write(key, str(number).encode()):
            taken.append((key, number))
        else:
            time.sleep(0.001)
    assert 1000 <= len(taken) < 20_000
    assert (writer.close(20.0), writer.lost) == (0, 0)
    found: dict[bytes, list[tuple[int, int]]] = {}
    for message in read_all(kafka, DELIVERIES):
        found.setdefault(message.key() or b"", []).append((message.partition() or 0, int(message.value() or b"")))
    assert sum(map(len, found.values())) == len(taken)
    for key, records in found.items():
        assert len({partition for partition, _ in records}) == 1
        assert [number for _, number in records] == [number for one, number in taken if one == key]
    assert len({records[0][0] for records in found.values()}) > 1


def test_records_that_kafka_refuses_for_good_are_lost_and_said_to_be(kafka: KafkaServer) -> None:
    """The topic does not take them; what comes later waits for nothing."""
    kafka.renew_topics()
    refuse_large_records(kafka)
    writer = trail_writer(kafka)
    assert writer.write(b"pilot", random.Random(1).randbytes(5000))
    wait_for(lambda: writer.lost == 1, timeout_s=20, what="the loss")
    assert writer.write(b"pilot", b"small")
    assert writer.close(10.0) == 0
    found = [message.value() for message in read_all(kafka, DELIVERIES)]
    assert [value for value in found if not value.startswith(PROBE)] == [b"small"]
