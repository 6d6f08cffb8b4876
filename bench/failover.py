"""One of three brokers killed: how long events can't be written, and how long nothing is published.

Three brokers, replication factor 3, min.insync.replicas 2, two materializers. Every partition gets 20 changes a
second, written as a listener writes them. Of each kill two gaps are printed, each the longest of all partitions:

- events: between two acknowledgements of the event topic. This is Kafka's own pause: it takes
  `broker.session.timeout.ms`, 9 s, to notice that a broker is gone.
- published: between two manifests, as a reader of committed records receives them.

Each broker is killed in turn, and started again once all goes on without it. At the end the log must prove every
snapshot (`shiplog audit verify`).
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_END, TopicPartition

from bench.lag import changes
from producers.listener.session import Session
from runtime.kafka_reader import ungrouped_consumer
from runtime.kafka_writer import lasting_producer
from schemas.avro_codec import codecs
from schemas.events import Datacenter, SessionId
from schemas.topics import REGISTRY_EVENTS, SNAPSHOTS
from tests.harness.kafka_cluster import NODES, start_cluster
from tests.harness.processes import Processes
from tests.harness.servers import PARTITIONS, NacosServer
from tests.harness.written_log import namespace_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import KafkaError, Message

    from schemas.events import RegistryEvent
    from tests.harness.kafka_cluster import KafkaCluster

KILLS = 10
SERVICES = 50
MATERIALIZERS = 2
PAUSE_S = 0.05
SETTLE_S = 8.0
WINDOW_S = 30.0
MOST_S = 180.0


def run(*, quick: bool) -> None:
    """Prints both gaps of each kill, their medians, and what the audit finds."""
    with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name, _running(Path(name)) as running:
        measure(*running, kills=3 if quick else KILLS)


def measure(cluster: KafkaCluster, log: Log, processes: Processes, kills: int) -> None:
    """Kills so many brokers, one after the other."""
    events, published = [], []
    for node in itertools.islice(itertools.cycle(NODES), kills):
        time.sleep(SETTLE_S)
        killed_at = time.monotonic()
        cluster.kill(node)
        time.sleep(WINDOW_S)
        while log.is_silent and time.monotonic() - killed_at < MOST_S:
            time.sleep(1)
        events.append(_gap(log.acknowledged, killed_at))
        published.append(_gap(log.published, killed_at))
        print(
            f"    broker {node} killed: events {events[-1]:.1f} s, published {published[-1]:.1f} s, "
            f"{published[-1] - events[-1]:+.1f} s",
            flush=True,
        )
        cluster.restart(node)
    beyond = [there - here for here, there in zip(events, published, strict=True)]
    print(
        f"    median of {kills}: events {statistics.median(events):.1f} s, published "
        f"{statistics.median(published):.1f} s, beyond Kafka's own {statistics.median(beyond):+.1f} s "
        f"({min(beyond):+.1f} to {max(beyond):+.1f})",
        flush=True,
    )
    log.stop()
    time.sleep(SETTLE_S)
    done = processes.run("audit", "verify", "--all", "--output", "json")
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    report = json.loads(done.stdout)
    print(f"    audit: {report['verified']} verified, {report['mismatch']} mismatches", flush=True)


def _gap(times: dict[int, list[float]], killed_at: float) -> float:
    """The longest gap of any partition that ends after the kill; one that fell silent counts until now."""
    marks = [[*partition_times, time.monotonic()] for partition_times in times.values()]
    return max(later - earlier for one in marks for earlier, later in itertools.pairwise(one) if later > killed_at)


class Log:
    """Writes changes to every partition, and notes when Kafka acknowledges them and when manifests arrive."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self.acknowledged: dict[int, list[float]] = defaultdict(list)
        self.published: dict[int, list[float]] = defaultdict(list)
        self._encode = codecs().registry_event.encode
        self._producer = lasting_producer(cluster.settings, "bench-writer", 100_000, 64 * 2**20)
        self._consumer = ungrouped_consumer(cluster.settings, "bench-reader", when_gone="latest")
        self._consumer.assign([TopicPartition(SNAPSHOTS, number, OFFSET_END) for number in range(PARTITIONS)])
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write), threading.Thread(target=self._read)]

    def start(self) -> None:
        """Starts both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends both threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def is_silent(self) -> bool:
        """Whether a partition published nothing within the last seconds."""
        return any(time.monotonic() - times[-1] > 2 for times in self.published.values())

    def _write(self) -> None:
        sources = {number: _events(number) for number in range(PARTITIONS)}
        while not self._stop.is_set():
            began = time.monotonic()
            for number, events in sources.items():
                event = next(events)
                self._producer.produce(
                    REGISTRY_EVENTS,
                    value=self._encode(event),
                    key=event.namespace.encode(),
                    partition=number,
                    on_delivery=partial(self._acknowledge, number),
                )
            while time.monotonic() - began < PAUSE_S:
                self._producer.poll(0.002)
        self._producer.flush(60)

    def _acknowledge(self, number: int, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            raise RuntimeError(error.str())
        self.acknowledged[number].append(time.monotonic())

    def _read(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None and (message.key() or b"").endswith(b"|manifest"):
                self.published[message.partition() or 0].append(time.monotonic())
        self._consumer.close()


def _events(partition: int) -> Iterator[RegistryEvent]:
    """A session in that partition: a keyframe, then changes without end."""
    session = Session(datacenter=Datacenter("dc1"), partition=partition, id=SessionId("bench"), epoch=1)
    for body in changes(SERVICES):
        yield session.event(namespace_in(partition), body, time.time_ns() // 1000)
        session.taken()


@contextmanager
def _running(folder: Path) -> Iterator[tuple[KafkaCluster, Log, Processes]]:
    """Brokers, materializers, and a log that is being written."""
    cluster = start_cluster(folder, secure=False)
    processes = Processes(folder, cluster, NacosServer(cluster.brokers[1], 1), [], group="failover")
    log: Log | None = None
    try:
        cluster.wait()
        cluster.renew_topics()
        for _ in range(MATERIALIZERS):
            processes.start("materializer")
        for process in processes.started:
            process.wait()
        log = Log(cluster)
        log.start()
        yield cluster, log, processes
    finally:
        if log is not None:
            log.stop()
        processes.stop()
        cluster.stop()
