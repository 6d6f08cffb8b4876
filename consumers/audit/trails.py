"""Who had what, from the records of deliveries. Pure.

A Pilot has what it acknowledged, until it acknowledges something else: also while it is not connected. What was
sent and not answered may have been applied or not: it is named apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from schemas.records import Delivery, DeliveryKind

if TYPE_CHECKING:
    from collections.abc import Iterable


HORIZON_US = 600_000_000
"""A gateway of which nothing is recorded for so long is taken to have sent nothing more."""


@dataclass(slots=True)
class Sending:
    """A push of a collection to a Pilot, and what came of it; times in microseconds (UTC)."""

    sent: Delivery
    acknowledged_at: int | None = None
    refused: Delivery | None = None

    @property
    def pilot(self) -> str:
        """Whom it was sent to."""
        return self.sent.pilot


class Loss(NamedTuple):
    """A time in which a gateway may have sent what is not recorded, microseconds (UTC), and why."""

    gateway: str
    from_us: int
    to_us: int
    why: str


@dataclass(slots=True)
class Trail:
    """All pushes in the order in which they were sent, and where the record may not be whole."""

    sendings: list[Sending]
    losses: list[Loss]
    last_on: dict[tuple[str, str], int] = field(default_factory=dict)
    """When each gateway's streams were last heard of."""

    def had(self, pilot: str, collection: str, at: int) -> Sending | None:
        """What the Pilot had acknowledged last by then."""
        found = None
        for sending in self.sendings:
            if not is_of(sending.sent, pilot) or sending.sent.collection != collection:
                continue
            acknowledged = sending.acknowledged_at
            if (
                acknowledged is not None
                and acknowledged <= at
                and (found is None or acknowledged >= (found.acknowledged_at or 0))
            ):
                found = sending
        return found

    def unanswered(self, pilot: str, collection: str, at: int) -> list[Sending]:
        """What was on its way to the Pilot at that moment."""
        return [
            one
            for one in self.sendings
            if is_of(one.sent, pilot)
            and one.sent.collection == collection
            and one.sent.at <= at
            and (one.acknowledged_at or at + 1) > at
            and (one.refused is None or one.refused.at > at)
        ]

    def pilots(self) -> list[str]:
        """All that were sent anything."""
        return sorted({one.pilot for one in self.sendings})

    def loss_after(self, sending: Sending, until_us: int) -> Loss | None:
        """A loss that may hide what the Pilot was sent between its acknowledgement and a moment.

        Whoever answers on the same stream later was on it all the time: then only that gateway's record matters.
        """
        sent, from_us = sending.sent, sending.acknowledged_at or sending.sent.at
        stayed = bool(sent.stream) and self.last_on.get((sent.gateway, sent.stream), 0) >= until_us
        return next(
            (
                one
                for one in self.losses
                if one.from_us < until_us and one.to_us > from_us and (not stayed or one.gateway == sent.gateway)
            ),
            None,
        )


def follow(deliveries: Iterable[Delivery]) -> Trail:
    """The trail that deliveries make, in whatever order they were read."""
    # A push and its answer may bear the same time: the push comes first.
    ordered = sorted(deliveries, key=lambda one: (one.at, one.kind is not DeliveryKind.SENT))
    trail = Trail([], _losses(ordered))
    waiting: dict[tuple[str, str, str, str], Sending] = {}
    for one in ordered:
        key = (one.gateway, one.stream or one.address, one.collection, one.version)
        if one.stream:
            trail.last_on[one.gateway, one.stream] = one.at
        match one.kind:
            case DeliveryKind.SENT:
                waiting[key] = Sending(one)
                trail.sendings.append(waiting[key])
            case DeliveryKind.ACK if key in waiting:
                waiting.pop(key).acknowledged_at = one.at
            case DeliveryKind.NACK if key in waiting:
                waiting.pop(key).refused = one
            case _:
                pass  # its push is before what was read, or in a gap; or it is about no Pilot
    return trail


def _losses(ordered: list[Delivery]) -> list[Loss]:
    """Between the last record before a gap, or before a gateway's start, and that; and behind its last one."""
    found = []
    last: dict[str, Delivery] = {}
    for one in ordered:
        former = last.get(one.gateway)
        from_us = one.at - HORIZON_US if former is None else former.at
        if one.kind is DeliveryKind.GAP:
            found.append(Loss(one.gateway, from_us, one.at, one.message))
        elif one.kind is DeliveryKind.STARTED and former is not None and former.kind is not DeliveryKind.STOPPED:
            found.append(Loss(one.gateway, from_us, one.at, "it ended without having written everything"))
        last[one.gateway] = one
    for gateway, one in last.items():
        if one.kind is not DeliveryKind.STOPPED:
            found.append(Loss(gateway, one.at, one.at + HORIZON_US, "nothing later of it is recorded"))
    return found


def is_of(delivery: Delivery, pilot: str) -> bool:
    """Whether a delivery was to a Pilot: by its identity, its own name, or its address."""
    return pilot in {delivery.pilot, delivery.node, delivery.address, delivery.address.rpartition(":")[0]}
