"""The admin server of a process: `/metrics`, `/healthz`, `/readyz` and `/debug`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import prometheus_client
from aiohttp import web

from runtime.errors import PortBusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtime.lifecycle import Readiness
    from runtime.settings import AdminSettings
    from runtime.supervision import Supervisor

    DebugPage = Callable[[Mapping[str, str]], Any]


class AdminServer:
    """Answers over HTTP on a thread of its own, so that it answers while the process is busy.

    Debug pages are called on that thread with the query's parameters and return what `json` can write: they
    must read only what their owner replaces as a whole. They show no secrets. A page whose name ends in `/` is one
    of each name that follows, given as the parameter `name`.
    """

    def __init__(
        self,
        settings: AdminSettings,
        readiness: Readiness,
        supervisor: Supervisor,
        debug_pages: Mapping[str, DebugPage],
    ) -> None:
        self._settings = settings
        self._readiness = readiness
        self._supervisor = supervisor
        self._debug_pages = dict(debug_pages)
        self._loop = asyncio.new_event_loop()
        self._thread = supervisor.thread("admin-http", self._loop.run_forever)
        self._runner: web.AppRunner | None = None

    def start(self) -> None:
        """Listens.

        Raises:
            PortBusyError: the address is taken.
        """
        self._thread.start()
        future = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        try:
            future.result()
        except OSError as error:
            address = f"{self._settings.host}:{self._settings.port}"
            raise PortBusyError(
                f"cannot listen on {address} for the admin pages ({error.strerror}); set another admin port"
            ) from error

    def stop(self) -> None:
        """Stops listening and ends the thread."""
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(timeout=5)
        self._thread.end()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    async def _start(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/debug", self._debug_index),
                web.get("/debug/{page:.+}", self._debug),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, self._settings.host, self._settings.port).start()
        self._runner = runner

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=prometheus_client.generate_latest(),
            headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        unhealthy = self._supervisor.unhealthy
        answer = {"healthy": not unhealthy, "failed": unhealthy, "starting_again": self._supervisor.down}
        return _json(answer, status=503 if unhealthy else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        missing = self._readiness.missing
        answer = {"ready": not missing, "waiting_for": missing, "stale": self._readiness.stale}
        return _json(answer, status=503 if missing else 200)

    async def _debug_index(self, _: web.Request) -> web.Response:
        return _json({"pages": sorted(f"/debug/{name}" for name in self._debug_pages)})

    async def _debug(self, request: web.Request) -> web.Response:
        asked = request.match_info["page"]
        first, _, name = asked.partition("/")
        page = self._debug_pages.get(asked) or self._debug_pages.get(f"{first}/")
        if page is None:
            return _json({"error": "no such page", "index": "/debug"}, status=404)
        return _json(page({**request.query, "name": name}))


def _json(value: Any, status: int = 200) -> web.Response:
    return web.json_response(value, status=status, dumps=lambda v: json.dumps(v, default=str) + "\n")
