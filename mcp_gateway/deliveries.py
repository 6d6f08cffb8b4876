"""The audit trail, `shiplog.deliveries`: what was sent to whom, and what came of it. No stream waits for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from mcp_gateway import metrics
from schemas.records import Delivery, DeliveryKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.avro_codec import AvroCodec


_log = structlog.get_logger()

_QUEUED_WITHIN_S = 0.1
"""A delivery bears the time at which it was made, a little before it was queued."""

_RECORDED = {kind: metrics.DELIVERIES.labels(kind) for kind in DeliveryKind}


class Writer(Protocol):
    """See `KafkaBatchWriter`."""

    def write(self, key: bytes, value: bytes) -> bool:
        """Queues a record; False when the queue is full."""


@dataclass(slots=True)
class Recipient:
    """A stream's peer: its address, who its certificate says that it is, what it calls itself, what it sees."""

    address: str
    protocol: str
    identity: str = ""
    node: str = ""
    view: str = ""
    stream: str = ""

    @property
    def pilot(self) -> str:
        """What the trail is kept under: what is proven, before what is said."""
        return self.identity or self.node or self.address


class DeliveryTrail:
    """Writes deliveries as long as the queue has room; what does not fit is counted, and written as a gap.

    Belongs to the event loop. Without a writer nothing is kept.
    """

    def __init__(self, writer: Writer | None, codec: AvroCodec[Delivery], *, gateway: str) -> None:
        self._writer = writer
        self._codec = codec
        self._gateway = gateway
        self._missing = 0
        self._lost = 0
        self._is_failing = False

    def sent(self, to: Recipient, collection: str, version: str, size: int, folded_to: Mapping[str, int]) -> None:
        """A push was handed to the stream: its collection's version, its bytes, and what of the log is in it."""
        self._note(to, DeliveryKind.SENT, collection, version, size=size, folded_to=folded_to)

    def acknowledged(self, by: Recipient, collection: str, version: str) -> None:
        """The peer has it."""
        self._note(by, DeliveryKind.ACK, collection, version)

    def refused(self, by: Recipient, collection: str, version: str, code: int, message: str) -> None:
        """The peer does not want it, and says why."""
        self._note(by, DeliveryKind.NACK, collection, version, code=code, message=message[:2000])

    def started(self) -> None:
        """Recording begins: whoever reads it knows that a former process may not have got everything written."""
        self._mark(DeliveryKind.STARTED, time.time())

    def lost(self, in_all: int) -> None:
        """So many that were queued never reached Kafka, since the start: they are written as a gap, too."""
        count, self._lost = in_all - self._lost, in_all
        self._missing += count
        metrics.DELIVERIES_MISSING.inc(count)

    def whole_until(self, time_s: float) -> None:
        """Everything that was queued until then is in Kafka, unless it had no room or was lost."""
        if not self._missing:
            self._mark(DeliveryKind.WHOLE, time_s - _QUEUED_WITHIN_S)

    def stopped(self) -> None:
        """Nothing follows, and everything before is in Kafka."""
        if not self._missing:
            self._mark(DeliveryKind.STOPPED, time.time())

    def _note(
        self,
        peer: Recipient,
        kind: DeliveryKind,
        collection: str,
        version: str,
        *,
        size: int = 0,
        folded_to: Mapping[str, int] | None = None,
        code: int = 0,
        message: str = "",
    ) -> None:
        if self._writer is None:
            return
        if self._missing and self._write(self._gap()):
            self._missing = 0
        delivery = Delivery(
            pilot=peer.pilot,
            address=peer.address,
            node=peer.node,
            gateway=self._gateway,
            view=peer.view,
            protocol=peer.protocol,
            collection=collection,
            version=version,
            kind=kind,
            bytes=size,
            code=code,
            message=message,
            at=time.time_ns() // 1000,
            folded_to=folded_to or {},
            stream=peer.stream,
        )
        if self._missing or not self._write(delivery):
            self._missing += 1
            metrics.DELIVERIES_MISSING.inc()
        else:
            _RECORDED[kind].inc()

    def _mark(self, kind: DeliveryKind, time_s: float) -> None:
        self._write(self._of_gateway(kind, int(time_s * 1e6)))

    def _gap(self) -> Delivery:
        message = f"{self._missing} deliveries are missing before this"
        return self._of_gateway(DeliveryKind.GAP, time.time_ns() // 1000, message)

    def _of_gateway(self, kind: DeliveryKind, at: int, message: str = "") -> Delivery:
        """A record of the trail itself, about no Pilot."""
        return Delivery(
            pilot="",
            address="",
            node="",
            gateway=self._gateway,
            view="",
            protocol="",
            collection="",
            version="",
            kind=kind,
            bytes=0,
            code=0,
            message=message,
            at=at,
        )

    def _write(self, delivery: Delivery) -> bool:
        """Whether it is queued. A fault costs the trail that record, which is missing, and the stream nothing."""
        if self._writer is None:
            return False
        try:
            is_queued = self._writer.write(delivery.pilot.encode(), self._codec.encode(delivery))
        except Exception:  # noqa: BLE001 - logged once
            if not self._is_failing:  # once, and not for each push
                _log.exception("delivery_not_recorded", pilot=delivery.pilot[:200], kind=delivery.kind)
            self._is_failing = True
            return False
        self._is_failing = False
        return is_queued
