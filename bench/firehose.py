"""A fake Nacos that pushes as fast as it is read: `python -m bench.firehose PORT SERVICES INSTANCES [quiet]`.

Every push changes one instance of its service, so that each has to be compared and published.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from typing import TYPE_CHECKING, Any

from producers.nacos.payload import encode
from tests.harness.fake_nacos.grpc_side import Connection, GrpcSide
from tests.harness.fake_nacos.registry import host
from tests.harness.fake_nacos.server import FakeNacos

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GROUP = "DEFAULT_GROUP"
_VARIANTS = 20
_TIME = b"1000000000000"
_QUIET_S = 2.0
"""After a subscription, so long nothing is pushed: the keyframe is laid first."""


class Firehose(GrpcSide):
    """Once all services are subscribed to, pushes them in turn for ever."""

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        connection = Connection(context.peer(), "")
        reader = asyncio.create_task(self._read(requests, connection))
        try:
            yield await connection.out.get() or b""
            # Polled: it happens once.
            while len(connection.subscribed) < len(self.registry.services):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await asyncio.sleep(_QUIET_S)
            for number, data in enumerate(itertools.cycle(pushes(self))):
                # The SDK drops a push whose time is not later than the last one's.
                yield data.replace(_TIME, str(int(_TIME) + number).encode())
        finally:
            reader.cancel()


def pushes(side: GrpcSide) -> list[bytes]:
    """Encoded pushes, each of a service with one instance changed."""
    dice = random.Random(1)
    found = []
    for variant in range(_VARIANTS):
        for key, service in side.registry.services.items():
            changed = dice.randrange(len(service.hosts))
            service.hosts[changed] = {**service.hosts[changed], "metadata": {"version": "v1", "rev": str(variant)}}
            info = side.registry.service_info(key) | {"lastRefTime": int(_TIME)}
            body = {"requestId": "1", "serviceInfo": info}
            found.append(encode("NotifySubscriberRequest", body))
    return found


def main() -> None:
    """Serves until it is killed."""
    port, services, instances = map(int, sys.argv[1:4])
    nacos = FakeNacos(port=port, grpc_side=GrpcSide if "quiet" in sys.argv else Firehose)
    for number in range(services):
        nacos.registry.service("public", GROUP, f"svc-{number}").hosts = [
            host(f"10.{number // 250}.{number % 250}.{index + 1}", metadata={"version": "v1", "rev": "0"})
            for index in range(instances)
        ]
    with nacos:
        asyncio.new_event_loop().run_forever()


if __name__ == "__main__":
    main()
