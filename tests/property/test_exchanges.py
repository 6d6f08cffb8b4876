"""Random exchanges of a source and a sink: what it does within the protocol, it ends with the snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.rpc.status_pb2 import Status
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mcp_gateway.resources import EncodedResource
from mcp_gateway.sessions.mcp_source import McpFormat, McpSourceSession
from mcp_gateway.store import AppliedChanges
from mcp_gateway.view import View
from schemas.digests import resource_digest
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resource, Resources

if TYPE_CHECKING:
    from mcp_gateway.sessions.session import Received

ENTRIES = "istio/networking/v1alpha3/serviceentries"
NAMES = st.sampled_from([f"ns/{letter}" for letter in "abcdefgh"])


def resource(name: str, version: str) -> EncodedResource:
    """A resource of that content."""
    encoded = Resource()
    encoded.metadata.name = name
    encoded.metadata.version = version
    return EncodedResource(version, resource_digest(ENTRIES, name, version), encoded.SerializeToString())


class McpExchange(RuleBasedStateMachine):
    """One sink and the source; the sink applies what it acknowledges, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.view = View()
        self.snapshot: dict[str, str] = {}
        self.sink: dict[str, str] = {}
        self.incremental = False
        self.in_flight: Resources | None = None
        self.connect(remembers=False, incremental=False)

    @rule(changes=st.dictionaries(NAMES, st.one_of(st.none(), st.sampled_from(["1", "2", "3"])), min_size=1))
    def change(self, changes: dict[str, str | None]) -> None:
        """The snapshot changes: resources come, change and go together."""
        for name, version in changes.items():
            self.snapshot.pop(name, None)
            if version is not None:
                self.snapshot[name] = version
        found = {
            (ENTRIES, name): None if version is None else resource(name, version)
            for name, version in changes.items()
        }
        self.view.apply(AppliedChanges("ns", found, {}, 1))
        self.push()

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
            message = self.view.message(watch.collection, McpFormat(), watch.asked_as, watch.take_basis())
            self.in_flight = Resources.FromString(message)
            assert self.in_flight.nonce == self.view.version(ENTRIES)
            assert self.incremental or not self.in_flight.incremental, "differences that nobody asked for"

    @invariant()
    def a_settled_sink_has_the_snapshot(self) -> None:
        """With nothing in flight and nothing refused, what it has is what there is."""
        (watch,) = self.session.watches
        if self.in_flight is None and watch.refused is None:
            assert self.sink == self.snapshot


TestMcpExchange = McpExchange.TestCase
TestMcpExchange.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
