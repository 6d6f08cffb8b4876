"""When the guard holds endpoints, which, and for how long."""

from __future__ import annotations

import pytest

from consumers.materializer.conversion import FIRST_REVISION, REVISION
from consumers.settings import GuardMode, GuardSettings
from producers.listener.diff import StatedService, diff, state
from schemas.events import (
    Heartbeat,
    Instance,
    Link,
    NamespaceGone,
    ServiceGone,
    ServiceKey,
    SyncCompleted,
    SyncStarted,
)
from tests.unit.conversions import UNGUARDED, Log, make, seen

SECOND = 1_000_000
GUARD = GuardSettings()


def key(number: int) -> ServiceKey:
    """A service's key."""
    return ServiceKey("DEFAULT_GROUP", f"svc-{number}")


class Registry(Log):
    """A registry whose changes are published as they happen, at a time that the test moves."""

    def __init__(self, sizes: list[int], guard: GuardSettings = GUARD, revision: str = REVISION) -> None:
        super().__init__(guard=guard, revision=revision)
        self.now = 1_000_000 * SECOND
        self._stated: dict[ServiceKey, StatedService] = {}
        self.add(SyncStarted(reason="test"), observed_at=self.now)
        for number, size in enumerate(sizes):
            body, self._stated[key(number)] = state(key(number), seen(*fleet(number, range(size))))
            self.add(body, observed_at=self.now)
        self.add(SyncCompleted(services=len(sizes), config_items=0), observed_at=self.now)

    def wait(self, seconds: float, link: Link = Link.LIVE) -> None:
        """Time passes, with a heartbeat every five seconds."""
        while seconds > 0:
            self.now += int(min(5, seconds) * SECOND)
            seconds -= 5
            self.add(Heartbeat(link=link, detail=""), namespace="", observed_at=self.now)

    def have(self, number: int, indices: range) -> None:
        """The service has these instances now."""
        body, self._stated[key(number)] = diff(
            key(number), self._stated[key(number)], seen(*fleet(number, indices))
        )
        if body is not None:
            self.add(body, observed_at=self.now)

    def gone(self, number: int) -> None:
        """The service is no longer listed."""
        del self._stated[key(number)]
        self.add(ServiceGone(key=key(number)), observed_at=self.now)

    def endpoints(self) -> list[int]:
        """How many Pilots get of each service, by number."""
        found = {}
        for name, entry in self.entries().items():
            found[int(name.split("svc-")[1].split(".")[0])] = len({one.address for one in entry.endpoints})
        return [found.get(number, 0) for number in range(max(found, default=-1) + 1)]

    def holds(self) -> tuple[str, ...]:
        """As the manifest names them."""
        return self.snapshot().manifest.holds


def fleet(service: int, indices: range) -> tuple[Instance, ...]:
    """Instances of a service."""
    return tuple(
        sorted(
            (make(f"10.{service}.{index // 250}.{index % 250 + 1}") for index in indices), key=lambda one: one.key
        )
    )


def test_a_registry_that_restarts_empty_takes_nothing() -> None:
    """Every service loses all its instances; Pilots keep them; they return, and nothing is held."""
    registry = Registry([20] * 10)
    registry.wait(5)
    for number in range(10):
        registry.have(number, range(0))
        assert registry.endpoints() == [20] * 10
    assert any(hold.startswith("datacenter dc1: fell below") for hold in registry.holds())
    registry.wait(60)
    for number in range(10):
        registry.have(number, range(20))
    assert registry.endpoints() == [20] * 10
    assert registry.holds() == ()


def test_services_that_vanish_one_by_one_are_given_back_whole() -> None:
    """60 % of small services in ten seconds: what went before it was noticed comes back too."""
    registry = Registry([5] * 40)
    registry.wait(30)
    for number in range(24):
        registry.have(number, range(0))
        registry.now += SECOND * 10 // 24
    registry.wait(5)
    assert registry.endpoints() == [5] * 40
    assert [hold.split(":")[0] for hold in registry.holds()] == ["datacenter dc1", "namespace dc1/public"]


@pytest.mark.parametrize(("size", "at_once"), [(2, 1), (3, 1), (200, 50)])
def test_a_rolling_deployment_passes(size: int, at_once: int) -> None:
    """Instances go and others come, a share at a time: no hold, and none of the former is kept."""
    registry = Registry([size, *[5] * 20])
    registry.wait(30)
    for first in range(0, size, at_once):
        registry.have(0, range(first + at_once, size + first))
        registry.wait(5)
        registry.have(0, range(first + at_once, size + first + at_once))
        registry.wait(5)
        assert registry.holds() == ()
    assert registry.endpoints()[0] == size


def test_what_was_replaced_before_a_drop_is_not_brought_back() -> None:
    """A deployment, then a crash within the same window: only what the crash took is held."""
    registry = Registry([20])
    registry.wait(30)
    registry.have(0, range(40))
    registry.have(0, range(20, 40))
    registry.wait(30)
    registry.have(0, range(0))
    (entry,) = registry.entries().values()
    assert {one.address for one in entry.endpoints} == {one.ip for one in fleet(0, range(20, 40))}


def test_a_decommissioning_passes_after_the_deadline() -> None:
    """The service is really gone: Pilots lose it when the hold expires, and no hold begins again."""
    registry = Registry([20, *[5] * 40])
    registry.wait(30)
    registry.gone(0)
    assert registry.endpoints()[0] == 20
    registry.wait(590)
    assert registry.endpoints()[0] == 20
    registry.wait(15)
    assert registry.endpoints()[0] == 0
    assert registry.holds() == ()
    registry.wait(600)
    assert registry.endpoints() == [0, *[5] * 40]


def test_while_the_listener_is_blind_no_deadline_passes() -> None:
    """An hour without sight of Nacos changes nothing; afterwards the clock goes on."""
    registry = Registry([20])
    registry.wait(30)
    registry.have(0, range(2))
    registry.wait(3600, link=Link.BLIND)
    assert registry.endpoints() == [20]
    assert registry.holds()
    registry.wait(620)
    assert registry.endpoints() == [2]


def test_a_peak_from_before_blindness_still_counts() -> None:
    """What the registry had when it was last seen is what it is measured by."""
    registry = Registry([20])
    registry.wait(30)
    registry.wait(3600, link=Link.BLIND)
    registry.have(0, range(0))
    assert registry.endpoints() == [20]


def test_a_hold_lasts_until_nearly_all_returned() -> None:
    """Half of them back is not enough: the other half would be lost with the hold's end."""
    registry = Registry([5] * 40)
    registry.wait(30)
    for number in range(40):
        registry.have(number, range(0))
    for number in range(40):
        registry.have(number, range(10, 15))
        assert min(registry.endpoints()) >= 5 or number >= 38
    assert registry.endpoints() == [5] * 40, "the former addresses are gone with the hold"
    assert registry.holds() == ()


def test_flapping_is_held_each_time() -> None:
    """Pilots see one steady service."""
    registry = Registry([20])
    registry.wait(30)
    for _ in range(5):
        registry.have(0, range(3))
        registry.wait(10)
        assert registry.endpoints() == [20]
        registry.have(0, range(20))
        assert registry.holds() == ()
        registry.wait(10)


def test_a_slow_decline_is_no_drop() -> None:
    """An instance every minute: within any window too little is lost."""
    registry = Registry([60])
    registry.wait(30)
    for left in range(59, 0, -1):
        registry.have(0, range(left))
        registry.wait(60)
        if left > 16:
            assert registry.endpoints() == [left]
    assert registry.endpoints()[0] <= 16


def test_observing_names_the_hold_and_keeps_nothing() -> None:
    """As a trial run; off looks at nothing."""
    observe = GUARD.model_copy(update={"service": GUARD.service.model_copy(update={"mode": GuardMode.OBSERVE})})
    registry = Registry([20], observe)
    registry.wait(30)
    registry.have(0, range(2))
    assert registry.endpoints() == [2]
    (hold,) = registry.holds()
    assert hold.endswith("(observe)")
    registry = Registry([200], UNGUARDED)
    registry.wait(30)
    registry.have(0, range(2))
    assert registry.endpoints() == [2]
    assert registry.holds() == ()


def test_mass_illness_and_mass_disabling_are_drops_too() -> None:
    """What Pilots would lose counts, whatever the cause."""
    registry = Registry([20])
    registry.wait(30)
    ill = [make(one.ip, healthy=index < 3, enabled=index < 10) for index, one in enumerate(fleet(0, range(20)))]
    body, _ = diff(key(0), registry._stated[key(0)], seen(*ill))
    assert body is not None
    registry.add(body, observed_at=registry.now)
    assert registry.endpoints() == [20]


def test_a_namespace_that_is_gone_is_held_like_its_services() -> None:
    """Until the deadlines pass; then it is gone."""
    registry = Registry([20] * 5)
    registry.wait(30)
    registry.add(NamespaceGone(), observed_at=registry.now)
    assert registry.endpoints() == [20] * 5
    registry.wait(3700)
    assert not registry.fold.state.of_namespace(registry.events[0].namespace)


def test_the_other_datacenter_is_not_held() -> None:
    """A guard is one datacenter's: what another one loses or keeps does not bear on it."""
    registry = Registry([20])
    registry.wait(30)
    other = {"datacenter": "dc2", "session": "other", "observed_at": registry.now}
    registry.add(SyncStarted(reason="test"), sequence=0, **other)
    body, stated = state(key(0), seen(*(make(f"10.9.0.{index + 1}") for index in range(5))))
    registry.add(body, sequence=1, **other)
    registry.add(SyncCompleted(services=1, config_items=0), sequence=2, **other)
    assert registry.endpoints() == [25]
    body, _ = diff(key(0), stated, seen())
    assert body is not None
    registry.add(body, sequence=3, **other)
    assert registry.endpoints() == [20]


YEARS = 10 * 365 * 86_400


def held_registry(revision: str = REVISION) -> Registry:
    """A service that lost nearly all of its endpoints, which are held."""
    registry = Registry([20], revision=revision)
    registry.wait(30)
    registry.have(0, range(2))
    assert registry.endpoints() == [20]
    return registry


def beat(registry: Registry, ahead_s: float) -> None:
    """A heartbeat that is so far ahead, or back."""
    at = registry.now + int(ahead_s * SECOND)
    registry.add(Heartbeat(link=Link.LIVE, detail=""), namespace="", observed_at=at)


@pytest.mark.parametrize("ahead_s", [YEARS, -YEARS / 10, 3601, 2**62 // SECOND])
@pytest.mark.parametrize("times", [1, 3])
def test_records_with_a_false_time_neither_end_a_hold_nor_keep_it_for_ever(ahead_s: float, times: int) -> None:
    """Far ahead or back, once or now and then: the deadline is that of the other records."""
    registry = held_registry()
    for _ in range(times):
        beat(registry, ahead_s)
        registry.wait(150)
        assert registry.endpoints() == [20]
    registry.wait(600 - times * 150 + 5)
    assert registry.endpoints() == [2]
    assert registry.fold.state.datacenters[registry.datacenter].guard.jumps == times


@pytest.mark.parametrize("ahead_s", [YEARS, -YEARS / 10, 3 * 3600])
def test_a_clock_that_is_set_is_followed(ahead_s: float) -> None:
    """From the second record on; the step itself is no time that passed: the listener may have been away."""
    registry = held_registry()
    registry.wait(300)
    registry.now += int(ahead_s * SECOND)
    registry.wait(250)
    assert registry.endpoints() == [20]
    registry.wait(60)
    assert registry.endpoints() == [2]


def test_the_first_revision_takes_every_step_for_time() -> None:
    """As it did when it published: what it made is proven with the same holds."""
    registry = held_registry(FIRST_REVISION)
    beat(registry, YEARS)
    assert registry.endpoints() == [2]
    registry.have(0, range(20))
    registry.have(0, range(2))
    registry.wait(3600)
    assert registry.endpoints() == [20], "its clock stands"
