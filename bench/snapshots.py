"""Writes `shiplog.snapshots` as a materializer does, without one: for benchmarks of the gateway alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from consumers.materializer.conversion.service_entry import SERVICE_ENTRIES, SERVICE_ENTRY_TYPE_URL
from schemas.avro_codec import codecs
from schemas.digests import content_digest, format_snapshot_digest, resource_digest
from schemas.events import Datacenter, Namespace
from schemas.partitioner import partition_of
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from schemas.records import Manifest, Part, ResourceRecord, resource_version
from schemas.topics import SNAPSHOTS, ManifestKey, ResourceKey
from tests.harness.servers import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable


def make_record(namespace: Namespace, number: int, endpoints: int, revision: int = 0) -> ResourceRecord:
    """A service of so many endpoints, about 90 bytes each; another revision changes one of them."""
    entry = ServiceEntry()
    for index in range(endpoints):
        one = entry.endpoints.add(address=f"10.{number >> 8 & 255}.{number & 255}.{index % 250 + 1}", weight=100)
        one.ports["http"] = 8080 + index // 250
        one.labels["version"] = f"v{revision if index == 0 else 0}"
        one.labels["cluster"] = "DEFAULT"
    body = entry.SerializeToString(deterministic=True)
    part = Part(datacenter=Datacenter("dc1"), digest=content_digest(body), body=body)
    head = ServiceEntry(hosts=[f"svc-{number}.default-group.{namespace}.nacos"]).SerializeToString()
    return ResourceRecord(
        namespace=namespace,
        collection=SERVICE_ENTRIES,
        name=f"{namespace}/svc-{number}.default-group.{namespace}",
        version=resource_version(
            type_url=SERVICE_ENTRY_TYPE_URL, labels={}, annotations={}, head=head, parts=(part,)
        ),
        type_url=SERVICE_ENTRY_TYPE_URL,
        labels={},
        annotations={},
        head=head,
        parts=(part,),
    )


class SnapshotWriter:
    """Publishes one namespace; with one collection, the manifest's digest is the collection's version."""

    def __init__(self, servers: str, namespace: str = "bench") -> None:
        self._producer = Producer(
            {"bootstrap.servers": servers, "linger.ms": 0, "compression.type": "lz4", "log_level": 2}
        )
        self._codecs = codecs()
        self._namespace = Namespace(namespace)
        self._partition = partition_of(self._namespace, PARTITIONS)
        self._versions: dict[str, str] = {}
        self._total = 0
        self._offset = 0

    def put(self, number: int, endpoints: int, revision: int = 0) -> None:
        """A service's record."""
        record = make_record(self._namespace, number, endpoints, revision)
        key = ResourceKey(self._namespace, SERVICE_ENTRIES, record.name)
        former = self._versions.get(record.name)
        if former is not None:
            self._total -= resource_digest(SERVICE_ENTRIES, record.name, former)
        self._total += resource_digest(SERVICE_ENTRIES, record.name, record.version)
        self._versions[record.name] = record.version
        self._send(key.encode(), self._codecs.resource.encode(record))

    def publish(self, tell: Callable[[str, float], None] | None = None) -> str:
        """The manifest of what was put; its digest."""
        self._offset += 1
        now = time.time()
        manifest = Manifest(
            namespace=self._namespace,
            version={"shiplog.registry.events": self._offset},
            digest=format_snapshot_digest(self._total),
            resources=len(self._versions),
            added=0,
            changed=0,
            removed=0,
            changes=(),
            reason="bench",
            converter="1",
            observed_at=int(now * 1e6),
            links={},
        )
        self._send(ManifestKey(self._namespace).encode(), self._codecs.manifest.encode(manifest))
        self._producer.poll(0)
        if tell is not None:
            tell(manifest.digest, now)
        return manifest.digest

    def flush(self) -> None:
        """Waits until Kafka has everything."""
        self._producer.flush(60)

    def _send(self, key: bytes, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(SNAPSHOTS, value, key, partition=self._partition)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return
