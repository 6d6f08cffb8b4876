"""Three brokers with SASL_SSL and ACLs: each is killed in turn, in the middle of changes."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.harness.kafka_cluster import NODES
from tests.harness.kafka_permissions import LoggedInProcesses
from tests.harness.pilot import wait_for
from tests.integration.test_faults import Changes, assert_converges, assert_history_is_sound
from tests.integration.test_materializers import assert_the_log_proves_every_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.harness.kafka_cluster import KafkaCluster
    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import NacosServer

SERVICES = 100
ROUNDS = int(os.environ.get("SHIPLOG_BROKER_ROUNDS", "1"))
"""How often each broker is killed; `make soak` sets two."""
NOTICED_S = 12.0
"""By then Kafka misses a broker that was killed (broker.session.timeout.ms is 9 s), and has new leaders."""


@pytest.fixture
def processes(granted: KafkaCluster, nacos: NacosServer, namespace: str, tmp_path: Path) -> Iterator[Processes]:
    """Each logs in by itself, and may do what is documented."""
    granted.renew_topics()
    started = LoggedInProcesses(tmp_path, granted, nacos, [namespace], group=namespace)
    yield started
    started.stop()


@pytest.mark.timeout(240 + 120 * ROUNDS)
def test_brokers_killed_one_after_the_other(
    processes: Processes,
    kafka_cluster: KafkaCluster,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """kill -9 of each broker in turn: all go on with two of them, nothing is lost, and the log proves it all."""
    load.register(SERVICES, 5)
    _, _, gateway = processes.start_all()
    pilot = pilots(gateway.address)
    wait_for(lambda: pilot.last is not None, timeout_s=30, what="a first push")
    gaps = []
    with Changes(load):
        time.sleep(1)
        for node in NODES * ROUNDS:
            killed_at = time.time()
            kafka_cluster.kill(node)
            wait_for(
                lambda since=killed_at: pilot.arrivals[-1] > since + NOTICED_S,
                timeout_s=60,
                what=f"pushes without broker {node}",
            )
            kafka_cluster.restart(node)
            gaps.append(longest_gap(pilot.arrivals, killed_at))
    with capsys.disabled():
        print("\nlongest time without a push, by kill, s:", [round(gap, 1) for gap in gaps])  # noqa: T201 - measured
    assert_converges(pilot, nacos, namespace, load)
    assert_history_is_sound(kafka_cluster, pilot)
    assert_the_log_proves_every_snapshot(processes)
    assert all(process.child.running for process in processes.started), "a process ended"


def longest_gap(arrivals: list[float], since: float) -> float:
    """The longest time without a push, from a moment on."""
    times = [since, *(at for at in arrivals if at > since)]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)
