"""Dials Pilots that wait for a source (`ResourceSink`), and serves them as if they had dialled.

The source speaks first: a push of a collection that no sink knows makes it refuse that, and ask for what it wants.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog

from mcp_gateway import metrics
from mcp_gateway.deliveries import Recipient
from mcp_gateway.errors import CallLostError, GatewayError, InternalFaultError, ProtocolError, StalledError
from mcp_gateway.servers.dialects import mcp_source
from mcp_gateway.servers.server import TRANSPORT_FAULTS
from runtime.backoff import Backoff
from runtime.errors import SettingsError
from runtime.supervision import is_cancellation_requested
from schemas.protobuf.istio_mcp.mcp_pb2 import Resources

if TYPE_CHECKING:
    from mcp_gateway.servers.server import PilotServer
    from mcp_gateway.settings import GatewaySettings, SinkSettings

_log = structlog.get_logger()

METHOD = "/istio.mcp.v1alpha1.ResourceSink/EstablishResourceStream"
TRIGGER = Resources(collection="$triggerCollection").SerializeToString()
_BACKOFF_S = (1.0, 60.0)


class SinkDialer:
    """Keeps a stream to one configured Pilot, with growing pauses while it is away."""

    def __init__(self, sink: SinkSettings, settings: GatewaySettings, server: PilotServer) -> None:
        self._sink = sink
        self._settings = settings
        self._server = server
        self._dialect = mcp_source(
            settings.incremental_collections, protocol="mcp-sink", also_answered=settings.also_answered
        )
        self._credentials = _credentials(sink)

    async def run(self) -> None:
        """Dials again and again, until it is cancelled."""
        backoff = Backoff(*_BACKOFF_S)
        while True:
            started = time.monotonic()
            reason, fault = await self._attempt()
            metrics.RECONNECTIONS.inc()
            metrics.SINK_FAULTS.labels(reason).inc()
            wait_s = backoff.pause_s(time.monotonic() - started)
            _log.warning(
                "sink is dialled again", sink=self._sink.address, reason=reason, fault=fault[:300],
                in_s=round(wait_s, 1),
            )  # fmt: skip
            await asyncio.sleep(wait_s)

    async def _attempt(self) -> tuple[str, str]:
        """Serves the sink until the stream ends, however it ends; the reason as a metric's label, and in words."""
        try:
            await self._serve_once()
        except asyncio.CancelledError:
            if is_cancellation_requested():
                raise
            return CallLostError.reason, "the call was cancelled"
        except GatewayError as error:
            return error.reason, str(error)
        except grpc.aio.AioRpcError as error:
            return "call_failed", f"{error.code().name}: {error.details()}"
        except TRANSPORT_FAULTS as error:
            return CallLostError.reason, str(error)
        except Exception as error:  # noqa: BLE001 - logged with its trace; the sink is dialled again
            _log.exception("sink_failed", sink=self._sink.address)
            return InternalFaultError.reason, f"{type(error).__name__}: {error}"
        return "ended", "the sink ended the stream"

    async def _serve_once(self) -> None:
        address = self._sink.address
        options = [("grpc.max_receive_message_length", self._settings.limits.max_request_bytes)]
        if self._sink.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self._sink.tls.server_name))  # type: ignore[arg-type]
        channel = (
            grpc.aio.insecure_channel(address, options)
            if self._credentials is None
            else grpc.aio.secure_channel(address, self._credentials, options)
        )
        async with channel:
            call = channel.stream_stream(METHOD)()
            await self._trigger(call)
            peer = Recipient(address, "mcp-sink", self._sink.identity or address)
            await self._server.follow(self._server.stream(self._dialect, peer, [peer.identity]), call)

    async def _trigger(self, call: Any) -> None:
        """Makes the sink speak: its answer must be that it does not know the collection.

        Raises:
            ProtocolError, StalledError: it is something else, or nothing.
        """
        try:
            async with asyncio.timeout(self._settings.limits.first_request_s):
                await call.write(TRIGGER)
                data = await call.read()
        except TimeoutError:
            raise StalledError("the sink does not answer") from None
        if data is grpc.aio.EOF:
            raise ProtocolError("the sink ended the stream before it asked for anything")
        request = self._dialect.request(data)
        if request.error_detail.code != grpc.StatusCode.UNIMPLEMENTED.value[0]:
            raise ProtocolError("the sink did not refuse the trigger: it is no MCP sink")


def _credentials(sink: SinkSettings) -> grpc.ChannelCredentials | None:
    tls = sink.tls
    if not tls.is_on:
        return None
    try:
        ca, key, certificate = (path and path.read_bytes() for path in (tls.ca, tls.key, tls.certificate))
    except OSError as error:
        raise SettingsError(f"gateway.sinks: cannot read {error.filename}: {error.strerror}") from error
    return grpc.ssl_channel_credentials(ca, key, certificate)
