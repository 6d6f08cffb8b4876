"""The log is the truth: it replays to the recorded digests, and poison in it stops nothing."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from consumers.materializer.fold import Fold
from consumers.materializer.fold_state import Touched
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings, GuardSettings
from schemas.avro_codec import codecs
from schemas.events import Namespace, SyncStarted
from schemas.partitioner import partition_of
from schemas.topics import MAX_RECORD_BYTES, QUARANTINE, REGISTRY_EVENTS, SNAPSHOTS, ResourceKey
from tests.harness.load import make_instance
from tests.harness.logs import read_all, read_history
from tests.harness.pilot import SERVICE_ENTRIES, wait_for
from tests.harness.servers import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import KafkaServer


def test_the_log_replays_to_the_recorded_digests(
    processes: Processes, kafka: KafkaServer, namespace: str, load: Load
) -> None:
    """From its beginning and from a later keyframe, every later manifest's digest comes out again."""
    load.register(50, 5)
    # A keyframe every 5 s, so that there is a later one to begin from.
    listener = processes.start("listener", SHIPLOG_LISTENER__KEYFRAME_MAX_AGE_S="5")
    materializer = processes.start("materializer")
    for process in (listener, materializer):
        process.wait()
    for _ in range(4):
        load.change(150, per_second=200)
        wait_for(
            lambda: listener.metric("shiplog_listener_queued_events") < 10, timeout_s=10, what="events in Kafka"
        )
    wait_for(
        lambda: listener.metric("shiplog_listener_keyframes_total", reason="periodic") >= 1,
        timeout_s=30,
        what="a later keyframe",
    )
    load.change(50, per_second=100)
    processes.stop()

    codec = codecs().registry_event
    number = partition_of(namespace, PARTITIONS)
    events = [
        (message.offset(), codec.decode(message.value()))
        for message in read_all(kafka, REGISTRY_EVENTS)
        if message.partition() == number
    ]
    recorded = {m.version[REGISTRY_EVENTS]: m.digest for m in read_history(kafka)}
    keyframes = [offset for offset, event in events if isinstance(event.body, SyncStarted)]
    assert len(keyframes) >= 2
    assert len(recorded) > 20

    def replay(first: int) -> dict[int, str]:
        """The digest at each recorded version."""
        fold, view = (
            Fold(ConversionSettings(), GuardSettings()),
            NamespaceView(Namespace(namespace), ConversionSettings()),
        )
        digests = {}
        for offset, event in events:
            if offset < first:
                continue
            fold.apply(REGISTRY_EVENTS, offset, event)
            changes = fold.state.changes.get(Namespace(namespace))
            if changes is not None and changes.dirty and offset in recorded:
                dirty, changes.dirty = changes.dirty, Touched()
                update = view.update(fold.state, dirty, Occasion("replay"))
                assert update is not None
                view.published(update)
                digests[offset] = update.manifest.digest
        return digests

    from_the_beginning, from_a_keyframe = replay(0), replay(keyframes[-1])
    assert from_the_beginning == recorded
    assert from_a_keyframe
    assert all(recorded[offset] == digest for offset, digest in from_a_keyframe.items())


@pytest.mark.parametrize("topic", [REGISTRY_EVENTS, SNAPSHOTS])
def test_a_poison_record_is_quarantined_and_serving_goes_on(
    topic: str,
    processes: Processes,
    kafka: KafkaServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """It stands in the quarantine topic with its reason, is counted, and the next change arrives.

    Also one as large as a record may be: it is set aside cut, with its size and hash.
    """
    load.register(5, 2)
    _, materializer, gateway = processes.start_all()
    pilot = pilots(gateway.address)
    wait_for(lambda: pilot.last is not None, timeout_s=20, what="a first push")
    producer = Producer({"bootstrap.servers": kafka.servers, "message.max.bytes": MAX_RECORD_BYTES})
    key = ResourceKey(namespace, SERVICE_ENTRIES, "x/y").encode() if topic == SNAPSHOTS else namespace.encode()
    large = random.Random(1).randbytes(MAX_RECORD_BYTES - 64 * 1024)
    for value in (b"poison", b"\xc3\x01" + bytes(20), large):
        producer.produce(topic, key=key, value=value, partition=partition_of(namespace, PARTITIONS))
    producer.flush(10)
    load.state("svc-0", [make_instance(0, 7)])
    wait_for(
        lambda: "10.0.0.8" in str(pilot.endpoints()[f"{namespace}/svc-0.default-group.{namespace}"]),
        timeout_s=20,
        what="the next change",
    )
    victim, metric = (
        (gateway, "shiplog_gateway_quarantined_total")
        if topic == SNAPSHOTS
        else (materializer, "shiplog_materializer_quarantined_total")
    )
    assert victim.metric(metric) == 3
    wait_for(lambda: len(read_all(kafka, QUARANTINE)) == 3, timeout_s=10, what="all in the quarantine")
    decode = codecs().quarantined.decode
    found = [decode(message.value()) for message in read_all(kafka, QUARANTINE)]
    assert {record.reason for record in found} == {"bad_header", "unknown_schema"}
    assert {record.topic for record in found} == {topic}
    assert found[0].key == key
    (cut,) = [record for record in found if record.value_size == len(large)]
    assert cut.value == large[: len(cut.value)]
    assert cut.value_sha256 == hashlib.sha256(large).hexdigest()
