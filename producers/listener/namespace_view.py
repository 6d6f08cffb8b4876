"""What Nacos says of a namespace now, what the log has of it, and what differs. Pure but for its own state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from producers.listener.diff import StatedService, diff, state
from schemas.events import Instance, Namespace, RegistryBody, ServiceGone, ServiceKey, ServiceState

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class NamespaceView:
    """The latest observation of each service, and which of them the log does not have yet.

    Latest wins: a service observed a hundred times while Kafka is away becomes one event. So memory is bounded
    by the size of the registry. Not complete until every listed service was observed once.
    """

    namespace: Namespace
    complete: bool = False
    observed: dict[ServiceKey, tuple[Instance, ...]] = field(default_factory=dict)
    _stated: dict[ServiceKey, StatedService] = field(default_factory=dict)
    _dirty: dict[ServiceKey, int] = field(default_factory=dict)
    _stated_instances: int = 0

    def observe(self, key: ServiceKey, instances: tuple[Instance, ...], at: int) -> None:
        """Nacos says that these are the service's instances; `at` in microseconds (UTC)."""
        self.observed[key] = instances
        self._dirty.setdefault(key, at)

    def forget(self, key: ServiceKey, at: int) -> None:
        """Nacos no longer lists the service."""
        if self.observed.pop(key, None) is not None or key in self._stated:
            self._dirty.setdefault(key, at)

    def forget_stated(self) -> None:
        """Nothing of this is in the present session's log yet."""
        self._stated.clear()
        self._dirty.clear()
        self._stated_instances = 0

    @property
    def stated_instances(self) -> int:
        """Instances as the log has them; kept up to date, because it is asked for at every heartbeat."""
        return self._stated_instances

    @property
    def dirty(self) -> int:
        """Services that may differ from the log."""
        return len(self._dirty)

    def differences(self) -> Iterator[tuple[ServiceKey, RegistryBody, StatedService | None, int]]:
        """What must be published, oldest observation first: key, event, what stands after it, when observed.

        The caller calls `publish` for each that the log will have, and stops at the first that it won't.
        """
        for key, at in list(self._dirty.items()):
            instances = self.observed.get(key)
            stated = self._stated.get(key)
            if instances is None:
                if stated is not None:
                    yield key, ServiceGone(key=key), None, at
                self._dirty.pop(key, None)
            elif stated is None:
                body, after = state(key, instances)
                yield key, body, after, at
            else:
                delta, after = diff(key, stated, instances)
                if delta is not None:
                    yield key, delta, after, at
                else:
                    self._dirty.pop(key, None)

    def statement(self, key: ServiceKey) -> tuple[ServiceState, StatedService] | None:
        """The event that states the service as last observed, and what stands after it; None when it is gone."""
        instances = self.observed.get(key)
        return None if instances is None else state(key, instances)

    def publish(self, key: ServiceKey, after: StatedService | None) -> None:
        """The log has the event: this is what stands now."""
        former = self._stated.pop(key, None)
        self._stated_instances -= 0 if former is None else len(former.instances)
        if after is not None:
            self._stated[key] = after
            self._stated_instances += len(after.instances)
        self._dirty.pop(key, None)
