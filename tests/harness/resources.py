"""Resources as a gateway's store holds them, made from a name and a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_gateway.resources import Shape, store_resource
from mcp_gateway.store import AppliedChanges
from schemas.events import Datacenter, Namespace
from schemas.records import Part, ResourceRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_gateway.resources import EncodedResource, StoredResource

SERVICE_ENTRIES = "istio/networking/v1alpha3/serviceentries"


def record(
    name: str, version: str, *, collection: str = SERVICE_ENTRIES, parts: Mapping[str, bytes] | None = None
) -> ResourceRecord:
    """A resource record of that version; `parts` are endpoints by datacenter."""
    return ResourceRecord(
        namespace=Namespace("ns"),
        collection=collection,
        name=name,
        version=version,
        type_url="type.googleapis.com/istio.networking.v1alpha3.ServiceEntry",
        labels={},
        annotations={},
        head=b"\x0a\x01h",  # hosts: ["h"]
        parts=tuple(
            Part(datacenter=Datacenter(datacenter), digest=body.hex(), body=body)
            for datacenter, body in (parts or {}).items()
        ),
    )


def stored(name: str, version: str, *, shapes: Sequence[Shape] = (Shape(),)) -> StoredResource:
    """The record as the store holds it."""
    return store_resource(record(name, version), shapes)


def encoded(name: str, version: str) -> EncodedResource:
    """The record as most views show it."""
    (found,) = stored(name, version).shapes
    assert found is not None
    return found


def changes(
    versions: Mapping[str, str | None], *, namespace: str = "ns", shapes: Sequence[Shape] = (Shape(),)
) -> AppliedChanges:
    """What a manifest changed: service entries by name, None for one that went."""
    found = {
        (SERVICE_ENTRIES, name): None if version is None else stored(name, version, shapes=shapes)
        for name, version in versions.items()
    }
    return AppliedChanges(namespace, found, 1)
