"""Topics on a real Kafka: made where they are missing, and refused where data would be lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from runtime.errors import KafkaUnusableError
from runtime.kafka_topics import TopicKeeper
from runtime.settings import TopicsSettings
from schemas.errors import WrongTopicError
from schemas.topics import Cleanup, TopicSettings, mirrored_topic_settings
from tests.harness.servers import PARTITIONS

if TYPE_CHECKING:
    from tests.harness.servers import KafkaServer


class SlowToHear(TopicKeeper):
    """Asks a broker that has not heard of new topics for its first answers: one alone mostly has."""

    deaf_for = 3

    def _describe(self, names: list[str]) -> dict[str, Any]:
        found = super()._describe(names)
        self.deaf_for -= 1
        return {} if self.deaf_for >= 0 else found


def keeper(kafka: KafkaServer, partitions: int = PARTITIONS) -> TopicKeeper:
    """Of topics with so many partitions."""
    return TopicKeeper(kafka.settings, kafka.topics.model_copy(update={"partitions": partitions}))


def make(kafka: KafkaServer, **config: str) -> TopicSettings:
    """A topic with these settings and Kafka's defaults, made by hand, that is meant for events."""
    topic = TopicSettings(name=f"made-by-hand-{uuid4()}", cleanup=Cleanup.DELETE)
    admin = AdminClient({"bootstrap.servers": kafka.servers})
    new = NewTopic(
        topic.name, PARTITIONS, 1, config={name.replace("_", "."): value for name, value in config.items()}
    )
    admin.create_topics([new])[topic.name].result(20)
    return topic


def alter(kafka: KafkaServer, command: str) -> None:
    """Does what the command, as an error names it, does."""
    name = re.search(r"--entity-name (\S+)", command)
    setting = re.search(r"--add-config (\S+)=(\S+)", command)
    assert name
    assert setting
    entry = ConfigEntry(*setting.groups(), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name[1], incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka.servers})
    admin.incremental_alter_configs([resource])[resource].result(20)


def test_a_topic_is_there_when_it_was_made(kafka: KafkaServer) -> None:
    """Kafka says that it is before every broker has heard of it; who asks at once is not told to make it."""
    topic = TopicSettings(name=f"made-{uuid4()}", cleanup=Cleanup.DELETE)
    assert SlowToHear(kafka.settings, kafka.topics).ensure([topic]) == [topic.name]
    again = keeper(kafka)
    assert again.ensure([topic]) == []
    assert again.check([topic]) == []


def test_a_topic_of_another_shape_is_refused(kafka: KafkaServer) -> None:
    """Naming the fault and the remedy."""
    name = f"shaped-{uuid4()}"
    keeper(kafka).ensure([TopicSettings(name=name, cleanup=Cleanup.DELETE)])
    other = keeper(kafka, PARTITIONS + 1)
    with pytest.raises(WrongTopicError, match=r"needs compact(.|\n)*topics\.partitions says"):
        other.check([TopicSettings(name=name, cleanup=Cleanup.COMPACT)])


def test_what_an_error_says_mends_the_topic(kafka: KafkaServer) -> None:
    """A topic with Kafka's own defaults takes 1 MiB and keeps a week: the fault's command mends it."""
    topic = make(kafka)
    with pytest.raises(WrongTopicError) as refused:
        keeper(kafka).check([topic])
    (fault,) = str(refused.value).splitlines()
    assert f"topic {topic.name} has max.message.bytes=1048588, needs 16777216 or more" in fault
    alter(kafka, fault)
    (finding,) = keeper(kafka).check([topic])
    assert (finding.setting, finding.value, finding.needed) == ("retention.ms", 604800000, "-1")
    alter(kafka, finding.text(kafka.servers))
    assert keeper(kafka).check([topic]) == []


def test_a_mirrored_topic_is_checked_where_it_exists(kafka: KafkaServer) -> None:
    """Never made, for its maker does that; not missed either."""
    there = make(kafka)
    wanted = mirrored_topic_settings([there.name, f"not-yet-{uuid4()}"])
    assert keeper(kafka).ensure(wanted) == []
    with pytest.raises(WrongTopicError, match=rf"{there.name} has max\.message\.bytes"):
        keeper(kafka).check(wanted)


def test_too_few_brokers_for_the_copies_are_named(kafka: KafkaServer) -> None:
    """With the settings that say how many."""
    topic = TopicSettings(name=f"copied-{uuid4()}", cleanup=Cleanup.DELETE)
    with pytest.raises(KafkaUnusableError, match=r"topics\.replication_factor is 3.*topics\.min_insync_replicas"):
        TopicKeeper(kafka.settings, TopicsSettings()).ensure([topic])


def test_a_topic_with_too_few_copies_is_refused_at_start(kafka: KafkaServer) -> None:
    """By a process whose settings want three, as they do unless told otherwise."""
    topic = make(kafka, max_message_bytes="16777216", retention_ms="-1")
    with pytest.raises(WrongTopicError) as refused:
        TopicKeeper(kafka.settings, TopicsSettings(partitions=PARTITIONS)).check([topic])
    text = str(refused.value)
    assert f"topic {topic.name} has replicas=1, needs 3 or more" in text
    assert "set topics.replication_factor to 1 and topics.min_insync_replicas to 1" in text
    assert f"topic {topic.name} has min.insync.replicas=1, needs 2" in text
