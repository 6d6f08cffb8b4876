"""A namespace that is being watched: what its parts share, and how observations enter its view."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from producers import metrics
from producers.errors import NacosGarbageError
from producers.listener import observation as known
from producers.listener.observation import NOTHING, Observation
from producers.nacos.service_info import Hosts, parse_service_info
from runtime.backoff import Backoff
from schemas.events import ConfigKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.listener.namespace_view import NamespaceView
    from producers.listener.quarantine import Quarantine
    from producers.nacos.cluster import NacosCluster
    from producers.nacos.service_info import ServiceInfo
    from producers.settings import ListenerSettings, NacosSettings
    from schemas.events import Namespace, ServiceKey

_log = structlog.get_logger()


def new_backoff() -> Backoff:
    """The pauses between connections to Nacos, of whatever follows one."""
    return Backoff(first_s=0.2, max_s=10.0)


def now_us() -> int:
    """The time, in microseconds since 1970 (UTC)."""
    return time.time_ns() // 1000


@dataclass(slots=True, kw_only=True)
class Watched:
    """What everything that watches a namespace shares; used on the event loop only.

    `changed` is called after each observation, and when the view may have become complete. `doubtful` holds the
    services whose true state should be looked at soon; `told` counts what was said of a service, so that an answer
    knows whether a push overtook it.
    """

    view: NamespaceView
    cluster: NacosCluster
    nacos: NacosSettings
    settings: ListenerSettings
    quarantine: Quarantine
    changed: Callable[[], None]
    doubtful: dict[ServiceKey, None] = field(default_factory=dict)
    told: dict[ServiceKey, int] = field(default_factory=dict)
    heard_at: float = field(default_factory=time.monotonic)

    @property
    def namespace(self) -> Namespace:
        """Its id."""
        return self.view.namespace

    @property
    def labels(self) -> tuple[str, str]:
        """Datacenter and namespace, for metrics."""
        return self.settings.datacenter, metrics.namespace_label(self.namespace)

    def heard(self) -> None:
        """Nacos said something."""
        self.heard_at = time.monotonic()

    def take(self, info: Any, *, removals_believed: bool, expected: ServiceKey | None) -> tuple[ServiceInfo, bool]:
        """Observes a `serviceInfo` that was pushed or answered: what it said, and whether removals were withheld.

        Raises:
            NacosGarbageError: it can't be read, or is of another service than expected; nothing of it is used.
        """
        at = now_us()
        self.heard()
        parsed = parse_service_info(info, self.view.stated_instances_of)
        key = parsed.key
        if key != expected:
            raise NacosGarbageError(f"a serviceInfo of {key} in place of {expected}")
        self.set_aside(key, parsed.hosts)
        former = self.view.observed.get(key, NOTHING)
        after = known.pushed(former, parsed)
        withheld = False
        if not removals_believed:
            after, withheld = known.without_removals(former, after)
            if withheld:
                metrics.REMOVALS_WITHHELD.labels(*self.labels).inc()
        if former is not NOTHING and known.is_doubtful(former, after, parsed):
            self.doubtful[key] = None
        self._observe(key, after, at)
        return parsed, withheld

    def correct(self, key: ServiceKey, after: Observation) -> None:
        """Observes what the catalog put right."""
        if self.view.observed.get(key) != after:
            metrics.CORRECTIONS.labels(*self.labels).inc()
            self._observe(key, after, now_us())

    def state(self, key: ServiceKey, after: Observation) -> None:
        """Observes what was asked for, where nothing is pushed."""
        if self.view.observed.get(key) != after:
            self._observe(key, after, now_us())

    def forget(self, key: ServiceKey) -> None:
        """The service is gone."""
        self.view.forget(key, now_us())
        self.doubtful.pop(key, None)
        self.told.pop(key, None)
        self.changed()

    def leave_out(self, key: ServiceKey | ConfigKey, error: Exception, *, is_news: bool) -> None:
        """The service or config item exists and can't be observed: the server refuses it, or tells nonsense."""
        kind = "config item" if isinstance(key, ConfigKey) else "service"
        if is_news:
            metrics.REFUSALS.labels(*self.labels, kind.replace(" ", "_")).inc()
            _log.warning("set_aside", namespace=self.namespace, kind=kind, key=key, reason=str(error))
        self.view.leave_out(key, str(error))
        self.changed()

    def garbage(self, error: str) -> None:
        """Something could not be read."""
        metrics.GARBAGE.labels(*self.labels).inc()
        _log.warning("garbage from nacos", namespace=self.namespace, error=error)

    def set_aside(self, key: ServiceKey, hosts: Hosts) -> None:
        """Quarantines the bad instances of a list."""
        for bad in hosts.bad:
            self.quarantine.set_aside(
                self.namespace,
                key,
                reason=bad.reason,
                detail=f"service {key.group}@@{key.service}: {bad.detail}",
                value=bad.host,
            )

    def set_config_aside(self, key: ConfigKey, *, reason: str, detail: str, value: str) -> None:
        """Quarantines a config item."""
        detail = f"config item {key.group}/{key.data_id}: {detail}"
        self.quarantine.set_aside(self.namespace, key, reason=reason, detail=detail, value=value)

    def _observe(self, key: ServiceKey, after: Observation, at: int) -> None:
        self.told[key] = self.told.get(key, 0) + 1
        self.view.observe(key, after, at)
        self.changed()
