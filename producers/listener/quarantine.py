"""What Nacos said and can't be used, set aside with the reason."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from confluent_kafka import KafkaException

from producers import metrics
from producers.nacos.service_info import shown
from schemas.records import MAX_QUARANTINED_VALUE_BYTES, Quarantined
from schemas.topics import QUARANTINE, REGISTRY_EVENTS

if TYPE_CHECKING:
    from runtime.kafka_writer import KafkaWriter
    from schemas.avro_codec import AvroCodec
    from schemas.events import ConfigKey, Namespace, ServiceKey

_log = structlog.get_logger()

_REMEMBERED = 10_000


class Quarantine:
    """Writes what can't be used to the quarantine topic: once, however often Nacos repeats it.

    Never waits: when Kafka's client is full a record is dropped, and taken when Nacos says it again.
    """

    def __init__(
        self, writer: KafkaWriter, codec: AvroCodec[Quarantined], *, datacenter: str, process: str
    ) -> None:
        self._writer = writer
        self._codec = codec
        self._datacenter = datacenter
        self._process = process
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def set_aside(
        self, namespace: Namespace, key: ServiceKey | ConfigKey, *, reason: str, detail: str, value: Any
    ) -> None:
        """Sets aside a value of a service or config item of that namespace."""
        data = value.encode("utf-8", "replace") if isinstance(value, str) else _as_json(value)
        source = f"{namespace}|{key[0]}|{key[1]}".encode("utf-8", "replace")
        mark = hashlib.blake2b(b"\n".join((source, reason.encode(), data)), digest_size=16).digest()
        if mark in self._seen:
            self._seen.move_to_end(mark)
            return
        record = Quarantined.cut(
            topic=REGISTRY_EVENTS,
            partition=-1,
            offset=-1,
            process=self._process,
            reason=reason,
            detail=f"datacenter {self._datacenter}, {detail}",
            key=source,
            value=data,
            at=time.time_ns() // 1000,
        )
        try:
            taken = self._writer.write(QUARANTINE, partition=-1, key=record.key, value=self._codec.encode(record))
        except KafkaException as error:
            _log.error("cannot quarantine", error=error.args[0].str(), reason=reason)
            return
        if taken:
            self._remember(mark)
            metrics.QUARANTINED.labels(self._datacenter, metrics.namespace_label(namespace), reason).inc()
            _log.warning("quarantined", namespace=namespace, key=key, reason=reason, detail=detail)

    def _remember(self, mark: bytes) -> None:
        self._seen[mark] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


def _as_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # nested too deep for it, or half a surrogate pair
        return shown(value, MAX_QUARANTINED_VALUE_BYTES).encode("utf-8", "replace")
