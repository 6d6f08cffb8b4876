"""HTTP answers of Nacos that never end, or are larger than any listing: a fault of that server, found soon."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import pytest

from producers.errors import NacosUnavailableError
from producers.nacos.http import client
from producers.nacos.http.client import NacosHttp
from producers.settings import NacosSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"


async def drip(writer: asyncio.StreamWriter) -> None:
    """Says a byte now and then, and never all that it announced."""
    writer.write(HEAD % (b"identity", 1000))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def unfold(writer: asyncio.StreamWriter) -> None:
    """Says little, which stands for much."""
    packed = gzip.compress(b" " * 8_000_000)
    writer.write(HEAD % (b"gzip", len(packed)) + packed)
    await writer.drain()


async def ask(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
    """A question to a server that answers so."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with NacosHttp(NacosSettings(servers=(f"http://127.0.0.1:{port}",))) as http:
            await http.get("/v1/console/namespaces", {})
    finally:
        server.close()


def test_an_answer_that_drips_is_a_fault_of_that_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and the whole answer never."""
    monkeypatch.setattr(client, "_ANSWER_S", 0.5)
    with pytest.raises(NacosUnavailableError, match="no whole answer"):
        asyncio.run(ask(drip))


def test_an_answer_that_unfolds_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted as it is unpacked."""
    monkeypatch.setattr(client, "_MAX_ANSWER_BYTES", 1_000_000)
    with pytest.raises(NacosUnavailableError, match="more than 1000000 bytes"):
        asyncio.run(ask(unfold))
