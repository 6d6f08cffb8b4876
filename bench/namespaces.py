"""What a change costs a listener that watches many namespaces: from its observation to its event.

Without Nacos and Kafka: views that are complete, a writer that only counts. One namespace changes at a time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from producers import metrics
from producers.listener.event_log import EventLog
from producers.listener.namespace_view import NamespaceView
from producers.listener.namespace_watch import NamespaceWatch
from producers.listener.namespaces import Namespaces
from producers.listener.observation import Observation
from producers.listener.ownership import Ownership
from producers.listener.publication import Publication
from producers.listener.watched import Watched
from producers.settings import ListenerSettings, NacosSettings
from runtime.supervision import Supervisor
from schemas.avro_codec import codecs
from schemas.events import Instance, Link, Namespace, ServiceKey

NAMESPACES = (1, 100, 1_000, 5_000)
PARTITIONS = 8
SERVICE = ServiceKey("DEFAULT_GROUP", "svc")


def run(*, quick: bool) -> None:
    """Prints CPU milliseconds a change, a second of idling, and a scrape of the metrics."""
    for count in NAMESPACES[:3] if quick else NAMESPACES:
        asyncio.run(_measure(count, changes=200 if quick else 1_000))


class _Writer:
    """Takes everything, and says so."""

    queued = 0

    def __init__(self) -> None:
        self.written = asyncio.Event()

    def write(self, *_: object, **__: object) -> bool:
        self.written.set()
        return True


class _IdleWatch(NamespaceWatch):
    """Observes what it is told."""

    async def run(self) -> None:
        await asyncio.Event().wait()


async def _measure(count: int, changes: int) -> None:
    listener = _Listener(count)
    publishing = asyncio.create_task(listener.publication.run())
    while listener.keyframes() < count:  # noqa: ASYNC110 - it happens once
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.1)
    began = time.process_time()
    for number in range(changes):
        listener.writer.written.clear()
        listener.change(number % count, weight=float(number + 2))
        await listener.writer.written.wait()
        await asyncio.sleep(0.003)  # longer than a turn, so that each change has one
    change_ms = (time.process_time() - began) / changes * 1000
    began = time.process_time()
    await asyncio.sleep(10)
    idle_ms = (time.process_time() - began) * 100
    began = time.process_time()
    for family in listener.gauges.collect():
        assert family.samples
    scrape_ms = (time.process_time() - began) * 1000
    publishing.cancel()
    listener.gauges.close()
    print(
        f"    {count:,} namespaces: {change_ms:.2f} ms of CPU a change, {idle_ms:.1f} ms a second when idle, "
        f"{scrape_ms:.1f} ms a scrape",
        flush=True,
    )


class _Listener:
    """The parts of a listener that a change goes through."""

    def __init__(self, count: int) -> None:
        settings, nacos = ListenerSettings(), NacosSettings()
        self.writer = _Writer()
        unused: Any = None
        writer: Any = self.writer
        ownership = Ownership()
        self.publication = Publication(
            settings=settings,
            log=EventLog(codecs().registry_event, writer, ownership, datacenter=settings.datacenter),
            writer=writer,
            quarantine=unused,
            link_of=self._link_of,
        )
        supervisor = Supervisor()
        self.namespaces = Namespaces(
            cluster=unused,
            nacos=nacos,
            settings=settings,
            partitions=PARTITIONS,
            publication=self.publication,
            make_watch=lambda namespace: _IdleWatch(
                Watched(
                    view=NamespaceView(namespace, services_complete=True, configs_complete=True),
                    cluster=unused,
                    nacos=nacos,
                    settings=settings,
                    quarantine=unused,
                    changed=lambda: self._changed(namespace),
                ),
                supervisor,
            ),
            on_complete=lambda: None,
            supervisor=supervisor,
        )
        self.gauges = metrics.NamespaceGauges(settings.datacenter, self.namespaces.facts)
        for partition in range(PARTITIONS):
            ownership.win(partition, 1)
            self.publication.open(partition, 1)
        self._names = [Namespace(f"ns-{number}") for number in range(count)]
        for name in self._names:
            self.namespaces._watch(name)  # noqa: SLF001 - as a look at the list of namespaces does
            self._watched(name).state(SERVICE, _seen(1.0))

    def change(self, number: int, weight: float) -> None:
        self._watched(self._names[number]).state(SERVICE, _seen(weight))

    def keyframes(self) -> int:
        return sum(len(tenure.keyframes.laid) for tenure in self.publication.tenures.values())

    def _watched(self, name: Namespace) -> Watched:
        return self.namespaces.watches[name]._watched  # noqa: SLF001 - as Nacos's answers do

    def _link_of(self, partition: int) -> tuple[Link, str]:
        return self.namespaces.link_of(partition)

    def _changed(self, namespace: Namespace) -> None:
        self.namespaces.changed(namespace)
        self.publication.changed(namespace)


def _seen(weight: float) -> Observation:
    return Observation(visible=(Instance("10.0.0.1", 8080, "DEFAULT", weight, True, True, True, {}),))
