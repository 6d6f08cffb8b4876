"""The fake server as a whole, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

import grpc.aio
from aiohttp import web

from tests.harness.fake_nacos.grpc_side import GrpcSide
from tests.harness.fake_nacos.http_side import HttpSide
from tests.harness.fake_nacos.registry import Registry
from tests.harness.servers import free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.harness.fake_nacos.registry import Host, Key

_MAX_MESSAGE = 64 * 1024 * 1024


class FakeNacos:
    """Serves on 127.0.0.1; `with` starts and ends it. Every method may be called from any thread."""

    def __init__(
        self,
        *,
        version: str = "2.3.2",
        users: dict[str, str] | None = None,
        https: ssl.SSLContext | None = None,
        grpc_tls: grpc.ServerCredentials | None = None,
        port: int | None = None,
        grpc_side: type[GrpcSide] = GrpcSide,
    ) -> None:
        self.port = port or free_port(1000)
        self.registry = Registry()
        self.http = HttpSide(self.registry, version=version, users=users)
        self.grpc = grpc_side(self.registry, version=version, token_of=lambda: self.http.token)
        self._https = https
        self._grpc_tls = grpc_tls
        self._speaks_grpc = not version.startswith("1")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"{'https' if self._https else 'http'}://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls on the server's event loop."""

        async def run() -> Any:
            return function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    def state(self, namespace: str, service: str, hosts: list[Host], *, group: str = "DEFAULT_GROUP") -> None:
        """These are the service's instances; its subscribers are told."""
        key = (namespace, group, service)
        self.call(self._state, key, hosts)

    def delete(self, key: Key) -> None:
        """The service is gone."""
        self.call(self.registry.services.pop, key)
        self.call(self.grpc.name_changed, key, "DELETE_SERVICE")

    def configure(self, namespace: str, data_id: str, text: str | None, *, group: str = "ISTIO") -> None:
        """The config item's text; None deletes it. Its listeners are told."""
        key = (namespace, group, data_id)
        if text is None:
            self.call(self.registry.configs.pop, key)
        else:
            self.call(self.registry.configs.__setitem__, key, text)
        self.call(self.grpc.config_changed, key)

    def _state(self, key: Key, hosts: list[Host]) -> None:
        new = key not in self.registry.services
        self.registry.service(*key).hosts = hosts
        if new:
            self.grpc.name_changed(key, "ADD_SERVICE")
        self.grpc.push(key)

    async def _start(self) -> None:
        self._runner = web.AppRunner(self.http.app(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._https).start()
        options = (
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.max_send_message_length", _MAX_MESSAGE),
        )
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers(self.grpc.handlers())
        if self._speaks_grpc:
            address = f"127.0.0.1:{self.port + 1000}"
            if self._grpc_tls:
                self._server.add_secure_port(address, self._grpc_tls)
            else:
                self._server.add_insecure_port(address)
            await self._server.start()

    async def _stop(self) -> None:
        await self._server.stop(0.1)
        await self._runner.cleanup()
