"""Publishes what the views have and the log has not: keyframes, deltas, heartbeats.

One loop on the event loop's thread does all the writing, so the order of a session's events is the order of
its calls. It never waits for Kafka: a full queue ends the round, and what is observed meanwhile is coalesced.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException

from producers import metrics
from producers.listener.session import Session, keyframe_due
from producers.listener.watched import now_us
from schemas.events import (
    ConfigKey,
    ConfigState,
    Datacenter,
    Heartbeat,
    Link,
    Namespace,
    NamespaceGone,
    RegistryBody,
    ServiceState,
    SessionId,
    SyncCompleted,
    SyncStarted,
)
from schemas.topics import REGISTRY_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from producers.listener.namespace_view import Difference, NamespaceView
    from producers.listener.quarantine import Quarantine
    from producers.settings import ListenerSettings
    from runtime.kafka_writer import KafkaWriter
    from schemas.avro_codec import AvroCodec
    from schemas.events import RegistryEvent, ServiceKey

_log = structlog.get_logger()

_KEYFRAME_CHUNK = 200
"""Services stated before pushes get their turn again."""
_EVENTS_PER_TURN = 500
"""Events written before the event loop reads pushes again."""
_FULL_QUEUE_PAUSE_S = 0.05
_TURN_S = 0.002
"""Turns follow each other no faster: under load a turn takes what came in this time, when idle nothing waits."""


class _QueueFullError(Exception):
    """Kafka's client takes nothing more now."""


@dataclass(slots=True, kw_only=True)
class _Keyframe:
    """A keyframe being laid: what remains, and the states written since it started.

    The latter include what appeared meanwhile, because readers count every state in between.
    """

    reason: str
    remaining: Iterator[ServiceKey | ConfigKey]
    started: bool = False
    services: int = 0
    config_items: int = 0

    def count(self, body: RegistryBody) -> None:
        """An event was written."""
        if self.started:
            self.services += isinstance(body, ServiceState)
            self.config_items += isinstance(body, ConfigState)


@dataclass(slots=True, kw_only=True)
class Tenure:
    """A partition that is ours: its session, its namespaces' views, the keyframes being laid."""

    session: Session
    views: dict[Namespace, NamespaceView] = field(default_factory=dict)
    keyframes: dict[Namespace, _Keyframe] = field(default_factory=dict)
    framed: set[Namespace] = field(default_factory=set)
    gone: set[Namespace] = field(default_factory=set)
    deltas: int = 0
    framed_at: float = field(default_factory=time.monotonic)
    beat_at: float = 0.0


class Publication:
    """Owns the tenures and writes their events. All methods are called on the event loop."""

    def __init__(
        self,
        *,
        settings: ListenerSettings,
        codec: AvroCodec[RegistryEvent],
        writer: KafkaWriter,
        quarantine: Quarantine,
        link_of: Callable[[int], tuple[Link, str]],
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._writer = writer
        self._quarantine = quarantine
        self._link_of = link_of
        self._wake = asyncio.Event()
        self.tenures: dict[int, Tenure] = {}

    def open(self, partition: int, epoch: int) -> None:
        """A partition is ours: a new session begins."""
        session = Session(
            datacenter=Datacenter(self._settings.datacenter),
            partition=partition,
            id=SessionId(uuid.uuid4().hex),
            epoch=epoch,
        )
        self.tenures[partition] = Tenure(session=session)
        metrics.PARTITIONS.labels(self._settings.datacenter).set(len(self.tenures))
        _log.info("session opened", partition=partition, epoch=epoch, session=session.id)
        self.wake()

    def close(self, partition: int) -> None:
        """The partition is no longer ours: nothing more is written for it."""
        if self.tenures.pop(partition, None) is not None:
            _log.info("session closed", partition=partition)
        metrics.PARTITIONS.labels(self._settings.datacenter).set(len(self.tenures))

    def add(self, partition: int, view: NamespaceView) -> None:
        """A namespace of the partition is watched."""
        self.tenures[partition].views[view.namespace] = view

    def remove(self, partition: int, namespace: Namespace) -> None:
        """Nacos no longer has the namespace: says so, and forgets it."""
        tenure = self.tenures[partition]
        tenure.views.pop(namespace, None)
        tenure.keyframes.pop(namespace, None)
        tenure.framed.discard(namespace)
        tenure.gone.add(namespace)
        self.wake()

    def restate(self, reason: str) -> None:
        """The log may lack events of ours: every session lays keyframes from what is known."""
        for tenure in self.tenures.values():
            self._begin_keyframes(tenure, reason)
        self.wake()

    def wake(self) -> None:
        """There may be something to publish."""
        self._wake.set()

    async def run(self) -> None:
        """Publishes until cancelled."""
        began = 0.0
        while True:
            try:
                async with asyncio.timeout(min(1.0, self._settings.heartbeat_interval_s)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(max(0.0, began + _TURN_S - time.monotonic()))
            began = time.monotonic()
            self._wake.clear()
            try:
                for tenure in list(self.tenures.values()):
                    await self._publish(tenure)
            except _QueueFullError:
                await asyncio.sleep(_FULL_QUEUE_PAUSE_S)
                self.wake()
            metrics.QUEUED.labels(self._settings.datacenter).set(self._writer.queued)

    async def _publish(self, tenure: Tenure) -> None:
        if time.monotonic() - tenure.beat_at >= self._settings.heartbeat_interval_s:
            link, detail = self._link_of(tenure.session.partition)
            self._write(tenure, Namespace(""), Heartbeat(link=link, detail=detail), now_us())
            tenure.beat_at = time.monotonic()
            self._consider_keyframes(tenure)
        for namespace in list(tenure.gone):
            self._write(tenure, namespace, NamespaceGone(), now_us())
            tenure.gone.discard(namespace)
        for namespace, view in list(tenure.views.items()):
            if not view.complete:
                continue
            if namespace not in tenure.framed and namespace not in tenure.keyframes:
                view.forget_stated()
                tenure.keyframes[namespace] = _Keyframe(reason="session", remaining=_everything(view))
            while namespace in tenure.keyframes and self._is_ours(tenure):
                self._lay(tenure, namespace, view)
                await asyncio.sleep(0)
                await self._write_differences(tenure, namespace, view)
            await self._write_differences(tenure, namespace, view)

    async def _write_differences(self, tenure: Tenure, namespace: Namespace, view: NamespaceView) -> None:
        push_to_event = metrics.PUSH_TO_EVENT.labels(self._settings.datacenter, metrics.namespace_label(namespace))
        for written, difference in enumerate(view.differences(), start=1):
            if not self._is_ours(tenure):
                return
            self._publish_difference(tenure, namespace, view, difference)
            tenure.deltas += 1
            push_to_event.observe((now_us() - difference.at) / 1e6)
            if written % _EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _publish_difference(
        self, tenure: Tenure, namespace: Namespace, view: NamespaceView, difference: Difference
    ) -> None:
        """Writes the event, and keeps the view and the keyframe in step with it."""
        written = self._write(tenure, namespace, difference.body, difference.at)
        view.publish(difference)
        if not written:
            self._quarantine.set_aside(
                namespace,
                difference.key,
                reason="too_large",
                detail=f"{difference.key}: more than a record of the log may hold",
                value=type(difference.body).__name__,
            )
        elif (frame := tenure.keyframes.get(namespace)) is not None:
            frame.count(difference.body)

    def _lay(self, tenure: Tenure, namespace: Namespace, view: NamespaceView) -> None:
        """States the next part of a keyframe; the last chunk completes it."""
        frame = tenure.keyframes[namespace]
        if not frame.started:
            self._write(tenure, namespace, SyncStarted(reason=frame.reason), now_us())
            frame.started = True
        for _ in range(_KEYFRAME_CHUNK):
            key = next(frame.remaining, None)
            if key is None:
                counts = SyncCompleted(services=frame.services, config_items=frame.config_items)
                self._write(tenure, namespace, counts, now_us())
                del tenure.keyframes[namespace]
                tenure.framed.add(namespace)
                metrics.KEYFRAMES.labels(self._settings.datacenter, frame.reason).inc()
                return
            statement = view.statement(key, now_us())
            if statement is None:
                continue
            try:
                self._publish_difference(tenure, namespace, view, statement)
            except _QueueFullError:
                frame.remaining = chain((key,), frame.remaining)
                raise

    def _consider_keyframes(self, tenure: Tenure) -> None:
        if tenure.keyframes or not tenure.framed:
            return
        due = keyframe_due(
            deltas=tenure.deltas,
            instances=sum(view.stated_instances for view in tenure.views.values()),
            age_s=time.monotonic() - tenure.framed_at,
            min_events=self._settings.keyframe_min_events,
            max_age_s=self._settings.keyframe_max_age_s,
        )
        if due:
            self._begin_keyframes(tenure, "periodic")

    def _begin_keyframes(self, tenure: Tenure, reason: str) -> None:
        for namespace in tenure.framed:
            view = tenure.views[namespace]
            tenure.keyframes[namespace] = _Keyframe(reason=reason, remaining=_everything(view))
        tenure.deltas = 0
        tenure.framed_at = time.monotonic()

    def _write(self, tenure: Tenure, namespace: Namespace, body: RegistryBody, at: int) -> bool:
        """Writes an event; False when it is too large for the log and was left out."""
        event = tenure.session.event(namespace, body, at)
        try:
            taken = self._writer.write(
                REGISTRY_EVENTS,
                partition=tenure.session.partition,
                key=namespace.encode(),
                value=self._codec.encode(event),
            )
        except KafkaException as error:
            if error.args[0].name() != "MSG_SIZE_TOO_LARGE":
                raise
            return False
        if not taken:
            raise _QueueFullError
        tenure.session.taken()
        metrics.EVENTS.labels(
            self._settings.datacenter, metrics.namespace_label(namespace), type(body).__name__
        ).inc()
        return True

    def _is_ours(self, tenure: Tenure) -> bool:
        return self.tenures.get(tenure.session.partition) is tenure


def _everything(view: NamespaceView) -> Iterator[ServiceKey | ConfigKey]:
    return iter([*view.observed, *view.configs])
