"""ServiceEntry. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.names import (
    HTTP,
    PROTOCOLS,
    TLS,
    check_each,
    checked,
    domain_fault,
    is_label,
    is_wildcard,
    partial_wildcard_fault,
    protocol_fault,
    subnet_fault,
    wildcard_fault,
)
from consumers.materializer.conversion.validation.selection import check_export, check_selector
from consumers.materializer.conversion.validation.workload import check_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource

_DYNAMIC = frozenset({"http", "http2", "grpc", "tls"})
"""Protocols that carry the host's name."""
_WAYPOINT = "istio.io/use-waypoint"


def check_service_entry(message: Any, resource: Resource, path: Path) -> Findings:
    """`networking.ServiceEntry`."""
    if message.HasField("workload_selector"):
        yield from check_selector(message.workload_selector.labels, (*path, "workloadSelector", "labels"))
    for number, host in enumerate(message.hosts):
        fault = f"{quoted(host)} can't be a host" if host == "*" else wildcard_fault(host)
        yield from checked(fault, (*path, "hosts", number))
        if fault is None and (unwise := partial_wildcard_fault(host)) is not None:
            yield warning((*path, "hosts", number), unwise)
    yield from check_each(map(subnet_fault, message.addresses), (*path, "addresses"))
    for number, port in enumerate(message.ports):
        place = (*path, "ports", number)
        if not is_label(port.name):
            yield Finding((*place, "name"), f"{quoted(port.name)} is no name of a port")
        yield from checked(protocol_fault(port.protocol), (*place, "protocol"))
        if port.target_port and message.resolution == message.DYNAMIC_DNS:
            yield warning((*place, "targetPort"), "is not used with resolution DYNAMIC_DNS")
    yield from _check_resolution(message, resource, path)
    if message.resolution != message.NONE and len(message.hosts) > 1:
        yield from _check_protocols(message.ports, HTTP | TLS, (*path, "ports"), "several hosts")
    yield from check_export(message.export_to, resource.namespace, (*path, "exportTo"), may_be_none=True)


def _check_resolution(message: Any, resource: Resource, path: Path) -> Findings:
    """What each way to find the endpoints allows."""
    endpoints, names = (*path, "endpoints"), {port.name for port in message.ports}
    is_static = message.resolution == message.STATIC
    if not is_static and message.resolution != message.NONE and any("/" in one for one in message.addresses):
        yield Finding((*path, "addresses"), "ranges are taken with resolution NONE and STATIC only")
    if message.resolution == message.NONE:
        if message.endpoints:
            yield Finding(endpoints, "can't be set with resolution NONE, which is the default")
        if message.HasField("workload_selector"):
            yield warning((*path, "workloadSelector"), "does nothing with resolution NONE")
    elif message.resolution == message.DYNAMIC_DNS:
        yield from _check_dynamic(message, resource, path)
    else:
        for number, entry in enumerate(message.endpoints):
            yield from check_endpoint(
                entry, (*endpoints, number), may_be_name=not is_static, may_be_unix=is_static, ports=names
            )
        if not is_static:
            yield from _check_dns(message, path)


def _check_dns(message: Any, path: Path) -> Findings:
    if not message.endpoints:
        for number, host in enumerate(message.hosts):
            if domain_fault(host) is not None:
                yield Finding((*path, "hosts", number), "must be a full name where DNS finds the endpoints")
                break
    elif any(not entry.address for entry in message.endpoints):
        yield Finding((*path, "endpoints"), "each needs an address where DNS finds it")
    if message.resolution == message.DNS_ROUND_ROBIN and len(message.endpoints) > 1:
        yield Finding((*path, "endpoints"), "one is the most with resolution DNS_ROUND_ROBIN")


def _check_dynamic(message: Any, resource: Resource, path: Path) -> Findings:
    for number, host in enumerate(message.hosts):
        if not is_wildcard(host):
            yield Finding((*path, "hosts", number), "must begin with * with resolution DYNAMIC_DNS")
    for field in ("addresses", "endpoints"):
        if getattr(message, field):
            yield Finding((*path, field), "can't be set with resolution DYNAMIC_DNS")
    yield from _check_protocols(message.ports, _DYNAMIC, (*path, "ports"), "resolution DYNAMIC_DNS")
    waypoint = resource.labels.get(_WAYPOINT, "")
    if message.location == message.MESH_INTERNAL and waypoint.lower() not in {"", "none"}:
        yield Finding((*path, "location"), "MESH_INTERNAL is not taken with waypoints and resolution DYNAMIC_DNS")


def _check_protocols(ports: Iterable[Any], taken: frozenset[str], path: Path, reason: str) -> Findings:
    for number, port in enumerate(ports):
        protocol = port.protocol.lower()
        if protocol not in taken and (protocol in PROTOCOLS or not protocol):
            named = ", ".join(sorted(taken)).upper()
            yield Finding((*path, number, "protocol"), f"with {reason} it must be one of {named}")
            return
