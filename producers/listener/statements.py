"""Writes what differs of a service or config item, whatever its size, and keeps view and keyframe in step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from producers.listener.event_log import QueueFullError
from producers.listener.parts import in_parts
from schemas.events import ConfigKey, ServiceState

if TYPE_CHECKING:
    from producers.listener.event_log import EventLog
    from producers.listener.keyframes import Keyframes
    from producers.listener.namespace_view import Difference, NamespaceView
    from producers.listener.quarantine import Quarantine
    from producers.listener.session import Session

_log = structlog.get_logger()

_FULL_QUEUE_PAUSE_S = 0.05


class Statements:
    """A state or delta that is too large for a record is written as a state in parts.

    What can't be written at all is set aside: keyframes name it as kept, so that readers keep what they have.
    """

    def __init__(self, log: EventLog, quarantine: Quarantine) -> None:
        self._events = log
        self._quarantine = quarantine

    async def write(
        self, session: Session, view: NamespaceView, keyframes: Keyframes, difference: Difference
    ) -> None:
        """Writes the event.

        Raises:
            QueueFullError: not now; nothing was written.
            GaveUpError: the partition is not held any more.
        """
        try:
            if self._events.write(session, view.namespace, difference.body, difference.at):
                view.publish(difference)
                if (frame := keyframes.of(view.namespace)) is not None:
                    frame.count(difference.body)
            elif not await self._write_in_parts(session, view, keyframes, difference):
                self._set_aside(view, difference, "too_large", "more than a record of the log may hold")
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            _log.exception("event_not_encoded", namespace=view.namespace, key=difference.key)
            self._set_aside(view, difference, "internal_fault", f"{type(error).__name__}: {error}")

    async def _write_in_parts(
        self, session: Session, view: NamespaceView, keyframes: Keyframes, difference: Difference
    ) -> bool:
        """States a service as it is now; whether that was possible. Waits for Kafka between two parts."""
        if isinstance(difference.key, ConfigKey):
            return False
        statement = view.statement(difference.key, difference.at)
        if statement is None or not isinstance(statement.body, ServiceState):
            return False
        for number, part in enumerate(in_parts(statement.body, self._events.part_bytes)):
            while True:
                try:
                    is_written = self._events.write(session, view.namespace, part, statement.at)
                except QueueFullError:
                    if number == 0:
                        raise
                    await asyncio.sleep(_FULL_QUEUE_PAUSE_S)
                else:
                    break
            if not is_written:
                return False
        view.publish(statement)
        if (frame := keyframes.of(view.namespace)) is not None:
            frame.count(part)
        return True

    def _set_aside(self, view: NamespaceView, difference: Difference, reason: str, detail: str) -> None:
        view.give_up_writing(difference.key, reason)
        self._quarantine.set_aside(
            view.namespace,
            difference.key,
            reason=reason,
            detail=f"{difference.key}: {detail}",
            value=type(difference.body).__name__,
        )
