"""What a fold arrives at: datacenters, their namespaces, and what changed since it was last looked at. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumers.materializer.conversion import REVISION
from consumers.materializer.decisions import excluded, stands
from consumers.materializer.guard import Place, Scope
from schemas.control import Release
from schemas.events import Datacenter, Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from consumers.materializer.conversion.head import Head
    from consumers.materializer.converters import Converter, Endpoints
    from consumers.materializer.departures import Departed, Departures
    from consumers.materializer.folded_item import FoldedItem, ResourceId
    from consumers.materializer.folded_service import FoldedService
    from consumers.materializer.guard import Guard, Keyframe, Lost
    from consumers.materializer.head_guard import HeadGuard
    from consumers.materializer.unstated import PartedState
    from schemas.control import Decision
    from schemas.events import ConfigKey, InstanceKey, Namespace, ServiceKey, SessionId


@dataclass(slots=True)
class Touched:
    """Services and config resources whose content may differ.

    `is_first`: the namespace is whole for the first time, and is to be published even if it has no content.
    """

    services: set[ServiceKey] = field(default_factory=set)
    resources: set[ResourceId] = field(default_factory=set)
    is_first: bool = False

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.services or self.resources or self.is_first)

    def add(self, other: Touched) -> None:
        """Those too."""
        self.services |= other.services
        if other.resources:
            self.resources |= other.resources
        if other.is_first:
            self.is_first = True

    def clear(self) -> None:
        """None any more."""
        self.services.clear()
        if self.resources:
            self.resources.clear()
        self.is_first = False


@dataclass(slots=True, kw_only=True)
class Sync:
    """A keyframe that is being read; `is_faulty` once anything of it met a fault of ours.

    `observed_at` is the time of its first event, in microseconds (UTC).
    """

    beginning: Keyframe
    observed_at: int = 0
    is_faulty: bool = False
    states: int = 0
    services: set[ServiceKey] = field(default_factory=set)
    config_states: int = 0
    configs: set[ConfigKey] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class NamespaceState:
    """A namespace in one datacenter; `keyframes` are its whole ones, from the newest that a fold may begin at.

    `faulted` is what a view could not make: it is looked at again when it is stated, and with each keyframe.
    """

    first_offset: int
    services: dict[ServiceKey, FoldedService] = field(default_factory=dict)
    items: dict[ConfigKey, FoldedItem] = field(default_factory=dict)
    claims: dict[ResourceId, set[ConfigKey]] = field(default_factory=dict)
    complete: bool = False
    completed_at: int = 0
    suspect: bool = False
    gone: bool = False
    keyframes: list[Keyframe] = field(default_factory=list)
    sync: Sync | None = None
    parted: PartedState | None = None
    faulted: Touched = field(default_factory=Touched)

    def note_fault(self, *, event_is_lost: bool = False) -> None:
        """A fault of ours left something out: what is published may lack it until a keyframe without a fault.

        With an event that is lost a keyframe does not tell what stands, and is no place to begin at.
        """
        self.suspect = True
        if self.sync is not None:
            self.sync.is_faulty = True
            self.sync.beginning.is_whole &= not event_is_lost


@dataclass(slots=True, kw_only=True)
class DatacenterState:
    """What one datacenter's listener said in this partition; `topic` is where its events are read.

    `strange` says why the events that count may not be those of the listener that lives; empty otherwise.
    """

    topic: str
    session: SessionId
    epoch: int
    sequence: int
    guard: Guard
    heads: HeadGuard
    endpoints: Endpoints
    departures: Departures
    link: Link = Link.LIVE
    strange: str = ""
    namespaces: dict[Namespace, NamespaceState] = field(default_factory=dict)

    def disturb_keyframes(self) -> None:
        """A hold opened: keyframes of less than a window ago are no place to begin at, nor those that are read."""
        for namespace in self.namespaces.values():
            if namespace.sync is not None:
                namespace.sync.beginning.is_quiet = False
            for keyframe in namespace.keyframes:
                if keyframe.clock + self.guard.settings.longest_window_us >= self.guard.clock:
                    keyframe.is_quiet = False


@dataclass(slots=True)
class NamespaceChanges:
    """A namespace across datacenters: its version, and what is to be looked at again."""

    version: dict[str, int] = field(default_factory=dict)
    observed_at: int = 0
    dirty: Touched = field(default_factory=Touched)


@dataclass(slots=True)
class PartitionState:
    """The whole state of a partition's fold; `converter` is that of the `revision` that it is made for."""

    converter: Converter
    revision: str = REVISION
    datacenters: dict[Datacenter, DatacenterState] = field(default_factory=dict)
    changes: dict[Namespace, NamespaceChanges] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    decisions: dict[Namespace, tuple[Decision, ...]] = field(default_factory=dict)
    releases: list[Decision] = field(default_factory=list)

    def touch(self, namespace: Namespace, topic: str, offset: int, observed_at: int, touched: Touched) -> None:
        """What stands at that offset changed content of the namespace: its version moves."""
        changes = self.changes.get(namespace)
        if changes is None:
            changes = self.changes[namespace] = NamespaceChanges()
        changes.version[topic] = offset
        changes.observed_at = observed_at
        changes.dirty.add(touched)

    def note_complete(self, namespace: Namespace, topic: str, offset: int, observed_at: int) -> None:
        """A whole keyframe that touched nothing ended there: an empty namespace has a version from its first one.

        For each topic, so that the order in which topics are read does not matter.
        """
        changes = self.changes.get(namespace)
        if changes is None or topic not in changes.version:
            self.touch(namespace, topic, offset, observed_at, Touched(is_first=True))

    def note_guarded(
        self, datacenter: DatacenterState, places: AbstractSet[Place], topic: str, offset: int, observed_at: int
    ) -> None:
        """Services that look different because a hold began or ended; they may be another namespace's."""
        if datacenter.guard.has_opened or datacenter.heads.has_opened:
            datacenter.guard.has_opened = datacenter.heads.has_opened = False
            datacenter.disturb_keyframes()
        for place in places:
            namespace = datacenter.namespaces.get(place.namespace)
            if namespace is not None and namespace.complete:
                self.touch(place.namespace, topic, offset, observed_at, Touched(services={place.service}))
        for name in {place.namespace for place in places}:
            namespace = datacenter.namespaces.get(name)
            if namespace is not None and namespace.gone and not datacenter.guard.holds_of(name):
                del datacenter.namespaces[name]

    def note_faulted(self, namespace: Namespace, faulted: Touched | None) -> None:
        """A view could not make these; None for all there is."""
        for there in self.of_namespace(namespace).values():
            there.note_fault()
            if faulted is not None:
                there.faulted.add(faulted)
            else:
                there.faulted.add(Touched(self.services_of(namespace), set(there.claims)))

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

    def missing(self, namespace: Namespace, expected: Iterable[str]) -> tuple[Datacenter, ...]:
        """The expected datacenters that have not stated the namespace, and are not excluded."""
        present = {name for name, here in self.of_namespace(namespace).items() if here.complete}
        left_out = excluded(self.decisions.get(namespace, ()))
        return tuple(Datacenter(name) for name in sorted(set(expected) - present - left_out))

    def waited_us(self, namespace: Namespace) -> int:
        """How long ago the first datacenter had stated it as a whole, by the time of that one's records."""
        return max(
            self.datacenters[name].guard.steady_at - here.completed_at
            for name, here in self.of_namespace(namespace).items()
            if here.complete
        )

    def is_complete(self, namespace: Namespace) -> bool:
        """Whether any datacenter has stated the namespace as a whole."""
        return any(ns.complete for ns in self.of_namespace(namespace).values())

    def held(self, datacenter: Datacenter, namespace: Namespace, key: ServiceKey) -> dict[InstanceKey, Lost]:
        """The endpoints of a service that its guard keeps."""
        guard = self.datacenters[datacenter].guard
        return guard.held(Place(namespace, key)) if guard.holds else {}

    def services_of(self, namespace: Namespace) -> set[ServiceKey]:
        """All that may have an entry, in any datacenter: those whose endpoints are kept, or whose entry is."""
        found: set[ServiceKey] = set()
        for name, here in self.of_namespace(namespace).items():
            datacenter = self.datacenters[name]
            found |= here.services.keys() | datacenter.departures.of(namespace).keys()
            found |= datacenter.guard.held_services(namespace)
        return found

    def since(self, namespace: Namespace, key: ServiceKey) -> dict[Datacenter, int]:
        """Since when a service is there, by datacenter: excluded ones too, so that a decision takes no name."""
        found = {}
        for name, here in self.of_namespace(namespace).items():
            if here.complete:
                service = here.services.get(key)
                departed = self.datacenters[name].departures.of(namespace).get(key)
                if departed is not None:
                    found[name] = departed.since
                elif service is not None and service.since is not None:
                    found[name] = service.since
        return found

    def adopt_claims(self, namespace: Namespace, claims: Mapping[str, int]) -> set[ServiceKey]:
        """Since when services are there, as a manifest names it (see `claims`); of which that was not so here."""
        differing: set[ServiceKey] = set()
        for name, here in self.of_namespace(namespace).items() if claims else ():
            there: list[tuple[ServiceKey, FoldedService | Departed]] = [*here.services.items()]
            there += self.datacenters[name].departures.of(namespace).items()
            for key, service in there:
                since = claims.get(claim_name(name, key))
                if since is not None and service.since not in {None, since}:
                    service.since = since
                    differing.add(key)
        return differing

    def describe_holds(self, datacenter: Datacenter, namespace: Namespace) -> list[str]:
        """The open holds that bear on a namespace, of endpoints and of heads, as a manifest names them."""
        there = self.datacenters[datacenter]
        endpoints = [hold.describe(datacenter) for hold in there.guard.holds_of(namespace)]
        return endpoints + [hold.describe(datacenter) for hold in there.heads.holds_of(namespace)]

    def kept_head(self, datacenter: Datacenter, namespace: Namespace, key: ServiceKey) -> Head | None:
        """The head that a service keeps although its instances vote for another."""
        heads = self.datacenters[datacenter].heads
        return heads.kept(Place(namespace, key)) if heads.holds else None

    def of_namespace(self, namespace: Namespace) -> dict[Datacenter, NamespaceState]:
        """The namespace in each datacenter that has it, in the order of their names."""
        return {
            name: self.datacenters[name].namespaces[namespace]
            for name in sorted(self.datacenters)
            if namespace in self.datacenters[name].namespaces
        }


def claim_name(datacenter: Datacenter, key: ServiceKey) -> str:
    """How a manifest names a service of a datacenter, in 16 hex digits: it may name many."""
    text = f"{datacenter}\0{key.group}\0{key.service}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
