"""Topics that are deleted and made anew, cut short or cleaned, under a materializer and while it is away.

What stands published stays until the log states it again; nothing waits for ever, and what happened is told.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

# confluent-kafka re-exports these without saying so.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from runtime.kafka_topics import TopicKeeper
from schemas.avro_codec import codecs
from schemas.topics import (
    CONTROL_EVENTS,
    REGISTRY_EVENTS,
    SNAPSHOT_HISTORY,
    SNAPSHOTS,
    ManifestKey,
    decode_snapshot_key,
    topic_settings,
)
from tests.harness.load import make_instance
from tests.harness.logs import read_all
from tests.harness.pilot import wait_for
from tests.harness.processes import Processes
from tests.harness.servers import PARTITIONS, NacosServer
from tests.harness.written_log import WrittenLog, namespace_in, some

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.processes import Process
    from tests.harness.servers import KafkaServer

SERVICES = 3
WHY = ("--reason", "a test")


@pytest.fixture
def processes(kafka: KafkaServer, tmp_path: Path) -> Iterator[Processes]:
    """Processes over new topics; there is no Nacos: tests write the log."""
    kafka.renew_topics()
    started = Processes(tmp_path, kafka, NacosServer(kafka.child, 1), [], group=uuid.uuid4().hex[:8])
    yield started
    started.stop()


@pytest.fixture
def admin(kafka: KafkaServer) -> AdminClient:
    """Kafka's own tools."""
    return AdminClient({"bootstrap.servers": kafka.servers})


def delete(admin: AdminClient, topic: str) -> None:
    """Deletes a topic with all that is in it."""
    admin.delete_topics([topic])[topic].result(20)


def ensure(kafka: KafkaServer) -> None:
    """Makes the topics that are missing, as `shiplog topics ensure` does."""
    keeper = TopicKeeper(kafka.settings, kafka.topics)
    deadline = time.monotonic() + 20
    while True:  # Kafka needs a moment after a deletion
        try:
            keeper.ensure(topic_settings())
        except (KafkaException, Exception):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def make_anew(admin: AdminClient, kafka: KafkaServer, topic: str) -> None:
    """An empty topic in the place of one."""
    delete(admin, topic)
    ensure(kafka)


def published(kafka: KafkaServer) -> dict[str, set[str]]:
    """The resources that stand published, by namespace; without a manifest they don't count."""
    found: dict[str, set[str]] = {}
    whole = set()
    for message in read_all(kafka, SNAPSHOTS):
        key = decode_snapshot_key(message.key())
        if isinstance(key, ManifestKey):
            whole.add(key.namespace)
            continue
        names = found.setdefault(key.namespace, set())
        if message.value() is None:
            names.discard(key.name)
        else:
            names.add(key.name)
    return {namespace: names for namespace, names in found.items() if namespace in whole}


def names(log: WrittenLog) -> set[str]:
    """What its services are called."""
    return {f"{log.namespace}/{name}.default-group.{log.namespace}" for name in log.services}


def wait_until_published(kafka: KafkaServer, *logs: WrittenLog) -> None:
    """Waits until the services of these stand published, and nothing else."""
    expected = {str(log.namespace): names(log) for log in logs}
    wait_for(lambda: published(kafka) == expected, timeout_s=40, what=f"{expected} published")


def manifest(kafka: KafkaServer, namespace: str) -> Any:
    """The manifest that stands."""
    key = ManifestKey(namespace).encode()
    values = [message.value() for message in read_all(kafka, SNAPSHOTS) if message.key() == key]
    return codecs().manifest.decode(values[-1])


def awaited(materializer: Process) -> dict[str, list[str]]:
    """The namespaces that stand until they are stated again, as operators see it."""
    return {
        name: datacenters
        for partition in materializer.debug("partitions").values()
        for name, datacenters in partition["awaited"].items()
    }


def readiness(materializer: Process) -> dict[str, Any]:
    """What `/readyz` says."""
    found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{materializer.admin_port}/readyz", timeout=5).json()
    return found


def stop(process: Process) -> None:
    """Ends it in order."""
    process.child.stop(20)


def restart(process: Process) -> None:
    """Starts it again."""
    process.start()
    process.wait(40)


def started(processes: Processes, *logs: WrittenLog, **environment: str) -> Process:
    """A materializer that has published these."""
    for log in logs:
        log.keyframe(some(SERVICES))
    materializer = processes.start("materializer", **environment)
    materializer.wait()
    wait_until_published(processes.kafka, *logs)  # type: ignore[arg-type]
    time.sleep(0.5)
    return materializer


def test_an_event_topic_that_was_made_anew_while_the_materializer_was_away(
    processes: Processes, kafka: KafkaServer, admin: AdminClient
) -> None:
    """It starts, says what is wrong, keeps what stands, and publishes with the next keyframe: removals, too."""
    one, two = WrittenLog(kafka, namespace_in(0)), WrittenLog(kafka, namespace_in(1))
    materializer = started(processes, one, two)
    one.change("svc-0", [make_instance(0, 5)])
    time.sleep(1)
    stop(materializer)
    before = published(kafka)
    make_anew(admin, kafka, REGISTRY_EVENTS)

    restart(materializer)
    wait_for(lambda: bool(awaited(materializer)), timeout_s=10, what="awaited")
    assert awaited(materializer) == {one.namespace: ["dc1"], two.namespace: ["dc1"]}
    assert materializer.metric("shiplog_materializer_suspect_namespaces") == 2
    assert materializer.metric("shiplog_materializer_awaiting_namespaces") == 2
    assert materializer.metric("shiplog_materializer_log_faults_total", fault="shorter") == 2
    assert materializer.metric("shiplog_materializer_recovery_left_events") == 0
    assert "2 namespaces stand until their next keyframe" in readiness(materializer)["stale"]["namespaces"]
    assert "log_not_as_folded" in materializer.child.log.read_text()

    one.begin(2)
    one.heartbeat()
    time.sleep(1)
    assert published(kafka) == before
    stop(materializer)  # a restart in between forgets nothing of it
    restart(materializer)
    wait_for(lambda: len(awaited(materializer)) == 2, timeout_s=10, what="still awaited")
    assert published(kafka) == before

    one.keyframe(some(SERVICES - 1) | {"new": [make_instance(9, 9)]})
    wait_until_published(kafka, one, two)
    assert awaited(materializer) == {two.namespace: ["dc1"]}
    two.begin(2)
    two.keyframe()
    wait_for(lambda: awaited(materializer) == {}, timeout_s=10, what="all stated again")
    wait_for(
        lambda: materializer.metric("shiplog_materializer_awaiting_namespaces") == 0,
        timeout_s=5,
        what="none awaits",
    )
    assert readiness(materializer) == {"ready": True, "waiting_for": {}, "stale": {}}
    one.change("svc-0", [make_instance(0, 6)])
    wait_until_published(kafka, one, two)
    versions = materializer.metric("shiplog_materializer_versions_total")
    stop(materializer)
    restart(materializer)
    assert materializer.metric("shiplog_materializer_versions_total") == 0, versions
    assert materializer.metric("shiplog_materializer_log_faults_total") == 0


@pytest.mark.parametrize("records", [0, 1, 200])
def test_an_event_topic_that_is_made_anew_under_the_materializer(
    processes: Processes, kafka: KafkaServer, admin: AdminClient, records: int
) -> None:
    """However long the new log is: shorter than the former, or so long that reading would just go on in it."""
    log = WrittenLog(kafka, namespace_in(0))
    materializer = started(processes, log)
    for number in range(20):
        log.change("svc-0", [make_instance(0, number + 2)])
    wait_for(
        lambda: materializer.metric("shiplog_materializer_lag_events") == 0, timeout_s=10, what="all of it folded"
    )
    before = published(kafka)
    make_anew(admin, kafka, REGISTRY_EVENTS)
    log.begin(2)
    for _ in range(records):
        log.heartbeat()
    wait_for(lambda: bool(awaited(materializer)), timeout_s=30, what="awaited")
    assert published(kafka) == before
    log.keyframe(some(SERVICES - 1))
    wait_until_published(kafka, log)
    wait_for(lambda: awaited(materializer) == {}, timeout_s=10, what="stated again")
    log.change("svc-0", [make_instance(0, 90)])
    wait_for(lambda: "10.0.0.91" in str(record_of(kafka, "svc-0")), timeout_s=10, what="a change")
    assert materializer.child.running


def record_of(kafka: KafkaServer, service: str) -> bytes:
    """What stands published of a service."""
    values = [m.value() for m in read_all(kafka, SNAPSHOTS) if f"/{service}." in (m.key() or b"").decode()]
    return values[-1] or b""


def test_an_event_topic_that_is_gone_for_a_while(
    processes: Processes, kafka: KafkaServer, admin: AdminClient
) -> None:
    """The materializer lives, says which topic is missing and what to do, and goes on when it is there."""
    log = WrittenLog(kafka, namespace_in(0))
    materializer = started(processes, log)
    before = published(kafka)
    delete(admin, REGISTRY_EVENTS)
    wait_for(
        lambda: (
            f"missing: {REGISTRY_EVENTS}; run `shiplog topics ensure`" in str(readiness(materializer)["stale"])
        ),
        timeout_s=20,
        what="told that it is missing",
    )
    time.sleep(12)  # until the group has noticed, too
    assert published(kafka) == before
    ensure(kafka)
    log.begin(2)
    log.keyframe(some(SERVICES - 1))
    wait_until_published(kafka, log)
    assert materializer.child.running


def test_a_committed_offset_beyond_the_end_of_the_log(
    processes: Processes, kafka: KafkaServer, admin: AdminClient
) -> None:
    """Committed 1000, the log ends at 5 (a restored broker): it begins with what is there, and does not wait."""
    log = WrittenLog(kafka, namespace_in(0))
    materializer = started(processes, log, SHIPLOG_MATERIALIZER__SESSION_TIMEOUT_S="6")  # waited for, to commit
    stop(materializer)
    commit(admin, processes, TopicPartition(REGISTRY_EVENTS, 0, 1000, metadata="recover-from=900"))
    before = published(kafka)
    restart(materializer)
    assert published(kafka) == before
    assert materializer.metric("shiplog_materializer_log_faults_total", fault="shorter") == 1
    log.change("svc-0", [make_instance(0, 9)])  # the session goes on without a hole: nothing was lost
    wait_for(lambda: "10.0.0.10" in str(record_of(kafka, "svc-0")), timeout_s=10, what="a change")
    assert awaited(materializer) == {}


def commit(admin: AdminClient, processes: Processes, offset: TopicPartition) -> None:
    """Commits an offset of the materializers' group, once its members' sessions have ended."""
    group = f"materializer-{processes.group}"
    deadline = time.monotonic() + 40
    while True:
        asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [offset])])
        try:
            found = asked[group].result(10).topic_partitions[0]
            assert found.error is None
        except (KafkaException, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def test_a_log_that_was_cleaned_behind_its_keyframes(
    processes: Processes, kafka: KafkaServer, admin: AdminClient
) -> None:
    """Retention took what the fold needs: what stands stays, also while changes come that build on it."""
    log = WrittenLog(kafka, namespace_in(0))
    materializer = started(processes, log)
    stop(materializer)
    end = SERVICES + 2
    admin.delete_records([TopicPartition(REGISTRY_EVENTS, 0, end)])[
        TopicPartition(REGISTRY_EVENTS, 0, end)
    ].result(10)
    before = published(kafka)
    restart(materializer)
    assert materializer.metric("shiplog_materializer_log_faults_total", fault="cleaned") == 1
    log.change("svc-0", [make_instance(0, 9)])
    time.sleep(1)
    assert published(kafka) == before
    assert awaited(materializer) == {log.namespace: ["dc1"]}
    log.keyframe()
    wait_for(lambda: "10.0.0.10" in str(record_of(kafka, "svc-0")), timeout_s=10, what="a change")
    assert awaited(materializer) == {}


def test_a_snapshot_topic_that_is_made_anew(processes: Processes, kafka: KafkaServer, admin: AdminClient) -> None:
    """All is published again, within seconds and at the next start; decisions in force come back."""
    one, two = WrittenLog(kafka, namespace_in(0)), WrittenLog(kafka, namespace_in(1))
    materializer = started(processes, one, two)
    assert processes.control("freeze", "-n", one.namespace, *WHY).returncode == 0
    frozen = manifest(kafka, one.namespace)
    assert frozen.frozen
    make_anew(admin, kafka, SNAPSHOTS)
    wait_until_published(kafka, one, two)
    wait_for(lambda: manifest(kafka, one.namespace).frozen, timeout_s=20, what="frozen again")
    assert manifest(kafka, one.namespace).digest == frozen.digest

    stop(materializer)
    make_anew(admin, kafka, SNAPSHOTS)
    restart(materializer)
    wait_until_published(kafka, one, two)
    wait_for(lambda: manifest(kafka, one.namespace).frozen, timeout_s=20, what="frozen again")
    assert not manifest(kafka, two.namespace).frozen


def test_a_control_topic_that_is_made_anew(processes: Processes, kafka: KafkaServer, admin: AdminClient) -> None:
    """Its decisions have low offsets again: none counts as carried out before, none is carried out twice."""
    log = WrittenLog(kafka, namespace_in(0))
    materializer = started(processes, log)
    for command in ("freeze", "unfreeze", "freeze"):
        assert processes.control(command, "-n", log.namespace, *WHY).returncode == 0
    stop(materializer)
    make_anew(admin, kafka, CONTROL_EVENTS)
    restart(materializer)
    assert manifest(kafka, log.namespace).frozen
    assert processes.control("unfreeze", "-n", log.namespace, *WHY).returncode == 0
    assert not manifest(kafka, log.namespace).frozen

    make_anew(admin, kafka, CONTROL_EVENTS)  # and under it
    wait_for(
        lambda: materializer.debug("engine")["engines"] > 1 and materializer.is_ready(), timeout_s=30, what="anew"
    )
    assert processes.control("freeze", "-n", log.namespace, *WHY).returncode == 0
    versions = len(read_all(kafka, SNAPSHOT_HISTORY))
    stop(materializer)
    restart(materializer)
    assert len(read_all(kafka, SNAPSHOT_HISTORY)) == versions, "a decision was carried out twice"
    assert manifest(kafka, log.namespace).frozen


def test_a_history_topic_that_is_gone_for_a_while(
    processes: Processes, kafka: KafkaServer, admin: AdminClient
) -> None:
    """Nothing is published without its manifest in the history; the materializer says so and goes on by itself."""
    log = WrittenLog(kafka, namespace_in(0))
    materializer = started(processes, log)
    delete(admin, SNAPSHOT_HISTORY)
    wait_for(
        lambda: f"missing: {SNAPSHOT_HISTORY}" in str(readiness(materializer)["stale"]), timeout_s=20, what="told"
    )
    log.change("svc-0", [make_instance(0, 9)])
    time.sleep(3)
    assert "10.0.0.10" not in str(record_of(kafka, "svc-0"))
    ensure(kafka)
    wait_for(lambda: "10.0.0.10" in str(record_of(kafka, "svc-0")), timeout_s=90, what="the change")
    assert len(read_all(kafka, SNAPSHOT_HISTORY)) == 1
    assert materializer.child.running


def test_a_record_that_kafka_refuses_costs_itself(
    processes: Processes, kafka: KafkaServer, admin: AdminClient
) -> None:
    """The topic's limit was lowered under it: the largest record stands as it was, all others are published."""
    log = WrittenLog(kafka, namespace_in(0))
    materializer = started(processes, log)
    lower = ConfigEntry("max.message.bytes", "10000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, SNAPSHOTS, incremental_configs=[lower])
    admin.incremental_alter_configs([resource])[resource].result(10)
    former = record_of(kafka, "svc-1")
    many = [make_instance(1, index)._replace(metadata={"id": uuid.uuid4().hex}) for index in range(1000)]
    log.change("svc-1", many)
    log.change("svc-0", [make_instance(0, 9)])
    wait_for(lambda: "10.0.0.10" in str(record_of(kafka, "svc-0")), timeout_s=20, what="the other's change")
    assert record_of(kafka, "svc-1") == former
    assert materializer.metric("shiplog_materializer_faulted_resources") == 1
    assert "record_refused" in materializer.child.log.read_text()
    log.change("svc-0", [make_instance(0, 19)])
    wait_for(lambda: "10.0.0.20" in str(record_of(kafka, "svc-0")), timeout_s=20, what="the next change")
    assert materializer.metric("shiplog_materializer_starts_over_total") == 0


def test_a_topic_that_ends_in_transaction_markers(
    processes: Processes, kafka: KafkaServer, admin: AdminClient
) -> None:
    """No lag is left when all is read, nor in the group's offsets; a recovery over markers ends."""
    log = WrittenLog(kafka, namespace_in(0), transactional_id=f"writer-{uuid.uuid4().hex}")
    materializer = started(processes, log)
    for number in range(5):
        log.change("svc-0", [make_instance(0, number + 2)])
    wait_for(
        lambda: materializer.metric("shiplog_materializer_lag_events") == 0, timeout_s=15, what="no lag while idle"
    )
    end = SERVICES + 2 + 1 + 5 * 2
    wait_for(lambda: committed(admin, processes) == end, timeout_s=15, what="all of it committed")
    materializer.child.kill()
    restart(materializer)
    assert materializer.metric("shiplog_materializer_recovery_left_events") == 0
    assert materializer.metric("shiplog_materializer_lag_events") == 0
    log.change("svc-0", [make_instance(0, 9)])
    wait_for(lambda: "10.0.0.10" in str(record_of(kafka, "svc-0")), timeout_s=10, what="a change")


def test_an_open_transaction_at_the_end_keeps_no_recovery_from_ending(
    processes: Processes, kafka: KafkaServer
) -> None:
    """What it holds may be aborted: a first start does not wait for it."""
    log = WrittenLog(kafka, namespace_in(0), transactional_id=f"writer-{uuid.uuid4().hex}")
    log.keyframe(some(SERVICES))
    open_one = log.producer
    open_one.begin_transaction()
    open_one.produce(REGISTRY_EVENTS, b"not yet", b"x", partition=0)
    open_one.flush(10)
    materializer = processes.start("materializer")
    materializer.wait(40)
    wait_until_published(kafka, log)
    open_one.abort_transaction(10)
    wait_for(
        lambda: materializer.metric("shiplog_materializer_lag_events") == 0, timeout_s=15, what="no lag while idle"
    )


def committed(admin: AdminClient, processes: Processes) -> int:
    """The group's offset in partition 0 of the events."""
    group = f"materializer-{processes.group}"
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(REGISTRY_EVENTS, 0)])
    found = admin.list_consumer_group_offsets([wanted])[group].result(10).topic_partitions
    return next(int(tp.offset) for tp in found)


def topics_of(materializer: Process) -> dict[str, set[str]]:
    """The topics that it reads of each partition that it holds."""
    pages: dict[str, Any] = materializer.debug("partitions")
    return {number: set(page["next_offsets"]) for number, page in pages.items()}


@pytest.mark.timeout(240)
def test_a_topic_that_is_added_in_a_rolling_restart_is_read(
    processes: Processes, kafka: KafkaServer, admin: AdminClient
) -> None:
    """Members that come back within their session get their former assignment; nothing is taken away meanwhile."""
    logs = [WrittenLog(kafka, namespace_in(number)) for number in range(4)]
    first = started(processes, *logs)
    second = processes.start("materializer")
    second.wait()
    wait_for(
        lambda: len(topics_of(first)) == len(topics_of(second)) == 2, timeout_s=60, what="partitions shared out"
    )
    added = f"{uuid.uuid4().hex[:8]}.{REGISTRY_EVENTS}"  # nobody else's
    config = next(topic.config() for topic in topic_settings() if topic.name == REGISTRY_EVENTS)  # as mirrored
    new = NewTopic(added, num_partitions=PARTITIONS, replication_factor=1, config=config)
    admin.create_topics([new])[added].result(10)
    for materializer in (first, second):
        materializer.child.kill()
        materializer.child.environment = {
            **materializer.child.environment,
            "SHIPLOG_MATERIALIZER__EVENT_TOPICS": json.dumps([REGISTRY_EVENTS, added]),
        }
        restart(materializer)
    away = WrittenLog(kafka, logs[3].namespace, topic=added, datacenter="dc2")
    away.keyframe({"far": [make_instance(7, 7)]})
    whole = {REGISTRY_EVENTS, added}
    wait_for(
        lambda: (
            {**topics_of(first), **topics_of(second)}.keys() == set("0123")
            and all(topics >= whole for topics in (*topics_of(first).values(), *topics_of(second).values()))
        ),
        timeout_s=120,
        what="all topics handed out",
    )
    expected = {str(log.namespace): names(log) for log in logs}
    expected[str(away.namespace)] = names(logs[3]) | names(away)
    wait_for(lambda: published(kafka) == expected, timeout_s=30, what=f"{expected} published")
    delete(admin, added)
