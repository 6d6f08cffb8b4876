"""Begins to read the snapshot topic; where there is a cache to serve from, as often as it takes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from runtime.backoff import Backoff
from runtime.errors import KafkaUnusableError
from schemas.errors import WrongTopicError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_gateway.freshness import Freshness
    from runtime.kafka_reader import KafkaReader

_log = structlog.get_logger()

_BACKOFF_S = (0.5, 10.0)


class KafkaConnection:
    """Connects, checks the topics and starts the reader; belongs to the event loop.

    `check_topics` is called on a thread, and raises as `TopicKeeper.check`.
    """

    def __init__(self, reader: KafkaReader, check_topics: Callable[[], None], freshness: Freshness) -> None:
        self._reader = reader
        self._check_topics = check_topics
        self._freshness = freshness

    async def attempt(self) -> None:
        """Connects once.

        Raises:
            KafkaUnusableError: Kafka can't be reached, or is another cluster than the one that is served from the
                cache: the two are not mixed.
            WrongTopicError: its topics are not as they must be.
        """
        cluster = await asyncio.to_thread(self._reader.connect)
        cached = self._freshness.cached_cluster
        if cached not in {"", cluster}:
            raise KafkaUnusableError(
                f"kafka.servers lead to cluster {cluster}, what is served from the cache is of cluster {cached}: "
                "set kafka.servers right, or start the gateway again to serve the other cluster"
            )
        self._freshness.cluster = cluster
        await asyncio.to_thread(self._check_topics)
        await asyncio.to_thread(self._reader.start)
        self._freshness.kafka_fault = ""

    async def run(self) -> None:
        """Connects, again and again until it is done; ends when it is cancelled."""
        backoff = Backoff(*_BACKOFF_S)
        while True:
            began = time.monotonic()
            try:
                await self.attempt()
            except (KafkaUnusableError, WrongTopicError) as error:
                self._freshness.kafka_fault = str(error)
                pause_s = backoff.pause_s(0.0)
                _log.warning("kafka_unusable", error=str(error), tried_s=round(time.monotonic() - began, 1))
                await asyncio.sleep(pause_s)
            else:
                _log.info("kafka_connected", cluster=self._freshness.cluster)
                await asyncio.get_running_loop().create_future()
