"""A batch that takes long to fold: the engine polls before Kafka takes its partitions away."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import TopicPartition

from consumers.materializer import engine as engine_module
from consumers.materializer.engine import Engine
from consumers.materializer.group import Group
from consumers.materializer.patience import Patience
from consumers.settings import ConversionSettings, MaterializerSettings
from runtime.settings import KafkaSettings
from runtime.supervision import Supervisor
from schemas.avro_codec import codecs
from schemas.topics import REGISTRY_EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORDS = 50
MAX_POLL_S = 20.0


class Log:
    """In the place of the consumer: reads all that there is, from where it was assigned."""

    def __init__(self) -> None:
        self.at = 0
        self.assigned: list[int] = []

    def assign(self, starts: Sequence[TopicPartition]) -> None:
        (start,) = starts
        self.at = start.offset
        self.assigned.append(start.offset)

    def pause(self, paused: Sequence[TopicPartition]) -> None:
        assert not paused

    def batch(self) -> list[Any]:
        first, self.at = self.at, RECORDS
        return [
            SimpleNamespace(
                error=lambda: None, topic=lambda: REGISTRY_EVENTS, partition=lambda: 0,
                offset=lambda offset=offset: offset, value=lambda: b"",
            )
            for offset in range(first, RECORDS)
        ]  # fmt: skip


@pytest.mark.parametrize("record_s", [0.01, 1.0, 7.0, 30.0])
def test_a_batch_is_folded_in_pieces_with_a_poll_between_them(
    monkeypatch: pytest.MonkeyPatch, record_s: float
) -> None:
    """Each record once, in its order, and after a quarter of the time that Kafka allows no other one is begun."""
    now = 0.0
    monkeypatch.setattr(engine_module, "time", SimpleNamespace(monotonic=lambda: now))
    kafka = KafkaSettings(log_level=0)
    engine = Engine(
        kafka,
        MaterializerSettings(max_poll_s=MAX_POLL_S, session_timeout_s=6),
        ConversionSettings(),
        codecs(),
        "test",
        patience=Patience(threading.Event(), lambda: None, lambda _: None),
        supervisor=Supervisor(),
        watch=SimpleNamespace(),  # type: ignore[arg-type] - nobody asks it
        group=Group(kafka, "test"),
        made_anew=set(),
    )
    log, folded = Log(), []
    partition: Any = SimpleNamespace(number=0, recovering=False, next_offsets={REGISTRY_EVENTS: 0}, first_read={})

    def take(_: object, topic: str, offset: int, __: object) -> tuple[()]:
        nonlocal now
        now += record_s
        folded.append(offset)
        partition.next_offsets[topic] = offset + 1
        return ()

    monkeypatch.setattr(engine, "_take", take)
    monkeypatch.setattr(engine, "_consumer", log)
    engine._partitions[0], engine._read = partition, [TopicPartition(REGISTRY_EVENTS, 0, 0)]
    while messages := log.batch():
        began, before = now, len(folded)
        engine._fold(messages)
        took = now - began
        assert took <= MAX_POLL_S / 4 + record_s or len(folded) == before + 1
    assert folded == list(range(RECORDS))
    assert bool(log.assigned) == (record_s * RECORDS > MAX_POLL_S / 4)
