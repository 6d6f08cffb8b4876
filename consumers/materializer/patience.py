"""Waits for Kafka on the engine's thread, in small steps: the process says that it waits, and can be stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException

from consumers.errors import StoppedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")

_PASSING = frozenset(
    {
        KafkaError._TIMED_OUT,  # noqa: SLF001 - confluent-kafka's names, here and below
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
    }
)
"""What passes by itself; librdkafka says so of some operations only."""

_log = structlog.get_logger()

_PAUSE_S = 0.05
_NOTABLE_S = 3.0
"""Kafka answers within milliseconds; so long a wait is told to operators."""


@dataclass(slots=True)
class Patience:
    """Repeats operations that Kafka can't do now. Belongs to the engine's thread.

    `turned` is called at each step; `waiting_for` with what is waited for and why once that takes long, and with
    an empty text when it is over.
    """

    stop: threading.Event
    turned: Callable[[], None]
    waiting_for: Callable[[str], None]

    def turn(self) -> None:
        """One more step of something that takes long.

        Raises:
            StoppedError: the process is to stop.
        """
        self.turned()
        if self.stop.is_set():
            raise StoppedError

    def until_done(self, what: str, operation: Callable[[], T], limit_s: float) -> T:
        """The operation's answer. It is called again while it fails in a way that Kafka calls passing.

        It should itself wait for no more than a second or two.

        Raises:
            KafkaException: it failed for good, or for longer than `limit_s`.
            StoppedError: the process is to stop.
        """
        began = time.monotonic()
        told = False
        try:
            while True:
                self.turn()
                try:
                    return operation()
                except KafkaException as error:
                    fault = error.args[0]
                    waited_s = time.monotonic() - began
                    if not is_passing(fault) or waited_s > limit_s:
                        raise
                if waited_s > _NOTABLE_S and not told:
                    told = True
                    _log.warning("waiting_for_kafka", operation=what, error=fault.str(), code=fault.name())
                    self.waiting_for(f"{what} waits for Kafka: {fault.str()}")
                time.sleep(_PAUSE_S)
        finally:
            if told:
                self.waiting_for("")


def is_passing(fault: KafkaError) -> bool:
    """Whether an operation that failed so may succeed when it is repeated."""
    if fault.fatal() or fault.txn_requires_abort():
        return False
    return fault.retriable() or fault.code() in _PASSING
