"""A thousand Pilots that follow ten thousand services: how late each change is, and what it costs.

Snapshots are written to Kafka as a materializer does; the clients are processes of their own. A change counts for
a client when it has a version that holds it, whether sent by itself or together with later ones.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench.snapshots import SnapshotWriter
from bench.stack import cpu_seconds
from shiplog.local_stack.child import Child
from tests.harness.processes import Processes
from tests.harness.servers import NacosServer, start_kafka

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.processes import Process
    from tests.harness.servers import KafkaServer

FLEETS = 4
ENDPOINTS = 10
_EVERY = 10
"""Every so many changes one is followed: a tenth says as much as all."""


def run(*, quick: bool) -> None:
    """One gateway; then with stalled clients; then two gateways."""
    services, streams, seconds = (1_000, 100, 10) if quick else (10_000, 1_000, 60)
    with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name:
        kafka = start_kafka(Path(name))
        kafka.wait()
        try:
            for per_second, gateways, stalled in ((20, 1, 0), (100, 1, 0), (100, 1, streams // 20), (100, 2, 0)):
                _measure(
                    kafka,
                    Path(name),
                    services=services,
                    streams=streams,
                    seconds=seconds,
                    per_second=per_second,
                    gateways=gateways,
                    stalled=stalled,
                )
            _restart(kafka, Path(name), services=services, streams=streams)
        finally:
            kafka.child.kill()


def _restart(kafka: KafkaServer, folder: Path, *, services: int, streams: int) -> None:
    """Every gateway gone at once: how soon all clients have everything again from the one that comes back."""
    _published(kafka, services)
    processes = Processes(folder, kafka, NacosServer(kafka.child, 1), [], group="pilots")
    try:
        gateway = processes.start("gateway")
        gateway.wait()
        with _fleets([gateway], folder, streams, 0) as outs:
            gateway.child.kill()
            gateway.start()
            gateway.wait()
            ready = time.time()
            time.sleep(30)
            resident = _resident(gateway)
        back = sorted(_first_pushes(outs, ready))
        print(
            f"    {streams:,} streams after a restart of all gateways, {services:,} services: {len(back):,} back, "
            f"half of them {back[len(back) // 2]:.1f} s after it was ready, the last {back[-1]:.1f} s; "
            f"{resident / 2**20:,.0f} MiB resident",
            flush=True,
        )
    finally:
        processes.stop()


def _published(kafka: KafkaServer, services: int) -> SnapshotWriter:
    """Fresh topics with so many services, and what writes more of them."""
    kafka.renew_topics()
    writer = SnapshotWriter(kafka.servers)
    for number in range(services):
        writer.put(number, ENDPOINTS)
    writer.publish()
    writer.flush()
    return writer


def _first_pushes(outs: list[Path], since: float) -> list[float]:
    """Seconds to the first push of each client after a moment."""
    found: dict[tuple[Path, str], float] = {}
    for out in outs:
        for line in out.read_text().splitlines():
            stream, version, *_ = line.split()
            at = float(line.split()[2])
            if version != "ended" and at > since - 1:
                found.setdefault((out, stream), at - since)
    return list(found.values())


def _measure(
    kafka: KafkaServer,
    folder: Path,
    *,
    services: int,
    streams: int,
    seconds: int,
    per_second: int,
    gateways: int,
    stalled: int,
) -> None:
    writer = _published(kafka, services)
    processes = Processes(folder, kafka, NacosServer(kafka.child, 1), [], group="pilots")
    running = [
        processes.start("gateway", SHIPLOG_GATEWAY__LIMITS__MAX_STREAMS_PER_IDENTITY="5000")
        for _ in range(gateways)
    ]
    try:
        for gateway in running:
            gateway.wait()
        with _fleets(running, folder, streams, stalled) as outs:
            before = sum(cpu_seconds(gateway.child) for gateway in running)
            published: list[tuple[str, float]] = []
            began = time.monotonic()
            for number in range(per_second * seconds):
                pause = began + number / per_second - time.monotonic()
                if pause > 0:
                    time.sleep(pause)
                writer.put(number % services, ENDPOINTS, revision=number + 1)
                writer.publish(lambda digest, at: published.append((digest, at)))
            writer.flush()
            spent = sum(cpu_seconds(gateway.child) for gateway in running) - before
            time.sleep(5)
            resident = [_resident(gateway) for gateway in running]
        took = time.monotonic() - began - 5
        late, messages = _lateness(outs, published, stalled)
        print(
            f"    {streams:,} streams ({stalled} stalled), {services:,} services, {per_second} changes/s, "
            f"{gateways} gateway(s): p50 {late[len(late) // 2] * 1000:,.0f} ms, "
            f"p99 {late[int(len(late) * 0.99)] * 1000:,.0f} ms; {messages / took:,.0f} pushes/s, "
            f"{spent / took:.2f} cores, {', '.join(f'{one / 2**20:,.0f}' for one in resident)} MiB resident",
            flush=True,
        )
    finally:
        processes.stop()


@contextmanager
def _fleets(gateways: list[Process], folder: Path, streams: int, stalled: int) -> Iterator[list[Path]]:
    """Client processes, all connected; at the end of the `with` their files are written."""
    addresses = ",".join(gateway.address for gateway in gateways)
    outs = [folder / f"fleet-{time.time_ns()}-{number}.txt" for number in range(FLEETS)]
    children = [
        Child(
            name=f"fleet {out.stem}",
            command=[
                sys.executable, "-m", "bench.fleet", addresses, str(streams // FLEETS), str(out), "incremental",
                f"stalled={stalled // FLEETS}",
            ],
            log=folder / f"{out.stem}.log",
        )
        for out in outs
    ]  # fmt: skip
    for child in children:
        child.start()
    try:
        deadline = time.monotonic() + 120
        while not all(out.exists() for out in outs):
            if time.monotonic() > deadline or not all(child.running for child in children):
                raise RuntimeError(f"the clients are not connected: {children[0].log_tail()}")
            time.sleep(0.2)
        yield outs
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.stop(30)


def _lateness(outs: list[Path], published: list[tuple[str, float]], stalled: int) -> tuple[list[float], int]:
    """Seconds from each followed change to each client that has it; and the pushes in all."""
    index_of = {digest: index for index, (digest, _) in enumerate(published)}
    found, messages = [], 0
    for out in outs:
        reached: dict[str, int] = {}
        for line in out.read_text().splitlines():
            stream, version, at, _ = line.split()
            index = index_of.get(version)
            if index is None or int(stream) < stalled // FLEETS:
                continue
            messages += 1
            first = reached.get(stream, -1) + 1
            found += [float(at) - published[one][1] for one in range(first + -first % _EVERY, index + 1, _EVERY)]
            reached[stream] = max(index, reached.get(stream, -1))
    return sorted(found), messages


def _resident(gateway: Process) -> int:
    assert gateway.child.process is not None
    return int(psutil.Process(gateway.child.process.pid).memory_info().rss)
