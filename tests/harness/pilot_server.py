"""The gateway's server around views that a test fills, without Kafka, on an event loop of its own thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

from mcp_gateway.deliveries import DeliveryTrail
from mcp_gateway.servers.server import PilotServer
from mcp_gateway.servers.sink_dialer import SinkDialer
from mcp_gateway.settings import GatewaySettings
from runtime.backoff import Backoff
from runtime.supervision import Supervisor
from schemas.avro_codec import codecs
from tests.harness.resources import changes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ServedViews:
    """A running server until the end of the `with`; `settings` are those of the gateway."""

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.settings = GatewaySettings.model_validate({"port": 0, "drain_s": 0.2, **(settings or {})})
        self.views = self.settings.make_views()
        self.trail = DeliveryTrail(None, codecs().delivery, gateway="gw")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.supervisor = Supervisor()
        self._dialling: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.server, self.port = self.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def change(self, versions: Mapping[str, str | None], *, namespace: str = "ns") -> None:
        """Service entries by name come, change or go, in all views that show them."""

        async def apply() -> None:
            self.views.apply(changes(versions, namespace=namespace, shapes=self.views.shapes))
            self.views.announce()

        self.run(apply())

    def call(self, function: Callable[[], Any]) -> Any:
        """Calls it on the event loop; what it returned."""

        async def called() -> Any:
            return function()

        return self.run(called())

    def stop(self) -> None:
        self.run(self._stop())

    async def _start(self) -> tuple[PilotServer, int]:
        server = PilotServer(self.settings, self.views, self.trail, self.supervisor)
        port = server.bind()
        await server.serve()
        for sink in self.settings.sinks:
            dialer = SinkDialer(sink, self.settings, server)
            self._dialling.append(self.supervisor.task("sink dialer", dialer.run, restart=Backoff(1.0, 60.0)))
        return server, port

    async def _stop(self) -> None:
        for task in self._dialling:
            task.cancel()
        await self.server.stop()

    def run(self, coroutine: Any) -> Any:
        """Runs it on the event loop; what it returned."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)
