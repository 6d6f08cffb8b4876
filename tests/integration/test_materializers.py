"""Two materializers share the work and fail in turn: whatever happens, the log proves every snapshot."""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.harness.pilot import wait_for
from tests.harness.processes import standing_still
from tests.integration.test_faults import Changes, assert_converges, assert_history_is_sound

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Process, Processes
    from tests.harness.servers import KafkaServer, NacosServer

SERVICES = 100
KILLS = int(os.environ.get("SHIPLOG_MATERIALIZER_KILLS", "4"))
"""`make soak` sets many. Every fourth is of the broker."""


def assert_the_log_proves_every_snapshot(processes: Processes) -> None:
    """`shiplog audit verify` finds no manifest that the log does not give, and none that it can't tell of."""
    done = processes.run("audit", "verify", "--all", "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["verified"] > 0
    assert (report["mismatch"], report["unverifiable"]) == (0, 0), report


def owned(materializer: Process) -> int:
    """How many partitions it holds; 0 when it does not answer."""
    try:
        return int(materializer.metric("shiplog_materializer_partitions"))
    except httpx.HTTPError:
        return 0


@pytest.mark.timeout(400 + 30 * KILLS)
def test_materializers_and_the_broker_killed_in_turn(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """kill -9 at random moments under 500 changes/s: nothing lost, no version twice, each proven by the log."""
    load.register(SERVICES, 5)
    _, first, gateway = processes.start_all()
    second = processes.start("materializer")
    pilot = pilots(gateway.address)
    wait_for(lambda: pilot.last is not None, timeout_s=30, what="a first push")
    dice = random.Random(5)
    with Changes(load, per_second=500):
        for number in range(KILLS):
            time.sleep(dice.uniform(0.5, 4.0))
            if number % 4 == 3:
                kafka.child.kill()
                kafka.child.start()
                kafka.wait()
            else:
                victim = dice.choice((first, second))
                victim.child.kill()
                victim.start()
    assert_converges(pilot, nacos, namespace, load)
    assert_history_is_sound(kafka, pilot)
    assert_the_log_proves_every_snapshot(processes)


def test_an_owner_that_stalls_and_wakes_up_publishes_nothing(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """Stopped in the middle of changes, its partitions taken over, woken up: it is fenced, and joins again."""
    load.register(SERVICES, 3)
    _, first, gateway = processes.start_all()
    second = processes.start("materializer")
    wait_for(lambda: owned(first) + owned(second) == 4 and owned(first) > 0, timeout_s=40, what="shared out")
    pilot = pilots(gateway.address)
    with Changes(load, per_second=200):
        time.sleep(1)
        with standing_still(first.child):
            wait_for(lambda: owned(second) == 4, timeout_s=40, what="taken over")
            time.sleep(2)
        time.sleep(3)
    assert_converges(pilot, nacos, namespace, load)
    assert_history_is_sound(kafka, pilot)
    assert_the_log_proves_every_snapshot(processes)
    wait_for(lambda: owned(first) + owned(second) == 4, timeout_s=40, what="shared out again")
