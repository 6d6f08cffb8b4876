"""Which partitions this listener holds: Kafka group membership on the events topic, and nothing else.

Nothing is consumed. Each tenure gets an epoch, kept in the metadata of the group's committed offsets: Kafka
refuses the commit of a member that was thrown out, so of two listeners only one can open an epoch.
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from runtime.kafka_clients import make_consumer
from runtime.kafka_reader import close_consumer
from schemas.topics import REGISTRY_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer

    from runtime.settings import KafkaSettings
    from runtime.supervision import Supervisor

_log = structlog.get_logger()

_REJOIN_PAUSE_S = 0.5
_EPOCH = re.compile("[0-9]{1,18}")  # anybody may commit anything
# Of these the first is how a poll tells of a fault that ended the consumer.
_MEMBERSHIP_LOST = frozenset(
    {KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID, KafkaError.UNKNOWN_MEMBER_ID}  # noqa: SLF001
)


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
        supervisor: Supervisor,
        on_won: Callable[[int, int], None],
        on_lost: Callable[[list[int]], None],
    ) -> None:
        self._on_won = on_won
        self._on_lost = on_lost
        self._unclaimed: set[int] = set()
        self._owned: set[int] = set()
        self._closing = False
        self._stop = threading.Event()
        self._kafka = kafka
        self._client_id = client_id
        self._group = group
        self._consumer = self._new_consumer()
        self._thread = supervisor.thread("tenure", self._run)

    def start(self) -> None:
        """Joins the group."""
        self._thread.start()

    def stop(self) -> None:
        """Leaves the group: another listener takes over at once."""
        self._thread.end()
        self._stop.set()
        self._thread.join(timeout=15)

    def _run(self) -> None:
        while True:
            try:
                self._keep_membership()
            except KafkaException as error:
                # A broker that stood still may take our second request to join for another member's of our name.
                _log.warning("listener group: joining anew", error=error.args[0].str())
            self._closing = True
            close_consumer(self._consumer, leave=False)
            self._give_up(self._owned)
            if self._stop.wait(_REJOIN_PAUSE_S):
                return
            self._closing = False
            self._consumer = self._new_consumer()

    def _new_consumer(self) -> Consumer:
        own = {
            "group.id": self._group,
            "group.instance.id": self._client_id,
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 6000,  # failover within 10 s
            "heartbeat.interval.ms": 500,  # the others rejoin that soon
        }
        return make_consumer(self._kafka, self._client_id, own)

    def _keep_membership(self) -> None:
        """Until stopped; raises KafkaException when this consumer can't be a member any more."""
        self._consumer.subscribe(
            [REGISTRY_EVENTS], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        while not self._stop.is_set():
            message = self._consumer.poll(0.2)
            if message is not None and (error := message.error()) is not None:
                if error.fatal() or error.code() in _MEMBERSHIP_LOST:
                    raise KafkaException(error)
                _log.warning("listener group", error=error.str())
            if self._unclaimed:
                self._claim()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closing:
            return
        for partition in partitions:
            partition.offset = OFFSET_END
        consumer.incremental_assign(partitions)
        if partitions:
            consumer.pause(partitions)
        self._unclaimed |= {partition.partition for partition in partitions}

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:  # not one that was left behind
            self._give_up({partition.partition for partition in partitions})

    def _give_up(self, numbers: set[int]) -> None:
        self._unclaimed -= numbers
        lost = sorted(self._owned & numbers)
        self._owned -= numbers
        if lost:
            self._on_lost(lost)

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
            self._owned.add(number)
            self._on_won(number, epoch)


def _epoch_of(committed: TopicPartition) -> int:
    metadata = committed.metadata or ""
    return int(metadata) if _EPOCH.fullmatch(metadata) else 0
