"""Connections to the gateway while nothing is said on them, and when they grow old."""

from __future__ import annotations

import time
from concurrent import futures

import grpc

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
