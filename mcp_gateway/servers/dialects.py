"""The protocols that the gateway speaks, each with its session, its message format and its parser."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mcp_gateway.servers.stream import Dialect, Request
from mcp_gateway.sessions.ads import AdsFormat, AdsSession
from mcp_gateway.sessions.delta_ads import DeltaAdsFormat, DeltaAdsSession
from mcp_gateway.sessions.mcp_source import McpFormat, McpSourceSession
from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources

if TYPE_CHECKING:
    from collections.abc import Callable

_SHORT = 512
"""Bytes of a request that is worth remembering; the names and versions in longer ones are one peer's own."""


def remembering(parse: Callable[[bytes], Request]) -> Callable[[bytes], Request]:
    """Parses short requests once: the answers to a push are the same bytes from all who say nothing of themselves.

    What is parsed is shared, and nobody changes it.
    """
    remembered = lru_cache(maxsize=1024)(parse)
    return lambda data: remembered(data) if len(data) <= _SHORT else parse(data)


def mcp_source(
    incremental: tuple[str, ...], protocol: str = "mcp", *, also_answered: tuple[str, ...] = ()
) -> Dialect[RequestResources]:
    """MCP; `incremental` and `also_answered` are as in `McpSourceSession`."""
    return Dialect(
        protocol=protocol,
        session=lambda: McpSourceSession(incremental=incremental, also_answered=also_answered),
        message_format=McpFormat(),
        parse=remembering(RequestResources.FromString),
    )


def ads(also_answered: tuple[str, ...] = ()) -> Dialect[DiscoveryRequest]:
    """ADS, state of the world."""
    return Dialect(
        protocol="ads",
        session=lambda: AdsSession(also_answered=also_answered),
        message_format=AdsFormat(),
        parse=remembering(DiscoveryRequest.FromString),
    )


def delta_ads(also_answered: tuple[str, ...] = ()) -> Dialect[DeltaDiscoveryRequest]:
    """Delta ADS."""
    return Dialect(
        protocol="delta",
        session=lambda: DeltaAdsSession(also_answered=also_answered),
        message_format=DeltaAdsFormat(),
        parse=remembering(DeltaDiscoveryRequest.FromString),
    )
