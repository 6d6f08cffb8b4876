"""A listener that starts on many services: time until all are subscribed and stated in the log, and memory.

The server is the fake one, which holds 100,000 services where a real one on this machine would not.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from bench.listen import start_server
from bench.stack import cpu_seconds
from tests.harness.processes import Processes
from tests.harness.servers import start_kafka

INSTANCES = 5


def run(*, quick: bool) -> None:
    """Prints seconds, CPU seconds and resident memory."""
    for services in (2_000,) if quick else (10_000, 100_000):
        with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name:
            _measure(Path(name), services)


def _measure(folder: Path, services: int) -> None:
    kafka = start_kafka(folder)
    kafka.wait()
    kafka.renew_topics()
    nacos = start_server(folder, services, INSTANCES, quiet=True)
    processes = Processes(folder, kafka, nacos, ["public"], group="keyframe")
    try:
        began = time.monotonic()
        listener = processes.start(
            "listener", SHIPLOG_NACOS__CONFIG_GROUPS="[]", SHIPLOG_LISTENER__LISTING_INTERVAL_S="10"
        )
        listener.wait(timeout_s=600)
        subscribed = time.monotonic() - began
        while listener.metric("shiplog_listener_keyframes_total", reason="session") < 1:
            time.sleep(0.1)
        while listener.metric("shiplog_listener_queued_events") > 0:
            time.sleep(0.1)
        took = time.monotonic() - began
        assert listener.child.process is not None
        resident = psutil.Process(listener.child.process.pid).memory_info().rss / 2**20
        print(
            f"    {services:,} services of {INSTANCES}: subscribed in {subscribed:.1f} s, keyframe in Kafka after "
            f"{took:.1f} s, {cpu_seconds(listener.child):.1f} CPU-s, {resident:,.0f} MiB resident",
            flush=True,
        )
    finally:
        processes.stop()
        nacos.child.kill()
        kafka.child.kill()
