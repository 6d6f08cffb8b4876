"""Reads back what stands published in `shiplog.snapshots`."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from consumers.materializer.view import PublishedNamespace
from runtime.kafka_reader import is_about_group, ungrouped_consumer
from schemas.errors import UndecodableRecordError
from schemas.events import Namespace
from schemas.topics import SNAPSHOTS, ManifestKey, decode_snapshot_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message

    from runtime.settings import KafkaSettings
    from schemas.avro_codec import Codecs
    from schemas.events import Datacenter

_log = structlog.get_logger()

_SILENCE_S = 5.0
"""The end of a partition is told once, and was once not told at all: after so long it is asked for again."""


def read_published(
    kafka: KafkaSettings,
    codecs: Codecs,
    partitions: Sequence[int],
    client_id: str,
    *,
    each_turn: Callable[[], None] = lambda: None,
) -> dict[int, dict[Namespace, PublishedNamespace]]:
    """By partition, the resources' versions and manifests of its namespaces, as last committed.

    Blocks until the end of every partition; `each_turn` is called several times a second meanwhile, and may raise
    to end it. Records that can't be decoded are logged and passed over: what they held counts as not published,
    and is published again.

    Raises:
        KafkaException: Kafka can't be read.
    """
    consumer = ungrouped_consumer(kafka, client_id, when_gone="earliest")
    found: dict[int, dict[Namespace, PublishedNamespace]] = {number: {} for number in partitions}
    unfinished = dict.fromkeys(partitions, OFFSET_BEGINNING)
    heard_at = time.monotonic()
    try:
        consumer.assign([TopicPartition(SNAPSHOTS, number, offset) for number, offset in unfinished.items()])
        while unfinished:
            each_turn()
            messages = consumer.consume(1000, timeout=0.2)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > _SILENCE_S:
                heard_at = time.monotonic()
                _log.warning("snapshots_silent", partitions=sorted(unfinished))
                consumer.assign([TopicPartition(SNAPSHOTS, n, offset) for n, offset in unfinished.items()])
            for message in messages:
                error, number = message.error(), message.partition() or 0
                if error is None:
                    if number in unfinished:
                        unfinished[number] = (message.offset() or 0) + 1
                    try:
                        _take(found[number], codecs, message)
                    except UndecodableRecordError as fault:
                        _log.warning("unreadable_snapshot_record", offset=message.offset(), error=str(fault))
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's name
                    unfinished.pop(number, None)
                elif not error.retriable() and not is_about_group(error):
                    raise KafkaException(error)
        return found
    finally:
        consumer.close()


def _take(found: dict[Namespace, PublishedNamespace], codecs: Codecs, message: Message) -> None:
    value = message.value()
    parsed = decode_snapshot_key(message.key())
    namespace = found.setdefault(Namespace(parsed.namespace), PublishedNamespace())
    if isinstance(parsed, ManifestKey):
        namespace.manifest = None if value is None else codecs.manifest.decode(value)
        namespace.written_at = message.timestamp()[1] * 1000
        return
    name = parsed.collection, parsed.name
    namespace.versions.pop(name, None)
    namespace.datacenters.pop(name, None)
    if value is not None:
        record = codecs.resource.decode(value)
        namespace.versions[name] = record.version
        namespace.datacenters[name] = _interned(frozenset(part.datacenter for part in record.parts))


@cache
def _interned(datacenters: frozenset[Datacenter]) -> frozenset[Datacenter]:
    """One object for equal sets: there are few, and hundreds of thousands of resources."""
    return datacenters
