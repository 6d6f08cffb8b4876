"""The guard of heads: ports and protocol of a service of some size change after a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from consumers.materializer.conversion import FIRST_REVISION, REVISION
from consumers.materializer.fold import Fold
from consumers.materializer.recovery import recovery_offset
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings, GuardSettings
from producers.listener.diff import diff, state
from schemas.control import Release
from schemas.events import Heartbeat, Link, ServiceGone, ServiceKey, ServiceState, SyncCompleted, SyncStarted
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, make, seen

if TYPE_CHECKING:
    from schemas.events import Instance

KEY = ServiceKey("g", "svc")
SECOND = 1_000_000


def guard(**changes: Any) -> GuardSettings:
    """Heads are guarded, endpoints are not."""
    return GuardSettings.model_validate(UNGUARDED.model_dump() | {"head": {"delay_s": 60, **changes}})


def some(count: int, protocol: str = "", first: int = 0, **changes: Any) -> list[Instance]:
    """Instances of one protocol."""
    metadata = {"protocol": protocol} if protocol else {}
    return [make(f"10.0.0.{n}", metadata=metadata, **changes) for n in range(first, first + count)]


class Story(Log):
    """A log with times; the service has so many instances of each protocol."""

    def __init__(self, settings: GuardSettings | None = None, revision: str = REVISION) -> None:
        super().__init__(guard=settings or guard(), revision=revision)
        self.now = SECOND
        self.add(SyncStarted(reason="test"), observed_at=self.now)
        self.add(ServiceState(key=KEY, instances=tuple(some(20))), observed_at=self.now)
        self.add(SyncCompleted(services=1, config_items=0), observed_at=self.now)
        self.stated = state(KEY, seen(*some(20)))[1]

    def wait(self, seconds: float) -> None:
        """Time passes, told by heartbeats."""
        for _ in range(int(seconds)):
            self.now += SECOND
            self.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=self.now)

    def have(self, *instances: Instance) -> None:
        """The service has these."""
        delta, self.stated = diff(KEY, self.stated, seen(*instances))
        if delta is not None:
            self.add(delta, observed_at=self.now)

    def port(self) -> tuple[int, str]:
        """The main port that Pilots have."""
        (entry,) = self.entries().values()
        return entry.ports[0].number, entry.ports[0].protocol

    def holds(self) -> tuple[str, ...]:
        """The holds that the manifest names."""
        return self.snapshot().manifest.holds


def test_a_new_head_takes_effect_after_a_while() -> None:
    """The endpoints are there at once, under the former head; the manifest says what is held."""
    story = Story()
    story.have(*some(8), *some(12, "tcp", 100, port=9090))
    assert story.port() == (8080, "HTTP")
    (entry,) = story.entries().values()
    assert (len(entry.endpoints), {port for one in entry.endpoints for port in one.ports}) == (20, {"http"})
    assert story.holds() == ("head dc1/public/g/svc: 8080/HTTP to 9090/TCP",)
    story.wait(59)
    assert story.port() == (8080, "HTTP")
    story.wait(1)
    assert (story.port(), story.holds()) == ((9090, "TCP"), ())


def test_a_head_that_returns_was_never_another() -> None:
    """A bad deployment that is taken back within the minute shows nobody anything."""
    story = Story()
    story.have(*some(20, "tcp"))
    story.wait(30)
    story.have(*some(20))
    assert (story.port(), story.holds()) == ((8080, "HTTP"), ())
    story.wait(120)
    assert story.port() == (8080, "HTTP")


def test_a_vote_that_changes_once_more_begins_anew() -> None:
    """The time is that of the present majority."""
    story = Story()
    story.have(*some(20, "tcp"))
    story.wait(50)
    story.have(*some(20, "grpc"))
    story.wait(50)
    assert story.port() == (8080, "HTTP")
    story.wait(10)
    assert story.port() == (8080, "GRPC")


def test_a_small_service_changes_at_once() -> None:
    """Fewer than `min_size` endpoints, before and after."""
    story = Story(guard(min_size=21))
    story.have(*some(20, "tcp"))
    assert (story.port(), story.holds()) == ((8080, "TCP"), ())


def test_a_service_that_shrinks_meanwhile_is_held_all_the_same() -> None:
    """What counts is how many it had: one instance that is left does not rule at once."""
    story = Story()
    story.have(*some(1, "tcp"))
    assert story.port() == (8080, "HTTP")


def test_observed_it_is_named_and_not_kept() -> None:
    """For the time that it would have been kept."""
    story = Story(guard(mode="observe"))
    story.have(*some(20, "tcp"))
    assert story.port() == (8080, "TCP")
    assert story.holds() == ("head dc1/public/g/svc: 8080/HTTP to 8080/TCP (observe)",)
    story.wait(60)
    assert story.holds() == ()


def test_an_operator_releases_the_service() -> None:
    """As for its endpoints."""
    story = Story()
    story.have(*some(20, "tcp"))
    heads = story.fold.state.datacenters[story.datacenter].heads
    body = Release(datacenter=story.datacenter, scope="service", service="g@@svc")
    assert heads.release(("public", "g", "other")) == frozenset()
    assert len(heads.release((PUBLIC, *body.service.split("@@")))) == 1
    assert story.port() == (8080, "TCP")


def test_a_service_that_is_gone_holds_no_head() -> None:
    """What comes under its name is another one."""
    story = Story()
    story.have(*some(20, "tcp"))
    story.add(ServiceGone(key=KEY), observed_at=story.now)
    assert story.fold.state.datacenters[story.datacenter].heads.holds == {}
    story.add(ServiceState(key=KEY, instances=tuple(some(20, "grpc"))), observed_at=story.now)
    assert story.port() == (8080, "GRPC")


def test_the_first_revision_holds_no_head() -> None:
    """As it did when it published."""
    story = Story(revision=FIRST_REVISION)
    story.have(*some(20, "tcp"))
    assert (story.port(), story.holds()) == ((8080, "TCP"), ())


@pytest.mark.parametrize("waited", [0, 30, 61])
def test_a_recovery_arrives_at_the_same_head(waited: int) -> None:
    """A keyframe while a head is held, or in which one came to be held, is no place to begin at."""
    story = Story()
    story.wait(5)
    story.have(*some(20, "tcp"))
    for turn in range(3):
        story.wait(waited)
        here = some(20, "tcp" if turn != 1 else "grpc")
        story.stated = state(KEY, seen(*here))[1]
        story.add(SyncStarted(reason="test"), observed_at=story.now)
        story.add(ServiceState(key=KEY, instances=tuple(here)), observed_at=story.now)
        story.add(SyncCompleted(services=1, config_items=0), observed_at=story.now)
        start = recovery_offset(story.fold.state, TOPIC, len(story.events))
        fold = Fold(ConversionSettings(), guard())
        for offset, event in enumerate(story.events[start:], start=start):
            fold.apply(TOPIC, offset, event)
        again = NamespaceView(PUBLIC, ConversionSettings()).update_all(fold.state, Occasion("test"))
        assert again is not None
        mine = story.snapshot().manifest
        assert (again.manifest.digest, again.manifest.holds) == (mine.digest, mine.holds)
    if waited > 60:
        assert start > 0
