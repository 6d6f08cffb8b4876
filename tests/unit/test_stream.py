"""A stream between its session and the wire: what is taken down, and when."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from mcp_gateway.deliveries import DeliveryTrail, Recipient
from mcp_gateway.errors import FellBehindError, StalledError
from mcp_gateway.servers.dialects import mcp_source
from mcp_gateway.servers.stream import Dialect, Stream
from mcp_gateway.sessions.mcp_source import McpFormat, McpSourceSession
from mcp_gateway.settings import LimitSettings
from mcp_gateway.views.views import Views
from schemas.avro_codec import codecs
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resources
from schemas.records import DeliveryKind
from tests.harness.resources import SERVICE_ENTRIES, changes

if TYPE_CHECKING:
    from collections.abc import Sequence

CODEC = codecs().delivery
DIALECT = mcp_source(())
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


class Peer:
    """A wire to a peer that says what it is told to, and acknowledges if it is to."""

    def __init__(self, *, acknowledges: bool = True) -> None:
        self.requests: asyncio.Queue[bytes | object] = asyncio.Queue()
        self.pushes: asyncio.Queue[Resources] = asyncio.Queue()
        self._acknowledges = acknowledges
        self.reads = 0

    def say(self, collection: str, nonce: str = "") -> None:
        request = RequestResources(collection=collection, response_nonce=nonce)
        self.requests.put_nowait(request.SerializeToString())

    async def read(self) -> bytes | object:
        self.reads += 1
        return await self.requests.get()

    async def write(self, message: bytes) -> None:
        push = Resources.FromString(message)
        self.pushes.put_nowait(push)
        if self._acknowledges:
            self.say(push.collection, push.nonce)


class BrokenFormat(McpFormat):
    """Fails at its second message."""

    def __init__(self) -> None:
        self._made = 0

    def envelope(self, name: str, version: str, removed: Sequence[str] | None) -> tuple[bytes, bytes]:
        self._made += 1
        if self._made > 1:
            raise FellBehindError("too far behind")
        return super().envelope(name, version, removed)


def stream_in(
    views: Views, dialect: Dialect[RequestResources] = DIALECT, **limits: float
) -> Stream[RequestResources]:
    """A stream without a trail."""
    trail = DeliveryTrail(None, CODEC, gateway="gw-1")
    settings = LimitSettings.model_validate(limits)
    return Stream(dialect, Recipient("ipv4:127.0.0.1:1", "mcp"), [], views, trail, settings)


def views_with(**versions: str) -> Views:
    """These resources."""
    views = Views()
    views.apply(changes(versions))
    return views


class Kept:
    """A queue of deliveries."""

    def __init__(self) -> None:
        self.kinds: list[tuple[str, DeliveryKind]] = []

    def write(self, key: bytes, value: bytes) -> bool:
        delivery = CODEC.decode(value)
        self.kinds.append((delivery.collection, delivery.kind))
        return bool(key)


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


def test_a_peer_that_asks_too_often_is_read_at_its_pace() -> None:
    """So many requests a second and twice as many at once; what it says beyond that waits in the transport."""

    async def exchange() -> int:
        peer, stream = Peer(acknowledges=False), stream_in(views_with(a="1"), requests_per_s=1)
        for _ in range(100):
            peer.say(SERVICE_ENTRIES, "stale")
        task = asyncio.create_task(stream.run(peer))
        await peer.pushes.get()
        await asyncio.sleep(0.05)
        task.cancel()
        return peer.reads

    assert asyncio.run(exchange()) <= 5


def test_acknowledgements_do_not_count_against_a_peers_pace() -> None:
    """However often there is something new, the peer's answers are read at once."""

    async def exchange() -> None:
        views = views_with(a="0")
        peer, stream = Peer(), stream_in(views, requests_per_s=0.01)
        peer.say(SERVICE_ENTRIES)
        task = asyncio.create_task(stream.run(peer))
        for number in range(1, 50):
            await peer.pushes.get()
            for _ in range(10):  # the answer is taken
                await asyncio.sleep(0)
            views.apply(changes({"a": str(number)}))
            views.announce()
        await peer.pushes.get()
        task.cancel()

    asyncio.run(asyncio.wait_for(exchange(), 60))


def test_a_push_that_can_not_be_made_ends_its_own_stream_only() -> None:
    """It fails while all followers are told of a change: the others are told nevertheless."""

    async def exchange() -> list[str]:
        views = views_with(a="1")
        broken = Dialect(
            protocol="mcp", session=McpSourceSession, message_format=BrokenFormat(), parse=DIALECT.parse
        )
        peers = [Peer() for _ in range(3)]
        streams = [stream_in(views), stream_in(views, broken), stream_in(views)]
        tasks = [asyncio.create_task(one.run(peer)) for one, peer in zip(streams, peers, strict=True)]
        for peer in peers:
            peer.say(SERVICE_ENTRIES)
            await peer.pushes.get()
        await asyncio.sleep(0.01)
        views.apply(changes({"a": "2"}))
        views.announce()
        got = [(await peers[number].pushes.get()).resources[0].metadata.version for number in (0, 2)]
        with pytest.raises(FellBehindError):
            await tasks[1]
        for task in tasks:
            task.cancel()
        return got

    assert asyncio.run(asyncio.wait_for(exchange(), 60)) == ["2", "2"]


def test_a_peer_that_says_no_more_gets_what_it_asked_for() -> None:
    """Tools ask and half-close at once: the stream ends after the answers."""

    async def exchange() -> list[str]:
        peer, stream = Peer(acknowledges=False), stream_in(views_with(a="1"))
        for collection in (SERVICE_ENTRIES, GATEWAYS):
            peer.say(collection)
        peer.requests.put_nowait(grpc.aio.EOF)
        await stream.run(peer)
        return [peer.pushes.get_nowait().collection for _ in range(peer.pushes.qsize())]

    assert asyncio.run(asyncio.wait_for(exchange(), 60)) == [SERVICE_ENTRIES, GATEWAYS]
