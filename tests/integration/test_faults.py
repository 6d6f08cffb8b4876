"""Processes killed and Kafka gone in the middle of changes: nothing lost, nothing partial, nothing going back."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.harness.load import GROUP, expected_endpoints
from tests.harness.logs import read_history
from tests.harness.pilot import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Process, Processes
    from tests.harness.servers import Kafka, KafkaServer, NacosServer

SERVICES = 100
KILLS = int(os.environ.get("SHIPLOG_KILLS", "3"))
"""Of each process; `make soak` sets many."""
OUTAGE_S = float(os.environ.get("SHIPLOG_KAFKA_OUTAGE_S", "30"))
MEMORY_MIB = 400


def assert_history_is_sound(kafka: Kafka, pilot: Pilot) -> None:
    """Versions only rise, none stands for two contents, and the client never saw one again that had passed."""
    history = [manifest for manifest in read_history(kafka) if manifest.version]
    offsets = [next(iter(manifest.version.values())) for manifest in history]
    assert offsets == sorted(offsets)
    digest_of: dict[int, str] = {}
    for offset, manifest in zip(offsets, history, strict=True):
        assert digest_of.setdefault(offset, manifest.digest) == manifest.digest
    assert len(set(pilot.versions)) == len(pilot.versions), "a version came back"
    assert min(pilot.sizes) == SERVICES, "a partial or empty snapshot was sent"


class Changes:
    """Random changes in the background, for as long as faults are made."""

    def __init__(self, load: Load, per_second: float = 100) -> None:
        self._load = load
        self._per_second = per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._load.change(20, per_second=self._per_second)


def assert_converges(pilot: Pilot, nacos: NacosServer, namespace: str, load: Load) -> None:
    """The client ends with what Nacos itself says."""
    services = [(GROUP, name) for name in load.services]
    wait_for(
        lambda: pilot.endpoints() == expected_endpoints(namespace, nacos.hosts(namespace, services)),
        timeout_s=60,
        what="the client has what Nacos has",
    )


@pytest.mark.parametrize("victim", ["listener", "materializer", "gateway"])
@pytest.mark.timeout(300 + 30 * KILLS)
def test_a_process_killed_in_the_middle_of_changes(
    victim: str,
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """kill -9 and restart, at random moments: the client converges to Nacos's state."""
    load.register(SERVICES, 5)
    running: dict[str, Process] = {process.kind: process for process in processes.start_all()}
    pilot = pilots(running["gateway"].address)
    wait_for(lambda: pilot.last is not None, timeout_s=30, what="a first push")
    dice = random.Random(7)
    with Changes(load):
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.3, 2.0))
            running[victim].child.kill()
            running[victim].start()
            running[victim].wait()
    assert_converges(pilot, nacos, namespace, load)
    assert_history_is_sound(kafka, pilot)


@pytest.mark.timeout(300 + 2 * OUTAGE_S)
def test_an_outage_of_kafka(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """Kafka away in the middle of changes: the gateway serves on, then the client converges; memory is bounded."""
    load.register(SERVICES, 5)
    listener, _, gateway = processes.start_all()
    pilot = pilots(gateway.address)
    wait_for(lambda: pilot.last is not None, timeout_s=30, what="a first push")
    with Changes(load):
        time.sleep(1)
        kafka.child.kill()
        time.sleep(OUTAGE_S / 2)
        late = pilots(gateway.address)
        wait_for(lambda: late.last is not None, timeout_s=10, what="an answer while Kafka is away")
        time.sleep(OUTAGE_S / 2)
        kafka.child.start()
        kafka.wait()
        time.sleep(2)
    assert_converges(pilot, nacos, namespace, load)
    assert_history_is_sound(kafka, pilot)
    assert all(process.child.running for process in processes.started), "a process ended"
    assert listener.child.process is not None
    assert psutil.Process(listener.child.process.pid).memory_info().rss < MEMORY_MIB * 2**20
