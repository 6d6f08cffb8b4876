"""What Kafka refuses until somebody changes something, in words for that somebody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MISSING_TOPIC = "a topic does not exist: run `shiplog topics ensure`"
_LOGIN = "Kafka refuses the login: see kafka.sasl_username, its password and kafka.sasl_mechanism"

_REFUSALS: Mapping[int, str] = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (
        "grant the materializer READ on its event topics, shiplog.control.events and shiplog.snapshots, and WRITE "
        "on shiplog.snapshots, shiplog.snapshot-history and shiplog.quarantine"
    ),
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant the materializer READ on the group materializer.group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
        "grant the materializer WRITE and DESCRIBE on its transactional id, shiplog-materializer- with "
        "materializer.instance (by default host name and admin port)"
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant the materializer IDEMPOTENT_WRITE on the cluster",
    KafkaError.SASL_AUTHENTICATION_FAILED: _LOGIN,
    KafkaError._AUTHENTICATION: _LOGIN,  # noqa: SLF001 - confluent-kafka's names, here and below
    KafkaError._SSL: "TLS fails: see kafka.ca_file, kafka.certificate_file and kafka.key_file",  # noqa: SLF001
    KafkaError.UNKNOWN_TOPIC_OR_PART: _MISSING_TOPIC,
    KafkaError._UNKNOWN_TOPIC: _MISSING_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION: "a topic has fewer partitions than topics.partitions",  # noqa: SLF001
    KafkaError.MSG_SIZE_TOO_LARGE: "the topic's max.message.bytes is too low: see `shiplog topics check`",
    KafkaError.RECORD_LIST_TOO_LARGE: "the topic's segment.bytes is too low for one batch of records",
    KafkaError.POLICY_VIOLATION: "a policy of the brokers forbids the record",
    KafkaError.INVALID_TRANSACTION_TIMEOUT: (
        "materializer.transaction_timeout_s is beyond the brokers' transaction.max.timeout.ms"
    ),
    KafkaError.INVALID_SESSION_TIMEOUT: (
        "materializer.session_timeout_s is outside of the brokers' group.min.session.timeout.ms and "
        "group.max.session.timeout.ms"
    ),
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (
        "members of another kind are in the group: let nothing else use materializer.group"
    ),
    KafkaError.GROUP_MAX_SIZE_REACHED: "the group is full: fewer materializers, or a higher group.max.size",
    KafkaError.UNSUPPORTED_VERSION: "the brokers are too old for this client",
}


def refusal_of(fault: KafkaError) -> str | None:
    """What to change so that Kafka no longer refuses; None for an error that may pass by itself."""
    return _REFUSALS.get(fault.code())
