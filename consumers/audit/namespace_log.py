"""What the log says of one namespace: versions by time or name, their content, the events between them.

Reads without a group and commits nothing: it needs only read permission.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from consumers.audit.logged import LoggedEvent, Published
from consumers.audit.verdict import Verdict
from consumers.errors import NotRebuiltError
from consumers.materializer.conversion import converter_name, revision_of
from consumers.materializer.decisions import stands
from consumers.materializer.past import events_of, read_range, rebuild
from runtime.kafka_reader import PartitionReader
from schemas.errors import UndecodableRecordError
from schemas.partitioner import partition_of
from schemas.topics import CONTROL_EVENTS, SNAPSHOT_HISTORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import Message

    from consumers.settings import ConversionSettings, GuardSettings
    from runtime.settings import KafkaSettings
    from schemas.avro_codec import Codecs
    from schemas.control import ControlEvent
    from schemas.events import Namespace, RegistryEvent
    from schemas.records import ResourceRecord

    Records = dict[tuple[str, str], ResourceRecord]

_FIRST_STEP = 500
_SKEW_LOOK_AHEAD = 500


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A snapshot as the log gives it; `reason` says what is wrong or missing where it is not verified."""

    published: Published
    verdict: Verdict
    reason: str = ""
    records: Records = field(default_factory=dict)
    events_read: int = 0


class NamespaceLog:
    """Versions, content and events of a namespace; raises KafkaException where Kafka can't be read.

    A moment belongs to the version that stood when the first later record of the history was written: the order is
    that of the log, whatever the clocks of those who wrote it; `skew_ms` says how wrong they are there.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        codecs: Codecs,
        namespace: Namespace,
        *,
        partitions: int,
        conversion: ConversionSettings,
        guard: GuardSettings,
    ) -> None:
        self.namespace = namespace
        self.number = partition_of(namespace, partitions)
        self._codecs = codecs
        self._conversion = conversion
        self._guard = guard
        self._reader = PartitionReader(kafka, "shiplog-audit", self.number)
        self._rebuilt: dict[int, Rebuilt] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()

    def at(self, time_ms: int) -> Published | None:
        """The version that stood at a moment; None when the history begins later."""
        return self.before(self._reader.offset_at(SNAPSHOT_HISTORY, time_ms + 1))

    def skew_ms(self, time_ms: int) -> int:
        """How far the next records behind a moment are dated back before it; 0 where clocks agree."""
        first = self._reader.offset_at(SNAPSHOT_HISTORY, time_ms + 1)
        ahead = self._reader.read(SNAPSHOT_HISTORY, first, first + _SKEW_LOOK_AHEAD)
        return max((time_ms - message.timestamp()[1] for message in ahead), default=0) if first >= 0 else 0

    def before(self, offset: int, wanted: Callable[[Published], bool] = lambda _: True) -> Published | None:
        """The last version before an offset of the history that is wanted: looked for backwards."""
        earliest, _ = self._reader.bounds(SNAPSHOT_HISTORY)
        step, end = _FIRST_STEP, offset
        while end > earliest:
            first = max(earliest, end - step)
            found = [one for one in self.published(first, end) if wanted(one)]
            if found:
                return found[-1]
            end, step = first, step * 4
        return None

    def published(self, first: int = 0, end: int | None = None) -> Iterator[Published]:
        """The namespace's versions in a range of the history, oldest first."""
        for message in self._reader.read(SNAPSHOT_HISTORY, first, end):
            if message.key() == self.namespace.encode():
                try:
                    manifest = self._codecs.manifest.decode(message.value())
                except UndecodableRecordError:
                    continue  # it is no manifest
                yield Published(manifest, message.offset() or 0, message.timestamp()[1])

    def between(self, from_ms: int, to_ms: int) -> Iterator[Published]:
        """The versions published from one moment to before another."""
        offset_at = self._reader.offset_at
        yield from self.published(offset_at(SNAPSHOT_HISTORY, from_ms), offset_at(SNAPSHOT_HISTORY, to_ms))

    def earliest_ms(self) -> int | None:
        """When the oldest version that is still there was published."""
        return next((one.at_ms for one in self.published()), None)

    def rebuild(self, published: Published, each: Callable[[int], None] = lambda _: None) -> Rebuilt:
        """The content of a version, and whether it is what was published; the same object when asked again."""
        known = self._rebuilt.get(published.offset)
        if known is None:
            if len(self._rebuilt) >= 4:
                del self._rebuilt[next(iter(self._rebuilt))]
            known = self._rebuilt[published.offset] = self._rebuild(published, each)
        return known

    def events_to_read(self, published: Published) -> int:
        """How many events a rebuild reads."""
        manifest = published.manifest
        return sum(last + 1 - manifest.recover_from.get(t, 0) for t, last in manifest.folded_to.items())

    def events_of(
        self, published: Published, each: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[str, int, RegistryEvent]]:
        """All events that a version is made of, those of other namespaces in its partition among them."""
        yield from events_of(self._reader, self._codecs, published.manifest, each=each)

    def events(self, after: dict[str, int], upto: dict[str, int]) -> Iterator[LoggedEvent]:
        """The namespace's events behind one version up to another, topic by topic."""
        for topic, last in upto.items():
            if topic == CONTROL_EVENTS:
                continue
            for message in read_range(self._reader, topic, after.get(topic, -1) + 1, last + 1):
                if message.key() != self.namespace.encode():
                    continue
                try:
                    event = self._codecs.registry_event.decode(message.value())
                except UndecodableRecordError:
                    continue
                yield LoggedEvent(topic, message.offset() or 0, message.timestamp()[1], event)

    def events_before(
        self, position: dict[str, int], wanted: Callable[[RegistryEvent], bool], limit: int
    ) -> list[LoggedEvent]:
        """The last events up to a position that are wanted, oldest first: looked for backwards in each topic."""
        found: list[LoggedEvent] = []
        for topic, last in position.items():
            if topic == CONTROL_EVENTS:
                continue
            earliest, _ = self._reader.bounds(topic)
            of_topic: list[LoggedEvent] = []
            step, end = 1000, last + 1
            while end > earliest and len(of_topic) < limit:
                first = max(earliest, end - step)
                piece = self.events({topic: first - 1}, {topic: end - 1})
                of_topic = [one for one in piece if wanted(one.event)] + of_topic
                end, step = first, step * 4
            found += of_topic[-limit:]
        return sorted(found, key=lambda one: one.event.observed_at)[-limit:]

    def control_events(self, first: int, end: int) -> Iterator[tuple[int, ControlEvent]]:
        """The namespace's decisions in a range of the control topic."""
        for message in self._reader.read(CONTROL_EVENTS, first, end):
            if message.key() == self.namespace.encode():
                try:
                    event = self._codecs.control_event.decode(message.value())
                except UndecodableRecordError:
                    continue  # it is no decision
                yield message.offset() or 0, event

    def raw(self, topic: str, first: int, end: int) -> Iterator[Message]:
        """Records as they are; raises NotRebuiltError when the log begins later."""
        return read_range(self._reader, topic, first, end)

    def _rebuild(self, published: Published, each: Callable[[int], None]) -> Rebuilt:
        manifest = published.manifest
        source: Published | None = published
        if stands(manifest.decisions):
            # It stood at a former content, whose equal digest says that it is the same.
            source = self.before(
                published.offset,
                lambda one: not stands(one.manifest.decisions) and one.manifest.digest == manifest.digest,
            )
        if source is None:
            reason = "it stands by a decision, and the version that it stands at is no longer in the history"
            return Rebuilt(published, Verdict.UNVERIFIABLE, reason)
        read = 0

        def count(events: int) -> None:
            nonlocal read
            read += events
            each(events)

        try:
            digest, records = rebuild(
                self._reader, self._codecs, self._conversion, self._guard, source.manifest, each=count
            )
        except NotRebuiltError as error:
            return Rebuilt(published, Verdict.UNVERIFIABLE, str(error))
        standing = [name for name, version in manifest.withheld.items() if version]
        if standing or (manifest.oversized and digest != manifest.digest):
            kept = ", ".join(standing or manifest.oversized)
            reason = f"it kept former content of resources that could not be made or were too large: {kept}"
            return Rebuilt(published, Verdict.UNVERIFIABLE, reason, records, read)
        if digest == manifest.digest:
            return Rebuilt(published, Verdict.VERIFIED, "", records, read)
        if revision_of(source.manifest.converter, self._conversion, self._guard) is None:
            made_by = converter_name(self._conversion, self._guard)
            reason = f"made by converter {source.manifest.converter}; this one, with its settings, is {made_by}"
            return Rebuilt(published, Verdict.UNVERIFIABLE, reason, records, read)
        return Rebuilt(published, Verdict.MISMATCH, f"the log gives {digest}", records, read)
