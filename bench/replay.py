"""What an audit folds: events a second of `audit verify`'s own fold, on one core, and a snapshot rebuilt.

Real Kafka; the log is written as in `recover`, folded by the materializer's code as the audit runs it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.recover import NAMESPACES, write_log
from consumers.audit.namespace_log import NamespaceLog
from consumers.settings import ConversionSettings, GuardSettings
from runtime.settings import KafkaSettings
from schemas.avro_codec import codecs
from schemas.events import Namespace
from tests.harness.processes import Processes
from tests.harness.servers import PARTITIONS, NacosServer, start_kafka


def run(*, quick: bool) -> None:
    """Prints events and instances a second, of one namespace's partition."""
    services = 8_000 if quick else 80_000
    with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name:
        kafka = start_kafka(Path(name))
        kafka.wait()
        kafka.renew_topics()
        write_log(kafka, services)
        processes = Processes(Path(name), kafka, NacosServer(kafka.child, 1), [], group="replay")
        try:
            materializer = processes.start("materializer", SHIPLOG_MATERIALIZER__GUARD__SERVICE__MODE="enforce")
            materializer.wait(timeout_s=300)
            while materializer.metric("shiplog_materializer_namespaces") < NAMESPACES:
                time.sleep(0.2)
            guard = GuardSettings.model_validate(
                {"namespace": {"mode": "observe"}, "datacenter": {"mode": "observe"}}
            )
            with NamespaceLog(
                KafkaSettings(servers=kafka.servers),
                codecs(),
                Namespace("namespace-0"),
                partitions=PARTITIONS,
                conversion=ConversionSettings(),
                guard=guard,
            ) as log:
                found = log.at(int(time.time() * 1000))
                assert found is not None
                began, cpu = time.monotonic(), time.process_time()
                rebuilt = log.rebuild(found)
                took, spent = time.monotonic() - began, time.process_time() - cpu
            events = log.events_to_read(found)
            print(
                f"    {events:,} keyframe events of 10 instances: {rebuilt.verdict} after {took:.1f} s, "
                f"{events / spent:,.0f} events and {events * 10 / spent:,.0f} instances a CPU-second",
                flush=True,
            )
        finally:
            processes.stop()
            kafka.child.kill()
