"""Writes namespaces to the snapshot topic as a materializer does, with or without faults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from schemas.avro_codec import codecs
from schemas.digests import format_snapshot_digest, resource_digest
from schemas.events import Namespace
from schemas.partitioner import partition_of
from schemas.records import Manifest
from schemas.topics import SNAPSHOTS, ManifestKey, ResourceKey
from tests.harness.resources import SERVICE_ENTRIES, record

if TYPE_CHECKING:
    from collections.abc import Mapping

CODECS = codecs()


def manifest_of(namespace: str, versions: Mapping[str, str], offset: int = 1) -> Manifest:
    """The manifest of service entries by name and version."""
    total = sum(resource_digest(SERVICE_ENTRIES, name, version) for name, version in versions.items())
    return Manifest(
        namespace=Namespace(namespace), version={"t": offset}, digest=format_snapshot_digest(total),
        resources=len(versions), added=0, changed=0, removed=0, changes=(), reason="test", converter="1",
        observed_at=1, links={}, folded_to={"t": offset},
    )  # fmt: skip


def resource_key(namespace: str, name: str) -> bytes:
    """The key of a service entry."""
    return ResourceKey(namespace, SERVICE_ENTRIES, name).encode()


def resource_value(namespace: str, name: str, version: str) -> bytes:
    """The record of a service entry."""
    return CODECS.resource.encode(replace(record(name, version), namespace=Namespace(namespace)))


@dataclass
class SnapshotTopic:
    """A producer for the topic; `written` is what each namespace has by name and version."""

    servers: str
    partitions: int
    written: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._producer: Any = Producer({"bootstrap.servers": self.servers, "linger.ms": 0})

    def publish(self, namespace: str, changes: Mapping[str, str | None], *, losing: tuple[str, ...] = ()) -> None:
        """These resources by name come, change or go; records of those in `losing` are not written."""
        present = self.written.setdefault(namespace, {})
        partition = partition_of(namespace, self.partitions)
        for name, version in changes.items():
            if version is None:
                present.pop(name, None)
            else:
                present[name] = version
            if name not in losing:
                value = None if version is None else resource_value(namespace, name, version)
                self.send(partition, resource_key(namespace, name), value)
        manifest = CODECS.manifest.encode(manifest_of(namespace, present))
        self.send(partition, ManifestKey(namespace).encode(), manifest)
        self.flush()

    def send(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Any record."""
        self._producer.produce(SNAPSHOTS, partition=partition, key=key, value=value)

    def flush(self) -> None:
        """Returns when Kafka has everything."""
        assert self._producer.flush(20) == 0
