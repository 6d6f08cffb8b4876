"""Peers that say what no protocol knows, and faults of the gateway itself: each costs its own stream only."""

from __future__ import annotations

import queue
import struct
from concurrent import futures
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Struct
from google.rpc.status_pb2 import Status

from mcp_gateway import metrics
from mcp_gateway.servers.server import ADS_SERVICE, MCP_SERVICE
from mcp_gateway.servers.stream import Stream
from mcp_gateway.sessions.mcp_source import McpFormat
from mcp_gateway.views.collection import Collection
from runtime.errors import PartFailedError
from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources
from tests.harness.pilot import wait_for
from tests.harness.pilot_server import ServedViews
from tests.harness.raw_pilot import RawPilot
from tests.harness.resources import SERVICE_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TYPE = "networking.istio.io/v1/ServiceEntry"
METHODS = {
    "mcp": f"/{MCP_SERVICE}/EstablishResourceStream",
    "ads": f"/{ADS_SERVICE}/StreamAggregatedResources",
    "delta": f"/{ADS_SERVICE}/DeltaAggregatedResources",
}
NAME_FIELD = {"mcp": 2, "ads": 4, "delta": 2}  # of the collection or type


def request(protocol: str, **fields: Any) -> bytes:
    """A request for service entries, with these fields of the protocol's message."""
    match protocol:
        case "mcp":
            return RequestResources(**({"collection": SERVICE_ENTRIES} | fields)).SerializeToString()
        case "ads":
            return DiscoveryRequest(**({"type_url": TYPE} | fields)).SerializeToString()
        case _:
            return DeltaDiscoveryRequest(**({"type_url": TYPE} | fields)).SerializeToString()


def field(number: int, kind: int, value: bytes) -> bytes:
    """A protobuf field of any wire type."""
    return bytes([number << 3 | kind]) + value


def nested(levels: int) -> Struct:
    """A node's metadata, that deep."""
    found = Struct()
    for _ in range(levels):
        outer = Struct()
        outer.fields["x"].struct_value.CopyFrom(found)
        found = outer
    return found


def hostile(protocol: str) -> dict[str, tuple[bytes, grpc.StatusCode]]:
    """What no Pilot says, and the status with which its stream ends."""
    name, garbage = NAME_FIELD[protocol], grpc.StatusCode.INVALID_ARGUMENT
    found = {
        "no protobuf": (b"\xff" * 40, garbage),
        "text": (b"GET / HTTP/1.1\r\n\r\n", garbage),
        "nothing": (b"", garbage),
        "a field that ends too early": (field(name, 2, b"\x7fabc"), garbage),
        "a varint without end": (field(name, 0, b"\xff" * 12), garbage),
        "a number where a text belongs": (field(name, 0, b"\x05"), garbage),
        "a fixed number where a text belongs": (field(name, 1, struct.pack("<Q", 7)), garbage),
        "groups without end": (b"\x0b" * 10_000, garbage),
        "no UTF-8": (field(name, 2, b"\x04\xff\xfe\xfd\xfc"), garbage),
        "half a surrogate": (field(name, 2, b"\x03\xed\xa0\x80"), garbage),
        "a huge name": (field(name, 2, b"\x80\x80\x80\x01" + b"x" * (2 << 20)), garbage),
        "more than a request may have": (b"\x0a" + b"x" * (5 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
    }
    if protocol == "ads":
        found["too many names"] = (request(protocol, resource_names=map(str, range(50_000))), garbage)
    elif protocol == "delta":
        names = list(map(str, range(50_000)))
        found["too many names"] = (request(protocol, resource_names_subscribe=names), garbage)
    return found


def odd(protocol: str) -> dict[str, bytes]:
    """What is odd, and within the protocol: it is answered."""
    error = Status(code=-(2**31), message="\0" * 100_000)
    error.details.append(AnyMessage(type_url="x", value=b"\xff" * 1000))
    inner = AnyMessage(type_url="type.googleapis.com/google.protobuf.Any", value=b"\x0a\x01x")
    for _ in range(500):
        inner = AnyMessage(type_url=inner.type_url, value=inner.SerializeToString())
    error.details.append(inner)
    found = {"an error that answers nothing": request(protocol, response_nonce="x", error_detail=error)}
    found["fields that nobody knows"] = request(protocol) + field(15, 2, b"\x80\x08" + b"x" * 1024) * 50
    if protocol == "mcp":
        return found
    kind = DiscoveryRequest if protocol == "ads" else DeltaDiscoveryRequest
    node = kind(type_url=TYPE)
    node.node.metadata.CopyFrom(nested(20))
    found["metadata that is deep"] = node.SerializeToString()
    return found


class Peer:
    """A raw stream of any protocol."""

    def __init__(self, address: str, protocol: str) -> None:
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._call = self._channel.stream_stream(METHODS[protocol])(iter(self._requests.get, None))

    def say(self, data: bytes) -> None:
        self._requests.put(data)

    def next(self) -> bytes:
        return next(self._call)  # type: ignore[no-any-return]

    def code(self) -> grpc.StatusCode:
        return self._call.code()  # type: ignore[no-any-return]

    def details(self) -> str:
        return self._call.details()  # type: ignore[no-any-return]

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()


@contextmanager
def beside_a_good_one(served: ServedViews) -> Iterator[Callable[[], None]]:
    """A good stream; what is given checks that it is served."""
    served.change({"x/1": "0"})
    with RawPilot(served.address) as good:
        good.ask()
        push = good.next()
        number = 0

        def check() -> None:
            nonlocal push, number
            number += 1
            good.ask(push.nonce)
            served.change({"x/1": f"v{number}"})
            push = good.next()
            assert [one.metadata.version for one in push.resources] == [f"v{number}"]

        yield check
        check()


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("protocol", METHODS)
def test_a_peer_that_lies_ends_its_own_stream_with_a_status(protocol: str, *, is_first: bool) -> None:
    """With its first request or a later one; what is odd but within the protocol is answered."""
    with ServedViews() as served, beside_a_good_one(served) as check:
        for data, status in hostile(protocol).values():
            peer = Peer(served.address, protocol)
            if not is_first:
                peer.say(request(protocol))
                assert peer.next()
            peer.say(data)
            assert peer.code() is status
            assert len(peer.details()) < 500
            peer.close()
            check()
        for data in odd(protocol).values():
            peer = Peer(served.address, protocol)
            if not is_first:
                peer.say(request(protocol))
                assert peer.next()
            peer.say(data)
            if is_first:
                assert peer.next()
            check()
            peer.close()
        wait_for(lambda: len(served.server.streams) == 1, timeout_s=10, what="only the good one")


def internal_faults() -> float:
    """Streams that ended by a fault of the gateway, so far."""
    return metrics.REFUSED_STREAMS.labels("internal")._value.get()  # type: ignore[no-any-return]


@pytest.mark.parametrize("place", ["session", "first view", "encode", "choose", "books"])
def test_a_fault_of_the_gateway_costs_one_stream_only(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with INTERNAL, counted; its peer learns nothing of the cause; the others go on."""
    marked = "networking.istio.io/v1/Gateway"

    def fail(*_: object, **__: object) -> None:
        raise KeyError("a secret cause")

    with ServedViews() as served, beside_a_good_one(served) as check:
        check()
        before = internal_faults()
        with monkeypatch.context() as patched:
            match place:
                case "session":
                    patched.setattr("mcp_gateway.sessions.ads.AdsSession.receive", fail)
                case "first view":
                    patched.setattr("mcp_gateway.servers.stream.Stream._choose", fail)
                case "encode":
                    patched.setattr("mcp_gateway.sessions.ads.AdsWatch.message", fail)
                case "choose":
                    patched.setattr("mcp_gateway.servers.server.identities", fail)
                case _:
                    patched.setattr("mcp_gateway.servers.books.metrics.collection_label", fail)
            peer = Peer(served.address, "ads")
            peer.say(request("ads", type_url=marked))
            if place == "books":
                assert peer.next(), "the push was written before it could not be taken down"
            assert peer.code() is grpc.StatusCode.INTERNAL
            assert "secret" not in peer.details()
            assert "log" in peer.details()
            assert internal_faults() == before + 1
            if place == "encode":
                check()
        check()
        again = Peer(served.address, "ads")
        again.say(request("ads", type_url=marked))
        assert again.next()
        again.close()
        assert not served.supervisor.unhealthy


def test_a_fault_while_streams_are_told_costs_one_stream_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream whose push can't be made ends with INTERNAL; the others hear of the same change."""
    with ServedViews() as served, beside_a_good_one(served) as check:
        peer = Peer(served.address, "delta")
        peer.say(request("delta"))
        push = peer.next()
        assert push
        nonce = served.views.publishers["default"].view.version(SERVICE_ENTRIES)
        peer.say(request("delta", response_nonce=nonce))
        wait_for(
            lambda: all(one.pending is None for stream in served.server.streams for one in stream.watches
                        if stream.peer.protocol == "delta"),
            timeout_s=5, what="the acknowledgement",
        )  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setattr("mcp_gateway.sessions.delta_ads.DeltaWatch.message", lambda *_: {}["x"])
            check()
            assert peer.code() is grpc.StatusCode.INTERNAL
        check()


def test_a_fault_in_the_sweep_costs_one_stream_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep goes on to let others go; it is not started again for it."""
    swept: list[str] = []
    sound = Stream.let_go_if_stalled

    def let_go(stream: Stream[Any], now: float) -> None:
        swept.append(stream.peer.protocol)
        if stream.peer.protocol == "ads":
            raise ValueError("a fault")
        sound(stream, now)

    monkeypatch.setattr(Stream, "let_go_if_stalled", let_go)
    with ServedViews({"limits": {"stalled_s": 1.0}}) as served:
        served.change({"x/1": "1"})
        peer = Peer(served.address, "ads")
        peer.say(request("ads"))
        assert peer.next()
        assert peer.code() is grpc.StatusCode.INTERNAL
        with RawPilot(served.address) as mute:
            mute.ask()
            mute.next()
            assert "no answer" in mute.details()
        assert not served.supervisor.down
        assert set(swept) == {"ads", "mcp"}


def test_grpcs_own_server_does_not_end_unheard() -> None:
    """When it takes no calls any more, the process ends with an error."""
    with ServedViews() as served:
        server = served.server._server
        served.run(server.stop(None))
        wait_for(lambda: served.supervisor.fault is not None, timeout_s=5, what="the failure")
        assert isinstance(served.supervisor.fault, PartFailedError)
        assert "grpc server" in served.supervisor.unhealthy


LIES: dict[str, list[bytes]] = {
    "no protobuf": [b"\xff" * 40],
    "nothing": [b""],
    "no UTF-8": [field(2, 2, b"\x04\xff\xfe\xfd\xfc")],
    "it takes the trigger": [RequestResources(collection="$triggerCollection").SerializeToString()],
    "a huge message": [b"\x0a" + b"x" * (5 << 20)],
    "a later one is no protobuf": ["refusal", b"\xff" * 40],  # type: ignore[list-item]
    "a later one asks for what is not Istio's": ["refusal", request("mcp", collection="x")],  # type: ignore[list-item]
    "it ends": [],
}


class LyingSink:
    """A sink that tells another lie each time that it is dialled, and is a good one after them."""

    def __init__(self, lies: list[list[Any]]) -> None:
        self.dialled = 0
        self.served = 0
        self._lies = lies
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "istio.mcp.v1alpha1.ResourceSink", {"EstablishResourceStream": handler}
                ),
            )
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _serve(self, pushes: Iterator[bytes], _: Any) -> Iterator[bytes]:
        next(pushes)
        self.dialled += 1
        refusal = RequestResources(collection="$triggerCollection")
        refusal.error_detail.code = grpc.StatusCode.UNIMPLEMENTED.value[0]
        if self._lies:
            for lie in self._lies.pop(0):
                yield refusal.SerializeToString() if lie == "refusal" else lie
            return
        yield refusal.SerializeToString()
        yield request("mcp")
        for _ in pushes:
            self.served += 1

    def stop(self) -> None:
        self._server.stop(0).wait()


def test_a_dialled_sink_may_say_what_it_likes_and_is_dialled_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each lie is an ordinary fault: counted, one line that says that it is dialled again, no trace."""
    monkeypatch.setattr("mcp_gateway.servers.sink_dialer._BACKOFF_S", (0.02, 0.02))
    sink = LyingSink(list(LIES.values()))
    reconnections = metrics.RECONNECTIONS._value.get()
    settings = {"sinks": [{"address": f"127.0.0.1:{sink.port}"}]}
    with ServedViews(settings) as served:
        served.change({"x/1": "1"})
        wait_for(lambda: sink.served > 0, timeout_s=20, what="a push, after the lies")
        assert not served.supervisor.down
        assert served.supervisor.fault is None
        assert metrics.RECONNECTIONS._value.get() - reconnections == len(LIES)
        shown = capfd.readouterr()
        assert "Traceback" not in shown.out + shown.err
        assert (shown.out + shown.err).count("sink is dialled again") == len(LIES)
    sink.stop()


def test_a_fault_of_the_gateway_does_not_end_a_dialler(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged with its trace, counted, and the sink dialled again."""
    monkeypatch.setattr("mcp_gateway.servers.sink_dialer._BACKOFF_S", (0.02, 0.02))
    sound, faults = McpFormat.envelope, [KeyError("x"), RecursionError()]

    def envelope(*args: Any) -> Any:
        if faults:
            raise faults.pop()
        return sound(*args)

    monkeypatch.setattr(McpFormat, "envelope", envelope)
    sink, before = LyingSink([]), internal_faults()
    with ServedViews({"sinks": [{"address": f"127.0.0.1:{sink.port}"}]}) as served:
        served.change({"x/1": "1"})
        wait_for(lambda: sink.served > 0, timeout_s=20, what="a push")
        assert internal_faults() == before + 2
        assert not served.supervisor.down
    sink.stop()


def test_a_view_that_fails_keeps_no_other_from_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other views have it, and their streams hear of it; the fault is raised for who applied it."""
    sound = Collection.put

    def put(collection: Collection, origin: Any, name: str, *rest: Any) -> None:
        if name.startswith("broken/"):
            raise ValueError(origin)
        sound(collection, origin, name, *rest)

    settings = {
        "views": {"default": {"istio_namespace": "broken"}, "other": {}},
        "view_rules": [{"view": "other", "node": {"id": "*"}}],
    }
    with ServedViews(settings) as served, RawPilot(served.address) as pilot:
        served.change({"x/1": "1"})
        pilot.ask()
        pilot.ask(pilot.next().nonce)
        with monkeypatch.context() as patched:
            patched.setattr(Collection, "put", put)
            with pytest.raises(ValueError, match="x/2"):
                served.change({"x/2": "1"})
        served.call(served.views.announce)
        assert [one.metadata.name for one in pilot.next().resources] == ["x/1", "x/2"]
