"""Connections to the gateway while nothing is said on them, and when they grow old."""

from __future__ import annotations

import time
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.harness.pilot import wait_for
from tests.harness.pilot_server import ServedViews
from tests.harness.raw_pilot import RawPilot

PINGS = [
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


class Pinging:
    """A channel without a call that pings every second; how often it was connected."""

    def __init__(self, address: str) -> None:
        self.connected = 0
        self.state = grpc.ChannelConnectivity.IDLE
        self._channel = grpc.insecure_channel(address, options=PINGS)
        self._channel.subscribe(self._note, try_to_connect=True)

    def _note(self, state: grpc.ChannelConnectivity) -> None:
        self.connected += state is grpc.ChannelConnectivity.READY
        self.state = state

    def close(self) -> None:
        self._channel.close()


def test_pilots_that_ping_without_a_stream_stay_connected() -> None:
    """A server with gRPC's defaults sends them away for it, which shows that this test would see it."""
    strict = grpc.server(futures.ThreadPoolExecutor(1))
    port = strict.add_insecure_port("127.0.0.1:0")
    strict.start()
    with ServedViews() as served:
        here, there = Pinging(served.address), Pinging(f"127.0.0.1:{port}")
        wait_for(
            lambda: there.state is not grpc.ChannelConnectivity.READY and there.connected > 0,
            timeout_s=30,
            what="sent away by the strict one",
        )
        assert here.connected == 1
        assert here.state is grpc.ChannelConnectivity.READY
        here.close()
        there.close()
    strict.stop(None)


def test_an_old_connection_is_asked_to_go_and_its_stream_ends_after_a_grace() -> None:
    """Not before its age, give or take a tenth, and the grace; the Pilot finds the same on another connection."""
    with ServedViews({"max_connection_age_s": 2.0, "connection_grace_s": 1.0}) as served:
        served.change({"x/1": "1"})
        began = time.monotonic()
        with RawPilot(served.address) as pilot:
            pilot.ask()
            first = pilot.next()
            pilot.ask(first.nonce)
            assert pilot.code() is grpc.StatusCode.UNAVAILABLE
            assert 2.7 < time.monotonic() - began < 6
        with RawPilot(served.address) as again:
            again.ask()
            assert again.next().SerializeToString() == first.SerializeToString()


def test_connections_are_limited() -> None:
    """One that is too many is closed; the streams on the others go on, and one that goes makes room."""
    with ServedViews({"limits": {"max_connections": 3}}) as served:
        served.change({"x/1": "0"})
        pilots = [RawPilot(served.address) for _ in range(3)]
        for pilot in pilots:
            pilot.ask()
            pilot.ask(pilot.next().nonce)
        with RawPilot(served.address) as fourth:
            fourth.ask()
            assert fourth.code() is grpc.StatusCode.UNAVAILABLE
        served.change({"x/1": "1"})
        assert [pilot.next().resources[0].metadata.version for pilot in pilots] == ["1"] * 3
        pilots.pop().close()

        def is_let_in() -> bool:
            with RawPilot(served.address) as later:
                later.ask()
                try:
                    return bool(later.next().resources)
                except grpc.RpcError:
                    return False

        wait_for(is_let_in, timeout_s=10, what="room for another one")
        for pilot in pilots:
            pilot.close()


def test_calls_that_are_no_streams_of_pilots_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches of health keep something for as long as they are open, and take no Pilot's place."""
    monkeypatch.setattr("mcp_gateway.servers.other_calls.MAX_CALLS_OF_A_PEER", 2)
    with ServedViews() as served, RawPilot(served.address) as pilot:
        served.change({"x/1": "1"})
        pilot.ask()
        assert pilot.next().resources
        with grpc.insecure_channel(served.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watching = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
            for one in watching:
                assert next(one).status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.RpcError) as refused:
                next(health.Watch(health_pb2.HealthCheckRequest()))
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            for one in watching:
                one.cancel()
