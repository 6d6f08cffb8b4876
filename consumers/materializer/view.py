"""What a namespace's resources are, given the fold: computed for dirty services only. Pure.

A view keeps what stands published (names, versions, digest) and answers with what differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from consumers.materializer.claimed_names import ClaimedNames
from consumers.materializer.conversion import SERVICE_ENTRIES
from consumers.materializer.conversion.service_entry import encode_stated
from consumers.materializer.fold_state import Touched
from consumers.materializer.folded_item import Claimant, claimants
from consumers.materializer.folded_service import FoldedService
from consumers.materializer.held_service import HeldService, service_entry
from schemas.digests import format_snapshot_digest, resource_digest
from schemas.records import Change, ChangeKind, Manifest, ResourceRecord
from schemas.topics import CONTROL_EVENTS, MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.materializer.fold_state import NamespaceState, PartitionState
    from consumers.materializer.folded_item import ResourceId
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, Namespace, ServiceKey

    _Services = dict[ServiceKey, FoldedService]
    _Records = dict[tuple[str, str], ResourceRecord | None]

MAX_BODY_BYTES = MAX_RECORD_BYTES - 64 * 1024
"""Leaves room for names, labels and digests."""
MAX_CHANGES = 1000
"""Changes named in a manifest; the counts tell of all."""


class Occasion(NamedTuple):
    """Why a snapshot is made, and what a manifest says of the way to it; see `Manifest`."""

    reason: str
    recover_from: Mapping[str, int] = MappingProxyType({})
    folded_to: Mapping[str, int] = MappingProxyType({})
    converter: str = ""
    missing: tuple[Datacenter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What must be written to make the snapshot present; records with None are removals.

    `digests` are the written resources' shares of the snapshot's digest.
    """

    records: dict[tuple[str, str], ResourceRecord | None]
    digests: dict[tuple[str, str], int]
    manifest: Manifest


@dataclass(slots=True)
class PublishedNamespace:
    """What stands published of a namespace: the resources' versions by (collection, name), and the manifest."""

    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    manifest: Manifest | None = None


@dataclass(slots=True)
class NamespaceView:
    """A namespace as it stands published: resource versions by (collection, name), and the digest's sum.

    `update` computes what differs, `published` takes it in once it is committed. `conflicts` names who wants a
    resource's name, the one that has it first; `oversized` the resources that are too large to be written, and
    their bytes.
    """

    namespace: Namespace
    settings: ConversionSettings
    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    digest: int = 0
    manifest: Manifest | None = None
    conflicts: dict[ResourceId, tuple[str, ...]] = field(default_factory=dict)
    oversized: dict[ResourceId, int] = field(default_factory=dict)
    _digests: dict[tuple[str, str], int] = field(default_factory=dict)
    _names: ClaimedNames = field(init=False)

    def __post_init__(self) -> None:
        self._names = ClaimedNames(self.settings, self.namespace)

    def adopt(self, versions: dict[tuple[str, str], str], manifest: Manifest) -> None:
        """This is what stands published, read back from the snapshot topic."""
        self.versions = versions
        self._digests = {(c, n): resource_digest(c, n, v) for (c, n), v in versions.items()}
        self.digest = sum(self._digests.values())
        self.manifest = manifest

    def update(self, state: PartitionState, dirty: Touched, occasion: Occasion) -> Update | None:
        """What brings the snapshot to the fold's state; None when that version stands already.

        `dirty` is what may differ; all else is as it was published.
        """
        counted = state.counted(self.namespace)
        here = {name: there.services for name, there in counted.items()}
        stated = {one: _claimants(counted, one) for one in dirty.resources}
        uncovered = {name for (kind, name), found in stated.items() if kind == SERVICE_ENTRIES and not found}
        touched = {key: self._parts_of(state, here, key) for key in dirty.services | self._names.named(uncovered)}
        records: _Records = dict.fromkeys(stated)
        for key, former in self._names.claim(touched).items():
            if former is not None:
                records[SERVICE_ENTRIES, former.resource] = None
            if key not in touched:
                touched[key] = self._parts_of(state, here, key)
        for key, services in touched.items():
            if services:
                name = self._names.name(key)
                records[SERVICE_ENTRIES, name.resource] = service_entry(
                    self.settings, self.namespace, name, services
                )
        self._prefer_stated(counted, stated, records)
        return self._difference(state, records, occasion)

    def update_all(self, state: PartitionState, occasion: Occasion) -> Update | None:
        """As `update`, over everything, and with the removal of published resources that none has."""
        dirty = Touched(services=set(self._names))
        for datacenter, there in state.of_namespace(self.namespace).items():
            dirty.services |= there.services.keys()
            dirty.services |= state.datacenters[datacenter].guard.held_services(self.namespace)
            dirty.resources |= there.claims.keys()
        update = self.update(state, dirty, occasion)
        known = {(SERVICE_ENTRIES, resource) for resource in self._names.resources()}
        for there in state.counted(self.namespace).values():
            known |= there.claims.keys()
        strangers: _Records = dict.fromkeys(self.versions.keys() - known)
        if not strangers:
            return update
        return self._difference(state, (dict(update.records) if update else {}) | strangers, occasion)

    def _prefer_stated(
        self,
        counted: dict[Datacenter, NamespaceState],
        stated: dict[ResourceId, list[Claimant]],
        records: _Records,
    ) -> None:
        """What a config item states goes before what is generated; of several items the first has the name."""
        for there in counted.values():
            claimed = (there.claims.keys() & records.keys()) - stated.keys()
            stated |= {one: _claimants(counted, one) for one in claimed}
        for one, found in stated.items():
            rivals = [str(claimant) for claimant in found]
            if found and records.get(one) is not None:
                rivals.append("a service of that name")
            if len(rivals) > 1:
                self.conflicts[one] = tuple(rivals)
            else:
                self.conflicts.pop(one, None)
            if found:
                records[one] = encode_stated(self.namespace, found[0].resource)

    def replace(
        self, state: PartitionState, records: Mapping[tuple[str, str], ResourceRecord], occasion: Occasion
    ) -> Update | None:
        """What makes the snapshot these records, and nothing else: a version that the namespace is pinned to."""
        strangers: _Records = dict.fromkeys(self.versions.keys() - records.keys())
        return self._difference(state, strangers | dict(records), occasion)

    def restate(self, state: PartitionState, occasion: Occasion) -> Update | None:
        """A manifest that tells of a decision where the content stays; None when nothing was ever published."""
        former = self.manifest
        if former is None:
            return None
        manifest = replace(
            former,
            version=former.version | {CONTROL_EVENTS: state.changes[self.namespace].version[CONTROL_EVENTS]},
            added=0,
            changed=0,
            removed=0,
            changes=(),
            reason=occasion.reason,
            recover_from=dict(occasion.recover_from),
            folded_to=dict(occasion.folded_to),
            **self._circumstances(state),
        )
        return Update(records={}, digests={}, manifest=manifest)

    def published(self, update: Update) -> None:
        """The update is committed."""
        for name, record in update.records.items():
            self.digest -= self._digests.pop(name, 0)
            if record is None:
                self.versions.pop(name, None)
            else:
                self.versions[name] = record.version
                self._digests[name] = update.digests[name]
                self.digest += update.digests[name]
        self.manifest = update.manifest

    def _parts_of(
        self, state: PartitionState, here: dict[Datacenter, _Services], key: ServiceKey
    ) -> dict[Datacenter, HeldService]:
        """The service in each datacenter, with what its guard keeps; empty when none has an instance of it."""
        found = {}
        for datacenter, services in here.items():
            service = services.get(key)
            held = state.held(datacenter, self.namespace, key)
            if service is not None or held:
                found[datacenter] = HeldService(service or FoldedService(self.settings.protocol.lower()), held)
        return found if any(one.service.instances or one.held for one in found.values()) else {}

    def _difference(self, state: PartitionState, records: _Records, occasion: Occasion) -> Update | None:
        """The update that writes what differs of these records, and its manifest."""
        changes = state.changes[self.namespace]
        different = {
            name: record
            for name, record in records.items()
            if self._fits(name, record) and self.versions.get(name) != (record and record.version)
        }
        if not different and self.manifest is not None and self.manifest.version == changes.version:
            return None
        kinds: dict[ChangeKind, list[Change]] = {kind: [] for kind in ChangeKind}
        total, count = self.digest, len(self.versions)
        digests: dict[tuple[str, str], int] = {}
        for (collection, name), record in sorted(different.items(), key=lambda item: item[0]):
            former = self._digests.get((collection, name))
            kind = (
                ChangeKind.REMOVED
                if record is None
                else ChangeKind.ADDED
                if former is None
                else ChangeKind.CHANGED
            )
            kinds[kind].append(Change(kind=kind, collection=collection, name=name))
            count += (record is not None) - (former is not None)
            total -= former or 0
            if record is not None:
                digest = digests[collection, name] = resource_digest(collection, name, record.version)
                total += digest
        manifest = Manifest(
            namespace=self.namespace,
            version=dict(changes.version),
            digest=format_snapshot_digest(total),
            resources=count,
            added=len(kinds[ChangeKind.ADDED]),
            changed=len(kinds[ChangeKind.CHANGED]),
            removed=len(kinds[ChangeKind.REMOVED]),
            changes=tuple(change for kind in kinds.values() for change in kind)[:MAX_CHANGES],
            reason=occasion.reason,
            converter=occasion.converter,
            observed_at=changes.observed_at,
            missing=occasion.missing,
            recover_from=dict(occasion.recover_from),
            folded_to=dict(occasion.folded_to),
            **self._circumstances(state),
        )
        return Update(records=different, digests=digests, manifest=manifest)

    def _fits(self, name: ResourceId, record: ResourceRecord | None) -> bool:
        """Whether Kafka takes the record; one that is too large is not written: the last that fitted stands."""
        size = 0
        if record is not None:
            size = len(record.head)
            for part in record.parts:
                size += len(part.body)
        if size <= MAX_BODY_BYTES:
            if self.oversized:
                self.oversized.pop(name, None)
            return True
        self.oversized[name] = size
        return False

    def _circumstances(self, state: PartitionState) -> dict[str, Any]:
        """What a manifest says of links, holds and decisions."""
        here = state.of_namespace(self.namespace)
        return {
            "links": {datacenter: state.datacenters[datacenter].link for datacenter in here},
            "holds": tuple(
                hold.describe(datacenter)
                for datacenter in here
                for hold in state.datacenters[datacenter].guard.holds_of(self.namespace)
            ),
            "suspect": tuple(datacenter for datacenter, namespace in here.items() if namespace.suspect),
            "frozen": state.stands(self.namespace),
            "decisions": state.decisions_over(self.namespace),
            "oversized": tuple(sorted(f"{collection} {name}" for collection, name in self.oversized)),
        }


def _claimants(counted: dict[Datacenter, NamespaceState], wanted: ResourceId) -> list[Claimant]:
    return claimants(((name, there.claims, there.items) for name, there in counted.items()), wanted)
