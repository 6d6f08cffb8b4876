"""Publishes what the views have and the log has not: keyframes, deltas, heartbeats.

One loop on the event loop's thread does all the writing, so the order of a session's events is the order of
its calls. It never waits for Kafka: a full queue ends the turn, and what is observed meanwhile is coalesced. A
turn works on the namespaces that changed, whatever the number of the others.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from producers import metrics
from producers.listener.event_log import GaveUpError, QueueFullError
from producers.listener.keyframes import Keyframes
from producers.listener.laying import Laying, knows_more
from producers.listener.restating import Restating
from producers.listener.session import Session, keyframe_due
from producers.listener.statements import Statements
from producers.listener.watched import now_us
from schemas.events import (
    Datacenter,
    Heartbeat,
    Namespace,
    NamespaceGone,
    SessionId,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.listener.event_log import EventLog
    from producers.listener.namespace_view import NamespaceView
    from producers.listener.quarantine import Quarantine
    from producers.settings import ListenerSettings
    from runtime.kafka_writer import KafkaWriter, LostRecord
    from schemas.events import Link

_log = structlog.get_logger()

_EVENTS_PER_TURN = 500
"""Events of a namespace written before the others get their turn."""
_FULL_QUEUE_PAUSE_S = 0.05
_TURN_S = 0.002
"""Turns follow each other no faster: under load a turn takes what came in this time, when idle nothing waits."""
_LONGEST_DETAIL = 1000


@dataclass(slots=True, kw_only=True)
class Tenure:
    """A partition that is ours: its session, its namespaces' views, its keyframes."""

    session: Session
    views: dict[Namespace, NamespaceView] = field(default_factory=dict)
    keyframes: Keyframes = field(default_factory=Keyframes)
    restating: Restating = field(default_factory=Restating)
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
        log: EventLog,
        writer: KafkaWriter,
        quarantine: Quarantine,
        link_of: Callable[[int], tuple[Link, str]],
    ) -> None:
        self._settings = settings
        self._log = log
        self._writer = writer
        self._statements = Statements(log, quarantine)
        self._laying = Laying(log, self._statements, datacenter=settings.datacenter)
        self._link_of = link_of
        self._wake = asyncio.Event()
        self._due: dict[Namespace, None] = {}
        self._tenure_of: dict[Namespace, Tenure] = {}
        self._next_beat = 0.0
        self.tenures: dict[int, Tenure] = {}

    def open(self, partition: int, epoch: int) -> None:
        """A partition is ours: a new session begins."""
        self._drop(partition)
        session = Session(
            datacenter=Datacenter(self._settings.datacenter),
            partition=partition,
            id=SessionId(uuid.uuid4().hex),
            epoch=epoch,
        )
        self.tenures[partition] = Tenure(session=session)
        self._next_beat = 0.0
        metrics.PARTITIONS.labels(self._settings.datacenter).set(len(self.tenures))
        _log.info("session opened", partition=partition, epoch=epoch, session=session.id)
        self._wake.set()

    def close(self, partition: int) -> None:
        """The partition is no longer ours: nothing more is written for it."""
        if self._drop(partition):
            _log.info("session closed", partition=partition)
        metrics.PARTITIONS.labels(self._settings.datacenter).set(len(self.tenures))

    def add(self, partition: int, view: NamespaceView) -> None:
        """A namespace of the partition is watched."""
        tenure = self.tenures[partition]
        tenure.views[view.namespace] = view
        tenure.gone.discard(view.namespace)
        self._tenure_of[view.namespace] = tenure
        self.changed(view.namespace)

    def remove(self, partition: int, namespace: Namespace) -> None:
        """Nacos no longer has the namespace: says so, and forgets it."""
        tenure = self.tenures[partition]
        tenure.views.pop(namespace, None)
        tenure.restating.forget(namespace)
        self._turn_to(tenure.keyframes.forget(namespace))
        tenure.gone.add(namespace)
        self.changed(namespace)

    def changed(self, namespace: Namespace) -> None:
        """There may be something to publish of the namespace."""
        self._due[namespace] = None
        self._wake.set()

    def lost(self, record: LostRecord) -> None:
        """Kafka refused a record for good: what readers lack without it is stated again, and nothing else."""
        event = self._log.read_lost(record)
        tenure = None if event is None else self.tenures.get(record.partition)
        if event is None or tenure is None or tenure.session.id != event.session:
            return
        now = time.monotonic()
        concerned = {*tenure.keyframes.spoiled_by(event.sequence)}
        if not isinstance(event.body, Heartbeat):
            concerned.add(event.namespace)
        for namespace in concerned:
            tenure.restating.schedule(namespace, now)
        self._next_beat = 0.0
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
                self._beat(began)
                await self._publish_due()
            except QueueFullError:
                await asyncio.sleep(_FULL_QUEUE_PAUSE_S)
                self._wake.set()
            metrics.QUEUED.labels(self._settings.datacenter).set(self._writer.queued)

    def _drop(self, partition: int) -> bool:
        tenure = self.tenures.pop(partition, None)
        for namespace in () if tenure is None else (*tenure.views, *tenure.gone):
            self._tenure_of.pop(namespace, None)
        return tenure is not None

    def _beat(self, now: float) -> None:
        """Heartbeats of the partitions that are due, and keyframes."""
        if now < self._next_beat:
            return
        interval_s = self._settings.heartbeat_interval_s
        for tenure in list(self.tenures.values()):
            for namespace in tenure.restating.due(now):
                self._restate(tenure, namespace)
            if now - tenure.beat_at < interval_s:
                continue
            link, detail = self._link_of(tenure.session.partition)
            try:
                # It may hold a server's words, which need not be Unicode.
                said = detail[:_LONGEST_DETAIL].encode("utf-8", "replace").decode()
                beat = Heartbeat(link=link, detail=said)
                self._log.write(tenure.session, Namespace(""), beat, now_us())
            except GaveUpError:
                continue
            tenure.beat_at = now
            self._consider_keyframes(tenure, now)
        self._next_beat = min(
            (min(tenure.beat_at + interval_s, tenure.restating.next_at) for tenure in self.tenures.values()),
            default=now + interval_s,
        )

    async def _publish_due(self) -> None:
        """Takes one turn for each namespace that changed; those with more to write come again."""
        due, self._due = self._due, {}
        while due:
            namespace = next(iter(due))
            tenure = self._tenure_of.get(namespace)
            try:
                is_done = tenure is None or await self._publish(tenure, namespace)
            except GaveUpError:
                is_done = True
            except QueueFullError:
                self._due = {**due, **self._due}
                raise
            del due[namespace]
            if not is_done:
                self.changed(namespace)

    async def _publish(self, tenure: Tenure, namespace: Namespace) -> bool:
        """One turn of a namespace; whether nothing is left to write of it for now."""
        if namespace in tenure.gone:
            self._log.write(tenure.session, namespace, NamespaceGone(), now_us())
            tenure.gone.discard(namespace)
            self._tenure_of.pop(namespace, None)
            return True
        view, keyframes = tenure.views.get(namespace), tenure.keyframes
        if view is None or not view.complete:
            return True
        if keyframes.is_missing(namespace):
            view.forget_stated()
            keyframes.begin(view, "session")
        elif keyframes.of(namespace) is None and knows_more(keyframes.kept(namespace), view):
            keyframes.begin(view, "completed")
        if keyframes.is_turn_of(namespace):
            self._turn_to(await self._laying.lay(tenure.session, view, keyframes))
        elif keyframes.is_first_due(namespace):
            return True  # of this session nothing is written before its keyframe, whose turn comes
        return await self._write_differences(tenure, view) and not keyframes.is_turn_of(namespace)

    async def _write_differences(self, tenure: Tenure, view: NamespaceView) -> bool:
        """Writes what differs; whether that is all."""
        push_to_event = metrics.PUSH_TO_EVENT.labels(
            self._settings.datacenter, metrics.namespace_label(view.namespace)
        )
        for written, difference in enumerate(view.differences(), start=1):
            await self._statements.write(tenure.session, view, tenure.keyframes, difference)
            tenure.deltas += 1
            push_to_event.observe((now_us() - difference.at) / 1e6)
            if written == _EVENTS_PER_TURN:
                await asyncio.sleep(0)
                return False
        return True

    def _consider_keyframes(self, tenure: Tenure, now: float) -> None:
        if tenure.keyframes or not tenure.keyframes.laid:
            return
        due = keyframe_due(
            deltas=tenure.deltas,
            instances=sum(view.stated_instances for view in tenure.views.values()),
            age_s=now - tenure.framed_at,
            min_events=self._settings.keyframe_min_events,
            max_age_s=self._settings.keyframe_max_age_s,
        )
        if not due:
            return
        tenure.deltas, tenure.framed_at = 0, now
        self._log.forget_limit()
        for namespace in tenure.keyframes.laid:
            tenure.views[namespace].try_unwritable()
            self._begin(tenure, namespace, "periodic")

    def _begin(self, tenure: Tenure, namespace: Namespace, reason: str) -> None:
        view = tenure.views.get(namespace)
        if view is not None and view.complete:
            tenure.keyframes.begin(view, reason)
            self.changed(namespace)

    def _restate(self, tenure: Tenure, namespace: Namespace) -> None:
        """An event of the namespace was lost: all is stated again, or that it is gone."""
        if namespace in tenure.views:
            self._begin(tenure, namespace, "lost")
            return
        tenure.gone.add(namespace)
        self._tenure_of[namespace] = tenure
        self.changed(namespace)

    def _turn_to(self, namespace: Namespace | None) -> None:
        if namespace is not None:
            self.changed(namespace)
