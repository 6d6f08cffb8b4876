"""Lays keyframes: everything that is known of a namespace, a part at a time, and what readers keep of the rest."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from producers import metrics
from producers.listener.event_log import QueueFullError
from producers.listener.watched import now_us
from schemas.events import SyncCompleted, SyncStarted

if TYPE_CHECKING:
    from producers.listener.event_log import EventLog
    from producers.listener.keyframes import Keyframe, Keyframes
    from producers.listener.namespace_view import Kept, NamespaceView
    from producers.listener.session import Session
    from producers.listener.statements import Statements
    from schemas.events import Namespace

_CHUNK = 200
"""Services stated before other namespaces and pushes get their turn."""


class Laying:
    """Writes the keyframe whose turn it is; raises as `Statements.write`, and goes on where it stopped."""

    def __init__(self, log: EventLog, statements: Statements, *, datacenter: str) -> None:
        self._log = log
        self._statements = statements
        self._datacenter = datacenter

    async def lay(self, session: Session, view: NamespaceView, keyframes: Keyframes) -> Namespace | None:
        """States the next part of a keyframe; the last one completes it. The namespace whose turn is then next."""
        frame = keyframes.take_turn(view.namespace)
        if frame.first is None:
            first = session.sequence
            self._log.write(session, view.namespace, SyncStarted(reason=frame.reason), now_us())
            frame.first = first
        for _ in range(_CHUNK):
            key = next(frame.remaining, None)
            if key is None:
                return self._complete(session, view, keyframes, frame)
            statement = view.statement(key, now_us())
            if statement is None:
                continue
            try:
                await self._statements.write(session, view, keyframes, statement)
            except QueueFullError:
                frame.remaining = chain((key,), frame.remaining)
                raise
            if keyframes.of(view.namespace) is not frame:
                return None  # it was begun anew while a part waited for Kafka
        return None

    def _complete(
        self, session: Session, view: NamespaceView, keyframes: Keyframes, frame: Keyframe
    ) -> Namespace | None:
        kept, last = view.keep(), session.sequence
        completed = SyncCompleted(
            services=frame.services,
            config_items=frame.config_items,
            kept_services=kept.services,
            keeps_all_services=kept.all_services,
            kept_items=kept.items,
            kept_item_groups=kept.item_groups,
        )
        if not self._log.write(session, view.namespace, completed, now_us()):
            # Too many to name: nothing is taken away.
            keeps_all = replace(
                completed, kept_services=(), keeps_all_services=True, kept_items=(), kept_item_groups=("*",)
            )
            self._log.write(session, view.namespace, keeps_all, now_us())
        metrics.KEYFRAMES.labels(self._datacenter, frame.reason).inc()
        return keyframes.complete(view.namespace, last, kept)


def knows_more(kept: Kept, view: NamespaceView) -> bool:
    """Whether services or config items that a keyframe kept as a whole can be stated now."""
    return (kept.all_services and not view.services_short) or any(
        group not in view.unknown_item_groups for group in kept.item_groups
    )
