"""One gRPC connection to one Nacos 2.x or 3.x server, from set-up to its end.

The server ties its connection id to the TCP connection, so the unary calls and the stream share one channel
with a subchannel pool of its own, to one address. A connection is never repaired: when it ends, for whatever
cause, its owner opens another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import grpc
import grpc.aio

from producers.errors import (
    NacosError,
    NacosForbiddenError,
    NacosGarbageError,
    NacosRefusedError,
    NacosUnavailableError,
)
from producers.nacos.payload import GARBAGE, Envelope, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.nacos.credentials import Credentials

CLIENT_VERSION = "Nacos-Python-Client:v2.3.2"
MAX_MESSAGE_BYTES = 128 * 1024 * 1024
HEALTH_CHECK_INTERVAL_S = 5.0
HEALTH_CHECK_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 10.0
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
_SERVER_STARTING = 300
_NOT_REGISTERED = 301
_FORBIDDEN = 403
_SETUP_PATIENCE_S = 5.0

Module = Literal["naming", "config"]


class Ending(NamedTuple):
    """Why a connection ended, as a short word fit for a metric label; where the server sends us, if it does."""

    cause: str
    redirect: tuple[str, int] | None = None


class Endpoint(NamedTuple):
    """Where a server speaks gRPC, and with which proofs; no TLS means plaintext."""

    address: str
    tls: grpc.ChannelCredentials | None = None
    server_name: str | None = None

    def channel(self) -> grpc.aio.Channel:
        """A channel of its own."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        name = (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()
        return grpc.aio.secure_channel(self.address, self.tls, options=(*_CHANNEL_OPTIONS, *name))


class NacosConnection:
    """A set-up connection for one namespace and module.

    `on_push` is called on the event loop with the type and body of each server request that is not about the
    connection itself, after it was acknowledged, and with `GARBAGE`; it must not block. `ended` is done when the
    connection is over. `abilities` is what the server says that it can do.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        namespace: str,
        on_push: Callable[[Envelope], None],
        module: Module = "naming",
        credentials: Credentials | None = None,
    ) -> None:
        self.address = endpoint.address
        self.namespace = namespace
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.connection_id = ""
        self.abilities: dict[str, bool] = {}
        self._module = module
        self._credentials = credentials
        self._on_push = on_push
        self._channel = endpoint.channel()
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
                "labels": {"source": "sdk", "module": self._module},
                "abilityTable": {"fuzzyWatch": True},
            }
            await self._stream.write(encode("ConnectionSetupRequest", setup))
            self._tasks.append(asyncio.create_task(self._read(), name=f"nacos-read-{self.address}"))
            await self._wait_until_set_up(negotiates=bool(check.get("supportAbilityNegotiation")))
            self._tasks.append(asyncio.create_task(self._check_health(), name=f"nacos-health-{self.address}"))
        except BaseException:
            await self.close()
            raise
        return self

    async def request(
        self, type_name: str, body: dict[str, Any], *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> dict[str, Any]:
        """Sends a request and returns the body of its answer; one that is forbidden leads to one new login.

        Raises:
            NacosUnavailableError: no answer in time, or the server is starting or does not know us.
            NacosForbiddenError: not even a new token lets us in.
            NacosRefusedError: any other result than success.
        """
        credentials = self._credentials
        token = await credentials.token() if credentials else None
        answer = await self._call(type_name, body, token, timeout_s)
        if _code(answer) == _FORBIDDEN and credentials is not None and token is not None:
            answer = await self._call(type_name, body, await credentials.renew(token), timeout_s)
        code = _code(answer)
        if answer.get("resultCode") == 200:
            return answer
        if code == _FORBIDDEN:
            raise NacosForbiddenError(type_name, code, credentials.username if credentials else None)
        # In the answer to a query the same number says that the config item does not exist.
        if code == _NOT_REGISTERED or (code == _SERVER_STARTING and type_name != "ConfigQueryRequest"):
            cause = "server_starting" if code == _SERVER_STARTING else "not_registered"
            raise NacosUnavailableError(cause, f"{self.address} {answer.get('message')}")
        raise NacosRefusedError(type_name, code, str(answer.get("message")))

    async def close(self) -> None:
        """Ends the connection, its tasks included."""
        self._end(Ending("closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._stream is not None:
            self._stream.cancel()
        await self._channel.close()

    async def _call(
        self, type_name: str, body: dict[str, Any], token: str | None, timeout_s: float
    ) -> dict[str, Any]:
        headers = {"accessToken": token} if token else None
        try:
            data = await self._unary(encode(type_name, body, headers), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            reason = error.details() if error.code() is grpc.StatusCode.UNAVAILABLE else error.code().name
            raise NacosUnavailableError("rpc_failed", f"{self.address} {reason}") from error
        return decode(data).body

    def _end(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)

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
                    self._on_push(Envelope(GARBAGE, {"error": str(error), "server": self.address}))
                    continue
                await self._answer(message)
            self._end(Ending("stream_ended"))
        except grpc.aio.AioRpcError as error:
            self._end(Ending(f"stream_{error.code().name.lower()}"))
        except asyncio.CancelledError:
            self._end(Ending("closed"))
            raise

    async def _answer(self, message: Envelope) -> None:
        if message.type == "SetupAckRequest":
            table = message.body.get("abilityTable")
            self.abilities = {str(k): v is True for k, v in table.items()} if isinstance(table, dict) else {}
            self._set_up.set()
            return
        answer = {"resultCode": 200, "requestId": message.body.get("requestId")}
        await self._stream.write(encode(message.type.removesuffix("Request") + "Response", answer))
        match message.type:
            case "ClientDetectionRequest":
                pass
            case "ConnectResetRequest":
                self._end(Ending("connect_reset", _redirect(message.body)))
            case _:
                self._on_push(message)

    async def _check_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_CHECK_INTERVAL_S)
            try:
                await self.request("HealthCheckRequest", {}, timeout_s=HEALTH_CHECK_TIMEOUT_S)
            except NacosError as error:
                self._end(Ending("health_check" if error.cause == "rpc_failed" else error.cause))
                return


def _code(answer: dict[str, Any]) -> int:
    code = answer.get("errorCode")
    return code if isinstance(code, int) else 0


def _redirect(body: dict[str, Any]) -> tuple[str, int] | None:
    """Where a ConnectResetRequest sends us: the main port of another server, as text."""
    address, port = body.get("serverIp"), str(body.get("serverPort") or "")
    if not isinstance(address, str) or not address or not port.isdigit():
        return None
    return address, int(port)
