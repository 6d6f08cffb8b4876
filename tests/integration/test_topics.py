"""Topics on a real Kafka: made where they are missing, and refused where data would be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from runtime.kafka_topics import TopicKeeper
from runtime.settings import KafkaSettings, TopicsSettings
from schemas.errors import WrongTopicError
from schemas.topics import Cleanup, TopicSettings
from tests.harness.servers import PARTITIONS

if TYPE_CHECKING:
    from tests.harness.servers import KafkaServer


class SlowToHear(TopicKeeper):
    """Asks a broker that has not heard of new topics for its first answers: one alone mostly has."""

    deaf_for = 3

    def _partition_counts(self) -> dict[str, int]:
        found = super()._partition_counts()
        self.deaf_for -= 1
        return {} if self.deaf_for >= 0 else found


def keeper(kafka: KafkaServer, partitions: int = PARTITIONS) -> SlowToHear:
    """Of topics with so many partitions."""
    return SlowToHear(KafkaSettings(servers=kafka.servers), TopicsSettings(partitions=partitions))


def test_a_topic_is_there_when_it_was_made(kafka: KafkaServer) -> None:
    """Kafka says that it is before every broker has heard of it; who asks at once is not told to make it."""
    topic = TopicSettings(name=f"made-{uuid4()}", cleanup=Cleanup.DELETE)
    assert keeper(kafka).ensure([topic]) == [topic.name]
    again = keeper(kafka)
    again.deaf_for = 0
    assert again.ensure([topic]) == []


def test_a_topic_of_another_shape_is_refused(kafka: KafkaServer) -> None:
    """Naming the fault and the remedy."""
    name = f"shaped-{uuid4()}"
    keeper(kafka).ensure([TopicSettings(name=name, cleanup=Cleanup.DELETE)])
    other = keeper(kafka, PARTITIONS + 1)
    other.deaf_for = 0
    with pytest.raises(WrongTopicError, match=r"needs compact(.|\n)*topics\.partitions says"):
        other.check([TopicSettings(name=name, cleanup=Cleanup.COMPACT)])
