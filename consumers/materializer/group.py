"""The group of materializers as Kafka knows it: members, and who committed last for a partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from consumers.materializer.recovery import from_metadata
from runtime.kafka_clients import make_admin, make_producer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka.admin import AdminClient

    from runtime.settings import KafkaSettings

_log = structlog.get_logger()

_TIMEOUT_S = 5.0


class Group:
    """Asks Kafka about the group; each call blocks for a few seconds at most. Belongs to the engine's thread."""

    def __init__(self, kafka: KafkaSettings, name: str) -> None:
        self._kafka = kafka
        self._name = name
        self._admin_client: AdminClient | None = None

    def has_member(self, name: str) -> bool:
        """Whether a process of that name is in the group; False where Kafka does not say."""
        members = self._members()
        return members is not None and name in members

    def end_transactions_of_former_owners(self, taken: Iterable[TopicPartition], own_name: str) -> None:
        """Aborts what processes left open that had these partitions, and are no longer in the group.

        Else readers, and the offsets themselves, wait until Kafka aborts it. Where Kafka does not let us, they do.
        """
        try:
            owners = self._owners(taken) - {own_name}
            members = self._members() if owners else None
        except KafkaException as error:
            _log.info("former_owners_unknown", error=error.args[0].str())
            return
        for owner in sorted(owners - members) if members is not None else ():
            try:
                # Whoever takes a transactional id over ends what its former user left open.
                own = {"transactional.id": owner, "transaction.timeout.ms": 60_000}
                make_producer(self._kafka, owner, own).init_transactions(_TIMEOUT_S)
                _log.info("transactions_of_former_owner_ended", owner=owner)
            except KafkaException as error:
                _log.warning("transactions_of_former_owner_left", owner=owner, error=error.args[0].str())

    def _owners(self, taken: Iterable[TopicPartition]) -> frozenset[str]:
        """The processes that committed last, as far as their transactions have ended."""
        asked = ConsumerGroupTopicPartitions(self._name, [TopicPartition(tp.topic, tp.partition) for tp in taken])
        answers = self._admin.list_consumer_group_offsets([asked], request_timeout=_TIMEOUT_S)
        found = answers[self._name].result(_TIMEOUT_S + 1).topic_partitions or []
        return frozenset(owner for tp in found if (owner := from_metadata(tp.offset, tp.metadata).owner))

    def _members(self) -> frozenset[str] | None:
        """The names of the processes in the group; None where Kafka does not say."""
        try:
            answers = self._admin.describe_consumer_groups([self._name], request_timeout=_TIMEOUT_S)
            members = answers[self._name].result(_TIMEOUT_S + 1).members
        except (KafkaException, TimeoutError):
            return None
        return frozenset(member.group_instance_id for member in members if member.group_instance_id)

    @property
    def _admin(self) -> AdminClient:
        if self._admin_client is None:
            self._admin_client = make_admin(self._kafka, "shiplog-materializer-group")
        return self._admin_client
