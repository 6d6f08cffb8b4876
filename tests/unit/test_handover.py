"""Partitions that are won and lost while the event loop is busy, however long."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from producers.listener.event_log import EventLog, GaveUpError
from producers.listener.ownership import Ownership
from producers.listener.process import Listener
from producers.listener.session import Session
from producers.settings import ListenerSettings, NacosSettings
from runtime.settings import KafkaSettings, TopicsSettings
from schemas.events import Datacenter, Namespace, NamespaceGone, SessionId
from tests.unit.publishing import CODEC, KeptWriter, in_loop


class Noted:
    """In place of publication and namespaces: what they are told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def open(self, partition: int, epoch: int) -> None:
        self.told.append(("open", partition, epoch))

    def close(self, partition: int) -> None:
        self.told.append(("close", partition))

    def won(self, partition: int) -> None:
        self.told.append(("won", partition))

    def gave_up(self, partitions: list[int]) -> None:
        self.told.append(("gave up", *partitions))


def listener() -> tuple[Listener, Noted]:
    """A listener without Kafka and Nacos."""
    made, noted = (
        Listener(
            kafka=KafkaSettings(),
            topics=TopicsSettings(),
            nacos=NacosSettings(),
            settings=ListenerSettings(),
        ),
        Noted(),
    )
    made._publication = noted  # type: ignore[assignment]
    made._namespaces = noted  # type: ignore[assignment]
    return made, noted


@in_loop
async def test_a_partition_won_while_the_loop_is_busy_is_opened_when_it_gets_to_it() -> None:
    """The membership's thread does not wait, and gives nothing up."""
    made, noted = listener()
    loop = asyncio.get_running_loop()
    thread = threading.Thread(target=made._won, args=(loop, 3, 7))
    thread.start()
    time.sleep(0.5)  # noqa: ASYNC251 - the event loop is busy
    assert not thread.is_alive()
    assert noted.told == []
    await asyncio.sleep(0.05)
    assert noted.told == [("open", 3, 7), ("won", 3)]


@in_loop
async def test_what_was_lost_again_meanwhile_is_not_opened() -> None:
    """Won, lost and won by a later epoch: the last one is what counts."""
    made, noted = listener()
    loop = asyncio.get_running_loop()

    def keep_membership() -> None:
        made._won(loop, 3, 7)
        made._won(loop, 4, 7)
        made._gave_up(loop, [3, 4])
        made._won(loop, 3, 8)

    thread = threading.Thread(target=keep_membership)
    thread.start()
    thread.join()
    await asyncio.sleep(0.05)
    assert [one for one in noted.told if one[0] == "open"] == [("open", 3, 8)]
    assert noted.told[-2:] == [("open", 3, 8), ("won", 3)]


@in_loop
async def test_nothing_is_written_after_the_thread_was_told_that_it_is_lost() -> None:
    """Although the event loop has not heard of it."""
    ownership, writer = Ownership(), KeptWriter()
    log = EventLog(CODEC, writer, ownership, datacenter="dc1")  # type: ignore[arg-type]
    session = Session(datacenter=Datacenter("dc1"), partition=3, id=SessionId("s"), epoch=7)
    ownership.win(3, 7)
    assert log.write(session, Namespace("ns"), NamespaceGone(), 1)
    written_late, lost_at = [], threading.Event()

    def lose() -> None:
        ownership.lose([3])
        lost_at.set()
        time.sleep(0.05)
        written_late.append(len(writer.records))

    thread = threading.Thread(target=lose)
    thread.start()
    while True:
        try:
            log.write(session, Namespace("ns"), NamespaceGone(), 1)
        except GaveUpError:
            break
    assert lost_at.wait(5)
    thread.join()
    assert written_late == [len(writer.records)]


@in_loop
async def test_a_failure_of_a_handover_ends_the_process() -> None:
    """Nobody else would hear of a callback's exception."""
    made, noted = listener()

    def fail(partition: int) -> None:
        raise ZeroDivisionError(f"a fault of ours, partition {partition}")

    noted.won = fail  # type: ignore[method-assign]
    made._won(asyncio.get_running_loop(), 3, 7)
    await asyncio.sleep(0.05)
    assert made._supervisor.fault is not None
    assert "partition handover" in str(made._supervisor.fault)
