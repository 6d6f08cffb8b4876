"""Random exchanges of a source and a sink: what it does within the protocol, it ends with the snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.rpc.status_pb2 import Status
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mcp_gateway.errors import FellBehindError
from mcp_gateway.sessions.ads import AdsFormat, AdsSession
from mcp_gateway.sessions.delta_ads import DeltaAdsFormat, DeltaAdsSession
from mcp_gateway.sessions.mcp_source import McpFormat, McpSourceSession
from mcp_gateway.views.view import View
from schemas.protobuf.envoy_discovery.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resource, Resources
from tests.harness.resources import changes as applied

if TYPE_CHECKING:
    from mcp_gateway.sessions.session import Received

ENTRIES = "istio/networking/v1alpha3/serviceentries"
TYPE = "networking.istio.io/v1/ServiceEntry"
NAMES = st.sampled_from([f"ns/{letter}" for letter in "abcdefgh"])


class Exchange(RuleBasedStateMachine):
    """A snapshot that changes, of which a peer is told."""

    def __init__(self) -> None:
        super().__init__()
        self.view = View()
        self.snapshot: dict[str, str] = {}

    @rule(changes=st.dictionaries(NAMES, st.one_of(st.none(), st.sampled_from(["1", "2", "3"])), min_size=1))
    def change(self, changes: dict[str, str | None]) -> None:
        """The snapshot changes: resources come, change and go together."""
        for name, version in changes.items():
            self.snapshot.pop(name, None)
            if version is not None:
                self.snapshot[name] = version
        self.view.apply(applied(changes))
        self.push()

    def push(self) -> None:
        """What the source sends, if anything."""
        raise NotImplementedError


class McpExchange(Exchange):
    """One sink and the source; the sink applies what it acknowledges, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.sink: dict[str, str] = {}
        self.incremental = False
        self.in_flight: Resources | None = None
        self.connect(remembers=False, incremental=False)

    @rule(remembers=st.booleans(), incremental=st.booleans())
    def connect(self, *, remembers: bool, incremental: bool) -> None:
        """A new stream, perhaps to another gateway; a sink of differences may say what it still has."""
        self.session = McpSourceSession()
        self.in_flight = None
        self.incremental = incremental
        request = RequestResources(collection=ENTRIES, incremental=incremental)
        if remembers and incremental:
            request.initial_resource_versions.update(self.sink)
        self.send(request)

    @rule(nonce=st.sampled_from(["x", "0" * 32]))
    def speak_out_of_turn(self, nonce: str) -> None:
        """A nonce that is not pending changes nothing."""
        if self.in_flight is None or self.in_flight.nonce != nonce:
            self.send(RequestResources(collection=ENTRIES, response_nonce=nonce))

    @precondition(lambda self: self.in_flight is not None)
    @rule(incremental=st.booleans())
    def acknowledge(self, *, incremental: bool) -> None:
        """The sink applies the push, and says whether it wants differences from now on."""
        push = self.in_flight
        assert push is not None
        if not push.incremental:
            self.sink = {}
        for one in push.resources:
            self.sink[one.metadata.name] = one.metadata.version
        for name in push.removed_resources:
            self.sink.pop(name, None)
        self.in_flight = None
        self.incremental = incremental
        self.send(RequestResources(collection=ENTRIES, response_nonce=push.nonce, incremental=incremental))

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def refuse(self) -> None:
        """The sink keeps what it had; a refusal does not ask for differences."""
        push = self.in_flight
        assert push is not None
        self.in_flight = None
        self.incremental = False
        request = RequestResources(collection=ENTRIES, response_nonce=push.nonce)
        request.error_detail.CopyFrom(Status(code=3, message="no"))
        self.refused = push.nonce
        self.send(request)

    def send(self, request: RequestResources) -> Received:
        """A request goes to the source, which may answer."""
        received = self.session.receive(request)
        self.push()
        return received

    def push(self) -> None:
        """What the source sends, if anything."""
        for watch in self.session.watches.due(self.view.version):
            assert self.in_flight is None, "two messages in flight"
            message = self.view.message(watch.collection, McpFormat(), watch.asked_as, watch.basis)
            self.in_flight = Resources.FromString(message)
            assert self.in_flight.nonce == self.view.version(ENTRIES)
            assert self.incremental or not self.in_flight.incremental, "differences that nobody asked for"

    @invariant()
    def a_settled_sink_has_the_snapshot(self) -> None:
        """With nothing in flight and nothing refused, what it has is what there is."""
        (watch,) = self.session.watches
        if self.in_flight is None and watch.refused is None:
            assert self.sink == self.snapshot


class DeltaExchange(Exchange):
    """One client of Delta ADS and the source; the client applies what it acknowledges, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.client: dict[str, str] = {}
        self.in_flight: DeltaDiscoveryResponse | None = None
        self.connect(remembers=False, names=set())

    @rule(remembers=st.booleans(), names=st.sets(NAMES, max_size=3))
    def connect(self, *, remembers: bool, names: set[str]) -> None:
        """A new stream, for everything or for some names."""
        self.session = DeltaAdsSession()
        self.in_flight = None
        self.wildcard, self.names = not names, set(names)
        if not remembers:
            self.client = {}
        if names:
            self.client = {name: version for name, version in self.client.items() if name in names}
        request = DeltaDiscoveryRequest(type_url=TYPE, resource_names_subscribe=sorted(names))
        request.initial_resource_versions.update(self.client)
        self.send(request)

    @rule(names=st.sets(st.one_of(NAMES, st.just("*")), min_size=1, max_size=3))
    def subscribe(self, names: set[str]) -> None:
        """At any time."""
        self.wildcard = self.wildcard or "*" in names
        self.names |= names - {"*"}
        self.send(DeltaDiscoveryRequest(type_url=TYPE, resource_names_subscribe=sorted(names)))

    @rule(names=st.sets(st.one_of(NAMES, st.just("*")), min_size=1, max_size=3))
    def unsubscribe(self, names: set[str]) -> None:
        """The client lets go of what it no longer subscribes to; the source says nothing of it."""
        self.wildcard = self.wildcard and "*" not in names
        self.names -= names
        if not self.wildcard:
            self.client = {name: version for name, version in self.client.items() if name in self.names}
        self.send(DeltaDiscoveryRequest(type_url=TYPE, resource_names_unsubscribe=sorted(names)))

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def acknowledge(self) -> None:
        """The client applies the push."""
        push = self.in_flight
        assert push is not None
        for one in push.resources:
            assert one.version == Resource.FromString(one.resource.value).metadata.version
            if self.wildcard or one.name in self.names:
                self.client[one.name] = one.version
        for name in push.removed_resources:
            self.client.pop(name, None)
        self.in_flight = None
        self.send(DeltaDiscoveryRequest(type_url=TYPE, response_nonce=push.nonce))

    def send(self, request: DeltaDiscoveryRequest) -> None:
        """A request goes to the source, which may answer, or want another stream."""
        try:
            self.session.receive(request)
        except FellBehindError:
            self.connect(remembers=True, names=set())
        self.push()

    def push(self) -> None:
        """What the source sends, if anything."""
        for watch in self.session.watches.due(self.view.version):
            message = watch.message(self.view, DeltaAdsFormat())
            if message is not None:
                assert self.in_flight is None, "two messages in flight"
                self.in_flight = DeltaDiscoveryResponse.FromString(message)

    @invariant()
    def a_settled_client_has_what_it_subscribes_to(self) -> None:
        """With nothing in flight."""
        if self.in_flight is not None:
            return
        wanted = self.snapshot.keys() if self.wildcard else self.names
        assert {name: version for name, version in self.client.items() if name in wanted or self.wildcard} == {
            name: version for name, version in self.snapshot.items() if name in wanted
        }


class AdsExchange(Exchange):
    """One client of ADS, state of the world, that may name what it wants; it applies what it acknowledges."""

    def __init__(self) -> None:
        super().__init__()
        self.client: dict[str, str] = {}
        self.in_flight: DiscoveryResponse | None = None
        self.connect(names=set(), nonce="2026-11-23T14:03:00Z")

    @rule(names=st.sets(NAMES, max_size=3), nonce=st.sampled_from(["", "made-up"]))
    def connect(self, *, names: set[str], nonce: str) -> None:
        """A new stream; its first request is initial whatever its nonce."""
        self.session = AdsSession()
        self.in_flight = None
        self.refused = False
        self.nonce = nonce
        self.names, self.named = names, bool(names)
        self.ask()

    @rule(names=st.sets(NAMES, max_size=3))
    def want(self, names: set[str]) -> None:
        """Another list; without names it wants everything, unless it named some before: then nothing."""
        if self.in_flight is None:
            self.names, self.named = names, self.named or bool(names)
            self.ask()

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def acknowledge(self) -> None:
        """The client applies the push: what is not in it is gone."""
        push = self.in_flight
        assert push is not None
        found = [Resource.FromString(one.value).metadata for one in push.resources]
        self.client = {one.name: one.version for one in found}
        self.in_flight, self.refused, self.nonce = None, False, push.nonce
        self.ask()

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def refuse(self) -> None:
        """The client keeps what it had."""
        push = self.in_flight
        assert push is not None
        self.in_flight, self.refused, self.nonce = None, True, push.nonce
        self.ask(Status(code=3, message="no"))

    def ask(self, error: Status | None = None) -> None:
        """A request goes to the source, which may answer."""
        request = DiscoveryRequest(type_url=TYPE, response_nonce=self.nonce, resource_names=sorted(self.names))
        if error is not None:
            request.error_detail.CopyFrom(error)
        self.session.receive(request)
        self.push()

    def push(self) -> None:
        """What the source sends, if anything."""
        for watch in self.session.watches.due(self.view.version):
            message = watch.message(self.view, AdsFormat())
            if message is not None:
                assert self.in_flight is None, "two messages in flight"
                self.in_flight = DiscoveryResponse.FromString(message)

    @invariant()
    def a_settled_client_has_what_it_asked_for(self) -> None:
        """With nothing in flight, nothing refused, and something wanted."""
        if self.in_flight is not None or self.refused or (self.named and not self.names):
            return
        wanted = self.names if self.named else self.snapshot.keys()
        assert self.client == {name: version for name, version in self.snapshot.items() if name in wanted}


TestAdsExchange = AdsExchange.TestCase
TestAdsExchange.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestMcpExchange = McpExchange.TestCase
TestMcpExchange.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestDeltaExchange = DeltaExchange.TestCase
TestDeltaExchange.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
