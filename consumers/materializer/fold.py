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
  depend on batches. The end of a namespace's first whole keyframe gives it a version even if it has no content.
- An event that was read before comes again from a mirrored topic: it is passed over.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from consumers.materializer.conversion.endpoint import EndpointConverter
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
from consumers.materializer.guard import NOWHERE, Guard, Keyframe, Place
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


# Reading a member of an enumeration takes as long as five attributes, and every event does it several times.
_APPLIED, _BLIND = Outcome.APPLIED, Link.BLIND


class Fold:
    """Applies events to a partition's state, one at a time, in log order; its `decider` decisions in between.

    Equal settings, events and decisions make equal states, on any machine.
    """

    def __init__(self, settings: ConversionSettings, guard: GuardSettings) -> None:
        self._settings = settings
        self._guard = guard
        self._guarded: frozenset[Place] = NOWHERE
        self._touched = Touched()
        self._default_port_name = settings.protocol.lower()
        self.faults: list[tuple[ConfigKey, BadItemError]] = []
        self.state = PartitionState()
        self.decider = Decider(self.state)

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        """Folds in the event that stands at that offset of its topic."""
        self.state.positions[topic] = offset
        datacenter = self.state.datacenters.get(event.datacenter)
        refusal: Outcome | None = None
        if datacenter is None:
            datacenter = self.state.datacenters[event.datacenter] = self._first_session(topic, event)
        elif (
            event.sequence == datacenter.sequence + 1
            and event.session == datacenter.session
            and event.epoch == datacenter.epoch
        ):
            datacenter.sequence = event.sequence
        else:
            refusal = _change_session(datacenter, topic, event)
        outcome = refusal or self._apply(datacenter, topic, offset, event)
        if self.decider.scheduled:
            self.decider.carry_out_scheduled(topic, offset)
        return outcome

    def _apply(self, datacenter: DatacenterState, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        observed_at, body, guard, outcome = event.observed_at, event.body, datacenter.guard, _APPLIED
        datacenter.observed_at = max(datacenter.observed_at, observed_at)
        self._guarded = guard.tick(observed_at, blind=datacenter.link is _BLIND)
        if isinstance(body, Heartbeat):
            datacenter.link = body.link
        else:
            namespace = datacenter.namespaces.get(event.namespace)
            if namespace is None:
                namespace = datacenter.namespaces[event.namespace] = NamespaceState(first_offset=offset)
            touched = self._touched
            if namespace.complete and isinstance(body, ServiceDelta):  # nearly always
                outcome = self._apply_delta(event, datacenter, namespace, body, touched.services)
            else:
                outcome = self._apply_body(datacenter, namespace, event, offset)
            if touched.services or touched.resources:
                if namespace.complete:
                    self.state.touch(event.namespace, topic, offset, observed_at, touched)
                # Nothing of it shows before the keyframe is whole, which touches all there is.
                touched.clear()
            elif isinstance(body, SyncCompleted) and namespace.complete:
                self.state.note_complete(event.namespace, topic, offset, observed_at)
        if self._guarded or guard.has_opened:
            self.state.note_guarded(datacenter, self._guarded, topic, offset, observed_at)
        return outcome

    def _first_session(self, topic: str, event: RegistryEvent) -> DatacenterState:
        """The state of a datacenter that was not heard of before."""
        return DatacenterState(
            topic=topic,
            session=event.session,
            epoch=event.epoch,
            sequence=event.sequence,
            guard=Guard(self._guard),
            endpoints=EndpointConverter(self._settings, event.datacenter),
        )

    def _apply_body(
        self, datacenter: DatacenterState, namespace: NamespaceState, event: RegistryEvent, offset: int
    ) -> Outcome:
        """Applies the event, and notes what content it touched; what became of it."""
        body = event.body
        if not namespace.complete and namespace.sync is None and not isinstance(body, SyncStarted | NamespaceGone):
            # A recovery that begins at another namespace's keyframe: this one's is still to come.
            return Outcome.BEFORE_KEYFRAME
        outcome, touched = _APPLIED, self._touched
        match body:
            case ServiceDelta():
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
        return outcome

    def _apply_delta(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        body: ServiceDelta,
        touched: set[ServiceKey],
    ) -> Outcome:
        key = body.key
        service = namespace.services.get(key)
        if service is None:
            service = namespace.services[key] = FoldedService(self._default_port_name)
        changes: dict[InstanceKey, FoldedInstance | None] = dict.fromkeys(body.removals)
        convert = datacenter.endpoints.convert
        for upsert in body.upserts:
            changes[upsert.key] = convert(upsert, service.port_name)
        transition = service.replace(changes, service.protect_threshold)
        if transition.is_seen:
            service.part = None
            touched.add(key)
        if transition.lost or transition.listed:
            self._note(event, datacenter, key, service, transition)
        if service.digest != body.digest or len(service.instances) != body.count:
            namespace.suspect = True
            return Outcome.MISMATCH
        return _APPLIED

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
        convert = datacenter.endpoints.convert
        instances = {instance.key: convert(instance, port_name) for instance in body.instances}
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
        service.part = None
        touched.add(body.key)
        if transition.lost or transition.listed:
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
            if transition.lost:
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
        _, lost, listed, difference = transition
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


def _change_session(datacenter: DatacenterState, topic: str, event: RegistryEvent) -> Outcome | None:
    """Where an event is not the next of the datacenter's session: a newer one begins, or there is a hole in it.

    Why the event is passed over; None when it counts.
    """
    if event.epoch < datacenter.epoch or (event.epoch == datacenter.epoch and event.session != datacenter.session):
        return Outcome.ZOMBIE
    if event.epoch > datacenter.epoch:
        # Half a keyframe of the former session will never be completed.
        for namespace in datacenter.namespaces.values():
            namespace.sync = None
        datacenter.session, datacenter.epoch, datacenter.topic = event.session, event.epoch, topic
        hole = event.sequence != 0
    elif event.sequence <= datacenter.sequence:
        return Outcome.DUPLICATE
    else:
        hole = event.sequence != datacenter.sequence + 1
    if hole:
        for namespace in datacenter.namespaces.values():
            namespace.suspect = True
            namespace.sync = None
    datacenter.sequence = event.sequence
    return None


def _remove_item(namespace: NamespaceState, key: ConfigKey, touched: set[ResourceId]) -> None:
    item = namespace.items.pop(key, None)
    for claimed in () if item is None else item.ids:
        touched.add(claimed)
        namespace.claims[claimed].discard(key)
        if not namespace.claims[claimed]:
            del namespace.claims[claimed]
