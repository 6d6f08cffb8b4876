"""One gRPC connection to one Nacos 2.x or 3.x server, from set-up to its end.

The server ties its connection id to the TCP connection, so the unary calls and the stream share one channel
with a subchannel pool of its own, to one address. A connection is never repaired: when it ends, for whatever
cause, its owner opens another one.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import grpc
import grpc.aio
import structlog

from producers.errors import (
    NacosError,
    NacosForbiddenError,
    NacosGarbageError,
    NacosRefusedError,
    NacosUnavailableError,
)
from producers.nacos.payload import GARBAGE, Envelope, decode, encode
from runtime.supervision import is_cancellation_requested

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.nacos.credentials import Credentials

_log = structlog.get_logger()

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
_HIGHEST_PORT = 65_535

Module = Literal["naming", "config"]


class Ending(NamedTuple):
    """Why a connection ended, as a short word fit for a metric label; where the server sends us, if it does."""

    cause: str
    redirect: tuple[str, int] | None = None


class Endpoint(NamedTuple):
    """A server's gRPC address, its name for proxies (`authority`) and certificates; no TLS means plaintext."""

    address: str
    tls: grpc.ChannelCredentials | None = None
    server_name: str | None = None
    authority: str = ""

    def channel(self) -> grpc.aio.Channel:
        """A channel of its own."""
        if self.tls is None:
            authority = (("grpc.default_authority", self.authority),) if self.authority else ()
            return grpc.aio.insecure_channel(self.address, options=(*_CHANNEL_OPTIONS, *authority))
        name = (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()
        return grpc.aio.secure_channel(self.address, self.tls, options=(*_CHANNEL_OPTIONS, *name))


class NacosConnection:
    """A set-up connection for one namespace and module.

    `on_push` is called on the event loop with the type and body of each server request that is not about the
    connection itself, after it was acknowledged, and with `GARBAGE` for a message that can't be read or that
    `on_push` raised for; it must not block. Such a message costs itself only. `ended` is done when the connection
    is over, whatever ended it. `abilities` is what the server says that it can do.
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
        self._calls: set[Any] = set()
        self._set_up = asyncio.Event()
        self._is_open = False
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
            await self._write(encode("ConnectionSetupRequest", setup))
            self._tasks.append(asyncio.create_task(self._read(), name=f"nacos-read-{self.address}"))
            await self._wait_until_set_up(negotiates=bool(check.get("supportAbilityNegotiation")))
            self._tasks.append(asyncio.create_task(self._check_health(), name=f"nacos-health-{self.address}"))
        except BaseException:
            await self.close()
            raise
        self._is_open = True
        return self

    async def request(
        self, type_name: str, body: dict[str, Any], *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> dict[str, Any]:
        """Sends a request and returns the body of its answer; one that is forbidden leads to one new login.

        The end of the connection is an error like others: only a task that was cancelled gets CancelledError.

        Raises:
            NacosUnavailableError: no answer in time, the connection ended, the server is starting or has no record
                of this connection.
            NacosForbiddenError: not even a new token lets us in.
            NacosRefusedError: any other result than success.
            NacosGarbageError: the answer is unreadable, or the request can't be encoded.
        """
        credentials = self._credentials
        token = await credentials.token() if credentials else None
        answer = await self._call(type_name, body, token, timeout_s)
        if _code(answer) == _FORBIDDEN and credentials is not None and token is not None:
            renewed = await credentials.renew(token)
            if renewed != token:
                answer = await self._call(type_name, body, renewed, timeout_s)
        code = _code(answer)
        if answer.get("resultCode") == 200:
            return answer
        if code == _FORBIDDEN:
            raise NacosForbiddenError(type_name, code, credentials.username if credentials else None)
        # In the answer to a query the same number says that the config item does not exist.
        if code == _NOT_REGISTERED or (code == _SERVER_STARTING and type_name != "ConfigQueryRequest"):
            cause = "server_starting" if code == _SERVER_STARTING else "not_registered"
            raise NacosUnavailableError(cause, f"{self.address} {str(answer.get('message'))[:500]}")
        raise NacosRefusedError(type_name, code, str(answer.get("message"))[:500])

    async def wait_for(self, event: asyncio.Event, *, timeout_s: float) -> bool:
        """Waits for the event, the end of the connection, or so long; whether one of the former two came."""
        waiting = asyncio.ensure_future(event.wait())
        either: set[asyncio.Future[Any]] = {waiting, self.ended}
        try:
            done, _ = await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return bool(done)

    async def close(self) -> None:
        """Ends the connection, its tasks included; calls that wait for an answer raise NacosUnavailableError."""
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
        if self.ended.done():
            raise self._gone()
        data = encode(type_name, body, {"accessToken": token} if token else None)
        call = None
        try:
            call = self._unary(data, timeout=timeout_s)
            self._calls.add(call)
            answer = await call
        except grpc.aio.AioRpcError as error:
            raise self._failed(type_name, error) from error
        except asyncio.CancelledError as error:
            # Closing a channel cancels its calls, and gRPC raises that in the tasks that wait for them.
            if is_cancellation_requested():
                raise
            raise self._gone() from error
        except grpc.aio.UsageError as error:  # the channel is closed already
            raise self._gone() from error
        finally:
            self._calls.discard(call)
        return decode(answer).body

    def _failed(self, type_name: str, error: grpc.aio.AioRpcError) -> NacosError:
        """A call's failure: about what was asked for while the connection stands, else about the connection.

        A connection that is dead is found by its stream and its health check.
        """
        code, details = error.code(), error.details() or ""
        stands = self._is_open and not self.ended.done()
        if stands and code not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
            return NacosRefusedError(type_name, int(code.value[0]), f"{code.name} {details}")
        reason = details if code is grpc.StatusCode.UNAVAILABLE else code.name
        return NacosUnavailableError("rpc_failed", f"{self.address} {reason[:500]}")

    async def _write(self, data: bytes) -> None:
        """Writes to the stream; raises NacosUnavailableError once that is over."""
        try:
            await self._stream.write(data)
        except grpc.aio.AioRpcError as error:
            raise NacosUnavailableError(f"stream_{error.code().name.lower()}", self.address) from error
        except asyncio.CancelledError as error:
            if is_cancellation_requested():
                raise
            raise self._gone() from error
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            raise self._gone() from error

    def _gone(self) -> NacosUnavailableError:
        why = self.ended.result().cause if self.ended.done() else "its calls were cancelled"
        return NacosUnavailableError("connection_ended", f"{self.address} {why}")

    def _end(self, ending: Ending) -> None:
        """The connection is over: what waits for an answer is told at once."""
        if not self.ended.done():
            self.ended.set_result(ending)
            for call in list(self._calls):
                call.cancel()

    async def _wait_until_set_up(self, *, negotiates: bool) -> None:
        if negotiates:
            await self.wait_for(self._set_up, timeout_s=_SETUP_PATIENCE_S)
            if self._set_up.is_set():
                return
            raise self._gone() if self.ended.done() else NacosUnavailableError("setup_timeout", self.address)
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
        """Decodes, acknowledges and hands on until the stream is over; nothing here waits for anything else.

        However this task ends, the connection ends with it.
        """
        cause = "reader_failed"
        try:
            while (data := await self._stream.read()) is not grpc.aio.EOF:
                await self._handle(data)
            cause = "stream_ended"
        except grpc.aio.AioRpcError as error:
            cause = f"stream_{error.code().name.lower()}"
        except NacosUnavailableError as error:
            cause = error.cause
        except asyncio.CancelledError:
            cause = "stream_cancelled"
            if is_cancellation_requested():
                raise
        except Exception:  # noqa: BLE001 - the connection ends with its reader, whatever that met
            _log.exception("nacos_reader_failed", server=self.address)
        finally:
            self._end(Ending(cause))

    async def _handle(self, data: bytes) -> None:
        """One message; whatever is in it, the next one is read. Raises NacosUnavailableError as `_write`."""
        try:
            message = decode(data)
            if message.type == "SetupAckRequest":
                table = message.body.get("abilityTable")
                self.abilities = {str(k): v is True for k, v in table.items()} if isinstance(table, dict) else {}
                self._set_up.set()
                return
            answer = {"resultCode": 200, "requestId": message.body.get("requestId")}
            acknowledgement = encode(message.type.removesuffix("Request") + "Response", answer)
        except NacosGarbageError as error:
            self._hand_on(Envelope(GARBAGE, {"error": str(error), "server": self.address}))
            return
        await self._write(acknowledgement)
        match message.type:
            case "ClientDetectionRequest":
                pass
            case "ConnectResetRequest":
                self._end(Ending("connect_reset", _redirect(message.body)))
            case _:
                self._hand_on(message)

    def _hand_on(self, message: Envelope) -> None:
        try:
            self._on_push(message)
        except Exception as error:  # noqa: BLE001 - it costs this message
            _log.exception("nacos_push_failed", server=self.address, type=message.type)
            if message.type != GARBAGE:
                detail = f"a {message.type!r:.80} that can't be handled: {type(error).__name__}: {error}"
                self._hand_on(Envelope(GARBAGE, {"error": detail, "server": self.address}))

    async def _check_health(self) -> None:
        cause = "health_check"
        try:
            while True:
                await asyncio.sleep(HEALTH_CHECK_INTERVAL_S)
                await self.request("HealthCheckRequest", {}, timeout_s=HEALTH_CHECK_TIMEOUT_S)
        except NacosUnavailableError as error:
            cause = "health_check" if error.cause == "rpc_failed" else error.cause
        except NacosForbiddenError as error:
            cause = error.cause
        except NacosError:
            cause = "health_check"  # no answer in time, one that can't be read, or any other than success
        finally:
            self._end(Ending(cause))


def _code(answer: dict[str, Any]) -> int:
    code = answer.get("errorCode")
    return code if isinstance(code, int) else 0


def _redirect(body: dict[str, Any]) -> tuple[str, int] | None:
    """The main address and port of the server that a ConnectResetRequest names, if it names one."""
    address, port = body.get("serverIp"), str(body.get("serverPort") or "")
    if not isinstance(address, str) or not address or not re.fullmatch(r"[0-9]{1,5}", port):
        return None
    return (address, int(port)) if 1 <= int(port) <= _HIGHEST_PORT else None
