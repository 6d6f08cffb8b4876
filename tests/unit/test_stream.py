"""A stream between its session and the wire: what is taken down, and when."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from structlog.testing import capture_logs

from mcp_gateway.debug_pages import pilot
from mcp_gateway.deliveries import DeliveryTrail, Recipient
from mcp_gateway.errors import CallLostError, FellBehindError, StalledError, UnreadError
from mcp_gateway.servers.dialects import mcp_source
from mcp_gateway.servers.in_flight import InFlight
from mcp_gateway.servers.stream import Dialect, Stream
from mcp_gateway.sessions.mcp_source import McpFormat, McpSourceSession
from mcp_gateway.settings import LimitSettings
from mcp_gateway.views.synthetic import SYNTHETIC_ENTRIES
from mcp_gateway.views.view import Selection
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


class SlowPeer(Peer):
    """A peer that reads its pushes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads_on = asyncio.Event()

    async def write(self, message: bytes) -> None:
        await self.reads_on.wait()
        await super().write(message)


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
    views: Views,
    dialect: Dialect[RequestResources] = DIALECT,
    in_flight: InFlight | None = None,
    **limits: float,
) -> Stream[RequestResources]:
    """A stream without a trail; among others, if it shares what is in flight with them."""
    trail = DeliveryTrail(None, CODEC, gateway="gw-1")
    settings = LimitSettings.model_validate(limits)
    in_flight = in_flight or InFlight(settings.max_in_flight_bytes)
    return Stream(dialect, Recipient("ipv4:127.0.0.1:1", "mcp"), [], views, trail, settings, in_flight)


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
    stream = Stream(mcp_source(()), peer, [], views, trail, LimitSettings(), InFlight(1 << 30))
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
    assert pilot(stream)["collections"][SERVICE_ENTRIES]["pending"] is None
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


LARGE_ENTRIES = {f"x/{number}": "1" for number in range(1000)}
ONE_AT_A_TIME = 1


class Crowd:
    """Streams whose large pushes go out one at a time; the first one's peer reads nothing until it is told to."""

    def __init__(self) -> None:
        self.views = views_with(**LARGE_ENTRIES)
        self.in_flight = InFlight(ONE_AT_A_TIME)
        self.tasks: list[asyncio.Task[None]] = []
        self.slow = SlowPeer()
        self.slow_stream = self.serve(self.slow)
        self.slow.say(SERVICE_ENTRIES)

    def serve(self, peer: Peer, dialect: Dialect[RequestResources] = DIALECT) -> Stream[RequestResources]:
        stream = stream_in(self.views, dialect, self.in_flight)
        self.tasks.append(asyncio.create_task(stream.run(peer)))
        return stream

    async def waiting(self) -> tuple[Peer, Stream[RequestResources]]:
        """A peer that asks for everything while there is no room."""
        await settled()
        peer = Peer()
        stream = self.serve(peer)
        peer.say(SERVICE_ENTRIES)
        await settled()
        assert pilot(stream)["waits_for_room"]
        return peer, stream

    def change(self, version: str) -> None:
        self.views.apply(changes({"x/0": version}))
        self.views.announce()

    def end(self) -> None:
        for task in self.tasks:
            task.cancel()


async def settled() -> None:
    """Everything was done that can be done now."""
    for _ in range(20):
        await asyncio.sleep(0)


def version_of_first(push: Resources) -> str:
    """The version of the resource that the tests change."""
    (found,) = [one.metadata.version for one in push.resources if one.metadata.name == "x/0"]
    return found


def test_a_large_push_waits_for_room_and_then_has_the_latest_version() -> None:
    """It is made when its turn comes; those that came first are served first; all end with the last version."""

    async def exchange() -> None:
        crowd = Crowd()
        (one, _), (other, stream) = await crowd.waiting(), await crowd.waiting()
        crowd.change("2")
        crowd.change("3")
        await settled()
        assert one.pushes.empty()
        crowd.slow.reads_on.set()
        assert version_of_first(await crowd.slow.pushes.get()) == "1"
        assert version_of_first(await one.pushes.get()) == "3"
        assert other.pushes.empty()
        assert version_of_first(await other.pushes.get()) == "3"
        assert version_of_first(await crowd.slow.pushes.get()) == "3"
        await settled()
        assert not pilot(stream)["waits_for_room"]
        assert crowd.in_flight.bytes == 0
        crowd.end()

    asyncio.run(asyncio.wait_for(exchange(), 60))


def test_small_pushes_do_not_wait_for_large_ones() -> None:
    """Differences, and collections that are small, go out while there is no room for a large push."""

    async def exchange() -> None:
        crowd = Crowd()
        crowd.slow.reads_on.set()
        await crowd.slow.pushes.get()
        incremental = Peer(acknowledges=False)
        crowd.serve(incremental, mcp_source(("*",)))
        asks = RequestResources(collection=SERVICE_ENTRIES, incremental=True)
        incremental.requests.put_nowait(asks.SerializeToString())
        first = await incremental.pushes.get()
        asks.response_nonce = first.nonce
        incremental.requests.put_nowait(asks.SerializeToString())
        crowd.slow.reads_on.clear()
        await settled()
        crowd.change("2")
        assert [one.metadata.version for one in (await incremental.pushes.get()).resources] == ["2"]
        peer, _ = await crowd.waiting()
        peer.say(GATEWAYS)
        assert (await peer.pushes.get()).collection == GATEWAYS
        crowd.end()

    asyncio.run(asyncio.wait_for(exchange(), 60))


def test_a_stream_that_ends_leaves_its_room_and_its_place_to_others() -> None:
    """Whether it waited, or its push was on its way."""

    async def exchange() -> None:
        crowd = Crowd()
        await crowd.waiting()
        peer, _ = await crowd.waiting()
        for task in crowd.tasks[1::-1]:
            task.cancel()
        await peer.pushes.get()
        await settled()
        assert (crowd.in_flight.bytes, crowd.in_flight.waiting) == (0, 0)
        crowd.end()

    asyncio.run(asyncio.wait_for(exchange(), 60))


def test_a_peer_that_says_no_more_waits_for_room_too() -> None:
    """Half-closed, its stream ends after the answer and not before."""

    async def exchange() -> None:
        crowd = Crowd()
        peer, _ = await crowd.waiting()
        peer.requests.put_nowait(grpc.aio.EOF)
        await settled()
        assert not crowd.tasks[-1].done()
        crowd.slow.reads_on.set()
        await crowd.tasks[-1]
        assert len(peer.pushes.get_nowait().resources) == len(LARGE_ENTRIES)
        crowd.end()

    asyncio.run(asyncio.wait_for(exchange(), 60))


def test_who_does_not_read_is_let_go_sooner_while_others_wait() -> None:
    """Its large push keeps a room that they need; while nobody waits it has the time that any peer has."""

    async def exchange() -> None:
        crowd = Crowd()
        await settled()
        soon = time.monotonic() + LimitSettings().in_the_way_s + 1
        crowd.slow_stream.let_go_if_stalled(soon)
        peer, _ = await crowd.waiting()
        crowd.slow_stream.let_go_if_stalled(soon)
        await peer.pushes.get()
        with pytest.raises(UnreadError, match="not read in 20 s"):
            await crowd.tasks[0]
        crowd.end()

    asyncio.run(asyncio.wait_for(exchange(), 60))


class LostCall(Peer):
    """A wire whose call is cancelled from the outside, while it is read or while it is written."""

    def __init__(self, lost_in: str) -> None:
        super().__init__()
        self._lost_in = lost_in

    async def read(self) -> bytes | object:
        if self._lost_in == "first read" or (self._lost_in == "read" and self.reads):
            self.reads += 1
            raise asyncio.CancelledError
        return await super().read()

    async def write(self, message: bytes) -> None:
        if self._lost_in == "write":
            raise asyncio.CancelledError
        await super().write(message)


@pytest.mark.parametrize("lost_in", ["first read", "read", "write"])
def test_a_call_that_is_cancelled_from_outside_ends_its_stream_with_an_error(lost_in: str) -> None:
    """Closing a channel does that to whoever waits for one of its calls: it must not look as if it was wanted."""

    async def exchange() -> None:
        peer, stream = LostCall(lost_in), stream_in(views_with(a="1"))
        peer.say(SERVICE_ENTRIES)
        with pytest.raises(CallLostError):
            await stream.run(peer)

    asyncio.run(asyncio.wait_for(exchange(), 60))


class DeafPeer(SlowPeer):
    """A peer that reads nothing; its wire turns the cancellation of a write into an error of its own."""

    async def write(self, message: bytes) -> None:
        try:
            await super().write(message)
        except asyncio.CancelledError:
            raise grpc.aio.InternalError from None


@pytest.mark.parametrize(("peer_of", "ending"), [(SlowPeer, UnreadError), (DeafPeer, grpc.aio.InternalError)])
def test_a_stream_that_is_let_go_leaves_its_owner_as_it_was(
    peer_of: type[SlowPeer], ending: type[Exception]
) -> None:
    """The sweep cancels the write; for the owner's task that is an error like others, and no wish to end."""

    async def owner(stream: Stream[RequestResources], peer: Peer, seen: list[int]) -> None:
        with pytest.raises(ending):
            await stream.run(peer)
        task = asyncio.current_task()
        assert task is not None
        seen.append(task.cancelling())

    async def exchange() -> None:
        peer, stream = peer_of(), stream_in(views_with(a="1"))
        peer.say(SERVICE_ENTRIES)
        seen: list[int] = []
        task = asyncio.create_task(owner(stream, peer, seen))
        await settled()
        for _ in range(2):
            stream.let_go_if_stalled(time.monotonic() + 3600)
        await task
        assert seen == [0]

    asyncio.run(asyncio.wait_for(exchange(), 60))


def test_a_stream_whose_owner_is_cancelled_while_it_is_let_go_is_cancelled() -> None:
    """The owner's wish to end goes before."""

    async def exchange() -> None:
        peer, stream = SlowPeer(), stream_in(views_with(a="1"))
        peer.say(SERVICE_ENTRIES)
        task = asyncio.create_task(stream.run(peer))
        await settled()
        stream.let_go_if_stalled(time.monotonic() + 3600)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(asyncio.wait_for(exchange(), 60))


class Failing:
    """A follower, or a waiter, that raises whatever it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def changed(self, collections: dict[str, None]) -> None:
        raise RuntimeError(f"told of {list(collections)}")

    def failed(self, error: Exception) -> None:
        self.error = error


def test_a_follower_that_fails_keeps_no_other_from_hearing_of_a_change() -> None:
    """Whatever it raises, and whether it comes before or after the others."""

    async def exchange() -> None:
        views = views_with(a="1")
        (publisher,) = views.publishers.values()
        failing = [Failing() for _ in range(5)]
        peers = [Peer() for _ in range(5)]
        with contextlib.ExitStack() as following:
            tasks = []
            for one, peer in zip(failing, peers, strict=True):
                following.enter_context(publisher.followed_by(one))
                tasks.append(asyncio.create_task(stream_in(views).run(peer)))
                peer.say(SERVICE_ENTRIES)
                await peer.pushes.get()
            await settled()
            views.apply(changes({"a": "2"}))
            views.announce()
            for peer in peers:
                assert (await peer.pushes.get()).resources[0].metadata.version == "2"
            assert all(isinstance(one.error, RuntimeError) for one in failing)
            for task in tasks:
                task.cancel()

    asyncio.run(asyncio.wait_for(exchange(), 60))


def test_a_trail_that_fails_costs_no_stream_anything() -> None:
    """The delivery is missing, as when there is no room; the push is made and acknowledged."""

    class Broken(Kept):
        def write(self, key: bytes, value: bytes) -> bool:
            raise RuntimeError(f"{key!r} {len(value)}")

    async def exchange() -> None:
        peer, views = Peer(), views_with(a="1")
        trail = DeliveryTrail(Broken(), CODEC, gateway="gw-1")
        limits = LimitSettings()
        stream = Stream(DIALECT, Recipient("x:1", "mcp"), [], views, trail, limits, InFlight(1 << 30))
        peer.say(SERVICE_ENTRIES)
        task = asyncio.create_task(stream.run(peer))
        await peer.pushes.get()
        await settled()
        assert stream.watches.due(views.publishers["default"].view.version) == []
        assert pilot(stream)["collections"][SERVICE_ENTRIES]["acknowledged"]
        assert not task.done()
        task.cancel()

    asyncio.run(asyncio.wait_for(exchange(), 60))


@pytest.mark.parametrize("is_registry", [False, True])
def test_a_pilot_that_gets_services_twice_is_logged(is_registry: bool) -> None:  # noqa: FBT001 - a parameter
    """One that asks for synthetic entries, in a view that shows services as ordinary entries too."""

    async def exchange() -> list[object]:
        peer, views = Peer(), Views({"default": Selection(is_registry=is_registry)})
        peer.say(SERVICE_ENTRIES)
        task = asyncio.create_task(stream_in(views).run(peer))
        await peer.pushes.get()
        peer.say(SYNTHETIC_ENTRIES)
        await peer.pushes.get()
        task.cancel()
        return [entry["event"] for entry in logged]

    with capture_logs() as logged:
        events = asyncio.run(asyncio.wait_for(exchange(), 60))
    assert ("services_sent_twice" in events) is not is_registry
