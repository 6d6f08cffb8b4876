"""The fold: registry events of one partition, in log order, to what Nacos knew. Pure.

The state is a product of states per datacenter, so the order in which datacenters' events are read does not
matter. Theory of operation, for one datacenter and namespace:

- Events count only from the session with the highest epoch; those of an older one come from a listener that
  lost its tenure and does not know it yet.
- A service's own events apply at once: they are facts. A keyframe (SyncStarted ... SyncCompleted) takes
  nothing away before its end; then whatever it did not state is gone, but for what its end names as kept. Until a
  first keyframe is whole the namespace has no content that may be published.
- A state in several records applies with its last part.
- A hole in the sequence makes all namespaces of the session suspect until their next keyframes; so does a
  delta that does not amount to the count and digest it names.
- The version moves at each event that changes content and at each operator's decision, and never else: it does not
  depend on batches. The end of a namespace's first whole keyframe gives it a version even if it has no content.
- A session that is silent while another one, with an older epoch or a lower sequence, goes on is *strange*, and so
  is an epoch or a sequence that no listener reaches: the namespaces are suspect, for nothing else counts.
- An event that was read before comes again from a mirrored topic: it is passed over.
- Whatever an event says, the next one is folded. An exception costs what it came from: the instance, the config
  item, the service, the event; each is atomic, so that what stood before stands. It is told of in `faults`, and
  the namespace is suspect until a keyframe is folded without one. A guard that raises is replaced by one that
  remembers nothing.
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from consumers.materializer.claimed_items import apply_item, mend_claims, remove_item
from consumers.materializer.conversion import FIRST_REVISION, REVISION
from consumers.materializer.converters import converter_of
from consumers.materializer.decider import Decider
from consumers.materializer.departures import Departures
from consumers.materializer.faults import Reason, foreseen, internal
from consumers.materializer.fold_state import (
    DatacenterState,
    NamespaceState,
    PartitionState,
    Sync,
    Touched,
)
from consumers.materializer.folded_item import holds_resources
from consumers.materializer.guard import LONGEST_STEP_US, Guard, Keyframe
from consumers.materializer.head_guard import HeadGuard
from consumers.materializer.service_events import ServiceEvents
from consumers.materializer.unstated import gone_items, gone_services, next_part
from consumers.settings import GuardMode, HeadSettings
from schemas.events import (
    ConfigGone,
    ConfigState,
    Heartbeat,
    Link,
    NamespaceGone,
    RegistryEvent,
    ServiceDelta,
    ServiceGone,
    ServicePart,
    ServiceState,
    SyncCompleted,
    SyncStarted,
)
from schemas.topics import key_part_fault

if TYPE_CHECKING:
    from consumers.materializer.faults import Fault
    from consumers.settings import ConversionSettings, GuardSettings


class Outcome(StrEnum):
    """What became of an event."""

    APPLIED = "applied"
    ZOMBIE = "zombie"
    DUPLICATE = "duplicate"
    MISMATCH = "mismatch"
    INCOMPLETE_KEYFRAME = "incomplete_keyframe"
    BEFORE_KEYFRAME = "before_keyframe"
    BAD_ITEM = Reason.BAD_ITEM.value
    BAD_INSTANCE = Reason.BAD_INSTANCE.value
    BAD_NAME = Reason.BAD_NAME.value
    INTERNAL_FAULT = Reason.INTERNAL_FAULT.value


_ABSURD_EPOCHS = 2**42
"""Epochs are milliseconds, or one more than the former: so many ahead is more than a century."""
_ABSURD_EVENTS = 2**40
_SILENT_US = 60_000_000
"""A session that lives has a heartbeat every few seconds."""

# Reading a member of an enumeration takes as long as five attributes, and every event does it several times.
_APPLIED, _BLIND = Outcome.APPLIED, Link.BLIND
_OF_A_SERVICE = ServiceDelta | ServiceState | ServicePart | ServiceGone


class Fold:
    """Applies events to a partition's state, one at a time, in log order; its `decider` decisions in between.

    Equal settings, events and decisions make equal states, on any machine. `apply` raises nothing: `faults` is
    what was set aside of the last event. Converts as `revision` of the conversion did.
    """

    def __init__(self, settings: ConversionSettings, guard: GuardSettings, revision: str = REVISION) -> None:
        self._settings = settings
        self._guard = guard
        self._revision = revision
        self._longest_step_us = inf if revision == FIRST_REVISION else LONGEST_STEP_US
        self._grace_us = 0.0 if revision == FIRST_REVISION else settings.empty_grace_s * 1e6
        self._touched = Touched()
        self.faults: list[Fault] = []
        self.state = PartitionState(converter_of(revision), revision)
        self._services = ServiceEvents(partial(self.state.converter.new_service, settings), self.faults)
        self.decider = Decider(self.state)

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        """Folds in the event that stands at that offset of its topic."""
        self.state.positions[topic] = offset
        if self.faults:
            self.faults.clear()
        try:
            datacenter = self.state.datacenters.get(event.datacenter)
            refusal: Outcome | None = None
            if datacenter is None:
                datacenter = self._first_session(topic, event)
            elif (
                event.sequence == datacenter.sequence + 1
                and event.session == datacenter.session
                and event.epoch == datacenter.epoch
            ):
                datacenter.sequence = event.sequence
            else:
                refusal = _change_session(datacenter, topic, event)
                if refusal is not None:
                    _note_passed_over(datacenter, event)
            outcome = refusal or self._apply(datacenter, topic, offset, event)
        except _BadNameError as error:
            outcome = self._refuse_name(error)
        except Exception as error:  # noqa: BLE001 - whatever an event says, the next one is folded
            outcome = self._set_aside(event, error)
        if self.faults and outcome is _APPLIED:
            outcome = Outcome(self.faults[-1].reason)
        if self.decider.scheduled:
            self._carry_out_scheduled(topic, offset)
        return outcome

    def _apply(self, datacenter: DatacenterState, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        observed_at, body, outcome, services = event.observed_at, event.body, _APPLIED, self._services
        try:
            services.guarded = datacenter.guard.tick(observed_at, blind=datacenter.link is _BLIND)
        except Exception as error:  # noqa: BLE001 - the fold goes on without what the guard remembers
            services.guarded = services.restart_guard(datacenter, error)
        if datacenter.heads.holds:
            services.guarded |= datacenter.heads.tick(datacenter.guard.clock)
        if datacenter.departures.is_any:
            services.guarded |= datacenter.departures.expired(datacenter.guard)
        if isinstance(body, Heartbeat):
            datacenter.link = body.link
        else:
            namespace, touched = datacenter.namespaces.get(event.namespace), self._touched
            try:
                if namespace is None:
                    namespace = _first_event(datacenter, event, offset)
                if namespace.complete and isinstance(body, ServiceDelta):  # nearly always
                    if not services.apply_delta(event, datacenter, namespace, body, touched.services):
                        outcome = Outcome.MISMATCH
                else:
                    outcome = self._apply_body(datacenter, namespace, event, offset)
            except _BadNameError as error:
                outcome = self._refuse_name(error)
            except Exception as error:  # noqa: BLE001 - it costs this event, and what stood before stands
                outcome = self._set_aside(event, error)
                if namespace is not None and not isinstance(body, _OF_A_SERVICE):
                    mend_claims(namespace, touched.resources)
            if touched.services or touched.resources or touched.is_first:
                if namespace is not None and namespace.complete:
                    self.state.touch(event.namespace, topic, offset, observed_at, touched)
                # Nothing of it shows before the keyframe is whole, which touches all there is.
                touched.clear()
            elif isinstance(body, SyncCompleted) and namespace is not None and namespace.complete:
                self.state.note_complete(event.namespace, topic, offset, observed_at)
        if services.guarded or datacenter.guard.has_opened or datacenter.heads.has_opened:
            self.state.note_guarded(datacenter, services.guarded, topic, offset, observed_at)
        return outcome

    def _set_aside(self, event: RegistryEvent, error: Exception) -> Outcome:
        """An event that could not be folded."""
        body = event.body
        what = f" of {'/'.join(body.key)}" if hasattr(body, "key") else ""
        self.faults.append(internal(f"{type(body).__name__}{what}", error))
        datacenter = self.state.datacenters.get(event.datacenter)
        namespace = datacenter and datacenter.namespaces.get(event.namespace)
        if namespace:
            namespace.note_fault(event_is_lost=True)
        return Outcome.INTERNAL_FAULT

    def _carry_out_scheduled(self, topic: str, offset: int) -> None:
        try:
            self.decider.carry_out_scheduled(topic, offset)
        except Exception as error:  # noqa: BLE001 - it costs this decision
            self.faults.append(internal("a release that an earlier fold carried out", error))

    def _refuse_name(self, error: _BadNameError) -> Outcome:
        self.faults.append(foreseen(Reason.BAD_NAME, *error.args))
        return Outcome.BAD_NAME

    def _first_session(self, topic: str, event: RegistryEvent) -> DatacenterState:
        """The state of a datacenter that was not heard of before."""
        _check_name("datacenter", event.datacenter)
        datacenter = self.state.datacenters[event.datacenter] = DatacenterState(
            topic=topic,
            session=event.session,
            epoch=event.epoch,
            sequence=event.sequence,
            guard=Guard(self._guard, longest_step_us=self._longest_step_us),
            heads=HeadGuard(self._guard.head if self._revision != FIRST_REVISION else _UNWATCHED),
            departures=Departures(self._grace_us),
            endpoints=self.state.converter.endpoints(self._settings, event.datacenter),
        )
        return datacenter

    def _apply_body(
        self, datacenter: DatacenterState, namespace: NamespaceState, event: RegistryEvent, offset: int
    ) -> Outcome:
        """Applies the event, and notes what content it touched; what became of it."""
        body = event.body
        if not namespace.complete and namespace.sync is None and not isinstance(body, SyncStarted | NamespaceGone):
            # A recovery that begins at another namespace's keyframe: this one's is still to come.
            return Outcome.BEFORE_KEYFRAME
        outcome, touched, sync, services = _APPLIED, self._touched, namespace.sync, self._services
        match body:
            case ServiceDelta():
                if not services.apply_delta(event, datacenter, namespace, body, touched.services):
                    outcome = Outcome.MISMATCH
            case ServiceState():
                self._apply_state(event, datacenter, namespace, body)
            case ServicePart():
                outcome = self._apply_part(event, datacenter, namespace, body)
            case ServiceGone(key=key):
                if sync is not None:
                    sync.services.discard(key)
                services.remove(event, datacenter, namespace, key, touched.services)
            case ConfigState(key=item):
                if sync is not None:
                    sync.config_states += 1
                    sync.configs.add(item)
                self._apply_item(event, namespace, body, touched)
            case ConfigGone(key=item):
                if sync is not None:
                    sync.configs.discard(item)
                remove_item(namespace, item, touched.resources)
            case SyncStarted():
                namespace.gone = False
                namespace.sync = Sync(
                    beginning=Keyframe(
                        offset,
                        datacenter.guard.clock,
                        _is_quiet(datacenter),
                        departed_until=datacenter.departures.end(event.namespace),
                    ),
                    observed_at=event.observed_at,
                )
            case SyncCompleted():
                outcome = self._complete(event, datacenter, namespace, body, touched)
            case NamespaceGone():
                services.remove_all(event, datacenter, namespace, list(namespace.services), touched.services)
                for item in list(namespace.items):
                    remove_item(namespace, item, touched.resources)
                touched.services |= datacenter.departures.of(event.namespace).keys()
                datacenter.departures.clear(event.namespace)
                namespace.gone = True
                if not datacenter.guard.holds_of(event.namespace):
                    del datacenter.namespaces[event.namespace]
        return outcome

    def _apply_state(
        self, event: RegistryEvent, datacenter: DatacenterState, namespace: NamespaceState, body: ServiceState
    ) -> None:
        if namespace.sync is not None:
            namespace.sync.states += 1
            namespace.sync.services.add(body.key)
        self._services.apply_state(event, datacenter, namespace, body, self._touched.services)

    def _apply_part(
        self, event: RegistryEvent, datacenter: DatacenterState, namespace: NamespaceState, body: ServicePart
    ) -> Outcome:
        """Applies a state with its last part; before that nothing of it counts."""
        read, namespace.parted = next_part(namespace.parted, body), None
        if read is None:
            namespace.suspect = True
            return Outcome.MISMATCH
        if isinstance(read, ServiceState):
            self._apply_state(event, datacenter, namespace, read)
        else:
            namespace.parted = read
        return _APPLIED

    def _apply_item(
        self, event: RegistryEvent, namespace: NamespaceState, body: ConfigState, touched: Touched
    ) -> None:
        if not holds_resources(self._settings, body.key):
            return
        fault = apply_item(self._settings, self._revision, event.namespace, namespace, body, touched.resources)
        if fault is not None:
            self.faults.append(fault)

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
        gone = gone_services(body, namespace.services.keys() - sync.services)
        self._services.remove_all(event, datacenter, namespace, gone, touched.services)
        sync.beginning.is_whole &= gone.isdisjoint(namespace.services)
        for item in gone_items(body, namespace.items.keys() - sync.configs):
            remove_item(namespace, item, touched.resources)
        # What it kept stands before it: there the fold must begin, and a fault in it is not healed.
        keeps = not (namespace.services.keys() <= sync.services and namespace.items.keys() <= sync.configs)
        namespace.suspect = sync.is_faulty or (namespace.suspect and keeps)
        if not namespace.complete:
            namespace.complete = True
            namespace.completed_at = datacenter.guard.steady_at
            touched.services.update(namespace.services)
            touched.resources.update(namespace.claims)
        touched.add(namespace.faulted)
        namespace.faulted = Touched()
        if keeps or any(item.is_stale for item in namespace.items.values()):
            sync.beginning.is_whole = False  # what such an item stated last stands before it
        namespace.keyframes.append(sync.beginning)
        reproduced = [n for n, one in enumerate(namespace.keyframes) if datacenter.guard.is_reproduced(one)]
        del namespace.keyframes[: max(reproduced, default=0)]
        return Outcome.APPLIED


def _is_quiet(datacenter: DatacenterState) -> bool:
    """Whether nothing is held."""
    return not datacenter.guard.holds and not datacenter.heads.holds


_UNWATCHED = HeadSettings(mode=GuardMode.OFF)


class _BadNameError(Exception):
    """A namespace or datacenter whose name can't be part of a record's key."""


def _check_name(what: str, name: str) -> None:
    if detail := key_part_fault(name):
        raise _BadNameError(f"{what} {name[:50]}", detail)


def _first_event(datacenter: DatacenterState, event: RegistryEvent, offset: int) -> NamespaceState:
    """The state of a namespace that the datacenter had not told of before."""
    _check_name("namespace", event.namespace)
    namespace = datacenter.namespaces[event.namespace] = NamespaceState(first_offset=offset)
    return namespace


def _change_session(datacenter: DatacenterState, topic: str, event: RegistryEvent) -> Outcome | None:
    """Where an event is not the next of the datacenter's session: a newer one begins, or there is a hole in it.

    Why the event is passed over; None when it counts.
    """
    if event.epoch < datacenter.epoch or (event.epoch == datacenter.epoch and event.session != datacenter.session):
        return Outcome.ZOMBIE
    if event.epoch > datacenter.epoch:
        # Half a keyframe of the former session will never be completed.
        for namespace in datacenter.namespaces.values():
            namespace.sync = namespace.parted = None
        is_absurd = event.epoch - datacenter.epoch > _ABSURD_EPOCHS
        hole = event.sequence != 0 or is_absurd
        datacenter.strange = f"session {event.session} has epoch {event.epoch}" if is_absurd else ""
        datacenter.session, datacenter.epoch, datacenter.topic = event.session, event.epoch, topic
    elif event.sequence <= datacenter.sequence:
        return Outcome.DUPLICATE
    else:
        hole = event.sequence != datacenter.sequence + 1
    if event.sequence - datacenter.sequence > _ABSURD_EVENTS:
        datacenter.strange = f"session {event.session} has sequence {event.sequence}"
    if hole:
        for namespace in datacenter.namespaces.values():
            namespace.suspect = True
            namespace.sync = namespace.parted = None
    datacenter.sequence = event.sequence
    return None


def _note_passed_over(datacenter: DatacenterState, event: RegistryEvent) -> None:
    """Who lost its tenure, or repeats, tells of the past. Of the present, nothing that is told counts any more."""
    if datacenter.strange or event.observed_at - datacenter.guard.observed_at < _SILENT_US:
        return
    datacenter.strange = (
        f"session {event.session}, epoch {event.epoch}, sequence {event.sequence} is passed over: session "
        f"{datacenter.session}, epoch {datacenter.epoch}, sequence {datacenter.sequence} came first, and is silent"
    )
    for namespace in datacenter.namespaces.values():
        namespace.suspect = True
