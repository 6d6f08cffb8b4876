"""Notices that a topic was deleted and made anew while it is used: it has another id then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection

from runtime.kafka_clients import make_admin

if TYPE_CHECKING:
    from collections.abc import Collection
    from concurrent.futures import Future

    from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]  # not said, as others

    from runtime.settings import KafkaSettings

_log = structlog.get_logger()

_EVERY_S = 5.0
_TIMEOUT_S = 10.0
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""Of a broker before 2.8."""


class TopicWatch:
    """Asks Kafka every few seconds for the ids of topics. Belongs to one thread, and never makes it wait.

    It outlives engines, so that a topic that was made anew between two of them is noticed, too. `missing` are
    those of `topics` that did not exist at the last look; the `mirrored` ones may appear later.
    """

    def __init__(self, kafka: KafkaSettings, topics: Collection[str], mirrored: Collection[str]) -> None:
        self.missing: frozenset[str] = frozenset()
        self._topics = [*topics, *mirrored]
        self._mirrored = frozenset(mirrored)
        self._ids: dict[str, str] = {}
        self._made_anew: set[str] = set()
        self._present: set[str] = set()
        self._admin = make_admin(kafka, "shiplog-topic-watch")
        self._answers: dict[str, Future[TopicDescription]] = {}
        self._asked_at = -_EVERY_S

    def look(self) -> None:
        """Takes in what Kafka answered, and asks again when it is time."""
        if self._answers and all(answer.done() for answer in self._answers.values()):
            answers, self._answers = self._answers, {}
            self._compare(answers)
        if not self._answers and time.monotonic() - self._asked_at >= _EVERY_S:
            self._asked_at = time.monotonic()
            self._answers = self._admin.describe_topics(TopicCollection(self._topics), request_timeout=_TIMEOUT_S)

    def take_made_anew(self) -> frozenset[str]:
        """The topics whose id changed since the last call."""
        found, self._made_anew = frozenset(self._made_anew), set()
        return found

    @property
    def present(self) -> frozenset[str]:
        """The topics that are known to exist."""
        return frozenset(self._present)

    def _compare(self, answers: dict[str, Future[TopicDescription]]) -> None:
        missing: set[str] = set()
        for topic, answer in answers.items():
            try:
                found = str(answer.result().topic_id)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    missing.add(topic)
                    self._present.discard(topic)
                continue  # not allowed, or away: the clients that read and write it say so
            self._present.add(topic)
            former = self._ids.get(topic, found)
            if found != _NO_ID:
                self._ids[topic] = found
            if former != found:
                _log.error("topic_made_anew", topic=topic, former_id=former, id=found)
                self._made_anew.add(topic)
        missing -= self._mirrored
        for topic in missing - self.missing:
            _log.error("topic_missing", topic=topic)
        self.missing = frozenset(missing)
