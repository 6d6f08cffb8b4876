"""The namespaces as read from `shiplog.snapshots`, and those of them that are whole. Pure.

A namespace's records are kept aside until its manifest arrives, and then all take effect at once: no reader
ever sees half a snapshot. A manifest whose digest does not match leaves the last good snapshot standing.

A partition that is read from its beginning, at the start or again, is collected beside what stands. At its end
each namespace that matches its manifest replaces what stood, as one change; one that does not match leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.digests import format_snapshot_digest
from schemas.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_gateway.resources import StoredResource
    from schemas.records import Manifest
    from schemas.topics import ManifestKey, ResourceKey

CollectionAndName = tuple[str, str]

MISMATCH = "its manifest does not match the resources that were read"
UNUSABLE_MANIFEST = "its manifest can't be used"
NO_MANIFEST = "the topic holds resources of it, and no manifest"
NOT_IN_TOPIC = "the topic does not hold it any more"
NOT_SHOWN = "an internal fault kept its snapshot from being shown"


@dataclass(frozen=True, slots=True)
class AppliedChanges:
    """What a manifest changed; None for a removed resource.

    `former` is what stood before, None where nothing did.
    """

    namespace: str
    resources: dict[CollectionAndName, StoredResource | None]
    observed_at: int
    former: Mapping[CollectionAndName, StoredResource | None] = field(default_factory=dict)
    former_manifest: Manifest | None = None

    def undone(self) -> AppliedChanges:
        """The changes back to what stood before."""
        return AppliedChanges(self.namespace, dict(self.former), self.observed_at)


@dataclass(slots=True)
class NamespaceSnapshot:
    """The last good snapshot of a namespace, and the records that wait for the next manifest.

    `manifest` is None where no good snapshot is known. `matches` says whether the last manifest did. `cached_at`
    is when a snapshot from the disk was last known to be Kafka's, in seconds (UTC); None if it is from Kafka.
    """

    resources: dict[CollectionAndName, StoredResource] = field(default_factory=dict)
    digest: int = 0
    manifest: Manifest | None = None
    matches: bool = True
    cached_at: float | None = None
    _staged: dict[CollectionAndName, StoredResource | None] = field(default_factory=dict)

    def stage(self, name: CollectionAndName, resource: StoredResource | None) -> None:
        """A record of the snapshot to come."""
        self._staged[name] = resource

    def apply(self, namespace: str, manifest: Manifest, *, must_match: bool) -> AppliedChanges | None:
        """Applies what is staged; None when the digest does not match and it must.

        While a compacted topic is read from its beginning, older manifests need not match: records that newer
        ones replaced may be gone. What counts is the state at the end.
        """
        former = {name: self.resources.get(name) for name in self._staged}
        digest = self.digest
        for name, resource in self._staged.items():
            before = former[name]
            digest += (0 if resource is None else resource.digest) - (0 if before is None else before.digest)
        self.matches = format_snapshot_digest(digest) == manifest.digest
        if must_match and not self.matches:
            return None
        staged, self._staged = self._staged, {}
        self.put(staged)
        self.digest = digest
        former_manifest, self.manifest = self.manifest, manifest
        self.cached_at = None
        return AppliedChanges(namespace, staged, manifest.observed_at, former, former_manifest)

    def put(self, resources: Mapping[CollectionAndName, StoredResource | None]) -> None:
        """These resources stand now; None for one that does not."""
        for name, resource in resources.items():
            if resource is None:
                self.resources.pop(name, None)
            else:
                self.resources[name] = resource


@dataclass(slots=True)
class SnapshotStore:
    """All namespaces, from the snapshot topic's records in order.

    `namespaces` holds the last good snapshots. `faults` says why a namespace's newest state is not among them.
    `unknown` are the namespaces that exist although no good snapshot of them is known: an answer without them
    would remove what a Pilot may have of them.
    """

    partitions: int
    namespaces: dict[str, NamespaceSnapshot] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    _reading: dict[int, dict[str, NamespaceSnapshot]] = field(init=False)
    _unsettled: dict[str, NamespaceSnapshot] = field(default_factory=dict)
    _read: set[int] = field(default_factory=set)
    _partition_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Every partition is read from its beginning first."""
        self._reading = {number: {} for number in range(self.partitions)}

    def put_resource(self, key: ResourceKey, resource: StoredResource | None) -> None:
        """A resource record, or its tombstone."""
        self._newest(key.namespace).stage((key.collection, key.name), resource)

    def put_manifest(self, key: ManifestKey, manifest: Manifest) -> AppliedChanges | None:
        """A manifest: the changes that it made.

        None while its partition is read from the beginning, and where it does not match: see `faults`.
        """
        namespace, newest = key.namespace, self._newest(key.namespace)
        if self.is_reading(self.partition(namespace)):
            newest.apply(namespace, manifest, must_match=False)
            return None
        if namespace in self._unsettled:
            newest.apply(namespace, manifest, must_match=False)
            changes = self._adopt(namespace, self._unsettled.pop(namespace)) if newest.matches else None
        else:
            changes = newest.apply(namespace, manifest, must_match=True)
        if changes is None:
            self.faults[namespace] = MISMATCH
        else:
            self._is_good(namespace)
        return changes

    def spoil(self, key: ManifestKey) -> None:
        """A manifest that can't be used: until the next one the namespace does not match."""
        newest = self._newest(key.namespace)
        newest.matches = False
        if not self.is_reading(self.partition(key.namespace)):
            self.faults[key.namespace] = UNUSABLE_MANIFEST

    def begin(self, partition: int) -> None:
        """The partition is read from its beginning from now on; what stands, stands until its end is reached."""
        self._reading[partition] = {}
        for namespace in [name for name in self._unsettled if self.partition(name) == partition]:
            del self._unsettled[namespace]

    def end_reached(self, partition: int) -> list[AppliedChanges]:
        """A partition was read to where its end was: the changes of its namespaces, one each."""
        found = self._reading.pop(partition, None)
        if found is None:
            return []
        is_first = partition not in self._read
        self._read.add(partition)
        self.unknown -= {name for name in self.unknown - found.keys() if self.partition(name) == partition}
        changes = []
        for namespace, read in found.items():
            if read.manifest is not None and read.matches:
                changes.append(self._adopt(namespace, read))
                self._is_good(namespace)
            elif read.manifest is None and read.matches and not self._is_known(namespace):
                self.namespaces[namespace] = read  # it was never published: its manifest is still to come
            else:
                self._unsettled[namespace] = read
                self.faults[namespace] = _fault_of(read)
                if is_first and not self._is_known(namespace):
                    self.unknown.add(namespace)
        self._note_missing(partition, found)
        return changes

    def hold(
        self,
        namespace: str,
        manifest: Manifest,
        resources: dict[CollectionAndName, StoredResource],
        cached_at: float,
    ) -> AppliedChanges | None:
        """A good snapshot from the disk, for a namespace of which none is known; None where one is."""
        if self._is_known(namespace):
            return None
        digest = sum(resource.digest for resource in resources.values())
        waiting = self.namespaces.get(namespace)
        held = NamespaceSnapshot(resources, digest, manifest, cached_at=cached_at)
        if waiting is not None:
            held._staged = waiting._staged  # noqa: SLF001 - the same room
        self.namespaces[namespace] = held
        self.unknown.discard(namespace)
        return AppliedChanges(namespace, dict(resources), manifest.observed_at, dict.fromkeys(resources))

    def miss(self, namespace: str, fault: str) -> None:
        """A namespace exists, and its snapshot on the disk can't be used."""
        if not self._is_known(namespace) and self.partition(namespace) not in self._read:
            self.unknown.add(namespace)
            self.faults[namespace] = fault

    def retract(self, changes: AppliedChanges) -> None:
        """The changes can't be shown: what stood before stands again."""
        held = self.namespaces[changes.namespace]
        held.put(changes.former)
        held.digest = sum(resource.digest for resource in held.resources.values())
        held.manifest, held.matches = changes.former_manifest, False
        self.faults[changes.namespace] = NOT_SHOWN
        if held.manifest is None and not self.has_read_all:
            self.unknown.add(changes.namespace)

    @property
    def has_read_all(self) -> bool:
        """Whether every partition was read to its end once."""
        return len(self._read) >= self.partitions

    @property
    def has_snapshots(self) -> bool:
        """Whether a good snapshot of any namespace is known."""
        return any(held.manifest is not None for held in self.namespaces.values())

    @property
    def waiting_for(self) -> str:
        """What keeps it from being complete; empty when it is."""
        if not self.has_read_all:
            left = self.partitions - len(self._read)
            return f"{left} of {self.partitions} partitions are not read yet"
        wrong = {name for name, held in self.namespaces.items() if held.manifest is None} | self.faults.keys()
        if not self.namespaces and not wrong:
            return "nothing was published yet: an empty answer would take every service from a mesh"
        return f"no matching manifest in {', '.join(sorted(wrong)[:5])}" if wrong else ""

    def partition(self, namespace: str) -> int:
        """The partition of a namespace's records."""
        found = self._partition_of.get(namespace)
        if found is None:
            found = self._partition_of[namespace] = partition_of(namespace, self.partitions)
        return found

    def is_reading(self, partition: int) -> bool:
        """Whether the partition is being read from its beginning."""
        return partition in self._reading

    def _newest(self, namespace: str) -> NamespaceSnapshot:
        """Where the namespace's next record belongs."""
        reading = self._reading.get(self.partition(namespace))
        if reading is None:
            found = self._unsettled.get(namespace)
            if found is not None:
                return found
            reading = self.namespaces
        snapshot = reading.get(namespace)
        if snapshot is None:
            snapshot = reading[namespace] = NamespaceSnapshot()
        return snapshot

    def _adopt(self, namespace: str, read: NamespaceSnapshot) -> AppliedChanges:
        """What was read from the beginning stands from now on: the difference to what stood."""
        held = self.namespaces.get(namespace) or NamespaceSnapshot()
        changes: dict[CollectionAndName, StoredResource | None] = {}
        for name, resource in read.resources.items():
            former = held.resources.get(name)
            if former is None or former.digest != resource.digest:
                changes[name] = resource
            else:
                read.resources[name] = former  # the views hold its pieces
        changes.update(dict.fromkeys(held.resources.keys() - read.resources.keys()))
        self.namespaces[namespace] = read
        observed_at = 0 if read.manifest is None else read.manifest.observed_at
        former_resources = {name: held.resources.get(name) for name in changes}
        return AppliedChanges(namespace, changes, observed_at, former_resources, held.manifest)

    def _note_missing(self, partition: int, found: Mapping[str, object]) -> None:
        """Namespaces that stand, or were said to exist, and of which the topic has nothing."""
        for namespace in self.namespaces.keys() - found.keys():
            if self.partition(namespace) != partition:
                continue
            if self._is_known(namespace):
                self.faults[namespace] = NOT_IN_TOPIC
            else:
                del self.namespaces[namespace]
        for namespace in self.faults.keys() - self.namespaces.keys() - found.keys():
            if self.partition(namespace) == partition:
                del self.faults[namespace]

    def _is_known(self, namespace: str) -> bool:
        held = self.namespaces.get(namespace)
        return held is not None and held.manifest is not None

    def _is_good(self, namespace: str) -> None:
        self.faults.pop(namespace, None)
        self.unknown.discard(namespace)


def _fault_of(read: NamespaceSnapshot) -> str:
    """Why what was read of a namespace is no good snapshot."""
    if read.manifest is not None:
        return MISMATCH
    return NO_MANIFEST if read.matches else UNUSABLE_MANIFEST
