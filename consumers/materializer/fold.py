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

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from consumers.materializer.conversion.endpoint import fold_instance
from consumers.materializer.decisions import excluded, held_place, in_force, stands
from consumers.materializer.folded_service import FoldedService
from consumers.materializer.guard import Guard, Keyframe, Place, Scope
from schemas.control import ControlEvent, Decision, ExcludeDatacenter, IncludeDatacenter, Release
from schemas.digests import SERVICE_DIGEST_MODULUS
from schemas.events import (
    ConfigGone,
    ConfigKey,
    ConfigState,
    Datacenter,
    Heartbeat,
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
from schemas.topics import CONTROL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.conversion.endpoint import FoldedInstance
    from consumers.materializer.folded_service import Transition
    from consumers.materializer.guard import Lost
    from consumers.settings import ConversionSettings, GuardSettings
    from schemas.events import InstanceKey


class Outcome(StrEnum):
    """What became of an event."""

    APPLIED = "applied"
    ZOMBIE = "zombie"
    DUPLICATE = "duplicate"
    MISMATCH = "mismatch"
    INCOMPLETE_KEYFRAME = "incomplete_keyframe"
    BEFORE_KEYFRAME = "before_keyframe"


@dataclass(slots=True, kw_only=True)
class _Sync:
    """A keyframe that is being read."""

    beginning: Keyframe
    states: int = 0
    services: set[ServiceKey] = field(default_factory=set)
    config_states: int = 0
    configs: set[ConfigKey] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class NamespaceState:
    """A namespace in one datacenter; `keyframes` are its whole ones, from the newest that a fold may begin at."""

    first_offset: int
    services: dict[ServiceKey, FoldedService] = field(default_factory=dict)
    configs: dict[ConfigKey, ConfigState] = field(default_factory=dict)
    complete: bool = False
    completed_at: int = 0
    suspect: bool = False
    gone: bool = False
    keyframes: list[Keyframe] = field(default_factory=list)
    sync: _Sync | None = None


@dataclass(slots=True, kw_only=True)
class DatacenterState:
    """What one datacenter's listener said in this partition; `topic` is where its events are read."""

    topic: str
    session: SessionId
    epoch: int
    sequence: int
    guard: Guard
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
    positions: dict[str, int] = field(default_factory=dict)
    decisions: dict[Namespace, tuple[Decision, ...]] = field(default_factory=dict)
    releases: list[Decision] = field(default_factory=list)

    def stands(self, namespace: Namespace) -> bool:
        """Whether operators keep what is published as it is."""
        return stands(self.decisions.get(namespace, ()))

    def decisions_over(self, namespace: Namespace) -> tuple[Decision, ...]:
        """Those in force, and the releases that a fold needs to arrive here."""
        releases = (
            one
            for one in self.releases
            if one.event.namespace == namespace
            or (isinstance(one.event.body, Release) and one.event.body.scope == Scope.DATACENTER)
        )
        return (*self.decisions.get(namespace, ()), *releases)

    def counted(self, namespace: Namespace) -> dict[Datacenter, NamespaceState]:
        """The namespace in each datacenter that has stated it as a whole and is not excluded."""
        left_out = excluded(self.decisions.get(namespace, ()))
        return {
            name: here
            for name, here in self.of_namespace(namespace).items()
            if here.complete and name not in left_out
        }

    @property
    def clock(self) -> int:
        """The latest time that any record told of, in microseconds."""
        return max((datacenter.observed_at for datacenter in self.datacenters.values()), default=0)

    def missing(self, namespace: Namespace, expected: Iterable[str]) -> tuple[Datacenter, ...]:
        """The expected datacenters that have not stated the namespace, and are not excluded."""
        present = {name for name, here in self.of_namespace(namespace).items() if here.complete}
        left_out = excluded(self.decisions.get(namespace, ()))
        return tuple(Datacenter(name) for name in sorted(set(expected) - present - left_out))

    def completed_at(self, namespace: Namespace) -> int:
        """When the first datacenter had stated it as a whole."""
        return min(here.completed_at for here in self.of_namespace(namespace).values() if here.complete)

    def is_complete(self, namespace: Namespace) -> bool:
        """Whether any datacenter has stated the namespace as a whole."""
        return any(ns.complete for ns in self.of_namespace(namespace).values())

    def held(self, datacenter: Datacenter, namespace: Namespace, key: ServiceKey) -> dict[InstanceKey, Lost]:
        """The endpoints of a service that its guard keeps."""
        return self.datacenters[datacenter].guard.held(Place(namespace, key))

    def of_namespace(self, namespace: Namespace) -> dict[Datacenter, NamespaceState]:
        """The namespace in each datacenter that has it, in the order of their names."""
        return {
            name: self.datacenters[name].namespaces[namespace]
            for name in sorted(self.datacenters)
            if namespace in self.datacenters[name].namespaces
        }


class Fold:
    """Applies events and decisions to a partition's state, one at a time, in log order.

    Equal settings, events and decisions make equal states, on any machine.
    """

    def __init__(self, settings: ConversionSettings, guard: GuardSettings) -> None:
        self._settings = settings
        self._guard = guard
        self._guarded: set[Place] = set()
        self._default_port_name = settings.protocol.lower()
        self._scheduled: list[Decision] = []
        self.state = PartitionState()

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        """Folds in the event that stands at that offset of its topic."""
        self.state.positions[topic] = offset
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
                self._touch(event.namespace, topic, offset, event.observed_at, touched)
        self._note_guarded(datacenter, topic, offset, event.observed_at)
        if self._scheduled:
            self._carry_out_scheduled(topic, offset)
        return outcome

    def decide(self, topic: str, offset: int, event: ControlEvent) -> None:
        """Carries out the operator's decision at that offset of its topic: here, in the order of events."""
        namespace = event.namespace
        decision = Decision(event, offset, dict(self.state.positions))
        self.state.decisions[namespace] = in_force(self.state.decisions.get(namespace, ()), decision)
        touched: set[ServiceKey] = set()
        match event.body:
            case Release():
                self.state.releases.append(decision)
                self._release(topic, decision)
            case ExcludeDatacenter(datacenter=datacenter) | IncludeDatacenter(datacenter=datacenter):
                if (there := self.state.datacenters.get(datacenter)) is not None:
                    touched = there.guard.held_services(namespace)
                    if (here := there.namespaces.get(namespace)) is not None:
                        touched |= here.services.keys()
            case _:
                pass
        self._touch(namespace, topic, offset, event.issued_at, touched)

    def schedule(self, releases: Iterable[Decision]) -> None:
        """Releases of earlier folds, to be carried out where they were then."""
        self._scheduled = sorted(releases, key=lambda decision: decision.offset)

    def _carry_out_scheduled(self, topic: str, offset: int) -> None:
        for decision in list(self._scheduled):
            body = decision.event.body
            datacenter = self.state.datacenters.get(body.datacenter) if isinstance(body, Release) else None
            if datacenter is not None and datacenter.topic == topic and decision.position.get(topic) == offset:
                self._scheduled.remove(decision)
                self.state.releases.append(decision)
                self._release(CONTROL_EVENTS, decision)

    def _release(self, topic: str, decision: Decision) -> None:
        event = decision.event
        if isinstance(event.body, Release) and (there := self.state.datacenters.get(event.body.datacenter)):
            self._guarded = there.guard.release(held_place(event.body, event.namespace))
            self._note_guarded(there, topic, decision.offset, event.issued_at)

    def _touch(
        self, namespace: Namespace, topic: str, offset: int, observed_at: int, touched: set[ServiceKey]
    ) -> None:
        changes = self.state.changes.setdefault(namespace, NamespaceChanges())
        changes.version[topic] = offset
        changes.observed_at = observed_at
        changes.dirty |= touched

    def _note_guarded(self, datacenter: DatacenterState, topic: str, offset: int, observed_at: int) -> None:
        """Services that look different because a hold began or ended; they may be another namespace's."""
        if datacenter.guard.has_opened:
            datacenter.guard.has_opened = False
            self._disturb_keyframes(datacenter)
        for place in self._guarded:
            namespace = datacenter.namespaces.get(place.namespace)
            if namespace is not None and namespace.complete:
                self._touch(place.namespace, topic, offset, observed_at, {place.service})
        for name in {place.namespace for place in self._guarded}:
            namespace = datacenter.namespaces.get(name)
            if namespace is not None and namespace.gone and not datacenter.guard.holds_of(name):
                del datacenter.namespaces[name]

    def _disturb_keyframes(self, datacenter: DatacenterState) -> None:
        """A hold opened: keyframes of less than a window ago are no place to begin at."""
        guard = datacenter.guard
        for namespace in datacenter.namespaces.values():
            syncs = [namespace.sync.beginning] if namespace.sync is not None else []
            for keyframe in (*namespace.keyframes, *syncs):
                if keyframe.clock + self._guard.longest_window_us >= guard.clock:
                    keyframe.is_quiet = False

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
                outcome = self._apply_delta(event, datacenter, namespace, body, touched)
            case ServiceState(key=key):
                if namespace.sync is not None:
                    namespace.sync.states += 1
                    namespace.sync.services.add(key)
                self._apply_state(event, datacenter, namespace, body, touched)
            case ServiceGone(key=key):
                if namespace.sync is not None:
                    namespace.sync.services.discard(key)
                self._remove(event, datacenter, namespace, key, touched)
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
                namespace.gone = False
                namespace.sync = _Sync(
                    beginning=Keyframe(offset, datacenter.guard.clock, not datacenter.guard.holds)
                )
            case SyncCompleted():
                outcome = self._complete(event, datacenter, namespace, body, touched)
            case NamespaceGone():
                for key in list(namespace.services):
                    self._remove(event, datacenter, namespace, key, touched)
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
        touched: set[ServiceKey],
    ) -> Outcome:
        sync, namespace.sync = namespace.sync, None
        if sync is None or (sync.states, sync.config_states) != (body.services, body.config_items):
            namespace.suspect = True
            return Outcome.INCOMPLETE_KEYFRAME
        for key in namespace.services.keys() - sync.services:
            self._remove(event, datacenter, namespace, key, touched)
        for item in namespace.configs.keys() - sync.configs:
            del namespace.configs[item]
        if not namespace.complete:
            namespace.complete = True
            namespace.completed_at = event.observed_at
            touched.update(namespace.services)
        namespace.suspect = False
        namespace.keyframes.append(sync.beginning)
        reproduced = [n for n, one in enumerate(namespace.keyframes) if datacenter.guard.is_reproduced(one)]
        del namespace.keyframes[: max(reproduced, default=0)]
        return Outcome.APPLIED
