"""The single fields of networking.istio.io: what the schemas of Istio's API server hold. Pure."""

from __future__ import annotations

import re

from consumers.materializer.conversion.validation.facts import (
    MANY,
    NO_STAR,
    NOT_EMPTY,
    PERCENT,
    PORT,
    Exclusion,
    Facts,
    MessageFacts,
    items,
    text,
)

_PORT_NAME = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_DESTINATION = MessageFacts(required=("destination",), fields={"weight": Facts(number=(0, MANY))})
_COUNT = Facts(number=(0, MANY))
_PORT_OR_NONE = Facts(number=(0, 65535))
_CERTIFICATES = ("tls_certificates", "credential_names")

_HEADER_NAMES = Facts(pattern=re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+"), kind="name of a header")
_HTTP_COUNTS = (
    *("http1_max_pending_requests", "http2_max_requests", "max_requests_per_connection"),
    *("max_retries", "max_concurrent_streams"),
)
_PROBE_COUNTS = (
    *("initial_delay_seconds", "timeout_seconds", "period_seconds"),
    *("success_threshold", "failure_threshold"),
)
_METHODS = re.compile(r"GET|HEAD|POST|PUT|PATCH|DELETE|CONNECT|OPTIONS|TRACE|\*")

NETWORKING = {
    "ConnectionPoolSettings.HTTPSettings": MessageFacts(fields=dict.fromkeys(_HTTP_COUNTS, _COUNT)),
    "ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive": MessageFacts(required=("interval", "timeout")),
    "ConnectionPoolSettings.TCPSettings": MessageFacts(fields={"max_connections": _COUNT}),
    "CorsPolicy": MessageFacts(
        fields={
            "allow_methods": Facts(pattern=_METHODS, kind="method of HTTP"),
            "allow_headers": _HEADER_NAMES,
            "expose_headers": _HEADER_NAMES,
        }
    ),
    "Destination": MessageFacts(required=("host",)),
    "DestinationRule": MessageFacts(required=("host",)),
    "EnvoyFilter": MessageFacts(one_of=(("workload_selector", "targetRefs"),), fields={"targetRefs": items(16)}),
    "EnvoyFilter.WaypointMatch": MessageFacts(fields={"port_number": PORT}),
    "ExecHealthCheckConfig": MessageFacts(
        required=("command",), fields={"command": Facts(size=(1, MANY), length=(1, MANY))}
    ),
    "GrpcHealthCheckConfig": MessageFacts(fields={"port": PORT}),
    "HTTPDirectResponse": MessageFacts(required=("status",), fields={"status": Facts(number=(200, 600))}),
    "HTTPHeader": MessageFacts(
        fields={"name": Facts(pattern=re.compile("[-A-Za-z0-9]+"), kind="name of a header")}
    ),
    "HTTPHealthCheckConfig": MessageFacts(
        required=("port",),
        fields={"port": PORT, "scheme": Facts(pattern=re.compile("|HTTP|HTTPS"), kind="HTTP or HTTPS")},
    ),
    "HTTPMirrorPolicy": MessageFacts(required=("destination",)),
    "HTTPMatchRequest": MessageFacts(fields={"port": _PORT_OR_NONE}),
    "HTTPRedirect": MessageFacts(
        one_of=(("uri", "prefix_rewrite"),),
        fields={
            "port": _PORT_OR_NONE,
            "scheme": Facts(pattern=re.compile("|http|https"), kind="http or https"),
        },
    ),
    "HTTPRetry": MessageFacts(fields={"attempts": _COUNT}),
    "HTTPRouteDestination": _DESTINATION,
    "IstioEgressListener": MessageFacts(required=("hosts",), fields={"hosts": items(MANY, least=1)}),
    "IstioIngressListener": MessageFacts(required=("port",)),
    "LoadBalancerSettings.ConsistentHashLB.HTTPCookie": MessageFacts(required=("name",)),
    "LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute": MessageFacts(required=("name",)),
    "L4MatchAttributes": MessageFacts(fields={"port": _PORT_OR_NONE}),
    "OutlierDetection": MessageFacts(
        fields={
            "outlier_detection_http_error_codes": Facts(number=(100, 599)),
            "max_ejection_percent": PERCENT,
            "min_health_percent": PERCENT,
        }
    ),
    "Percent": MessageFacts(fields={"value": PERCENT}),
    "Port": MessageFacts(
        required=("number", "protocol", "name"),
        fields={"name": NOT_EMPTY, "number": _PORT_OR_NONE, "target_port": Facts(number=(0, 0))},
    ),
    "ReadinessProbe": MessageFacts(fields=dict.fromkeys(_PROBE_COUNTS, _COUNT)),
    "RouteDestination": _DESTINATION,
    "Server": MessageFacts(required=("port", "hosts"), fields={"hosts": items(MANY, least=1)}),
    "ServerTLSSettings": MessageFacts(
        one_of=(_CERTIFICATES, ("credential_name", "credential_names")),
        fields={one: items(2, least=1) for one in _CERTIFICATES},
    ),
    "ServiceEntry": MessageFacts(
        required=("hosts",),
        one_of=(("workload_selector", "endpoints"),),
        unique=(("ports", "name"), ("ports", "number")),
        excluded=(Exclusion("resolution", re.compile("NONE"), "endpoints", default="NONE"),),
        fields={
            "addresses": Facts(size=(0, 256), length=(0, 64)),
            "endpoints": items(4096),
            "hosts": items(256, least=1),
            "ports": items(256),
        },
    ),
    "ServicePort": MessageFacts(
        required=("number", "name"),
        fields={"name": text(256), "number": PORT, "protocol": text(256), "target_port": PORT},
    ),
    "Subset": MessageFacts(required=("name",)),
    "TCPHealthCheckConfig": MessageFacts(required=("port",), fields={"port": PORT}),
    "TLSMatchAttributes": MessageFacts(
        required=("sni_hosts",), fields={"sni_hosts": items(MANY, least=1), "port": _PORT_OR_NONE}
    ),
    "TLSRoute": MessageFacts(
        required=("match", "route"), fields={"match": items(MANY, least=1), "route": items(MANY, least=1)}
    ),
    "TCPRoute": MessageFacts(required=("route",), fields={"route": items(MANY, least=1)}),
    "TrafficPolicy": MessageFacts(fields={"port_level_settings": items(4096)}),
    "TrafficPolicy.RetryBudget": MessageFacts(fields={"percent": PERCENT}),
    "TrafficPolicy.TunnelSettings": MessageFacts(
        required=("target_host", "target_port"),
        fields={
            "protocol": Facts(pattern=re.compile("|CONNECT|POST"), kind="CONNECT or POST"),
            "target_port": PORT,
        },
    ),
    "WarmupConfiguration": MessageFacts(
        required=("duration",), fields={"minimum_percent": PERCENT, "aggression": Facts(number=(0, MANY))}
    ),
    "WorkloadEntry": MessageFacts(
        excluded=(Exclusion("address", re.compile("unix://.*", re.DOTALL), "ports"),),
        fields={
            "address": text(256),
            "labels": items(256),
            "locality": text(2048),
            "network": text(2048),
            "ports": Facts(
                size=(0, 128),
                number=(1, 65535),
                keys=Facts(length=(1, 62), pattern=_PORT_NAME, kind="name of a port"),
            ),
            "service_account": text(253),
        },
    ),
    "WorkloadGroup": MessageFacts(required=("template",)),
    "WorkloadGroup.ObjectMeta": MessageFacts(fields={"labels": items(256), "annotations": items(256)}),
    "WorkloadSelector": MessageFacts(
        fields={"labels": Facts(size=(0, 256), length=(0, 63), pattern=NO_STAR, kind="text without *")}
    ),
    "ZoneAwareLoadBalancerSetting": MessageFacts(fields={"min_cluster_size": Facts(number=(1, MANY))}),
}
