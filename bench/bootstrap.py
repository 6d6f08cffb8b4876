"""A gateway that starts on a big snapshot topic: time until it is ready, CPU, memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from bench.snapshots import SnapshotWriter
from bench.stack import cpu_seconds
from tests.harness.processes import Processes
from tests.harness.servers import NacosServer, start_kafka

ENDPOINTS = 10


def run(*, quick: bool) -> None:
    """Prints seconds, CPU seconds and resident memory."""
    for services in (2_000,) if quick else (10_000, 100_000):
        with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name:
            folder = Path(name)
            kafka = start_kafka(folder)
            kafka.wait()
            kafka.renew_topics()
            writers = [SnapshotWriter(kafka.servers, f"bench-{number}") for number in range(8)]
            for number in range(services):
                writers[number % 8].put(number, ENDPOINTS)
            for writer in writers:
                writer.publish()
                writer.flush()
            processes = Processes(folder, kafka, NacosServer(kafka.child, 1), [], group="bootstrap")
            try:
                began = time.monotonic()
                gateway = processes.start("gateway")
                gateway.wait(timeout_s=300)
                took = time.monotonic() - began
                assert gateway.child.process is not None
                resident = psutil.Process(gateway.child.process.pid).memory_info().rss
                print(
                    f"    {services:,} resources of {ENDPOINTS} endpoints: ready in {took:.1f} s, "
                    f"{cpu_seconds(gateway.child):.1f} CPU-s, {resident / 2**20:,.0f} MiB resident",
                    flush=True,
                )
            finally:
                processes.stop()
                kafka.child.kill()
