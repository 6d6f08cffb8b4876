"""Sets faults aside: a metric, a line in the log, a record of the quarantine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from consumers import metrics
from consumers.materializer.faults import Reason
from runtime.kafka_reader import set_aside
from schemas.records import Quarantined
from schemas.topics import SNAPSHOTS

if TYPE_CHECKING:
    from confluent_kafka import Message

    from consumers.materializer.faults import Fault

_log = structlog.get_logger()


def of_record(message: Message, fault: Fault) -> Quarantined:
    """The quarantine's record of a fault that a record of Kafka led to, whole or in a part of it."""
    _tell(fault, topic=message.topic(), partition=message.partition(), offset=message.offset())
    return set_aside(message, reason=fault.reason, detail=str(fault), process="materializer")


def of_snapshot(partition: int, fault: Fault) -> Quarantined:
    """The quarantine's record of something that could not be published; its key is the place, its value empty."""
    _tell(fault, topic=SNAPSHOTS, partition=partition)
    return Quarantined.cut(
        topic=SNAPSHOTS,
        partition=partition,
        offset=-1,
        process="materializer",
        reason=fault.reason,
        detail=str(fault),
        key=fault.place.encode(),
        value=b"",
        at=time.time_ns() // 1000,
    )


def _tell(fault: Fault, **where: str | int | None) -> None:
    metrics.QUARANTINED.labels(fault.reason).inc()
    if fault.reason == Reason.INTERNAL_FAULT:
        _log.error("internal_fault", place=fault.place, error=fault.detail, trace=fault.trace, **where)
    else:
        _log.warning("record_quarantined", reason=fault.reason, detail=str(fault), **where)
