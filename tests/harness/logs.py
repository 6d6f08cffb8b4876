"""Reads topics whole, as a test wants them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition

from runtime.kafka_clients import make_consumer
from schemas.avro_codec import codecs
from schemas.topics import SNAPSHOT_HISTORY

if TYPE_CHECKING:
    from confluent_kafka import Message

    from schemas.records import Manifest
    from tests.harness.servers import Kafka

SILENCE_S = 5.0


def read_history(kafka: Kafka) -> list[Manifest]:
    """Every manifest ever published, in order."""
    decode = codecs().manifest.decode
    return [decode(message.value()) for message in read_all(kafka, SNAPSHOT_HISTORY)]


def read_all(kafka: Kafka, topic: str) -> list[Message]:
    """Every committed record of a topic, in the order of its partitions."""
    consumer = make_consumer(
        kafka.settings,
        "test",
        {
            "group.id": "test-unused",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        },
    )
    count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    found, unfinished = [], dict.fromkeys(range(count), 0)
    consumer.assign([TopicPartition(topic, number, offset) for number, offset in unfinished.items()])
    heard_at = time.monotonic()
    while unfinished:
        messages = consumer.consume(1000, timeout=0.5)
        if messages:
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > SILENCE_S:  # the end of a partition was once not told
            heard_at = time.monotonic()
            consumer.assign([TopicPartition(topic, number, offset) for number, offset in unfinished.items()])
        for message in messages:
            if message.error() is not None:
                unfinished.pop(message.partition(), None)
            elif message.partition() in unfinished:
                found.append(message)
                unfinished[message.partition()] = message.offset() + 1
    consumer.close()
    return sorted(found, key=lambda message: (message.partition(), message.offset()))
