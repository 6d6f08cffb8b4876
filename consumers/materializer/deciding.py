"""Operators' decisions as they arrive: queued for each partition, carried out in transactions of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from consumers import metrics
from consumers.errors import NotCarriedOutError
from consumers.materializer.decision_queue import CarryOut, DecisionQueue, Refuse
from consumers.materializer.faults import internal
from consumers.materializer.rebuilding import Rebuilding
from consumers.materializer.setting_aside import of_snapshot
from consumers.materializer.transaction import NamespaceUpdate
from schemas.records import Quarantined
from schemas.topics import CONTROL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from consumers.materializer.partition import MaterializedPartition
    from consumers.settings import ConversionSettings, GuardSettings
    from runtime.settings import KafkaSettings
    from runtime.supervision import Supervisor
    from schemas.avro_codec import Codecs
    from schemas.control import ControlEvent, Pin
    from schemas.events import Namespace
    from schemas.records import ResourceRecord

    Records = Mapping[tuple[str, str], ResourceRecord]
    Commit = Callable[[list[NamespaceUpdate], list[Quarantined]], None]

_log = structlog.get_logger()

_MOST_REBUILDS = 2
"""Each folds a partition's log anew, with all that this takes of memory, beside the fold that goes on."""


class Deciding:
    """The queues of a process's partitions. Belongs to the engine's thread; rebuilding has its own."""

    def __init__(
        self,
        kafka: KafkaSettings,
        codecs: Codecs,
        conversion: ConversionSettings,
        guard: GuardSettings,
        supervisor: Supervisor,
    ) -> None:
        self._kafka = kafka
        self._codecs = codecs
        self._conversion = conversion
        self._guard = guard
        self._supervisor = supervisor
        self._queues: dict[int, DecisionQueue] = {}
        self._rebuilds: list[Rebuilding] = []

    def begin(self, number: int) -> None:
        """The partition is ours; nothing waits."""
        self._queues[number] = DecisionQueue(self._rebuilder(number))

    def end(self, number: int) -> None:
        """The partition is no longer ours."""
        if (queue := self._queues.pop(number, None)) is not None:
            queue.abandon()

    def close(self) -> None:
        """No partition is ours any more."""
        for number in list(self._queues):
            self.end(number)

    def waiting(self) -> dict[int, list[dict[str, object]]]:
        """By partition, the decisions that are not carried out yet; for operators."""
        return {number: queue.describe() for number, queue in self._queues.items()}

    def take(self, number: int, offset: int, value: bytes | None) -> None:
        """A decision arrived.

        Raises:
            UndecodableRecordError: it is none.
        """
        self._queues[number].add(offset, self._codecs.control_event.decode(value))

    def first_waiting(self, number: int) -> int | None:
        """The offset of the partition's oldest that is not carried out."""
        return self._queues[number].first_waiting()

    def carry_out(self, partitions: Mapping[int, MaterializedPartition], commit: Commit) -> None:
        """Carries out the decisions whose time has come, each in a transaction of its own: it makes a version."""
        for number, queue in self._queues.items():
            partition = partitions[number]
            while (found := queue.take(partition.refusal)) is not None:
                match found:
                    case CarryOut(offset=offset, event=event, pinned=pinned):
                        outcome = self._carry_out(number, partition, offset, event, pinned, commit)
                    case Refuse(reason=""):
                        continue
                    case Refuse(offset=offset, event=event, reason=reason):
                        commit([], [self._refused(number, offset, event, "refused", reason)])
                        outcome = "refused"
                metrics.DECISIONS.labels(type(event.body).__name__, outcome).inc()
                _log.warning(
                    "operator's decision", outcome=outcome, kind=type(event.body).__name__,
                    namespace=event.namespace, author=event.author, reason=event.reason,
                )  # fmt: skip

    def _carry_out(
        self,
        number: int,
        partition: MaterializedPartition,
        offset: int,
        event: ControlEvent,
        pinned: Records | None,
        commit: Commit,
    ) -> str:
        """Commits what the decision changes; what became of it."""
        try:
            updates = [NamespaceUpdate(number, *update) for update in partition.decide(offset, event, pinned)]
        except NotCarriedOutError as error:
            fault = internal(f"{type(event.body).__name__} of {event.namespace}", error)
            _log.error("internal_fault", place=fault.place, error=fault.detail, trace=fault.trace)
            metrics.QUARANTINED.labels(fault.reason).inc()
            commit([], [self._refused(number, offset, event, fault.reason, str(fault))])
            return "refused"
        commit(updates, [of_snapshot(number, fault) for fault in partition.take_view_faults()])
        return "carried_out"

    def _refused(self, number: int, offset: int, event: ControlEvent, reason: str, detail: str) -> Quarantined:
        return Quarantined.cut(
            topic=CONTROL_EVENTS,
            partition=number,
            offset=offset,
            process="materializer",
            reason=reason,
            detail=detail,
            key=event.namespace.encode(),
            value=self._codecs.control_event.encode(event),
            at=time.time_ns() // 1000,
        )

    def _rebuilder(self, number: int) -> Callable[[Namespace, Pin], Rebuilding | None]:
        return lambda namespace, pin: self._rebuild(number, namespace, pin)

    def _rebuild(self, number: int, namespace: Namespace, pin: Pin) -> Rebuilding | None:
        """Begins to rebuild, unless as many are being rebuilt as may be."""
        self._rebuilds = [one for one in self._rebuilds if one.is_running]
        if len(self._rebuilds) >= _MOST_REBUILDS:
            return None
        begun = Rebuilding(
            self._kafka,
            self._codecs,
            self._conversion,
            self._guard,
            self._supervisor,
            partition=number,
            namespace=namespace,
            version=pin.version,
        )
        self._rebuilds.append(begun)
        return begun
