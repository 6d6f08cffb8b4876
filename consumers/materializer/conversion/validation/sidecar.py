"""Sidecar: what comes in, what goes out, and to which hosts. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.gateway import check_scoped_host
from consumers.materializer.conversion.validation.names import (
    HTTP,
    TLS,
    UNIX,
    checked,
    domain_fault,
    is_address,
    is_label,
    protocol_fault,
    socket_fault,
)
from consumers.materializer.conversion.validation.routes import check_destination
from consumers.materializer.conversion.validation.selection import check_selector
from consumers.materializer.conversion.validation.server_tls import check_server_tls
from consumers.materializer.conversion.validation.traffic_policy import check_connection_pool

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource

_ENDPOINT = re.compile(r"(?:127\.0\.0\.1|0\.0\.0\.0|\[::1\]|\[::\]|):([0-9]{1,5})")
_NOT_FOR_SIDECARS = (
    *("subject_alt_names", "https_redirect", "credential_name", "credential_names"),
    "tls_certificates",
)


def check_sidecar(message: Any, resource: Resource, path: Path) -> Findings:  # noqa: ARG001 - as all checks
    """`networking.Sidecar`."""
    if message.HasField("workload_selector"):
        yield from check_selector(message.workload_selector.labels, (*path, "workloadSelector", "labels"))
    has_policy = message.HasField("outbound_traffic_policy")
    has_pool = message.HasField("inbound_connection_pool")
    if not (message.egress or message.ingress or has_policy or has_pool):
        yield Finding(path, "one of ingress, egress, outboundTrafficPolicy and inboundConnectionPool is required")
    ports: set[int] = set()
    for number, listener in enumerate(message.ingress):
        place = (*path, "ingress", number)
        yield from _check_unique(listener.port.number, ports, (*place, "port", "number"))
        yield from _check_ingress(listener, place)
    if has_pool:
        yield from check_connection_pool(message.inbound_connection_pool, (*path, "inboundConnectionPool"))
    yield from _check_egresses(message.egress, (*path, "egress"))
    if has_policy:
        yield from _check_policy(message.outbound_traffic_policy, (*path, "outboundTrafficPolicy"))


def _check_unique(value: Any, seen: set[Any], path: Path) -> Findings:
    if value in seen:
        yield Finding(path, f"{quoted(value)} stands in an earlier listener too")
    seen.add(value)


def _check_ingress(listener: Any, path: Path) -> Findings:
    yield from _check_port(listener.port, listener.bind, path)
    endpoint = listener.default_endpoint
    if endpoint.startswith(UNIX):
        yield from checked(socket_fault(endpoint.removeprefix(UNIX)), (*path, "defaultEndpoint"))
    elif endpoint:
        found = _ENDPOINT.fullmatch(endpoint)
        if found is None or not 1 <= int(found[1]) <= 65535:
            detail = f"{quoted(endpoint)} is not a port of 127.0.0.1, 0.0.0.0, [::1] or [::], nor a Unix socket"
            yield Finding((*path, "defaultEndpoint"), detail)
    protocol = listener.port.protocol.lower()
    if listener.HasField("tls"):
        yield from _check_tls(listener.tls, protocol, (*path, "tls"))
    if listener.HasField("connection_pool"):
        yield from check_connection_pool(listener.connection_pool, (*path, "connectionPool"))
        if listener.connection_pool.HasField("http") and protocol not in HTTP:
            yield warning((*path, "connectionPool", "http"), "does nothing: the port's protocol is not HTTP")


def _check_tls(tls: Any, protocol: str, path: Path) -> Findings:
    for field in _NOT_FOR_SIDECARS:
        if getattr(tls, field):
            yield Finding((*path, tls.DESCRIPTOR.fields_by_name[field].json_name), "is for gateways only")
    if tls.mode in {tls.ISTIO_MUTUAL, tls.AUTO_PASSTHROUGH}:
        yield Finding((*path, "mode"), "is for gateways only")
    if protocol not in TLS:
        yield Finding(path, "is taken with protocol HTTPS or TLS only")
    yield from check_server_tls(tls, path)


def _check_port(port: Any, bind: str, path: Path) -> Findings:
    """A listener's port, where it is no Unix socket."""
    place = (*path, "port")
    if port.name and not is_label(port.name):
        yield Finding((*place, "name"), f"{quoted(port.name)} is no name of a port")
    if port.target_port:
        yield Finding((*place, "targetPort"), "does nothing in a Sidecar")
    yield from checked(protocol_fault(port.protocol), (*place, "protocol"))
    if not 1 <= port.number <= 65535:
        yield Finding((*place, "number"), f"{port.number} is not 1 to 65535")
    if bind and not is_address(bind):
        yield Finding((*path, "bind"), f"{quoted(bind)} is no IP address")


def _check_egresses(listeners: Any, path: Path) -> Findings:
    ports: set[int] = set()
    sockets: set[str] = set()
    for number, listener in enumerate(listeners):
        place = (*path, number)
        if not listener.HasField("port"):
            if number != len(listeners) - 1:
                yield Finding(place, "a listener without a port must be the last")
        elif listener.port.number:
            yield from _check_unique(listener.port.number, ports, (*place, "port", "number"))
            yield from _check_port(listener.port, listener.bind, place)
        else:
            yield from _check_unique(listener.bind, sockets, (*place, "bind"))
            yield from _check_socket(listener, place)
        seen: set[str] = set()
        for at, host in enumerate(listener.hosts):
            yield from check_scoped_host(host, (*place, "hosts", at), for_gateways=False)
            if host in seen:
                yield warning((*place, "hosts", at), f"{quoted(host)} stands twice")
            seen.add(host)
        if "*/*" in seen and len(seen) > 1:
            yield warning((*place, "hosts"), "*/* stands for all: the others do nothing")


def _check_socket(listener: Any, path: Path) -> Findings:
    port = listener.port
    if port.name and not is_label(port.name):
        yield Finding((*path, "port", "name"), f"{quoted(port.name)} is no name of a port")
    if port.target_port:
        yield Finding((*path, "port", "targetPort"), "does nothing in a Sidecar")
    yield from checked(protocol_fault(port.protocol), (*path, "port", "protocol"))
    if not listener.bind.startswith(UNIX):
        yield Finding((*path, "port", "number"), "is 0, so bind must be a Unix socket")
    else:
        yield from checked(socket_fault(listener.bind.removeprefix(UNIX)), (*path, "bind"))
    if listener.capture_mode == 1:  # IPTABLES
        yield Finding((*path, "captureMode"), "must be DEFAULT or NONE for a Unix socket")


def _check_policy(policy: Any, path: Path) -> Findings:
    if not policy.HasField("egress_proxy"):
        return
    proxy, place = policy.egress_proxy, (*path, "egressProxy")
    if policy.mode != policy.ALLOW_ANY:
        yield Finding(place, "is taken with mode ALLOW_ANY only")
    yield from checked(domain_fault(proxy.host), (*place, "host"))
    if not proxy.HasField("port"):
        yield Finding((*place, "port"), "is required")
    yield from check_destination(proxy, place)
