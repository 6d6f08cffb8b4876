"""What a listener writes into the log: keyframes, differences, parts; what it does when a record is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from schemas.events import (
    ConfigGone,
    ConfigKey,
    ConfigState,
    Instance,
    NamespaceGone,
    ServiceDelta,
    ServiceGone,
    ServiceKey,
    ServicePart,
    ServiceState,
    SyncCompleted,
    SyncStarted,
)
from tests.unit.conversions import make, seen
from tests.unit.publishing import CODEC, EPOCH, PARTITION, Published, in_loop, publishing

SERVICE, OTHER = ServiceKey("g", "svc"), ServiceKey("g", "other")
ITEM = ConfigKey("ISTIO", "routes")
TEXT = ConfigState(key=ITEM, content="a: 1", content_type="yaml", md5="1")


def many(count: int, metadata_bytes: int = 2000, first: int = 0) -> list[Instance]:
    """Instances with that much metadata."""
    return [
        make(f"10.{number // 62500}.{number // 250 % 250}.{number % 250}", metadata={"k": "x" * metadata_bytes})
        for number in range(first, first + count)
    ]


def completed(published: Published, name: str = "public") -> list[SyncCompleted]:
    """The ends of keyframes."""
    return [body for body in published.bodies(name) if isinstance(body, SyncCompleted)]


async def first_keyframe(published: Published, name: str = "public") -> None:
    """Waits for it."""
    await published.until(lambda: published.count(SyncCompleted, name) == 1, "a first keyframe")


@in_loop
async def test_a_service_larger_than_a_record_is_stated_in_parts_again_and_again() -> None:
    """8,000 instances with 2 KB of metadata each: 16 MiB would be too large, and nothing of it is left out."""
    async with publishing(keyframe_max_age_s=0.4) as published:
        view = published.view()
        view.observe(SERVICE, seen(*many(8000, 2100)), 1)
        published.observe(view, OTHER, make())
        await published.until(lambda: len(completed(published)) >= 2, "a second keyframe")
    parts = [body for body in published.bodies() if isinstance(body, ServicePart)]
    assert len(parts) >= 2 * 4
    assert max(len(value) for _, _, value in published.writer.records) < 5 * 1024 * 1024
    assert {end.kept_services for end in completed(published)} == {()}
    assert len(published.folded()[SERVICE]) == 8000
    assert OTHER in published.folded()
    assert published.quarantine.reasons == []


@in_loop
async def test_a_delta_larger_than_a_record_is_a_state_in_parts() -> None:
    """All instances change at once; the service is never seen with some of them."""
    async with publishing() as published:
        view = published.view()
        published.observe(view, SERVICE, *many(8000, 10))
        await first_keyframe(published)
        published.observe(view, SERVICE, *many(8000, 2100))
        await published.until(lambda: "ServicePart" in published.kinds(), "parts")
        await published.until(lambda: published.kinds()[-1] == "ServicePart" and view.dirty == 0, "the last part")
        published.observe(view, SERVICE, *many(7999, 2100))
        await published.until(lambda: published.kinds()[-1] == "ServiceDelta", "a delta on top of it")
    assert len(published.folded()[SERVICE]) == 7999
    assert not _is_suspect(published)


@in_loop
async def test_parts_wait_for_a_full_queue_and_lose_nothing() -> None:
    """Kafka's client takes half of them, and the others later."""
    async with publishing() as published:
        view = published.view()
        published.writer.most_queued = 4
        published.observe(view, SERVICE, *many(8000, 2100))
        await published.until(lambda: len(published.writer.records) == 4, "a full queue")
        await asyncio.sleep(0.1)
        published.writer.most_queued = None
        await first_keyframe(published)
    assert len(published.folded()[SERVICE]) == 8000
    assert not _is_suspect(published)


@in_loop
async def test_what_could_not_be_observed_is_kept_by_a_keyframe() -> None:
    """A service that is refused, items of an unknown group, an item that is too large; nothing else."""
    async with publishing() as published:
        view = published.view()
        view.configs_complete = False
        view.leave_out(OTHER, "refused")
        view.leave_out(ITEM, "too large")
        view.unknown_item_groups = {"IST*": "forbidden"}
        published.observe(view, SERVICE, make())
        await first_keyframe(published)
        (end,) = completed(published)
        assert (end.services, end.kept_services, end.keeps_all_services) == (1, (OTHER,), False)
        assert (end.kept_items, end.kept_item_groups) == ((ITEM,), ("IST*",))


@in_loop
async def test_what_a_keyframe_kept_and_is_gone_is_told_as_gone() -> None:
    """Otherwise readers would keep it for ever."""
    async with publishing() as published:
        view = published.view()
        view.leave_out(OTHER, "refused")
        view.leave_out(ITEM, "refused")
        published.publication.changed(view.namespace)
        await first_keyframe(published)
        view.forget(OTHER, 1)
        view.forget_config(ITEM, 1)
        published.publication.changed(view.namespace)
        await published.until(lambda: published.count(ConfigGone) == 1, "both gone")
        assert published.count(ServiceGone) == 1


@in_loop
async def test_what_was_unknown_and_is_known_is_stated_with_a_keyframe() -> None:
    """So that items that were deleted meanwhile go; a namespace that learned nothing is not stated again."""
    async with publishing() as published:
        view, other = published.view(), published.view("other")
        for one in (view, other):
            one.configs_complete = False
            one.unknown_item_groups = {"ISTIO": "away", "MORE": "away"}
            published.publication.changed(one.namespace)
        await first_keyframe(published)
        await first_keyframe(published, "other")
        view.configs_complete, view.unknown_item_groups = True, {"MORE": "away"}
        view.observe_config(TEXT, 1)
        published.publication.changed(view.namespace)
        await published.until(lambda: len(completed(published)) == 2, "a second keyframe")
        assert completed(published)[1] == SyncCompleted(services=0, config_items=1, kept_item_groups=("MORE",))
        published.publication.changed(other.namespace)
        await asyncio.sleep(0.05)
        assert len(completed(published, "other")) == 1


@in_loop
async def test_services_that_were_counted_and_not_found_are_kept_until_they_are() -> None:
    """The keyframe says that it lacks some; once they are found the next one takes away what is gone."""
    async with publishing() as published:
        view = published.view()
        view.services_short = True
        published.observe(view, SERVICE, make())
        await first_keyframe(published)
        view.services_short = False
        published.publication.changed(view.namespace)
        await published.until(lambda: len(completed(published)) == 2, "a whole keyframe")
        assert [end.keeps_all_services for end in completed(published)] == [True, False]


@in_loop
async def test_a_record_that_is_lost_restates_its_namespace_only() -> None:
    """With an empty one beside it, and at once."""
    async with publishing() as published:
        view, other = published.view(), published.view("other")
        for one in (view, other):
            published.observe(one, SERVICE, make())
        await first_keyframe(published)
        await first_keyframe(published, "other")
        published.writer.takes = lambda value: not isinstance(CODEC.decode(value).body, ServiceDelta)
        published.observe(view, SERVICE, make(weight=5.0))
        await published.until(lambda: len(completed(published)) == 2, "the namespace stated again")
        await asyncio.sleep(0.05)
        assert len(completed(published, "other")) == 1
        assert published.folded() == {SERVICE: {"10.0.0.1"}}
        state = published.fold().state.datacenters["dc1"].namespaces["public"]  # type: ignore[index]
        assert [one.digest for one in state.services.values()] != [0]
        assert [body.reason for body in published.bodies() if isinstance(body, SyncStarted)] == ["session", "lost"]


@in_loop
async def test_what_a_first_keyframe_lost_is_stated_again_at_once() -> None:
    """Not with the next periodic one, hours later."""
    async with publishing() as published:
        view = published.view()
        lost: list[bytes] = []

        def takes(value: bytes) -> bool:
            if not lost and isinstance(CODEC.decode(value).body, ServiceState):
                lost.append(value)
            return value not in lost

        published.writer.takes = takes
        published.observe(view, SERVICE, make())
        await published.until(lambda: SERVICE in published.folded(), "the service in the log")
        assert not _is_suspect(published)


@in_loop
async def test_a_record_that_is_refused_for_ever_does_not_make_keyframes_without_end() -> None:
    """The same record, again and again: the pauses grow."""
    async with publishing() as published:
        view = published.view()
        published.writer.takes = lambda value: not isinstance(CODEC.decode(value).body, ServiceState)
        published.observe(view, SERVICE, make())
        await asyncio.sleep(2.5)
        assert 2 <= published.count(SyncStarted) <= 5


@pytest.mark.parametrize("limit", [1024 * 1024, 300_000])
@in_loop
async def test_a_topic_that_takes_smaller_records_gets_smaller_parts(limit: int) -> None:
    """Kafka's own limit of 1 MiB: what was refused is stated in parts that fit."""
    async with publishing() as published:
        view = published.view()
        published.writer.takes = lambda value: len(value) <= limit
        published.observe(view, SERVICE, *many(2000))
        await published.until(lambda: bool(completed(published)) and SERVICE in published.folded(), "the service")
        assert len(published.folded()[SERVICE]) == 2000
        assert not _is_suspect(published)
        assert published.count(SyncStarted) <= 5


@in_loop
async def test_a_config_item_that_no_record_can_hold_is_kept() -> None:
    """It can't be cut in parts; the rest of its namespace is stated, and readers keep the item that they have."""
    async with publishing() as published:
        view = published.view()
        published.writer.takes = lambda value: len(value) <= 1024 * 1024
        view.observe_config(replace(TEXT, content="x" * 2_000_000), 1)
        published.observe(view, SERVICE, make())
        await published.until(
            lambda: any(end.kept_items for end in completed(published)), "a keyframe that keeps it"
        )
        end = completed(published)[-1]
        assert (end.services, end.config_items, end.kept_items) == (1, 0, (ITEM,))
        assert published.quarantine.reasons == ["too_large"]
        view.observe_config(replace(TEXT, content="short"), 2)
        published.publication.changed(view.namespace)
        await published.until(lambda: published.count(ConfigState) == 1, "the item, shorter")


@in_loop
async def test_an_event_that_cannot_be_encoded_costs_its_service() -> None:
    """It is set aside, kept by keyframes, and the others are written."""
    async with publishing() as published:
        view = published.view()
        view.observe(SERVICE, seen(make(metadata={"k": "\ud800"})), 1)
        published.observe(view, OTHER, make())
        await first_keyframe(published)
        assert completed(published)[0].kept_services == (SERVICE,)
        assert published.quarantine.reasons == ["internal_fault"]
        published.observe(view, OTHER, make(weight=2.0))
        await published.until(lambda: published.count(ServiceDelta) == 1, "a change of the other one")


@in_loop
async def test_nothing_is_written_once_a_partition_was_given_up() -> None:
    """However long it takes until the event loop hears of it; a new tenure begins anew."""
    async with publishing() as published:
        view = published.view()
        published.observe(view, SERVICE, make())
        await first_keyframe(published)
        written = len(published.writer.records)
        published.ownership.lose([PARTITION])
        published.observe(view, SERVICE, make(weight=2.0))
        await asyncio.sleep(0.2)
        assert len(published.writer.records) == written
        published.open(EPOCH + 1)
        published.publication.add(PARTITION, view)
        await published.until(lambda: len(completed(published)) == 2, "a keyframe of the new tenure")
        assert published.events[-1].epoch == EPOCH + 1


@in_loop
async def test_a_change_of_one_namespace_looks_at_no_other() -> None:
    """Whatever their number; their links are asked for with heartbeats only."""
    async with publishing(heartbeat_interval_s=60) as published:
        views = [published.view(f"ns-{number}") for number in range(300)]
        for view in views:
            published.observe(view, SERVICE, make())
        await published.until(
            lambda: all(published.count(SyncCompleted, view.namespace) for view in views[-1:]), "keyframes"
        )
        await asyncio.sleep(0.1)
        turns: list[str] = []
        publish = published.publication._publish

        async def noted(tenure: Any, namespace: Any) -> bool:
            turns.append(namespace)
            return await publish(tenure, namespace)

        published.publication._publish = noted  # type: ignore[method-assign]
        links_asked = published.links_asked
        published.observe(views[7], SERVICE, make(weight=2.0))
        await published.until(lambda: published.count(ServiceDelta, "ns-7") == 1, "the change")
        assert turns == ["ns-7"]
        assert published.links_asked == links_asked


@in_loop
async def test_a_large_namespace_does_not_hold_up_a_change_of_a_small_one() -> None:
    """Its keyframe is laid in parts, and the others have their turns in between."""
    async with publishing() as published:
        small = published.view("small")
        published.observe(small, SERVICE, make())
        await first_keyframe(published, "small")
        large = published.view("large")
        for number in range(5000):
            large.observe(ServiceKey("g", f"svc-{number}"), seen(make()), 1)
        published.publication.changed(large.namespace)
        await published.until(lambda: "SyncStarted" in published.kinds("large"), "the large keyframe")
        published.observe(small, SERVICE, make(weight=2.0))
        await published.until(lambda: published.count(ServiceDelta, "small") == 1, "the small change")
        assert not published.count(SyncCompleted, "large")


@in_loop
async def test_a_namespace_that_is_gone_is_told_even_if_that_record_is_lost() -> None:
    """Once more, a moment later."""
    async with publishing() as published:
        view = published.view()
        await first_keyframe(published)
        lost: list[bytes] = []

        def takes(value: bytes) -> bool:
            if not lost and isinstance(CODEC.decode(value).body, NamespaceGone):
                lost.append(value)
                return False
            return True

        published.writer.takes = takes
        published.publication.remove(PARTITION, view.namespace)
        await published.until(lambda: published.count(NamespaceGone) == 1, "the namespace gone")


def _is_suspect(published: Published, name: str = "public") -> bool:
    return published.fold().state.datacenters["dc1"].namespaces[name].suspect  # type: ignore[index]
