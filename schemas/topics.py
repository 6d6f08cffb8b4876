"""The topics: names, keys, and the settings without which they would lose or mix data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, Flag, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.errors import UndecodableRecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REGISTRY_EVENTS = "shiplog.registry.events"
CONTROL_EVENTS = "shiplog.control.events"
SNAPSHOTS = "shiplog.snapshots"
SNAPSHOT_HISTORY = "shiplog.snapshot-history"
DELIVERIES = "shiplog.deliveries"
QUARANTINE = "shiplog.quarantine"

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""A service of 100,000 instances still fits one resource record."""

MAX_KEY_PART: Final = 256
"""Characters of a namespace's or datacenter's name; Nacos allows 128."""

DAY_MS: Final = 24 * 3600 * 1000
FOREVER: Final = -1


class Cleanup(Enum):
    """What Kafka may throw away."""

    DELETE = auto()
    COMPACT = auto()


class Access(Flag):
    """What a process does with a topic."""

    NONE = 0
    READ = auto()
    WRITE = auto()


USED_BY: Final[Mapping[str, Mapping[str, Access]]] = {
    "listener": {REGISTRY_EVENTS: Access.READ | Access.WRITE, QUARANTINE: Access.WRITE},
    "materializer": {
        REGISTRY_EVENTS: Access.READ,
        CONTROL_EVENTS: Access.READ,
        SNAPSHOTS: Access.READ | Access.WRITE,
        SNAPSHOT_HISTORY: Access.READ | Access.WRITE,
        QUARANTINE: Access.WRITE,
    },
    "gateway": {SNAPSHOTS: Access.READ, DELIVERIES: Access.WRITE, QUARANTINE: Access.WRITE},
}
"""The topics of each process. A listener reads no event; membership in a group over a topic counts as that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """How a topic must be set up; `retention_ms` -1 keeps for ever and is not read for compacted topics.

    A mirrored one is made by others, and may appear later. `access` is what the asking process does with it.
    """

    name: str
    cleanup: Cleanup
    retention_ms: int = FOREVER
    carries_namespaces: bool = True
    is_mirrored: bool = False
    access: Access = Access.NONE

    def config(self) -> dict[str, str]:
        """The settings as Kafka names them."""
        config = {
            "cleanup.policy": self.cleanup.name.lower(),
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "compression.type": "producer",
            "unclean.leader.election.enable": "false",
        }
        if self.cleanup is Cleanup.DELETE:
            config["retention.ms"] = str(self.retention_ms)
        else:
            # A reader that starts from the beginning must see a tombstone before it goes.
            config["delete.retention.ms"] = str(DAY_MS)
        return config


def topic_settings(*, event_retention_days: int = 30) -> tuple[TopicSettings, ...]:
    """Every topic of shiplog; those that carry namespaces share one partition count."""
    days = event_retention_days * DAY_MS
    return (
        TopicSettings(name=REGISTRY_EVENTS, cleanup=Cleanup.DELETE, retention_ms=days),
        TopicSettings(name=CONTROL_EVENTS, cleanup=Cleanup.DELETE),
        TopicSettings(name=SNAPSHOTS, cleanup=Cleanup.COMPACT),
        TopicSettings(name=SNAPSHOT_HISTORY, cleanup=Cleanup.DELETE, retention_ms=days),
        TopicSettings(name=DELIVERIES, cleanup=Cleanup.DELETE, retention_ms=days, carries_namespaces=False),
        TopicSettings(name=QUARANTINE, cleanup=Cleanup.DELETE, retention_ms=days, carries_namespaces=False),
    )


def topics_of(process: str, *, event_retention_days: int = 30) -> tuple[TopicSettings, ...]:
    """The topics that a process uses, with what it does with each; mirrored ones are not among them."""
    uses = USED_BY[process]
    return tuple(
        replace(topic, access=uses[topic.name])
        for topic in topic_settings(event_retention_days=event_retention_days)
        if topic.name in uses
    )


def mirrored_topic_settings(names: Iterable[str], *, event_retention_days: int = 30) -> tuple[TopicSettings, ...]:
    """The event topics among these that come from other datacenters, to be read."""
    return tuple(
        TopicSettings(
            name=name,
            cleanup=Cleanup.DELETE,
            retention_ms=event_retention_days * DAY_MS,
            is_mirrored=True,
            access=Access.READ,
        )
        for name in names
        if name != REGISTRY_EVENTS
    )


def key_part_fault(name: str) -> str:
    """Why a namespace or datacenter can't have this name, which stands in keys and manifests; empty if it can."""
    if not 0 < len(name) <= MAX_KEY_PART:
        return f"a name of {len(name)} characters"
    if "|" in name:
        return "| separates the parts of a key"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "not Unicode"
    return ""


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
