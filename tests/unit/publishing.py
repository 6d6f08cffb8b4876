"""A publication without Kafka: the records that it writes are kept, decoded and folded."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from consumers.materializer.fold import Fold
from consumers.settings import ConversionSettings
from producers.listener.event_log import EventLog
from producers.listener.namespace_view import NamespaceView
from producers.listener.ownership import Ownership
from producers.listener.publication import Publication
from producers.settings import ListenerSettings
from runtime.kafka_writer import LostRecord
from schemas.avro_codec import codecs
from schemas.events import (
    Datacenter,
    Heartbeat,
    Instance,
    Link,
    Namespace,
    RegistryBody,
    RegistryEvent,
    ServiceKey,
    ServiceState,
)
from schemas.topics import REGISTRY_EVENTS
from tests.unit.conversions import TOPIC, UNGUARDED, seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CODEC = codecs().registry_event
PARTITION, EPOCH = 3, 7
DATACENTER = "dc1"


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The test on an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))  # type: ignore[arg-type]

    return run


class KeptWriter:
    """In place of Kafka's client: `takes` decides on each record, as a broker would."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes, bytes]] = []
        self.most_queued: int | None = None
        self.takes: Callable[[bytes], bool] = lambda _: True
        self.on_lost: Callable[[LostRecord], None] = lambda _: None

    @property
    def queued(self) -> int:
        return 0

    def write(self, topic: str, *, partition: int, key: bytes, value: bytes) -> bool:
        if topic != REGISTRY_EVENTS:
            return True
        if self.most_queued is not None and len(self.records) >= self.most_queued:
            return False
        if self.takes(value):
            self.records.append((partition, key, value))
        else:
            lost = LostRecord(topic, partition, key, value, "MSG_SIZE_TOO_LARGE")
            asyncio.get_running_loop().call_soon(self.on_lost, lost)
        return True


@dataclass
class KeptQuarantine:
    """In place of the quarantine topic."""

    reasons: list[str] = field(default_factory=list)

    def set_aside(self, namespace: Namespace, key: object, *, reason: str, detail: str, value: object) -> None:  # noqa: ARG002
        self.reasons.append(reason)


class Published:
    """A publication of one partition, running."""

    def __init__(self, **settings: Any) -> None:
        self.settings = ListenerSettings(**{"datacenter": DATACENTER, "heartbeat_interval_s": 0.05, **settings})
        self.writer = KeptWriter()
        self._decoded: list[RegistryEvent] = []
        self.quarantine = KeptQuarantine()
        self.ownership = Ownership()
        self.link = (Link.LIVE, "")
        self.links_asked = 0
        self.publication = Publication(
            settings=self.settings,
            log=EventLog(CODEC, self.writer, self.ownership, datacenter=DATACENTER),  # type: ignore[arg-type]
            writer=self.writer,  # type: ignore[arg-type]
            quarantine=self.quarantine,  # type: ignore[arg-type]
            link_of=self._link_of,
        )
        self.writer.on_lost = self.publication.lost

    def _link_of(self, _: int) -> tuple[Link, str]:
        self.links_asked += 1
        return self.link

    def open(self, epoch: int = EPOCH, partition: int = PARTITION) -> None:
        self.ownership.win(partition, epoch)
        self.publication.open(partition, epoch)

    def view(self, name: str = "public", partition: int = PARTITION) -> NamespaceView:
        """The view of a new namespace, complete and empty."""
        view = NamespaceView(Namespace(name), services_complete=True, configs_complete=True)
        self.publication.add(partition, view)
        return view

    def observe(self, view: NamespaceView, key: ServiceKey, *instances: Instance) -> None:
        view.observe(key, seen(*instances), 1)
        self.publication.changed(view.namespace)

    @property
    def all_events(self) -> list[RegistryEvent]:
        """What the log has."""
        new = self.writer.records[len(self._decoded) :]
        self._decoded += [CODEC.decode(value) for _, _, value in new]
        return self._decoded

    @property
    def events(self) -> list[RegistryEvent]:
        """What the log has, without heartbeats."""
        return [event for event in self.all_events if not isinstance(event.body, Heartbeat)]

    def bodies(self, name: str = "public") -> list[RegistryBody]:
        return [event.body for event in self.events if event.namespace == name]

    def kinds(self, name: str = "public") -> list[str]:
        return [type(body).__name__ for body in self.bodies(name)]

    def count(self, kind: type, name: str = "public") -> int:
        return sum(isinstance(body, kind) for body in self.bodies(name))

    def fold(self) -> Fold:
        """What a materializer makes of the log."""
        fold = Fold(ConversionSettings(), UNGUARDED)
        for offset, event in enumerate(self.all_events):
            fold.apply(TOPIC, offset, event)
        return fold

    def folded(self, name: str = "public") -> dict[ServiceKey, set[str]]:
        """The addresses of each service, as a materializer has them."""
        datacenter = self.fold().state.datacenters.get(Datacenter(DATACENTER))
        state = datacenter and datacenter.namespaces.get(Namespace(name))
        if not state:
            return {}
        return {key: {one.ip for one in service.instances} for key, service in state.services.items()}

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for it; fails after 30 s."""
        try:
            async with asyncio.timeout(30):
                while not condition():  # noqa: ASYNC110 - the publication has no event for it
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"not within 30 s: {what}; {self.kinds()}") from None


@asynccontextmanager
async def publishing(**settings: Any) -> AsyncIterator[Published]:
    """A publication that runs, with one partition open."""
    published = Published(**settings)
    published.open()
    task = asyncio.create_task(published.publication.run())
    try:
        yield published
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def state_of(key: ServiceKey, body: RegistryBody) -> bool:
    """Whether this states the service."""
    return isinstance(body, ServiceState) and body.key == key
