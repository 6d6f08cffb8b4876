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
- The version moves at each event that changes content and at each operator's decision, and never else: it does not
  depend on batches.
- An event that was read before comes again from a mirrored topic: it is passed over.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from consumers.materializer.conversion.endpoint import fold_instance
from consumers.materializer.decider import Decider
from consumers.materializer.fold_state import (
    DatacenterState,
    NamespaceState,
    PartitionState,
    Sync,
    Touched,
)
from consumers.materializer.folded_item import fold_item, holds_resources
from consumers.materializer.folded_service import FoldedService
from consumers.materializer.guard import Guard, Keyframe, Place
from schemas.digests import SERVICE_DIGEST_MODULUS
from schemas.events import (
    ConfigGone,
    ConfigKey,
    ConfigState,
    Heartbeat,
    Link,
    Namespace,
    NamespaceGone,
    RegistryEvent,
    ServiceDelta,
    ServiceGone,
    ServiceKey,
    ServiceState,
    SyncCompleted,
    SyncStarted,
)

if TYPE_CHECKING:
    from consumers.materializer.conversion.config_item import BadItemError
    from consumers.materializer.conversion.endpoint import FoldedInstance
    from consumers.materializer.folded_item import ResourceId
    from consumers.materializer.folded_service import Transition
    from consumers.settings import ConversionSettings, GuardSettings
    from schemas.events import InstanceKey


class Outcome(StrEnum):
    """What became of an event."""

    APPLIED = "applied"
    ZOMBIE = "zombie"
    DUPLICATE = "duplicate"
    MISMATCH = "mismatch"
    INCOMPLETE_KEYFRAME = "incomplete_keyframe"
    BAD_ITEM = "bad_item"
    BEFORE_KEYFRAME = "before_keyframe"


class Fold:
    """Applies events to a partition's state, one at a time, in log order; its `decider` decisions in between.

    Equal settings, events and decisions make equal states, on any machine.
    """

    def __init__(self, settings: ConversionSettings, guard: GuardSettings) -> None:
        self._settings = settings
        self._guard = guard
        self._guarded: set[Place] = set()
        self._default_port_name = settings.protocol.lower()
        self.faults: list[tuple[ConfigKey, BadItemError]] = []
        self.state = PartitionState()
        self.decider = Decider(self.state)

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        """Folds in the event that stands at that offset of its topic."""
        self.state.positions[topic] = offset
        outcome = self._apply(topic, offset, event)
        self.decider.carry_out_scheduled(topic, offset)
        return outcome

    def _apply(self, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        datacenter, refusal = self._enter_session(topic, event)
        if datacenter is None:
            return refusal
        datacenter.observed_at = max(datacenter.observed_at, event.observed_at)
        body = event.body
        self._guarded = datacenter.guard.tick(event.observed_at, blind=datacenter.link is Link.BLIND)
        if isinstance(body, Heartbeat):
            datacenter.link = body.link
            outcome = Outcome.APPLIED
        else:
            namespace = datacenter.namespaces.get(event.namespace)
            if namespace is None:
                namespace = datacenter.namespaces[event.namespace] = NamespaceState(first_offset=offset)
            outcome, touched = self._apply_body(datacenter, namespace, event, offset)
            if touched:
                self.state.touch(event.namespace, topic, offset, event.observed_at, touched)
        self.state.note_guarded(datacenter, self._guarded, topic, offset, event.observed_at)
        return outcome

    def _enter_session(
        self, topic: str, event: RegistryEvent
    ) -> tuple[DatacenterState, Outcome] | tuple[None, Outcome]:
        """The datacenter's state when the event is the next of its newest session; else why it is passed over."""
        datacenter = self.state.datacenters.get(event.datacenter)
        if datacenter is None:
            datacenter = self.state.datacenters[event.datacenter] = DatacenterState(
                topic=topic,
                session=event.session,
                epoch=event.epoch,
                sequence=event.sequence,
                guard=Guard(self._guard),
            )
            return datacenter, Outcome.APPLIED
        if event.epoch < datacenter.epoch or (
            event.epoch == datacenter.epoch and event.session != datacenter.session
        ):
            return None, Outcome.ZOMBIE
        if event.epoch > datacenter.epoch:
            # Half a keyframe of the former session will never be completed.
            for namespace in datacenter.namespaces.values():
                namespace.sync = None
            datacenter.session, datacenter.epoch, datacenter.topic = event.session, event.epoch, topic
            hole = event.sequence != 0
        elif event.sequence <= datacenter.sequence:
            return None, Outcome.DUPLICATE
        else:
            hole = event.sequence != datacenter.sequence + 1
        if hole:
            for namespace in datacenter.namespaces.values():
                namespace.suspect = True
                namespace.sync = None
        datacenter.sequence = event.sequence
        return datacenter, Outcome.APPLIED

    def _apply_body(
        self, datacenter: DatacenterState, namespace: NamespaceState, event: RegistryEvent, offset: int
    ) -> tuple[Outcome, Touched]:
        """Applies the event; what became of it, and what content it touched."""
        body = event.body
        if not namespace.complete and namespace.sync is None and not isinstance(body, SyncStarted | NamespaceGone):
            # A recovery that begins at another namespace's keyframe: this one's is still to come.
            return Outcome.BEFORE_KEYFRAME, Touched()
        outcome = Outcome.APPLIED
        touched = Touched()
        match body:
            case ServiceDelta(key=key):
                outcome = self._apply_delta(event, datacenter, namespace, body, touched.services)
            case ServiceState(key=key):
                if namespace.sync is not None:
                    namespace.sync.states += 1
                    namespace.sync.services.add(key)
                self._apply_state(event, datacenter, namespace, body, touched.services)
            case ServiceGone(key=key):
                if namespace.sync is not None:
                    namespace.sync.services.discard(key)
                self._remove(event, datacenter, namespace, key, touched.services)
            case ConfigState(key=item):
                outcome = self._apply_item(event.namespace, namespace, body, touched.resources)
                if namespace.sync is not None:
                    namespace.sync.config_states += 1
                    namespace.sync.configs.add(item)
            case ConfigGone(key=item):
                _remove_item(namespace, item, touched.resources)
                if namespace.sync is not None:
                    namespace.sync.configs.discard(item)
            case SyncStarted():
                namespace.gone = False
                namespace.sync = Sync(
                    beginning=Keyframe(offset, datacenter.guard.clock, not datacenter.guard.holds)
                )
            case SyncCompleted():
                outcome = self._complete(event, datacenter, namespace, body, touched)
            case NamespaceGone():
                for key in list(namespace.services):
                    self._remove(event, datacenter, namespace, key, touched.services)
                for item in list(namespace.items):
                    _remove_item(namespace, item, touched.resources)
                namespace.gone = True
                if not datacenter.guard.holds_of(event.namespace):
                    del datacenter.namespaces[event.namespace]
        if not namespace.complete:
            # Nothing of it shows before the keyframe is whole, which touches all there is.
            touched.clear()
        return outcome, touched

    def _apply_delta(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        body: ServiceDelta,
        touched: set[ServiceKey],
    ) -> Outcome:
        service = namespace.services.get(body.key)
        if service is None:
            service = namespace.services[body.key] = FoldedService(self._default_port_name)
        instances = service.instances
        replacements: dict[InstanceKey, FoldedInstance | None] = dict.fromkeys(body.removals)
        for upsert in body.upserts:
            replacements[upsert.key] = fold_instance(self._settings, event.datacenter, upsert, service.port_name)
        changed = False
        digest = service.digest
        for key, folded in replacements.items():
            former = instances.get(key)
            digest += (0 if folded is None else folded.digest) - (0 if former is None else former.digest)
            # The hash aside: what Nacos says may change without changing what Pilots see.
            changed = changed or (former and former[1:]) != (folded and folded[1:])
        service.digest = digest % SERVICE_DIGEST_MODULUS
        transition = service.replace(replacements, service.protect_threshold)
        if changed:
            service.part = None
            touched.add(body.key)
        self._note(event, datacenter, body.key, service, transition)
        if len(instances) != body.count or service.digest != body.digest:
            namespace.suspect = True
            return Outcome.MISMATCH
        return Outcome.APPLIED

    def _apply_state(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        body: ServiceState,
        touched: set[ServiceKey],
    ) -> None:
        service = namespace.services.get(body.key)
        port_name = self._default_port_name if service is None else service.port_name
        instances = {
            instance.key: fold_instance(self._settings, event.datacenter, instance, port_name)
            for instance in body.instances
        }
        if (
            service is not None
            and service.protect_threshold == body.protect_threshold
            and service.instances == instances
        ):
            return
        if service is None:
            service = namespace.services[body.key] = FoldedService(port_name)
        removals: dict[InstanceKey, FoldedInstance | None] = {
            key: None for key in service.instances if key not in instances
        }
        transition = service.replace(removals | instances, body.protect_threshold)
        service.digest = sum(one.digest for one in instances.values()) % SERVICE_DIGEST_MODULUS
        service.part = None
        touched.add(body.key)
        self._note(event, datacenter, body.key, service, transition)

    def _remove(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        key: ServiceKey,
        touched: set[ServiceKey],
    ) -> None:
        service = namespace.services.pop(key, None)
        if service is not None:
            touched.add(key)
            transition = service.replace(dict.fromkeys(service.instances), service.protect_threshold)
            self._note(event, datacenter, key, service, transition)

    def _apply_item(
        self, name: Namespace, namespace: NamespaceState, body: ConfigState, touched: set[ResourceId]
    ) -> Outcome:
        if not holds_resources(self._settings, body.key):
            return Outcome.APPLIED
        former = namespace.items.get(body.key)
        item = fold_item(self._settings, name, body, former)
        if item is former:
            return Outcome.APPLIED
        if former is None or former.resources != item.resources:
            _remove_item(namespace, body.key, touched)
            touched |= item.ids
            for claimed in item.ids:
                namespace.claims.setdefault(claimed, set()).add(body.key)
        namespace.items[body.key] = item
        if item.fault is None:
            return Outcome.APPLIED
        self.faults.append((body.key, item.fault))
        return Outcome.BAD_ITEM

    def _note(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        key: ServiceKey,
        service: FoldedService,
        transition: Transition,
    ) -> None:
        """Tells the guard."""
        lost, listed, difference = transition
        if lost or listed:
            place = Place(event.namespace, key)
            self._guarded |= datacenter.guard.change(place, lost, listed, difference, service.port_name)

    def _complete(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        body: SyncCompleted,
        touched: Touched,
    ) -> Outcome:
        sync, namespace.sync = namespace.sync, None
        if sync is None or (sync.states, sync.config_states) != (body.services, body.config_items):
            namespace.suspect = True
            return Outcome.INCOMPLETE_KEYFRAME
        for key in namespace.services.keys() - sync.services:
            self._remove(event, datacenter, namespace, key, touched.services)
        for item in namespace.items.keys() - sync.configs:
            _remove_item(namespace, item, touched.resources)
        if not namespace.complete:
            namespace.complete = True
            namespace.completed_at = event.observed_at
            touched.services.update(namespace.services)
            touched.resources.update(namespace.claims)
        namespace.suspect = False
        if any(item.is_stale for item in namespace.items.values()):
            sync.beginning.is_whole = False  # what such an item stated last stands before it
        namespace.keyframes.append(sync.beginning)
        reproduced = [n for n, one in enumerate(namespace.keyframes) if datacenter.guard.is_reproduced(one)]
        del namespace.keyframes[: max(reproduced, default=0)]
        return Outcome.APPLIED


def _remove_item(namespace: NamespaceState, key: ConfigKey, touched: set[ResourceId]) -> None:
    item = namespace.items.pop(key, None)
    for claimed in () if item is None else item.ids:
        touched.add(claimed)
        namespace.claims[claimed].discard(key)
        if not namespace.claims[claimed]:
            del namespace.claims[claimed]
