"""One of the servers that `fanout` compares: shiplog's, or a bare grpc.aio server with the same messages.

    python -m bench.fanout_server bare|shiplog SHAPE STREAMS PORT RESULT

Writes rounds a second to RESULT.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from bench.snapshots import make_record
from mcp_gateway.deliveries import DeliveryTrail
from mcp_gateway.resources import Shape, StoredResource, store_resource
from mcp_gateway.servers.server import MCP_SERVICE, PilotServer
from mcp_gateway.sessions.mcp_source import McpFormat
from mcp_gateway.settings import GatewaySettings
from mcp_gateway.store import AppliedChanges
from mcp_gateway.views.view import View
from mcp_gateway.views.views import Views
from runtime.lifecycle import keep_freed_memory, tune_garbage_collector
from runtime.supervision import Supervisor
from schemas.avro_codec import codecs
from schemas.events import Namespace
from tests.harness.resources import SERVICE_ENTRIES

SHAPES = {"delta": 1_000, "1 MB": 1_000_000, "10 MB": 10_000_000, "50 MB": 50_000_000}
_ENDPOINTS = 10
_SECONDS = 4.0


def _stored(number: int, revision: int = 0) -> StoredResource:
    return store_resource(make_record(Namespace("ns"), number, _ENDPOINTS, revision), (Shape(),))


def _whole(shape: str) -> AppliedChanges:
    """A snapshot of that size."""
    one = _stored(0).shapes[0]
    assert one is not None
    count = max(200, SHAPES[shape] // one.size)
    return AppliedChanges("ns", {(SERVICE_ENTRIES, f"ns/svc-{n}"): _stored(n) for n in range(count)}, 1)


def _changed(revision: int) -> AppliedChanges:
    return AppliedChanges("ns", {(SERVICE_ENTRIES, "ns/svc-0"): _stored(0, revision)}, 1)


class Rounds:
    """Counts acknowledgements; begins the next round when all have come, until the time is over."""

    def __init__(self, streams: int, result: Path) -> None:
        self.streams = streams
        self._result = result
        self._acknowledged = 0
        self._finished = 0
        self._began = 0.0
        self.next = asyncio.Event()

    def acknowledge(self) -> None:
        """One client has it."""
        self._acknowledged += 1
        if self._acknowledged < self.streams:
            return
        self._acknowledged = 0
        if not self._began:  # the first push of all connections is not measured
            self._began = time.monotonic()
        else:
            self._finished += 1
        took = time.monotonic() - self._began
        if took > _SECONDS and not self._result.exists():
            written = self._result.with_suffix(".new")
            written.write_text(str(self._finished / took))
            written.rename(self._result)
        self.next.set()


class CountingTrail(DeliveryTrail):
    """A trail that only counts acknowledgements."""

    def __init__(self, rounds: Rounds) -> None:
        super().__init__(None, codecs().delivery, gateway="bench")
        self._rounds = rounds

    def acknowledged(self, *_: object) -> None:
        """One more."""
        self._rounds.acknowledge()


async def serve_shiplog(shape: str, rounds: Rounds, port: int) -> None:
    """The gateway's own server."""
    limits = {"streams_per_s": 1e6, "requests_per_s": 1e6, "max_streams_per_identity": 5000}
    settings = GatewaySettings.model_validate({"port": port, "limits": limits})
    views = Views()
    views.apply(_whole(shape))
    server = PilotServer(settings, views, CountingTrail(rounds), Supervisor())
    server.bind()
    await server.serve()
    # Made beforehand: in a gateway they are decoded and encoded on the reader's thread.
    for change in itertools.cycle([_changed(revision) for revision in range(1, 1000)]):
        await rounds.next.wait()
        rounds.next.clear()
        views.apply(change)
        views.announce()


async def serve_bare(shape: str, rounds: Rounds, port: int) -> None:
    """What grpc.aio can do at best: it has the bytes, and sends them."""
    view = View()
    view.apply(_whole(shape))
    first, before = view.message(SERVICE_ENTRIES, McpFormat(), SERVICE_ENTRIES), view.version(SERVICE_ENTRIES)
    view.apply(_changed(1))
    basis = before if shape == "delta" else None
    later = view.message(SERVICE_ENTRIES, McpFormat(), SERVICE_ENTRIES, basis)
    waiting: list[asyncio.Event] = []

    async def serve(_: object, context: Any) -> None:
        turn = asyncio.Event()
        waiting.append(turn)
        await context.read()
        await context.write(first)
        while await context.read() is not grpc.aio.EOF:
            rounds.acknowledge()
            await turn.wait()
            turn.clear()
            await context.write(later)

    server = grpc.aio.server()
    handlers = {"EstablishResourceStream": grpc.stream_stream_rpc_method_handler(serve)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(MCP_SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    while True:
        await rounds.next.wait()
        rounds.next.clear()
        for turn in waiting:
            turn.set()


async def main() -> None:
    """The server that was asked for."""
    tune_garbage_collector()
    keep_freed_memory()  # both as the gateway does
    _, kind, shape, streams, port, result = sys.argv
    rounds = Rounds(int(streams), Path(result))
    serve = serve_bare if kind == "bare" else serve_shiplog
    await serve(shape, rounds, int(port))


if __name__ == "__main__":
    uvloop.run(main())
