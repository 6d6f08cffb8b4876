"""Which namespaces this listener watches: those wanted, of the partitions that are ours, as they come and go."""

from __future__ import annotations

import asyncio
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import structlog

from producers import metrics
from producers.errors import NacosError, NacosGarbageError, NacosRefusedError
from runtime.backoff import Backoff
from schemas.events import Link, Namespace
from schemas.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from producers.listener.namespace_watch import NamespaceWatch
    from producers.listener.publication import Publication
    from producers.nacos.cluster import NacosCluster
    from producers.settings import ListenerSettings, NacosSettings
    from runtime.supervision import Supervisor

_log = structlog.get_logger()

_MISSED_LISTINGS_UNTIL_GONE = 2
_SOON_S = 1.0
_LINK_VALUE = {Link.LIVE: 2, Link.DEGRADED: 1, Link.BLIND: 0}


class Namespaces:
    """Starts and ends the watch of each namespace; used on the event loop only.

    `make_watch` builds one. A watch that fails is started again by itself; the others go on. `on_complete` is
    called when every namespace that is watched was observed as a whole.
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
        on_complete: Callable[[], None],
        supervisor: Supervisor,
    ) -> None:
        self.watches: dict[Namespace, NamespaceWatch] = {}
        self._cluster = cluster
        self._nacos = nacos
        self._settings = settings
        self._partitions = partitions
        self._publication = publication
        self._make_watch = make_watch
        self._on_complete = on_complete
        self._supervisor = supervisor
        self._tasks: dict[Namespace, asyncio.Task[None]] = {}
        self._of_partition: dict[int, dict[Namespace, None]] = {}
        self._incomplete: set[Namespace] = set()
        self._ending: set[asyncio.Task[None]] = set()
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
            await asyncio.gather(*self._tasks.values(), *self._ending, return_exceptions=True)

    def facts(self) -> dict[str, metrics.NamespaceFacts]:
        """The gauges of each namespace; called on any thread."""
        now = time.monotonic()
        return {
            namespace: metrics.NamespaceFacts(
                services=len(watch.view.observed),
                instances=watch.view.stated_instances,
                config_items=len(watch.view.configs),
                link=_LINK_VALUE[watch.link()[0]],
                contact_age_s=now - watch.heard_at,
                services_refused=len(watch.refused_services),
                services_left_to_find=watch.left_to_find,
                config_items_refused=len(watch.refused_items),
                config_items_unknown=int(bool(watch.view.unknown_item_groups)),
            )
            for namespace, watch in list(self.watches.items())
        }

    def won(self, partition: int) -> None:
        """The partition is ours: its namespaces are watched as soon as they are known."""
        for namespace in self._of_partition.get(partition, ()):
            self._publication.add(partition, self.watches[namespace].view)
        self._owned_changed.set()

    def gave_up(self, partitions: Iterable[int]) -> None:
        """The partitions are no longer ours."""
        for partition in partitions:
            for namespace in list(self._of_partition.get(partition, ())):
                self._unwatch(namespace)

    def changed(self, namespace: Namespace) -> None:
        """Something was observed; called after each change, so it looks at that namespace only."""
        watch = self.watches.get(namespace)
        if watch is not None and namespace in self._incomplete and watch.view.complete:
            self._incomplete.discard(namespace)
            self._note_complete()

    def link_of(self, partition: int) -> tuple[Link, str]:
        """The worst link among the partition's namespaces; without any, whether Nacos answers at all."""
        links = [self.watches[namespace].link() for namespace in self._of_partition.get(partition, ())]
        if not links:
            return (Link.LIVE, "no namespaces here") if self._answers else (Link.BLIND, self._detail)
        return min(links, key=lambda link: _LINK_VALUE[link[0]])

    def stale_of(self, partition: int) -> str:
        """What of the partition's data is old, and why; empty when nothing is."""
        link, detail = self.link_of(partition)
        if link is Link.BLIND:
            return f"Nacos: {detail}"
        unknown = {
            namespace: reasons
            for namespace in self._of_partition.get(partition, ())
            if (reasons := self.watches[namespace].view.unknown_item_groups)
        }
        for namespace, reasons in unknown.items():
            reason = next(iter(reasons.values()))
            return f"config items of {len(unknown)} namespaces are unknown, of {namespace} because of {reason}"
        return ""

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
        self._note_complete()

    async def _wanted(self) -> frozenset[Namespace]:
        """Named ones whether listed or not; of those listed, the ones that match a pattern.

        Where the server refuses to list, the named ones and those that are watched already.
        """
        patterns = self._nacos.namespaces
        named = frozenset(Namespace(pattern) for pattern in patterns if not set(pattern) & set("*?["))
        api = await self._cluster.api()
        if patterns and len(named) == len(patterns):
            return named
        try:
            listed = await api.namespaces()
        except (NacosRefusedError, NacosGarbageError) as error:
            if not named:
                raise
            _log.warning("cannot list namespaces", error=str(error))
            return named | self.watches.keys()
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
            view = self.watches[namespace].view
            # What could not be observed may well have instances.
            registered = bool(view.left_out) or any(known.instances for known in view.observed.values())
            long_enough = now - since >= self._settings.removal_grace_s
            if times >= _MISSED_LISTINGS_UNTIL_GONE and long_enough and not registered:
                del self._missed[namespace]
                self._unwatch(namespace)
                self._publication.remove(self.partition(namespace), namespace)

    def _watch(self, namespace: Namespace) -> None:
        watch = self._make_watch(namespace)
        task = self._supervisor.task("watch of a namespace", watch.run, restart=Backoff(1.0, 60.0))
        self.watches[namespace], self._tasks[namespace] = watch, task
        self._of_partition.setdefault(self.partition(namespace), {})[namespace] = None
        self._incomplete.add(namespace)
        self._publication.add(self.partition(namespace), watch.view)

    def _unwatch(self, namespace: Namespace) -> None:
        if self.watches.pop(namespace, None) is not None:
            self._of_partition[self.partition(namespace)].pop(namespace, None)
            self._incomplete.discard(namespace)
            task = self._tasks.pop(namespace)
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()

    def _note_complete(self) -> None:
        if self._answers and not self._incomplete:
            self._on_complete()
