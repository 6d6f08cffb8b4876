"""The rules of Delta ADS, each as a named exchange: a table of steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from google.rpc.status_pb2 import Status

from mcp_gateway.errors import FellBehindError, ProtocolError
from mcp_gateway.sessions.delta_ads import DeltaAdsFormat, DeltaAdsSession
from mcp_gateway.sessions.session import MAX_NAMES
from mcp_gateway.views.change_ring import MAX_STEPS
from mcp_gateway.views.view import View
from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from tests.harness.resources import changes

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPE = "networking.istio.io/v1/ServiceEntry"


@dataclass(frozen=True)
class Change:
    """The snapshot changes: versions by name, None for one that goes."""

    versions: Mapping[str, str | None]


@dataclass(frozen=True)
class Ask:
    """The client subscribes, unsubscribes, or says what it has."""

    subscribe: str = ""
    unsubscribe: str = ""
    has: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ack:
    """The client takes the last push; or refuses it; or answers with a nonce that is not pending."""

    error: bool = False
    nonce: str = ""


@dataclass(frozen=True)
class Push:
    """What the source must send now: names of resources, and of those that are gone."""

    resources: str = ""
    removed: str = ""


NOTHING = None
"""The source must send nothing now."""

Step = Change | Ask | Ack | Push | None
AB: Step = Change({"a": "1", "b": "1"})

RULES: dict[str, list[Step]] = {
    "a first request without names is for everything": [AB, Ask(), Push("ab"), Ack(), NOTHING],
    "so is one that names the asterisk": [AB, Ask("*"), Push("ab")],
    "a type of which there is nothing is answered, empty": [Ask(), Push()],
    "what changes is sent, what goes is named as removed": [
        AB, Ask(), Push("ab"), Ack(), Change({"a": "2", "b": None}), Push("a", "b"),
    ],
    "one push is on its way, and the latest wins": [
        AB, Ask(), Push("ab"), Change({"a": "2"}), Change({"a": "3"}), NOTHING, Ack(), Push("a"), Ack(), NOTHING,
    ],
    "what came and went meanwhile is never sent": [
        AB, Ask(), Push("ab"), Change({"c": "1"}), Change({"c": None}), Ack(), NOTHING,
    ],
    "a stale nonce changes nothing": [AB, Ask(), Push("ab"), Ack(nonce="old"), NOTHING, Ack(), NOTHING],
    "a NACK keeps what was acknowledged, and the refused version is not sent again": [
        AB, Ask(), Push("ab"), Ack(), Change({"a": "2"}), Push("a"), Ack(error=True), NOTHING,
        Change({"b": "2"}), Push("ab"),
    ],
    "what a client has from before is not sent again": [AB, Ask(has={"a": "1", "b": "0"}), Push("b")],
    "what went while it was away is named as removed": [AB, Ask(has={"a": "1", "x": "1"}), Push("b", "x")],
    "a client that has it all is sent an empty push": [AB, Ask(has={"a": "1", "b": "1"}), Push()],
    "names are answered, those that do not exist as removed": [AB, Ask("ax"), Push("a", "x"), Ack(), NOTHING],
    "a named resource that a client has is not sent again": [AB, Ask("ab", has={"a": "1"}), Push("b")],
    "only what was named is followed": [
        AB, Ask("a"), Push("a"), Ack(), Change({"b": "2"}), NOTHING, Change({"a": "2"}), Push("a"),
    ],
    "more names may come at any time": [AB, Ask("a"), Push("a"), Ask("b"), NOTHING, Ack(), Push("b")],
    "a name subscribed to again is sent again": [AB, Ask("a"), Push("a"), Ack(), Ask("a"), Push("a")],
    "what is unsubscribed from is not followed, and nothing is said of it": [
        AB, Ask("ab"), Push("ab"), Ack(), Ask(unsubscribe="b"), NOTHING, Change({"b": "2"}), NOTHING,
    ],
    "unsubscribed and subscribed again, it is sent": [
        AB, Ask("a"), Push("a"), Ack(), Ask(unsubscribe="a"), Ask("a"), Push("a"),
    ],
    "a named resource that goes is named as removed, once": [
        AB, Ask("a"), Push("a"), Ack(), Change({"a": None}), Push("", "a"), Ack(), Change({"b": "2"}), NOTHING,
    ],
    "one that comes later is sent": [Ask("a"), Push("", "a"), Ack(), Change({"a": "1"}), Push("a")],
    "a refused named resource is sent with the next version": [
        AB, Ask("a"), Push("a"), Ack(error=True), NOTHING, Change({"b": "2"}), Push("a"),
    ],
    "names beside everything are answered at once": [AB, Ask(), Push("ab"), Ack(), Ask("a"), Push("a")],
    "everything after names is the rest": [AB, Ask("a"), Push("a"), Ack(), Ask("*"), Push("b"), Ack(), NOTHING],
    "without the asterisk the names are left": [
        AB, Ask("*"), Push("ab"), Ack(), Ask("a"), Push("a"), Ack(), Ask(unsubscribe="*"), Push("a"), Ack(),
        Change({"b": "2"}), NOTHING, Change({"a": "2"}), Push("a"),
    ],
    "what everything told of a name since is set right when it is left": [
        Ask("a"), Push("", "a"), Ack(), Ask("*"), Push(), Ack(), Change({"a": "1"}), Push("a"),
        Change({"a": None}), Ask(unsubscribe="*"), Ack(), Push("", "a"), Ack(), NOTHING,
    ],
}  # fmt: skip


class Exchange:
    """A client and the source; one push at a time."""

    def __init__(self) -> None:
        self.view = View()
        self.session = DeltaAdsSession()
        self.nonce = ""

    def take(self, step: Step) -> None:
        match step:
            case Change(versions=versions):
                self.view.apply(changes(versions))
            case Ask(subscribe=subscribe, unsubscribe=unsubscribe, has=has):
                request = DeltaDiscoveryRequest(type_url=TYPE)
                request.resource_names_subscribe.extend(subscribe)
                request.resource_names_unsubscribe.extend(unsubscribe)
                request.initial_resource_versions.update(has)
                self.session.receive(request)
            case Ack(error=error, nonce=nonce):
                request = DeltaDiscoveryRequest(type_url=TYPE, response_nonce=nonce or self.nonce)
                if error:
                    request.error_detail.CopyFrom(Status(code=3, message="no"))
                self.session.receive(request)
            case Push(resources=resources, removed=removed):
                (push,) = self.pushed()
                assert [one.name for one in push.resources] == list(resources)
                assert list(push.removed_resources) == list(removed)
                self.nonce = push.nonce
            case None:
                assert self.pushed() == []

    def pushed(self) -> list[DeltaDiscoveryResponse]:
        messages = [
            watch.message(self.view, DeltaAdsFormat()) for watch in self.session.watches.due(self.view.version)
        ]
        return [DeltaDiscoveryResponse.FromString(message) for message in messages if message is not None]


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_of_delta_ads(rule: str) -> None:
    """Step by step."""
    exchange = Exchange()
    for step in RULES[rule]:
        exchange.take(step)


def test_who_is_too_far_behind_has_to_connect_again() -> None:
    """What it has is forgotten, so it can't be told what to let go of; it says what it has when it comes back."""
    exchange = Exchange()
    for step in (AB, Ask(), Push("ab"), Ack()):
        exchange.take(step)
    for number in range(MAX_STEPS + 1):
        exchange.take(Change({"a": f"v{number}"}))
    with pytest.raises(FellBehindError, match="connect again"):
        exchange.pushed()


def test_everything_given_up_is_had_again_on_another_stream() -> None:
    """What the client kept of what was on its way can't be known."""
    exchange = Exchange()
    for step in (AB, Ask(), Push("ab"), Ack(), Ask(unsubscribe="*")):
        exchange.take(step)
    with pytest.raises(FellBehindError, match="connect again"):
        exchange.take(Ask("*"))


def test_too_many_names_end_the_stream() -> None:
    """Who wants more than so many wants all."""
    request = DeltaDiscoveryRequest(type_url=TYPE, resource_names_subscribe=map(str, range(MAX_NAMES + 1)))
    with pytest.raises(ProtocolError, match="subscribe to all of them"):
        DeltaAdsSession().receive(request)
