"""Which namespaces this listener watches: those wanted, of the partitions that are ours, as they come and go."""

from __future__ import annotations

import asyncio
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import structlog

from producers import metrics
from producers.errors import NacosError
from runtime.backoff import Backoff
from schemas.events import Link, Namespace
from schemas.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.listener.namespace_watch import NamespaceWatch
    from producers.listener.publication import Publication
    from producers.nacos.cluster import NacosCluster
    from producers.settings import ListenerSettings, NacosSettings
    from runtime.supervision import Supervisor

_log = structlog.get_logger()

_MISSED_LISTINGS_UNTIL_GONE = 2
_SOON_S = 1.0
_LINK_VALUE = {Link.LIVE: 2, Link.DEGRADED: 1, Link.BLIND: 0}
_ORDER = [Link.LIVE, Link.DEGRADED, Link.BLIND]


class Namespaces:
    """Starts and ends the watch of each namespace; used on the event loop only.

    `make_watch` builds one. A watch that fails is started again by itself; the others go on.
    """

    def __init__(
        self,
        *,
        cluster: NacosCluster,
        nacos: NacosSettings,
        settings: ListenerSettings,
        partitions: int,
        publication: Publication,
        make_watch: Callable[[Namespace], NamespaceWatch],
        supervisor: Supervisor,
    ) -> None:
        self.watches: dict[Namespace, NamespaceWatch] = {}
        self._cluster = cluster
        self._nacos = nacos
        self._settings = settings
        self._partitions = partitions
        self._publication = publication
        self._make_watch = make_watch
        self._supervisor = supervisor
        self._tasks: dict[Namespace, asyncio.Task[None]] = {}
        self._missed: dict[Namespace, tuple[int, float]] = {}
        self._owned_changed = asyncio.Event()
        self._detail = "not asked yet"
        self._answers = False

    async def run(self) -> None:
        """Looks for namespaces until cancelled; then ends all watches."""
        try:
            while True:
                await self._look()
                self._owned_changed.clear()
                # Until Nacos answers for the first time, ask often: start-up should not take a whole interval.
                pause = self._settings.namespace_interval_s if self._answers else _SOON_S
                try:
                    async with asyncio.timeout(pause):
                        await self._owned_changed.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def measure(self) -> None:
        """Keeps the gauges up to date until cancelled."""
        while True:
            for namespace, watch in self.watches.items():
                labels = (self._settings.datacenter, metrics.namespace_label(namespace))
                metrics.SERVICES.labels(*labels).set(len(watch.view.observed))
                metrics.INSTANCES.labels(*labels).set(watch.view.stated_instances)
                metrics.CONFIG_ITEMS.labels(*labels).set(len(watch.view.configs))
                metrics.LINK.labels(*labels).set(_LINK_VALUE[watch.link()[0]])
                metrics.CONTACT_AGE.labels(*labels).set(time.monotonic() - watch.heard_at)
            await asyncio.sleep(1.0)

    def won(self, partition: int) -> None:
        """The partition is ours: its namespaces are watched as soon as they are known."""
        for namespace, watch in self.watches.items():
            if self.partition(namespace) == partition:
                self._publication.add(partition, watch.view)
        self._owned_changed.set()

    def gave_up(self, partitions: list[int]) -> None:
        """The partitions are no longer ours."""
        for namespace in list(self.watches):
            if self.partition(namespace) in partitions:
                self._unwatch(namespace)

    def link_of(self, partition: int) -> tuple[Link, str]:
        """The worst link among the partition's namespaces; without any, whether Nacos answers at all."""
        links = [watch.link() for ns, watch in self.watches.items() if self.partition(ns) == partition]
        if not links:
            return (Link.LIVE, "no namespaces here") if self._answers else (Link.BLIND, self._detail)
        return max(links, key=lambda link: _ORDER.index(link[0]))

    def partition(self, namespace: Namespace) -> int:
        """Where its events go."""
        return partition_of(namespace, self._partitions)

    async def _look(self) -> None:
        try:
            wanted = await self._wanted()
        except NacosError as error:
            self._answers, self._detail = False, str(error)
            _log.warning("cannot list namespaces", error=str(error))
            return
        self._answers = True
        for namespace in wanted - self.watches.keys():
            if self.partition(namespace) in self._publication.tenures:
                self._watch(namespace)
        self._note_missing(self.watches.keys() - wanted)

    async def _wanted(self) -> frozenset[Namespace]:
        """Named ones whether listed or not; of those listed, the ones that match a pattern."""
        patterns = self._nacos.namespaces
        named = frozenset(Namespace(pattern) for pattern in patterns if not set(pattern) & set("*?["))
        if patterns and len(named) == len(patterns):
            await self._cluster.api()
            return named
        listed = await (await self._cluster.api()).namespaces()
        matching = {ns for ns in listed if any(fnmatchcase(ns, pattern) for pattern in patterns or ("*",))}
        return named | matching

    def _note_missing(self, missing: set[Namespace]) -> None:
        """A namespace is gone when two listings lack it, a grace period apart, and nothing is registered in it.

        Nacos deletes a namespace's name, not what applications registered under it.
        """
        now = time.monotonic()
        self._missed = {
            ns: (self._missed.get(ns, (0, now))[0] + 1, self._missed.get(ns, (0, now))[1]) for ns in missing
        }
        for namespace, (times, since) in list(self._missed.items()):
            registered = any(known.instances for known in self.watches[namespace].view.observed.values())
            long_enough = now - since >= self._settings.removal_grace_s
            if times >= _MISSED_LISTINGS_UNTIL_GONE and long_enough and not registered:
                del self._missed[namespace]
                self._unwatch(namespace)
                self._publication.remove(self.partition(namespace), namespace)

    def _watch(self, namespace: Namespace) -> None:
        watch = self._make_watch(namespace)
        task = self._supervisor.task("watch of a namespace", watch.run, restart=Backoff(1.0, 60.0))
        self.watches[namespace], self._tasks[namespace] = watch, task
        self._publication.add(self.partition(namespace), watch.view)

    def _unwatch(self, namespace: Namespace) -> None:
        if self.watches.pop(namespace, None) is not None:
            self._tasks.pop(namespace).cancel()
            metrics.forget_namespace(self._settings.datacenter, namespace)
