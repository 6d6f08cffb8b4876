"""What peers may make the gateway keep: measured, and bounded by peer and in all."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from mcp_gateway import patterns
from mcp_gateway.deliveries import DeliveryTrail, Recipient
from mcp_gateway.errors import GatewayError, ProtocolError, TooMuchError
from mcp_gateway.servers.dialects import ads, delta_ads, mcp_source
from mcp_gateway.servers.in_flight import InFlight
from mcp_gateway.servers.kept_bytes import KeptBytes
from mcp_gateway.servers.stream import Stream
from mcp_gateway.sessions.known_types import API_VERSIONS, COLLECTIONS
from mcp_gateway.sessions.session import MAX_NAMES, MAX_NODE_ID
from mcp_gateway.settings import LimitSettings
from mcp_gateway.views.stated import stated
from mcp_gateway.views.views import Views
from schemas.avro_codec import codecs
from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, SinkNode
from tests.harness.resources import SERVICE_ENTRIES, changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CODEC = codecs().delivery
TYPE = "networking.istio.io/v1/ServiceEntry"
TYPES = [
    f"{group}/{version}/{kind}"
    for group, kind in (one.split("/") for one in COLLECTIONS)
    for version in API_VERSIONS[group]
] + [f"telemetry.istio.io/v1/Kind{number}" for number in range(100)]
PER_WATCH = 4000


def names(number: int, length: int = 40) -> list[str]:
    """Some that no other watch has."""
    return [f"ns-{number}/{index:0{length}}" for index in range(PER_WATCH)]


def by_name_ads(number: int) -> bytes:
    """A request that names resources of a type."""
    return DiscoveryRequest(type_url=TYPES[number], resource_names=names(number)).SerializeToString()


def by_name_delta(number: int) -> bytes:
    """A request that subscribes to resources of a type."""
    request = DeltaDiscoveryRequest(type_url=TYPES[number], resource_names_subscribe=names(number))
    return request.SerializeToString()


def stating_delta(number: int) -> bytes:
    """A request that states what a client has of a type."""
    has = dict.fromkeys(names(number), f"{number:064}")
    return DeltaDiscoveryRequest(type_url=TYPES[number], initial_resource_versions=has).SerializeToString()


def stating_mcp(number: int) -> bytes:
    """A request that states what a sink has of a collection."""
    collection = sorted(set(COLLECTIONS.values()))[number % len(set(COLLECTIONS.values()))]
    has = dict.fromkeys(names(number), f"{number:064}")
    request = RequestResources(collection=collection, incremental=True, initial_resource_versions=has)
    return request.SerializeToString()


class Wire:
    """A peer that says all that it has to say, takes pushes, and answers none."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self.is_done = asyncio.Event()

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        data = next(self._requests, None)
        if data is None:
            self.is_done.set()
            await asyncio.Event().wait()
        assert data is not None
        return data

    async def write(self, message: bytes) -> None:
        assert message


def stream_of(views: Views, dialect: Any, kept: KeptBytes, address: str = "ipv4:10.0.0.1:1") -> Stream[Any]:
    """A stream that counts there what it keeps."""
    trail = DeliveryTrail(None, CODEC, gateway="gw")
    limits = LimitSettings(requests_per_s=1e9)
    return Stream(dialect, Recipient(address, dialect.protocol), [], views, trail, limits, InFlight(1 << 30), kept)


async def say(stream: Stream[Any], requests: Iterator[bytes]) -> tuple[asyncio.Task[None], Wire]:
    """The stream, once all is said or it has ended."""
    wire = Wire(requests)
    task = asyncio.create_task(stream.run(wire))
    done = asyncio.create_task(wire.is_done.wait())
    await asyncio.wait({task, done}, return_when=asyncio.FIRST_COMPLETED)
    done.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    return task, wire


def held() -> int:
    """Bytes that Python's allocator has given out."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize(
    ("dialect", "request_of"),
    [
        (ads(), by_name_ads),
        (delta_ads(), by_name_delta),
        (delta_ads(), stating_delta),
        (mcp_source(("*",)), stating_mcp),
    ],
    ids=["ads names", "delta names", "delta versions", "mcp versions"],
)
def test_what_is_counted_is_what_is_kept(dialect: Any, request_of: Callable[[int], bytes]) -> None:
    """The bytes that Python really holds for a stream that names and states much are within what is counted."""

    async def measured() -> tuple[int, int]:
        views, kept = Views(), KeptBytes()
        stream = stream_of(views, dialect, kept)
        before = held()
        task, _ = await say(stream, (request_of(number) for number in range(8)))
        assert not task.done()
        found = held() - before
        counted = kept.bytes
        task.cancel()
        await asyncio.wait({task})
        assert kept.bytes == 0
        return found, counted

    tracemalloc.start()
    try:
        found, counted = asyncio.run(measured())
    finally:
        tracemalloc.stop()
    assert counted > 8 * PER_WATCH * 50
    assert found < 1.1 * counted + 500_000, f"{found:,} bytes are held, {counted:,} are counted"


@pytest.mark.parametrize(
    ("dialect", "request_of"),
    [(ads(), by_name_ads), (delta_ads(), by_name_delta), (delta_ads(), stating_delta)],
    ids=["ads names", "delta names", "delta versions"],
)
def test_a_peer_may_keep_only_so_much(dialect: Any, request_of: Callable[[int], bytes]) -> None:
    """A stream with 120 watches of 4,000 names is refused beyond the limit of its peer; nothing of it is left."""
    limit = 8_000_000

    async def exchange() -> int:
        views, kept = Views(), KeptBytes(limit, 10 * limit)
        before = held()
        task, _ = await say(stream_of(views, dialect, kept), (request_of(number) for number in range(120)))
        with pytest.raises(TooMuchError, match=r"from ipv4:10\.0\.0\.1"):
            await task
        assert kept.bytes == 0
        del task
        return held() - before

    tracemalloc.start()
    try:
        left = asyncio.run(exchange())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert left < 1_000_000
    assert peak < 1.2 * limit + 20_000_000, "the request that is refused is a few megabytes, too"


def test_the_limits_are_by_peer_and_in_all() -> None:
    """A peer has its own share, whatever its port; all together have theirs; what a stream gives back is free."""

    async def exchange() -> None:
        views, one = Views(), stream_size()
        kept = KeptBytes(2 * one + 1, 3 * one + 1)
        tasks = []

        async def open_from(address: str) -> asyncio.Task[None]:
            task, _ = await say(stream_of(views, ads(), kept, address), iter([by_name_ads(1)]))
            tasks.append(task)
            return task

        first = await open_from("ipv4:10.0.0.1:1")
        await open_from("ipv4:10.0.0.1:2")
        with pytest.raises(TooMuchError, match="fewer"):
            await (await open_from("ipv4:10.0.0.1:3"))
        await open_from("ipv4:10.0.0.2:1")
        with pytest.raises(TooMuchError, match="all peers"):
            await (await open_from("ipv4:10.0.0.3:1"))
        first.cancel()
        await asyncio.wait({first})
        assert not (await open_from("ipv4:10.0.0.3:1")).done()
        assert kept.bytes == 3 * one
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert kept.bytes == 0
        assert not kept._by_peer

    def stream_size() -> int:
        session = ads().session()
        session.receive(DiscoveryRequest.FromString(by_name_ads(1)))
        return session.watches.kept

    asyncio.run(exchange())


def test_names_that_are_let_go_are_given_back() -> None:
    """By another list, by unsubscribing, by an acknowledgement."""
    session = ads().session()
    session.receive(DiscoveryRequest(type_url=TYPE, resource_names=names(1)))
    assert session.watches.kept > 0
    session.receive(DiscoveryRequest(type_url=TYPE, resource_names=["*"]))
    assert session.watches.kept == 0
    delta, view = delta_ads().session(), Views().publishers["default"].view
    some = names(1)
    delta.receive(DeltaDiscoveryRequest(type_url=TYPE, resource_names_subscribe=some))
    delta.receive(DeltaDiscoveryRequest(type_url=TYPE, resource_names_subscribe=some))
    once = delta.watches.kept
    (watch,) = delta.watches.due(view.version)
    assert watch.message(view, delta_ads().message_format)
    delta.receive(DeltaDiscoveryRequest(type_url=TYPE, resource_names_unsubscribe=some))
    assert delta.watches.kept == once, "the push that is on its way still has them"
    delta.receive(DeltaDiscoveryRequest(type_url=TYPE, response_nonce=watch.pending or ""))
    assert delta.watches.kept == 0
    stating = delta_ads().session()
    stating.receive(DeltaDiscoveryRequest(type_url=TYPE, initial_resource_versions=dict.fromkeys(some, "1")))
    (watch,) = stating.watches.due(view.version)
    assert watch.message(view, delta_ads().message_format)
    assert stating.watches.kept > 0
    stating.receive(DeltaDiscoveryRequest(type_url=TYPE, response_nonce=watch.pending or ""))
    assert stating.watches.kept == 0


@pytest.mark.parametrize("missing", [0, 3, 30_000])
def test_what_a_peer_states_costs_as_much_as_differs_from_it(missing: int) -> None:
    """A client that was away briefly states everything, and little of it is kept; one that lacks much gets all."""
    views = Views()
    has = {f"ns/{number:06}": "1" for number in range(40_000)}
    views.apply(changes(dict.fromkeys(has, "1")))
    for name in list(has)[:missing]:
        del has[name]
    has["ns/gone"] = "1"
    view = views.publishers["default"].view
    known = view.known(SERVICE_ENTRIES)
    basis = stated(has)
    assert basis is not None
    compared = known.compare(basis)
    assert compared.bytes < 1000
    for _ in range(2):
        lacking = known.lacking(compared)
        assert lacking is not None
        assert lacking >= known.differing(has)
        assert missing > 5000 or lacking == known.differing(has)
        views.apply(changes({"ns/000001": None}))
        has["ns/000001"] = "1"


def test_a_request_with_many_names_and_versions_is_read_at_once() -> None:
    """10,000 names among 30,000 versions were compared with each other: 300 million comparisons."""
    some = [f"ns/{number}" for number in range(30_000)]
    request = DeltaDiscoveryRequest(
        type_url=TYPE,
        resource_names_subscribe=some[-MAX_NAMES:],
        initial_resource_versions=dict.fromkeys(some, "1"),
    )
    session, began = delta_ads().session(), time.process_time()
    session.receive(request)
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("protocol", ["mcp", "ads", "delta"])
def test_what_a_node_says_of_itself_is_not_kept(protocol: str) -> None:
    """A long id is refused, for the audit trail holds it; metadata chooses the view, and is let go of."""
    much = {f"fact-{number}": "x" * 900 for number in range(2000)} | {"long": "y" * 100_000}

    def request_of(node_id: str) -> Any:
        if protocol == "mcp":
            return RequestResources(collection=SERVICE_ENTRIES, sink_node=SinkNode(id=node_id, annotations=much))
        request = (DiscoveryRequest if protocol == "ads" else DeltaDiscoveryRequest)(type_url=TYPE)
        request.node.id = node_id
        for name, value in much.items():
            request.node.metadata.fields[name].string_value = value
        return request

    dialect = {"mcp": mcp_source(()), "ads": ads(), "delta": delta_ads()}[protocol]
    with pytest.raises(ProtocolError, match="node id of 1025 characters"):
        dialect.session().receive(request_of("n" * (MAX_NODE_ID + 1)))

    async def exchange() -> None:
        stream = stream_of(Views(), dialect, KeptBytes())
        task, _ = await say(stream, iter([request_of("pilot-1").SerializeToString()]))
        assert stream.session.node.id == stream.peer.node == "pilot-1"
        assert not stream.session.node.metadata
        assert not task.done()
        task.cancel()

    asyncio.run(exchange())
    session = dialect.session()
    session.receive(request_of("pilot-1"))
    assert "long" not in session.node.metadata, "no rule looks for it"


def test_names_that_peers_make_up_are_not_remembered_by_patterns() -> None:
    """A cache of 4,096 texts of a megabyte each."""
    before = patterns._remembered.cache_info().currsize
    for number in range(10):
        assert patterns.matches("x" * 100_000 + str(number), ("x*",))
    assert patterns._remembered.cache_info().currsize == before


def test_spellings_of_a_type_keep_a_few_messages() -> None:
    """64 spellings of a type URL, over both forms of ADS: Istio's API versions are answered, others refused."""
    views = Views()
    views.apply(changes({f"ns/{number:06}": "1" for number in range(2000)}))
    view = views.publishers["default"].view
    whole = len(view.message(SERVICE_ENTRIES, ads().message_format, TYPE))
    spellings = [f"v{number}{stage}" for number in range(1, 17) for stage in ("", "alpha3", "beta1", "beta2")]
    assert len(spellings) == 64
    refused = 0
    for dialect in (ads(), delta_ads()):
        for version in spellings:
            session, type_url = dialect.session(), f"networking.istio.io/{version}/ServiceEntry"
            request = DiscoveryRequest if dialect.protocol == "ads" else DeltaDiscoveryRequest
            try:
                session.receive(request(type_url=type_url))
            except GatewayError:
                refused += 1
                continue
            for watch in session.watches.due(view.version):
                assert watch.message(view, dialect.message_format)
    assert refused == 2 * 61
    assert view.messages.size < 2 * 3 * 1.5 * whole
