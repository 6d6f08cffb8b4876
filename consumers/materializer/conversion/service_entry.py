"""A service's instances in all datacenters to one ServiceEntry: a head, and endpoints by datacenter."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.conversion import SERVICE_ENTRIES, SERVICE_ENTRY_TYPE_URL
from consumers.rule_settings import Location
from schemas.digests import content_digest
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry, ServicePort
from schemas.records import Part, ResourceRecord, resource_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.conversion.config_item import ConfigResource
    from consumers.materializer.conversion.head import Head
    from consumers.materializer.conversion.names import ServiceName
    from consumers.rule_settings import RuleSet
    from schemas.events import Datacenter, Namespace


def encode_part(datacenter: Datacenter, endpoints: Iterable[bytes]) -> Part:
    """A datacenter's endpoints, sorted and joined."""
    body = b"".join(sorted(endpoints))
    return Part(datacenter=datacenter, digest=content_digest(body), body=body)


class Traits(NamedTuple):
    """What rules set of an entry besides its ports and endpoints."""

    is_external: bool = False
    addresses: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


_PLAIN = Traits()


def traits_of(wanted: RuleSet) -> Traits:
    """What rules set of an entry."""
    if not wanted.model_fields_set:
        return _PLAIN
    return Traits(
        is_external=wanted.location is Location.EXTERNAL,
        addresses=wanted.addresses or (),
        export_to=wanted.export_to or (),
        subject_alt_names=wanted.subject_alt_names or (),
    )


def encode_record(
    namespace: Namespace,
    name: ServiceName,
    head: Head,
    parts: tuple[Part, ...],
    traits: Traits = _PLAIN,
    *,
    named: bool,
) -> ResourceRecord:
    """The resource record of a service; `named` says that it is resolved by DNS."""
    if "." in traits.export_to:  # Istio refuses its own namespace beside `.`
        others = tuple(one for one in traits.export_to if one != name.istio_namespace)
        traits = traits._replace(export_to=others)
    encoded = _encode_head(name.host, head, traits, named=named)
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
def _encode_head(host: str, head: Head, traits: Traits, *, named: bool) -> bytes:
    return ServiceEntry(
        hosts=[host],
        ports=[ServicePort(number=port.number, protocol=port.protocol, name=port.name) for port in head.ports],
        location=ServiceEntry.MESH_EXTERNAL if traits.is_external else ServiceEntry.MESH_INTERNAL,
        # Istio takes networks for STATIC only.
        addresses=[one for one in traits.addresses if not (named and "/" in one)],
        export_to=traits.export_to,
        subject_alt_names=traits.subject_alt_names,
        resolution=ServiceEntry.DNS if named else ServiceEntry.STATIC,
    ).SerializeToString(deterministic=True)
