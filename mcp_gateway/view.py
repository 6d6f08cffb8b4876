"""What a group of Pilots sees: collections, their versions, and each message encoded once for all streams. Pure.

There is one view for now, of all namespaces. A collection's version is the sum of its resources' digests: it
is the same on every gateway and after every restart, and two gateways send the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from schemas.digests import format_snapshot_digest

if TYPE_CHECKING:
    from mcp_gateway.resources import EncodedResource
    from mcp_gateway.store import AppliedChanges, SnapshotStore


class MessageFormat(Protocol):
    """How a protocol writes a full push; see `mcp_gateway.sessions`."""

    def frame(self, resource: bytes) -> bytes:
        """One encoded resource as it stands in the message."""

    def envelope(self, name: str, version: str) -> tuple[bytes, bytes]:
        """What stands before and after the resources; `name` is what the peer asked for."""


@dataclass(slots=True)
class Collection:
    """The resources of a collection by name; `names` gives them in order, sorted only when names come or go."""

    resources: dict[str, EncodedResource] = field(default_factory=dict)
    digest: int = 0
    observed_at: int = 0
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
    their resource, so a change of one resource encodes one resource.
    """

    name: str = "default"
    collections: dict[str, Collection] = field(default_factory=dict)
    _frames: dict[tuple[str, type[MessageFormat]], dict[str, bytes]] = field(default_factory=dict)
    _messages: dict[tuple[str, type[MessageFormat], str], bytes] = field(default_factory=dict)

    def fill(self, store: SnapshotStore) -> None:
        """Takes in everything that the store holds."""
        for snapshot in store.namespaces.values():
            observed_at = snapshot.manifest.observed_at if snapshot.manifest else 0
            for (name, resource_name), resource in snapshot.resources.items():
                self._put(name, resource_name, resource, observed_at)

    def apply(self, changes: AppliedChanges) -> set[str]:
        """Takes in what a manifest changed; the collections whose version is new."""
        changed = {collection for collection, _ in changes.resources}
        before = {name: self.version(name) for name in changed}
        for (collection, name), resource in changes.resources.items():
            self._put(collection, name, resource, changes.observed_at)
        return {name for name in changed if self.version(name) != before[name]}

    def version(self, collection: str) -> str:
        """The version of a collection; empty ones have one, too."""
        known = self.collections.get(collection)
        return format_snapshot_digest(0) if known is None else known.version

    def observed_at(self, collection: str) -> int:
        """When Nacos's last change of the collection was seen, microseconds (UTC); 0 for an empty one."""
        known = self.collections.get(collection)
        return 0 if known is None else known.observed_at

    def message(self, collection: str, message_format: MessageFormat, asked_as: str) -> bytes:
        """The full push of a collection at its present version: the same bytes for every stream."""
        kind = type(message_format)
        message = self._messages.get((collection, kind, asked_as))
        if message is None:
            before, after = message_format.envelope(asked_as, self.version(collection))
            message = b"".join((before, *self._framed(collection, message_format), after))
            self._messages[collection, kind, asked_as] = message
        return message

    def _framed(self, collection: str, message_format: MessageFormat) -> list[bytes]:
        known = self.collections.get(collection)
        if known is None:
            return []
        frames = self._frames.setdefault((collection, type(message_format)), {})
        return [
            frames.get(name) or frames.setdefault(name, message_format.frame(known.resources[name].encoded))
            for name in known.names()
        ]

    def _put(self, collection: str, name: str, resource: EncodedResource | None, observed_at: int) -> None:
        self.collections.setdefault(collection, Collection()).put(name, resource, observed_at)
        for (of, _), frames in self._frames.items():
            if of == collection:
                frames.pop(name, None)
        for key in [key for key in self._messages if key[0] == collection]:
            del self._messages[key]
