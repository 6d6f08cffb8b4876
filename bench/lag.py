"""How far a materializer is behind its log: 20 changes a second, and 5,000.

Events are written straight into the log, as a listener would; each changes the weight of one instance of one of
2,000 services of 20. The time is from the event's observation to the committed snapshot.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from bench.stack import cpu_seconds
from producers.listener.diff import diff, state
from producers.listener.observation import Observation
from producers.listener.session import Session
from schemas.avro_codec import codecs
from schemas.events import Datacenter, Namespace, ServiceKey, SessionId, SyncCompleted, SyncStarted
from schemas.partitioner import partition_of
from schemas.topics import REGISTRY_EVENTS
from tests.harness.load import make_instance
from tests.harness.processes import Processes
from tests.harness.servers import PARTITIONS, NacosServer, start_kafka

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.events import RegistryBody
    from tests.harness.processes import Process

NAMESPACE = Namespace("public")
SERVICES = 2000
INSTANCES = 20
BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)


def run(*, quick: bool) -> None:
    """Prints, for each rate, the shares of snapshots in time, changes a snapshot, the largest lag, CPU."""
    with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name:
        folder = Path(name)
        kafka = start_kafka(folder)
        kafka.wait()
        kafka.renew_topics()
        writer = Writer(kafka.servers)
        bodies = changes()
        for body in itertools.islice(bodies, SERVICES + 2):
            writer.write(body)
        processes = Processes(folder, kafka, NacosServer(kafka.child, 1), [], group="lag")
        materializer = processes.start("materializer")
        try:
            materializer.wait()
            while materializer.metric("shiplog_materializer_versions_total") < 1:
                time.sleep(0.1)
            time.sleep(2)  # until the last report before the changes is made
            for rate in (20, 1000, 5000):
                _measure(materializer, writer, bodies, rate, seconds=5 if quick else 20)
        finally:
            processes.stop()
            kafka.child.kill()


def _measure(
    materializer: Process, writer: Writer, bodies: Iterator[RegistryBody], rate: int, seconds: int
) -> None:
    before = _counts(materializer)
    versions = materializer.metric("shiplog_materializer_versions_total")
    cpu, began, written, worst = cpu_seconds(materializer.child), time.monotonic(), 0, 0.0
    while (now := time.monotonic()) - began < seconds:
        for body in itertools.islice(bodies, int((now - began) * rate) - written):
            writer.write(body)
            written += 1
        writer.producer.poll(0)
        time.sleep(0.002)
        if written % max(rate // 2, 1) == 0:
            worst = max(worst, materializer.metric("shiplog_materializer_lag_events"))
    writer.producer.flush(10)
    time.sleep(1)
    made = materializer.metric("shiplog_materializer_versions_total") - versions
    after = _counts(materializer)
    shares = "  ".join(
        f"{bucket:g} s: {100 * (then - former) / made:.1f} %"
        for bucket, former, then in zip(BUCKETS_S, before, after, strict=True)
    )
    used = cpu_seconds(materializer.child) - cpu
    print(
        f"    {written / seconds:5,.0f} changes/s: {written / made:.1f} a snapshot, lag at most {worst:,.0f}, "
        f"{used / seconds:.2f} of a core; within {shares}",
        flush=True,
    )


def _counts(materializer: Process) -> list[float]:
    name = "shiplog_materializer_event_to_snapshot_seconds_bucket"
    return [materializer.metric(name, le=str(float(bucket))) for bucket in BUCKETS_S]


class Writer:
    """A listener's session in one partition."""

    def __init__(self, servers: str) -> None:
        config = {"bootstrap.servers": servers, "linger.ms": 1, "compression.type": "lz4"}
        self.producer = Producer(config | {"enable.idempotence": True})  # in order, also when it tries again
        self._session = Session(datacenter=Datacenter("dc1"), partition=0, id=SessionId("s"), epoch=1)
        self._encode = codecs().registry_event.encode

    def write(self, body: RegistryBody) -> None:
        """The event, observed now."""
        event = self._session.event(NAMESPACE, body, time.time_ns() // 1000)
        self._session.taken()
        self.producer.produce(
            REGISTRY_EVENTS,
            self._encode(event),
            NAMESPACE.encode(),
            partition=partition_of(NAMESPACE, PARTITIONS),
        )


def changes(services: int = SERVICES) -> Iterator[RegistryBody]:
    """A keyframe of so many services, then changes without end."""
    stated = {}
    yield SyncStarted(reason="bench")
    for number in range(services):
        key = ServiceKey("DEFAULT_GROUP", f"svc-{number}")
        instances = tuple(make_instance(number, index) for index in range(INSTANCES))
        body, stated[key] = state(key, Observation(visible=instances))
        yield body
    yield SyncCompleted(services=services, config_items=0)
    dice = random.Random(1)
    keys = list(stated)
    while True:
        key = dice.choice(keys)
        known = dict(stated[key].instances)
        chosen = dice.choice(list(known))
        known[chosen] = known[chosen]._replace(weight=float(dice.randrange(1, 1000)))
        delta, stated[key] = diff(key, stated[key], Observation(visible=tuple(known.values())))
        if delta is not None:
            yield delta
