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
from mcp_gateway.errors import GatewayError, ProtocolError, StalledError
from mcp_gateway.servers.dialects import mcp_source
from runtime.backoff import Backoff
from runtime.errors import SettingsError
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resources

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
            try:
                await self._serve_once()
                fault = "the sink ended the stream"
            except grpc.aio.AioRpcError as error:
                fault = f"{error.code().name}: {error.details()}"
            except (GatewayError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
                fault = str(error)  # the last two: the call ended while it was written to
            metrics.RECONNECTIONS.inc()
            wait_s = backoff.pause_s(time.monotonic() - started)
            _log.warning("sink is dialled again", sink=self._sink.address, fault=fault, in_s=round(wait_s, 1))
            await asyncio.sleep(wait_s)

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
            await call.write(TRIGGER)
            await self._await_refusal(call)
            peer = Recipient(address, "mcp-sink", self._sink.identity or address)
            await self._server.follow(self._server.stream(self._dialect, peer, [peer.identity]), call)

    async def _await_refusal(self, call: Any) -> None:
        """The sink's answer to the trigger, which must be that it does not know the collection.

        Raises:
            ProtocolError, StalledError: it is something else, or nothing.
        """
        try:
            async with asyncio.timeout(self._settings.limits.first_request_s):
                data = await call.read()
        except TimeoutError:
            raise StalledError("the sink does not answer") from None
        if data is grpc.aio.EOF:
            raise ProtocolError("the sink ended the stream before it asked for anything")
        request = RequestResources.FromString(data)
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
