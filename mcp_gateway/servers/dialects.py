"""The protocols that the gateway speaks, each with its session, its message format and its parser."""

from __future__ import annotations

from mcp_gateway.servers.stream import Dialect
from mcp_gateway.sessions.ads import AdsFormat, AdsSession
from mcp_gateway.sessions.delta_ads import DeltaAdsFormat, DeltaAdsSession
from mcp_gateway.sessions.mcp_source import McpFormat, McpSourceSession
from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources


def mcp_source(incremental: tuple[str, ...], protocol: str = "mcp") -> Dialect[RequestResources]:
    """MCP; `incremental` are the patterns of the collections that may be sent as differences."""
    return Dialect(
        protocol=protocol,
        session=lambda: McpSourceSession(incremental=incremental),
        message_format=McpFormat(),
        parse=RequestResources.FromString,
    )


ADS = Dialect(protocol="ads", session=AdsSession, message_format=AdsFormat(), parse=DiscoveryRequest.FromString)
DELTA_ADS = Dialect(
    protocol="delta",
    session=DeltaAdsSession,
    message_format=DeltaAdsFormat(),
    parse=DeltaDiscoveryRequest.FromString,
)
