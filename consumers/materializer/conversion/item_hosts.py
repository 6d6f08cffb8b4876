"""Hosts that config items name, in lower case. Pure.

Routes of istiod are in lower case, clusters as a ServiceEntry spells them, and istiod finds the rules of a host
letter by letter. Generated entries are in lower case: an item that spells a host otherwise would meet none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.protobuf.istio_networking.destination_rule_pb2 import DestinationRule
from schemas.protobuf.istio_networking.gateway_pb2 import Gateway
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from schemas.protobuf.istio_networking.sidecar_pb2 import Sidecar
from schemas.protobuf.istio_networking.virtual_service_pb2 import VirtualService

if TYPE_CHECKING:
    from collections.abc import Iterator


def lower_hosts(message: Any) -> list[str]:
    """Puts every host of a message in lower case; those that were not, as they were."""
    found: list[str] = []
    match message:
        case ServiceEntry() | VirtualService():
            _lower_list(message.hosts, found)
        case DestinationRule():
            _lower_field(message, found)
        case Gateway():
            for server in message.servers:
                _lower_list(server.hosts, found)
        case Sidecar():
            for listener in message.egress:
                _lower_list(listener.hosts, found)
        case _:
            return found
    if isinstance(message, VirtualService):
        for destination in _destinations(message):
            _lower_field(destination, found)
    return found


def _destinations(message: VirtualService) -> Iterator[Any]:
    for http in message.http:
        for route in http.route:
            yield route.destination
        if http.HasField("mirror"):
            yield http.mirror
        for mirror in http.mirrors:
            yield mirror.destination
    for tcp in message.tcp:
        yield from (one.destination for one in tcp.route)
    for tls in message.tls:
        yield from (one.destination for one in tls.route)


def _lower_list(hosts: Any, found: list[str]) -> None:
    for number, host in enumerate(hosts):
        if host != host.lower():
            found.append(host)
            hosts[number] = host.lower()


def _lower_field(message: Any, found: list[str]) -> None:
    if message.host != message.host.lower():
        found.append(message.host)
        message.host = message.host.lower()
