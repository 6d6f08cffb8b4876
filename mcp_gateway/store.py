"""What stands published, as read from `shiplog.snapshots`. Pure.

A namespace's records are kept aside until its manifest arrives, and then all take effect at once: no reader
ever sees half a snapshot. A manifest whose digest does not match leaves the last good snapshot standing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.digests import format_snapshot_digest

if TYPE_CHECKING:
    from mcp_gateway.resources import StoredResource
    from schemas.records import Manifest
    from schemas.topics import ManifestKey, ResourceKey

CollectionAndName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class AppliedChanges:
    """What a manifest changed; None for a removed resource."""

    namespace: str
    resources: dict[CollectionAndName, StoredResource | None]
    observed_at: int


@dataclass(slots=True)
class NamespaceSnapshot:
    """A namespace: what is served, what waits for a manifest, and whether the last manifest matched."""

    resources: dict[CollectionAndName, StoredResource] = field(default_factory=dict)
    digest: int = 0
    manifest: Manifest | None = None
    matches: bool = True
    _staged: dict[CollectionAndName, StoredResource | None] = field(default_factory=dict)

    def stage(self, name: CollectionAndName, resource: StoredResource | None) -> None:
        """A record of the snapshot to come."""
        self._staged[name] = resource

    def apply(self, namespace: str, manifest: Manifest, *, must_match: bool) -> AppliedChanges | None:
        """Applies what is staged; None when the digest does not match and it must.

        While a compacted topic is read from its beginning, older manifests need not match: records that newer
        ones replaced may be gone. What counts is the state at the end.
        """
        digest = self.digest
        for name, resource in self._staged.items():
            former = self.resources.get(name)
            digest += (0 if resource is None else resource.digest) - (0 if former is None else former.digest)
        self.matches = format_snapshot_digest(digest) == manifest.digest
        if must_match and not self.matches:
            return None
        staged, self._staged = self._staged, {}
        for name, resource in staged.items():
            if resource is None:
                self.resources.pop(name, None)
            else:
                self.resources[name] = resource
        self.digest = digest
        self.manifest = manifest
        return AppliedChanges(namespace, staged, manifest.observed_at)


@dataclass(slots=True)
class SnapshotStore:
    """All namespaces, from the snapshot topic's records in order.

    Complete once every partition's end was reached; from then on a manifest must match.
    """

    partitions: int
    namespaces: dict[str, NamespaceSnapshot] = field(default_factory=dict)
    _ends_reached: set[int] = field(default_factory=set)

    def put_resource(self, key: ResourceKey, resource: StoredResource | None) -> None:
        """A resource record, or its tombstone."""
        self._namespace(key.namespace).stage((key.collection, key.name), resource)

    def put_manifest(self, key: ManifestKey, manifest: Manifest) -> AppliedChanges | None:
        """A manifest: the changes that it made, or None when it did not match what is held."""
        snapshot = self._namespace(key.namespace)
        return snapshot.apply(key.namespace, manifest, must_match=self.has_read_all)

    def end_reached(self, partition: int) -> None:
        """A partition was read to where its end was."""
        self._ends_reached.add(partition)

    @property
    def has_read_all(self) -> bool:
        """Whether every partition was read to its end once."""
        return len(self._ends_reached) >= self.partitions

    @property
    def waiting_for(self) -> str:
        """What keeps it from being complete; empty when it is."""
        if not self.has_read_all:
            left = self.partitions - len(self._ends_reached)
            return f"{left} of {self.partitions} partitions are not read yet"
        if not self.namespaces:
            return "nothing was published yet: an empty answer would take every service from a mesh"
        wrong = sorted(name for name, held in self.namespaces.items() if held.manifest is None or not held.matches)
        return f"no matching manifest in {', '.join(wrong[:5])}" if wrong else ""

    def _namespace(self, namespace: str) -> NamespaceSnapshot:
        snapshot = self.namespaces.get(namespace)
        if snapshot is None:
            snapshot = self.namespaces[namespace] = NamespaceSnapshot()
        return snapshot
