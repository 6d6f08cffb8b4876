"""Mutated requests through the sessions of every dialect: a refusal at worst, and memory stays bounded."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message import DecodeError

from mcp_gateway.errors import GatewayError
from mcp_gateway.servers.dialects import ads, delta_ads, mcp_source
from mcp_gateway.sessions.session import MAX_WATCHES
from mcp_gateway.views.messages import MAX_FORMS
from mcp_gateway.views.view import View
from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources
from tests.harness.resources import SERVICE_ENTRIES, changes

if TYPE_CHECKING:
    from mcp_gateway.servers.stream import Dialect

REQUESTS = int(os.environ.get("SHIPLOG_FUZZ", "6000"))
SEED = int(os.environ.get("SHIPLOG_FUZZ_SEED", "20261123"))
TYPE = "networking.istio.io/v1/ServiceEntry"


def sound_requests(protocol: str, nonce: str) -> list[bytes]:
    """What a well-behaved peer may say, for others to be made of."""
    names = ["ns/a", "ns/b", "*"]
    match protocol:
        case "mcp":
            requests: list[Any] = [
                RequestResources(collection=SERVICE_ENTRIES, incremental=True),
                RequestResources(collection=SERVICE_ENTRIES, response_nonce=nonce, incremental=True),
                RequestResources(
                    collection="istio/networking/v1alpha3/synthetic/serviceentries", incremental=True
                ),
                RequestResources(collection=SERVICE_ENTRIES, initial_resource_versions={"ns/a": "1", "x": "2"}),
            ]
        case "ads":
            requests = [
                DiscoveryRequest(type_url=TYPE, response_nonce=nonce),
                DiscoveryRequest(type_url=TYPE, resource_names=names, response_nonce=nonce),
                DiscoveryRequest(type_url=TYPE, resource_names=names[:1]),
            ]
        case _:
            requests = [
                DeltaDiscoveryRequest(type_url=TYPE, response_nonce=nonce),
                DeltaDiscoveryRequest(type_url=TYPE, resource_names_subscribe=names[:2]),
                DeltaDiscoveryRequest(type_url=TYPE, resource_names_unsubscribe=names),
                DeltaDiscoveryRequest(type_url=TYPE, initial_resource_versions={"ns/a": "1"}),
            ]
    return [request.SerializeToString() for request in requests]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Bits turned, pieces cut out, doubled or put in."""
    found = bytearray(data)
    for _ in range(chance.randrange(4)):
        where = chance.randrange(len(found) + 1)
        match chance.randrange(4):
            case 0 if where < len(found):
                found[where] ^= 1 << chance.randrange(8)
            case 1:
                del found[where : where + chance.randrange(8)]
            case 2:
                found[where:where] = found[where : where + chance.randrange(16)]
            case _:
                found[where:where] = chance.randbytes(chance.randrange(4))
    return bytes(found)


@pytest.mark.parametrize("dialect", [mcp_source(("*",)), ads(), delta_ads()], ids=lambda one: one.protocol)
def test_whatever_a_peer_says_is_answered_or_refused(dialect: Dialect[Any]) -> None:
    """No other error, and no memory but for what a peer within the limits may have."""
    chance = random.Random(SEED)
    view, present = View(), ""
    view.apply(changes({f"ns/{letter}": "1" for letter in "abc"}))
    session = dialect.session()
    refusals = 0
    for number in range(REQUESTS // 3):
        data = mutated(chance.choice(sound_requests(dialect.protocol, present)), chance)
        try:
            received = session.receive(dialect.parse(data))
            if received is not None:
                view.watch(received.watch.collection)
            for watch in session.watches.due(view.version):
                message = watch.message(view, dialect.message_format)
                present = watch.pending or present
                assert message is None or len(message) < 10_000
        except (GatewayError, DecodeError):
            refusals += 1
            session = dialect.session()
        assert len(session.watches) <= MAX_WATCHES
        if number % 7 == 0:
            view.apply(changes({f"ns/{chance.choice('abcd')}": chance.choice(["1", "2", None])}))
        if number % 1000 == 0:
            assert view.messages.size < 10_000 * MAX_FORMS
    assert 0 < refusals < REQUESTS / 3, f"seed {SEED}"
