"""Why engines ended, when the next one begins, and what an operator can do. The pauses are random in part."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from confluent_kafka import KafkaError

from consumers.materializer.refusals import refusal_of
from runtime.backoff import Backoff

_MOST_FAULTS = 5
"""So many faults of ours in a row end the process: what mends them then is another one, or its operator."""
_SOUND_S = 600.0
"""An engine that lived for so long did not end because of how it began."""
_FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})  # noqa: SLF001
_NAME_TAKEN = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()


class Cause(StrEnum):
    """What ended an engine."""

    KAFKA = "kafka"
    REFUSED = "refused"
    FENCED = "fenced"
    NAME_TAKEN = "name_taken"
    LOG_CHANGED = "log_changed"
    SCHEMA_REGISTRY = "schema_registry"
    INTERNAL_FAULT = "internal_fault"


class Ending(NamedTuple):
    """The end of an engine; `text` is for a person, with the remedy if there is one. `at` is in seconds (UTC)."""

    cause: Cause
    text: str
    at: float


@dataclass(slots=True)
class Starts:
    """The engines of a process, one after the other; times in seconds. Read by the admin pages' thread."""

    engines: int = 0
    last: Ending | None = None
    pause_s: float = 0.0
    _began: float = 0.0
    _faults: int = 0
    _backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.5, max_s=30.0))

    @property
    def is_hopeless(self) -> bool:
        """Whether this process has a fault that another engine does not mend."""
        return self._faults >= _MOST_FAULTS

    def begin(self, now: float) -> None:
        """An engine begins, on a monotonic clock."""
        self.engines += 1
        self._began = now

    def ended(self, ending: Ending, now: float) -> Ending:
        """It ended before it was to; `pause_s` says when the next one begins."""
        lasted_s = now - self._began
        if lasted_s >= _SOUND_S:
            self._faults = 0
        self._faults += ending.cause is Cause.INTERNAL_FAULT
        self.pause_s = self._backoff.pause_s(lasted_s)
        self.last = ending
        return ending

    def describe(self) -> dict[str, object]:
        """The engines as an operator sees them."""
        last = self.last
        return {
            "engines": self.engines,
            "last_ended": last
            and {
                "at": datetime.fromtimestamp(last.at, UTC).isoformat(),
                "cause": last.cause,
                "text": last.text,
            },
        }


def kafka_ending(fault: KafkaError, name: str, at: float) -> Ending:
    """What an error of Kafka's client means; `name` is the process's in its group."""
    text = f"{fault.str()} ({fault.name()})"
    if fault.code() == KafkaError.FENCED_INSTANCE_ID or _NAME_TAKEN in fault.str():
        remedy = f"another process runs as {name}: give each its own materializer.instance"
        return Ending(Cause.NAME_TAKEN, f"{text}; {remedy}", at)
    if (refusal := refusal_of(fault)) is not None:
        return Ending(Cause.REFUSED, f"{text}; {refusal}", at)
    if fault.code() in _FENCED:
        remedy = (
            f"another process runs as {name}, or a transaction took longer than materializer.transaction_timeout_s"
        )
        return Ending(Cause.FENCED, f"{text}; {remedy}", at)
    return Ending(Cause.KAFKA, text, at)
