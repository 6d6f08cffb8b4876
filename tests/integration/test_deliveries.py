"""What was sent to whom, in the log, on real servers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runtime.kafka_writer import KafkaWriter
from runtime.settings import KafkaSettings
from schemas.avro_codec import codecs
from schemas.records import DeliveryKind
from schemas.topics import DELIVERIES
from tests.harness.load import make_instance
from tests.harness.logs import read_all, read_history
from tests.harness.pilot import SERVICE_ENTRIES, wait_for
from tests.harness.processes import standing_still

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.records import Delivery
    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import KafkaServer


def deliveries(kafka: KafkaServer) -> list[Delivery]:
    """The whole trail, by time, without the gateways' own marks."""
    found = [codecs().delivery.decode(message.value()) for message in read_all(kafka, DELIVERIES)]
    marks = {DeliveryKind.STARTED, DeliveryKind.WHOLE, DeliveryKind.STOPPED}
    return sorted((one for one in found if one.kind not in marks), key=lambda delivery: delivery.at)


def test_the_trail_says_who_was_sent_what(
    processes: Processes, kafka: KafkaServer, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """Each push with its answer, and how much of the log is in it; what had no room is a gap."""
    load.register(5, 2)
    _, _, gateway = processes.start_all()
    gateway.child.kill()
    small = {"QUEUE_RECORDS": "2", "MARK_INTERVAL_S": "3600"}
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
    assert missing == 8, "ten deliveries, room for two"
    wait_for(lambda: len(deliveries(kafka)) == 6, timeout_s=20, what="those that had room")
    load.state("svc-0", [make_instance(0, 8)])
    wait_for(lambda: any(one.kind is DeliveryKind.GAP for one in deliveries(kafka)), timeout_s=20, what="the gap")
    (gap,) = [one for one in deliveries(kafka) if one.kind is DeliveryKind.GAP][:1]
    assert gap.message == "8 deliveries are missing before this"


def test_the_trail_is_whole_until_what_kafka_does_not_have(kafka: KafkaServer) -> None:
    """Never later than a record that waits, and up to the present when none does."""
    writer = KafkaWriter(
        KafkaSettings(servers=kafka.servers), client_id="trail", max_queued_records=100, max_queued_bytes=2**20
    )

    def write(value: bytes) -> None:
        assert writer.write_tracked(DELIVERIES, partition=-1, key=b"pilot", value=value)

    kafka.renew_topics()
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
