"""Reads a partition's history, and its events side by side with it: without a group, without commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.audit.verification import Finding, Foreknowledge, Verdict, Verification
from runtime.kafka_reader import PartitionReader
from schemas.errors import UndecodableRecordError
from schemas.topics import SNAPSHOT_HISTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import Message

    from consumers.settings import ConversionSettings, GuardSettings
    from runtime.settings import KafkaSettings
    from schemas.avro_codec import Codecs
    from schemas.events import RegistryEvent
    from schemas.records import Manifest


class PartitionLog:
    """One partition of the history and of the event topics; needs only read permission.

    Raises KafkaException where Kafka can't be read.
    """

    def __init__(self, kafka: KafkaSettings, codecs: Codecs, number: int) -> None:
        self._kafka = kafka
        self._codecs = codecs
        self._number = number

    def manifests(self) -> Iterator[Manifest]:
        """The partition's manifests, oldest first; a record that does not decode is no manifest."""
        for message in self._read(SNAPSHOT_HISTORY, 0):
            try:
                yield self._codecs.manifest.decode(message.value())
            except UndecodableRecordError:
                continue

    def verify(self, conversion: ConversionSettings, guard: GuardSettings) -> Iterator[Finding]:
        """A finding for every manifest."""
        foreknowledge = Foreknowledge()
        for manifest in self.manifests():
            foreknowledge.learn(manifest)
        verification: Verification | None = None
        topics: dict[str, _Events] = {}
        for manifest in self.manifests():
            if verification is None:
                if (missing := self._missing(manifest)) is not None:
                    yield Finding(manifest, Verdict.UNVERIFIABLE, missing)
                    continue
                verification = Verification(conversion, guard, foreknowledge)
            for topic, last in manifest.folded_to.items():
                if topic not in topics:
                    first = manifest.recover_from.get(topic, 0)
                    topics[topic] = _Events(self._read(topic, first), self._codecs)
                topics[topic].fold_into(verification, last)
            yield verification.check(manifest)

    def _missing(self, manifest: Manifest) -> str | None:
        """Why a fold can't begin with this manifest."""
        if not manifest.folded_to:
            return "it does not say where its fold begins: it is of an older shiplog"
        with self._reader() as reader:
            for topic, offset in manifest.recover_from.items():
                earliest, _ = reader.bounds(topic)
                if offset < earliest:
                    return f"it needs {topic} from offset {offset}, and the log begins at {earliest}"
        return None

    def _read(self, topic: str, first: int) -> Iterator[Message]:
        """With a reader of its own: the history and the event topics are read side by side."""
        with self._reader() as reader:
            yield from reader.read(topic, first)

    def _reader(self) -> PartitionReader:
        return PartitionReader(self._kafka, "shiplog-audit", self._number)


class _Events:
    """A topic's events, folded in piece by piece."""

    def __init__(self, messages: Iterator[Message], codecs: Codecs) -> None:
        self._messages = messages
        self._codecs = codecs
        self._ahead: tuple[str, int, RegistryEvent] | None = None

    def fold_into(self, verification: Verification, last: int) -> None:
        """Folds in what stands up to that offset."""
        if self._ahead is not None:
            if self._ahead[1] > last:
                return
            verification.apply(*self._ahead)
            self._ahead = None
        for message in self._messages:
            try:
                event = self._codecs.registry_event.decode(message.value())
            except UndecodableRecordError:
                continue  # set aside when it was first read
            found = (message.topic() or "", message.offset() or 0, event)
            if found[1] > last:
                self._ahead = found
                break
            verification.apply(*found)
