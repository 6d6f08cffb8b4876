"""What one push changed against the one before, resource by resource, endpoint by endpoint. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from shiplog.watch.client import entry_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.protobuf.istio_mcp.mcp_pb2 import Resource
    from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceChange:
    """A resource that a push added, changed or removed."""

    kind: str
    name: str
    version: str
    summary: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    body: dict[str, Any] | None = None


def difference(before: Mapping[str, Resource], after: Mapping[str, Resource]) -> list[ResourceChange]:
    """The changes from one push to the next, in the order of the names."""
    changes = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if new is None:
            changes.append(
                ResourceChange(kind="removed", name=name, version=old.metadata.version if old else "", summary="")
            )
        elif old is None or old.metadata.version != new.metadata.version:
            changes.append(_changed(name, old, new))
    return changes


def _changed(name: str, old: Resource | None, new: Resource) -> ResourceChange:
    entry = entry_of(new)
    endpoints = set() if entry is None else {describe_endpoint(endpoint) for endpoint in entry.endpoints}
    former_entry = None if old is None else entry_of(old)
    former = (
        set() if former_entry is None else {describe_endpoint(endpoint) for endpoint in former_entry.endpoints}
    )
    summary = new.body.type_url
    if entry is not None:
        ports = ", ".join(f"{port.number}/{port.protocol}" for port in entry.ports)
        summary = f"{', '.join(entry.hosts)} port {ports}, {len(entry.endpoints)} endpoints"
    return ResourceChange(
        kind="added" if old is None else "changed",
        name=name,
        version=new.metadata.version,
        summary=summary,
        added=tuple(sorted(endpoints - former)),
        removed=tuple(sorted(former - endpoints)),
        body=None if entry is None else MessageToDict(entry, preserving_proto_field_name=True),
    )


def describe_endpoint(endpoint: WorkloadEntry) -> str:
    """An endpoint on one line."""
    port = next(iter(endpoint.ports.values()), 0)
    labels = " ".join(f"{k}={v}" for k, v in sorted(endpoint.labels.items()))
    place = f" in {endpoint.locality}" if endpoint.locality else ""
    return f"{endpoint.address}:{port} weight {endpoint.weight}{place} {labels}".rstrip()
