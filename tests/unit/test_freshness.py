"""When a gateway begins to serve, what it says is stale, and what it has read again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from mcp_gateway.cache_file import CacheHeader
from mcp_gateway.freshness import Freshness
from mcp_gateway.settings import GatewaySettings
from mcp_gateway.snapshot_cache import SnapshotCache
from mcp_gateway.snapshot_feed import SnapshotFeed
from runtime.kafka_reader import RecordBatch
from runtime.lifecycle import Readiness
from schemas.avro_codec import codecs
from schemas.topics import ManifestKey
from tests.harness.snapshot_topic import manifest_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

MIB = 1024 * 1024


class Reader:
    """Kafka answers now, unless told otherwise."""

    def __init__(self) -> None:
        self.in_touch_at = time.time()
        self.again: list[int] = []

    def read_again(self, partition: int) -> None:
        self.again.append(partition)


class World:
    """A feed of two partitions, and what looks at it; `namespaces` match, those in `bad` don't."""

    def __init__(self, cache: SnapshotCache | None = None, **settings: Any) -> None:
        self.settings = GatewaySettings.model_validate({"start_patience_s": 5.0, **settings})
        self.views = self.settings.make_views()
        self.reader, self.readiness, self.cache = Reader(), Readiness(), cache
        self.now = time.time()

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            self.feed = SnapshotFeed(
                codecs=codecs(), views=self.views, partitions=2, quarantine=None,  # type: ignore[arg-type]
                loop=loop, serve_without=self.settings.serve_without,
            )  # fmt: skip
            self.freshness = Freshness(
                self.settings,
                self.feed,
                self.views,
                self.reader,
                self.readiness,
                self.cache,  # type: ignore[arg-type]
            )
            self.readiness.wait_for("snapshots", "reading")
            await story()

        asyncio.run(main())

    async def read(
        self, *namespaces: str, bad: tuple[str, ...] = (), partitions: tuple[int, ...] = (0, 1)
    ) -> None:
        for name in namespaces:
            self.feed.store.put_manifest(ManifestKey(name), manifest_of(name, {}))
        for name in bad:
            self.feed.store.put_manifest(ManifestKey(name), manifest_of(name, {"ns/lost": "1"}))
        await self.feed._take([], RecordBatch(ends_reached=partitions))

    async def look(self, after_s: float = 0.0) -> bool:
        """A look so much later; whether Pilots are served."""
        self.now += after_s
        await self.freshness.look(self.now)
        return self.freshness.may_serve.is_set()


def test_everything_that_matches_is_served_at_once() -> None:
    """An empty namespace is a good one."""
    world = World()

    async def story() -> None:
        assert not await world.look()
        await world.read("one", "two")
        assert await world.look()
        assert not world.readiness.stale

    world.run(story)


def test_nothing_was_ever_published_is_never_served() -> None:
    """However long it waits: an empty topic is more likely a mistake."""
    world = World()

    async def story() -> None:
        await world.read()
        assert not await world.look(1000.0)
        assert "nothing was published" in world.readiness.missing["snapshots"]

    world.run(story)


def test_a_namespace_at_fault_keeps_the_views_without_it_waiting_for_the_patience_only() -> None:
    """Then they are served, with an alarm; its partition is read again meanwhile."""
    world = World(views={"other": {"namespaces": ["good"]}})

    async def story() -> None:
        await world.read("good", bad=("bad",))
        assert not await world.look()
        assert "bad" in world.readiness.missing["snapshots"]
        assert not await world.look(4.9)
        assert await world.look(0.2)
        assert "bad" in world.readiness.stale["namespaces"]
        assert world.reader.again == [world.feed.store.partition("bad")]

    world.run(story)


def test_where_every_view_shows_a_namespace_at_fault_none_is_served() -> None:
    """For a set time only, or for ever by a setting; another names namespaces that answers may lack."""
    never = World(serve_without_after_s=float("inf"))

    async def never_story() -> None:
        await never.read("good", bad=("bad",))
        assert not await never.look()
        assert not await never.look(1e6)
        assert "every view" in never.readiness.missing["snapshots"]

    never.run(never_story)
    world = World()

    async def story() -> None:
        await world.read("good", bad=("bad",))
        assert not await world.look()
        assert not await world.look(295.0)
        assert "every view" in world.readiness.missing["snapshots"]
        with capture_logs() as logged:
            assert await world.look(10.0)
        (alarm,) = [entry for entry in logged if entry["event"] == "answers_without_namespaces"]
        assert alarm["namespaces"] == ["bad"]
        assert world.views.choose((), {}) is not None
        assert "bad" in world.readiness.stale["namespaces"]
        world.feed.store.put_manifest(ManifestKey("bad"), manifest_of("bad", {}))
        await world.feed._take([], RecordBatch())
        assert "bad" not in world.feed.store.unknown

    world.run(story)
    allowed = World(serve_without=["b*"])

    async def allowed_story() -> None:
        await allowed.read("good", bad=("bad",))
        assert not await allowed.look()
        assert await allowed.look(5.1)
        assert "bad" in allowed.readiness.stale["namespaces"]

    allowed.run(allowed_story)


@pytest.mark.parametrize("partitions", [(), (0,)])
def test_a_part_of_the_topic_is_never_served_without_a_cache(partitions: tuple[int, ...]) -> None:
    """It is not known which namespaces the other partitions have."""
    world = World()

    async def story() -> None:
        await world.read("one", partitions=partitions)
        world.reader.in_touch_at -= 1000.0
        assert not await world.look(1000.0)

    world.run(story)


def test_the_cache_is_served_where_kafka_can_not_be_used(tmp_path: Path) -> None:
    """As stale, with its age; what Kafka has replaces it, and nothing is stale any more."""
    cache = SnapshotCache(tmp_path, MIB)
    cache.prepare()
    cache.write(CacheHeader("c1", "ns"), manifest_of("ns", {}), [])
    world = World(cache)

    async def story() -> None:
        world.reader.in_touch_at = 0.0
        assert not await world.look()
        world.freshness.kafka_fault = "Kafka can't be reached"
        assert await world.look()
        assert world.freshness.cached_cluster == "c1"
        assert "can't be reached" in world.readiness.stale["kafka"]
        assert "1 namespaces from the cache" in world.readiness.stale["cache"]
        world.freshness.kafka_fault = ""
        world.reader.in_touch_at = time.time()
        await world.read("ns")
        assert await world.look()
        assert not world.readiness.stale

    world.run(story)


def test_a_cache_with_a_bad_file_does_not_answer_for_the_views_that_show_it(tmp_path: Path) -> None:
    """The namespace exists: an answer without it would remove it from a mesh."""
    cache = SnapshotCache(tmp_path, MIB)
    cache.prepare()
    for name in ("good", "bad"):
        cache.write(CacheHeader("c1", name), manifest_of(name, {}), [])
    (tmp_path / "bad.snapshot").write_bytes(b"garbage")
    world = World(cache, views={"other": {"namespaces": ["good"]}})

    async def story() -> None:
        world.reader.in_touch_at = 0.0
        world.freshness.kafka_fault = "Kafka can't be reached"
        assert await world.look()
        default, other = (world.views.publishers[name].view for name in ("default", "other"))
        assert world.views.lacking(default) == ["bad"]
        assert world.views.lacking(other) == []

    world.run(story)


def test_a_namespace_at_fault_is_served_from_the_cache(tmp_path: Path) -> None:
    """Its last good snapshot was kept: the others need not wait, and no view lacks it."""
    cache = SnapshotCache(tmp_path, MIB)
    cache.prepare()
    cache.write(CacheHeader("c1", "bad"), manifest_of("bad", {}), [])
    world = World(cache)

    async def story() -> None:
        world.freshness.cluster = "c1"
        await world.read("good", bad=("bad",))
        assert not await world.look()
        assert await world.look(5.1)
        assert "1 namespaces from the cache" in world.readiness.stale["cache"]
        assert not world.views.unknown

    world.run(story)


def test_readyz_says_that_kafka_is_away_and_is_ready_all_the_same() -> None:
    """A gateway goes on serving what it has; the data is stale after `stale_after_s`."""
    world = World(stale_after_s=10.0)

    async def story() -> None:
        await world.read("one")
        assert await world.look()
        world.readiness.met("snapshots")
        world.reader.in_touch_at -= 9.0
        await world.look()
        assert not world.readiness.stale
        world.reader.in_touch_at -= 2.0
        await world.look()
        assert "has not answered for 11 s" in world.readiness.stale["kafka"]
        assert not world.readiness.missing
        world.reader.in_touch_at = time.time()
        await world.look()
        assert not world.readiness.stale

    world.run(story)
