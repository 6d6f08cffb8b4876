"""A materializer whose partitions go in the middle of a batch: nothing lost, nothing published twice."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from consumers.materializer import process
from consumers.materializer.engine import Engine
from consumers.settings import ConversionSettings, MaterializerSettings
from runtime.settings import AdminSettings, KafkaSettings
from tests.harness.pilot import wait_for
from tests.harness.servers import PARTITIONS, free_port
from tests.integration.test_faults import Changes, assert_converges, assert_history_is_sound
from tests.integration.test_materializers import assert_the_log_proves_every_snapshot, owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import Consumer, Message

    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import KafkaServer, NacosServer

SERVICES = 100
MAX_POLL_S = 6.5


class Moment:
    """Where the engine is held up, once, with records in its hands."""

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self.reached = threading.Event()
        self.over = threading.Event()
        self.engines: list[Engine] = []

    def pass_through(self) -> None:
        """Holds up whoever comes by first when it is wanted."""
        if self.wanted.is_set() and not self.reached.is_set():
            self.reached.set()
            assert self.over.wait(60)


class HeldConsumer:
    """Kafka's consumer, held up between a batch's first record and the rest: what is due is served there."""

    def __init__(self, consumer: Consumer, moment: Moment) -> None:
        self._consumer = consumer
        self._moment = moment

    def poll(self, timeout_s: float) -> Message | None:
        found = self._consumer.poll(timeout_s)
        if found is not None and found.error() is None:
            self._moment.pass_through()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


@contextmanager
def materializing(processes: Processes, kafka: KafkaServer, settings: dict[str, Any]) -> Iterator[None]:
    """A materializer in this process, with its own restarts; `Engine` may have been replaced."""
    observe = {scope: {"mode": "observe"} for scope in ("service", "namespace", "datacenter", "head")}
    materializer = process.Materializer(
        kafka=KafkaSettings(servers=kafka.servers),
        topics=kafka.topics,
        settings=MaterializerSettings(
            group=f"materializer-{processes.group}",
            admin=AdminSettings(port=free_port()),
            **{"guard": observe, **settings},
        ),
        conversion=ConversionSettings(),
    )
    stop = threading.Event()
    thread = threading.Thread(target=materializer.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Moment:
    """A moment in the engine: `fold` with a whole batch read, `poll` within a batch."""
    found = Moment()

    class HeldEngine(Engine):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            found.engines.append(self)
            if request.param == "poll":
                self._consumer = HeldConsumer(self._consumer, found)  # type: ignore[assignment]

        def _fold(self, messages: list[Message]) -> Any:
            if messages and request.param == "fold":
                found.pass_through()
            return super()._fold(messages)

    monkeypatch.setattr(process, "Engine", HeldEngine)
    return found


@pytest.mark.parametrize(
    ("moment", "settings"),
    [("fold", {"max_poll_s": MAX_POLL_S, "session_timeout_s": 6}), ("poll", {})],
    indirect=["moment"],
)
def test_partitions_that_go_in_the_middle_of_a_batch(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
    moment: Moment,
    settings: dict[str, Any],
) -> None:
    """A whole batch in hand, past `max_poll_s`: it can't commit, and starts over. Or only its first record."""
    load.register(SERVICES, 3)
    processes.start("listener").wait()
    with materializing(processes, kafka, settings):
        wait_for(lambda: held(moment) == PARTITIONS, timeout_s=40, what="all partitions")
        gateway = processes.start("gateway")
        gateway.wait()
        pilot = pilots(gateway.address)
        with Changes(load, per_second=200):
            time.sleep(1)
            moment.wanted.set()
            assert moment.reached.wait(30)
            other = processes.start("materializer")
            if settings:
                wait_for(lambda: owned(other) == PARTITIONS, timeout_s=40, what="taken over")
                time.sleep(2)  # in which the other publishes what is in hand here
            else:
                time.sleep(5)  # until it has asked to join, and the revocation waits to be served
            moment.over.set()
            wait_for(
                lambda: held(moment) > 0 and held(moment) + owned(other) == PARTITIONS, timeout_s=60, what="shared"
            )
            time.sleep(2)
        assert len(moment.engines) == (2 if settings else 1)
        assert_converges(pilot, nacos, namespace, load)
        assert_history_is_sound(kafka, pilot)
        assert_the_log_proves_every_snapshot(processes)


def held(moment: Moment) -> int:
    """How many partitions our own engine has."""
    return len(moment.engines[-1]._partitions) if moment.engines else 0
