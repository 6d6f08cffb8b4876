"""WorkloadEntry, WorkloadGroup and the endpoints of a ServiceEntry. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.names import (
    UNIX,
    check_labels,
    checked,
    domain_fault,
    is_address,
    is_label,
    socket_fault,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource


def check_workload_entry(message: Any, resource: Resource, path: Path) -> Findings:  # noqa: ARG001 - as all checks
    """`networking.WorkloadEntry` by itself: its address may be a name."""
    yield from check_endpoint(message, path, may_be_name=True)


def check_endpoint(
    entry: Any, path: Path, *, may_be_name: bool, may_be_unix: bool = True, ports: Collection[str] | None = None
) -> Findings:
    """A workload; `ports` are those that its service has, where that is known."""
    address = entry.address
    if not address and not entry.network:
        yield Finding((*path, "address"), "address or network is required")
    elif not address:
        yield warning((*path, "address"), "is not set: the network's gateway is its address")
    elif address.startswith(UNIX) and may_be_unix:
        yield from _check_socket(entry, path, ports)
    elif not is_address(address):
        if not may_be_name:
            yield Finding((*path, "address"), f"{quoted(address)} is no IP address")
        elif domain_fault(address) is not None:
            yield Finding((*path, "address"), f"{quoted(address)} is neither an IP address nor a name")
    for name in entry.ports:
        if ports is not None and name not in ports:
            yield Finding((*path, "ports", name), "is no port of the service")
        elif not is_label(name):
            yield Finding((*path, "ports", name), f"{quoted(name)} is no name of a port")
    yield from check_labels(entry.labels, (*path, "labels"))


def _check_socket(entry: Any, path: Path, ports: Collection[str] | None) -> Findings:
    yield from checked(socket_fault(entry.address.removeprefix(UNIX)), (*path, "address"))
    if entry.ports:
        yield Finding((*path, "ports"), "a Unix socket has no ports")
    if ports is not None and len(ports) != 1:
        yield Finding((*path, "address"), "a Unix socket is taken by services with one port only")


def check_workload_group(message: Any, resource: Resource, path: Path) -> Findings:  # noqa: ARG001 - as all checks
    """`networking.WorkloadGroup`; what its template lacks is filled in when a workload registers."""
    yield from check_labels(message.metadata.labels, (*path, "metadata", "labels"))
    template = message.template
    if template.address.startswith(UNIX):
        yield from _check_socket(template, (*path, "template"), None)
    if message.HasField("probe") and message.probe.WhichOneof("health_check_method") is None:
        yield Finding((*path, "probe"), "one of httpGet, tcpSocket, exec and grpc is required")
