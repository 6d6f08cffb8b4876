"""A service's instances in all datacenters to one ServiceEntry: a head, and endpoints by datacenter."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from consumers.materializer.conversion import SERVICE_ENTRIES, SERVICE_ENTRY_TYPE_URL
from schemas.digests import content_digest
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry, ServicePort
from schemas.records import Part, ResourceRecord, resource_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.conversion.config_item import ConfigResource
    from consumers.materializer.conversion.head import Head
    from consumers.materializer.conversion.names import ServiceName
    from schemas.events import Datacenter, Namespace


def encode_part(datacenter: Datacenter, endpoints: Iterable[bytes]) -> Part:
    """A datacenter's endpoints, sorted and joined."""
    body = b"".join(sorted(endpoints))
    return Part(datacenter=datacenter, digest=content_digest(body), body=body)


def encode_record(
    namespace: Namespace, name: ServiceName, head: Head, parts: tuple[Part, ...], *, named: bool
) -> ResourceRecord:
    """The resource record of a service; `named` says that an address is a host name."""
    encoded = _encode_head(name.host, head, named=named)
    return record_of(namespace, SERVICE_ENTRIES, name.resource, SERVICE_ENTRY_TYPE_URL, {}, {}, encoded, parts)


def encode_stated(namespace: Namespace, stated: ConfigResource) -> ResourceRecord:
    """The resource record of what a config item states: it belongs to no datacenter, so it has no parts."""
    collection, name, type_url, labels, annotations, body = stated
    return record_of(namespace, collection, name, type_url, labels, annotations, body, ())


def record_of(
    namespace: Namespace,
    collection: str,
    name: str,
    type_url: str,
    labels: dict[str, str],
    annotations: dict[str, str],
    head: bytes,
    parts: tuple[Part, ...],
) -> ResourceRecord:
    """The record, with the version that its content has."""
    return ResourceRecord(
        namespace=namespace,
        collection=collection,
        name=name,
        version=resource_version(
            type_url=type_url,
            labels=labels,
            annotations=annotations,
            head=head,
            parts=parts,
        ),
        type_url=type_url,
        labels=labels,
        annotations=annotations,
        head=head,
        parts=parts,
    )


@lru_cache(maxsize=100_000)
def _encode_head(host: str, head: Head, *, named: bool) -> bytes:
    return ServiceEntry(
        hosts=[host],
        ports=[ServicePort(number=port.number, protocol=port.protocol, name=port.name) for port in head.ports],
        location=ServiceEntry.MESH_INTERNAL,
        resolution=ServiceEntry.DNS if named else ServiceEntry.STATIC,
    ).SerializeToString(deterministic=True)
