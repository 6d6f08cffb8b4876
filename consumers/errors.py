"""What can go wrong for a reader of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ConsumerError(Exception):
    """The text says what is wrong and what to do."""


class StoppedError(ConsumerError):
    """The process is to stop; what it was doing is left undone."""


class LogChangedError(ConsumerError):
    """Topics are not those that were read before; the text says how they differ."""

    def __init__(self, topics: Iterable[str], how: str) -> None:
        self.topics = frozenset(topics)
        super().__init__(f"{', '.join(sorted(self.topics))}: {how}")


class RecordRefusedError(ConsumerError):
    """Kafka refuses one record of a transaction for good; nothing of the transaction was written."""

    def __init__(self, topic: str, key: bytes, reason: str) -> None:
        super().__init__(f"{topic} refuses a record: {reason}")
        self.topic = topic
        self.key = key
        self.reason = reason


class NotRebuiltError(ConsumerError):
    """A former version could not be rebuilt; the text says why."""


class NotCarriedOutError(ConsumerError):
    """A fault of ours kept an operator's decision from being carried out; the text names it."""


class BadBundleError(ConsumerError):
    """An exported piece of the log is not whole, or not what was exported; the text says what is wrong."""
