"""Reads `shiplog.deliveries`, all partitions, by time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from consumers.audit.trails import Trail, follow
from runtime.kafka_clients import make_admin, partitions_of
from runtime.kafka_reader import PartitionReader
from schemas.errors import UndecodableRecordError
from schemas.topics import DELIVERIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runtime.settings import KafkaSettings
    from schemas.avro_codec import Codecs
    from schemas.records import Delivery

_FIRST_STEP_MS = 3_600_000
_LATE_MS = 60_000
"""So long a gateway may have kept a record before Kafka had it."""


class DeliveryLog:
    """Use it as a context; needs only read permission. Raises KafkaException where Kafka can't be read."""

    def __init__(self, kafka: KafkaSettings, codecs: Codecs) -> None:
        self._codecs = codecs
        numbers = partitions_of(make_admin(kafka, "shiplog-audit"), kafka, DELIVERIES)
        self._readers = [PartitionReader(kafka, "shiplog-audit", number) for number in numbers]
        self._known: Trail | None = None
        self._known_to_ms = 0
        self._earliest: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.__exit__()

    def between(self, from_ms: int, to_ms: int) -> Iterator[Delivery]:
        """The deliveries that were written from one moment to another, partition by partition."""
        # Asking for an offset takes as long as reading a thousand records, and often the answer is known.
        from_start = self._earliest is not None and from_ms <= self._earliest
        to_present = to_ms > time.time() * 1000
        for reader in self._readers:
            first = 0 if from_start else reader.offset_at(DELIVERIES, from_ms)
            end = None if to_present else reader.offset_at(DELIVERIES, to_ms)
            for message in reader.read(DELIVERIES, first, end):
                try:
                    yield self._codecs.delivery.decode(message.value())
                except UndecodableRecordError:
                    continue

    def before(self, time_ms: int, is_enough: Callable[[Trail], bool]) -> Trail:
        """The trail up to a moment, far enough back for what is asked; the whole of it if it never is.

        It may go on behind the moment. What was read for the former question is used again where it is enough.
        """
        if self._known is not None and time_ms <= self._known_to_ms and is_enough(self._known):
            return self._known
        end, step = time_ms + _LATE_MS, _FIRST_STEP_MS
        self._known_to_ms = min(time_ms, int(time.time() * 1000) - _LATE_MS)
        earliest = self._earliest_ms()
        found: list[Delivery] = []
        first = end
        while True:
            piece = first
            first = max(piece - step, earliest)
            found += self.between(first, piece)
            self._known = follow(found)
            if first <= earliest or is_enough(self._known):
                return self._known
            step *= 6

    def _earliest_ms(self) -> int:
        """When the oldest delivery was written that was there at the first question: it takes a while to find."""
        if self._earliest is None:
            times = []
            for reader in self._readers:
                first, _ = reader.bounds(DELIVERIES)
                times += [message.timestamp()[1] for message in reader.read(DELIVERIES, first, first + 1)]
            self._earliest = min(times, default=None)
        return self._earliest or 0
