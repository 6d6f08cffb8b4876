"""Reads a partition's history, and its events side by side with it: without a group, without commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.kafka_reader import PartitionReader
from schemas.errors import UndecodableRecordError
from schemas.topics import SNAPSHOT_HISTORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumers.audit.verifying import Positioned
    from runtime.settings import KafkaSettings
    from schemas.avro_codec import Codecs
    from schemas.events import Namespace
    from schemas.records import Manifest


class PartitionLog:
    """One partition of the history and of the event topics; needs only read permission.

    Of the history, what was published between two moments (milliseconds, UTC), of one namespace or of all. `each`
    is told how many events were read. Raises KafkaException where Kafka can't be read.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        codecs: Codecs,
        number: int,
        *,
        namespace: Namespace | None = None,
        from_ms: int = 0,
        to_ms: int | None = None,
        each: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._kafka = kafka
        self._codecs = codecs
        self._number = number
        self._namespace = namespace
        self._from_ms = from_ms
        self._to_ms = to_ms
        self._each = each

    def manifests(self) -> Iterator[Manifest]:
        """The partition's manifests, oldest first; a record that does not decode is no manifest."""
        with self._reader() as reader:
            first = reader.offset_at(SNAPSHOT_HISTORY, self._from_ms) if self._from_ms else 0
            end = None if self._to_ms is None else reader.offset_at(SNAPSHOT_HISTORY, self._to_ms)
            for message in reader.read(SNAPSHOT_HISTORY, first, end):
                if self._namespace is not None and message.key() != self._namespace.encode():
                    continue
                try:
                    yield self._codecs.manifest.decode(message.value())
                except UndecodableRecordError:
                    continue

    def events(self, topic: str, first: int) -> Iterator[Positioned]:
        """The events of a topic from that offset on; what does not decode was set aside when it was first read."""
        decode = self._codecs.registry_event.decode
        with self._reader() as reader:  # its own: the history and the event topics are read side by side
            for number, message in enumerate(reader.read(topic, first), 1):
                if number % 1000 == 0:
                    self._each(1000)
                try:
                    yield topic, message.offset() or 0, decode(message.value())
                except UndecodableRecordError:
                    continue

    def earliest(self, topic: str) -> int:
        """The first offset of a topic that is there."""
        with self._reader() as reader:
            return reader.bounds(topic)[0]

    def _reader(self) -> PartitionReader:
        return PartitionReader(self._kafka, "shiplog-audit", self._number)
