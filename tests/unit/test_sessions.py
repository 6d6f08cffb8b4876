"""Each rule of the protocols, and each peculiarity of real Pilots, as a named step-by-step exchange."""

from __future__ import annotations

import pytest
from google.rpc.status_pb2 import Status

from mcp_gateway.errors import ProtocolError
from mcp_gateway.sessions.ads import AdsFormat, AdsSession
from mcp_gateway.sessions.known_types import API_VERSIONS, COLLECTIONS, collection_of
from mcp_gateway.sessions.mcp_source import McpFormat, McpSourceSession
from mcp_gateway.sessions.session import MAX_WATCHES
from mcp_gateway.sessions.watch import Answer
from mcp_gateway.views.change_ring import MAX_NAMES, MAX_STEPS, ChangeRing
from mcp_gateway.views.view import View
from schemas.protobuf.envoy_discovery.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resource, Resources
from tests.harness.resources import changes, encoded

ENTRIES = "istio/networking/v1alpha3/serviceentries"
GATEWAYS = "istio/networking/v1alpha3/gateways"
TYPE = "networking.istio.io/v1/ServiceEntry"


class Sink:
    """An MCP sink's exchange with a session: `version` is what the source has."""

    def __init__(self) -> None:
        self.session = McpSourceSession()
        self.version = "v1"

    def ask(self, nonce: str = "", collection: str = ENTRIES, error: int | None = None) -> Answer:
        request = RequestResources(collection=collection, response_nonce=nonce)
        if error is not None:
            request.error_detail.CopyFrom(Status(code=error, message="no"))
        return self.session.receive(request).answer

    def sent(self) -> list[tuple[str, str | None]]:
        return [(w.collection, w.pending) for w in self.session.watches.due(lambda _: self.version)]


def test_a_first_request_is_answered_at_once() -> None:
    """With the present version, whose nonce is itself."""
    sink = Sink()
    assert sink.ask() is Answer.INITIAL
    assert sink.sent() == [(ENTRIES, "v1")]


def test_every_collection_is_answered() -> None:
    """A Pilot becomes ready only when all it listed are."""
    sink = Sink()
    sink.ask()
    sink.ask(collection=GATEWAYS)
    sink.ask(collection="istio/rbac/v1alpha1/rbacconfigs")
    assert [name for name, _ in sink.sent()] == [ENTRIES, GATEWAYS, "istio/rbac/v1alpha1/rbacconfigs"]


def test_an_ack_is_followed_by_the_next_version_only() -> None:
    """ACK moves the acknowledged state: the same version is not sent again, the next one is."""
    sink = Sink()
    sink.ask()
    sink.sent()
    assert sink.ask("v1") is Answer.ACK
    assert sink.sent() == []
    sink.version = "v2"
    assert sink.sent() == [(ENTRIES, "v2")]


def test_one_message_is_in_flight_and_the_latest_wins() -> None:
    """What comes meanwhile is coalesced."""
    sink = Sink()
    sink.ask()
    sink.sent()
    for sink.version in ("v2", "v3", "v4"):
        assert sink.sent() == []
    sink.ask("v1")
    assert sink.sent() == [(ENTRIES, "v4")]


def test_a_nack_keeps_the_acknowledged_state_and_the_refused_version_is_not_sent_again() -> None:
    """The next version is."""
    sink = Sink()
    sink.ask()
    sink.sent()
    sink.ask("v1")
    sink.version = "v2"
    sink.sent()
    assert sink.ask("v2", error=3) is Answer.NACK
    (watch,) = sink.session.watches
    assert (watch.acknowledged, watch.refused) == ("v1", "v2")
    assert sink.sent() == []
    sink.version = "v3"
    assert sink.sent() == [(ENTRIES, "v3")]


def test_a_nack_without_a_code_is_a_nack() -> None:
    """An error detail with code 0 is still an error detail."""
    sink = Sink()
    sink.ask()
    sink.sent()
    assert sink.ask("v1", error=0) is Answer.NACK


@pytest.mark.parametrize("nonce", ["v0", "v2", "x"])
def test_a_stale_nonce_changes_nothing(nonce: str) -> None:
    """It is ignored, and the pending push stays pending."""
    sink = Sink()
    sink.ask()
    sink.sent()
    assert sink.ask(nonce) is Answer.STALE
    assert sink.ask("v1") is Answer.ACK
    assert sink.ask("v1") is Answer.STALE, "an ACK that comes twice"


def test_a_request_without_a_nonce_begins_anew() -> None:
    """A sink that starts over gets everything again."""
    sink = Sink()
    sink.ask()
    sink.sent()
    sink.ask("v1")
    assert sink.ask() is Answer.INITIAL
    assert sink.sent() == [(ENTRIES, "v1")]


def test_collections_are_apart() -> None:
    """A NACK of one does not touch another."""
    sink = Sink()
    sink.ask()
    sink.ask(collection=GATEWAYS)
    sink.sent()
    sink.ask("v1", error=3)
    sink.ask("v1", collection=GATEWAYS)
    assert [watch.acknowledged for watch in sink.session.watches] == [None, "v1"]


def test_a_collection_that_is_not_istios_ends_the_stream() -> None:
    """With an error that says which."""
    with pytest.raises(ProtocolError, match="nonsense"):
        Sink().ask(collection="nonsense")


def test_a_stream_has_a_limit_of_collections() -> None:
    """A peer can't make the gateway's memory grow."""
    sink = Sink()
    sink.session.also_answered = ("x/*",)
    names = [f"x/{number}" for number in range(MAX_WATCHES)]
    for name in names:
        sink.ask(collection=name)
    sink.ask(collection=names[0])
    with pytest.raises(ProtocolError, match="more than"):
        sink.ask()


def test_an_mcp_message_is_what_protobuf_would_write() -> None:
    """The joined bytes decode to version, collection, resources and nonce."""
    resources = [encoded(name * 300, "1") for name in ("a", "b")]  # lengths of two bytes
    before, after = McpFormat().envelope(ENTRIES, "v1", None)
    message = b"".join(
        (before, *(piece for one in resources for piece in (McpFormat().before(one), *one.pieces)), after)
    )
    expected = Resources(
        system_version_info="v1",
        collection=ENTRIES,
        resources=[Resource.FromString(b"".join(one.pieces)) for one in resources],
        nonce="v1",
    )
    assert message == expected.SerializeToString()


def changed(view: View, **versions: str | None) -> None:
    """Resources come, change or go."""
    view.apply(changes(versions))


def pushed(view: View, session: McpSourceSession) -> list[Resources]:
    """What the source sends now."""
    return [
        Resources.FromString(view.message(w.collection, McpFormat(), w.asked_as, w.basis))
        for w in session.watches.due(view.version)
    ]


def test_differences_are_sent_where_asked_for() -> None:
    """The first push is everything; after an acknowledgement that asks for it, what changed and what went."""
    view, session = View(), McpSourceSession()
    changed(view, a="1", b="1", c="1", d="1")
    session.receive(RequestResources(collection=ENTRIES, incremental=True))
    (first,) = pushed(view, session)
    assert (first.incremental, len(first.resources)) == (False, 4)
    session.receive(RequestResources(collection=ENTRIES, response_nonce=first.nonce, incremental=True))
    changed(view, a="2", b=None)
    (second,) = pushed(view, session)
    assert second.incremental
    assert [one.metadata.name[:1] for one in second.resources] == ["a"]
    assert list(second.removed_resources) == ["b"]
    changed(view, a="3")
    session.receive(RequestResources(collection=ENTRIES, response_nonce=second.nonce))
    (third,) = pushed(view, session)
    assert not third.incremental, "the latest request did not ask for it"


def test_a_refused_difference_is_followed_by_everything() -> None:
    """A NACK does not ask for differences; and it does not move what they are against."""
    view, session = View(), McpSourceSession()
    changed(view, a="1", b="1", c="1")
    session.receive(RequestResources(collection=ENTRIES, incremental=True))
    (first,) = pushed(view, session)
    session.receive(RequestResources(collection=ENTRIES, response_nonce=first.nonce, incremental=True))
    changed(view, a="2")
    (second,) = pushed(view, session)
    refusal = RequestResources(collection=ENTRIES, response_nonce=second.nonce)
    refusal.error_detail.CopyFrom(Status(code=3, message="no"))
    session.receive(refusal)
    assert pushed(view, session) == []
    changed(view, b="2")
    (third,) = pushed(view, session)
    assert (third.incremental, len(third.resources)) == (False, 3)


def test_a_sink_that_says_what_it_has_is_sent_the_rest() -> None:
    """After a reconnect, to whichever gateway: also what it must let go of."""
    view, session = View(), McpSourceSession()
    changed(view, a="1", b="2", c="1")
    request = RequestResources(collection=ENTRIES, incremental=True)
    request.initial_resource_versions.update({"a": "1", "b": "1", "gone": "1"})
    session.receive(request)
    (push,) = pushed(view, session)
    assert push.incremental
    assert [one.metadata.name[:1] for one in push.resources] == ["b", "c"]
    assert list(push.removed_resources) == ["gone"]


def test_a_collection_may_be_kept_from_differences() -> None:
    """By the settings, whatever is asked for."""
    view, session = View(), McpSourceSession(incremental=("istio/other/*",))
    changed(view, a="1", b="1")
    session.receive(RequestResources(collection=ENTRIES, incremental=True))
    (first,) = pushed(view, session)
    session.receive(RequestResources(collection=ENTRIES, response_nonce=first.nonce, incremental=True))
    changed(view, a="2")
    assert not pushed(view, session)[0].incremental


def test_differences_are_the_same_bytes_for_all_who_have_the_same() -> None:
    """Encoded once, however many streams."""
    view = View()
    changed(view, a="1", b="1", c="1")
    before = view.version(ENTRIES)
    changed(view, a="2")
    one = view.message(ENTRIES, McpFormat(), ENTRIES, before)
    assert view.message(ENTRIES, McpFormat(), ENTRIES, before) is one


def test_who_is_too_far_behind_is_sent_everything() -> None:
    """The ring of changes forgets; so does one whose version was never ours."""
    ring = ChangeRing()
    for number in range(MAX_STEPS + 10):
        ring.note(str(number), {f"r{number}"})
    assert ring.since("5") is None
    assert ring.since("nonsense") is None
    assert ring.since(str(MAX_STEPS + 8)) == {f"r{MAX_STEPS + 8}", f"r{MAX_STEPS + 9}"}
    ring.note("large", {f"r{number}" for number in range(MAX_NAMES + 1)})
    assert ring.since("large") is None


class Istiod:
    """An ADS client's exchange with a session."""

    def __init__(self) -> None:
        self.session = AdsSession()
        self.version = "v1"

    def ask(self, nonce: str = "", type_url: str = TYPE, error: int | None = None) -> Answer | None:
        request = DiscoveryRequest(type_url=type_url, response_nonce=nonce)
        if error is not None:
            request.error_detail.CopyFrom(Status(code=error, message="no"))
        received = self.session.receive(request)
        return None if received is None else received.answer

    def sent(self) -> list[str]:
        return [watch.asked_as for watch in self.session.watches.due(lambda _: self.version)]


def test_istiods_first_request_is_initial_whatever_its_nonce() -> None:
    """It carries a made-up one, a time stamp."""
    istiod = Istiod()
    assert istiod.ask("2026-11-23T12:00:00Z") is Answer.INITIAL
    assert istiod.sent() == [TYPE]
    assert istiod.ask("v1") is Answer.ACK


def test_mesh_config_is_never_answered() -> None:
    """An empty answer wedges istiod 1.9 to 1.11."""
    istiod = Istiod()
    assert istiod.ask("made-up", "core/v1alpha1/MeshConfig") is None
    assert istiod.sent() == []


@pytest.mark.parametrize(("group_and_kind", "collection"), COLLECTIONS.items())
def test_the_api_version_is_the_peers_choice(group_and_kind: str, collection: str) -> None:
    """istiod 1.12 to 1.31 ask for the same kinds under different versions."""
    group, kind = group_and_kind.split("/")
    for version in API_VERSIONS[group]:
        assert collection_of(f"{group}/{version}/{kind}") == collection


@pytest.mark.parametrize(
    "type_url", ["telemetry.istio.io/v1/Telemetry", "extensions.istio.io/v1alpha1/WasmPlugin"]
)
def test_a_type_without_resources_is_answered_empty(type_url: str) -> None:
    """From 1.16 an istiod whose types are not all answered is never ready."""
    istiod = Istiod()
    istiod.ask("made-up", type_url)
    assert istiod.sent() == [type_url]


@pytest.mark.parametrize(
    "type_url", ["", "x", "type.googleapis.com/envoy.config.cluster.v3.Cluster", "a//b", "a/b/c/d"]
)
def test_types_that_are_not_istios_configuration_end_the_stream(type_url: str) -> None:
    """An Envoy that strays here must not be told that it has no clusters."""
    with pytest.raises(ProtocolError):
        Istiod().ask(type_url=type_url)


def test_an_ads_message_is_what_protobuf_would_write() -> None:
    """The type URL is the one asked for; entries are MCP resources in an Any."""
    before, after = AdsFormat().envelope(TYPE, "v1", None)
    resource = encoded("a", "1")
    message = DiscoveryResponse.FromString(
        b"".join((before, AdsFormat().before(resource), *resource.pieces, after))
    )
    assert (message.version_info, message.nonce, message.type_url) == ("v1", "v1", TYPE)
    assert message.resources[0].type_url == "type.googleapis.com/istio.mcp.v1alpha1.Resource"
    assert Resource.FromString(message.resources[0].value).metadata.name == "a"


class Client:
    """An xDS client that names what it wants, and acknowledges each push."""

    def __init__(self) -> None:
        self.view = View()
        self.session = AdsSession()
        self.nonce = ""

    def ask(self, *names: str, nonce: str | None = None) -> Answer | None:
        request = DiscoveryRequest(type_url=TYPE, resource_names=names)
        request.response_nonce = self.nonce if nonce is None else nonce
        received = self.session.receive(request)
        return None if received is None else received.answer

    def pushed(self) -> list[list[str]]:
        """The names in each push that is due; not acknowledged yet."""
        found = []
        for watch in self.session.watches.due(self.view.version):
            message = watch.message(self.view, AdsFormat())
            if message is not None:
                response = DiscoveryResponse.FromString(message)
                self.nonce = response.nonce
                resources = [Resource.FromString(one.value) for one in response.resources]
                found.append([one.metadata.name[0] for one in resources])
        return found


def test_a_client_that_names_resources_gets_those() -> None:
    """And their changes only; names that do not exist are not there."""
    client = Client()
    changed(client.view, a="1", b="1", c="1")
    client.ask("a", "b", "x")
    assert client.pushed() == [["a", "b"]]
    client.ask("a", "b", "x")
    changed(client.view, c="2")
    assert client.pushed() == []
    changed(client.view, x="1")
    assert client.pushed() == [["a", "b", "x"]]
    client.ask("a", "b", "x")
    changed(client.view, b=None)
    assert client.pushed() == [["a", "x"]]


def test_another_list_is_answered_at_the_same_version() -> None:
    """Subscribing, unsubscribing and subscribing again: each list replaces the one before."""
    client = Client()
    changed(client.view, a="1", b="1")
    client.ask("a")
    assert client.pushed() == [["a"]]
    client.ask("a")
    assert client.pushed() == []
    client.ask("a", "b")
    assert client.pushed() == [["a", "b"]]
    client.ask("b")
    assert client.pushed() == [["b"]]
    client.ask("a", "b")
    assert client.pushed() == [["a", "b"]]


def test_no_names_after_names_is_nothing_any_more() -> None:
    """Once names were given, an empty list unsubscribes; all of them are to be had by the asterisk."""
    client = Client()
    changed(client.view, a="1", b="1")
    client.ask("a")
    assert client.pushed() == [["a"]]
    client.ask()
    changed(client.view, a="2")
    assert client.pushed() == []
    client.ask("*")
    assert client.pushed() == [["a", "b"]]
    changed(client.view, b="2")
    client.ask("*", nonce=client.nonce)
    assert client.pushed() == [["a", "b"]]


def test_the_list_of_a_stale_request_does_not_count() -> None:
    """It comes again with the answer to the push that is on its way."""
    client = Client()
    changed(client.view, a="1", b="1")
    client.ask("a")
    assert client.pushed() == [["a"]]
    assert client.ask("b", nonce="old") is Answer.STALE
    assert client.pushed() == []
    assert client.ask("b") is Answer.ACK
    assert client.pushed() == [["b"]]


def test_too_many_names_end_the_stream() -> None:
    """Who wants more than so many wants all."""
    with pytest.raises(ProtocolError, match="ask for all of them"):
        Client().ask(*(str(number) for number in range(10_001)))
