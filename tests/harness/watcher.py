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
from runtime import metrics as runtime_metrics
from runtime.backoff import Backoff
from runtime.supervision import Supervisor
from schemas.events import Namespace, ServiceKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Counter

    from schemas.events import Link, RegistryBody


@dataclass(slots=True)
class KeptQuarantine:
    """In place of the quarantine topic."""

    reasons: list[str] = field(default_factory=list)

    def set_aside(self, namespace: Namespace, key: object, *, reason: str, detail: str, value: object) -> None:  # noqa: ARG002
        self.reasons.append(reason)


class Watcher:
    """Watches until the end of the `with`; `published` is what the log would have got, in order.

    No part of the watch may fail, unless `parts_may_fail`.
    """

    def __init__(
        self,
        *servers: str,
        namespace: str = "public",
        nacos: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        parts_may_fail: bool = False,
    ) -> None:
        self.parts_may_fail = parts_may_fail
        self.nacos = NacosSettings(servers=servers, **(nacos or {}))
        quick = {"listing_interval_s": 0.2, "http_interval_s": 0.3, "config_interval_s": 0.5}
        self.settings = ListenerSettings(
            **{"datacenter": "test", "removal_grace_s": 1.0, "sweep_interval_s": 1.0} | quick | (settings or {})
        )
        self.view = NamespaceView(Namespace(namespace))
        self.published: list[RegistryBody] = []
        self.quarantine = KeptQuarantine()
        self.supervisor = Supervisor()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._failed_before = _failures()
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        failed = _failures() - self._failed_before
        assert not failed or self.parts_may_fail, f"{failed:.0f} parts failed"

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls on the watch's event loop."""

        async def run() -> Any:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def link(self) -> Link:
        return self._watch.link()[0]

    def detail(self) -> str:
        return self._watch.link()[1]

    @property
    def watch(self) -> NamespaceWatch:
        return self._watch

    def login(self) -> str:
        return self._cluster.login

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
            ),
            self.supervisor,
        )
        self._task = self.supervisor.task("watch of a namespace", self._watch.run, restart=Backoff(0.1, 1.0))

    async def _stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._cluster.__aexit__()

    def _changed(self) -> None:
        if self.view.complete:
            for difference in self.view.differences():
                self.view.publish(difference)
                self.published.append(difference.body)


def _failures() -> float:
    """Parts that failed so far, of any kind."""
    return sum(
        sample.value
        for metric in runtime_metrics.PART_FAILURES.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )
