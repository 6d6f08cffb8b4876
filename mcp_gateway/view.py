"""What a group of Pilots sees: collections, their versions, and each message encoded once for all streams. Pure.

There is one view for now, of all namespaces. A collection's version is the sum of its resources' digests: it
is the same on every gateway and after every restart, and two gateways send the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mcp_gateway.change_ring import ChangeRing
from schemas.digests import format_snapshot_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_gateway.resources import EncodedResource
    from mcp_gateway.store import AppliedChanges, SnapshotStore


_FEW = 10
"""So many differences are sent as such, however small the collection."""

Basis = str | Mapping[str, str] | None
"""What a peer has already: a version, or resources by name and version; None when it is to be sent everything."""


class MessageFormat(Protocol):
    """How a protocol writes a push; see `mcp_gateway.sessions`."""

    def frame(self, name: str, resource: EncodedResource) -> bytes:
        """One resource as it stands in the message."""

    def envelope(self, name: str, version: str, removed: Sequence[str] | None) -> tuple[bytes, bytes]:
        """What stands before and after the resources; `name` is what the peer asked for.

        `removed` are the resources that are gone, in a push of differences; None in a push of everything.
        """


@dataclass(slots=True)
class Collection:
    """The resources of a collection by name; `names` gives them in order, sorted only when names come or go."""

    resources: dict[str, EncodedResource] = field(default_factory=dict)
    digest: int = 0
    observed_at: int = 0
    changes: ChangeRing = field(default_factory=ChangeRing)
    _names: list[str] | None = None

    def names(self) -> list[str]:
        """The resources' names, in the order of every message."""
        if self._names is None:
            self._names = sorted(self.resources)
        return self._names

    def put(self, name: str, resource: EncodedResource | None, observed_at: int) -> None:
        """Takes a resource in, or out."""
        former = self.resources.get(name)
        self.digest += (0 if resource is None else resource.digest) - (0 if former is None else former.digest)
        self.observed_at = max(self.observed_at, observed_at)
        if (resource is None) != (former is None):
            self._names = None
        if resource is not None:
            self.resources[name] = resource
        elif former is not None:
            del self.resources[name]

    @property
    def version(self) -> str:
        """The content's version, as 32 hex digits."""
        return format_snapshot_digest(self.digest)


@dataclass(slots=True)
class View:
    """Collections, and the messages made of them.

    A message is kept until its collection changes; the frames that it is joined from are kept as long as
    their resource, so a change of one resource encodes one resource. `folded_to` is how far the log is in it, by
    `topic-partition`; it is replaced, never changed.
    """

    name: str = "default"
    folded_to: Mapping[str, int] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)
    _frames: dict[tuple[str, type[MessageFormat]], dict[str, bytes]] = field(default_factory=dict)
    _messages: dict[tuple[str, type[MessageFormat], str, str | None], bytes] = field(default_factory=dict)

    def fill(self, store: SnapshotStore) -> None:
        """Takes in everything that the store holds."""
        for snapshot in store.namespaces.values():
            observed_at = snapshot.manifest.observed_at if snapshot.manifest else 0
            for (name, resource_name), resource in snapshot.resources.items():
                self._put(name, resource_name, resource, observed_at)

    def apply(self, changes: AppliedChanges) -> set[str]:
        """Takes in what a manifest changed; the collections whose version is new."""
        touched: dict[str, list[str]] = {}
        for collection, name in changes.resources:
            touched.setdefault(collection, []).append(name)
        before = {collection: self.version(collection) for collection in touched}
        for (collection, name), resource in changes.resources.items():
            self._put(collection, name, resource, changes.observed_at)
        changed = {collection for collection in touched if self.version(collection) != before[collection]}
        for collection in changed:
            self.collections[collection].changes.note(before[collection], touched[collection])
        return changed

    def version(self, collection: str) -> str:
        """The version of a collection; empty ones have one, too."""
        known = self.collections.get(collection)
        return format_snapshot_digest(0) if known is None else known.version

    def observed_at(self, collection: str) -> int:
        """When Nacos's last change of the collection was seen, microseconds (UTC); 0 for an empty one."""
        known = self.collections.get(collection)
        return 0 if known is None else known.observed_at

    def message(self, collection: str, message_format: MessageFormat, asked_as: str, basis: Basis = None) -> bytes:
        """The push of a collection at its present version: the same bytes for every stream with the same basis.

        Everything, when the basis is too old to be known or most of the collection differs from it.
        """
        if basis is not None and not isinstance(basis, str):
            return self.join(collection, message_format, asked_as, self.differing(collection, basis))
        key = (collection, type(message_format), asked_as, basis)
        message = self._messages.get(key)
        if message is None:
            names = None if basis is None else self._worth_sending(collection, basis)
            message = self._messages[key] = self.join(collection, message_format, asked_as, names)
        return message

    def difference(
        self, collection: str, message_format: MessageFormat, asked_as: str, since: str
    ) -> bytes | None:
        """Exactly what a peer with that version lacks and must let go of; None when the version is forgotten."""
        key = (collection, type(message_format), asked_as, since)
        message = self._messages.get(key)
        if message is None:
            names = self.changed_since(collection, since)
            if names is None:
                return None
            message = self._messages[key] = self.join(collection, message_format, asked_as, names)
        return message

    def changed_since(self, collection: str, version: str) -> frozenset[str] | None:
        """The names of all that may differ from a version; None when it is forgotten."""
        known = self.collections.get(collection) or Collection()
        return frozenset() if version == known.version else known.changes.since(version)

    def version_of(self, collection: str, name: str) -> str:
        """The version of a resource; empty when there is none."""
        known = self.collections.get(collection)
        resource = None if known is None else known.resources.get(name)
        return "" if resource is None else resource.version

    def differing(self, collection: str, has: Mapping[str, str]) -> frozenset[str]:
        """The names of all that differ from what a peer has, by name and version."""
        known = self.collections.get(collection)
        present = {} if known is None else known.resources
        missing = {name for name, resource in present.items() if has.get(name) != resource.version}
        return frozenset(missing | (has.keys() - present.keys()))

    def _worth_sending(self, collection: str, version: str) -> frozenset[str] | None:
        """The names of what changed, unless that is most of the collection."""
        names = self.changed_since(collection, version)
        count = len(self.collections[collection].resources) if collection in self.collections else 0
        return names if names is not None and len(names) <= max(_FEW, count / 2) else None

    def join(
        self, collection: str, message_format: MessageFormat, asked_as: str, names: frozenset[str] | None
    ) -> bytes:
        """The message of these resources, removals among them; of all when None."""
        known = self.collections.get(collection) or Collection()
        present = known.names() if names is None else sorted(names & known.resources.keys())
        removed = None if names is None else sorted(names - known.resources.keys())
        before, after = message_format.envelope(asked_as, self.version(collection), removed)
        frames = self._frames.setdefault((collection, type(message_format)), {})
        framed = [
            frames.get(name) or frames.setdefault(name, message_format.frame(name, known.resources[name]))
            for name in present
        ]
        return b"".join((before, *framed, after))

    def _put(self, collection: str, name: str, resource: EncodedResource | None, observed_at: int) -> None:
        self.collections.setdefault(collection, Collection()).put(name, resource, observed_at)
        for (of, _), frames in self._frames.items():
            if of == collection:
                frames.pop(name, None)
        for key in [key for key in self._messages if key[0] == collection]:
            del self._messages[key]
