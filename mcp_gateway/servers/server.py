"""The gRPC server: its services, its options, its start and end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mcp_gateway.servers.credentials import CertificateFiles
from mcp_gateway.servers.stream import StreamServer, StreamStatus
from mcp_gateway.sessions.ads import AdsFormat, AdsSession
from mcp_gateway.sessions.delta_ads import DeltaAdsFormat, DeltaAdsSession
from mcp_gateway.sessions.mcp_source import McpFormat, McpSourceSession
from runtime.errors import PortBusyError
from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources

if TYPE_CHECKING:
    from mcp_gateway.deliveries import DeliveryTrail
    from mcp_gateway.publisher import Publisher
    from mcp_gateway.settings import GatewaySettings

MCP_SERVICE = "istio.mcp.v1alpha1.ResourceSource"
ADS_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_UNLIMITED = -1


class PilotServer:
    """Serves MCP and ADS on one port; nothing is answered before `serve`."""

    def __init__(self, settings: GatewaySettings, publisher: Publisher, trail: DeliveryTrail) -> None:
        self._settings = settings
        self.streams: dict[int, StreamStatus] = {}
        self._server = grpc.aio.server(options=_options(settings))
        mcp = StreamServer(
            protocol="mcp",
            publisher=publisher,
            session=lambda: McpSourceSession(incremental=settings.incremental_collections),
            message_format=McpFormat(),
            parse=RequestResources.FromString,
            max_streams=settings.max_streams,
            streams=self.streams,
            trail=trail,
            allowed=settings.allowed_identities,
        )
        ads = StreamServer(
            protocol="ads",
            publisher=publisher,
            session=AdsSession,
            message_format=AdsFormat(),
            parse=DiscoveryRequest.FromString,
            max_streams=settings.max_streams,
            streams=self.streams,
            trail=trail,
            allowed=settings.allowed_identities,
        )
        delta = StreamServer(
            protocol="delta",
            publisher=publisher,
            session=DeltaAdsSession,
            message_format=DeltaAdsFormat(),
            parse=DeltaDiscoveryRequest.FromString,
            max_streams=settings.max_streams,
            streams=self.streams,
            trail=trail,
            allowed=settings.allowed_identities,
        )
        self._server.add_generic_rpc_handlers(
            (
                _handler(MCP_SERVICE, EstablishResourceStream=mcp.serve),
                _handler(ADS_SERVICE, StreamAggregatedResources=ads.serve, DeltaAggregatedResources=delta.serve),
            )
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (MCP_SERVICE, ADS_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def bind(self) -> int:
        """Takes the port; the number that it got.

        Raises:
            PortBusyError: another process has it.
            SettingsError: a certificate can't be read.
        """
        address = f"{self._settings.host}:{self._settings.port}"
        tls = self._settings.tls
        try:
            if tls.is_on:
                return int(self._server.add_secure_port(address, CertificateFiles(tls).credentials()))
            return int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise PortBusyError(f"cannot listen on {address} for Pilots; set another gateway.port") from error

    async def serve(self) -> None:
        """Answers from now on."""
        await self._server.start()
        for service in ("", MCP_SERVICE, ADS_SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Takes no new streams, and ends those that are open."""
        await self._health.enter_graceful_shutdown()
        # Streams of Pilots never end by themselves: they are told to go at once, and reconnect elsewhere.
        await asyncio.sleep(0)
        await self._server.stop(grace=min(self._settings.drain_s, 1.0))


def _options(settings: GatewaySettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.so_reuseport", 0),  # a busy port must be an error
        # Pilots ping every 30 s, also without a stream; a default server drops them for it after some minutes.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
        # Jittered by gRPC itself. Connections that never end would stay on the gateway that happened to be up.
        ("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", int(settings.connection_grace_s * 1000)),
    ]


def _handler(service: str, **methods: Any) -> Any:
    """A handler of streams that takes and gives bytes: messages are encoded once, elsewhere."""
    handlers = {name: grpc.stream_stream_rpc_method_handler(serve) for name, serve in methods.items()}
    return grpc.method_handlers_generic_handler(service, handlers)
