"""When a reader begins, and when it says that it can't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException

from runtime import kafka_reader
from runtime.errors import KafkaUnusableError
from runtime.kafka_reader import KafkaReader
from runtime.settings import KafkaSettings
from runtime.supervision import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

ELECTING, REFUSED = KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Begins to read; the first attempts end with these errors."""
    monkeypatch.setattr(kafka_reader, "_PAUSE_S", 0.001)

    def run(*errors: int) -> int:
        left = list(errors)
        reader = KafkaReader(
            KafkaSettings(log_level=0), topic="t", client_id="x", deliver=lambda *_: None, supervisor=Supervisor()
        )

        def assign_all() -> dict[int, None]:
            if left:
                raise KafkaException(KafkaError(left.pop(0)))
            return {0: None, 1: None}

        monkeypatch.setattr(reader, "_assign_all", assign_all)
        monkeypatch.setattr(reader, "_run", lambda: None)
        reader.start()
        return len(errors) - len(left)

    return run


def test_a_topic_that_has_no_leader_for_a_moment_is_waited_for(begin: Callable[..., int]) -> None:
    """As one that was just made, or whose broker died: no reason to end a process that starts."""
    assert begin(ELECTING, KafkaError.LEADER_NOT_AVAILABLE, ELECTING) == 3


def test_what_kafka_refuses_is_told_at_once(begin: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """And a topic that stays without a leader after a while."""
    with pytest.raises(KafkaUnusableError, match="Topic authorization failed"):
        begin(REFUSED)
    monkeypatch.setattr(kafka_reader, "_ELECTION_S", 0.0)
    with pytest.raises(KafkaUnusableError, match="cannot read t"):
        begin(*[ELECTING] * 1000)
