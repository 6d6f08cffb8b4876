"""What to do when Kafka refuses for lack of a permission."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

    from runtime.settings import KafkaSettings


def lacking(kafka: KafkaSettings, operation: str, topic: str) -> str:
    """The permission that the login lacks for a topic, and the command that grants it."""
    user = kafka.sasl_username or "PRINCIPAL"
    return (
        f"topic {topic}: the login lacks the permission {operation}; kafka-acls.sh --bootstrap-server "
        f"{kafka.servers} --add --allow-principal User:{user} --operation {operation} --topic {topic}"
    )


def explain(kafka: KafkaSettings, fault: KafkaError) -> str:
    """What Kafka says, and where to look when it does not say which permission is lacking."""
    if not fault.name().endswith("_AUTHORIZATION_FAILED"):
        return f"{fault.str()}; SHIPLOG_KAFKA__LOG_LEVEL=4 shows why"
    login = f"the login {kafka.sasl_username}" if kafka.sasl_username else "the login"
    return f"{fault.str()}: {login} lacks a permission, see Permissions in Kafka in docs/operations.md"
