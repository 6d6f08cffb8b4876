"""A materializer that starts on a big log: time until it is ready, CPU, and memory per instance.

The log is written here as a listener writes it: sessions with one keyframe for each of eight namespaces. Started
for the first time, the materializer publishes all of it; killed with -9 and started again, it recovers.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from confluent_kafka import Producer

from bench.stack import cpu_seconds
from schemas.avro_codec import codecs
from schemas.events import (
    Datacenter,
    Instance,
    Namespace,
    RegistryEvent,
    ServiceKey,
    ServiceState,
    SessionId,
    SyncCompleted,
    SyncStarted,
)
from schemas.partitioner import partition_of
from schemas.topics import REGISTRY_EVENTS
from tests.harness.processes import Processes
from tests.harness.servers import PARTITIONS, NacosServer, start_kafka

if TYPE_CHECKING:
    from schemas.events import RegistryBody
    from tests.harness.processes import Process
    from tests.harness.servers import KafkaServer

NAMESPACES = 8
INSTANCES = 10


def run(*, quick: bool) -> None:
    """Prints seconds, CPU seconds, and resident memory for the first start and for a recovery."""
    for services in (2_000,) if quick else (10_000, 100_000):
        with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name:
            _measure(Path(name), services)


def _measure(folder: Path, services: int) -> None:
    kafka = start_kafka(folder)
    kafka.wait()
    kafka.renew_topics()
    write_log(kafka, services)
    processes = Processes(folder, kafka, NacosServer(kafka.child, 1), [], group="recover")
    instances = services * INSTANCES
    try:
        materializer = processes.start("materializer")
        _report("first start", materializer, instances)
        time.sleep(12)  # so that its offsets are committed
        materializer.child.kill()
        materializer.start()
        _report("recovery", materializer, instances)
    finally:
        processes.stop()
        kafka.child.kill()


def _report(what: str, materializer: Process, instances: int) -> None:
    began = time.monotonic()
    materializer.wait(timeout_s=900)
    took = time.monotonic() - began
    while materializer.metric("shiplog_materializer_namespaces") < NAMESPACES:
        time.sleep(0.1)
    published = time.monotonic() - began
    assert materializer.child.process is not None
    tree = psutil.Process(materializer.child.process.pid)
    resident = sum(one.memory_info().rss for one in (tree, *tree.children(recursive=True)))
    print(
        f"    {instances:9,} instances, {what}: ready in {took:.1f} s, all published after {published:.1f} s, "
        f"{cpu_seconds(materializer.child):.1f} CPU-s, {resident / 2**20:,.0f} MiB resident, "
        f"{resident / instances:,.0f} bytes an instance",
        flush=True,
    )


def _instance(number: int) -> Instance:
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Instance(
        ip=address,
        port=8080,
        cluster="DEFAULT",
        weight=1.0,
        healthy=True,
        enabled=True,
        ephemeral=True,
        metadata={"version": "v1", "rev": str(number % 100)},
    )


def write_log(kafka: KafkaServer, services: int) -> None:
    """A log of so many services, in as many namespaces as there are."""
    encode = codecs().registry_event.encode
    config = {"bootstrap.servers": kafka.servers, "linger.ms": 50, "compression.type": "lz4"}
    producer = Producer(config | {"enable.idempotence": True})
    sequences = dict.fromkeys(range(PARTITIONS), 0)

    def add(namespace: Namespace, body: RegistryBody) -> None:
        number = partition_of(namespace, PARTITIONS)
        event = RegistryEvent(
            datacenter=Datacenter("dc1"),
            namespace=namespace,
            session=SessionId(f"session-{number}"),
            epoch=1,
            sequence=sequences[number],
            observed_at=time.time_ns() // 1000,
            body=body,
        )
        sequences[number] += 1
        while True:
            try:
                producer.produce(REGISTRY_EVENTS, encode(event), namespace.encode(), partition=number)
            except BufferError:
                producer.poll(0.1)
            else:
                return

    each = services // NAMESPACES
    for number in range(NAMESPACES):
        namespace = Namespace(f"namespace-{number}")
        add(namespace, SyncStarted(reason="bench"))
        for service in range(each):
            first = (number * each + service) * INSTANCES
            instances = tuple(_instance(first + index) for index in range(INSTANCES))
            add(namespace, ServiceState(key=ServiceKey("DEFAULT_GROUP", f"svc-{service}"), instances=instances))
        add(namespace, SyncCompleted(services=each, config_items=0))
    producer.flush(60)
