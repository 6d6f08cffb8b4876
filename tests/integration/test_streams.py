"""The gateway's server under peers that are many, slow, silent or wrong: each harms only itself."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from concurrent import futures
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import grpc
import psutil
import pytest

from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resources, SinkNode
from tests.harness.pilot import wait_for
from tests.harness.pilot_server import ServedViews
from tests.harness.raw_pilot import RawPilot
from tests.harness.resources import SERVICE_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = int(os.environ.get("SHIPLOG_FUZZ_CONNECTIONS", "200"))


def names(push: Resources) -> list[str]:
    """Of the resources in a push."""
    return [one.metadata.name for one in push.resources]


def test_a_peers_view_is_chosen_by_its_node() -> None:
    """By what its first request says; whoever has no view is refused, with a reason."""
    settings = {
        "views": {"a": {"namespaces": ["a"]}, "b": {"namespaces": ["b"], "istio_namespace": "mesh"}},
        "view_rules": [{"view": "a", "node": {"id": "pilot-a*"}}, {"view": "b", "node": {"cluster": "b"}}],
        "default_view": "",
    }
    with ServedViews(settings) as served:
        served.change({"x/1": "1"}, namespace="a")
        served.change({"x/2": "1"}, namespace="b")
        with RawPilot(served.address) as one, RawPilot(served.address) as other, RawPilot(served.address) as third:
            one.ask(sink_node=SinkNode(id="pilot-a-7"))
            other.ask(sink_node=SinkNode(id="x", annotations={"cluster": "b"}))
            third.ask(sink_node=SinkNode(id="x"))
            assert names(one.next()) == ["x/1"]
            assert names(other.next()) == ["mesh/2"]
            assert third.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "no view" in third.details()
            assert {stream.peer.view for stream in served.server.streams} == {"a", "b"}


def test_streams_are_limited_per_identity_and_in_all() -> None:
    """A peer without a certificate counts by its address; a stream that ended counts no more."""
    with ServedViews({"limits": {"max_streams_per_identity": 2, "max_streams": 3}}) as served:
        served.change({"x/1": "1"})
        with RawPilot(served.address) as one, RawPilot(served.address) as two:
            for pilot in (one, two):
                pilot.ask()
                pilot.next()
            with RawPilot(served.address) as third:
                third.ask()
                assert third.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            one.close()
            wait_for(lambda: len(served.server.streams) == 1, timeout_s=5, what="one gone")
            with RawPilot(served.address) as fourth:
                fourth.ask()
                assert names(fourth.next()) == ["x/1"]


def test_who_comes_in_a_crowd_waits_in_line() -> None:
    """Ten a second are let in after the first ten; nobody is refused who would wait less than the limit."""
    with ServedViews({"limits": {"streams_per_s": 10, "max_wait_s": 1.2}}) as served:
        served.change({"x/1": "1"})
        pilots = [RawPilot(served.address) for _ in range(30)]
        started = time.monotonic()
        for pilot in pilots:
            pilot.ask()
        arrivals, refused = [], 0
        for pilot in pilots:
            try:
                pilot.next()
                arrivals.append(time.monotonic() - started)
            except grpc.RpcError:
                refused += 1
        for pilot in pilots:
            pilot.close()
        assert 0.8 < max(arrivals) < 3
        assert 3 <= refused <= 9
        assert len(arrivals) == 30 - refused


def test_a_peer_that_asks_for_nothing_is_let_go() -> None:
    """A stream without a request holds nothing for ever."""
    with ServedViews({"limits": {"first_request_s": 0.5}}) as served, RawPilot(served.address) as silent:
        assert silent.code() is grpc.StatusCode.UNAVAILABLE
        assert not served.server.streams


def test_a_peer_that_does_not_answer_is_let_go_and_nobody_else_is_late() -> None:
    """Neither one that reads and says nothing, nor one that reads nothing; memory does not grow meanwhile."""
    entries = {f"x/{number}": "1" for number in range(20_000)}
    with ServedViews({"limits": {"stalled_s": 3.0}}) as served:
        served.change(entries)
        with RawPilot(served.address) as mute, RawPilot(served.address) as good, _Deaf(served.port) as deaf:
            mute.ask()
            mute.next()
            good.ask(incremental=True)
            push = good.next()
            before = psutil.Process().memory_info().rss
            for number in range(10):
                good.ask(push.nonce, incremental=True)
                time.sleep(0.05)
                started = time.monotonic()
                served.change({"x/0": f"v{number}"})
                push = good.next()
                assert time.monotonic() - started < 1.0
            good.ask(push.nonce, incremental=True)
            assert psutil.Process().memory_info().rss - before < 64e6
            assert mute.code() is grpc.StatusCode.UNAVAILABLE
            assert "no answer" in mute.details()
            wait_for(lambda: len(served.server.streams) == 1, timeout_s=10, what="the deaf one let go")
            assert deaf.opened


def test_peers_that_read_nothing_take_only_so_much_memory(caplog: pytest.LogCaptureFixture) -> None:
    """However many they are; differences don't wait for them, and what does is served when they are let go.

    Those that go while they wait leave no trace of an error.
    """
    limit = 16 * 1024 * 1024
    entries = {f"x/{number:05}": "1" * 100 for number in range(20_000)}
    settings = {"limits": {"max_in_flight_bytes": limit, "in_the_way_s": 1.0}}
    with ServedViews(settings) as served, RawPilot(served.address) as quick:
        in_flight, streams = served.server.in_flight, served.server.streams
        served.change(entries)
        quick.ask(incremental=True)
        push = quick.next()
        quick.ask(push.nonce, incremental=True)
        with ExitStack() as deaf:
            before = psutil.Process().memory_info().rss
            for _ in range(20):
                deaf.enter_context(_Deaf(served.port))
            wait_for(lambda: in_flight.waiting > 10, timeout_s=10, what="deaf ones in line")
            assert in_flight.bytes < limit + push.ByteSize()
            assert psutil.Process().memory_info().rss - before < 3 * limit
            served.change({"x/00000": "2"})
            push = quick.next()
            assert names(push) == ["x/00000"]
            quick.ask(push.nonce, incremental=True)
            with RawPilot(served.address) as patient:
                patient.ask()
                assert len(patient.next().resources) == len(entries)
            for _ in range(30):
                deaf.enter_context(_Deaf(served.port))
            wait_for(lambda: in_flight.waiting > 20, timeout_s=10, what="others in line")
        wait_for(lambda: len(streams) == 1, timeout_s=10, what="all but the quick one gone")
        assert in_flight.bytes == 0
        assert not in_flight.waiting
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


class _Deaf:
    """A peer that speaks HTTP/2, asks for everything over MCP, and then reads nothing at all."""

    def __init__(self, port: int) -> None:
        self.opened = False
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def __enter__(self) -> Self:
        path = b"/istio.mcp.v1alpha1.ResourceSource/EstablishResourceStream"
        # Literal headers without indexing (RFC 7541, 6.2.2): static names by index, values as they are.
        headers = b"".join(
            (
                b"\x83\x86",  # :method POST, :scheme http
                b"\x04" + bytes([len(path)]) + path,
                b"\x01\x01x",  # :authority
                b"\x0f\x10\x10application/grpc",  # content-type
                b"\x00\x02te\x08trailers",
            )
        )
        body = RequestResources(collection=SERVICE_ENTRIES).SerializeToString()
        message = b"\x00" + len(body).to_bytes(4, "big") + body
        self._socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(4, 0, 0, b"")
            + _frame(1, 4, 1, headers)
            + _frame(0, 0, 1, message)
        )
        self.opened = True
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def test_draining_lets_streams_go_one_by_one() -> None:
    """Each ends by itself with a word that it may come again, spread over the time; then the port is closed."""
    with ServedViews({"drain_s": 1.5}) as served:
        served.change({"x/1": "1"})
        pilots = [RawPilot(served.address) for _ in range(20)]
        for pilot in pilots:
            pilot.ask()
            pilot.ask(pilot.next().nonce)
        ended: list[float] = []
        started = time.monotonic()

        def follow(pilot: RawPilot) -> None:
            assert pilot.code() is grpc.StatusCode.UNAVAILABLE
            assert "another one" in pilot.details()
            ended.append(time.monotonic() - started)

        followers = [threading.Thread(target=follow, args=(pilot,)) for pilot in pilots]
        for follower in followers:
            follower.start()
        served.stop()
        for follower in followers:
            follower.join(timeout=5)
        assert len(ended) == 20
        assert max(ended) - min(ended) > 0.5
        assert max(ended) < 2.5
        with RawPilot(served.address) as late:
            late.ask()
            with pytest.raises(grpc.RpcError):
                late.next()
        for pilot in pilots:
            pilot.close()


class Sink:
    """A Pilot that waits to be dialled, as 1.1 to 1.8 do with `ResourceSink`."""

    def __init__(self, port: int = 0) -> None:
        self.pushes: list[Resources] = []
        self.triggers: list[str] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=Resources.FromString,
            response_serializer=RequestResources.SerializeToString,
        )
        service = {"EstablishResourceStream": handler}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("istio.mcp.v1alpha1.ResourceSink", service),)
        )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def _serve(self, pushes: Iterator[Resources], _: Any) -> Iterator[RequestResources]:
        trigger = next(pushes)
        self.triggers.append(trigger.collection)
        refusal = RequestResources(collection=trigger.collection)
        refusal.error_detail.code = grpc.StatusCode.UNIMPLEMENTED.value[0]
        yield refusal
        yield RequestResources(collection=SERVICE_ENTRIES)
        for push in pushes:
            self.pushes.append(push)
            yield RequestResources(collection=push.collection, response_nonce=push.nonce)

    def stop(self) -> None:
        """Goes away."""
        self._server.stop(0).wait()


def test_a_sink_is_dialled_and_dialled_again() -> None:
    """The trigger first; then as if it had dialled; after it was away it is found again."""
    sink = Sink()
    settings = {
        "sinks": [{"address": f"127.0.0.1:{sink.port}", "identity": "pilot-west"}],
        "views": {"west": {"namespaces": ["west"]}},
        "view_rules": [{"view": "west", "identities": ["pilot-*"]}],
    }
    with ServedViews(settings) as served:
        served.change({"x/1": "1"}, namespace="west")
        served.change({"x/2": "1"}, namespace="east")
        wait_for(lambda: bool(sink.pushes) and names(sink.pushes[-1]) == ["x/1"], timeout_s=10, what="a push")
        assert sink.triggers == ["$triggerCollection"]
        served.change({"x/3": "1"}, namespace="west")
        wait_for(lambda: names(sink.pushes[-1]) == ["x/1", "x/3"], timeout_s=5, what="the change")
        sink.stop()
        again = Sink(sink.port)
        wait_for(lambda: bool(again.pushes), timeout_s=15, what="dialled again")
        assert names(again.pushes[-1]) == ["x/1", "x/3"]
        again.stop()


def test_something_that_is_no_sink_is_left_alone() -> None:
    """A gateway that dials itself finds no sink, says so and waits."""
    with ServedViews() as other:
        other.change({"x/1": "1"})
        with ServedViews({"sinks": [{"address": other.address}]}) as served:
            time.sleep(1.0)
            assert not other.server.streams
            assert not served.server.streams


def test_garbage_harms_only_its_own_connection() -> None:
    """Random bytes, cut and altered frames, halves of requests: a good stream beside them is served throughout."""
    seed = int(os.environ.get("SHIPLOG_FUZZ_SEED", "1"))
    chance = random.Random(seed)
    good_bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"")
    with ServedViews({"limits": {"first_request_s": 1.0, "handshake_s": 1.0}}) as served:
        served.change({"x/1": "1"})
        with RawPilot(served.address) as good:
            good.ask()
            push = good.next()
            for number in range(CONNECTIONS):
                _throw(served.port, chance, good_bytes)
                if number % 50 == 0:
                    good.ask(push.nonce)
                    served.change({"x/1": f"v{number}"})
                    push = good.next()
            with RawPilot(served.address) as garbled:
                garbled.send(b"\xff\xff\xff")
                assert garbled.code() is grpc.StatusCode.INVALID_ARGUMENT
            with RawPilot(served.address) as huge:
                huge.send(b"x" * (5 * 1024 * 1024))
                assert huge.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            wait_for(
                lambda: len(served.server.streams) == 1, timeout_s=10, what=f"only the good one (seed {seed})"
            )


def _throw(port: int, chance: random.Random, preface: bytes) -> None:
    """One connection that sends something wrong and goes, or stays half-open for a moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as wire:
        frames = [
            _frame(
                chance.randrange(12),
                chance.randrange(256),
                chance.randrange(5),
                chance.randbytes(chance.randrange(64)),
            )
            for _ in range(chance.randrange(6))
        ]
        data = bytearray(preface + b"".join(frames) if chance.random() < 0.8 else chance.randbytes(200))
        if chance.random() < 0.5:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            wire.sendall(data[: chance.randrange(1, len(data) + 1)])
        except OSError:
            return
