"""Which partitions this listener holds: Kafka group membership on the events topic, and nothing else.

Nothing is consumed. Each tenure gets an epoch, kept in the metadata of the group's committed offsets: Kafka
refuses the commit of a member that was thrown out, so of two listeners only one can open an epoch.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from schemas.topics import REGISTRY_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.settings import KafkaSettings

_log = structlog.get_logger()


class TenureKeeper:
    """A thread that keeps the group membership.

    On that thread: `on_won(partition, epoch)` when a partition is ours, `on_lost(partitions)` when they are
    no longer; the latter must not return before writing under the old sessions has stopped.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        group: str,
        client_id: str,
        on_won: Callable[[int, int], None],
        on_lost: Callable[[list[int]], None],
    ) -> None:
        self._on_won = on_won
        self._on_lost = on_lost
        self._unclaimed: set[int] = set()
        self._stop = threading.Event()
        self._consumer = Consumer(
            kafka.client_config(client_id)
            | {
                "group.id": group,
                "group.instance.id": client_id,
                "enable.auto.commit": False,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 6000,  # failover within 10 s
                "heartbeat.interval.ms": 500,  # the others rejoin that soon
            }
        )
        self._thread = threading.Thread(target=self._run, name="tenure", daemon=True)

    def start(self) -> None:
        """Joins the group."""
        self._thread.start()

    def stop(self) -> None:
        """Leaves the group: another listener takes over at once."""
        self._stop.set()
        self._thread.join(timeout=15)

    def _run(self) -> None:
        self._consumer.subscribe(
            [REGISTRY_EVENTS], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        while not self._stop.is_set():
            message = self._consumer.poll(0.2)
            if message is not None and (error := message.error()) is not None:
                _log.warning("listener group", error=error.str())
            if self._unclaimed:
                self._claim()
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            partition.offset = OFFSET_END
        consumer.incremental_assign(partitions)
        if partitions:
            consumer.pause(partitions)
        self._unclaimed |= {partition.partition for partition in partitions}

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        self._unclaimed -= set(numbers)
        self._on_lost(numbers)

    def _claim(self) -> None:
        """Opens an epoch for each partition that was assigned; on a fault it is tried again."""
        wanted = [TopicPartition(REGISTRY_EVENTS, number) for number in sorted(self._unclaimed)]
        try:
            former = {tp.partition: _epoch_of(tp) for tp in self._consumer.committed(wanted, timeout=5)}
            # The clock keeps epochs rising should the group's offsets have expired.
            now_ms = int(time.time() * 1000)
            epochs = {number: max(former.get(number, 0) + 1, now_ms) for number in sorted(self._unclaimed)}
            claims = [
                TopicPartition(REGISTRY_EVENTS, number, 0, metadata=str(epoch)) for number, epoch in epochs.items()
            ]
            for claim in self._consumer.commit(offsets=claims, asynchronous=False) or ():
                if claim.error is not None:
                    raise KafkaException(claim.error)
        except KafkaException as error:
            _log.warning("cannot claim partitions yet", error=error.args[0].str())
            return
        self._unclaimed.clear()
        for number, epoch in epochs.items():
            self._on_won(number, epoch)


def _epoch_of(committed: TopicPartition) -> int:
    metadata = committed.metadata or ""
    return int(metadata) if metadata.isdigit() else 0
