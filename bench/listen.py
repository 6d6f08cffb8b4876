"""Pushes a second that the listener takes in: decoded, acknowledged, compared, published to a real Kafka.

The fake server pushes as fast as it is read. Beside it Nacos's own Python SDK in an environment of its own, which
decodes and calls back, and publishes nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from bench.stack import cpu_seconds
from shiplog.local_stack.child import Child
from tests.harness.processes import Processes
from tests.harness.servers import JARS, NacosServer, free_port, start_kafka

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = ((200, 10), (1, 20_000))
"""Services and instances of each."""
_MOST_FOR_THE_SDK = 10_000
"""It receives no message over 4 MB."""
_SDK = "nacos-sdk-python==3.2.0"


def run(*, quick: bool) -> None:
    """Prints pushes a second, by the clock and by CPU time."""
    seconds = 5 if quick else 20
    for services, instances in SHAPES[:1] if quick else SHAPES:
        print(f"{services} services of {instances:,}, each push changes one instance, {seconds} s")
        with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name:
            folder = Path(name)
            _listener(folder, seconds, services, instances)
            if instances < _MOST_FOR_THE_SDK:
                _sdk(folder, seconds, services, instances)


def _listener(folder: Path, seconds: float, services: int, instances: int) -> None:
    kafka = start_kafka(folder)
    kafka.wait()
    kafka.renew_topics()
    nacos = start_server(folder, services, instances)
    processes = Processes(folder, kafka, nacos, ["public"], group="listen")
    try:
        listener = processes.start("listener", SHIPLOG_NACOS__CONFIG_GROUPS="[]")
        listener.wait()
        _until(lambda: listener.metric("shiplog_listener_pushes_total") > 0)
        time.sleep(2)
        pushes, events = (
            lambda: listener.metric("shiplog_listener_pushes_total"),
            lambda: listener.metric("shiplog_listener_events_total", kind="ServiceDelta"),
        )
        before, began, cpu = (pushes(), events()), time.monotonic(), cpu_seconds(listener.child)
        time.sleep(seconds)
        done, took, used = (pushes(), events()), time.monotonic() - began, cpu_seconds(listener.child) - cpu
        taken, written = done[0] - before[0], done[1] - before[1]
        print(
            f"    listener: {taken / took:8,.1f} pushes/s, {taken / used:,.1f} per CPU-second "
            f"({used / took:.0%} of a core); {written / taken:.0%} of them written as an event of their own"
        )
    finally:
        processes.stop()
        nacos.child.kill()
        kafka.child.kill()


def _sdk(folder: Path, seconds: float, services: int, instances: int) -> None:
    python = _sdk_environment()
    nacos = start_server(folder, services, instances)
    out = folder / "sdk.txt"
    script = Path(__file__).with_name("sdk_client.py")
    child = Child(
        name="the SDK",
        command=[str(python), str(script), f"127.0.0.1:{nacos.port}", str(services), str(out)],
        log=folder / "sdk.log",
        directory=folder,
    )
    child.start()
    try:
        count: Callable[[], int] = lambda: int(out.read_text() or 0) if out.exists() else 0  # noqa: E731
        _until(lambda: count() > 2 * services, child)
        time.sleep(2)
        before, began, cpu = count(), time.monotonic(), cpu_seconds(child)
        time.sleep(seconds)
        taken, took, used = count() - before, time.monotonic() - began, cpu_seconds(child) - cpu
        print(
            f"    {_SDK}: {taken / took:8,.1f} pushes/s, {taken / used:,.1f} per CPU-second "
            f"({used / took:.0%} of a core); nothing compared, nothing published"
        )
    finally:
        child.kill()
        nacos.child.kill()


def start_server(folder: Path, services: int, instances: int, *, quiet: bool = False) -> NacosServer:
    """The fake server, in a process of its own; a quiet one pushes nothing."""
    port = free_port(1000)
    child = Child(
        name="the firehose",
        command=[
            *(sys.executable, "-m", "bench.firehose", str(port), str(services), str(instances)),
            *(["quiet"] if quiet else []),
        ],
        log=folder / "firehose.log",
    )
    child.start()
    server = NacosServer(child, port)
    child.wait_until(lambda: _answers(server), timeout_s=60)
    return server


def _answers(server: NacosServer) -> bool:
    try:
        return httpx.get(f"{server.url}/nacos/v1/console/server/state", timeout=1).is_success
    except httpx.HTTPError:
        return False


def _sdk_environment() -> Path:
    """The SDK's own environment, made once."""
    folder = JARS.parent / "nacos-sdk"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", _SDK], check=True)
    return python


def _until(condition: Callable[[], bool], child: Child | None = None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing is pushed: {child.log_tail() if child else ''}")
        time.sleep(0.1)
