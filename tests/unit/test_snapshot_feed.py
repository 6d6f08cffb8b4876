"""The way from the topic to the views: whatever a record says costs that record."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from mcp_gateway import metrics, snapshot_feed
from mcp_gateway.errors import NotKnownYetError
from mcp_gateway.snapshot_feed import SnapshotFeed
from mcp_gateway.views.views import Views
from runtime.kafka_reader import RecordBatch
from schemas.avro_codec import codecs
from schemas.topics import QUARANTINE, SNAPSHOTS, ManifestKey
from tests.harness.resources import SERVICE_ENTRIES
from tests.harness.snapshot_topic import manifest_of, resource_key, resource_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_gateway.store import AppliedChanges

CODECS = codecs()


class Record:
    """A message of Kafka's client."""

    def __init__(self, offset: int, key: bytes, value: bytes | None) -> None:
        self._offset, self._key, self._value = offset, key, value

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def topic(self) -> str:
        return SNAPSHOTS

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


class Kept:
    """A writer that keeps what is set aside."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def write(self, topic: str, *, partition: int, key: bytes, value: bytes) -> bool:
        assert topic == QUARANTINE
        assert partition < 0
        self.reasons.append(CODECS.quarantined.decode(value).reason)
        return bool(key)


class World:
    """A feed with one partition; `read` delivers as the reader's thread does."""

    def __init__(self) -> None:
        self.views, self.kept = Views(), Kept()
        self.feed: SnapshotFeed | None = None
        self._offset = 0

    def run(self, story: Callable[[SnapshotFeed], None]) -> None:
        """Tells a story on a thread beside the event loop; raises what it raised."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            self.feed = SnapshotFeed(
                codecs=CODECS,
                views=self.views,
                partitions=1,
                quarantine=self.kept,
                loop=loop,  # type: ignore[arg-type]
            )
            await asyncio.to_thread(story, self.feed)

        asyncio.run(main())

    def read(self, *records: tuple[bytes, bytes | None], ends: bool = False, begins: bool = False) -> None:
        messages: list[Any] = []
        for key, value in records:
            messages.append(Record(self._offset, key, value))
            self._offset += 1
        assert self.feed is not None
        self.feed.deliver(
            RecordBatch(records=tuple(messages), ends_reached=(0,) if ends else (), begun=(0,) if begins else ())
        )

    def publish(self, namespace: str, versions: dict[str, str], *, ends: bool = False) -> None:
        records = [(resource_key(namespace, n), resource_value(namespace, n, v)) for n, v in versions.items()]
        self.read(*records, self.manifest(namespace, versions), ends=ends)

    def manifest(self, namespace: str, versions: dict[str, str]) -> tuple[bytes, bytes]:
        return ManifestKey(namespace).encode(), CODECS.manifest.encode(manifest_of(namespace, versions))

    def shown(self) -> dict[str, str]:
        known = self.views.publishers["default"].view.known(SERVICE_ENTRIES)
        return {name: resource.version for name, resource in known.resources.items()}


def broken_for(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Raises for a resource of that name what nobody foresaw."""

    def store_resource(record: Any, *arguments: Any, **named: Any) -> Any:
        if record.name == name:
            raise RecursionError("too deep")
        return original(record, *arguments, **named)

    return store_resource


def test_an_exception_costs_the_record_that_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set aside as an internal fault, counted, logged once with its trace; other namespaces go on."""
    monkeypatch.setattr(snapshot_feed, "store_resource", broken_for("ns/bad", snapshot_feed.store_resource))
    world = World()
    before = metrics.QUARANTINED.labels("internal_fault")._value.get()

    def story(feed: SnapshotFeed) -> None:
        world.publish("one", {"ns/a": "1"}, ends=True)
        world.publish("one", {"ns/a": "2", "ns/bad": "1"})
        world.publish("two", {"ns/b": "1"})
        assert world.shown() == {"ns/a": "1", "ns/b": "1"}
        assert feed.store.faults.keys() == {"one"}
        world.read(world.manifest("one", {"ns/a": "2"}))
        assert world.shown() == {"ns/a": "2", "ns/b": "1"}
        assert not feed.store.faults

    with capture_logs() as logs:
        world.run(story)
    assert world.kept.reasons == ["internal_fault"]
    assert metrics.QUARANTINED.labels("internal_fault")._value.get() == before + 1
    (line,) = [line for line in logs if line["event"] == "internal_fault"]
    assert isinstance(line["exc_info"], RecursionError)
    assert (line["topic"], line["offset"]) == (SNAPSHOTS, 3)


def test_a_record_is_set_aside_once_however_often_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that is read again gives the same record."""
    monkeypatch.setattr(snapshot_feed, "store_resource", broken_for("ns/bad", snapshot_feed.store_resource))
    world = World()

    def story(_: SnapshotFeed) -> None:
        world.read(ends=True)
        for _ in range(3):
            world._offset = 0
            world.read((resource_key("one", "ns/bad"), resource_value("one", "ns/bad", "1")), begins=True)

    world.run(story)
    assert world.kept.reasons == ["internal_fault"]


def test_a_manifest_that_raises_leaves_the_last_good_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namespace is at fault until its next manifest."""
    world = World()

    def story(feed: SnapshotFeed) -> None:
        world.publish("one", {"ns/a": "1"}, ends=True)
        with monkeypatch.context() as patched:
            patched.setattr(feed.store, "put_manifest", raises)
            world.publish("one", {"ns/a": "2"})
        assert world.shown() == {"ns/a": "1"}
        assert feed.store.faults.keys() == {"one"}
        world.read(world.manifest("one", {"ns/a": "2"}))
        assert world.shown() == {"ns/a": "2"}
        assert not feed.store.faults

    # Of a class without slots, so that the method can be replaced.
    monkeypatch.setattr(snapshot_feed, "SnapshotStore", type("Store", (snapshot_feed.SnapshotStore,), {}))
    world.run(story)
    assert world.kept.reasons == ["internal_fault"]


def test_what_the_views_cannot_show_is_taken_back() -> None:
    """The namespace's former snapshot is shown whole, and the other namespaces' new ones."""
    world = World()
    apply = world.views.apply

    def fails_half_way(changes: AppliedChanges) -> None:
        apply(changes)
        if any(stored is not None and stored.shapes[0].version == "bad" for stored in changes.resources.values()):  # type: ignore[union-attr]
            raise ValueError("a view's fault")

    def story(feed: SnapshotFeed) -> None:
        world.publish("one", {"ns/a": "1"}, ends=True)
        world.views.apply = fails_half_way  # type: ignore[method-assign]
        world.publish("one", {"ns/a": "bad", "ns/c": "1"})
        world.publish("two", {"ns/b": "1"})
        assert world.shown() == {"ns/a": "1", "ns/b": "1"}
        assert feed.store.faults.keys() == {"one"}

    world.run(story)


def test_an_exception_of_the_event_loops_side_leaves_deliver() -> None:
    """The reader's thread ends by it, and its supervisor ends the process: it is not taken for a slow loop."""
    world = World()

    def story(_: SnapshotFeed) -> None:
        world.views.announce = raises  # type: ignore[method-assign]
        with pytest.raises(TimeoutError, match="not foreseen"):
            world.read(ends=True)

    world.run(story)


def test_no_stream_is_begun_without_a_namespace_that_exists() -> None:
    """Its answer would remove the namespace from a Pilot that has it; a good manifest makes it known."""
    world = World()

    def story(_: SnapshotFeed) -> None:
        world.read(world.manifest("bad", {"ns/lost": "1"}), world.manifest("good", {}), ends=True)
        with pytest.raises(NotKnownYetError, match="bad"):
            world.views.choose([], {})
        world.publish("bad", {"ns/lost": "1"})
        assert world.views.choose([], {}) is not None

    with capture_logs() as logs:
        world.run(story)
    events = [line["event"] for line in logs]
    assert events.count("namespace_at_fault") == 1
    assert events.count("namespace_is_good_again") == 1


def test_a_name_that_two_namespaces_want_is_told_once() -> None:
    """One of them is shown: the log names it when the second comes, and again only after one has gone."""
    world = World()

    def story(_: SnapshotFeed) -> None:
        world.publish("a", {"mesh/x": "1"}, ends=True)
        world.publish("b", {"mesh/x": "2"})
        world.publish("b", {"mesh/x": "2", "mesh/y": "1"})
        assert world.shown() == {"mesh/x": "1", "mesh/y": "1"}
        assert world.views.publishers["default"].view.claimed_by_several == ["mesh/x"]

    with capture_logs() as logs:
        world.run(story)
    (told,) = [line for line in logs if line["event"] == "name_claimed_by_several"]
    assert told["names"] == ["mesh/x"]


def raises(*_: object) -> None:
    """What nobody foresaw, and what a time-out looks like."""
    raise TimeoutError("not foreseen")
