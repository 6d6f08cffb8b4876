"""A gateway on a real Kafka: what is wrong with a namespace heals, or costs that namespace."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from runtime.errors import PartFailedError
from runtime.kafka_reader import KafkaReader
from runtime.settings import KafkaSettings
from runtime.supervision import Supervisor
from schemas.partitioner import partition_of
from schemas.topics import SNAPSHOTS, ManifestKey
from tests.harness.pilot import wait_for
from tests.harness.processes import Processes, standing_still
from tests.harness.raw_pilot import RawPilot
from tests.harness.servers import PARTITIONS, KafkaServer, NacosServer, start_kafka
from tests.harness.snapshot_topic import SnapshotTopic, resource_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runtime.kafka_reader import RecordBatch
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Process

NO_NACOS = NacosServer(None, 1)  # type: ignore[arg-type]
NO_KAFKA = KafkaServer(None, 1)  # type: ignore[arg-type]
QUICK = {"SHIPLOG_GATEWAY__START_PATIENCE_S": "2", "SHIPLOG_GATEWAY__DELIVERIES__ENABLED": "false"}


@pytest.fixture
def gateways(kafka: KafkaServer, tmp_path: Path) -> Iterator[Processes]:
    """Gateways without anything that publishes: the test does."""
    kafka.renew_topics()
    started = Processes(tmp_path, kafka, NO_NACOS, [], group="none")
    yield started
    started.stop()


@pytest.fixture
def topic(kafka: KafkaServer, gateways: Processes) -> SnapshotTopic:  # noqa: ARG001 - which renews the topics
    """What publishes."""
    return SnapshotTopic(kafka.servers, PARTITIONS)


def readyz(process: Process) -> dict[str, Any]:
    """What it says of itself."""
    found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{process.admin_port}/readyz", timeout=5).json()
    return found


def contents(pilot: Pilot) -> dict[str, str]:
    """What the Pilot has, by name and version."""
    return pilot.contents[-1] if pilot.contents else {}


def await_fresh(gateway: Process) -> None:
    """Waits until nothing is stale."""
    wait_for(lambda: readyz(gateway)["stale"] == {}, timeout_s=30, what="nothing stale")


def follow(pilot: Pilot, expected: dict[str, str], *, timeout_s: float = 60) -> None:
    """Waits until the Pilot has exactly these resources by name and version."""
    wait_for(lambda: contents(pilot) == expected, timeout_s=timeout_s, what=f"{expected}, not {contents(pilot)}")


def test_an_empty_namespace_makes_a_gateway_ready(
    gateways: Processes, topic: SnapshotTopic, pilots: Callable[..., Pilot]
) -> None:
    """Over MCP and ADS the answer is empty; before anything was published there is none."""
    gateway = gateways.start("gateway", **QUICK)
    wait_for(lambda: "nothing was published" in str(_quietly(gateway)), timeout_s=60, what="the reason")
    topic.publish("empty", {})
    gateway.wait()
    for protocol in ("mcp", "ads"):
        pilot = pilots(gateway.address, protocol=protocol)
        wait_for(lambda found=pilot: bool(found.contents), timeout_s=30, what="an answer")  # type: ignore[misc]
        assert contents(pilot) == {}


def test_a_tombstone_that_was_missed_heals_itself(
    gateways: Processes, topic: SnapshotTopic, pilots: Callable[..., Pilot]
) -> None:
    """After a day without Kafka a compacted topic has neither the resource nor its tombstone any more."""
    topic.publish("ns", {"ns/a": "1", "ns/b": "1"})
    gateway = gateways.start("gateway", **QUICK)
    gateway.wait()
    pilot = pilots(gateway.address)
    follow(pilot, {"ns/a": "1", "ns/b": "1"})
    partition = partition_of("ns", PARTITIONS)
    with standing_still(gateway.child):
        _delete_up_to(
            topic.servers, partition
        )  # what compaction does to the resource and, later, to its tombstone
        topic.written["ns"] = {}
        topic.publish("ns", {"ns/a": "2"})
    follow(pilot, {"ns/a": "2"})
    assert not any(found == {} for found in pilot.contents), "no push between was empty"
    assert gateway.metric("shiplog_gateway_rereads_total") >= 1
    assert gateway.metric("shiplog_gateway_namespaces_at_fault") == 0
    await_fresh(gateway)


def test_a_mismatch_that_does_not_heal_leaves_the_last_good_snapshot(
    gateways: Processes, topic: SnapshotTopic, pilots: Callable[..., Pilot]
) -> None:
    """The alarm stays, the partition is read again with pauses that grow, the other namespaces go on."""
    partition = partition_of("ns", PARTITIONS)
    same = next(f"n{n}" for n in range(99) if partition_of(f"n{n}", PARTITIONS) == partition)
    topic.publish("ns", {"ns/a": "1"})
    topic.publish(same, {"ns/x": "1"})
    gateway = gateways.start("gateway", **QUICK)
    gateway.wait()
    pilot = pilots(gateway.address)
    follow(pilot, {"ns/a": "1", "ns/x": "1"})
    topic.publish("ns", {"ns/a": "2", "ns/lost": "1"}, losing=("ns/lost",))
    wait_for(lambda: gateway.metric("shiplog_gateway_rereads_total") >= 2, timeout_s=30, what="two readings")
    topic.publish(same, {"ns/x": "2"})
    follow(pilot, {"ns/a": "1", "ns/x": "2"})
    wait_for(lambda: "ns:" in readyz(gateway)["stale"].get("namespaces", ""), timeout_s=30, what="the alarm")
    assert gateway.metric("shiplog_gateway_namespaces_at_fault") == 1
    topic.publish("ns", {"ns/lost": "2"})
    follow(pilot, {"ns/a": "2", "ns/lost": "2", "ns/x": "2"})
    await_fresh(gateway)


def test_a_topic_made_anew_under_a_running_gateway_takes_nothing_away(
    kafka: KafkaServer, gateways: Processes, topic: SnapshotTopic, pilots: Callable[..., Pilot]
) -> None:
    """What stood, stands, with an alarm; what is published into the new topic is taken in."""
    for number in range(20):
        topic.publish("ns", {"ns/a": str(number), "ns/b": "1"})
    gateway = gateways.start("gateway", **QUICK)
    gateway.wait()
    pilot = pilots(gateway.address)
    follow(pilot, {"ns/a": "19", "ns/b": "1"})
    kafka.renew_topics()
    anew = SnapshotTopic(kafka.servers, PARTITIONS)
    anew.publish("other", {"ns/o": "1"})
    follow(pilot, {"ns/a": "19", "ns/b": "1", "ns/o": "1"})
    wait_for(lambda: "ns:" in readyz(gateway)["stale"].get("namespaces", ""), timeout_s=30, what="the alarm")
    anew.publish("ns", {"ns/a": "20"})
    follow(pilot, {"ns/a": "20", "ns/o": "1"})
    await_fresh(gateway)
    assert all("ns/a" in found for found in pilot.contents)


def test_a_bad_namespace_holds_up_the_views_that_show_it_only(
    gateways: Processes, topic: SnapshotTopic, pilots: Callable[..., Pilot]
) -> None:
    """The others are served after the patience; its own Pilots are refused until it is good, never sent less."""
    topic.publish("good", {"ns/g": "1"})
    topic.publish("bad", {"ns/b": "1", "ns/lost": "1"}, losing=("ns/lost",))
    views = {
        "SHIPLOG_GATEWAY__VIEWS": json.dumps({"other": {"namespaces": ["good"]}}),
        "SHIPLOG_GATEWAY__VIEW_RULES": json.dumps([{"view": "other", "node": {"id": "other"}}]),
    }
    gateway = gateways.start("gateway", **QUICK, **views)
    gateway.wait()
    follow(pilots(gateway.address, node="other"), {"ns/g": "1"})
    with RawPilot(gateway.address) as refused:
        refused.ask()
        assert refused.code().name == "UNAVAILABLE"
        assert "bad" in refused.details()
    pilot = pilots(gateway.address)
    assert gateway.metric("shiplog_gateway_namespaces_unknown") == 1
    topic.publish("bad", {"ns/lost": "2"})
    follow(pilot, {"ns/g": "1", "ns/b": "1", "ns/lost": "2"})
    assert len(pilot.contents) == 1
    only = gateways.start("gateway", **QUICK)
    only.wait()


def test_garbage_in_the_topic_costs_itself(
    gateways: Processes, topic: SnapshotTopic, pilots: Callable[..., Pilot]
) -> None:
    """Keys and values of any kind; the process goes on, and says so truly."""
    topic.publish("ns", {"ns/a": "1"})
    gateway = gateways.start("gateway", **QUICK)
    gateway.wait()
    pilot = pilots(gateway.address)
    follow(pilot, {"ns/a": "1"})
    for number in range(PARTITIONS):
        for key in (b"", b"\xff|x", b"|||", b"x|y", resource_key("ns", "ns/z"), ManifestKey("zz").encode()):
            topic.send(number, key, b"\xc3\x01garbage of a length that no header has")
            topic.send(number, key, None)
    topic.flush()
    topic.publish("ns", {"ns/a": "2"})
    follow(pilot, {"ns/a": "2"})
    health = httpx.get(f"http://127.0.0.1:{gateway.admin_port}/healthz", timeout=5)
    assert health.json()["healthy"]


def test_the_supervisor_hears_of_a_reader_that_ends(kafka: KafkaServer, topic: SnapshotTopic) -> None:
    """By an exception of what it delivers to: `/healthz` says so, and the process ends with it."""
    topic.publish("ns", {"ns/a": "1"})
    supervisor = Supervisor()

    def deliver(_: RecordBatch) -> None:
        raise RecursionError("not foreseen")

    settings = KafkaSettings(servers=kafka.servers)
    reader = KafkaReader(settings, topic=SNAPSHOTS, client_id="t", deliver=deliver, supervisor=supervisor)
    assert not supervisor.unhealthy
    reader.start()
    wait_for(lambda: supervisor.fault is not None, timeout_s=30, what="the fault")
    assert "not foreseen" in supervisor.unhealthy[f"reader of {SNAPSHOTS}"]
    with pytest.raises(PartFailedError, match="not foreseen"):
        supervisor.raise_fault()
    reader.stop()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker that the test may end."""
    server = start_kafka(tmp_path / "own")
    server.wait()
    server.renew_topics()
    yield server
    server.child.kill()


def test_a_gateway_starts_from_its_cache_while_kafka_is_away(
    own_kafka: KafkaServer, tmp_path: Path, pilots: Callable[..., Pilot]
) -> None:
    """The same bytes and versions as before; when Kafka is back, the change and nothing else."""
    gateways = Processes(tmp_path, own_kafka, NO_NACOS, [], group="none")
    cached = {
        **QUICK,
        "SHIPLOG_GATEWAY__CACHE_DIR": str(tmp_path / "cache"),
        "SHIPLOG_GATEWAY__CACHE_INTERVAL_S": "0.2",
    }
    try:
        topic = SnapshotTopic(own_kafka.servers, PARTITIONS)
        topic.publish("one", {f"ns/a{n}": "1" for n in range(50)})
        topic.publish("two", {"ns/b": "1"})
        topic.publish("empty", {})
        gateway = gateways.start("gateway", **cached)
        gateway.wait()
        before = _answer(gateway)
        wait_for(lambda: len(list((tmp_path / "cache").glob("*.snapshot"))) == 3, timeout_s=20, what="the files")
        gateway.child.kill()
        own_kafka.child.kill()

        gateway.start()
        gateway.wait()
        assert _answer(gateway) == before
        stale = readyz(gateway)["stale"]
        assert "3 namespaces from the cache" in stale["cache"]
        assert "kafka" in stale
        assert gateway.metric("shiplog_gateway_namespaces_cached") == 3
        assert gateway.metric("shiplog_gateway_data_age_seconds") > 0
        pilot = pilots(gateway.address)
        wait_for(lambda: bool(pilot.contents), timeout_s=30, what="an answer from the cache")
        first = contents(pilot)

        own_kafka.child.start()
        own_kafka.wait()
        wait_for(lambda: readyz(gateway)["stale"] == {}, timeout_s=60, what="everything from Kafka")
        assert _answer(gateway) == before
        topic.publish("two", {"ns/b": "2"})
        follow(pilot, {**first, "ns/b": "2"})
        assert pilot.contents == [first, {**first, "ns/b": "2"}]
        assert gateway.metric("shiplog_gateway_namespaces_cached") == 0
    finally:
        gateways.stop()


def test_a_gateway_from_its_cache_is_not_mixed_with_another_kafka(
    own_kafka: KafkaServer, kafka: KafkaServer, tmp_path: Path
) -> None:
    """The servers lead to another cluster: what is cached goes on being served, and the reason is told."""
    gateways = Processes(tmp_path, own_kafka, NO_NACOS, [], group="none")
    cached = {
        **QUICK,
        "SHIPLOG_GATEWAY__CACHE_DIR": str(tmp_path / "cache"),
        "SHIPLOG_GATEWAY__CACHE_INTERVAL_S": "0.2",
    }
    try:
        SnapshotTopic(own_kafka.servers, PARTITIONS).publish("one", {"ns/a": "1"})
        gateway = gateways.start("gateway", **cached)
        gateway.wait()
        wait_for(lambda: bool(list((tmp_path / "cache").glob("*.snapshot"))), timeout_s=20, what="the file")
        gateway.child.kill()
        own_kafka.child.kill()
        gateway.start()
        gateway.wait()
        before = _answer(gateway)
        # Another cluster comes up under the same address.
        other = start_kafka(tmp_path / "other", port=own_kafka.port)
        try:
            other.wait()
            other.renew_topics()
            SnapshotTopic(other.servers, PARTITIONS).publish("else", {"ns/x": "1"})
            wait_for(
                lambda: "is of cluster" in readyz(gateway)["stale"].get("kafka", ""),
                timeout_s=40,
                what="the reason",
            )
            assert _answer(gateway) == before
            gateway.child.kill()
            gateway.start()
            gateway.wait()
            assert _answer(gateway) != before, "started anew, it serves the cluster that answers, and no other"
        finally:
            other.child.kill()
    finally:
        gateways.stop()
    assert kafka.child.running


def test_without_a_cache_a_start_without_kafka_is_one_line_that_says_so(tmp_path: Path) -> None:
    """As before: the process ends, and its supervisor starts it again."""
    gateways = Processes(tmp_path, NO_KAFKA, NO_NACOS, [], group="none")
    answer = gateways.run("gateway", SHIPLOG_GATEWAY__PORT="0", SHIPLOG_GATEWAY__ADMIN__PORT="0")
    assert answer.returncode != 0
    assert "cannot read shiplog.snapshots" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_gateway_with_a_cache_stops_in_order_while_kafka_is_away(tmp_path: Path) -> None:
    """SIGTERM is heeded although the connection is being tried."""
    gateways = Processes(tmp_path, NO_KAFKA, NO_NACOS, [], group="none")
    gateway = gateways.start("gateway", **QUICK, SHIPLOG_GATEWAY__CACHE_DIR=str(tmp_path / "cache"))
    wait_for(lambda: "cannot read" in str(_quietly(gateway)), timeout_s=60, what="the reason in /readyz")
    assert gateway.child.process is not None
    gateway.child.process.send_signal(signal.SIGTERM)
    assert gateway.child.process.wait(timeout=15) == 0


def _quietly(process: Process) -> dict[str, Any]:
    try:
        return readyz(process)
    except httpx.HTTPError:
        return {}


def _answer(gateway: Process) -> bytes:
    """The first push of service entries, byte for byte."""
    deadline = time.monotonic() + 20
    while True:
        with RawPilot(gateway.address) as pilot:
            pilot.ask()
            try:
                return pilot.next().SerializeToString(deterministic=True)
            except Exception:
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.2)


def _delete_up_to(servers: str, partition: int) -> None:
    """Removes what a partition holds; Kafka allows it only where a topic may delete, too."""
    admin: Any = AdminClient({"bootstrap.servers": servers})
    for policy in ("compact,delete", "compact"):
        entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
        altered = ConfigResource(ResourceType.TOPIC, SNAPSHOTS, incremental_configs=[entry])
        for future in admin.incremental_alter_configs([altered]).values():
            future.result(20)
        if policy != "compact":
            for future in admin.delete_records([TopicPartition(SNAPSHOTS, partition, OFFSET_END)]).values():
                future.result(20)
