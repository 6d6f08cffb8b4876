"""Several listeners, and a Kafka that is slow: nothing is lost and nothing comes twice."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from schemas.avro_codec import codecs
from schemas.events import ServiceDelta
from schemas.partitioner import partition_of
from schemas.topics import REGISTRY_EVENTS
from tests.harness.load import make_instance
from tests.harness.logs import read_all, read_history
from tests.harness.pilot import wait_for
from tests.harness.processes import standing_still
from tests.harness.servers import PARTITIONS
from tests.integration.test_faults import Changes, assert_converges

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.events import RegistryEvent
    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Process, Processes
    from tests.harness.servers import KafkaServer, NacosServer

SERVICES = 40
KILLS = int(os.environ.get("SHIPLOG_LISTENER_KILLS", "4"))
"""`make soak` sets 50."""
FAILOVER_S = 10
MEMORY_MIB = 400


def owner(listeners: list[Process], namespace: str) -> Process | None:
    """The listener that watches the namespace."""
    for listener in listeners:
        if listener.is_ready() and namespace in listener.debug("services")["namespaces"]:
            return listener
    return None


def events_of(kafka: KafkaServer, namespace: str) -> list[RegistryEvent]:
    """The events of the namespace's partition, in order."""
    decode = codecs().registry_event.decode
    number = partition_of(namespace, PARTITIONS)
    return [decode(m.value()) for m in read_all(kafka, REGISTRY_EVENTS) if m.partition() == number]


def assert_sessions_are_sound(events: list[RegistryEvent]) -> None:
    """Of the events that a fold accepts: each session's numbers follow each other, none comes twice."""
    epoch, expected = 0, 0
    for event in events:
        if event.epoch < epoch:
            continue  # a zombie's: passed over
        if event.epoch > epoch:
            epoch, expected = event.epoch, 0
        assert event.sequence == expected, f"a hole or a double in session {event.session}"
        expected += 1


def test_another_listener_takes_over_within_ten_seconds(
    processes: Processes, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """The one that watches is killed and does not come back: changes go on through the other."""
    load.register(SERVICES, 3)
    listeners = [processes.start("listener"), processes.start("listener")]
    others = [processes.start("materializer"), processes.start("gateway")]
    for process in others:
        process.wait()
    pilot = pilots(others[1].address)
    wait_for(lambda: len(pilot.endpoints()) == SERVICES, timeout_s=30, what="all services")
    wait_for(lambda: owner(listeners, namespace) is not None, timeout_s=10, what="a listener that watches")
    victim = owner(listeners, namespace)
    assert victim is not None
    victim.child.kill()
    began = time.monotonic()
    load.state("svc-0", [make_instance(0, 9)])
    name = f"{namespace}/svc-0.default-group.{namespace}"
    wait_for(lambda: "10.0.0.10" in str(pilot.endpoints()[name]), timeout_s=30, what="the change")
    assert time.monotonic() - began < FAILOVER_S
    assert min(pilot.sizes) == SERVICES


def test_a_rolling_restart_of_three_listeners_changes_nothing(
    processes: Processes, kafka: KafkaServer, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """Each lays keyframes of what is published already: not one new version."""
    load.register(SERVICES, 3)
    listeners = [processes.start("listener") for _ in range(3)]
    others = [processes.start("materializer"), processes.start("gateway")]
    for process in others:
        process.wait()
    pilot = pilots(others[1].address)
    wait_for(lambda: len(pilot.endpoints()) == SERVICES, timeout_s=30, what="all services")
    time.sleep(2)
    versions = len(read_history(kafka))
    sessions = len({event.session for event in events_of(kafka, namespace)})
    for listener in listeners:
        listener.child.stop(10)
        listener.start()
        wait_for(lambda: owner(listeners, namespace) is not None, timeout_s=30, what="a listener that watches")
    time.sleep(3)
    assert len({event.session for event in events_of(kafka, namespace)}) > sessions
    assert len(read_history(kafka)) == versions
    assert len(pilot.versions) == 1


@pytest.mark.timeout(300 + 30 * KILLS)
def test_listeners_killed_in_turn_during_changes(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """kill -9 of the one that watches, at random moments; the other takes over, the victim comes back."""
    load.register(SERVICES, 3)
    listeners = [processes.start("listener"), processes.start("listener")]
    others = [processes.start("materializer"), processes.start("gateway")]
    for process in others:
        process.wait()
    pilot = pilots(others[1].address)
    wait_for(lambda: len(pilot.endpoints()) == SERVICES, timeout_s=30, what="all services")
    dice = random.Random(3)
    with Changes(load):
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.5, 3.0))
            victim = owner(listeners, namespace)
            if victim is None:
                continue
            victim.child.kill()
            rest = [listener for listener in listeners if listener is not victim]
            wait_for(lambda rest=rest: owner(rest, namespace) is not None, timeout_s=30, what="a takeover")
            victim.start()
    assert_converges(pilot, nacos, namespace, load)
    events = events_of(kafka, namespace)
    assert len({event.session for event in events}) >= KILLS // 2
    assert_sessions_are_sound(events)
    assert min(pilot.sizes) == SERVICES


def test_a_kafka_that_stands_still_does_not_stop_the_reading(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """Stopped, not ended: pushes are read on, memory stays bounded, afterwards the state is equal."""
    load.register(SERVICES, 3)
    listener, _, gateway = processes.start_all()
    pilot = pilots(gateway.address)
    wait_for(lambda: len(pilot.endpoints()) == SERVICES, timeout_s=30, what="all services")
    with standing_still(kafka.child):
        before = listener.metric("shiplog_listener_pushes_total")
        load.change(400, per_second=100)
        time.sleep(1)
        assert listener.metric("shiplog_listener_pushes_total") - before > SERVICES / 2
        assert listener.metric("shiplog_listener_contact_age_seconds") < 7
    assert_converges(pilot, nacos, namespace, load)
    assert listener.child.process is not None
    assert psutil.Process(listener.child.process.pid).memory_info().rss < MEMORY_MIB * 2**20
    assert any(isinstance(event.body, ServiceDelta) for event in events_of(kafka, namespace))
