"""Rebuilds a former version of a namespace from the log, on a thread of its own, for a pin."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException

from consumers.errors import NotRebuiltError
from consumers.materializer.conversion import revision_of
from consumers.materializer.decisions import pin_of, stands
from consumers.materializer.past import read_range, rebuild
from runtime.kafka_reader import PartitionReader
from schemas.errors import UndecodableRecordError
from schemas.topics import CONTROL_EVENTS, SNAPSHOT_HISTORY

if TYPE_CHECKING:
    from consumers.settings import ConversionSettings, GuardSettings
    from runtime.settings import KafkaSettings
    from runtime.supervision import Supervisor
    from schemas.avro_codec import Codecs
    from schemas.events import Namespace
    from schemas.records import Manifest, ResourceRecord

    Records = dict[tuple[str, str], ResourceRecord]

_log = structlog.get_logger()


class Rebuilding:
    """One version being rebuilt; `result` is None until it is done, then the records or why there are none.

    Reads without a group and commits nothing. Ends early when it is abandoned.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        codecs: Codecs,
        conversion: ConversionSettings,
        guard: GuardSettings,
        supervisor: Supervisor,
        *,
        partition: int,
        namespace: Namespace,
        version: dict[str, int],
    ) -> None:
        self._kafka = kafka
        self._codecs = codecs
        self._conversion = conversion
        self._guard = guard
        self._partition = partition
        self._namespace = namespace
        self._version = version
        self.result: Records | NotRebuiltError | None = None
        self._abandoned = threading.Event()
        self._thread = supervisor.thread("rebuild", self._run)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it takes memory and time; an abandoned one does so for a moment longer."""
        return self._thread.is_alive()

    def abandon(self) -> None:
        """It is no longer wanted."""
        self._abandoned.set()

    def _run(self) -> None:
        """Ends with a result, whatever happens: a decision that waited for one for ever would say nothing."""
        self._thread.end()
        try:
            self.result = self._rebuild()
        except NotRebuiltError as error:
            self.result = error
        except KafkaException as error:
            self.result = NotRebuiltError(f"Kafka failed: {error.args[0].str()}")
        except BaseException as error:
            self.result = NotRebuiltError(f"{type(error).__name__}: {error}")
            if not isinstance(error, Exception):
                raise  # told by the supervisor, which ends the process
            _log.exception("rebuild_failed", namespace=self._namespace)

    def _rebuild(self) -> Records:
        with PartitionReader(self._kafka, "shiplog-materializer-rebuild", self._partition) as reader:
            manifest = self._find(reader, self._version)
            digest, records = rebuild(
                reader, self._codecs, self._conversion, self._guard, manifest, each=self._go_on
            )
        if standing := [name for name, version in manifest.withheld.items() if version]:
            raise NotRebuiltError(f"it kept former content, which it does not tell of: {', '.join(standing[:5])}")
        if digest != manifest.digest:
            raise NotRebuiltError(f"the log gives {digest} for it, and {manifest.digest} was recorded")
        return records

    def _go_on(self, _: int) -> None:
        if self._abandoned.is_set():
            raise NotRebuiltError("abandoned: another decision came")

    def _find(self, reader: PartitionReader, version: dict[str, int]) -> Manifest:
        """The manifest of that version, or the one whose content it kept when the namespace stood."""
        events = {topic: offset for topic, offset in version.items() if topic != CONTROL_EVENTS}
        same_content: Manifest | None = None
        earliest, end = reader.bounds(SNAPSHOT_HISTORY)
        first = max(earliest, self._history_offset(reader, events))
        for message in read_range(reader, SNAPSHOT_HISTORY, first, end):
            self._go_on(0)
            if message.key() != self._namespace.encode():
                continue
            try:
                manifest = self._codecs.manifest.decode(message.value())
            except UndecodableRecordError:
                continue  # it is no manifest
            if not stands(manifest.decisions) and events.items() <= manifest.version.items():
                same_content = manifest
            if manifest.version != version:
                continue
            if (pin := pin_of(manifest.decisions)) is not None:
                return self._find(reader, pin.version)
            found = manifest if not stands(manifest.decisions) else same_content
            if found is None or found.digest != manifest.digest:
                raise NotRebuiltError("the version that it stood at is no longer in the history")
            if revision_of(found.converter, self._conversion, self._guard) is None:
                raise NotRebuiltError(
                    f"it was made with other settings or by another converter: {found.converter}"
                )
            return found
        raise NotRebuiltError("it is not in the history")

    def _history_offset(self, reader: PartitionReader, version: dict[str, int]) -> int:
        """Where in the history a version can stand at the earliest: when its own events were written."""
        times = []
        for topic, offset in version.items():
            first, end = reader.bounds(topic)
            if first <= offset < end:
                times += [message.timestamp()[1] for message in read_range(reader, topic, offset, offset + 1)]
        if not times:
            raise NotRebuiltError("its events are no longer in the log")
        return reader.offset_at(SNAPSHOT_HISTORY, max(times) - 1000)
