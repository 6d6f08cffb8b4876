"""Real Kafka, real Nacos and shiplog's processes for a benchmark, in a folder that goes away."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from shiplog.local_stack.child import Child
from tests.harness.load import Load
from tests.harness.processes import Process, Processes
from tests.harness.servers import KafkaServer, NacosServer, start_kafka, start_nacos

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "bench"


@contextmanager
def servers(*, istio_module: bool = False) -> Iterator[tuple[KafkaServer, NacosServer, Path]]:
    """A Kafka and a Nacos that are ready, and a folder."""
    with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name:
        folder = Path(name)
        kafka, nacos = start_kafka(folder), start_nacos(folder, istio_module=istio_module)
        try:
            kafka.wait()
            nacos.wait()
            nacos.create_namespace(NAMESPACE)
            yield kafka, nacos, folder
        finally:
            kafka.child.kill()
            nacos.child.kill()


@contextmanager
def running(
    kafka: KafkaServer, nacos: NacosServer, folder: Path, group: str
) -> Iterator[tuple[Process, Process, Process]]:
    """shiplog over new topics: listener, materializer, gateway."""
    kafka.renew_topics()
    processes = Processes(folder, kafka, nacos, [NAMESPACE], group=group)
    try:
        yield processes.start_all()
    finally:
        processes.stop()


@contextmanager
def registered(nacos: NacosServer, services: int, instances: int) -> Iterator[Load]:
    """Services in Nacos."""
    load = Load(nacos.url, NAMESPACE)
    try:
        load.register(services, instances)
        time.sleep(2)
        yield load
    finally:
        load.close()


@contextmanager
def raw_client(address: str, folder: Path, *options: str) -> Iterator[Path]:
    """A client process; the file that it writes to."""
    out = folder / f"client-{time.time_ns()}.txt"
    child = Child(
        name="the client",
        command=[sys.executable, "-m", "bench.raw_client", address, str(out), *options],
        log=folder / "client.log",
    )
    child.start()
    try:
        deadline = time.monotonic() + 60
        while not (out.exists() and out.stat().st_size):
            if time.monotonic() > deadline or not child.running:
                raise RuntimeError(f"the client got nothing: {child.log_tail()}")
            time.sleep(0.05)
        yield out
    finally:
        child.kill()


def cpu_seconds(child: Child) -> float:
    """User and system time that a child has used."""
    assert child.process is not None
    times = psutil.Process(child.process.pid).cpu_times()
    return times.user + times.system
