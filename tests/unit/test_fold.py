"""The fold's rules, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.materializer.fold import Fold, Outcome
from consumers.materializer.recovery import recovery_offset
from consumers.materializer.view import NamespaceView, Occasion
from producers.listener.diff import state
from schemas.events import (
    ConfigKey,
    ConfigState,
    Heartbeat,
    Link,
    Namespace,
    NamespaceGone,
    ServiceDelta,
    ServiceKey,
    SyncCompleted,
    SyncStarted,
)
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, make, seen

SERVICE = ServiceKey("DEFAULT_GROUP", "svc")
OTHER = Namespace("other")


def test_nothing_shows_before_the_first_keyframe_is_whole() -> None:
    """Half a namespace is never published."""
    log = Log()
    log.add(SyncStarted(reason="test"))
    log.add(state(SERVICE, seen(make()))[0])
    assert PUBLIC not in log.fold.state.changes
    log.add(SyncCompleted(services=1, config_items=0))
    assert log.fold.state.changes[PUBLIC].dirty.services == {SERVICE}


def test_a_namespace_that_is_whole_and_has_no_service_is_published_once() -> None:
    """Its first whole keyframe makes a version of no resources; those that follow make none."""
    log = Log()
    log.keyframe({})
    assert log.fold.state.changes[PUBLIC].version == {TOPIC: 1}
    assert log.fold.state.changes[PUBLIC].dirty
    log.fold.state.changes[PUBLIC].dirty.clear()
    log.keyframe({})
    assert not log.fold.state.changes[PUBLIC].dirty
    assert log.fold.state.changes[PUBLIC].version == {TOPIC: 1}


def test_a_keyframe_of_nothing_that_is_not_whole_publishes_nothing() -> None:
    """Its counts say that an event is missing: the namespace may have services."""
    log = Log()
    log.add(SyncStarted(reason="test"))
    log.add(SyncCompleted(services=1, config_items=0))
    assert PUBLIC not in log.fold.state.changes


def test_what_a_keyframe_does_not_state_goes_at_its_end() -> None:
    """And not before."""
    log = Log()
    log.keyframe({SERVICE: [make()], ServiceKey("g", "old"): [make()]})
    log.add(SyncStarted(reason="test"))
    log.add(state(SERVICE, seen(make()))[0])
    assert len(log.entries()) == 2
    log.add(SyncCompleted(services=1, config_items=0))
    assert len(log.entries()) == 1


def test_a_keyframe_with_wrong_counts_takes_nothing_away() -> None:
    """An event of it is missing: the namespace is suspect, and all stays."""
    log = Log()
    log.keyframe({SERVICE: [make()]})
    log.add(SyncStarted(reason="test"))
    log.add(SyncCompleted(services=1, config_items=0))
    assert log.outcome is Outcome.INCOMPLETE_KEYFRAME
    assert len(log.entries()) == 1
    assert log.snapshot().manifest.suspect == ("dc1",)


def test_a_delta_that_does_not_amount_to_its_digest_makes_the_namespace_suspect() -> None:
    """What it says is applied all the same: it is a fact."""
    log = Log()
    log.keyframe({SERVICE: [make()]})
    log.add(ServiceDelta(key=SERVICE, upserts=(make("10.0.0.2"),), removals=(), count=9, digest=9))
    assert log.outcome is Outcome.MISMATCH
    assert len(next(iter(log.entries().values())).endpoints) == 2


def test_an_event_that_changes_no_content_makes_no_version() -> None:
    """Heartbeats, restatements of the same, config items that are not converted yet."""
    log = Log()
    log.keyframe({SERVICE: [make()]})
    version = dict(log.fold.state.changes[PUBLIC].version)
    log.add(Heartbeat(link=Link.BLIND, detail=""), namespace=Namespace(""))
    log.keyframe({SERVICE: [make()]})
    log.add(ConfigState(key=ConfigKey("g", "d"), content="x", content_type="yaml", md5=""))
    assert log.fold.state.changes[PUBLIC].version == version
    assert log.fold.state.datacenters["dc1"].link is Link.BLIND


def test_a_namespace_that_is_gone_has_an_empty_snapshot() -> None:
    """Its resources are removed by a version of their own."""
    log = Log()
    log.keyframe({SERVICE: [make()]})
    view = NamespaceView(PUBLIC, log.settings)
    first = view.update_all(log.fold.state, Occasion("test"))
    assert first is not None
    view.published(first)
    log.add(NamespaceGone())
    update = view.update(log.fold.state, log.fold.state.changes[PUBLIC].dirty, Occasion("test"))
    assert update is not None
    assert (update.manifest.resources, update.manifest.removed) == (0, 1)


def test_a_recovery_begins_at_the_oldest_of_the_newest_keyframes() -> None:
    """Events of another namespace before its own keyframe are passed over, and raise no alarm."""
    log = Log()
    for namespace in (PUBLIC, OTHER):
        log.add(SyncStarted(reason="test"), namespace=namespace)
        log.add(state(SERVICE, seen(make()))[0], namespace=namespace)
        log.add(SyncCompleted(services=1, config_items=0), namespace=namespace)
    delta = ServiceDelta(
        key=SERVICE, upserts=(), removals=(), count=1, digest=state(SERVICE, seen(make()))[1].digest
    )
    log.keyframe({SERVICE: [make()]})
    log.add(delta, namespace=PUBLIC)
    log.add(SyncStarted(reason="test"), namespace=OTHER)
    log.add(state(SERVICE, seen(make()))[0], namespace=OTHER)
    log.add(SyncCompleted(services=1, config_items=0), namespace=OTHER)
    assert recovery_offset(log.fold.state, TOPIC, 99) == 6

    again = Fold(log.settings, UNGUARDED)
    outcomes = {again.apply(TOPIC, offset, event) for offset, event in enumerate(log.events[7:], start=7)}
    assert outcomes == {Outcome.APPLIED, Outcome.BEFORE_KEYFRAME}
    assert not again.state.is_complete(PUBLIC)
    assert again.state.is_complete(OTHER)


def test_a_resource_that_kafka_would_not_take_stands_at_the_last_that_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others go on, it is named with its size, and it comes back when it fits."""
    log = Log()
    log.keyframe({SERVICE: [make()], ServiceKey("g", "other"): [make()]})
    view = NamespaceView(PUBLIC, log.settings)
    view.published(view.update_all(log.fold.state, Occasion("test")))  # type: ignore[arg-type]
    standing = dict(view.versions)
    monkeypatch.setattr("consumers.materializer.view.MAX_BODY_BYTES", 300)
    many = [make(f"10.0.0.{number}") for number in range(20)]
    for instances, fits in ((many, False), ([make("10.0.0.9")], True)):
        log.add(state(SERVICE, seen(*instances))[0])
        log.add(state(ServiceKey("g", "other"), seen(make("10.0.1.1", weight=len(instances))))[0])
        update = view.update(log.fold.state, log.fold.state.changes[PUBLIC].dirty, Occasion("test"))
        assert update is not None
        view.published(update)
        name = next(name for name in view.versions if "other" not in name[1])
        assert (name in view.oversized) is not fits
        assert (view.versions[name] == standing[name]) is not fits
        assert update.manifest.changed == 1 + fits


def suspect(log: Log) -> list[bool]:
    """Of each namespace."""
    return [one.suspect for one in log.fold.state.of_namespace(PUBLIC).values()]


def strange(log: Log) -> str:
    """Why the datacenter's events may not be those of the listener that lives."""
    return log.fold.state.datacenters[log.datacenter].strange


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"session": "x", "epoch": 2**62, "sequence": 0}, "session x has epoch 4611686018427387904"),
        ({"sequence": 2**62}, "session session-1 has sequence 4611686018427387904"),
    ],
)
def test_an_epoch_or_sequence_that_no_listener_reaches_is_told(changes: dict[str, Any], reason: str) -> None:
    """All that follows is passed over, and the namespaces are suspect."""
    log = Log()
    log.keyframe({SERVICE: [make()]})
    log.add(Heartbeat(link=Link.LIVE, detail=""), **changes)
    assert (suspect(log), strange(log)) == ([True], reason)
    log.add(Heartbeat(link=Link.LIVE, detail=""))
    assert log.outcome in {Outcome.ZOMBIE, Outcome.DUPLICATE}


@pytest.mark.parametrize("changes", [{"session": "x", "epoch": 2, "sequence": 0}, {"sequence": 1000}])
def test_a_session_that_goes_on_while_the_newest_is_silent_is_told(changes: dict[str, Any]) -> None:
    """Once it goes on for a minute; what comes late or again is of the past, and in order."""
    log, minute = Log(), 60_000_000
    log.keyframe({SERVICE: [make()]})
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=minute, **changes)
    for namespace in log.fold.state.of_namespace(PUBLIC).values():
        namespace.suspect = False  # for the hole in the sequence
    for seconds in range(0, 119, 5):
        log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=seconds * 1_000_000)
        assert (suspect(log), strange(log)) == ([False], "")
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=2 * minute)
    assert suspect(log) == [True]
    assert "is passed over" in strange(log)
    log.epoch = 3
    log.keyframe({SERVICE: [make()]})
    assert (suspect(log), strange(log)) == ([False], "")
