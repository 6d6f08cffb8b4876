"""Gateway. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.names import (
    HTTP,
    PROTOCOLS,
    TLS,
    UNIX,
    checked,
    is_address,
    is_label,
    partial_wildcard_fault,
    socket_fault,
    wildcard_fault,
)
from consumers.materializer.conversion.validation.server_tls import check_server_tls

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource


def check_gateway(message: Any, resource: Resource, path: Path) -> Findings:
    """`networking.Gateway`."""
    if not is_label(resource.name):
        yield Finding(("metadata", "name"), f"{quoted(resource.name)} is no name of a gateway: it has no dots")
    if not message.servers:
        yield Finding((*path, "servers"), "a server is required")
    names = set()
    for number, server in enumerate(message.servers):
        place = (*path, "servers", number)
        if server.port.name in names:
            yield Finding((*place, "port", "name"), f"{quoted(server.port.name)} stands in an earlier server too")
        names.add(server.port.name)
        for at, host in enumerate(server.hosts):
            yield from check_scoped_host(host, (*place, "hosts", at), for_gateways=True)
        yield from _check_port(server, place)
        if server.HasField("tls"):
            yield from check_server_tls(server.tls, (*place, "tls"))
        yield from _check_protocol(server, place)


def check_scoped_host(host: str, path: Path, *, for_gateways: bool) -> Findings:
    """`namespace/host`; gateways take a host alone too, and an IP address."""
    namespace, slash, name = host.partition("/")
    if not slash:
        if not for_gateways:
            yield Finding(path, f"{quoted(host)} is not of the form namespace/host")
            return
        namespace, name = ".", host
    scope = namespace if for_gateways else namespace.removeprefix("~")
    if not (scope in {"*", "."} or is_label(scope) or (not for_gateways and namespace == "~")):
        yield Finding(path, f"{quoted(namespace)} is neither * nor . nor a namespace")
    if name != "*" and "." not in name:
        yield Finding(path, f"{quoted(name)} must be a full name, with dots")
    elif (fault := wildcard_fault(name)) is not None and not (for_gateways and is_address(name)):
        yield Finding(path, fault)
    else:
        yield from checked(partial_wildcard_fault(name), path)


def _check_port(server: Any, path: Path) -> Findings:
    port, bind = server.port, server.bind
    if port.protocol.lower() not in PROTOCOLS:
        yield Finding((*path, "port", "protocol"), f"{quoted(port.protocol)} is no protocol that Istio knows")
    if bind.startswith(UNIX):
        yield from checked(socket_fault(bind.removeprefix(UNIX)), (*path, "bind"))
        if port.number:
            yield Finding((*path, "port", "number"), "must be 0 for a Unix socket")
        return
    if not port.number:
        yield Finding((*path, "port", "number"), "0 is not 1 to 65535")
    if bind and not is_address(bind):
        yield Finding((*path, "bind"), f"{quoted(bind)} is no IP address")


def _check_protocol(server: Any, path: Path) -> Findings:
    """Whether TLS is set where the protocol has it, and only there."""
    protocol, tls = server.port.protocol.lower(), server.tls
    if protocol in TLS:
        if not server.HasField("tls"):
            yield Finding((*path, "tls"), f"is required with protocol {protocol.upper()}")
    elif server.HasField("tls"):
        passes_on = tls.mode in {tls.PASSTHROUGH, tls.AUTO_PASSTHROUGH}
        if protocol not in HTTP:
            yield Finding((*path, "tls"), f"can't be set with protocol {protocol.upper()}")
        elif not passes_on or tls.ca_certificates or tls.private_key or tls.server_certificate:
            yield Finding((*path, "tls"), f"only httpsRedirect is taken with protocol {protocol.upper()}")
    if tls.https_redirect and protocol not in HTTP:
        yield warning((*path, "tls", "httpsRedirect"), "is for protocols of HTTP")
