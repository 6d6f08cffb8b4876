"""The entry of a service that lost its last instance: how long it stays, and what a recovery needs to agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumers.materializer.conversion import FIRST_REVISION
from consumers.materializer.fold_state import Touched
from consumers.materializer.recovery import recovery_offset
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings
from schemas.events import (
    Heartbeat,
    Link,
    NamespaceGone,
    ServiceDelta,
    ServiceGone,
    ServiceKey,
    ServiceState,
)
from tests.unit.conversions import PUBLIC, TOPIC, Log, make

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = ServiceKey("g", "s")
GRACE = 100
"""Microseconds; the log's clock is set with each event."""


def log_with(*instances: object, revision: str = "2") -> Log:
    """A log whose namespace has one service with these instances, at time 10."""
    log = Log(ConversionSettings(empty_grace_s=GRACE / 1e6), revision=revision)
    log.keyframe({KEY: list(instances) or [make(metadata={"protocol": "grpc"})]})  # type: ignore[arg-type]
    return log


def version(log: Log) -> dict[str, int]:
    """The namespace's version."""
    return dict(log.fold.state.changes[PUBLIC].version)


def gone(log: Log, at: int) -> None:
    """The service is removed."""
    log.add(ServiceGone(key=KEY), observed_at=at)


def emptied(log: Log, at: int) -> None:
    """Its instance is."""
    log.add(ServiceDelta(key=KEY, upserts=(), removals=(make().key,), count=0, digest=0), observed_at=at)


def stated_empty(log: Log, at: int) -> None:
    """It is stated without one."""
    log.add(ServiceState(key=KEY, instances=()), observed_at=at)


def unusable(log: Log, at: int) -> None:
    """No endpoint can be made of its instance any more."""
    log.add(ServiceState(key=KEY, instances=(make(port=0),)), observed_at=at)


@pytest.mark.parametrize("lose", [gone, emptied, stated_empty, unusable])
def test_an_entry_stays_with_its_head_and_without_endpoints(lose: Callable[[Log, int], None]) -> None:
    """However the last instance went: until the time is over; the event that tells that moves the version."""
    log = log_with()
    (before,) = log.entries().values()
    lose(log, 1000)
    (entry,) = log.entries().values()
    assert list(entry.ports) == list(before.ports)
    assert (list(entry.hosts), list(entry.endpoints)) == (list(before.hosts), [])
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=1000 + GRACE - 1)
    before_version = version(log)
    assert len(log.entries()) == 1
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=1000 + GRACE)
    assert version(log) != before_version
    assert log.entries() == {}


def test_a_service_that_returns_in_time_never_left() -> None:
    """Its entry only had no endpoints, and the end of the time that was set for the former loss takes nothing."""
    log = log_with()
    gone(log, 1000)
    log.add(ServiceState(key=KEY, instances=(make("10.0.0.2"),)), observed_at=1050)
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=1000 + 2 * GRACE)
    ((entry),) = log.entries().values()
    assert [one.address for one in entry.endpoints] == ["10.0.0.2"]
    gone(log, 2000)
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=2000 + GRACE)
    assert log.entries() == {}


def test_time_stands_still_while_the_listener_is_blind() -> None:
    """Nothing is known then: that it is still gone neither."""
    log = log_with()
    gone(log, 1000)
    log.add(Heartbeat(link=Link.BLIND, detail=""), observed_at=1010)
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=9000)
    assert len(log.entries()) == 1
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=9000 + GRACE)
    assert log.entries() == {}


def test_a_service_that_is_elsewhere_does_not_wait() -> None:
    """What one datacenter lost is not seen while another one has the service; when that loses it, both count."""
    log = log_with()
    other = Log(log.settings, datacenter="dc2")
    other.fold = log.fold
    other.keyframe({KEY: [make("10.0.0.9")]})
    gone(log, 1000)
    ((entry),) = log.entries().values()
    assert [one.address for one in entry.endpoints] == ["10.0.0.9"]
    other.add(ServiceGone(key=KEY), observed_at=1050)
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=1000 + GRACE)
    assert len(log.entries()) == 1
    other.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=1050 + GRACE)
    assert log.entries() == {}


def test_a_namespace_that_is_removed_goes_at_once() -> None:
    """That is said by somebody, and not by an instance that is late."""
    log = log_with()
    gone(log, 1000)
    log.add(NamespaceGone(), observed_at=1010)
    assert log.entries() == {}


def test_an_entry_that_stays_keeps_its_name() -> None:
    """A service that comes meanwhile, and wants the same, carries a hash; still so when the other returns."""
    log = log_with()
    gone(log, 1000)
    log.add(ServiceState(key=ServiceKey("g", "S"), instances=(make("10.6.6.6"),)), observed_at=1010)
    log.add(ServiceState(key=KEY, instances=(make("10.0.0.2"),)), observed_at=1050)
    entry = log.entries()["public/s.g.public"]
    assert [one.address for one in entry.endpoints] == ["10.0.0.2"]


def test_without_a_time_an_entry_goes_at_once() -> None:
    """As the first revision does, whatever is set."""
    at_once = Log(ConversionSettings(empty_grace_s=0))
    at_once.keyframe({KEY: [make()]})
    for log in (at_once, log_with(revision=FIRST_REVISION)):
        gone(log, 1000)
        assert log.entries() == {}


def test_a_keyframe_after_a_loss_is_no_place_to_begin_at_until_the_time_is_over() -> None:
    """A fold that begins there does not know the service, whose entry stands."""
    log = log_with()
    gone(log, 1000)
    start = len(log.events)
    log.keyframe({})
    assert recovery_offset(log.fold.state, TOPIC, len(log.events)) < start
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=1000 + GRACE)
    assert recovery_offset(log.fold.state, TOPIC, len(log.events)) == start


def test_a_view_that_follows_sees_each_change_once() -> None:
    """Changed when the instance goes, removed when the time is over."""
    log = log_with()
    view = NamespaceView(PUBLIC, log.settings)

    def follow() -> tuple[int, int, int]:
        changes = log.fold.state.changes[PUBLIC]
        dirty, changes.dirty = changes.dirty, Touched()
        update = view.update(log.fold.state, dirty, Occasion("test"))
        assert update is not None
        view.published(update)
        return update.manifest.added, update.manifest.changed, update.manifest.removed

    assert follow() == (1, 0, 0)
    gone(log, 1000)
    assert follow() == (0, 1, 0)
    log.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=1000 + GRACE)
    assert follow() == (0, 0, 1)
