"""Reads topics whole, as a test wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from schemas.avro_codec import codecs
from schemas.topics import SNAPSHOT_HISTORY

if TYPE_CHECKING:
    from confluent_kafka import Message

    from schemas.records import Manifest
    from tests.harness.servers import KafkaServer


def read_history(kafka: KafkaServer) -> list[Manifest]:
    """Every manifest ever published, in order."""
    decode = codecs().manifest.decode
    return [decode(message.value()) for message in read_all(kafka, SNAPSHOT_HISTORY)]


def read_all(kafka: KafkaServer, topic: str) -> list[Message]:
    """Every committed record of a topic, in the order of its partitions."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.servers,
            "group.id": "test-unused",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, number, 0) for number in range(count)])
    found, unfinished = [], set(range(count))
    while unfinished:
        for message in consumer.consume(1000, timeout=0.5):
            if message.error() is None:
                found.append(message)
            else:
                unfinished.discard(message.partition())
    consumer.close()
    return sorted(found, key=lambda message: (message.partition(), message.offset()))
