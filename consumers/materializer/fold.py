"""The fold: registry events of one partition, in log order, to what Nacos knew. Pure.

The state is a product of states per datacenter, so the order in which datacenters' events are read does not
matter. Theory of operation, for one datacenter and namespace:

- Events count only from the session with the highest epoch; those of an older one come from a listener that
  lost its tenure and does not know it yet.
- A service's own events apply at once: they are facts. A keyframe (SyncStarted ... SyncCompleted) takes
  nothing away before its end; then whatever it did not state is gone. Until a first keyframe is whole the
  namespace has no content that may be published.
- A hole in the sequence makes all namespaces of the session suspect until their next keyframes; so does a
  delta that does not amount to the count and digest it names.
- The version moves at each event that changes content, and never else: it does not depend on batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from consumers.materializer.conversion.endpoint import FoldedInstance, fold_instance, rename_port
from schemas.digests import SERVICE_DIGEST_MODULUS
from schemas.events import (
    ConfigGone,
    ConfigKey,
    ConfigState,
    Datacenter,
    Heartbeat,
    InstanceKey,
    Link,
    Namespace,
    NamespaceGone,
    RegistryEvent,
    ServiceDelta,
    ServiceGone,
    ServiceKey,
    ServiceState,
    SessionId,
    SyncCompleted,
    SyncStarted,
)

if TYPE_CHECKING:
    from consumers.settings import ConversionSettings
    from schemas.records import Part


class Outcome(StrEnum):
    """What became of an event."""

    APPLIED = "applied"
    ZOMBIE = "zombie"
    MISMATCH = "mismatch"
    INCOMPLETE_KEYFRAME = "incomplete_keyframe"
    BEFORE_KEYFRAME = "before_keyframe"


@dataclass(slots=True)
class FoldedService:
    """A service in one datacenter; `part` is its encoded endpoints, None when they have to be encoded."""

    port_name: str
    protect_threshold: float = 0.0
    digest: int = 0
    instances: dict[InstanceKey, FoldedInstance] = field(default_factory=dict)
    part: Part | None = None
    part_is_named: bool = False

    def use_port_name(self, port_name: str) -> None:
        """Renames the logical port in every endpoint."""
        if port_name == self.port_name:
            return
        self.port_name = port_name
        self.part = None
        self.instances = {
            key: instance._replace(endpoint=rename_port(instance.endpoint, port_name))
            for key, instance in self.instances.items()
        }


@dataclass(slots=True, kw_only=True)
class _Sync:
    """A keyframe that is being read."""

    offset: int
    states: int = 0
    services: set[ServiceKey] = field(default_factory=set)
    config_states: int = 0
    configs: set[ConfigKey] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class NamespaceState:
    """A namespace in one datacenter; `keyframe_offset` is where its newest whole keyframe begins."""

    first_offset: int
    services: dict[ServiceKey, FoldedService] = field(default_factory=dict)
    configs: dict[ConfigKey, ConfigState] = field(default_factory=dict)
    complete: bool = False
    suspect: bool = False
    keyframe_offset: int | None = None
    sync: _Sync | None = None


@dataclass(slots=True, kw_only=True)
class DatacenterState:
    """What one datacenter's listener said in this partition."""

    session: SessionId
    epoch: int
    sequence: int
    link: Link = Link.LIVE
    observed_at: int = 0
    namespaces: dict[Namespace, NamespaceState] = field(default_factory=dict)


@dataclass(slots=True)
class NamespaceChanges:
    """A namespace across datacenters: its version, and the services to be looked at again."""

    version: dict[str, int] = field(default_factory=dict)
    observed_at: int = 0
    dirty: set[ServiceKey] = field(default_factory=set)


@dataclass(slots=True)
class PartitionState:
    """The whole state of a partition's fold."""

    datacenters: dict[Datacenter, DatacenterState] = field(default_factory=dict)
    changes: dict[Namespace, NamespaceChanges] = field(default_factory=dict)

    def is_complete(self, namespace: Namespace) -> bool:
        """Whether any datacenter has stated the namespace as a whole."""
        return any(ns.complete for ns in self.of_namespace(namespace).values())

    def of_namespace(self, namespace: Namespace) -> dict[Datacenter, NamespaceState]:
        """The namespace in each datacenter that has it, in the order of their names."""
        return {
            name: self.datacenters[name].namespaces[namespace]
            for name in sorted(self.datacenters)
            if namespace in self.datacenters[name].namespaces
        }


class Fold:
    """Applies events to a partition's state, one at a time, in log order.

    Equal settings and equal events make equal states, on any machine.
    """

    def __init__(self, settings: ConversionSettings) -> None:
        self._settings = settings
        self._default_port_name = settings.protocol.lower()
        self.state = PartitionState()

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        """Folds in the event that stands at that offset of its topic."""
        datacenter = self._enter_session(event)
        if datacenter is None:
            return Outcome.ZOMBIE
        datacenter.observed_at = max(datacenter.observed_at, event.observed_at)
        body = event.body
        if isinstance(body, Heartbeat):
            datacenter.link = body.link
            return Outcome.APPLIED
        namespace = datacenter.namespaces.get(event.namespace)
        if namespace is None:
            namespace = datacenter.namespaces[event.namespace] = NamespaceState(first_offset=offset)
        outcome, touched = self._apply_body(datacenter, namespace, event, offset)
        if touched:
            changes = self.state.changes.setdefault(event.namespace, NamespaceChanges())
            changes.version[topic] = offset
            changes.observed_at = event.observed_at
            changes.dirty |= touched
        return outcome

    def _enter_session(self, event: RegistryEvent) -> DatacenterState | None:
        """The datacenter's state when the event is of its newest session; None for a zombie's."""
        datacenter = self.state.datacenters.get(event.datacenter)
        if datacenter is None:
            datacenter = self.state.datacenters[event.datacenter] = DatacenterState(
                session=event.session, epoch=event.epoch, sequence=event.sequence
            )
            return datacenter
        if event.epoch < datacenter.epoch or (
            event.epoch == datacenter.epoch and event.session != datacenter.session
        ):
            return None
        if event.epoch > datacenter.epoch:
            # Half a keyframe of the former session will never be completed.
            for namespace in datacenter.namespaces.values():
                namespace.sync = None
            datacenter.session, datacenter.epoch = event.session, event.epoch
            hole = event.sequence != 0
        else:
            hole = event.sequence != datacenter.sequence + 1
        if hole:
            for namespace in datacenter.namespaces.values():
                namespace.suspect = True
                namespace.sync = None
        datacenter.sequence = event.sequence
        return datacenter

    def _apply_body(
        self, datacenter: DatacenterState, namespace: NamespaceState, event: RegistryEvent, offset: int
    ) -> tuple[Outcome, set[ServiceKey]]:
        """Applies the event; what became of it, and the services whose content it touched."""
        body = event.body
        if not namespace.complete and namespace.sync is None and not isinstance(body, SyncStarted | NamespaceGone):
            # A recovery that begins at another namespace's keyframe: this one's is still to come.
            return Outcome.BEFORE_KEYFRAME, set()
        outcome = Outcome.APPLIED
        touched: set[ServiceKey] = set()
        match body:
            case ServiceDelta(key=key):
                outcome = self._apply_delta(event.datacenter, namespace, body, touched)
            case ServiceState(key=key):
                if namespace.sync is not None:
                    namespace.sync.states += 1
                    namespace.sync.services.add(key)
                self._apply_state(event.datacenter, namespace, body, touched)
            case ServiceGone(key=key):
                if namespace.sync is not None:
                    namespace.sync.services.discard(key)
                if namespace.services.pop(key, None) is not None:
                    touched.add(key)
            case ConfigState(key=item):
                namespace.configs[item] = body
                if namespace.sync is not None:
                    namespace.sync.config_states += 1
                    namespace.sync.configs.add(item)
            case ConfigGone(key=item):
                namespace.configs.pop(item, None)
                if namespace.sync is not None:
                    namespace.sync.configs.discard(item)
            case SyncStarted():
                namespace.sync = _Sync(offset=offset)
            case SyncCompleted():
                outcome = self._complete(namespace, body, touched)
            case NamespaceGone():
                touched.update(namespace.services)
                del datacenter.namespaces[event.namespace]
        if not namespace.complete:
            # Nothing of it shows before the keyframe is whole, which touches all there is.
            touched.clear()
        return outcome, touched

    def _apply_delta(
        self, datacenter: Datacenter, namespace: NamespaceState, body: ServiceDelta, touched: set[ServiceKey]
    ) -> Outcome:
        service = namespace.services.get(body.key)
        if service is None:
            service = namespace.services[body.key] = FoldedService(self._default_port_name)
        changed = False
        instances = service.instances
        digest = service.digest
        for removal in body.removals:
            former = instances.pop(removal, None)
            if former is not None:
                changed = True
                digest -= former.digest
        for upsert in body.upserts:
            key = upsert.key
            folded = fold_instance(self._settings, datacenter, upsert, service.port_name)
            former = instances.get(key)
            digest += folded.digest - (0 if former is None else former.digest)
            changed = changed or former is None or former[1:] != folded[1:]
            instances[key] = folded
        service.digest = digest % SERVICE_DIGEST_MODULUS
        if changed:
            service.part = None
            touched.add(body.key)
        if len(instances) != body.count or service.digest != body.digest:
            namespace.suspect = True
            return Outcome.MISMATCH
        return Outcome.APPLIED

    def _apply_state(
        self, datacenter: Datacenter, namespace: NamespaceState, body: ServiceState, touched: set[ServiceKey]
    ) -> None:
        former = namespace.services.get(body.key)
        port_name = self._default_port_name if former is None else former.port_name
        instances = {
            instance.key: fold_instance(self._settings, datacenter, instance, port_name)
            for instance in body.instances
        }
        digest = sum(instance.digest for instance in instances.values()) % SERVICE_DIGEST_MODULUS
        if (
            former is not None
            and former.protect_threshold == body.protect_threshold
            and former.instances == instances
        ):
            return
        namespace.services[body.key] = FoldedService(port_name, body.protect_threshold, digest, instances)
        touched.add(body.key)

    def _complete(self, namespace: NamespaceState, body: SyncCompleted, touched: set[ServiceKey]) -> Outcome:
        sync, namespace.sync = namespace.sync, None
        if sync is None or (sync.states, sync.config_states) != (body.services, body.config_items):
            namespace.suspect = True
            return Outcome.INCOMPLETE_KEYFRAME
        for key in namespace.services.keys() - sync.services:
            del namespace.services[key]
            touched.add(key)
        for item in namespace.configs.keys() - sync.configs:
            del namespace.configs[item]
        if not namespace.complete:
            namespace.complete = True
            touched.update(namespace.services)
        namespace.suspect = False
        namespace.keyframe_offset = sync.offset
        return Outcome.APPLIED
