"""A watch of one namespace without Kafka: what it would publish is kept in a list."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from producers import metrics
from producers.listener.namespace_view import NamespaceView
from producers.listener.namespace_watch import NamespaceWatch
from producers.listener.watched import Watched
from producers.nacos.cluster import NacosCluster
from producers.settings import ListenerSettings, NacosSettings
from schemas.events import Namespace, ServiceKey

if TYPE_CHECKING:
    from prometheus_client import Counter

    from schemas.events import Link, RegistryBody


@dataclass(slots=True)
class KeptQuarantine:
    """In place of the quarantine topic."""

    reasons: list[str] = field(default_factory=list)

    def set_aside(self, namespace: Namespace, key: object, *, reason: str, detail: str, value: object) -> None:  # noqa: ARG002
        self.reasons.append(reason)


class Watcher:
    """Watches until the end of the `with`; `published` is what the log would have got, in order."""

    def __init__(
        self,
        *servers: str,
        namespace: str = "public",
        nacos: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.nacos = NacosSettings(servers=servers, **(nacos or {}))
        quick = {"listing_interval_s": 0.2, "http_interval_s": 0.3, "config_interval_s": 0.5}
        self.settings = ListenerSettings(
            **{"datacenter": "test", "removal_grace_s": 1.0, "sweep_interval_s": 1.0} | quick | (settings or {})
        )
        self.view = NamespaceView(Namespace(namespace))
        self.published: list[RegistryBody] = []
        self.quarantine = KeptQuarantine()
        self.fault: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if self.fault is not None:
            raise self.fault

    def link(self) -> Link:
        return self._watch.link()[0]

    def detail(self) -> str:
        return self._watch.link()[1]

    def version(self) -> str:
        return self._cluster.version

    def ips(self, service: str, group: str = "DEFAULT_GROUP") -> set[str] | None:
        """The addresses of a service; None when it is not known."""
        known = self.view.observed.get(ServiceKey(group, service))
        return None if known is None else {instance.ip for instance in known.instances}

    def of_type(self, kind: type) -> list[Any]:
        return [body for body in self.published if isinstance(body, kind)]

    def count(self, counter: Counter, **labels: str) -> float:
        """A metric of this namespace, whatever its other labels."""
        wanted = {"namespace": metrics.namespace_label(self.view.namespace), **labels}
        return sum(
            sample.value
            for metric in counter.collect()
            for sample in metric.samples
            if sample.name.endswith("_total") and wanted.items() <= sample.labels.items()
        )

    async def _start(self) -> None:
        self._cluster = NacosCluster(self.nacos)
        self._watch = NamespaceWatch(
            Watched(
                view=self.view,
                cluster=self._cluster,
                nacos=self.nacos,
                settings=self.settings,
                quarantine=self.quarantine,  # type: ignore[arg-type]
                changed=self._changed,
            )
        )
        self._task = asyncio.create_task(self._watch.run())
        self._task.add_done_callback(self._ended)

    async def _stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._cluster.__aexit__()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.fault = task.exception()

    def _changed(self) -> None:
        if self.view.complete:
            for difference in self.view.differences():
                self.view.publish(difference)
                self.published.append(difference.body)
