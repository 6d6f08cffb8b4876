"""A namespace as it stands published, and what differs of it, given the fold: of what is dirty only. Pure.

A view raises nothing. A resource that can't be made or written stands as it was published last, and the manifest
names it (`withheld`) with that version, so that whoever folds the log again arrives at the same digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.faults import internal
from consumers.materializer.fold_state import Touched
from consumers.materializer.manifests import MAX_NAMED, circumstances, named, resource_id, tally
from consumers.materializer.namespace_records import NamespaceRecords
from schemas.digests import resource_digest
from schemas.records import Manifest, ResourceRecord
from schemas.topics import CONTROL_EVENTS, MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from consumers.materializer.conversion.names import ServiceName
    from consumers.materializer.faults import Fault
    from consumers.materializer.fold_state import PartitionState
    from consumers.materializer.folded_item import ResourceId
    from consumers.materializer.namespace_records import Records
    from consumers.materializer.set_aside_instances import SetAsideInstances
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, Namespace, ServiceKey

MAX_BODY_BYTES = MAX_RECORD_BYTES - 64 * 1024
"""Of head, endpoints, labels and annotations; leaves room for names and digests."""


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
    """What stands published of a namespace: the resources' versions by (collection, name), and the manifest.

    `datacenters` are those with a part in each resource; `written_at` is when the manifest was written,
    microseconds (UTC) of its writer's clock.
    """

    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    datacenters: dict[tuple[str, str], frozenset[Datacenter]] = field(default_factory=dict)
    manifest: Manifest | None = None
    written_at: int = 0


@dataclass(slots=True)
class NamespaceView:
    """A namespace as it stands published: resource versions by (collection, name), and the digest's sum.

    `update` computes what differs, `published` takes it in once it is committed. `oversized` names the resources
    that are too large to be written, and their bytes. Of the last call, `faults` is what was new that could not be
    made, and `failed` whether all of it came to nothing, by the last `failure`: then the next update looks at
    everything.
    """

    namespace: Namespace
    settings: ConversionSettings
    versions: dict[ResourceId, str] = field(default_factory=dict)
    digest: int = 0
    manifest: Manifest | None = None
    oversized: dict[ResourceId, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    failed: bool = False
    failure: str = ""
    _again: set[ResourceId] = field(default_factory=set)
    _digests: dict[ResourceId, int] = field(default_factory=dict)
    _records: NamespaceRecords = field(init=False)

    def __post_init__(self) -> None:
        self._records = NamespaceRecords(self.namespace, self.settings)

    def name_of(self, key: ServiceKey) -> ServiceName | None:
        """What a service is called; None where it has no name."""
        return self._records.name_of(key)

    @property
    def conflicts(self) -> dict[ResourceId, tuple[str, ...]]:
        """Who wants a resource's name, where several do; the first has it."""
        return self._records.conflicts

    @property
    def rivals(self) -> dict[str, tuple[str, ...]]:
        """Resources' names and hosts that several services want, and which; the first has it."""
        return {
            one: tuple(f"{key.group}@@{key.service}" for key in who) for one, who in self._records.rivals.items()
        }

    @property
    def set_aside(self) -> SetAsideInstances:
        """The instances that are not listed although Nacos gives them out."""
        return self._records.set_aside

    @property
    def without_address(self) -> list[str]:
        """The services that would have a virtual address if the range had one left."""
        return sorted(f"{key.group}@@{key.service}" for key in self._records.without_address)

    @property
    def faulted(self) -> dict[ResourceId, str]:
        """The resources that could not be made, and why."""
        return self._records.faulted

    def adopt(self, versions: dict[ResourceId, str], manifest: Manifest) -> None:
        """This is what stands published, read back from the snapshot topic."""
        self.versions = versions
        self._digests = {(c, n): resource_digest(c, n, v) for (c, n), v in versions.items()}
        self.digest = sum(self._digests.values())
        self.manifest = manifest
        self._records.adopt_faulted(map(resource_id, manifest.withheld))

    def adopt_withheld(self, withheld: Mapping[str, str]) -> tuple[str, ...]:
        """These resources stand at the versions that a manifest names; which of them did not stand so here.

        They are looked at again with the next update: then they may not be withheld any more.
        """
        unproven = []
        for name, version in withheld.items():
            one = resource_id(name)
            self._again.add(one)
            if self.versions.get(one, "") == version:
                continue
            unproven.append(name)
            self.digest -= self._digests.pop(one, 0)
            self.versions.pop(one, None)
            if version:
                self.versions[one] = version
                self._digests[one] = resource_digest(*one, version)
                self.digest += self._digests[one]
        return tuple(unproven)

    def update(self, state: PartitionState, dirty: Touched, occasion: Occasion) -> Update | None:
        """What brings the snapshot to the fold's state; None when that version stands already, or on a fault.

        `dirty` is what may differ; all else is as it was published.
        """
        if self.failed:
            return self.update_all(state, occasion)
        if self._again:
            dirty.resources |= self._again
            self._again = set()
        return self._attempt(
            state, dirty, lambda: self._difference(state, self._records.of(state, dirty), occasion)
        )

    def update_all(self, state: PartitionState, occasion: Occasion) -> Update | None:
        """As `update`, over everything, and with the removal of published resources that none has."""
        return self._attempt(
            state,
            None,
            lambda: self._difference(state, self._records.all(state, self.versions.keys()), occasion),
        )

    def replace(
        self, state: PartitionState, records: Mapping[ResourceId, ResourceRecord], occasion: Occasion
    ) -> Update | None:
        """What makes the snapshot these records, and nothing else: a version that the namespace is pinned to."""
        self._records.adopt_faulted(())
        strangers: Records = dict.fromkeys(self.versions.keys() - records.keys())
        return self._attempt(
            state, Touched(), lambda: self._difference(state, strangers | dict(records), occasion)
        )

    def restate(self, state: PartitionState, occasion: Occasion) -> Update | None:
        """A manifest that tells of a decision where the content stays; None when nothing was ever published."""
        former = self.manifest
        if former is None:
            return None
        return self._attempt(state, Touched(), lambda: self._restated(state, former, occasion))

    def refuse(self, update: Update, refused: Mapping[ResourceId, str]) -> Update:
        """The update without resources that can't be written after all; what was published of them stands."""
        self.faulted.update(refused)
        self._again.update(refused)
        records = {one: record for one, record in update.records.items() if one not in refused}
        counted = tally(records, self._digests, self.digest)
        manifest = replace(update.manifest, withheld=self._withheld(), **counted.counts)
        return Update(records=records, digests=counted.digests, manifest=manifest)

    def fail(self, error: Exception) -> list[Fault]:
        """The update can't be made or written: what is published stands. The fault, if it is a new one."""
        fault = internal(f"namespace {self.namespace}", error)
        self.failed = True
        self.faults = [] if fault.detail == self.failure else [fault]
        self.failure = fault.detail
        return self.faults

    def published(self, update: Update) -> None:
        """The update is committed."""
        self.failure = ""
        for name, record in update.records.items():
            self.digest -= self._digests.pop(name, 0)
            if record is None:
                self.versions.pop(name, None)
            else:
                self.versions[name] = record.version
                self._digests[name] = update.digests[name]
                self.digest += update.digests[name]
        self.manifest = update.manifest

    def _attempt(
        self, state: PartitionState, dirty: Touched | None, make: Callable[[], Update | None]
    ) -> Update | None:
        """What it makes; None where it raises: then what is published stands. `dirty` is None for everything."""
        self.faults, self.failed = [], False
        try:
            update = make()
        except Exception as error:  # noqa: BLE001 - it costs this namespace's update
            self.fail(error)
            state.note_faulted(self.namespace, dirty)
            return None
        self.faults = self._records.faults
        return update

    def _restated(self, state: PartitionState, former: Manifest, occasion: Occasion) -> Update:
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
            **circumstances(state, self.namespace),
        )
        return Update(records={}, digests={}, manifest=manifest)

    def _difference(self, state: PartitionState, records: Records, occasion: Occasion) -> Update | None:
        """The update that writes what differs of these records, and its manifest."""
        changes = state.changes[self.namespace]
        different = {
            name: record
            for name, record in records.items()
            if self._fits(name, record) and self.versions.get(name) != (record and record.version)
        }
        if not different and self.manifest is not None and self.manifest.version == changes.version:
            return None
        counted = tally(different, self._digests, self.digest)
        manifest = Manifest(
            namespace=self.namespace,
            version=dict(changes.version),
            reason=occasion.reason,
            converter=occasion.converter,
            observed_at=changes.observed_at,
            missing=occasion.missing,
            recover_from=dict(occasion.recover_from),
            folded_to=dict(occasion.folded_to),
            oversized=named(self.oversized),
            withheld=self._withheld(),
            claims=self._records.claims,
            **counted.counts,
            **circumstances(state, self.namespace),
        )
        return Update(records=different, digests=counted.digests, manifest=manifest)

    def _fits(self, name: ResourceId, record: ResourceRecord | None) -> bool:
        """Whether Kafka takes the record; one that is too large is not written: the last that fitted stands."""
        size = 0
        if record is not None:
            size = len(record.head)
            for part in record.parts:
                size += len(part.body)
            for texts in (record.labels, record.annotations):
                if texts:
                    size += sum(len(key.encode()) + len(value.encode()) for key, value in texts.items())
        if size <= MAX_BODY_BYTES:
            if self.oversized:
                self.oversized.pop(name, None)
            return True
        self.oversized[name] = size
        return False

    def _withheld(self) -> dict[str, str]:
        """The resources that stand at an earlier content, as a manifest names them, with their versions."""
        if not self.oversized and not self.faulted:
            return {}
        withheld = sorted(self.oversized.keys() | self.faulted.keys())[:MAX_NAMED]
        return {" ".join(one): self.versions.get(one, "") for one in withheld}
