"""The records of the snapshot, delivery and quarantine topics."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from schemas.control import Decision, decision_from_avro, decision_to_avro
from schemas.digests import content_digest
from schemas.events import Datacenter, Link, Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping


CREATED_AT = "shiplog.io/creation-timestamp"
"""The annotation of a record that says when its resource was created, where stated; Pilots get it as a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The encoded endpoints of one datacenter; `digest` is the content digest of `body`."""

    datacenter: Datacenter
    digest: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRecord:
    """One resource of a namespace's snapshot: its body is the head and the parts, joined.

    Repeated protobuf fields may be concatenated, so a view without some datacenters joins the other parts.
    """

    namespace: Namespace
    collection: str
    name: str
    version: str
    type_url: str
    labels: dict[str, str]
    annotations: dict[str, str]
    head: bytes
    parts: tuple[Part, ...]

    def body(self) -> bytes:
        """The whole encoded body."""
        return b"".join((self.head, *(part.body for part in self.parts)))

    def only(self, is_kept: Callable[[Datacenter], bool]) -> ResourceRecord | None:
        """The record with the parts of some datacenters; None when it has parts, and none of them is kept.

        What has no parts belongs to no datacenter, and stays.
        """
        parts = tuple(part for part in self.parts if is_kept(part.datacenter))
        if len(parts) == len(self.parts):
            return self
        if not parts:
            return None
        version = resource_version(
            type_url=self.type_url, labels=self.labels, annotations=self.annotations, head=self.head, parts=parts
        )
        return replace(self, parts=parts, version=version)


def resource_version(
    *,
    type_url: str,
    labels: dict[str, str],
    annotations: dict[str, str],
    head: bytes,
    parts: tuple[Part, ...],
) -> str:
    """The hash of a resource's content: equal content has the same version, wherever it was computed."""
    facts = [type_url]
    if labels or annotations:
        facts += [_fact("l", k, v) for k, v in sorted(labels.items())]
        facts += [_fact("a", k, v) for k, v in sorted(annotations.items())]
    facts += [f"{part.datacenter}={part.digest}" for part in parts]
    return content_digest("\n".join(facts).encode(), head)


def _fact(kind: str, key: str, value: str) -> str:
    """A line of its own; of one that holds line breaks it is said where it ends."""
    sizes = f"{len(key)},{len(value)}" if "\n" in key or "\n" in value else f"{len(key)}"
    return f"{kind}{sizes}:{key}{value}"


class ChangeKind(StrEnum):
    """What a version did to a resource."""

    ADDED = "ADDED"
    CHANGED = "CHANGED"
    REMOVED = "REMOVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A resource that a version changed."""

    kind: ChangeKind
    collection: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A namespace's snapshot: what makes it up, and up to where the log was folded.

    `version` maps an event topic to the offset of the last event that changed the namespace's content.
    `digest` is the sum of the resources' digests; `changes` is cut at 1,000, the counts are not.
    `observed_at` is the time of the last content-changing event, in microseconds (UTC). `recover_from` is where a
    fold of each event topic has to begin to arrive at this snapshot, and `folded_to` where it had got to.
    `withheld` maps `collection name` of each resource whose present content can't be written to the version that
    is published instead, empty where none is; `oversized` names those of them that are too large.
    `claims` says since when services are there that want one name (see `fold_state.claim_name`), in microseconds
    (UTC): who came first has it, and a fold that begins at a later keyframe does not know.
    """

    namespace: Namespace
    version: dict[str, int]
    digest: str
    resources: int
    added: int
    changed: int
    removed: int
    changes: tuple[Change, ...]
    reason: str
    converter: str
    observed_at: int
    links: dict[str, Link]
    suspect: tuple[Datacenter, ...] = ()
    holds: tuple[str, ...] = ()
    frozen: bool = False
    decisions: tuple[Decision, ...] = ()
    missing: tuple[Datacenter, ...] = ()
    recover_from: dict[str, int] = field(default_factory=dict)
    folded_to: dict[str, int] = field(default_factory=dict)
    oversized: tuple[str, ...] = ()
    withheld: dict[str, str] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)


class DeliveryKind(StrEnum):
    """What happened between a gateway and a Pilot."""

    SENT = "SENT"
    ACK = "ACK"
    NACK = "NACK"
    GAP = "GAP"
    """So many are missing before this."""
    STARTED = "STARTED"
    """The gateway began to record: what it had not written when it ended before is missing."""
    WHOLE = "WHOLE"
    """Everything that the gateway had to record until then is written."""
    STOPPED = "STOPPED"
    """The gateway ended in order: nothing is missing before this."""


class Delivery(NamedTuple):
    """What a gateway sent to a Pilot, or what the Pilot answered; `at` in microseconds (UTC).

    `version` is that of the collection as the view has it, a digest; `folded_to` maps `topic-partition` of events
    to the last one that is in what was sent. `stream` tells a gateway's streams apart; empty in older records.
    """

    pilot: str
    address: str
    node: str
    gateway: str
    view: str
    protocol: str
    collection: str
    version: str
    kind: DeliveryKind
    bytes: int
    code: int
    message: str
    at: int
    folded_to: Mapping[str, int] = MappingProxyType({})
    stream: str = ""


MAX_QUARANTINED_VALUE_BYTES = 256 * 1024
"""Of a value that is set aside; small enough for a topic with Kafka's own limit of 1 MiB."""
MAX_QUARANTINED_KEY_BYTES = 4 * 1024
MAX_QUARANTINED_DETAIL = 1000
"""Characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A record that could not be used, with the reason; `at` in microseconds (UTC). Made by `cut`, it always fits.

    `value_size` and `value_sha256` are of the whole value, `key_size` of the whole key; -1 and empty in records
    that were written before values were cut.
    """

    topic: str
    partition: int
    offset: int
    process: str
    reason: str
    detail: str
    key: bytes = field(repr=False)
    value: bytes = field(repr=False)
    at: int
    key_size: int = -1
    value_size: int = -1
    value_sha256: str = ""

    @classmethod
    def cut(
        cls,
        *,
        topic: str,
        partition: int,
        offset: int,
        process: str,
        reason: str,
        detail: str,
        key: bytes,
        value: bytes,
        at: int,
    ) -> Self:
        """The record with key, detail and value cut at their bounds, and the size and hash of what they were.

        What of the detail is no Unicode is replaced by question marks.
        """
        return cls(
            topic=topic,
            partition=partition,
            offset=offset,
            process=process,
            reason=reason,
            detail=detail[:MAX_QUARANTINED_DETAIL].encode("utf-8", "replace").decode(),
            key=key[:MAX_QUARANTINED_KEY_BYTES],
            value=value[:MAX_QUARANTINED_VALUE_BYTES],
            at=at,
            key_size=len(key),
            value_size=len(value),
            value_sha256=hashlib.sha256(value).hexdigest(),
        )


def resource_to_avro(record: ResourceRecord) -> dict[str, Any]:
    """The record as fastavro writes it."""
    return _fields(record) | {"parts": [_fields(part) for part in record.parts]}


def resource_from_avro(value: dict[str, Any]) -> ResourceRecord:
    """The record that fastavro read."""
    return ResourceRecord(**(value | {"parts": tuple(Part(**part) for part in value["parts"])}))


def manifest_to_avro(manifest: Manifest) -> dict[str, Any]:
    """The manifest as fastavro writes it."""
    return _fields(manifest) | {
        "changes": [_fields(change) for change in manifest.changes],
        "decisions": [decision_to_avro(decision) for decision in manifest.decisions],
    }


def manifest_from_avro(value: dict[str, Any]) -> Manifest:
    """The manifest that fastavro read."""
    return Manifest(
        **(
            value
            | {
                "changes": tuple(
                    Change(kind=ChangeKind(c["kind"]), collection=c["collection"], name=c["name"])
                    for c in value["changes"]
                ),
                "links": {dc: Link(link) for dc, link in value["links"].items()},
                "suspect": tuple(value["suspect"]),
                "holds": tuple(value["holds"]),
                "decisions": tuple(decision_from_avro(decision) for decision in value["decisions"]),
                "missing": tuple(value["missing"]),
                "oversized": tuple(value["oversized"]),
            }
        )
    )


def delivery_to_avro(delivery: Delivery) -> dict[str, Any]:
    """The delivery as fastavro writes it."""
    return delivery._asdict()


def delivery_from_avro(value: dict[str, Any]) -> Delivery:
    """The delivery that fastavro read."""
    return Delivery(**(value | {"kind": DeliveryKind(value["kind"])}))


def quarantined_to_avro(record: Quarantined) -> dict[str, Any]:
    """The quarantined record as fastavro writes it."""
    return _fields(record)


def quarantined_from_avro(value: dict[str, Any]) -> Quarantined:
    """The quarantined record that fastavro read."""
    return Quarantined(**value)


def _fields(record: object) -> dict[str, Any]:
    names, read = _reader(type(record))  # type: ignore[arg-type]  # a class is hashable
    return dict(zip(names, read(record), strict=True))


@cache
def _reader(kind: Hashable) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]:
    """A record's fields, and what reads them all: it takes half of what asking for each takes."""
    names = kind.__slots__  # type: ignore[attr-defined]
    return names, attrgetter(*names)
