"""Makes topics that are missing, and refuses those under which data would be lost or mixed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

# confluent-kafka re-exports these without saying so.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from runtime.errors import KafkaUnusableError
from schemas.errors import WrongTopicError
from schemas.topics import Cleanup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.topics import TopicSettings

_TIMEOUT_S = 20.0
_PAUSE_S = 0.1


class TopicKeeper:
    """Creates and checks topics; each call blocks for at most 20 s a request."""

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings) -> None:
        self._servers = kafka.servers
        self._settings = topics
        self._admin = AdminClient(kafka.client_config("shiplog-topics"))

    def ensure(self, wanted: Sequence[TopicSettings]) -> list[str]:
        """Creates those that are missing, checks all; the names of the new ones.

        Raises:
            WrongTopicError: as `check`.
            KafkaUnusableError: Kafka can't be reached or refuses.
        """
        present = self._partition_counts()
        missing = [topic for topic in wanted if topic.name not in present]
        new = [
            NewTopic(
                topic.name,
                num_partitions=self._settings.partitions,
                replication_factor=self._settings.replication_factor,
                config=topic.config(),
            )
            for topic in missing
        ]
        if new:
            for name, future in self._admin.create_topics(new, operation_timeout=_TIMEOUT_S).items():
                try:
                    future.result(_TIMEOUT_S)
                except KafkaException as error:
                    # Another process may have been faster: check() judges what is there.
                    if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                        raise KafkaUnusableError(f"cannot create topic {name}: {error.args[0].str()}") from error
            self._await({topic.name for topic in missing})
        self.check(wanted)
        return [topic.name for topic in missing]

    def check(self, wanted: Sequence[TopicSettings]) -> None:
        """Checks that the topics exist, with the right cleanup policy and partition count.

        Raises:
            WrongTopicError: naming every fault, with the remedy.
            KafkaUnusableError: Kafka can't be reached.
        """
        present = self._partition_counts()
        policies = self._cleanup_policies([topic.name for topic in wanted if topic.name in present])
        faults = [fault for topic in wanted for fault in self._faults(topic, present, policies)]
        if faults:
            raise WrongTopicError("\n".join(faults))

    def _await(self, names: set[str]) -> None:
        """Waits until the broker that is asked knows them: Kafka answers before every broker has heard of it."""
        deadline = time.monotonic() + _TIMEOUT_S
        while names - self._partition_counts().keys() and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)

    def _faults(self, topic: TopicSettings, present: dict[str, int], policies: dict[str, str]) -> list[str]:
        if topic.name not in present:
            return [] if topic.is_mirrored else [f"topic {topic.name} does not exist: run `shiplog topics ensure`"]
        faults = []
        wanted_policy = "compact" if topic.cleanup is Cleanup.COMPACT else "delete"
        if policies[topic.name] != wanted_policy:
            faults.append(
                f"topic {topic.name} has cleanup.policy={policies[topic.name]}, needs {wanted_policy}: "
                "records would be lost; alter the topic"
            )
        if topic.carries_namespaces and present[topic.name] != self._settings.partitions:
            faults.append(
                f"topic {topic.name} has {present[topic.name]} partitions, topics.partitions says "
                f"{self._settings.partitions}: namespaces would be looked for in the wrong partition; set it"
            )
        return faults

    def _partition_counts(self) -> dict[str, int]:
        try:
            metadata = self._admin.list_topics(timeout=_TIMEOUT_S)
        except KafkaException as error:
            raise KafkaUnusableError(
                f"Kafka at {self._servers} can't be reached ({error.args[0].str()}); see kafka.servers"
            ) from error
        return {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    def _cleanup_policies(self, names: list[str]) -> dict[str, str]:
        if not names:
            return {}
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        policies = {}
        for resource, future in self._admin.describe_configs(asked).items():
            try:
                policies[resource.name] = str(future.result(_TIMEOUT_S)["cleanup.policy"].value)
            except KafkaException as error:
                raise KafkaUnusableError(
                    f"cannot read the settings of topic {resource.name}: {error.args[0].str()}"
                ) from error
        return policies
