"""Why engines end, what an operator is told, and when the next one begins."""

from __future__ import annotations

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from consumers.errors import StoppedError
from consumers.materializer import patience as patience_module
from consumers.materializer.patience import Patience
from consumers.materializer.refusals import refusal_of
from consumers.materializer.starts import Cause, Ending, Starts, kafka_ending

NAME = "shiplog-materializer-x"


@pytest.mark.parametrize(
    ("code", "cause", "told"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Cause.REFUSED, "grant the materializer READ"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, Cause.REFUSED, "materializer.group"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Cause.REFUSED, "transactional id"),
        (KafkaError._AUTHENTICATION, Cause.REFUSED, "kafka.sasl_username"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, Cause.REFUSED, "shiplog topics ensure"),
        (KafkaError.MSG_SIZE_TOO_LARGE, Cause.REFUSED, "max.message.bytes"),
        (KafkaError.INVALID_SESSION_TIMEOUT, Cause.REFUSED, "materializer.session_timeout_s"),
        (KafkaError.INVALID_TRANSACTION_TIMEOUT, Cause.REFUSED, "materializer.transaction_timeout_s"),
        (KafkaError.FENCED_INSTANCE_ID, Cause.NAME_TAKEN, "materializer.instance"),
        (KafkaError._FENCED, Cause.FENCED, NAME),
        (KafkaError._TRANSPORT, Cause.KAFKA, "_TRANSPORT"),
        (KafkaError.NOT_COORDINATOR, Cause.KAFKA, "NOT_COORDINATOR"),
    ],
)
def test_an_error_of_kafka_says_what_to_do(code: int, cause: Cause, told: str) -> None:
    """What is refused, and which permission or setting lifts it; what passes is named only."""
    ending = kafka_ending(KafkaError(code), NAME, 0.0)
    assert ending.cause is cause
    assert told in ending.text
    assert KafkaError(code).name() in ending.text
    assert (refusal_of(KafkaError(code)) is not None) == (cause is Cause.REFUSED)


def test_a_name_that_another_process_took_is_seen_in_a_consumers_fatal_error() -> None:
    """The client says so within the text of an error that is otherwise called fatal."""
    text = f"Fatal error: {KafkaError(KafkaError.FENCED_INSTANCE_ID).str()}"
    assert kafka_ending(KafkaError(KafkaError._FATAL, text), NAME, 0.0).cause is Cause.NAME_TAKEN


def test_pauses_grow_and_begin_anew_after_an_engine_that_lived() -> None:
    """No tight loop around what Kafka refuses; the first fault after a good time is followed soon."""
    starts, now, pauses = Starts(), 0.0, []
    for _ in range(12):
        starts.begin(now)
        starts.ended(Ending(Cause.REFUSED, "x", now), now)
        pauses.append(starts.pause_s)
    assert pauses[0] <= 0.5
    assert 15 <= pauses[-1] <= 30
    starts.begin(now)
    starts.ended(Ending(Cause.KAFKA, "x", now), now + 1000)
    assert starts.pause_s <= 0.5
    assert not starts.is_hopeless


def test_faults_of_ours_in_a_row_end_the_process() -> None:
    """And those that are hours apart do not."""
    starts = Starts()
    for number in range(20):
        starts.begin(1000.0 * number)
        starts.ended(Ending(Cause.INTERNAL_FAULT, "x", 0.0), 1000.0 * number + 900)
    assert not starts.is_hopeless
    for _ in range(4):  # the last of those above is the first in this row
        assert not starts.is_hopeless
        starts.begin(0.0)
        starts.ended(Ending(Cause.INTERNAL_FAULT, "x", 0.0), 1.0)
    assert starts.is_hopeless
    assert starts.describe() == {
        "engines": 24,
        "last_ended": {"at": "1970-01-01T00:00:00+00:00", "cause": "internal_fault", "text": "x"},
    }


def test_what_passes_is_waited_for_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process says that it turns, and what it waits for once that takes long."""
    monkeypatch.setattr(patience_module, "_NOTABLE_S", 0.1)
    told: list[str] = []
    turns: list[None] = []
    patience = Patience(threading.Event(), lambda: turns.append(None), told.append)
    failures = 6

    def operation() -> str:
        nonlocal failures
        failures -= 1
        if failures > 0:
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR, "moving", retriable=True))
        return "done"

    assert patience.until_done("commit", operation, 10) == "done"
    assert told == ["commit waits for Kafka: moving", ""]
    assert len(turns) == 6


def test_what_does_not_pass_is_raised_at_once() -> None:
    """And so is what takes too long, or a process's end."""
    stop = threading.Event()
    patience = Patience(stop, lambda: None, lambda _: None)
    for_good = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    passing = KafkaException(KafkaError(KafkaError.NOT_COORDINATOR, "moving", retriable=True))

    def fail(error: KafkaException) -> None:
        raise error

    for error, limit_s in ((for_good, 10), (passing, 0.1)):
        with pytest.raises(KafkaException) as caught:
            patience.until_done("x", lambda error=error: fail(error), limit_s)  # type: ignore[misc]
        assert caught.value is error
    stop.set()
    with pytest.raises(StoppedError):
        patience.until_done("x", lambda: None, 10)
