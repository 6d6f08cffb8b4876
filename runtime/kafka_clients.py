"""Makes Kafka's clients, each with what its work needs and what the settings add."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from runtime.errors import KafkaUnusableError, SettingsError
from runtime.kafka_permissions import explain, lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtime.kafka_options import Role
    from runtime.settings import KafkaSettings

C = TypeVar("C", Consumer, Producer, AdminClient)

_TIMEOUT_S = 10.0
_SECRET = re.compile("password|passphrase|secret|pem$")
_MAKERS: Final[Mapping[Role, Callable[[dict[str, Any]], Any]]] = {
    "producer": Producer,
    "consumer": Consumer,
    "admin": AdminClient,
}
_NOT_ALONE = frozenset({"security.protocol", "sasl.mechanism", "sasl.mechanisms"})
"""With these a client logs in, asks for tokens and tickets; without them the others are checked as well."""


def make_consumer(kafka: KafkaSettings, client_id: str, own: Mapping[str, Any]) -> Consumer:
    """A consumer; raises SettingsError where librdkafka does not take its settings."""
    return _make(Consumer, kafka, kafka.client_config("consumer", client_id, own))


def make_producer(kafka: KafkaSettings, client_id: str, own: Mapping[str, Any]) -> Producer:
    """A producer; raises SettingsError where librdkafka does not take its settings."""
    config = kafka.client_config("producer", client_id, own)
    if "transaction.timeout.ms" in own and "socket.timeout.ms" in config:
        # librdkafka refuses a request's time that is not within that of the transaction; left alone it sees to it.
        longest = own["transaction.timeout.ms"] - 100
        config["socket.timeout.ms"] = min(int(config["socket.timeout.ms"]), longest)
    return _make(Producer, kafka, config)


def make_admin(kafka: KafkaSettings, client_id: str, own: Mapping[str, Any] | None = None) -> AdminClient:
    """An admin client; keep it for as long as its futures are waited for. Raises SettingsError as the others."""
    return _make(AdminClient, kafka, kafka.client_config("admin", client_id, own))


def partitions_of(client: Consumer | Producer | AdminClient, kafka: KafkaSettings, topic: str) -> list[int]:
    """The numbers of a topic's partitions.

    Raises:
        KafkaUnusableError: Kafka can't be reached, the topic does not exist, or may not be described.
    """
    try:
        found = client.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
    except KafkaException as error:
        raise KafkaUnusableError(f"Kafka at {kafka.servers}: {explain(kafka, error.args[0])}") from error
    if found.error is None:
        return sorted(found.partitions)
    if found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise KafkaUnusableError(lacking(kafka, "Describe", topic))
    if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise KafkaUnusableError(f"topic {topic} does not exist: run `shiplog topics ensure`")
    raise KafkaUnusableError(f"topic {topic} can't be read: {found.error.str()}")


def check_options(kafka: KafkaSettings) -> None:
    """Has librdkafka read the options of every role, without a connection.

    Raises:
        SettingsError: naming every option that it does not know, or whose value it does not take.
    """
    faults = [fault for role in _MAKERS for fault in _faults(role, kafka.options_of(role))]
    if faults:
        raise SettingsError("\n".join(dict.fromkeys(faults)))


def _faults(role: Role, options: Mapping[str, str]) -> list[str]:
    """What librdkafka says of those that it does not take, each by itself."""
    accepted: dict[str, Any] = {"log_level": 0} | ({"group.id": "unused"} if role == "consumer" else {})
    alone = {name: value for name, value in options.items() if name not in _NOT_ALONE}
    if _fault(role, accepted | alone) is None:
        return []
    faults = []
    for name, value in alone.items():
        fault = _fault(role, accepted | {name: value})
        if fault is None:
            accepted[name] = value
        else:
            faults.append(f"kafka.options: {name}: {_redacted(fault, options)}")
    return faults


def _fault(role: Role, config: dict[str, Any]) -> str | None:
    """What librdkafka says of a value or a name; how the values go together is told where a client is made."""
    try:
        _MAKERS[role](config)
    except KafkaException as error:
        text: str = error.args[0].str()
        return None if text.startswith("Failed to create") else text.strip()
    return None


def _make(kind: type[C], kafka: KafkaSettings, config: dict[str, Any]) -> C:
    try:
        return kind(config)
    except KafkaException as error:
        fault = error.args[0]
        if fault.code() != KafkaError._INVALID_ARG:  # noqa: SLF001 - confluent-kafka's name
            raise KafkaUnusableError(f"no client of Kafka can be made: {fault.str()}") from error
        text = f"kafka: {_redacted(fault.str().strip(), config)}"
        if "GSSAPI" in text and kafka.sasl_mechanism is None:
            text += "; kafka.sasl_mechanism is not set, which means GSSAPI to librdkafka"
        raise SettingsError(text) from error


def _redacted(text: str, config: Mapping[str, Any]) -> str:
    for name, value in config.items():
        if _SECRET.search(name) and value:
            text = text.replace(str(value), "***")
    return text
