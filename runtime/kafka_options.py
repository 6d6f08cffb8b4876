"""Settings of librdkafka that shiplog passes through, and those that it refuses, by name and with the reason.

The names are librdkafka's, aliases included: see its CONFIGURATION.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Role = Literal["producer", "consumer", "admin"]
"""What a client does. An option of one role is unknown to the others, or means something else to them."""

FIELDS: Final[Mapping[str, str]] = {
    "bootstrap.servers": "servers",
    "metadata.broker.list": "servers",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_username",
    "sasl.password": "sasl_password",
    "ssl.ca.location": "ca_file",
    "ssl.certificate.location": "certificate_file",
    "ssl.key.location": "key_file",
    "log_level": "log_level",
}
"""Options that are settings of the section `kafka`, too: they may be given under one of their names, not two."""

_ORDER = "records must reach the log once and in their order"
_ACKNOWLEDGED = "a record counts as written only when every copy in sync has it"
_KEPT = "a record that was taken is kept until Kafka has it, however long that takes"
_LARGE = "records of up to 16 MiB must pass"
_GROUP = "the partitions of a process follow from its group and its name in it"
_COMMITS = "offsets are committed together with what they led to, never by the client itself"
_READING = "each reader decides where it begins"
_CALLBACK = "it takes a function, not a value"
_QUEUES = "set listener.queue_records, listener.queue_bytes or gateway.deliveries"
_REPORTS = "delivery reports tell what Kafka has"

REFUSED: Final[Mapping[str, str]] = {
    "client.id": "the processes name themselves; set listener.instance, materializer.instance or gateway.instance",
    # producers
    "enable.idempotence": _ORDER,
    "max.in.flight": _ORDER,
    "max.in.flight.requests.per.connection": _ORDER,
    "queuing.strategy": _ORDER,
    "acks": _ACKNOWLEDGED,
    "request.required.acks": _ACKNOWLEDGED,
    "message.timeout.ms": _KEPT,
    "delivery.timeout.ms": _KEPT,
    "retries": _KEPT,
    "message.send.max.retries": _KEPT,
    "topic.metadata.propagation.max.ms": _KEPT,
    "enable.gapless.guarantee": _KEPT,
    "transactional.id": "it fences the former process of the same name; set materializer.instance",
    "transaction.timeout.ms": "set materializer.transaction_timeout_s",
    "partitioner": "a namespace is in the partition of the same number in every topic",
    "message.max.bytes": _LARGE,
    "queue.buffering.max.messages": _QUEUES,
    "queue.buffering.max.kbytes": _QUEUES,
    "delivery.report.only.error": _REPORTS,
    "produce.offset.report": _REPORTS,
    "enabled_events": _REPORTS,
    # consumers
    "group.id": "set listener.group or materializer.group",
    "group.instance.id": _GROUP,
    "group.protocol": _GROUP,
    "group.protocol.type": _GROUP,
    "group.remote.assignor": _GROUP,
    "partition.assignment.strategy": _GROUP,
    "max.poll.interval.ms": "set materializer.max_poll_s",
    "enable.auto.commit": _COMMITS,
    "auto.commit.enable": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "offset.store.method": _COMMITS,
    "offset.store.path": _COMMITS,
    "auto.offset.reset": _READING,
    "enable.partition.eof": "a reader has read everything when it is told of the end",
    "isolation.level": "what is not committed was never published",
    "fetch.message.max.bytes": _LARGE,
    "max.partition.fetch.bytes": _LARGE,
    "fetch.max.bytes": _LARGE,
    "receive.message.max.bytes": _LARGE,
    # all
    "allow.auto.create.topics": "topics are made by `shiplog topics ensure`, with what they need",
    "topic.blacklist": "a topic that is ignored would count as missing",
    "default.topic.config": "name its settings themselves",
    "on_commit": _CALLBACK,
    "on_delivery": _CALLBACK,
    "logger": _CALLBACK,
}


def _as_text(value: Any) -> Any:
    """An option as librdkafka takes it; a container, or nothing, is left for pydantic to refuse."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


OptionValue = Annotated[SecretStr, BeforeValidator(_as_text)]
"""The value of an option: text, number or truth value. Any may be a secret, so none is ever printed."""


def refuse(names: Iterable[str]) -> None:
    """Refuses options that shiplog's correctness rests on.

    Raises:
        ValueError: naming all of them, each with the reason.
    """
    faults = [f"{name} can't be set: {reason}" for name in names if (reason := _reason(name))]
    if faults:
        raise ValueError("; ".join(faults))


def _reason(name: str) -> str | None:
    if name.endswith("_cb"):
        return _CALLBACK
    if name.startswith("test.mock."):
        return "nothing would reach Kafka"
    return REFUSED.get(name)


def refuse_servers(names: Iterable[str]) -> None:
    """Refuses options of one role that would send it to another Kafka.

    Raises:
        ValueError: naming them.
    """
    faults = [f"{name} can't differ by role: set kafka.servers" for name in names if FIELDS.get(name) == "servers"]
    if faults:
        raise ValueError("; ".join(faults))


def with_fields(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section `kafka`, with those of its options that are settings of their own moved to these.

    Raises:
        ValueError: naming those that are given twice.
    """
    settings = dict(section)
    twice = []
    for source, fields in (("options", FIELDS), ("options_files", {"sasl.password": "sasl_password_file"})):
        given = settings.get(source)
        if not isinstance(given, dict):
            continue
        for name in [name for name in given if name in fields]:
            if fields[name] in settings:
                twice.append(f"{name} stands in kafka.{source} and is kafka.{fields[name]}, too: leave one out")
            settings[fields[name]] = given[name]
        settings[source] = {name: value for name, value in given.items() if name not in fields}
    if twice:
        raise ValueError("; ".join(twice))
    return settings
