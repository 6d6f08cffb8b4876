"""The topics: names, keys, and the settings without which they would lose or mix data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from schemas.errors import UndecodableRecordError

if TYPE_CHECKING:
    from collections.abc import Iterable

REGISTRY_EVENTS = "shiplog.registry.events"
CONTROL_EVENTS = "shiplog.control.events"
SNAPSHOTS = "shiplog.snapshots"
SNAPSHOT_HISTORY = "shiplog.snapshot-history"
DELIVERIES = "shiplog.deliveries"
QUARANTINE = "shiplog.quarantine"

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""A service of 100,000 instances still fits one resource record."""

_DAY_MS = 24 * 3600 * 1000
_FOREVER = -1


class Cleanup(Enum):
    """What Kafka may throw away."""

    DELETE = auto()
    COMPACT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """How a topic must be set up; `retention_ms` -1 keeps for ever and is not read for compacted topics.

    A mirrored one is made by others, and may appear later.
    """

    name: str
    cleanup: Cleanup
    retention_ms: int = _FOREVER
    carries_namespaces: bool = True
    is_mirrored: bool = False

    def config(self) -> dict[str, str]:
        """The settings as Kafka names them."""
        config = {
            "cleanup.policy": self.cleanup.name.lower(),
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "compression.type": "producer",
        }
        if self.cleanup is Cleanup.DELETE:
            config["retention.ms"] = str(self.retention_ms)
        else:
            # A reader that starts from the beginning must see a tombstone before it goes.
            config["delete.retention.ms"] = str(_DAY_MS)
        return config


def topic_settings(*, event_retention_days: int = 30) -> tuple[TopicSettings, ...]:
    """Every topic of shiplog; those that carry namespaces share one partition count."""
    days = event_retention_days * _DAY_MS
    return (
        TopicSettings(name=REGISTRY_EVENTS, cleanup=Cleanup.DELETE, retention_ms=days),
        TopicSettings(name=CONTROL_EVENTS, cleanup=Cleanup.DELETE),
        TopicSettings(name=SNAPSHOTS, cleanup=Cleanup.COMPACT),
        TopicSettings(name=SNAPSHOT_HISTORY, cleanup=Cleanup.DELETE, retention_ms=days),
        TopicSettings(name=DELIVERIES, cleanup=Cleanup.DELETE, retention_ms=days, carries_namespaces=False),
        TopicSettings(name=QUARANTINE, cleanup=Cleanup.DELETE, retention_ms=days, carries_namespaces=False),
    )


def mirrored_topic_settings(names: Iterable[str]) -> tuple[TopicSettings, ...]:
    """The event topics among these that come from other datacenters."""
    return tuple(
        TopicSettings(name=name, cleanup=Cleanup.DELETE, is_mirrored=True)
        for name in names
        if name != REGISTRY_EVENTS
    )


class ResourceKey(NamedTuple):
    """The key of a resource in `shiplog.snapshots`."""

    namespace: str
    collection: str
    name: str

    def encode(self) -> bytes:
        """The key's bytes; `|` can stand in none of its parts."""
        return f"{self.namespace}|{self.collection}|{self.name}".encode()


class ManifestKey(NamedTuple):
    """The key of a namespace's manifest in `shiplog.snapshots`."""

    namespace: str

    def encode(self) -> bytes:
        """The key's bytes."""
        return f"{self.namespace}|manifest".encode()


def decode_snapshot_key(key: bytes | None) -> ResourceKey | ManifestKey:
    """The key of a record in `shiplog.snapshots`.

    Raises:
        UndecodableRecordError: it is neither a resource's nor a manifest's.
    """
    try:
        parts = (key or b"").decode().split("|")
    except UnicodeDecodeError as error:
        raise UndecodableRecordError("bad_key", repr(key)) from error
    match parts:
        case [namespace, "manifest"] if namespace:
            return ManifestKey(namespace)
        case [namespace, collection, name] if namespace and collection and name:
            return ResourceKey(namespace, collection, name)
        case _:
            raise UndecodableRecordError("bad_key", repr(key))
