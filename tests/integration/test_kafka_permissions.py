"""Each process and command with the permissions that docs/operations.md grants it, and none beside them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection

from runtime.kafka_clients import make_admin, make_producer
from schemas.avro_codec import codecs
from schemas.partitioner import partition_of
from schemas.topics import (
    DELIVERIES,
    QUARANTINE,
    REGISTRY_EVENTS,
    SNAPSHOT_HISTORY,
    SNAPSHOTS,
    USED_BY,
    Access,
    ResourceKey,
    topic_settings,
)
from tests.harness.kafka_cluster import ROLES
from tests.harness.kafka_permissions import (
    IMPLIED,
    LoggedInProcesses,
    Permission,
    asked_for,
    documented,
    log_sizes,
)
from tests.harness.load import make_instance
from tests.harness.logs import read_all
from tests.harness.pilot import SERVICE_ENTRIES, wait_for
from tests.harness.servers import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.harness.kafka_cluster import KafkaCluster
    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.servers import NacosServer

TOPICS = [topic.name for topic in topic_settings()]
WHY = ("--reason", "a test", "--author", "tester")


@pytest.fixture
def logged_in(
    granted: KafkaCluster, nacos: NacosServer, namespace: str, tmp_path: Path
) -> Iterator[LoggedInProcesses]:
    """No process yet."""
    processes = LoggedInProcesses(tmp_path, granted, nacos, [namespace], group=namespace)
    yield processes
    processes.stop()


def ran(processes: LoggedInProcesses, *arguments: str) -> str:
    """The output of a command that succeeds."""
    done = processes.run(*arguments)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def refused_to(processes: LoggedInProcesses, login: str, *arguments: str) -> str:
    """What a command says that fails for lack of a permission."""
    done = processes.run_as(login, *arguments)
    assert done.returncode == 1, (arguments, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.timeout(300)
def test_each_login_has_what_it_needs_and_nothing_else(
    logged_in: LoggedInProcesses,
    granted: KafkaCluster,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
    tmp_path: Path,
) -> None:
    """All that processes and commands do goes with the documented permissions, and asks for each of them.

    The brokers' authorizer says what was asked for, and what was refused.
    """
    began = log_sizes(granted)
    granted.delete_topics()
    ran(logged_in, "topics", "ensure")
    granted.wait()
    assert "as they should be" in ran(logged_in, "topics", "check")
    load.register(5, 2)
    load.state("svc-900", [make_instance(250, 0)._replace(port=0)])
    running = [logged_in.start(kind) for kind in ("listener", "materializer", "gateway")]
    for process in running:
        process.wait()
    pilot = pilots(running[2].address, node="pilot-1")
    wait_for(lambda: len(pilot.endpoints()) == 5, timeout_s=30, what="all services")
    served_at = datetime.now(UTC).isoformat()
    poison(granted, REGISTRY_EVENTS, namespace.encode(), namespace)
    poison(granted, SNAPSHOTS, ResourceKey(namespace, SERVICE_ENTRIES, "x/y").encode(), namespace)
    wait_for(lambda: len(set_aside_by(granted)) == 3, timeout_s=20, what="a record set aside by each process")

    decided(logged_in, namespace, "freeze")
    decided(logged_in, namespace, "unfreeze")
    first = ran(logged_in, "audit", "timeline", "-n", namespace, "--from", "5m ago", "--output", "json")
    load.change(5)
    decided(logged_in, namespace, "pin", "--version", json.loads(first)["slices"][0]["digest"])
    decided(logged_in, namespace, "unpin")
    assert namespace in ran(logged_in, "control", "list")

    at = ("audit", "at", "-n", namespace, "-t", "now")
    assert "VERIFIED" in ran(logged_in, *at)
    ran(logged_in, "audit", "at", "-n", namespace, "-t", served_at, "--pilot", "pilot-1")
    ran(logged_in, "audit", "diff", "-n", namespace, "--from", served_at)
    ran(logged_in, "audit", "why", "-n", namespace, "-s", "svc-1", "-t", "now")
    ran(logged_in, "audit", "who", "-n", namespace, "--endpoint", "10.0.1.1:8080")
    ran(logged_in, "audit", "verify", "--all")
    ran(logged_in, "audit", "export", "-n", namespace, "--from", "5m ago", "--out", str(tmp_path / "bundle"))

    asked, refused = asked_for(granted, ROLES, began)
    assert not refused
    unused = {one for one in documented() if not any(one.covers(other) for other in asked)}
    assert not unused, "documented, and nothing asks for it"


def poison(cluster: KafkaCluster, topic: str, key: bytes, namespace: str) -> None:
    """A record that can't be decoded, in the partition of the namespace."""
    producer = make_producer(cluster.settings, "test", {})
    producer.produce(topic, key=key, value=b"poison", partition=partition_of(namespace, PARTITIONS))
    assert producer.flush(10) == 0


def set_aside_by(cluster: KafkaCluster) -> set[str]:
    """The kinds of processes that have something in the quarantine."""
    decode = codecs().quarantined.decode
    return {
        decode(message.value()).process.removeprefix("shiplog-").split("-")[0]
        for message in read_all(cluster, QUARANTINE)
    }


def decided(logged_in: LoggedInProcesses, namespace: str, command: str, *options: str) -> None:
    """A decision of the operator's that is carried out."""
    ran(logged_in, "control", command, "--namespace", namespace, *options, *WHY)


def allowed_on(cluster: KafkaCluster, login: str) -> dict[str, set[str]]:
    """What Kafka says that a login may do with each topic; nothing where it may not even ask."""
    admin = make_admin(cluster.settings_of(login), "test")
    asked = admin.describe_topics(TopicCollection(TOPICS), include_authorized_operations=True)
    found: dict[str, set[str]] = {}
    for topic, future in asked.items():
        try:
            operations = future.result(20).authorized_operations
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise
            operations = []
        found[topic] = {operation.name.title().replace("_", "") for operation in operations}
    return found


def written(cluster: KafkaCluster, login: str, topic: str) -> int | None:
    """The error of an attempt to write to a topic; None when Kafka took the record."""
    producer = make_producer(cluster.settings_of(login), "test", {"message.timeout.ms": 10_000})
    told: list[KafkaError | None] = []
    producer.produce(topic, b"x", on_delivery=lambda error, _: told.append(error))
    producer.flush(15)
    (error,) = told
    return None if error is None else error.code()


@pytest.mark.parametrize("login", ROLES)
def test_no_login_may_do_more_to_a_topic_than_is_documented(granted: KafkaCluster, login: str) -> None:
    """Kafka's own answer for each topic is the table's, and a write that is not in it is refused."""
    granted.ensure_topics()
    allowed = allowed_on(granted, login)
    for topic in TOPICS:
        rows = {
            one.operation for one in documented() if one.covers(Permission(login, "Topic", topic, one.operation))
        }
        assert allowed[topic] == rows | {IMPLIED[one] for one in rows & IMPLIED.keys()}
        if "Write" not in rows:
            assert written(granted, login, topic) == KafkaError.TOPIC_AUTHORIZATION_FAILED, topic


def test_what_processes_check_is_what_is_documented() -> None:
    """The permissions that a process looks for at its start are those of the table."""
    for process, topics in USED_BY.items():
        own = [one for one in documented() if (one.login, one.resource) == (process, "Topic")]
        needed = {
            (topic, access.name.title())
            for topic, uses in topics.items()
            for access in (Access.READ, Access.WRITE)
            if access in uses and access.name
        }
        needed |= {(topic, "DescribeConfigs") for topic in topics}
        assert {(one.name, one.operation) for one in own} == needed


@pytest.mark.parametrize(
    ("login", "arguments", "topic"),
    [
        ("gateway", ("topics", "check"), REGISTRY_EVENTS),
        ("gateway", ("audit", "at", "-n", "x", "-t", "now"), SNAPSHOT_HISTORY),
        ("auditor", ("control", "freeze", "-n", "x", *WHY), QUARANTINE),
        ("operator", ("audit", "who", "-n", "x", "--version", "1"), DELIVERIES),
    ],
)
def test_a_command_names_the_permission_that_it_lacks(
    logged_in: LoggedInProcesses, granted: KafkaCluster, login: str, arguments: tuple[str, ...], topic: str
) -> None:
    """Exit code 1, a line that says what to do, no stack trace."""
    granted.ensure_topics()
    text = refused_to(logged_in, login, *arguments)
    assert f"topic {topic}: the login lacks the permission Describe; kafka-acls.sh" in text
    assert f"--allow-principal User:{login} --operation Describe --topic {topic}" in text


@pytest.mark.parametrize(("login", "lacks"), [("auditor", [QUARANTINE]), ("listener", [SNAPSHOTS, DELIVERIES])])
def test_a_process_names_the_permissions_it_lacks(
    logged_in: LoggedInProcesses, granted: KafkaCluster, login: str, lacks: list[str]
) -> None:
    """All of its topics at once, at its start, also where Kafka lets the login write nothing at all."""
    granted.ensure_topics()
    text = refused_to(logged_in, login, "gateway")
    for topic in lacks:
        assert f"topic {topic}: the login lacks the permission Describe" in text, text
