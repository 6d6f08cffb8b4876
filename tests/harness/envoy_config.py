"""What a sidecar is given for ServiceEntries, as istiod 1.29 makes it of them: an Envoy bootstrap.

istiod writes hosts and cluster names in lower case into routes, and leaves clusters as the entry spells them. An
endpoint's port is found by the name of the service's port, else it is the service's. Services with HTTP are routed
by the host of a request, others by the address that was dialled, which a PROXY header tells here.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.protobuf.istio_networking.service_entry_pb2 import ServicePort
    from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry

HTTP_LIKE = {"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"}
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_TYPES = f"{_EXTENSIONS}.filters"


def bootstrap(
    entries: Iterable[ServiceEntry], *, http_port: int, tcp_port: int = 0, admin_port: int = 0, dns_port: int = 0
) -> dict[str, Any]:
    """The configuration; a port of 0 leaves that listener out."""
    known = list(entries)
    listeners = [_http_listener(known, http_port)]
    chains = _tcp_chains(known)
    if tcp_port and chains:
        listeners.append(_tcp_listener(chains, tcp_port))
    clusters = [_cluster(entry, port, dns_port) for entry in known for port in entry.ports]
    admin = {"admin": {"address": _address("127.0.0.1", admin_port)}} if admin_port else {}
    return {**admin, "static_resources": {"listeners": listeners, "clusters": clusters}}


def cluster_name(entry: ServiceEntry, port: ServicePort) -> str:
    """As istiod calls it."""
    return f"outbound|{port.number}||{entry.hosts[0]}"


def _cluster(entry: ServiceEntry, port: ServicePort, dns_port: int) -> dict[str, Any]:
    is_named = entry.resolution == ServiceEntry.DNS
    name = cluster_name(entry, port)
    by_locality: dict[str, list[WorkloadEntry]] = defaultdict(list)
    for endpoint in entry.endpoints:
        by_locality[endpoint.locality].append(endpoint)
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STRICT_DNS" if is_named else "STATIC",
        "connect_timeout": "2s",
        "lb_policy": "ROUND_ROBIN",
        "common_lb_config": {"locality_weighted_lb_config": {}},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [_locality(port, locality, found) for locality, found in sorted(by_locality.items())],
        },
    }
    if is_named and dns_port:
        cluster |= {
            "dns_lookup_family": "V4_ONLY",
            "typed_dns_resolver_config": {
                "name": "envoy.network.dns_resolver.cares",
                "typed_config": {
                    "@type": f"{_EXTENSIONS}.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                    "resolvers": [_address("127.0.0.1", dns_port, "UDP")],
                },
            },
        }
    if port.protocol.upper() in {"GRPC", "HTTP2"}:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def _locality(port: ServicePort, locality: str, endpoints: list[WorkloadEntry]) -> dict[str, Any]:
    region, _, rest = locality.partition("/")
    zone, _, sub_zone = rest.partition("/")
    return {
        "locality": {"region": region, "zone": zone, "sub_zone": sub_zone},
        "load_balancing_weight": sum(max(one.weight, 1) for one in endpoints),
        "lb_endpoints": [
            {
                "endpoint": {
                    "address": _address(one.address, one.ports.get(port.name, port.target_port or port.number))
                },
                "load_balancing_weight": max(one.weight, 1),
            }
            for one in endpoints
        ],
    }


def _http_listener(entries: list[ServiceEntry], port: int) -> dict[str, Any]:
    hosts = []
    for entry in entries:
        for one in entry.ports:
            if one.protocol.upper() in HTTP_LIKE:
                host = entry.hosts[0].lower()
                route = {"match": {"prefix": "/"}, "route": {"cluster": cluster_name(entry, one).lower()}}
                hosts.append(
                    {
                        "name": f"{host}:{one.number}",
                        "domains": [f"{host}:{one.number}"],
                        "routes": [route],
                    }
                )
    connection = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "codec_type": "AUTO",
        "route_config": {"name": "outbound", "virtual_hosts": hosts, "validate_clusters": True},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}]}
    return {"name": "http", "address": _address("127.0.0.1", port), "filter_chains": [chain]}


def _tcp_chains(entries: list[ServiceEntry]) -> list[dict[str, Any]]:
    """One for each service and port; of services without an address the first has the port, as in a sidecar."""
    chains = []
    taken: set[int] = set()
    for entry in entries:
        for port in entry.ports:
            if port.protocol.upper() in HTTP_LIKE or port.protocol.upper() == "UDP":
                continue
            name = cluster_name(entry, port)
            match: dict[str, Any] = {"destination_port": port.number}
            if entry.addresses:
                match["prefix_ranges"] = [{"address_prefix": one, "prefix_len": 32} for one in entry.addresses]
            elif port.number in taken:
                continue
            else:
                taken.add(port.number)
            proxy = {"@type": f"{_TYPES}.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp", "cluster": name}
            chains.append(
                {
                    "name": name,
                    "filter_chain_match": match,
                    "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}],
                }
            )
    return chains


def _tcp_listener(chains: list[dict[str, Any]], port: int) -> dict[str, Any]:
    header = {"@type": f"{_TYPES}.listener.proxy_protocol.v3.ProxyProtocol"}
    return {
        "name": "tcp",
        "address": _address("127.0.0.1", port),
        "listener_filters": [{"name": "envoy.filters.listener.proxy_protocol", "typed_config": header}],
        "filter_chains": chains,
    }


def _address(address: str, port: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port, "protocol": protocol}}
