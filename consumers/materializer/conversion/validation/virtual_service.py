"""VirtualService: its hosts and gateways, and its routes of TLS and TCP. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.headers import is_claim
from consumers.materializer.conversion.validation.http_route import check_http_route
from consumers.materializer.conversion.validation.names import (
    Hosts,
    check_labels,
    checked,
    is_address,
    is_wildcard,
    subnet_fault,
    wildcard_fault,
)
from consumers.materializer.conversion.validation.routes import check_destinations, check_gateways, unused_rules
from consumers.materializer.conversion.validation.selection import check_export

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource

_OUTBOUND = "outbound_"
"""Hosts that Istio makes for gateways that pass TLS on: `outbound_.80_._.host`."""


def check_virtual_service(message: Any, resource: Resource, path: Path) -> Findings:
    """`networking.VirtualService`; without hosts it is a delegate."""
    is_delegate = not message.hosts
    if is_delegate:
        for field in ("gateways", "tls", "tcp"):
            if getattr(message, field):
                yield Finding((*path, field), "a delegate, which has no hosts, has only http")
    if not (message.http or message.tls or message.tcp):
        yield Finding(path, "one of http, tls and tcp is required")
    yield from check_gateways(message.gateways, (*path, "gateways"))
    for_gateways = bool(message.gateways) and "mesh" not in message.gateways
    if not for_gateways:
        yield from _check_claims(message, path)
    yield from _check_hosts(message, (*path, "hosts"), for_gateways=for_gateways)
    for number, route in enumerate(message.http):
        yield from check_http_route(route, resource, (*path, "http", number), is_delegate=is_delegate)
    hosts = Hosts(message.hosts)
    for number, route in enumerate(message.tls):
        yield from _check_tls(route, hosts, (*path, "tls", number), for_gateways=for_gateways)
    for number, route in enumerate(message.tcp):
        for at, match in enumerate(route.match):
            yield from _check_l4(match, (*path, "tcp", number, "match", at))
        yield from check_destinations(route.route, (*path, "tcp", number, "route"))
    yield from check_export(message.export_to, resource.namespace, (*path, "exportTo"))
    for field in ("http", "tls", "tcp"):
        yield from unused_rules(getattr(message, field), (*path, field))


def _check_hosts(message: Any, path: Path, *, for_gateways: bool) -> Findings:
    takes_outbound = for_gateways and any(match.sni_hosts for route in message.tls for match in route.match)
    all_good = True
    for number, host in enumerate(message.hosts):
        fault = _host_fault(host, takes_outbound=takes_outbound)
        if fault is not None and not is_address(host):
            all_good = False
            yield Finding((*path, number), fault)
        elif host == "*" and not for_gateways:
            all_good = False
            yield Finding((*path, number), "* is only taken with gateways other than mesh")
    if all_good:
        yield from _check_overlap(message.hosts, path)


def _check_overlap(hosts: Any, path: Path) -> Findings:
    """No host may be covered by another; those with wildcards come first, so that each is held against them."""
    known = Hosts([])
    for number, host in sorted(enumerate(hosts), key=lambda one: (not is_wildcard(one[1]), len(one[1]), one[0])):
        if known.cover(host):
            yield Finding((*path, number), f"{quoted(host)} is covered by another host of the list")
            return
        known.add(host)


def _host_fault(host: str, *, takes_outbound: bool) -> str | None:
    if takes_outbound and host.startswith(_OUTBOUND):
        parts = host.split("_")
        is_made = len(parts) >= 4 and any(c.isdigit() for c in parts[1]) and any(c.isalpha() for c in parts[3])
        return (
            None if is_made and len(host) <= 255 else f"{quoted(host)} is not of the form outbound_.PORT_._.HOST"
        )
    return wildcard_fault(host)


def _check_claims(message: Any, path: Path) -> Findings:
    for number, route in enumerate(message.http):
        for at, match in enumerate(route.match):
            for name in (*match.headers, *match.without_headers):
                if is_claim(name):
                    field = "headers" if name in match.headers else "withoutHeaders"
                    place = (*path, "http", number, "match", at, field, name)
                    yield Finding(place, "claims are matched by gateways only")


def _check_tls(route: Any, hosts: Hosts, path: Path, *, for_gateways: bool) -> Findings:
    for at, match in enumerate(route.match):
        place = (*path, "match", at)
        for number, sni in enumerate(match.sni_hosts):
            where = (*place, "sniHosts", number)
            if (fault := _host_fault(sni, takes_outbound=for_gateways)) is None:
                if not hosts.cover(sni):
                    yield Finding(where, f"{quoted(sni)} is none of the hosts, nor covered by one")
            elif is_address(sni):
                yield warning(where, "an IP address is no server name of TLS: most clients don't send it")
            else:
                yield Finding(where, fault)
        yield from _check_l4(match, place)
    yield from check_destinations(route.route, (*path, "route"))


def _check_l4(match: Any, path: Path) -> Findings:
    """What matches of TLS and TCP have in common."""
    for number, subnet in enumerate(match.destination_subnets):
        yield from checked(subnet_fault(subnet), (*path, "destinationSubnets", number))
    yield from check_labels(match.source_labels, (*path, "sourceLabels"))
    yield from check_gateways(match.gateways, (*path, "gateways"))
