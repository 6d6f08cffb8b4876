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


class Kept(NamedTuple):
    """What a keyframe does not state and readers keep as it was; see `SyncCompleted`."""

    services: tuple[ServiceKey, ...] = ()
    all_services: bool = False
    items: tuple[ConfigKey, ...] = ()
    item_groups: tuple[str, ...] = ()


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
    by the size of the registry.

    `left_out` and `left_out_items` exist and could never be observed, with the reasons; `unwritable` ones were
    observed, and Kafka takes no record of them; of the items in `unknown_item_groups` nothing is known. A keyframe
    names all of these as kept. With `services_short` some services were not even found.
    """

    namespace: Namespace
    services_complete: bool = False
    services_short: bool = False
    configs_complete: bool = False
    unknown_item_groups: dict[str, str] = field(default_factory=dict)
    observed: dict[ServiceKey, Observation] = field(default_factory=dict)
    configs: dict[ConfigKey, ConfigState] = field(default_factory=dict)
    left_out: dict[ServiceKey, str] = field(default_factory=dict)
    left_out_items: dict[ConfigKey, str] = field(default_factory=dict)
    unwritable: dict[ServiceKey, str] = field(default_factory=dict)
    unwritable_items: dict[ConfigKey, str] = field(default_factory=dict)
    _stated: dict[ServiceKey, StatedService] = field(default_factory=dict)
    _stated_configs: dict[ConfigKey, ConfigState] = field(default_factory=dict)
    _kept: set[ServiceKey] = field(default_factory=set)
    _kept_items: set[ConfigKey] = field(default_factory=set)
    _dirty: dict[ServiceKey, int] = field(default_factory=dict)
    _dirty_configs: dict[ConfigKey, int] = field(default_factory=dict)
    _stated_instances: int = 0

    @property
    def complete(self) -> bool:
        """Whether a keyframe can be laid: each service and config item was observed, or is left out."""
        return self.services_complete and (self.configs_complete or bool(self.unknown_item_groups))

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
        self.left_out.pop(key, None)
        self._dirty.setdefault(key, at)

    def forget(self, key: ServiceKey, at: int) -> None:
        """Nacos no longer lists the service."""
        self.left_out.pop(key, None)
        self.unwritable.pop(key, None)
        if self.observed.pop(key, None) is not None or key in self._stated or key in self._kept:
            self._dirty.setdefault(key, at)

    def observe_config(self, item: ConfigState, at: int) -> None:
        """Nacos says that this is the item's text."""
        former = self.configs.get(item.key)
        if former is not None and len(item.content) < len(former.content):
            self.unwritable_items.pop(item.key, None)
        self.configs[item.key] = item
        self.left_out_items.pop(item.key, None)
        self._dirty_configs.setdefault(item.key, at)

    def forget_config(self, key: ConfigKey, at: int) -> None:
        """The item was deleted."""
        self.left_out_items.pop(key, None)
        self.unwritable_items.pop(key, None)
        if self.configs.pop(key, None) is not None or key in self._stated_configs or key in self._kept_items:
            self._dirty_configs.setdefault(key, at)

    def leave_out(self, key: ServiceKey | ConfigKey, reason: str) -> None:
        """It exists, and can't be observed; one that was observed before stands as it was."""
        if isinstance(key, ConfigKey):
            if key not in self.configs:
                self.left_out_items[key] = reason
        elif key not in self.observed:
            self.left_out[key] = reason

    def give_up_writing(self, key: ServiceKey | ConfigKey, reason: str) -> None:
        """Kafka takes no record of it: it is not written again until `try_unwritable`."""
        if isinstance(key, ConfigKey):
            self.unwritable_items[key] = reason
        else:
            self.unwritable[key] = reason

    def try_unwritable(self) -> None:
        """What Kafka took no record of is written again."""
        self.unwritable.clear()
        self.unwritable_items.clear()

    def forget_stated(self) -> None:
        """A new session begins: its log has nothing yet."""
        self._stated.clear()
        self._stated_configs.clear()
        self._kept.clear()
        self._kept_items.clear()
        self._dirty.clear()
        self._dirty_configs.clear()
        self._stated_instances = 0

    def keep(self) -> Kept:
        """What a keyframe that ends now does not state and must not take away.

        When one of these turns out to be gone, an event says so, as of what was stated.
        """
        self._kept = {*self.left_out, *self.unwritable}
        self._kept_items = {*self.left_out_items, *self.unwritable_items}
        return Kept(
            services=tuple(sorted(self._kept)),
            all_services=self.services_short,
            items=tuple(sorted(self._kept_items)),
            item_groups=tuple(sorted(self.unknown_item_groups)),
        )

    def differences(self) -> Iterator[Difference]:
        """What must be published, oldest observation first.

        The caller calls `publish` for each that the log will have, and stops at the first that it won't.
        """
        for key, at in list(self._dirty.items()):
            difference = None if key in self.unwritable else self._service_difference(key, at)
            if difference is None:
                self._dirty.pop(key, None)
            else:
                yield difference
        for item, at in list(self._dirty_configs.items()):
            difference = None if item in self.unwritable_items else self._config_difference(item, at)
            if difference is None:
                self._dirty_configs.pop(item, None)
            else:
                yield difference

    def statement(self, key: ServiceKey | ConfigKey, at: int) -> Difference | None:
        """The event that states the service or item as last observed; None when it is gone or can't be written."""
        if isinstance(key, ConfigKey):
            config = None if key in self.unwritable_items else self.configs.get(key)
            return None if config is None else Difference(key, config, config, at)
        observation = None if key in self.unwritable else self.observed.get(key)
        return None if observation is None else Difference(key, *state(key, observation), at)

    def publish(self, difference: Difference) -> None:
        """The log has the event: its `after` is what stands now."""
        key, after = difference.key, difference.after
        if isinstance(key, ConfigKey):
            self._kept_items.discard(key)
            self._stated_configs.pop(key, None)
            if isinstance(after, ConfigState):
                self._stated_configs[key] = after
            self._dirty_configs.pop(key, None)
            return
        self._kept.discard(key)
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
            is_there = stated is not None or key in self._kept
            return Difference(key, ServiceGone(key=key), None, at) if is_there else None
        if stated is None:
            return Difference(key, *state(key, observation), at)
        body, after = diff(key, stated, observation)
        return None if body is None else Difference(key, body, after, at)

    def _config_difference(self, key: ConfigKey, at: int) -> Difference | None:
        config = self.configs.get(key)
        stated = self._stated_configs.get(key)
        if config is None:
            is_there = stated is not None or key in self._kept_items
            return Difference(key, ConfigGone(key=key), None, at) if is_there else None
        return None if config == stated else Difference(key, config, config, at)
