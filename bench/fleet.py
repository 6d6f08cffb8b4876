"""Many MCP clients in one process, each on a connection of its own.

    python -m bench.fleet ADDRESSES STREAMS OUT full|incremental [stalled=N]

Writes a line `stream version seconds bytes` per push to OUT when it is told to end (SIGTERM), and makes the file
when every client has its first push. The stalled ones read nothing after that.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import uvloop

from bench.raw_client import COLLECTION, version_of
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources

if TYPE_CHECKING:
    from collections.abc import Callable

METHOD = "/istio.mcp.v1alpha1.ResourceSource/EstablishResourceStream"


async def follow(number: int, address: str, lines: list[str], *, incremental: bool, stalls: bool) -> None:
    """One client: acknowledges each push, and notes when it came."""
    options = (
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.primary_user_agent", f"fleet-{number}"),
    )
    while True:
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call = channel.stream_stream(METHOD)()
            try:
                await call.write(
                    RequestResources(collection=COLLECTION, incremental=incremental).SerializeToString()
                )
                while (data := await call.read()) is not grpc.aio.EOF:
                    version = version_of(data)
                    lines.append(f"{number} {version} {time.time():.6f} {len(data)}")
                    if stalls:
                        await asyncio.sleep(3600)
                    answer = RequestResources(
                        collection=COLLECTION, response_nonce=version, incremental=incremental
                    )
                    await call.write(answer.SerializeToString())
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                lines.append(f"{number} ended {time.time():.6f} 0")
        await asyncio.sleep(0.5)


async def main(addresses: list[str], streams: int, lines: list[str], connected: Callable[[], None]) -> None:
    """All of them, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stalled = next((int(one[8:]) for one in sys.argv if one.startswith("stalled=")), 0)
    tasks = [
        asyncio.create_task(
            follow(
                number,
                addresses[number % len(addresses)],
                lines,
                incremental="incremental" in sys.argv,
                stalls=number < stalled,
            )
        )
        for number in range(streams)
    ]
    while not stop.is_set() and len({line.split()[0] for line in lines}) < streams:  # noqa: ASYNC110 - at the start
        await asyncio.sleep(0.1)
    connected()
    await stop.wait()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    found: list[str] = []
    out = Path(sys.argv[3])
    uvloop.run(main(sys.argv[1].split(","), int(sys.argv[2]), found, out.touch))
    out.write_text("\n".join(found))
