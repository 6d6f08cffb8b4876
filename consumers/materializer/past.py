"""Folds a former version of a namespace from the log once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.errors import NotRebuiltError
from consumers.materializer.replay import Replay
from schemas.errors import UndecodableRecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import Message

    from consumers.settings import ConversionSettings, GuardSettings
    from runtime.kafka_reader import PartitionReader
    from schemas.avro_codec import Codecs
    from schemas.events import RegistryEvent
    from schemas.records import Manifest, ResourceRecord

    Records = dict[tuple[str, str], ResourceRecord]


def rebuild(
    reader: PartitionReader,
    codecs: Codecs,
    conversion: ConversionSettings,
    guard: GuardSettings,
    manifest: Manifest,
    *,
    each: Callable[[int], None] = lambda _: None,
) -> tuple[str, Records]:
    """The digest and the records that the log gives for a manifest of a namespace that does not stand.

    Reads the partition's events from the manifest's `recover_from` to its `folded_to`, and no others; `each` is
    told how many were read, and may raise to end it. Nothing but the fold's state is kept.

    Raises:
        NotRebuiltError: the log does not reach back so far.
        KafkaException: Kafka can't be read.
    """
    replay = Replay(conversion, guard, manifest)
    for topic, offset, event in events_of(reader, codecs, manifest, each=each):
        replay.apply(topic, offset, event)
    return replay.snapshot()


def events_of(
    reader: PartitionReader,
    codecs: Codecs,
    manifest: Manifest,
    *,
    each: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[str, int, RegistryEvent]]:
    """The partition's events that a manifest is made of: topic, offset, event; raises as `rebuild` does."""
    if not manifest.recover_from or not manifest.folded_to:
        raise NotRebuiltError("its manifest does not say where its fold begins: it is of an older shiplog")
    for topic, last in manifest.folded_to.items():
        for number, message in enumerate(read_range(reader, topic, manifest.recover_from.get(topic, 0), last + 1)):
            if number % 1000 == 0:
                each(min(1000, number))
            try:
                event = codecs.registry_event.decode(message.value())
            except UndecodableRecordError:
                continue  # set aside when it was first read
            yield topic, message.offset() or 0, event


def read_range(reader: PartitionReader, topic: str, first: int, end: int) -> Iterator[Message]:
    """The records of a topic from `first` to before `end`.

    Raises:
        NotRebuiltError: the log begins later.
    """
    earliest, _ = reader.bounds(topic)
    if first < earliest:
        raise NotRebuiltError(f"it needs {topic} from offset {first}, and the log begins at {earliest}")
    yield from reader.read(topic, first, end)
