"""The partitions that this process holds, by epoch: the membership's thread writes it, the event loop reads it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Ownership:
    """Says whether an event may be written.

    A write happens with `lock` held, after `holds`. So when `lose` returns, nothing more is written under the
    epochs that were lost, however busy the event loop is, and without waiting for it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._epochs: dict[int, int] = {}

    def win(self, partition: int, epoch: int) -> None:
        """The partition is held under this epoch."""
        with self.lock:
            self._epochs[partition] = epoch

    def lose(self, partitions: Iterable[int]) -> None:
        """They are not held any more."""
        with self.lock:
            for partition in partitions:
                self._epochs.pop(partition, None)

    def holds(self, partition: int, epoch: int) -> bool:
        """Whether the partition is held under this epoch."""
        return self._epochs.get(partition) == epoch
