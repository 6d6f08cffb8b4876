"""What a view shows: which namespaces, collections and datacenters, under which names; and to whom."""

from __future__ import annotations

from itertools import permutations
from typing import NoReturn

import pytest
from pydantic import ValidationError

from mcp_gateway.resources import EncodedResource, Shape, store_resource
from mcp_gateway.sessions.mcp_source import McpFormat, McpSourceSession
from mcp_gateway.settings import GatewaySettings
from mcp_gateway.store import AppliedChanges
from mcp_gateway.views.messages import MAX_FORMS, Messages
from mcp_gateway.views.rules import Rule, Rules
from mcp_gateway.views.synthetic import ENDPOINTS_VERSION, SERVICE_VERSION, SYNTHETIC_ENTRIES, synthetic
from mcp_gateway.views.view import Selection, View
from mcp_gateway.views.views import Views
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resources
from tests.harness.resources import SERVICE_ENTRIES, changes, record

EAST, WEST = b"\x32\x03\x0a\x01e", b"\x32\x03\x0a\x01w"  # an endpoint each: field 6, address "e" or "w"


def push(view: View, collection: str = SERVICE_ENTRIES, basis: str | None = None) -> Resources:
    """The push that a stream of that view gets."""
    return Resources.FromString(view.message(collection, McpFormat(), collection, basis))


class Unwalked(dict[str, EncodedResource]):
    """Resources that may be looked up, and not walked through."""

    def keys(self) -> NoReturn:
        raise AssertionError("all resources are walked through for a difference of a few")

    __iter__ = items = values = keys  # type: ignore[assignment]


def names(view: View) -> list[str]:
    """The names that it shows."""
    return [one.metadata.name for one in push(view).resources]


def two_datacenters() -> AppliedChanges:
    """A service in two datacenters, one in each alone, and a resource that is in none."""
    views = {"both": {"east": EAST, "west": WEST}, "e": {"east": EAST}, "w": {"west": WEST}, "stated": {}}
    shapes = (Shape(), Shape(datacenters=("east",)))
    return AppliedChanges(
        "ns",
        {
            (SERVICE_ENTRIES, f"ns/{name}"): store_resource(record(f"ns/{name}", "1", parts=parts), shapes)
            for name, parts in views.items()
        },
        1,
    )


def test_a_view_shows_its_namespaces_and_collections() -> None:
    """By patterns; what it does not show is empty, and answered."""
    view = View(selection=Selection(namespaces=("prod-*",)))
    assert view.apply(changes({"a/1": "1"}, namespace="test")) == set()
    assert view.apply(changes({"b/1": "1"}, namespace="prod-eu")) == {SERVICE_ENTRIES}
    assert names(view) == ["b/1"]
    other = View(selection=Selection(collections=("istio/security/*",)))
    assert other.apply(changes({"b/1": "1"})) == set()
    assert names(other) == []


def test_a_view_without_a_datacenter_joins_the_parts_of_the_others() -> None:
    """Services that are only there are not shown; what is in no datacenter is; versions are of what is shown."""
    views = Views({"all": Selection(), "east": Selection(shape=Shape(datacenters=("east",)))})
    views.apply(two_datacenters())
    everything, east = (publisher.view for publisher in views.publishers.values())
    assert names(everything) == ["ns/both", "ns/e", "ns/stated", "ns/w"]
    assert names(east) == ["ns/both", "ns/e", "ns/stated"]
    bodies = {one.metadata.name: one.body.value for one in push(east).resources}
    assert (EAST in bodies["ns/both"], WEST in bodies["ns/both"]) == (True, False)
    whole = {one.metadata.name: one.metadata.version for one in push(everything).resources}
    part = {one.metadata.name: one.metadata.version for one in push(east).resources}
    assert part["ns/both"] != whole["ns/both"]
    assert part["ns/e"] == whole["ns/e"] == "1"


def test_a_view_may_leave_entries_without_endpoints_out() -> None:
    """Those made of services, in the datacenters that it shows; what a config item states is as it is stated."""
    shapes = (Shape(omits_empty=True), Shape(omits_empty=True, datacenters=("east",)))
    views = {"both": {"east": b"", "west": WEST}, "none": {"east": b"", "west": b""}, "stated": {}}
    found = {
        name: store_resource(record(f"ns/{name}", "1", parts=parts), shapes).shapes
        for name, parts in views.items()
    }
    assert {name: [one is not None for one in shown] for name, shown in found.items()} == {
        "both": [True, False],
        "none": [False, False],
        "stated": [True, True],
    }


def test_views_share_what_is_equal() -> None:
    """Resources that come out equal are one object; endpoints are shared, and so are messages of equal content."""
    stored = next(iter(two_datacenters().resources.values()))
    assert stored is not None
    whole, east = stored.shapes
    assert whole is not None
    assert east is not None
    assert any(piece is other for piece in whole.pieces for other in east.pieces if piece == EAST)
    views = Views({"a": Selection(), "b": Selection(namespaces=("n*",))})
    views.apply(changes({"ns/x": "1"}))
    messages = [
        publisher.view.message(SERVICE_ENTRIES, McpFormat(), SERVICE_ENTRIES)
        for publisher in views.publishers.values()
    ]
    assert messages[0] is messages[1]


def test_a_view_may_show_resources_in_another_namespace() -> None:
    """Of the mesh; their versions stay, their names don't."""
    shape = Shape(istio_namespace="mesh")
    views = Views({"renamed": Selection(shape=shape)})
    view = views.publishers["renamed"].view
    stored = {(SERVICE_ENTRIES, "ns/a"): store_resource(record("ns/a", "1"), views.shapes)}
    views.apply(AppliedChanges("ns", stored, 1))
    assert names(view) == ["mesh/a"]
    views.apply(AppliedChanges("ns", {(SERVICE_ENTRIES, "ns/a"): None}, 1))
    assert names(view) == []


@pytest.mark.parametrize("order", list(permutations(["a", "b", "c"])))
def test_of_several_namespaces_with_one_name_the_first_is_shown(order: tuple[str, ...]) -> None:
    """In whatever order they came; the next one follows when it goes."""
    view = View()
    for namespace in order:
        view.apply(changes({"x/y": f"of-{namespace}"}, namespace=namespace))
    shown = []
    for namespace in ("a", "b", "c"):
        shown += [one.metadata.version for one in push(view).resources]
        assert len(view.collections[SERVICE_ENTRIES].rivals.get("x/y", {})) in {0, 2, 3}
        view.apply(changes({"x/y": None}, namespace=namespace))
    assert shown == ["of-a", "of-b", "of-c"]
    assert view.version(SERVICE_ENTRIES) == View().version(SERVICE_ENTRIES)


def test_kept_messages_have_a_limit() -> None:
    """A peer that makes up names of collections, or versions, does not fill the memory."""
    view = View()
    view.apply(changes({"ns/a": "1"}))
    for number in range(3 * MAX_FORMS):
        view.message(SERVICE_ENTRIES, McpFormat(), f"made-up-{number}")
        view.message(f"istio/made-up-{number}", McpFormat(), f"istio/made-up-{number}")
    size = view.messages.size
    assert size < MAX_FORMS * 200
    view.apply(changes({"ns/a": "2"}))
    assert view.messages.size == 0, "messages go with the content that they are of"


def test_kept_messages_have_a_limit_of_bytes() -> None:
    """Of all contents together; the first ones go, the last one stays even if it is larger than the limit."""
    messages = Messages(max_bytes=100)
    contents = [("c", str(number)) for number in range(5)]
    for content in contents:
        messages.hold(content)
        for form in range(3):
            messages.keep(content, (McpFormat, str(form), None), b"x" * 20)
            assert messages.size <= 100
    kept = [messages.get(content, (McpFormat, str(form), None)) for content in contents for form in range(3)]
    assert [one is not None for one in kept] == [False] * 10 + [True] * 5
    form = (McpFormat, "0", None)
    messages.keep(contents[4], form, b"y" * 30)
    assert messages.size == 90, "the one that it replaces does not count"
    messages.keep(contents[4], form, b"z" * 300)
    assert messages.size == 300
    messages.keep(contents[0], form, b"x")
    assert messages.size == 1
    for content in contents:
        messages.release(content)
    assert messages.size == 0


def test_messages_of_content_that_nobody_has_are_not_kept() -> None:
    """They are encoded anew."""
    messages = Messages()
    form = (McpFormat, "x", None)
    assert messages.keep(("c", "v"), form, b"1") == b"1"
    assert messages.get(("c", "v"), form) is None


RULES = Rules(
    rules=(
        Rule(view="by-node", node={"CLUSTER_ID": "eu-*"}),
        Rule(view="both", identities=("spiffe://mesh/pilot",), node={"id": "canary"}),
        Rule(view="by-identity", identities=("spiffe://mesh/*", "*.example")),
    ),
    default="rest",
)


@pytest.mark.parametrize(
    ("identities", "facts", "view"),
    [
        (["spiffe://mesh/pilot"], {"id": "canary"}, "both"),
        (["spiffe://mesh/pilot"], {"id": "x"}, "by-identity"),
        (["spiffe://mesh/pilot"], {"CLUSTER_ID": "eu-1"}, "by-identity"),
        (["other", "pilot.example"], {}, "by-identity"),
        (["spiffe://other/pilot"], {"CLUSTER_ID": "eu-1"}, "by-node"),
        ([], {"CLUSTER_ID": "us-1"}, "rest"),
        ([], {}, "rest"),
    ],
)
def test_what_is_proven_goes_before_what_is_said(identities: list[str], facts: dict[str, str], view: str) -> None:
    """Identity, then node, then the default."""
    assert RULES.view_of(identities, facts) == view


def test_without_a_default_strangers_have_no_view() -> None:
    """They are refused."""
    assert Views(rules=Rules(default="")).choose(["somebody"], {}) is None


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"view_rules": [{"view": "nowhere", "node": {"id": "x"}}]}, "no such view: nowhere"),
        ({"default_view": "nowhere"}, "no such view: nowhere"),
        ({"view_rules": [{"view": "default"}]}, "default_view"),
        ({"view_rules": [{"view": "default", "identities": ["a"]}]}, "tls.client_ca"),
    ],
)
def test_rules_that_can_not_work_are_faults_of_the_settings(settings: dict[str, object], fault: str) -> None:
    """They say what is wrong."""
    with pytest.raises(ValidationError, match=fault):
        GatewaySettings.model_validate(settings)


def synthetic_view(parts: bytes = EAST) -> View:
    """A view with a service that is followed as a synthetic entry."""
    view = View()
    view.watch(SYNTHETIC_ENTRIES)
    for name in ("a", "b"):
        put(view, name, parts)
    return view


def put(view: View, name: str, parts: bytes | None) -> None:
    """A service with these endpoints, or no longer."""
    stored = (
        None
        if parts is None
        else store_resource(record(f"ns/{name}", parts.hex(), parts={"east": parts}), view_shapes())
    )
    view.apply(AppliedChanges("ns", {(SERVICE_ENTRIES, f"ns/{name}"): stored}, 1))


def view_shapes() -> tuple[Shape, ...]:
    """The plain one."""
    return (Shape(),)


def test_synthetic_entries_are_made_of_service_entries() -> None:
    """From when they are first asked for; a change of endpoints changes only the version of these."""
    before, late = synthetic_view(), View()
    for name in ("a", "b"):
        put(late, name, EAST)
    late.watch(SYNTHETIC_ENTRIES)
    assert before.version(SYNTHETIC_ENTRIES) == late.version(SYNTHETIC_ENTRIES)
    (first, _) = push(before, SYNTHETIC_ENTRIES).resources
    put(before, "a", EAST + WEST)
    (second, _) = push(before, SYNTHETIC_ENTRIES).resources
    assert first.body.value != second.body.value
    assert first.metadata.annotations[SERVICE_VERSION] == second.metadata.annotations[SERVICE_VERSION]
    assert first.metadata.annotations[ENDPOINTS_VERSION] != second.metadata.annotations[ENDPOINTS_VERSION]
    assert dict(push(before).resources[0].metadata.annotations) == {}


def shown(view: View, collection: str) -> list[str]:
    """The names in a collection of the view."""
    return [one.metadata.name for one in push(view, collection).resources]


@pytest.mark.parametrize("is_late", [False, True])
def test_a_registrys_view_has_each_service_once(is_late: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Services are synthetic entries only, config items' entries ordinary ones only, whenever it is asked."""
    view = View(selection=Selection(is_registry=True))
    if not is_late:
        view.watch(SYNTHETIC_ENTRIES)
    for name in ("a", "b"):
        put(view, name, EAST)
    view.apply(changes({"ns/stated": "1"}))
    view.watch(SYNTHETIC_ENTRIES)
    assert shown(view, SYNTHETIC_ENTRIES) == ["ns/a", "ns/b"]
    assert shown(view, SERVICE_ENTRIES) == ["ns/stated"]
    put(view, "a", None)
    view.apply(changes({"ns/b": "2"}))
    assert shown(view, SYNTHETIC_ENTRIES) == []
    assert shown(view, SERVICE_ENTRIES) == ["ns/b", "ns/stated"]


def test_a_registrys_view_says_which_collections_changed() -> None:
    """A change of a service is one of the synthetic collection alone."""
    view = View(selection=Selection(is_registry=True))
    view.watch(SYNTHETIC_ENTRIES)
    one = store_resource(record("ns/a", "1", parts={"east": EAST}), view_shapes())
    assert view.apply(AppliedChanges("ns", {(SERVICE_ENTRIES, "ns/a"): one}, 1)) == {SYNTHETIC_ENTRIES}
    assert view.apply(changes({"ns/stated": "1"})) == {SERVICE_ENTRIES}


def test_a_difference_of_synthetic_entries_that_only_removes_is_sent_as_everything() -> None:
    """Pilot 1.4 acknowledges and drops it otherwise; not when nothing is left: 1.5 ignores an empty push."""
    view, session = synthetic_view(), McpSourceSession()
    request = RequestResources(collection=SYNTHETIC_ENTRIES, incremental=True)
    session.receive(request)
    pushes = []
    for removed in (None, "a", "b"):
        if removed is not None:
            put(view, removed, None)
        for watch in session.watches.due(view.version):
            message = watch.message(view, McpFormat())
            assert message is not None
            pushes.append(Resources.FromString(message))
        request.response_nonce = pushes[-1].nonce
        session.receive(request)
    assert [(one.incremental, len(one.resources), list(one.removed_resources)) for one in pushes] == [
        (False, 2, []), (False, 1, []), (True, 0, ["ns/b"]),
    ]  # fmt: skip


def test_what_a_difference_costs_does_not_depend_on_how_many_resources_there_are() -> None:
    """Of a hundred thousand services the change of one is looked up; walking through all took 2 ms a message."""
    view = View()
    view.apply(changes({"a": "1", "b": "1", "c": "1"}))
    before = view.version(SERVICE_ENTRIES)
    known = view.collections[SERVICE_ENTRIES]
    known.resources = Unwalked(known.resources)
    view.apply(changes({"b": "2", "c": None}))
    found = push(view, basis=before)
    assert ([one.metadata.name for one in found.resources], found.removed_resources) == (["b"], ["c"])


def test_whether_a_push_is_large_is_known_before_it_is_made() -> None:
    """Of everything, and of the difference to a version; a forgotten one means everything."""
    view = View()
    view.apply(changes({f"x/{number}": "1" for number in range(100)}))
    whole, before = len(view.message(SERVICE_ENTRIES, McpFormat(), SERVICE_ENTRIES)), view.version(SERVICE_ENTRIES)
    view.apply(changes({f"x/{number}": "2" for number in range(30)} | {"x/99": None}))
    few = len(view.message(SERVICE_ENTRIES, McpFormat(), SERVICE_ENTRIES, before))
    for since, size in ((None, whole), ("forgotten", whole), (before, few)):
        assert view.known(SERVICE_ENTRIES).exceeds(size // 2, since)
        assert not view.known(SERVICE_ENTRIES).exceeds(size, since)
    assert not view.known(SERVICE_ENTRIES).exceeds(0, view.version(SERVICE_ENTRIES))
    assert not view.known("istio/networking/v1alpha3/gateways").exceeds(0, None)


def test_how_many_versions_a_peer_is_behind() -> None:
    """None where that is not known: it acknowledged nothing, or what is forgotten."""
    view = View()
    versions = []
    for number in range(3):
        view.apply(changes({"a": str(number)}))
        versions.append(view.version(SERVICE_ENTRIES))
    assert [view.known(SERVICE_ENTRIES).versions_behind(version) for version in versions] == [2, 1, 0]
    assert view.known(SERVICE_ENTRIES).versions_behind("x") is None
    assert view.known(SERVICE_ENTRIES).versions_behind(None) is None


def test_synthetic_entries_that_can_not_be_made_leave_nothing_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream that asked for them fails; the next one gets all of them, and not the first few."""
    view, made = View(), 0

    def failing(entry: EncodedResource) -> EncodedResource:
        nonlocal made
        made += 1
        if made == 3:
            raise ValueError(entry.name)
        return synthetic(entry)

    view.apply(changes({f"x/{number}": "1" for number in range(5)}))
    monkeypatch.setattr("mcp_gateway.views.view.synthetic", failing)
    with pytest.raises(ValueError, match="x/2"):
        view.watch(SYNTHETIC_ENTRIES)
    assert push(view, SYNTHETIC_ENTRIES).resources == []
    view.watch(SYNTHETIC_ENTRIES)
    assert len(push(view, SYNTHETIC_ENTRIES).resources) == 5
