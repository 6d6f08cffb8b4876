"""Makes topics that are missing, and refuses those under which data would be lost or mixed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection

# confluent-kafka re-exports these without saying so.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclOperation,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from runtime.errors import KafkaUnusableError
from runtime.kafka_clients import make_admin
from runtime.kafka_permissions import lacking
from runtime.topic_rules import Finding, FoundTopic, judge, missing_access
from schemas.errors import WrongTopicError
from schemas.topics import Access

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from runtime.settings import KafkaSettings, TopicsSettings
    from schemas.topics import TopicSettings

_log = structlog.get_logger()

_TIMEOUT_S = 20.0
_PAUSE_S = 0.1
_UNREACHABLE = frozenset({KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN})  # noqa: SLF001
_ACCESS = {AclOperation.READ: Access.READ, AclOperation.WRITE: Access.WRITE}


class _Described(NamedTuple):
    """A topic's shape, and what the login may do with it."""

    partitions: int
    replicas: int
    allowed: Access | None


class TopicKeeper:
    """Creates and checks topics; each call blocks for at most 20 s a request."""

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings) -> None:
        self._servers = kafka.servers
        self._kafka = kafka
        self._settings = topics
        self._heard: list[str] = []
        self._admin = make_admin(kafka, "shiplog-topics", {"error_cb": self._hear})

    def ensure(self, wanted: Sequence[TopicSettings]) -> list[str]:
        """Creates those that are missing, but for mirrored ones; the names of the new ones. Checks nothing.

        Raises:
            KafkaUnusableError: Kafka can't be reached or refuses.
        """
        ours = [topic for topic in wanted if not topic.is_mirrored]
        present = self._describe([topic.name for topic in ours])
        missing = [topic for topic in ours if topic.name not in present]
        new = [
            NewTopic(
                topic.name,
                num_partitions=self._settings.partitions,
                replication_factor=self._settings.replication_factor,
                config=topic.config() | {"min.insync.replicas": str(self._settings.min_insync_replicas)},
            )
            for topic in missing
        ]
        if new:
            for name, future in self._admin.create_topics(new, operation_timeout=_TIMEOUT_S).items():
                try:
                    future.result(_TIMEOUT_S)
                except KafkaException as error:
                    # Another process may have been faster: check() judges what is there.
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise self._not_created(name, error.args[0]) from error
            self._await({topic.name for topic in missing})
        return [topic.name for topic in missing]

    def check(self, wanted: Sequence[TopicSettings]) -> list[Finding]:
        """Checks that the topics exist, are set up so that nothing is lost, and may be used as they must be.

        Returns what may be lived with.

        Raises:
            WrongTopicError: naming every fault, with the remedy.
            KafkaUnusableError: Kafka can't be reached.
        """
        present = self._describe([topic.name for topic in wanted])
        configs = self._configs(list(present))
        faults, others = [], []
        for topic in wanted:
            described = present.get(topic.name)
            if described is None:
                if not topic.is_mirrored:
                    faults.append(f"topic {topic.name} does not exist: run `shiplog topics ensure`")
                continue
            found = FoundTopic(**described._asdict(), config=configs[topic.name])
            faults += [lacking(self._kafka, operation, topic.name) for operation in missing_access(topic, found)]
            for finding in judge(topic, found, self._settings):
                if finding.is_fault:
                    faults.append(finding.text(self._servers))
                else:
                    others.append(finding)
        if faults:
            raise WrongTopicError("\n".join(faults))
        return others

    def _await(self, names: set[str]) -> None:
        """Waits until the broker that is asked knows them: Kafka answers before every broker has heard of it."""
        deadline = time.monotonic() + _TIMEOUT_S
        while names - self._describe(sorted(names)).keys() and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)

    def _describe(self, names: list[str]) -> dict[str, _Described]:
        """Those that are there."""
        if not names:
            return {}
        asked = self._admin.describe_topics(
            TopicCollection(names), include_authorized_operations=True, request_timeout=_TIMEOUT_S
        )
        return {
            name: _Described(
                partitions=len(topic.partitions),
                replicas=min(len(partition.replicas) for partition in topic.partitions),
                allowed=_access(topic.authorized_operations),
            )
            for name, topic in self._answers("Describe", asked).items()
        }

    def _configs(self, names: list[str]) -> dict[str, Mapping[str, str]]:
        """The settings in force: those of the brokers where a topic has none of its own."""
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        asked = self._admin.describe_configs(resources, request_timeout=_TIMEOUT_S)
        answers = self._answers("DescribeConfigs", {resource.name: future for resource, future in asked.items()})
        return {
            topic: {name: str(entry.value) for name, entry in entries.items()}
            for topic, entries in answers.items()
        }

    def _answers(self, operation: str, asked: Mapping[str, Future[Any]]) -> dict[str, Any]:
        """What Kafka says of each topic that exists."""
        found, refused = {}, []
        for topic, future in asked.items():
            try:
                found[topic] = future.result(_TIMEOUT_S + 1)
            except KafkaException as error:
                fault = error.args[0]
                if fault.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    refused.append(lacking(self._kafka, operation, topic))
                elif fault.code() in _UNREACHABLE:
                    self._admin.poll(0)
                    reason = self._heard[0] if self._heard else fault.str()
                    raise KafkaUnusableError(
                        f"Kafka at {self._servers} can't be reached ({reason}); see kafka.servers"
                    ) from error
                elif fault.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise KafkaUnusableError(f"Kafka does not describe topic {topic}: {fault.str()}") from error
        if refused:
            raise WrongTopicError("\n".join(refused))
        return found

    def _hear(self, error: KafkaError) -> None:
        """Why there is no connection, told when the client is polled: more than a time-out says."""
        self._heard.append(error.str())

    def _not_created(self, topic: str, fault: KafkaError) -> Exception:
        if fault.code() in {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}:
            return WrongTopicError(lacking(self._kafka, "Create", topic))
        text = f"cannot create topic {topic}: {fault.str()}"
        if fault.code() == KafkaError.INVALID_REPLICATION_FACTOR:
            text += (
                f"; topics.replication_factor is {self._settings.replication_factor}: start more brokers, or "
                "set it and topics.min_insync_replicas to what these few can keep"
            )
        return KafkaUnusableError(text)


def check_topics(kafka: KafkaSettings, topics: TopicsSettings, wanted: Sequence[TopicSettings]) -> None:
    """Checks the topics of a process at its start, and logs what loses nothing; raises as `TopicKeeper.check`."""
    for finding in TopicKeeper(kafka, topics).check(wanted):
        _log.warning(
            "topic_setting",
            topic=finding.topic,
            setting=finding.setting,
            value=finding.value,
            needed=finding.needed,
            consequence=finding.consequence,
        )


def _access(allowed: Sequence[AclOperation] | None) -> Access | None:
    if allowed is None:  # an old Kafka
        return None
    found = Access.NONE
    for operation in allowed:
        found |= _ACCESS.get(operation, Access.NONE)
    return found
