"""Resource records to what travels to Pilots: `istio.mcp.v1alpha1.Resource`, encoded once. Pure.

A resource is kept in pieces, which joined are its encoded message: the views that show it under another name, or
without some datacenters, have a first piece of their own and share the endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage

from mcp_gateway.patterns import matches
from mcp_gateway.wire import delimited, delimiter
from schemas.digests import resource_digest
from schemas.protobuf.istio_mcp.mcp_pb2 import Metadata, Resource
from schemas.records import CREATED_AT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.records import ResourceRecord

_CREATE_TIME_S = 1
"""Of what has no stated one. Constant, so that equal content has equal bytes; istiod wants it set."""

_METADATA_TAG, _BODY_TAG = 0x0A, 0x12  # Resource: fields 1, 2
_ANY_VALUE_TAG = 0x12  # Any: field 2


@dataclass(frozen=True, slots=True)
class EncodedResource:
    """A resource ready to be put into any message.

    Its name, its content's version and digest, the pieces of its encoded message and their size in bytes.
    """

    name: str
    version: str
    digest: int
    pieces: tuple[bytes, ...]
    size: int

    def metadata(self) -> Metadata:
        """What stands beside its body."""
        return Resource.FromString(self.pieces[0]).metadata

    def with_metadata(self, metadata: Metadata, digest: int) -> EncodedResource:
        """The same resource with other metadata; everything else is shared."""
        pieces = (_metadata_piece(metadata), *self.pieces[1:])
        return EncodedResource(self.name, self.version, digest, pieces, sum(map(len, pieces)))

    def body(self) -> tuple[bytes, ...]:
        """Its head, and the endpoints of each datacenter."""
        return self.pieces[2:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How resources look in a view: with whose endpoints (patterns of datacenters), and in which namespace.

    With `omits_empty` what was made of a service is left out while it has no endpoints.
    """

    datacenters: tuple[str, ...] = ("*",)
    istio_namespace: str = ""
    omits_empty: bool = False

    def name_of(self, name: str) -> str:
        """The resource's name, `namespace/name`, as the view has it."""
        return f"{self.istio_namespace}/{name.partition('/')[2]}" if self.istio_namespace else name

    def of(self, record: ResourceRecord) -> EncodedResource | None:
        """The record as the view shows it; None when all its endpoints are in other datacenters."""
        shown = record.only(lambda datacenter: matches(datacenter, self.datacenters))
        if self.omits_empty and shown is not None and shown.parts and not any(part.body for part in shown.parts):
            return None
        return None if shown is None else _encode(shown, self.name_of(record.name))


PLAIN = Shape()
"""As they were published."""


@dataclass(frozen=True, slots=True)
class StoredResource:
    """A resource of a snapshot: its digest as it was published, and how it looks in each shape.

    `is_generated` says that it was made of a service: its endpoints stand by datacenter. `record` is what it was
    made of, where that is kept for the cache on disk; its bytes are those of the pieces.
    """

    digest: int
    shapes: tuple[EncodedResource | None, ...]
    is_generated: bool = False
    record: ResourceRecord | None = None


def store_resource(
    record: ResourceRecord, shapes: Sequence[Shape], *, keep_record: bool = False
) -> StoredResource:
    """The record in every shape that views have; those that come out equal are one object."""
    digest = resource_digest(record.collection, record.name, record.version)
    found: list[EncodedResource | None] = []
    for shape in shapes:
        encoded = shape.of(record)
        found.append(next((one for one in found if one == encoded), encoded))
    return StoredResource(digest, tuple(found), bool(record.parts), record if keep_record else None)


def _pieces(metadata: Metadata, type_url: str, body: Sequence[bytes]) -> tuple[bytes, ...]:
    """An `istio.mcp.v1alpha1.Resource`, in pieces: its metadata, what precedes its body, the body's own pieces."""
    size = sum(map(len, body))
    value = AnyMessage(type_url=type_url).SerializeToString()
    if size:  # protobuf leaves an empty field out
        value += delimiter(_ANY_VALUE_TAG, size)
    before_body = delimiter(_BODY_TAG, len(value) + size) + value
    return _metadata_piece(metadata), before_body, *body


def _metadata_piece(metadata: Metadata) -> bytes:
    return delimited(_METADATA_TAG, metadata.SerializeToString(deterministic=True))


def _seconds(created: str) -> int:
    """A time as the conversion writes it; the constant one where it is none."""
    try:
        return int(datetime.fromisoformat(created).timestamp())
    except ValueError:
        return _CREATE_TIME_S


def _encode(record: ResourceRecord, name: str) -> EncodedResource:
    annotations = dict(record.annotations)
    created = annotations.pop(CREATED_AT, None)
    metadata = Metadata(name=name, version=record.version, labels=record.labels, annotations=annotations)
    metadata.create_time.seconds = _CREATE_TIME_S if created is None else _seconds(created)
    body = [record.head, *(part.body for part in record.parts if part.body)]
    pieces = _pieces(metadata, record.type_url, body)
    digest = resource_digest(record.collection, name, record.version)
    return EncodedResource(name, record.version, digest, pieces, sum(map(len, pieces)))
