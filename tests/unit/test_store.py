"""The store applies a namespace's changes at its manifest, whole, or not at all."""

from __future__ import annotations

from mcp_gateway.sessions.mcp_source import McpFormat
from mcp_gateway.store import SnapshotStore
from mcp_gateway.views.view import View
from schemas.digests import format_snapshot_digest, resource_digest
from schemas.records import Manifest
from schemas.topics import ManifestKey, ResourceKey
from tests.harness.resources import stored

ENTRIES = "istio/networking/v1alpha3/serviceentries"


def manifest(contents: dict[str, str], namespace: str = "ns") -> Manifest:
    """The manifest of these resources and versions."""
    total = sum(resource_digest(ENTRIES, name, version) for name, version in contents.items())
    return Manifest(
        namespace=namespace, version={"t": 1}, digest=format_snapshot_digest(total), resources=len(contents),
        added=0, changed=0, removed=0, changes=(), reason="test", converter="1", observed_at=1, links={},
    )  # fmt: skip


def key(name: str, namespace: str = "ns") -> ResourceKey:
    """The key of a service entry."""
    return ResourceKey(namespace, ENTRIES, name)


def complete_store() -> SnapshotStore:
    """A store that has read a namespace with one resource."""
    store = SnapshotStore(partitions=1)
    store.put_resource(key("a"), stored("a", "1"))
    store.put_manifest(ManifestKey("ns"), manifest({"a": "1"}))
    store.end_reached(0)
    return store


def held(store: SnapshotStore) -> dict[str, str]:
    """What it serves: names and versions."""
    resources = store.namespaces["ns"].resources.items()
    return {name: next(one.version for one in found.shapes if one is not None) for (_, name), found in resources}


def test_records_take_effect_at_their_manifest() -> None:
    """Until it comes, the former snapshot stands."""
    store = complete_store()
    store.put_resource(key("a"), stored("a", "2"))
    store.put_resource(key("b"), stored("b", "1"))
    assert held(store) == {"a": "1"}
    store.put_manifest(ManifestKey("ns"), manifest({"a": "2", "b": "1"}))
    assert held(store) == {"a": "2", "b": "1"}


def test_a_tombstone_removes() -> None:
    """At the manifest, too."""
    store = complete_store()
    store.put_resource(key("a"), None)
    store.put_manifest(ManifestKey("ns"), manifest({}))
    assert held(store) == {}


def test_a_manifest_that_does_not_match_leaves_the_last_good_snapshot() -> None:
    """A record that was lost on the way shows; the next manifest that matches mends it."""
    store = complete_store()
    store.put_resource(key("a"), stored("a", "2"))
    assert store.put_manifest(ManifestKey("ns"), manifest({"a": "2", "lost": "1"})) is None
    assert held(store) == {"a": "1"}
    assert "ns" in store.waiting_for
    store.put_resource(key("lost"), stored("lost", "1"))
    assert store.put_manifest(ManifestKey("ns"), manifest({"a": "2", "lost": "1"})) is not None
    assert held(store) == {"a": "2", "lost": "1"}
    assert store.waiting_for == ""


def test_while_a_compacted_topic_is_read_older_manifests_need_not_match() -> None:
    """Compaction took a record away that a newer one replaced: what counts is the end."""
    store = SnapshotStore(partitions=1)
    store.put_resource(key("b"), stored("b", "1"))
    store.put_manifest(ManifestKey("ns"), manifest({"a": "1", "b": "1"}))  # a's first record is gone
    store.put_resource(key("a"), stored("a", "2"))
    store.put_manifest(ManifestKey("ns"), manifest({"a": "2", "b": "1"}))
    store.end_reached(0)
    assert store.waiting_for == ""


def test_it_is_complete_only_when_every_partition_was_read_and_something_was_published() -> None:
    """An empty topic is more likely a mistake than an empty mesh."""
    store = SnapshotStore(partitions=2)
    assert "2 of 2" in store.waiting_for
    store.end_reached(0)
    store.end_reached(1)
    assert "nothing was published" in store.waiting_for
    store.put_resource(key("a"), stored("a", "1"))
    assert "ns" in store.waiting_for, "resources without a manifest are half a snapshot"
    store.put_manifest(ManifestKey("ns"), manifest({"a": "1"}))
    assert store.waiting_for == ""


def test_two_views_of_one_content_have_equal_versions_and_bytes() -> None:
    """One was filled from a whole store, the other followed change by change, in another order."""
    whole, following = View(), View()
    store = complete_store()
    following.fill(store)
    for name, version in (("b", "1"), ("a", "2"), ("c", "1"), ("b", "2")):
        store.put_resource(key(name), stored(name, version))
        present = {**held(store), name: version}
        changes = store.put_manifest(ManifestKey("ns"), manifest(present))
        assert changes is not None
        assert following.apply(changes) == {ENTRIES}
        following.message(ENTRIES, McpFormat(), ENTRIES)
    whole.fill(store)
    assert whole.version(ENTRIES) == following.version(ENTRIES)
    assert whole.message(ENTRIES, McpFormat(), ENTRIES) == following.message(ENTRIES, McpFormat(), ENTRIES)


def test_a_message_is_encoded_once() -> None:
    """Every stream gets the same object until the collection changes."""
    view = View()
    view.fill(complete_store())
    assert view.message(ENTRIES, McpFormat(), ENTRIES) is view.message(ENTRIES, McpFormat(), ENTRIES)


def test_an_empty_collection_has_a_version_and_a_message() -> None:
    """Pilots wait for an answer to every collection."""
    view = View()
    assert view.version("istio/x") == "0" * 32
    assert view.message("istio/x", McpFormat(), "istio/x")
