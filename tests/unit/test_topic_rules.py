"""Which settings of a topic are faults, which may be lived with."""

from __future__ import annotations

import pytest

from runtime.settings import TopicsSettings
from runtime.topic_rules import FoundTopic, judge, missing_access
from schemas.topics import (
    DAY_MS,
    MAX_RECORD_BYTES,
    REGISTRY_EVENTS,
    SNAPSHOTS,
    Access,
    TopicSettings,
    mirrored_topic_settings,
    topic_settings,
    topics_of,
)

SETTINGS = TopicsSettings()
TOPICS = {topic.name: topic for topic in topic_settings()}
(MIRRORED,) = mirrored_topic_settings(["dc2.events"])


def found(topic: TopicSettings, *, partitions: int = 8, replicas: int = 3, **config: str) -> FoundTopic:
    """A topic as `topics ensure` makes it, but for these settings (`_` for `.`)."""
    given = {name.replace("_", "."): value for name, value in config.items()}
    made = topic.config() | {"min.insync.replicas": "2", "retention.bytes": "-1"} | given
    return FoundTopic(partitions=partitions, replicas=replicas, config=made)


@pytest.mark.parametrize("topic", [*TOPICS.values(), MIRRORED], ids=lambda topic: topic.name)
def test_a_topic_that_was_made_as_it_should_be_has_no_finding(topic: TopicSettings) -> None:
    """What `topics ensure` asks for is what the check wants, for every topic."""
    assert judge(topic, found(topic), SETTINGS) == []


@pytest.mark.parametrize(
    ("name", "shape", "config", "setting"),
    [
        (REGISTRY_EVENTS, {}, {"cleanup_policy": "compact"}, "cleanup.policy"),
        (REGISTRY_EVENTS, {}, {"cleanup_policy": "compact,delete"}, "cleanup.policy"),
        (SNAPSHOTS, {}, {"cleanup_policy": "delete"}, "cleanup.policy"),
        (SNAPSHOTS, {"partitions": 9}, {}, "partitions"),
        (SNAPSHOTS, {"replicas": 2}, {"min_insync_replicas": "1"}, "replicas"),
        (SNAPSHOTS, {}, {"min_insync_replicas": "1"}, "min.insync.replicas"),
        (SNAPSHOTS, {}, {"min_insync_replicas": "4"}, "min.insync.replicas"),
        (SNAPSHOTS, {}, {"max_message_bytes": "1048588"}, "max.message.bytes"),
        (REGISTRY_EVENTS, {}, {"retention_ms": str(DAY_MS - 1)}, "retention.ms"),
        (SNAPSHOTS, {}, {"message_timestamp_before_max_ms": "60000"}, "message.timestamp.before.max.ms"),
        (SNAPSHOTS, {}, {"message_timestamp_difference_max_ms": "60000"}, "message.timestamp.difference.max.ms"),
    ],
)
def test_what_loses_or_mixes_records_is_a_fault(
    name: str, shape: dict[str, int], config: dict[str, str], setting: str
) -> None:
    """The first finding names topic, setting, value and what is needed, and how it is mended."""
    finding, *_ = [
        one for one in judge(TOPICS[name], found(TOPICS[name], **shape, **config), SETTINGS) if one.is_fault
    ]
    assert finding.setting == setting
    text = finding.text("k1:9092")
    assert f"topic {name} has {setting}={finding.value}, needs {finding.needed}" in text
    assert "--add-config" in text or "set topics." in text or "set it to" in text


@pytest.mark.parametrize(
    ("name", "config", "setting"),
    [
        (REGISTRY_EVENTS, {"retention_ms": str(7 * DAY_MS)}, "retention.ms"),
        ("shiplog.control.events", {"retention_ms": str(365 * DAY_MS)}, "retention.ms"),
        (REGISTRY_EVENTS, {"retention_bytes": "1073741824"}, "retention.bytes"),
        (SNAPSHOTS, {"delete_retention_ms": "60000"}, "delete.retention.ms"),
        (SNAPSHOTS, {"unclean_leader_election_enable": "true"}, "unclean.leader.election.enable"),
        (SNAPSHOTS, {"min_insync_replicas": "3"}, "min.insync.replicas"),
    ],
)
def test_what_may_be_lived_with_is_told(name: str, config: dict[str, str], setting: str) -> None:
    """It loses nothing by itself: the processes start, and log it."""
    (finding,) = judge(TOPICS[name], found(TOPICS[name], **config), SETTINGS)
    assert (finding.setting, finding.is_fault) == (setting, False)


@pytest.mark.parametrize(
    "config",
    [
        {"retention_ms": "-1"},
        {"retention_ms": str(400 * DAY_MS)},
        {"max_message_bytes": str(2 * MAX_RECORD_BYTES)},
        {"message_timestamp_before_max_ms": str(2**63 - 1)},
        {"message_timestamp_type": "LogAppendTime", "message_timestamp_before_max_ms": "1000"},
    ],
)
def test_more_than_is_needed_is_well(config: dict[str, str]) -> None:
    """Longer, larger, or stamped by Kafka itself."""
    assert judge(TOPICS[REGISTRY_EVENTS], found(TOPICS[REGISTRY_EVENTS], **config), SETTINGS) == []


def test_one_broker_is_well_when_it_was_told() -> None:
    """One copy, and one that is waited for, as `shiplog up` has it."""
    alone = TopicsSettings(replication_factor=1, min_insync_replicas=1)
    topic = TOPICS[SNAPSHOTS]
    assert judge(topic, found(topic, replicas=1, min_insync_replicas="1"), alone) == []
    assert [one.setting for one in judge(topic, found(topic, replicas=1), alone)] == ["min.insync.replicas"]


def test_copies_of_a_mirrored_topic_are_its_makers_affair() -> None:
    """MirrorMaker makes two by default, and another Kafka has the records, too; what mixes or loses is refused."""
    findings = judge(MIRRORED, found(MIRRORED, replicas=2, min_insync_replicas="1"), SETTINGS)
    assert {one.setting: one.is_fault for one in findings} == {"replicas": False, "min.insync.replicas": False}
    assert judge(MIRRORED, found(MIRRORED, cleanup_policy="compact"), SETTINGS)[0].is_fault


def test_permissions_that_a_process_lacks_are_named() -> None:
    """As Kafka names them; where Kafka does not say, nothing is missing."""
    snapshots = next(topic for topic in topics_of("materializer") if topic.name == SNAPSHOTS)
    for allowed, missing in [
        (Access.READ, ["Write"]),
        (Access.NONE, ["Read", "Write"]),
        (Access.READ | Access.WRITE, []),
        (None, []),
    ]:
        here = FoundTopic(partitions=8, replicas=3, config={}, allowed=allowed)
        assert missing_access(snapshots, here) == missing
