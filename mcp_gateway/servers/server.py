"""The gRPC server: its services, its options, its start and end."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mcp_gateway import metrics
from mcp_gateway.deliveries import Recipient
from mcp_gateway.errors import (
    CallLostError,
    GatewayError,
    InternalFaultError,
    NotAllowedError,
    ProtocolError,
    TooManyError,
    TooMuchError,
    UnreadError,
)
from mcp_gateway.servers.admission import Admission
from mcp_gateway.servers.credentials import CertificateFiles, identities
from mcp_gateway.servers.dialects import ads, delta_ads, mcp_source
from mcp_gateway.servers.in_flight import InFlight
from mcp_gateway.servers.kept_bytes import KeptBytes
from mcp_gateway.servers.other_calls import MAX_CALLS, OtherCalls
from mcp_gateway.servers.stream import Stream
from runtime.backoff import Backoff
from runtime.errors import PortBusyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_gateway.deliveries import DeliveryTrail
    from mcp_gateway.servers.stream import Dialect
    from mcp_gateway.settings import GatewaySettings
    from mcp_gateway.views.views import Views
    from runtime.supervision import Supervisor

_log = structlog.get_logger()

MCP_SERVICE = "istio.mcp.v1alpha1.ResourceSource"
ADS_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_UNLIMITED = -1
_STATUS = {
    ProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
    NotAllowedError: grpc.StatusCode.PERMISSION_DENIED,
    TooManyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooMuchError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    InternalFaultError: grpc.StatusCode.INTERNAL,
}
"""All others are UNAVAILABLE: the peer may come again."""
TRANSPORT_FAULTS = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError)
"""The call ended while it was read or written: an event of the network, and no fault of the gateway."""
_SWEEP_PAUSES_S = (1.0, 60.0)


class PilotServer:
    """Serves MCP and ADS on one port; nothing is answered before `serve`."""

    def __init__(
        self, settings: GatewaySettings, views: Views, trail: DeliveryTrail, supervisor: Supervisor
    ) -> None:
        self._settings = settings
        self._views = views
        self._trail = trail
        self._supervisor = supervisor
        self._admission = Admission(settings)
        self._is_stopping = False
        self._started_at, self._numbers = int(time.time()), count(1)
        self._parts: list[asyncio.Task[None]] = []
        self.streams: set[Stream[Any]] = set()
        limits = settings.limits
        self.in_flight = InFlight(limits.max_in_flight_bytes)
        self.kept = KeptBytes(limits.max_subscription_bytes_per_identity, limits.max_subscription_bytes)
        metrics.SUBSCRIPTION_BYTES.set_function(lambda: self.kept.bytes)
        self._server = grpc.aio.server(
            options=_options(settings),
            interceptors=[OtherCalls(MCP_SERVICE, ADS_SERVICE)],
            maximum_concurrent_rpcs=limits.max_streams + 2 * MAX_CALLS,
        )
        also = settings.also_answered
        mcp = mcp_source(settings.incremental_collections, also_answered=also)
        state, delta = ads(also), delta_ads(also)
        self._server.add_generic_rpc_handlers(
            (
                self._handler(MCP_SERVICE, EstablishResourceStream=mcp),
                self._handler(ADS_SERVICE, StreamAggregatedResources=state, DeltaAggregatedResources=delta),
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
        task = self._supervisor.task
        self._parts = [
            task("sweep of stalled peers", self._let_stalled_go, restart=Backoff(*_SWEEP_PAUSES_S)),
            task("grpc server", self._await_end),
        ]
        for service in ("", MCP_SERVICE, ADS_SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Takes no new streams, and lets those that are open go one by one within `drain_s`.

        Streams of Pilots never end by themselves. Each gets its message to the end, and is told to go: spread out,
        so that they don't all reach another gateway in the same moment. Its connection was told before to take
        no new streams (GOAWAY), so it comes back over another one.
        """
        self._is_stopping = True
        for part in self._parts:
            part.cancel()
        await self._health.enter_graceful_shutdown()
        drain_s = self._settings.drain_s
        stopped = asyncio.create_task(self._server.stop(grace=drain_s + 1.0))
        loop = asyncio.get_running_loop()
        for stream in self.streams:
            loop.call_later(random.uniform(0, drain_s), stream.leave)  # noqa: S311 - spreads load, no secret
        await stopped

    def stream(self, dialect: Dialect[Any], peer: Recipient, identities: Sequence[str]) -> Stream[Any]:
        """A stream to that peer, whoever dialled; it shares views, trail and limits with all others."""
        limits = self._settings.limits
        views, trail = self._views, self._trail
        return Stream(dialect, peer, identities, views, trail, limits, self.in_flight, self.kept)

    async def follow(self, stream: Stream[Any], wire: Any) -> None:
        """Serves a stream, in sight of operators, until it ends.

        Raises:
            GatewayError: as `Stream.run` does; InternalFaultError for whatever else goes wrong in the gateway.
            TRANSPORT_FAULTS: the call ended.
        """
        protocol, address = stream.dialect.protocol, stream.peer.address
        stream.peer.stream = f"{self._started_at:x}-{next(self._numbers)}"
        self.streams.add(stream)
        open_streams = metrics.STREAMS.labels(protocol)
        open_streams.inc()
        metrics.CLIENTS.labels("shiplog").inc()
        _log.info("stream opened", peer=address, protocol=protocol, identity=stream.peer.identity)
        if self._is_stopping:
            stream.leave()
        try:
            await stream.run(wire)
        except GatewayError as error:
            _log.warning(
                "stream ended", peer=address, protocol=protocol, reason=error.reason, error=str(error),
                identities=list(stream.identities[:5]), node=stream.peer.node[:200],
            )  # fmt: skip
            metrics.REFUSED_STREAMS.labels(error.reason).inc()
            raise
        except TRANSPORT_FAULTS:
            raise
        except Exception as error:
            raise _internal(stream.peer, error) from error
        finally:
            self.streams.discard(stream)
            open_streams.dec()
            metrics.CLIENTS.labels("shiplog").dec()
            _log.info("stream closed", peer=address, protocol=protocol)

    async def _await_end(self) -> None:
        """Raises what ended gRPC's own accepting of calls, of which nobody else hears.

        With a time limit, as without one a cancellation would cancel the server's own future.
        """
        while await self._server.wait_for_termination(timeout=60.0):
            continue  # the time is over, and the server is not

    async def _let_stalled_go(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for stream in list(self.streams):
                try:
                    stream.let_go_if_stalled(now)
                except Exception as error:  # noqa: BLE001 - the stream's owner hears of it
                    stream.failed(error)

    def _handler(self, service: str, **dialects: Dialect[Any]) -> Any:
        """A handler of streams that takes and gives bytes: messages are encoded once, elsewhere."""
        handlers = {
            name: grpc.stream_stream_rpc_method_handler(self._behavior(dialect))
            for name, dialect in dialects.items()
        }
        return grpc.method_handlers_generic_handler(service, handlers)

    def _behavior(self, dialect: Dialect[Any]) -> Any:
        async def admit(context: Any) -> None:
            known_as = identities(context.auth_context())
            peer = Recipient(context.peer(), dialect.protocol, known_as[0] if known_as else "")
            stream = self.stream(dialect, peer, known_as)
            async with self._admission.admitted(known_as, peer.address):
                await self.follow(stream, context)

        async def serve(_: object, context: Any) -> None:
            fault: GatewayError
            try:
                await admit(context)
            except (UnreadError, CallLostError, *TRANSPORT_FAULTS) as error:
                # A status can't follow a message that is not taken: cancelled, gRPC drops both.
                raise asyncio.CancelledError from error
            except GatewayError as error:
                fault = error
            except Exception as error:  # noqa: BLE001 - logged with its trace, and told to the peer
                fault = _internal(Recipient(context.peer(), dialect.protocol), error)
            else:
                return
            await context.abort(_STATUS.get(type(fault), grpc.StatusCode.UNAVAILABLE), str(fault)[:1000])

        return serve


def _internal(peer: Recipient, error: Exception) -> InternalFaultError:
    """Logs and counts a fault of the gateway; the error for the peer, which says nothing of its cause."""
    _log.error(
        "stream_failed", peer=peer.address, protocol=peer.protocol, node=peer.node[:200],
        fault=f"{type(error).__name__}: {error}"[:500], exc_info=error,
    )  # fmt: skip
    metrics.REFUSED_STREAMS.labels(InternalFaultError.reason).inc()
    return InternalFaultError("an internal fault of the gateway; its log has the trace")


def _options(settings: GatewaySettings) -> list[tuple[str, int]]:
    limits = settings.limits
    return [
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.max_receive_message_length", limits.max_request_bytes),
        ("grpc.max_metadata_size", limits.max_header_bytes),
        ("grpc.absolute_max_metadata_size", 2 * limits.max_header_bytes),
        ("grpc.max_concurrent_streams", limits.max_streams_per_connection),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        # Else the window for what is not read yet grows to megabytes; requests are small.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.server_handshake_timeout_ms", int(limits.handshake_s * 1000)),
        ("grpc.so_reuseport", 0),  # a busy port must be an error
        # Pilots ping every 30 s, also without a stream; a default server drops them for it after some minutes.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
        # A peer that vanished without a word is found out.
        ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Jittered by gRPC itself. Connections that never end would stay on the gateway that happened to be up.
        ("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", int(settings.connection_grace_s * 1000)),
    ]
