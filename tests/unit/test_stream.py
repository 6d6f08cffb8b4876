"""A stream between its session and the wire: what is taken down, and when."""

from __future__ import annotations

import asyncio
import time

import pytest

from mcp_gateway.deliveries import DeliveryTrail, Recipient
from mcp_gateway.errors import StalledError
from mcp_gateway.servers.dialects import mcp_source
from mcp_gateway.servers.stream import Stream
from mcp_gateway.settings import LimitSettings
from mcp_gateway.views.views import Views
from schemas.avro_codec import codecs
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resources
from schemas.records import DeliveryKind
from tests.harness.resources import SERVICE_ENTRIES, changes

CODEC = codecs().delivery
GATEWAYS = "istio/networking/v1alpha3/gateways"


class QuickPeer:
    """A wire to a peer that answers a push of service entries before the write of it returns.

    It asks for another collection meanwhile if it is to, whose pushes it never answers.
    """

    def __init__(self, *, asks_meanwhile: bool) -> None:
        self._asks_meanwhile = asks_meanwhile
        self._wanted = 2 if asks_meanwhile else 1
        self._requests: asyncio.Queue[bytes] = asyncio.Queue()
        self._pushes = 0
        self.is_served = asyncio.Event()
        self.say(SERVICE_ENTRIES)

    def say(self, collection: str, nonce: str = "") -> None:
        request = RequestResources(collection=collection, response_nonce=nonce)
        self._requests.put_nowait(request.SerializeToString())

    async def read(self) -> bytes:
        return await self._requests.get()

    async def write(self, message: bytes) -> None:
        push = Resources.FromString(message)
        self._pushes += 1
        if self._pushes == self._wanted:
            self.is_served.set()
        if push.collection != SERVICE_ENTRIES:
            return
        if self._asks_meanwhile:
            self.say(GATEWAYS)
        else:
            self.say(push.collection, push.nonce)
        for _ in range(10):  # the reader takes it
            await asyncio.sleep(0)
        assert self._requests.empty()


class Kept:
    """A queue of deliveries."""

    def __init__(self) -> None:
        self.kinds: list[tuple[str, DeliveryKind]] = []

    def write_tracked(self, topic: str, *, partition: int, key: bytes, value: bytes | None) -> bool:
        assert value is not None
        delivery = CODEC.decode(value)
        self.kinds.append((delivery.collection, delivery.kind))
        return bool(topic and partition and key)


async def serve(*, asks_meanwhile: bool) -> tuple[Kept, Stream[RequestResources], Exception | None]:
    """Serves the peer until all that it asked for was sent, and asks an hour later whether it is stalled."""
    wire = QuickPeer(asks_meanwhile=asks_meanwhile)
    kept, views = Kept(), Views()
    views.apply(changes({"a": "1"}))
    trail = DeliveryTrail(kept, CODEC, gateway="gw-1")
    peer = Recipient("ipv4:127.0.0.1:1", "mcp")
    stream = Stream(mcp_source(()), peer, [], views, trail, LimitSettings())
    task = asyncio.create_task(stream.run(wire))
    await wire.is_served.wait()
    await asyncio.sleep(0.01)
    stream.let_go_if_stalled(time.monotonic() + 3600)
    await asyncio.sleep(0.01)
    if task.done():
        return kept, stream, task.exception()
    task.cancel()
    return kept, stream, None


def test_an_answer_read_before_the_write_returns_stands_after_its_push_and_counts() -> None:
    """SENT, then ACK in the trail; the peer has answered, so it is not let go later."""
    kept, stream, ended = asyncio.run(serve(asks_meanwhile=False))
    assert kept.kinds == [(SERVICE_ENTRIES, DeliveryKind.SENT), (SERVICE_ENTRIES, DeliveryKind.ACK)]
    assert stream.as_json()["collections"][SERVICE_ENTRIES]["pending"] is None
    assert ended is None


def test_a_request_for_something_else_does_not_answer_the_push_that_is_being_written() -> None:
    """Each push is taken down once, when it is written; a peer that answers none of them is let go."""
    kept, _, ended = asyncio.run(serve(asks_meanwhile=True))
    assert kept.kinds == [(SERVICE_ENTRIES, DeliveryKind.SENT), (GATEWAYS, DeliveryKind.SENT)]
    with pytest.raises(StalledError, match="no answer"):
        raise ended or AssertionError("it was not let go")
