"""What differs between two snapshots: resources, and endpoint by endpoint what changed in each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.json_format import MessageToDict

from consumers.materializer.conversion import SERVICE_ENTRIES
from consumers.materializer.conversion.kinds import KINDS
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from schemas.records import CREATED_AT, ChangeKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry
    from schemas.records import ResourceRecord

    Records = Mapping[tuple[str, str], ResourceRecord]

_KIND_OF = {kind.collection: kind for kind in KINDS.values()}


class EndpointChange(NamedTuple):
    """An endpoint of a service, `address:port`, and what became of it."""

    kind: ChangeKind
    endpoint: str
    datacenter: str
    detail: str


class ResourceChange(NamedTuple):
    """A resource that differs; of services, with the endpoints that do, and whether anything else does."""

    kind: ChangeKind
    collection: str
    name: str
    endpoints: tuple[EndpointChange, ...]
    head_differs: bool


def differences(before: Records, after: Records) -> list[ResourceChange]:
    """What has to change in one snapshot to give the other, by collection and name."""
    found = []
    for collection, name in sorted(before.keys() | after.keys()):
        former, present = before.get((collection, name)), after.get((collection, name))
        if former is not None and present is not None and former.version == present.version:
            continue
        kind = (
            ChangeKind.ADDED if former is None else ChangeKind.REMOVED if present is None else ChangeKind.CHANGED
        )
        endpoints = endpoint_changes(former, present) if collection == SERVICE_ENTRIES else ()
        heads = {one.head for one in (former, present) if one is not None}
        found.append(ResourceChange(kind, collection, name, endpoints, len(heads) > 1))
    return found


def endpoint_changes(former: ResourceRecord | None, present: ResourceRecord | None) -> tuple[EndpointChange, ...]:
    """The endpoints that came, went or are described otherwise."""
    before, after = endpoints_of(former), endpoints_of(present)
    found = []
    for key in sorted(before.keys() | after.keys()):
        one, other = before.get(key), after.get(key)
        if one == other:
            continue
        kind = ChangeKind.ADDED if one is None else ChangeKind.REMOVED if other is None else ChangeKind.CHANGED
        detail = "" if one is None or other is None else _detail(one, other)
        found.append(EndpointChange(kind, key[1], key[0], detail))
    return tuple(found)


def endpoints_of(record: ResourceRecord | None) -> dict[tuple[str, str], WorkloadEntry]:
    """A service's endpoints by datacenter and `address:port`; those that are there twice are counted by `#2`."""
    found: dict[tuple[str, str], WorkloadEntry] = {}
    for part in () if record is None else record.parts:
        for entry in ServiceEntry.FromString(part.body).endpoints:
            port = next(iter(entry.ports.values()), 0)
            name, number = f"{entry.address}:{port}", 1
            while (part.datacenter, name) in found:
                number += 1
                name = f"{entry.address}:{port}#{number}"
            found[part.datacenter, name] = entry
    return found


def as_istio(record: ResourceRecord) -> dict[str, Any]:
    """The resource as Istio's YAML has it."""
    kind = _KIND_OF[record.collection]
    namespace, _, name = record.name.partition("/")
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if record.labels:
        metadata["labels"] = dict(record.labels)
    annotations = dict(record.annotations)
    if (created := annotations.pop(CREATED_AT, None)) is not None:
        metadata["creationTimestamp"] = created
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": f"{kind.group}/{kind.versions[0]}",
        "kind": kind.message.DESCRIPTOR.name,
        "metadata": metadata,
        "spec": MessageToDict(kind.message.FromString(record.body())),
    }


def _detail(one: WorkloadEntry, other: WorkloadEntry) -> str:
    before, after = _flat(one), _flat(other)
    return ", ".join(
        f"{name}: {before.get(name, '-')} -> {after.get(name, '-')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _flat(entry: WorkloadEntry) -> dict[str, Any]:
    """Its fields, and each of its labels and ports as one."""
    found: dict[str, Any] = {}
    for name, value in MessageToDict(entry).items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": one for key, one in value.items()}
        else:
            found[name] = value
    return found
