"""What Nacos says of a namespace now, what the log has of it, and what differs. Pure but for its own state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from producers.listener.diff import StatedService, diff, state
from schemas.events import (
    ConfigGone,
    ConfigKey,
    ConfigState,
    Namespace,
    RegistryBody,
    ServiceGone,
    ServiceKey,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from producers.listener.observation import Observation
    from schemas.events import Instance, InstanceKey


class Difference(NamedTuple):
    """What the log lacks: the event that tells it, what stands after it, when it was observed (microseconds)."""

    key: ServiceKey | ConfigKey
    body: RegistryBody
    after: StatedService | ConfigState | None
    at: int


@dataclass(slots=True)
class NamespaceView:
    """The latest observation of each service and config item, and which of them the log does not have yet.

    Latest wins: a service observed a hundred times while Kafka is away becomes one event. So memory is bounded
    by the size of the registry. Not complete until every listed service, and every config item, was observed once.
    """

    namespace: Namespace
    services_complete: bool = False
    configs_complete: bool = False
    observed: dict[ServiceKey, Observation] = field(default_factory=dict)
    configs: dict[ConfigKey, ConfigState] = field(default_factory=dict)
    _stated: dict[ServiceKey, StatedService] = field(default_factory=dict)
    _stated_configs: dict[ConfigKey, ConfigState] = field(default_factory=dict)
    _dirty: dict[ServiceKey, int] = field(default_factory=dict)
    _dirty_configs: dict[ConfigKey, int] = field(default_factory=dict)
    _stated_instances: int = 0

    @property
    def complete(self) -> bool:
        """Whether all of the namespace was observed, so that what is missing is not there."""
        return self.services_complete and self.configs_complete

    @property
    def stated_instances(self) -> int:
        """Instances as the log has them; kept up to date, because it is asked for at every heartbeat."""
        return self._stated_instances

    def stated_instances_of(self, key: ServiceKey) -> Mapping[InstanceKey, Instance]:
        """A service's instances as the log has them."""
        stated = self._stated.get(key)
        return {} if stated is None else stated.instances

    @property
    def dirty(self) -> int:
        """Services and config items that may differ from the log."""
        return len(self._dirty) + len(self._dirty_configs)

    def observe(self, key: ServiceKey, observation: Observation, at: int) -> None:
        """Nacos says this of the service."""
        self.observed[key] = observation
        self._dirty.setdefault(key, at)

    def forget(self, key: ServiceKey, at: int) -> None:
        """Nacos no longer lists the service."""
        if self.observed.pop(key, None) is not None or key in self._stated:
            self._dirty.setdefault(key, at)

    def observe_config(self, item: ConfigState, at: int) -> None:
        """Nacos says that this is the item's text."""
        self.configs[item.key] = item
        self._dirty_configs.setdefault(item.key, at)

    def forget_config(self, key: ConfigKey, at: int) -> None:
        """The item was deleted."""
        if self.configs.pop(key, None) is not None or key in self._stated_configs:
            self._dirty_configs.setdefault(key, at)

    def forget_stated(self) -> None:
        """Nothing of this is in the present session's log yet."""
        self._stated.clear()
        self._stated_configs.clear()
        self._dirty.clear()
        self._dirty_configs.clear()
        self._stated_instances = 0

    def differences(self) -> Iterator[Difference]:
        """What must be published, oldest observation first.

        The caller calls `publish` for each that the log will have, and stops at the first that it won't.
        """
        for key, at in list(self._dirty.items()):
            difference = self._service_difference(key, at)
            if difference is None:
                self._dirty.pop(key, None)
            else:
                yield difference
        for item, at in list(self._dirty_configs.items()):
            difference = self._config_difference(item, at)
            if difference is None:
                self._dirty_configs.pop(item, None)
            else:
                yield difference

    def statement(self, key: ServiceKey | ConfigKey, at: int) -> Difference | None:
        """The event that states the service or item as last observed; None when it is gone."""
        if isinstance(key, ConfigKey):
            config = self.configs.get(key)
            return None if config is None else Difference(key, config, config, at)
        observation = self.observed.get(key)
        return None if observation is None else Difference(key, *state(key, observation), at)

    def publish(self, difference: Difference) -> None:
        """The log has the event: its `after` is what stands now."""
        key, after = difference.key, difference.after
        if isinstance(key, ConfigKey):
            self._stated_configs.pop(key, None)
            if isinstance(after, ConfigState):
                self._stated_configs[key] = after
            self._dirty_configs.pop(key, None)
            return
        former = self._stated.pop(key, None)
        self._stated_instances -= 0 if former is None else len(former.instances)
        if isinstance(after, StatedService):
            self._stated[key] = after
            self._stated_instances += len(after.instances)
        self._dirty.pop(key, None)

    def _service_difference(self, key: ServiceKey, at: int) -> Difference | None:
        observation = self.observed.get(key)
        stated = self._stated.get(key)
        if observation is None:
            return None if stated is None else Difference(key, ServiceGone(key=key), None, at)
        if stated is None:
            return Difference(key, *state(key, observation), at)
        body, after = diff(key, stated, observation)
        return None if body is None else Difference(key, body, after, at)

    def _config_difference(self, key: ConfigKey, at: int) -> Difference | None:
        config = self.configs.get(key)
        stated = self._stated_configs.get(key)
        if config is None:
            return None if stated is None else Difference(key, ConfigGone(key=key), None, at)
        return None if config == stated else Difference(key, config, config, at)
