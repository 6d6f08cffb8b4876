"""What an audit folds: the events of a snapshot rebuilt, and of `audit verify`, each a CPU-second on one core.

Real Kafka. One namespace, 2,000 services of 20 instances; each event behind the keyframe changes one instance. A
materializer published them as they came, as fast as they were written.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.lag import NAMESPACE, SERVICES, Writer, changes
from consumers.audit.namespace_log import NamespaceLog
from consumers.audit.partition_log import PartitionLog
from consumers.audit.verdict import Verdict
from consumers.audit.verifying import verify
from consumers.settings import ConversionSettings, GuardSettings
from runtime.lifecycle import tune_garbage_collector
from runtime.settings import KafkaSettings
from schemas.avro_codec import codecs
from tests.harness.processes import Processes
from tests.harness.servers import PARTITIONS, NacosServer, start_kafka

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.servers import KafkaServer

GUARD = GuardSettings.model_validate(
    {scope: {"mode": "observe"} for scope in ("service", "namespace", "datacenter")}
)


def run(*, quick: bool) -> None:
    """Prints events a CPU-second, of a rebuild and of a verification."""
    tune_garbage_collector()  # as the command does
    count = 40_000 if quick else 400_000
    with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name, _published(Path(name), count) as kafka:
        settings = KafkaSettings(servers=kafka.servers)
        with NamespaceLog(
            settings,
            codecs(),
            NAMESPACE,
            partitions=PARTITIONS,
            conversion=ConversionSettings(),
            guard=GUARD,
        ) as log:
            found = log.at(int(time.time() * 1000))
            assert found is not None, "nothing was published"
            events = log.events_to_read(found)
            began = time.monotonic(), time.process_time()
            verdict = log.rebuild(found).verdict
            _report(f"a snapshot rebuilt: {verdict}", events, began)
            number = log.number
        partition = PartitionLog(settings, codecs(), number)
        began = time.monotonic(), time.process_time()
        verdicts = [finding.verdict for finding in verify(partition, ConversionSettings(), GUARD)]
        good = verdicts.count(Verdict.VERIFIED)
        _report(f"{good} of {len(verdicts)} snapshots verified", events, began)


def _report(what: str, events: int, began: tuple[float, float]) -> None:
    took, spent = time.monotonic() - began[0], time.process_time() - began[1]
    print(
        f"    {what}, {events:,} events of one instance in {took:.1f} s: {events / took:,.0f} a second, "
        f"{events / spent:,.0f} a CPU-second",
        flush=True,
    )


@contextmanager
def _published(folder: Path, count: int) -> Iterator[KafkaServer]:
    """A Kafka that holds a keyframe, so many changes, and the snapshots of them."""
    kafka = start_kafka(folder)
    kafka.wait()
    kafka.renew_topics()
    writer = Writer(kafka.servers)
    processes = Processes(folder, kafka, NacosServer(kafka.child, 1), [], group="replay")
    try:
        materializer = processes.start("materializer")
        materializer.wait(timeout_s=300)
        for body in itertools.islice(changes(), SERVICES + 2 + count):
            writer.write(body)
            writer.producer.poll(0)
        writer.producer.flush(60)
        while materializer.metric("shiplog_materializer_events_total") < SERVICES + 2 + count:
            time.sleep(0.2)
        time.sleep(1)
        yield kafka
    finally:
        processes.stop()
        kafka.child.kill()
