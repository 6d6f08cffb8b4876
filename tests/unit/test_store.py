"""The store applies a namespace's changes at its manifest, whole, or not at all."""

from __future__ import annotations

from mcp_gateway.sessions.mcp_source import McpFormat
from mcp_gateway.store import (
    MISMATCH,
    NOT_IN_TOPIC,
    NOT_SHOWN,
    UNUSABLE_MANIFEST,
    AppliedChanges,
    SnapshotStore,
)
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
    assert store.faults == {"ns": MISMATCH}
    assert not store.unknown, "its last good snapshot is known"
    store.put_resource(key("lost"), stored("lost", "1"))
    assert store.put_manifest(ManifestKey("ns"), manifest({"a": "2", "lost": "1"})) is not None
    assert held(store) == {"a": "2", "lost": "1"}
    assert not store.faults


def test_a_partition_that_is_read_again_replaces_what_stood_as_one_change() -> None:
    """A tombstone that was missed: the resource goes, what is equal is not touched, and nothing shows before."""
    store = complete_store()
    store.put_resource(key("b"), stored("b", "1"))
    assert store.put_manifest(ManifestKey("ns"), manifest({"a": "1", "b": "1"}))
    assert store.put_manifest(ManifestKey("ns"), manifest({"a": "1"})) is None, "b's tombstone was missed"
    store.begin(0)
    store.put_resource(key("a"), stored("a", "1"))
    assert store.put_manifest(ManifestKey("ns"), manifest({"a": "1"})) is None
    assert held(store) == {"a": "1", "b": "1"}
    (changes,) = store.end_reached(0)
    assert changes.resources == {(ENTRIES, "b"): None}
    assert held(store) == {"a": "1"}
    assert not store.faults


def test_a_partition_that_does_not_match_when_read_again_leaves_the_last_good_snapshot() -> None:
    """The alarm stays; the next record that makes it whole is taken in without another reading."""
    store = complete_store()
    store.begin(0)
    store.put_resource(key("b"), stored("b", "1"))
    store.put_manifest(ManifestKey("ns"), manifest({"b": "1", "lost": "1"}))
    assert store.end_reached(0) == []
    assert held(store) == {"a": "1"}
    assert store.faults == {"ns": MISMATCH}
    store.put_resource(key("lost"), stored("lost", "1"))
    changes = store.put_manifest(ManifestKey("ns"), manifest({"b": "1", "lost": "1"}))
    assert changes is not None
    assert changes.resources.keys() == {(ENTRIES, "a"), (ENTRIES, "b"), (ENTRIES, "lost")}
    assert held(store) == {"b": "1", "lost": "1"}
    assert not store.faults


def test_a_topic_that_was_made_anew_leaves_the_last_good_snapshots() -> None:
    """Nothing of the namespace is there: an empty topic takes nothing from a mesh."""
    store = complete_store()
    store.begin(0)
    assert store.end_reached(0) == []
    assert held(store) == {"a": "1"}
    assert store.faults == {"ns": NOT_IN_TOPIC}
    store.put_resource(key("a"), stored("a", "2"))
    assert store.put_manifest(ManifestKey("ns"), manifest({"a": "2"})) is not None
    assert not store.faults


def test_a_manifest_that_cannot_be_used_is_a_fault_until_the_next_one() -> None:
    """Whether it is met while reading from the beginning, or later."""
    store = complete_store()
    store.spoil(ManifestKey("ns"))
    assert store.faults == {"ns": UNUSABLE_MANIFEST}
    assert store.put_manifest(ManifestKey("ns"), manifest({"a": "1"})) is not None
    assert not store.faults
    store.begin(0)
    store.put_resource(key("a"), stored("a", "1"))
    store.spoil(ManifestKey("ns"))
    assert store.end_reached(0) == []
    assert store.faults == {"ns": UNUSABLE_MANIFEST}


def test_a_namespace_that_never_matched_is_unknown_where_it_was_there_before_the_start() -> None:
    """Pilots may have it from another gateway; nobody can have one that does not match when it is new."""
    store = SnapshotStore(partitions=1)
    store.put_manifest(ManifestKey("bad"), manifest({"lost": "1"}, "bad"))
    store.put_manifest(ManifestKey("ns"), manifest({}))
    assert len(store.end_reached(0)) == 1
    assert store.unknown == {"bad"}
    assert "bad" in store.waiting_for
    store.put_manifest(ManifestKey("new"), manifest({"lost": "1"}, "new"))
    assert store.unknown == {"bad"}
    assert store.faults.keys() == {"bad", "new"}
    store.put_resource(key("lost", "bad"), stored("lost", "1"))
    assert store.put_manifest(ManifestKey("bad"), manifest({"lost": "1"}, "bad")) is not None
    assert not store.unknown


def test_a_cached_snapshot_stands_until_its_partition_is_read() -> None:
    """It is replaced as one change; what the topic does not have stays, with an alarm."""
    store = SnapshotStore(partitions=1)
    for name in ("ns", "gone"):
        assert store.hold(name, manifest({"a": "1"}, name), {(ENTRIES, "a"): stored("a", "1")}, 1.0) is not None
    store.put_resource(key("a"), stored("a", "1"))
    store.put_resource(key("b"), stored("b", "1"))
    store.put_manifest(ManifestKey("ns"), manifest({"a": "1", "b": "1"}))
    assert held(store) == {"a": "1"}
    (changes,) = store.end_reached(0)
    assert changes.resources.keys() == {(ENTRIES, "b")}
    assert store.namespaces["ns"].cached_at is None
    assert store.namespaces["gone"].cached_at == 1.0
    assert store.faults == {"gone": NOT_IN_TOPIC}
    assert store.hold("ns", manifest({}), {}, 1.0) is None, "what was read from Kafka is newer"


def test_a_cached_snapshot_that_cannot_be_used_is_unknown_until_the_topic_has_spoken() -> None:
    """It exists; where the topic has nothing of it, it is not waited for any more."""
    store = SnapshotStore(partitions=1)
    store.miss("ns", "its file is corrupt")
    store.miss("other", "its file is corrupt")
    assert store.unknown == {"ns", "other"}
    store.put_manifest(ManifestKey("ns"), manifest({}))
    store.end_reached(0)
    assert not store.unknown
    assert not store.faults


def test_changes_that_cannot_be_shown_are_taken_back() -> None:
    """What stood before stands again, and the namespace is at fault."""
    store = complete_store()
    store.put_resource(key("a"), stored("a", "2"))
    store.put_resource(key("b"), stored("b", "1"))
    changes = store.put_manifest(ManifestKey("ns"), manifest({"a": "2", "b": "1"}))
    assert changes is not None
    store.retract(changes)
    assert held(store) == {"a": "1"}
    assert store.faults == {"ns": NOT_SHOWN}
    assert store.put_manifest(ManifestKey("ns"), manifest({"a": "1"})) is not None


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


def test_a_namespace_without_resources_is_a_good_one() -> None:
    """An empty registry is published as a manifest of nothing."""
    store = SnapshotStore(partitions=1)
    store.put_manifest(ManifestKey("ns"), manifest({}))
    store.end_reached(0)
    assert store.waiting_for == ""
    assert store.has_snapshots


def whole(store: SnapshotStore) -> AppliedChanges:
    """Everything that it holds of the namespace, as one change."""
    return AppliedChanges("ns", dict(store.namespaces["ns"].resources), 1)


def test_two_views_of_one_content_have_equal_versions_and_bytes() -> None:
    """One was filled from a whole store, the other followed change by change, in another order."""
    at_once, following = View(), View()
    store = complete_store()
    following.apply(whole(store))
    for name, version in (("b", "1"), ("a", "2"), ("c", "1"), ("b", "2")):
        store.put_resource(key(name), stored(name, version))
        present = {**held(store), name: version}
        changes = store.put_manifest(ManifestKey("ns"), manifest(present))
        assert changes is not None
        assert following.apply(changes) == {ENTRIES}
        following.message(ENTRIES, McpFormat(), ENTRIES)
    at_once.apply(whole(store))
    assert at_once.version(ENTRIES) == following.version(ENTRIES)
    assert at_once.message(ENTRIES, McpFormat(), ENTRIES) == following.message(ENTRIES, McpFormat(), ENTRIES)


def test_a_message_is_encoded_once() -> None:
    """Every stream gets the same object until the collection changes."""
    view = View()
    view.apply(whole(complete_store()))
    assert view.message(ENTRIES, McpFormat(), ENTRIES) is view.message(ENTRIES, McpFormat(), ENTRIES)


def test_an_empty_collection_has_a_version_and_a_message() -> None:
    """Pilots wait for an answer to every collection."""
    view = View()
    assert view.version("istio/x") == "0" * 32
    assert view.message("istio/x", McpFormat(), "istio/x")
