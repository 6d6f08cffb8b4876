"""The records that a namespace's resources are, given the fold: made for what may differ only. Pure.

Each resource is made by itself. One that raises is left out, so that what was published of it stands; it is noted
in the fold's state, to be tried again when it is stated again and with the next keyframe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumers.materializer.claimed_addresses import ClaimedAddresses
from consumers.materializer.claimed_names import MAX_CLAIMS, names_of
from consumers.materializer.conversion import FIRST_REVISION, REVISION, SERVICE_ENTRIES
from consumers.materializer.conversion.addresses import wants_address, with_address
from consumers.materializer.conversion.service_entry import encode_stated
from consumers.materializer.faults import cut, internal
from consumers.materializer.fold_state import Touched
from consumers.materializer.folded_item import Claimant, claimants
from consumers.materializer.held_service import HeldService
from consumers.materializer.set_aside_instances import SetAsideInstances
from consumers.materializer.stated_hosts import StatedHosts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from consumers.materializer.claimed_names import Names
    from consumers.materializer.conversion.names import ServiceName
    from consumers.materializer.faults import Fault
    from consumers.materializer.fold_state import NamespaceState, PartitionState
    from consumers.materializer.folded_item import ResourceId
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, Namespace, ServiceKey
    from schemas.records import ResourceRecord

    Records = dict[ResourceId, ResourceRecord | None]
    Parts = dict[Datacenter, HeldService]

_TOLD = ""
"""What is known of a fault that was told before the last restart."""


@dataclass(slots=True)
class NamespaceRecords:
    """Who has which name, and what could not be made.

    `conflicts` names who wants a resource's name or its host, the one that has it first. `faulted` are the
    resources that could not be made, and why; a service that has no name is called `group@@service` there.
    `faults` is what was new of that in the last call.
    """

    namespace: Namespace
    settings: ConversionSettings
    conflicts: dict[ResourceId, tuple[str, ...]] = field(default_factory=dict)
    faulted: dict[ResourceId, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    set_aside: SetAsideInstances = field(default_factory=SetAsideInstances)
    _failing: dict[ResourceId, Fault] = field(default_factory=dict)
    _to_retry: Touched = field(default_factory=Touched)
    _hosts: StatedHosts = field(default_factory=StatedHosts)
    _replaced: dict[ServiceKey, ResourceId] = field(default_factory=dict)
    _state: PartitionState | None = None
    _names: Names = field(init=False)
    _addresses: ClaimedAddresses = field(init=False)

    def __post_init__(self) -> None:
        self._names = names_of(REVISION, self.settings, self.namespace, self._since)
        self._addresses = ClaimedAddresses(self.settings.addresses, self._since)

    @property
    def claims(self) -> dict[str, int]:
        """Since when those are there who want the same name or address; see `Manifest.claims`."""
        found = self._names.claims()
        if further := self._addresses.claims():
            found = sorted({*found, *further})[:MAX_CLAIMS]
        return {name: at for at, name in found}

    @property
    def without_address(self) -> set[ServiceKey]:
        """The services that would have an address if the range had one left."""
        return self._addresses.lacking

    @property
    def rivals(self) -> dict[str, tuple[ServiceKey, ...]]:
        """Resources' names and hosts that several services want; the first has it."""
        return self._names.rivals()

    def name_of(self, key: ServiceKey) -> ServiceName | None:
        """What a service is called; None where it has no name."""
        return self._names.known(key)

    def adopt_faulted(self, resources: Iterable[ResourceId]) -> None:
        """These could not be made before the last restart, and that was told then."""
        self.faulted = dict.fromkeys(resources, _TOLD)

    def of(self, state: PartitionState, dirty: Touched) -> Records:
        """What may differ, None for what is not there any more; without what can't be made."""
        self.faults, self._failing, self._to_retry = [], {}, Touched()
        if self._state is not state:
            self._state = state
            self._names = names_of(state.revision, self.settings, self.namespace, self._since)
            self._addresses = ClaimedAddresses(self.settings.addresses, self._since)
        counted = state.counted(self.namespace)
        stated: dict[ResourceId, list[Claimant]] = {}
        for one in dirty.resources:
            self._look_at_claimants(counted, one, stated)
        uncovered = {name for (kind, name), found in stated.items() if kind == SERVICE_ENTRIES and not found}
        if state.revision != FIRST_REVISION:
            uncovered |= self._look_at_hosts(stated)
        records: Records = dict.fromkeys(stated)
        touched = self._join(state, counted, dirty.services | self._names.named(uncovered), records)
        self._prefer_stated(counted, stated, records)
        if self._failing or self.faulted:
            self._note_faults(state, touched, records)
        return records

    def all(self, state: PartitionState, published: AbstractSet[ResourceId]) -> Records:
        """As `of`, of everything, and with None for what is published and nobody has."""
        dirty = Touched(services={*self._names, *state.services_of(self.namespace)})
        for there in state.of_namespace(self.namespace).values():
            dirty.resources |= there.claims.keys()
        records = self.of(state, dirty)
        self.faulted = {one: why for one, why in self.faulted.items() if one in self._failing}
        if self._names.failed:
            return records  # what nobody seems to have may be theirs
        known = {(SERVICE_ENTRIES, resource) for resource in self._names.resources()} | self.faulted.keys()
        for there in state.counted(self.namespace).values():
            known |= there.claims.keys()
        strangers: Records = dict.fromkeys(published - known)
        return records | strangers

    def _join(
        self,
        state: PartitionState,
        counted: dict[Datacenter, NamespaceState],
        keys: Iterable[ServiceKey],
        records: Records,
    ) -> Collection[ServiceKey]:
        """Adds the ServiceEntries of these services, and of those whose names change with theirs; all of them."""
        touched: dict[ServiceKey, Parts] = {}
        for key in keys:
            self._look_at(state, counted, key, None, touched)
        names = self._names.claim(touched)
        for key, error in self._names.failed.items():
            touched.pop(key, None)
            self._fail_service(key, None, error)
        for key, former in names.items():
            if former is not None:
                records[SERVICE_ENTRIES, former.resource] = None
            if key not in touched:
                self._look_at(state, counted, key, former, touched)
        hosts: dict[ServiceKey, str | None] = {}
        for key, services in touched.items():
            self._make_entry(state, key, services, records, hosts, names.get(key))
        for key in self._addresses.claim(hosts) - touched.keys():
            self._look_at(state, counted, key, None, touched)
            self._make_entry(state, key, touched.get(key, {}), records, hosts, None)
        for key, host in hosts.items():
            address = None if host is None else self._addresses.get(key)
            if address is not None:
                name = SERVICE_ENTRIES, self._names.name(key).resource
                if (record := records[name]) is not None:
                    records[name] = with_address(record, address)
        return touched

    def _make_entry(
        self,
        state: PartitionState,
        key: ServiceKey,
        services: Parts,
        records: Records,
        hosts: dict[ServiceKey, str | None],
        former: ServiceName | None,
    ) -> None:
        """Adds the ServiceEntry of a service, and its host where that is to have an address; else None for it."""
        self._note_replaced(key, None)
        if not services:
            hosts[key] = None
            self.set_aside.note(key, ())
            return
        try:
            name = self._names.name(key)
            if stating := self._hosts.stating(name.host):
                records[SERVICE_ENTRIES, name.resource] = hosts[key] = None
                self._note_replaced(key, (SERVICE_ENTRIES, name.resource), stating)
                self.set_aside.note(key, ())
                return
            joined = state.converter.service_entry(self.settings, self.namespace, name, services)
            record = records[SERVICE_ENTRIES, name.resource] = joined.record
            self.set_aside.note(key, joined.set_aside)
            is_wanted = (
                state.revision != FIRST_REVISION
                and not joined.has_stated_addresses
                and wants_address(self.settings.addresses, record)
            )
            hosts[key] = name.host if is_wanted else None
        except Exception as error:  # noqa: BLE001 - it costs this service
            self._fail_service(key, former, error)

    def _look_at_hosts(self, stated: dict[ResourceId, list[Claimant]]) -> set[str]:
        """Notes which hosts these config items state; the hosts of which that may differ."""
        hosts: set[str] = set()
        for one, found in stated.items():
            collection, name = one
            if collection == SERVICE_ENTRIES:
                try:
                    hosts |= self._hosts.put(name, found[0] if found else None)
                except Exception as error:  # noqa: BLE001 - it costs this resource
                    self._fail_stated(one, error)
        return hosts

    def _note_replaced(self, key: ServiceKey, resource: ResourceId | None, stating: tuple[str, ...] = ()) -> None:
        """A config item states the service's host: the item's entry is the one that there is."""
        former = self._replaced.pop(key, None)
        if former is not None:
            self.conflicts.pop(former, None)
        if resource is not None:
            self._replaced[key] = resource
            self.conflicts[resource] = (*stating, f"service {key.group}@@{key.service}, of the same host")

    def _since(self, key: ServiceKey) -> Mapping[Datacenter, int]:
        """Since when a service is there, by datacenter."""
        return {} if self._state is None else self._state.since(self.namespace, key)

    def _look_at(
        self,
        state: PartitionState,
        counted: dict[Datacenter, NamespaceState],
        key: ServiceKey,
        former: ServiceName | None,
        touched: dict[ServiceKey, Parts],
    ) -> None:
        """Adds the service in each datacenter, with what its guard keeps; empty when no instance is there."""
        try:
            found = {}
            for datacenter, there in counted.items():
                service = there.services.get(key)
                held = state.held(datacenter, self.namespace, key)
                if service is not None or held:
                    empty = state.converter.new_service
                    found[datacenter] = HeldService(
                        service or empty(self.settings, self.namespace, key),
                        held,
                        state.kept_head(datacenter, self.namespace, key),
                    )
            if all(one.is_empty for one in found.values()):
                found = self._departed(state, counted, key)
            touched[key] = found
        except Exception as error:  # noqa: BLE001 - it costs this service
            self._fail_service(key, former, error)

    def _departed(self, state: PartitionState, counted: Iterable[Datacenter], key: ServiceKey) -> Parts:
        """The service as it went, in each datacenter where its entry stays."""
        found = {}
        for datacenter in counted:
            departed = state.datacenters[datacenter].departures.of(self.namespace).get(key)
            if departed is not None:
                found[datacenter] = HeldService(
                    departed.service, {}, state.kept_head(datacenter, self.namespace, key)
                )
        return {} if all(one.is_empty for one in found.values()) else found

    def _look_at_claimants(
        self,
        counted: dict[Datacenter, NamespaceState],
        wanted: ResourceId,
        stated: dict[ResourceId, list[Claimant]],
    ) -> None:
        """Adds the config items that state a resource."""
        try:
            stated[wanted] = claimants(
                ((name, there.claims, there.items) for name, there in counted.items()), wanted
            )
        except Exception as error:  # noqa: BLE001 - it costs this resource
            self._fail_stated(wanted, error)

    def _prefer_stated(
        self,
        counted: dict[Datacenter, NamespaceState],
        stated: dict[ResourceId, list[Claimant]],
        records: Records,
    ) -> None:
        """What a config item states goes before what is generated; of several items the first has the name."""
        for there in counted.values():
            for one in (there.claims.keys() & records.keys()) - stated.keys():
                self._look_at_claimants(counted, one, stated)
        for one, found in stated.items():
            rivals = [str(claimant) for claimant in found]
            if found and records.get(one) is not None:
                rivals.append("a service of that name")
            if len(rivals) > 1:
                self.conflicts[one] = tuple(rivals)
            elif one not in self._replaced.values():
                self.conflicts.pop(one, None)
            if found:
                try:
                    records[one] = encode_stated(self.namespace, found[0].resource)
                except Exception as error:  # noqa: BLE001 - it costs this resource
                    self._fail_stated(one, error)
        for one in self._to_retry.resources:
            records.pop(one, None)

    def _fail_service(self, key: ServiceKey, former: ServiceName | None, error: Exception) -> None:
        """A service that can't be made: what it had under its name stands."""
        self._to_retry.services.add(key)
        name = former or self._names.known(key)
        resource = _unnamed(key) if name is None else (SERVICE_ENTRIES, name.resource)
        self._failing[resource] = internal(f"service {key.group}@@{key.service}", error)

    def _fail_stated(self, resource: ResourceId, error: Exception) -> None:
        """A resource of config items that can't be made: what is published of it stands."""
        self._to_retry.resources.add(resource)
        self._failing[resource] = internal(" ".join(resource), error)

    def _note_faults(self, state: PartitionState, touched: Iterable[ServiceKey], records: Records) -> None:
        """Takes out what stands, and notes what is known to be faulted."""
        for one in self._failing:
            if records.get(one, one) is None:
                del records[one]
        for one in records:
            self.faulted.pop(one, None)
        for key in touched:
            self.faulted.pop(_unnamed(key), None)
        new = []
        for one, fault in self._failing.items():
            if one in records:
                continue  # another has that name now
            if self.faulted.get(one) not in {fault.detail, _TOLD}:
                new.append(fault)
            self.faulted[one] = fault.detail
        self.faults = cut(new, f"resources of {self.namespace}")
        if self._to_retry:
            state.note_faulted(self.namespace, self._to_retry)


def _unnamed(key: ServiceKey) -> ResourceId:
    return SERVICE_ENTRIES, f"{key.group}@@{key.service}"
