"""One gRPC connection to one Nacos 2.x server, from set-up to its end.

The server ties its connection id to the TCP connection, so the unary calls and the stream share one channel
with a subchannel pool of its own, to one address. A connection is never repaired: when it ends, for whatever
cause, its owner opens another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio
import structlog

from producers.errors import NacosGarbageError, NacosRefusedError, NacosUnavailableError
from producers.nacos.payload import Envelope, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger()

CLIENT_VERSION = "Nacos-Python-Client:v2.3.2"
MAX_MESSAGE_BYTES = 128 * 1024 * 1024
HEALTH_CHECK_INTERVAL_S = 5.0
REQUEST_TIMEOUT_S = 10.0
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
_SERVER_STARTING = 300
_NOT_REGISTERED = 301
_SETUP_PATIENCE_S = 5.0


class NacosConnection:
    """A set-up connection for one namespace.

    `on_push` is called on the event loop with the type and body of each server request that is not about the
    connection itself, after it was acknowledged; it must not block. `ended` is done when the connection is
    over; its result is the cause, a short word fit for a metric label.
    """

    def __init__(self, address: str, *, namespace: str, on_push: Callable[[Envelope], None]) -> None:
        self.address = address
        self.namespace = namespace
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.connection_id = ""
        self.access_token: str | None = None
        self._on_push = on_push
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._unary = self._channel.unary_unary("/Request/request")
        self._stream: Any = None
        self._set_up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> Self:
        """Checks the server, opens the stream and sets the connection up.

        Raises:
            NacosUnavailableError: not reachable, still starting, or not set up in 5 s.
        """
        try:
            check = await self.request("ServerCheckRequest", {})
            self.connection_id = str(check.get("connectionId", ""))
            self._stream = self._channel.stream_stream("/BiRequestStream/requestBiStream")()
            setup = {
                "clientVersion": CLIENT_VERSION,
                "tenant": self.namespace,
                "labels": {"source": "sdk", "module": "naming"},
                "abilityTable": {},
            }
            await self._stream.write(encode("ConnectionSetupRequest", setup))
            self._tasks.append(asyncio.create_task(self._read(), name=f"nacos-read-{self.address}"))
            await self._wait_until_set_up(negotiates=bool(check.get("supportAbilityNegotiation")))
            self._tasks.append(asyncio.create_task(self._check_health(), name=f"nacos-health-{self.address}"))
        except BaseException:
            await self.close()
            raise
        return self

    async def request(self, type_name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns the body of its answer.

        Raises:
            NacosUnavailableError: no answer in 10 s, or the server is starting or does not know us.
            NacosRefusedError: any other result than success.
        """
        headers = {"accessToken": self.access_token} if self.access_token else None
        try:
            data = await self._unary(encode(type_name, body, headers), timeout=REQUEST_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise NacosUnavailableError("rpc_failed", f"{self.address} {error.code().name}") from error
        answer = decode(data).body
        code = int(answer.get("errorCode") or 0)
        if answer.get("resultCode") == 200:
            return answer
        if code in {_SERVER_STARTING, _NOT_REGISTERED}:
            cause = "server_starting" if code == _SERVER_STARTING else "not_registered"
            raise NacosUnavailableError(cause, f"{self.address} {answer.get('message')}")
        raise NacosRefusedError(type_name, code, str(answer.get("message")))

    async def subscribe(self, group: str, service: str) -> Any:
        """Subscribes to a service; the `serviceInfo` that the server answers with."""
        answer = await self.request(
            "SubscribeServiceRequest",
            {
                "namespace": self.namespace,
                "groupName": group,
                "serviceName": service,
                "subscribe": True,
                "clusters": "",
            },
        )
        return answer.get("serviceInfo")

    async def close(self) -> None:
        """Ends the connection, its tasks included."""
        self._end("closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._stream is not None:
            self._stream.cancel()
        await self._channel.close()

    def _end(self, cause: str) -> None:
        if not self.ended.done():
            self.ended.set_result(cause)

    async def _wait_until_set_up(self, *, negotiates: bool) -> None:
        if negotiates:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._set_up.wait(), _SETUP_PATIENCE_S)
                return
            raise NacosUnavailableError("setup_timeout", self.address)
        # Servers before 2.3 say nothing: they are asked until they know the connection.
        for _ in range(50):
            try:
                await self.request("HealthCheckRequest", {})
            except NacosUnavailableError as error:
                if error.cause != "not_registered":
                    raise
                await asyncio.sleep(0.1)
            else:
                return
        raise NacosUnavailableError("setup_timeout", self.address)

    async def _read(self) -> None:
        """Decodes, acknowledges and hands on; nothing here waits for anything but the server."""
        try:
            while (data := await self._stream.read()) is not grpc.aio.EOF:
                try:
                    message = decode(data)
                except NacosGarbageError as error:
                    _log.warning("garbage from nacos", server=self.address, error=str(error))
                    continue
                await self._answer(message)
            self._end("stream_ended")
        except grpc.aio.AioRpcError as error:
            self._end(f"stream_{error.code().name.lower()}")
        except asyncio.CancelledError:
            self._end("closed")
            raise

    async def _answer(self, message: Envelope) -> None:
        response_type = message.type.removesuffix("Request") + "Response"
        if message.type == "SetupAckRequest":
            self._set_up.set()
            return
        answer = {"resultCode": 200, "requestId": message.body.get("requestId")}
        await self._stream.write(encode(response_type, answer))
        match message.type:
            case "ClientDetectionRequest":
                pass
            case "ConnectResetRequest":
                self._end("connect_reset")
            case _:
                self._on_push(message)

    async def _check_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_CHECK_INTERVAL_S)
            try:
                await self.request("HealthCheckRequest", {})
            except (NacosUnavailableError, NacosRefusedError, NacosGarbageError) as error:
                self._end(getattr(error, "cause", "health_check"))
                return
