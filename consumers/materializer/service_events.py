"""Applies what events say of services to a namespace's state, and tells the guard. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.materializer.conversion.folded_instance import BadInstanceError, unusable
from consumers.materializer.faults import Reason, cut, foreseen, internal
from consumers.materializer.guard import NOWHERE, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from consumers.materializer.conversion.folded_instance import FoldedInstance
    from consumers.materializer.faults import Fault
    from consumers.materializer.fold_state import DatacenterState, NamespaceState
    from consumers.materializer.folded_service import FoldedService, Transition
    from schemas.events import (
        Instance,
        InstanceKey,
        Namespace,
        RegistryEvent,
        ServiceDelta,
        ServiceKey,
        ServiceState,
    )


class ServiceEvents:
    """Each method notes the services that it touches; one that raises leaves the service as it was.

    `guarded` is which services look different because of the guard; the fold sets it with each event.
    """

    def __init__(self, new_service: Callable[[Namespace, ServiceKey], FoldedService], faults: list[Fault]) -> None:
        self.guarded: frozenset[Place] = NOWHERE
        self._faults = faults
        self._new_service = new_service

    def apply_delta(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        body: ServiceDelta,
        touched: set[ServiceKey],
    ) -> bool:
        """Applies what changed; whether the service amounts to what the event says."""
        key = body.key
        service = namespace.services.get(key)
        is_new = service is None
        if service is None:
            service = self._new_service(event.namespace, key)
        changes: dict[InstanceKey, FoldedInstance | None] = dict.fromkeys(body.removals)
        convert, names, rules = datacenter.endpoints.convert, service.names, service.rules
        try:
            for upsert in body.upserts:
                changes[upsert.key] = convert(upsert, names, rules)
        except Exception:  # noqa: BLE001 - each by itself tells which
            changes |= self._convert_each(datacenter, namespace, key, service, body.upserts)
        transition = service.replace(changes, service.protect_threshold)
        if is_new:
            namespace.services[key] = service
        if service.has_usable is (service.since is None):
            self._note_presence(event, datacenter, namespace, key, service)
        if transition.may_change_votes and datacenter.heads.is_on:
            _note_vote(event, datacenter, key, service, transition)
        if transition.is_seen:
            service.part = None
            touched.add(key)
        if transition.lost or transition.listed:
            self._note(event, datacenter, key, service, transition)
        if service.digest != body.digest or len(service.instances) != body.count:
            namespace.suspect = True
            return False
        return True

    def apply_state(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        body: ServiceState,
        touched: set[ServiceKey],
    ) -> None:
        """Applies what all instances are; the same as before touches nothing."""
        key = body.key
        service = namespace.services.get(key)
        is_new = service is None
        if service is None:
            service = self._new_service(event.namespace, key)
        convert, names, rules = datacenter.endpoints.convert, service.names, service.rules
        instances: Mapping[InstanceKey, FoldedInstance]
        try:
            instances = {instance.key: convert(instance, names, rules) for instance in body.instances}
        except Exception:  # noqa: BLE001 - each by itself tells which
            instances = self._convert_each(datacenter, namespace, key, service, body.instances)
        if (
            not is_new
            and service.protect_threshold == body.protect_threshold
            and service.instances == instances
            and key not in namespace.faulted.services
        ):
            return
        removals: dict[InstanceKey, FoldedInstance | None] = {
            gone: None for gone in service.instances if gone not in instances
        }
        transition = service.replace(removals | instances, body.protect_threshold)
        if is_new:
            namespace.services[key] = service
        if service.has_usable is (service.since is None):
            self._note_presence(event, datacenter, namespace, key, service)
        if transition.may_change_votes and datacenter.heads.is_on:
            _note_vote(event, datacenter, key, service, transition)
        service.part = None
        touched.add(key)
        namespace.faulted.services.discard(key)
        if transition.lost or transition.listed:
            self._note(event, datacenter, key, service, transition)

    def _convert_each(
        self,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        key: ServiceKey,
        service: FoldedService,
        instances: Iterable[Instance],
    ) -> dict[InstanceKey, FoldedInstance]:
        """Converts instances one by one; one that can't be is not listed, and set aside if that is new."""
        found = {}
        faults: list[Fault] = []
        for instance in instances:
            place = f"instance {instance.ip}:{instance.port} ({instance.cluster}) of {'/'.join(key)}"
            fault = None
            try:
                folded = datacenter.endpoints.convert(instance, service.names, service.rules)
            except BadInstanceError as error:
                folded = unusable(instance)
                if instance.port or not key.is_of_consumers:
                    fault = foreseen(Reason.BAD_INSTANCE, place, str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, it costs this instance
                folded, fault = unusable(instance), internal(place, error)
                namespace.note_fault()
            if fault is not None and service.instances.get(instance.key) != folded:
                faults.append(fault)
            found[instance.key] = folded
        self._faults += cut(faults, f"instances of {'/'.join(key)}")
        return found

    def remove(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        key: ServiceKey,
        touched: set[ServiceKey],
    ) -> None:
        """Removes a service."""
        service = namespace.services.get(key)
        if service is not None:
            transition = service.replace(dict.fromkeys(service.instances), service.protect_threshold)
            if datacenter.heads.is_on:
                _note_vote(event, datacenter, key, service, transition)
            del namespace.services[key]
            touched.add(key)
            if service.since is not None:
                self._note_presence(event, datacenter, namespace, key, service)
            if transition.lost:
                self._note(event, datacenter, key, service, transition)

    def remove_all(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        keys: Iterable[ServiceKey],
        touched: set[ServiceKey],
    ) -> None:
        """Removes services one by one: one that can't be stays, and the others go."""
        for key in keys:
            try:
                self.remove(event, datacenter, namespace, key, touched)
            except Exception as error:  # noqa: BLE001 - whatever it is, it costs this service
                self._faults.append(internal(f"removal of {'/'.join(key)}", error))
                namespace.note_fault()

    def _note_presence(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        namespace: NamespaceState,
        key: ServiceKey,
        service: FoldedService,
    ) -> None:
        """Notes since when the service is there; all that a keyframe states came when it began."""
        place, sync, departures = Place(event.namespace, key), namespace.sync, datacenter.departures
        if service.has_usable:
            since = departures.returned(place)
            if since is None:
                since = event.observed_at if sync is None else sync.observed_at
            service.since = since
            return
        former, service.since = service.since, None
        if former is not None and namespace.complete:
            departures.note(place, datacenter.guard.clock, former, service)
            if sync is not None:  # a fold that begins there need not know the service
                sync.beginning.departed_until = departures.end(event.namespace)

    def _note(
        self,
        event: RegistryEvent,
        datacenter: DatacenterState,
        key: ServiceKey,
        service: FoldedService,
        transition: Transition,
    ) -> None:
        """Tells the guard."""
        _, lost, listed, difference, _ = transition
        place = Place(event.namespace, key)
        try:
            self.guarded |= datacenter.guard.change(place, lost, listed, difference, service.names)
        except Exception as error:  # noqa: BLE001 - the fold goes on without what the guard remembers
            self.guarded |= self.restart_guard(datacenter, error)

    def restart_guard(self, datacenter: DatacenterState, error: Exception) -> frozenset[Place]:
        """Replaces a guard that raised; which services may look different, as what it held is let go of."""
        former = datacenter.guard
        datacenter.guard = former.restarted(
            (Place(name, key), service.count)
            for name, namespace in datacenter.namespaces.items()
            for key, service in namespace.services.items()
        )
        self._faults.append(internal("the guard, which begins anew", error))
        for namespace in datacenter.namespaces.values():
            namespace.note_fault()
        return former.places


def _note_vote(
    event: RegistryEvent,
    datacenter: DatacenterState,
    key: ServiceKey,
    service: FoldedService,
    transition: Transition,
) -> None:
    """Tells the guard of heads what the service's instances vote for."""
    before, now = service.voted, service.vote()
    service.voted = now
    if before != now or datacenter.heads.holds:
        size = max(service.count, service.count - transition.difference)
        datacenter.heads.note(Place(event.namespace, key), before, now, size, datacenter.guard.clock)
