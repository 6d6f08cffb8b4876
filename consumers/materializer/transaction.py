"""Writes a batch to Kafka in one transaction: resources, manifests, history, quarantine, consumed offsets."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException

from consumers import metrics
from consumers.errors import RecordRefusedError
from consumers.materializer.faults import cut, internal
from consumers.materializer.setting_aside import of_snapshot
from consumers.materializer.transactional_producer import TransactionalProducer
from schemas.errors import SchemaRegistryError
from schemas.topics import (
    MAX_RECORD_BYTES,
    QUARANTINE,
    SNAPSHOT_HISTORY,
    SNAPSHOTS,
    ManifestKey,
    ResourceKey,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Consumer, TopicPartition

    from consumers.materializer.faults import Fault
    from consumers.materializer.folded_item import ResourceId
    from consumers.materializer.patience import Patience
    from consumers.materializer.view import NamespaceView, Update
    from consumers.settings import MaterializerSettings
    from runtime.settings import KafkaSettings
    from runtime.supervision import Supervisor
    from schemas.avro_codec import Codecs
    from schemas.records import Manifest, Quarantined

_log = structlog.get_logger()

_MAX_BYTES = MAX_RECORD_BYTES - 4096
"""Of key and value; the rest is for what a batch of records adds."""
_MOST_REFUSED = 100
"""Records of one transaction that Kafka may refuse before it is given up."""
_BY_KEY = -1
"""A partition that the record's key chooses."""
_Encoded = tuple[str, int, bytes, "bytes | None"]
"""Topic, partition, key, value."""


class NamespaceUpdate(NamedTuple):
    """An update, its view, and the partition that it goes to."""

    partition: int
    view: NamespaceView
    update: Update


class TransactionWriter:
    """Encodes updates and commits them with offsets; whoever has its name next fences it.

    Raises KafkaException where Kafka fails for good or for too long: then it is of no more use.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: MaterializerSettings,
        codecs: Codecs,
        client_id: str,
        *,
        patience: Patience,
        supervisor: Supervisor,
    ) -> None:
        self._codecs = codecs
        self._producer = TransactionalProducer(
            kafka,
            client_id,
            {
                # The next transaction's first request meets the last one's markers being written, and backs off:
                # by default for 100 ms, which would be most of a change's way to the Pilot.
                "retry.backoff.ms": 2,
                "retry.backoff.max.ms": 10,
                "linger.ms": 0,
                "compression.type": "lz4",
                "message.max.bytes": MAX_RECORD_BYTES,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 1024 * 1024,
            },
            transaction_timeout_s=settings.transaction_timeout_s,
            patience=patience,
            supervisor=supervisor,
        )

    def start(self) -> None:
        """Takes the name over."""
        self._producer.start()

    def close(self) -> None:
        """Ends its thread."""
        self._producer.close()

    def commit(
        self,
        updates: list[NamespaceUpdate],
        quarantined: list[Quarantined],
        offsets: list[TopicPartition],
        consumer: Consumer,
    ) -> list[NamespaceUpdate]:
        """Writes all of it or nothing, and tells the views what stands published now.

        A resource that can't be encoded, is too large, or that Kafka refuses is left out and set aside: what was
        published of it stands. So does a namespace whose manifest can't be written. The updates that were not
        written as a whole.
        """
        started = time.monotonic()
        refused: dict[tuple[str, bytes], str] = {}
        while True:
            records: list[_Encoded] = []
            written: list[tuple[NamespaceView, Update]] = []
            not_whole: list[NamespaceUpdate] = []
            set_aside = list(quarantined)
            for one in updates:
                done, faults = self._encode(one.partition, one.view, one.update, records, refused)
                set_aside += [of_snapshot(one.partition, fault) for fault in faults]
                if done is not None:
                    written.append((one.view, done))
                if done is not one.update:
                    not_whole.append(one)
            records += [
                (QUARANTINE, _BY_KEY, one.key, self._codecs.quarantined.encode(one))
                for one in set_aside
                if (QUARANTINE, one.key) not in refused
            ]
            try:
                self._producer.run(partial(self._produce, records), offsets, consumer)
                break
            except RecordRefusedError as error:
                _log.error(
                    "record_refused", topic=error.topic, key=error.key.decode(errors="replace"), error=error.reason
                )
                if (error.topic, error.key) in refused or len(refused) >= _MOST_REFUSED:
                    raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, str(error))) from error
                refused[error.topic, error.key] = error.reason
        metrics.TRANSACTIONS.labels("committed").inc()
        metrics.COMMIT_SECONDS.observe(time.monotonic() - started)
        for view, update in written:
            view.published(update)
            metrics.VERSIONS.inc()
            metrics.RESOURCES_WRITTEN.inc(len(update.records))
            metrics.EVENT_TO_SNAPSHOT.observe(max(0.0, time.time() - update.manifest.observed_at / 1e6))
        return not_whole

    def _produce(self, records: list[_Encoded]) -> None:
        for record in records:
            self._producer.produce(*record)

    def _encode(
        self,
        number: int,
        view: NamespaceView,
        update: Update,
        records: list[_Encoded],
        refused_before: Mapping[tuple[str, bytes], str],
    ) -> tuple[Update | None, list[Fault]]:
        """Adds an update's records; what of it will be written, None for nothing, and what can't be."""
        namespace = update.manifest.namespace
        manifest_key, history_key = ManifestKey(namespace).encode(), namespace.encode()
        try:
            _check_refused((SNAPSHOTS, manifest_key), refused_before)
            _check_refused((SNAPSHOT_HISTORY, history_key), refused_before)
            manifest = self._encode_manifest(update.manifest)
        except SchemaRegistryError:
            raise
        except Exception as error:  # noqa: BLE001 - without a manifest nothing of the namespace may be written
            return None, view.fail(error)
        refused: dict[ResourceId, Fault] = {}
        for (collection, name), record in update.records.items():
            key = ResourceKey(namespace, collection, name).encode()
            try:
                _check_refused((SNAPSHOTS, key), refused_before)
                value = None if record is None else self._codecs.resource.encode(record)
                _check_size(key, value)
            except SchemaRegistryError:
                raise
            except Exception as error:  # noqa: BLE001 - it costs this resource
                refused[collection, name] = internal(f"{collection} {name} of {namespace}", error)
                continue
            records.append((SNAPSHOTS, number, key, value))
        if refused:
            update = view.refuse(update, {one: fault.detail for one, fault in refused.items()})
            manifest = self._encode_manifest(update.manifest)
        records.append((SNAPSHOTS, number, manifest_key, manifest))
        records.append((SNAPSHOT_HISTORY, number, history_key, manifest))
        return update, cut(list(refused.values()), f"resources of {namespace}")

    def _encode_manifest(self, manifest: Manifest) -> bytes:
        value = self._codecs.manifest.encode(manifest)
        _check_size(ManifestKey(manifest.namespace).encode(), value)
        return value


def _check_refused(record: tuple[str, bytes], refused: Mapping[tuple[str, bytes], str]) -> None:
    """Raises ValueError for a record, by topic and key, that Kafka refused."""
    if (reason := refused.get(record)) is not None:
        raise ValueError(reason)


def _check_size(key: bytes, value: bytes | None) -> None:
    """Raises ValueError for a record that Kafka's client would not take."""
    size = len(key) + len(value or b"")
    if size > _MAX_BYTES:
        raise ValueError(f"a record of {size} bytes; it may have {_MAX_BYTES}")
