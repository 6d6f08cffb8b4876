"""Resource records to what travels to Pilots: `istio.mcp.v1alpha1.Resource`, encoded once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.digests import resource_digest
from schemas.protobuf.istio_mcp.mcp_pb2 import Resource

if TYPE_CHECKING:
    from schemas.records import ResourceRecord

_CREATE_TIME_S = 1
"""Constant, so that equal content has equal bytes; istiod wants it set, and works with this."""


@dataclass(frozen=True, slots=True)
class EncodedResource:
    """A resource ready to be put into any message: its content's version and digest, its encoded bytes."""

    version: str
    digest: int
    encoded: bytes


def encode_resource(record: ResourceRecord) -> EncodedResource:
    """The record as `istio.mcp.v1alpha1.Resource`."""
    resource = Resource()
    metadata = resource.metadata
    metadata.name = record.name
    metadata.create_time.seconds = _CREATE_TIME_S
    metadata.version = record.version
    metadata.labels.update(record.labels)
    metadata.annotations.update(record.annotations)
    resource.body.type_url = record.type_url
    resource.body.value = record.body()
    return EncodedResource(
        record.version,
        resource_digest(record.collection, record.name, record.version),
        resource.SerializeToString(deterministic=True),
    )
