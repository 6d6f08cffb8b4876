"""Counts the callbacks of Nacos's own Python SDK: run by `bench.listen` in the SDK's environment."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from v2.nacos import ClientConfigBuilder, NacosNamingService, SubscribeServiceParam

SERVER, SERVICES, OUT = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
called = 0


async def count(_: Any) -> None:
    """Called back for each change of a service."""
    global called  # noqa: PLW0603 - a script of one counter
    called += 1


async def main() -> None:
    """Subscribes to all services, and writes the count down for ever."""
    config = ClientConfigBuilder().server_address(SERVER).log_level("ERROR").build()
    naming = await NacosNamingService.create_naming_service(config)
    for number in range(SERVICES):
        await naming.subscribe(
            SubscribeServiceParam(
                service_name=f"svc-{number}", group_name="DEFAULT_GROUP", subscribe_callback=count
            )
        )
    while True:
        await asyncio.sleep(0.2)
        OUT.write_text(str(called))  # noqa: ASYNC240 - a few bytes


asyncio.run(main())
