"""What a keyframe does not state and keeps, and states that come in parts."""

from __future__ import annotations

import pytest

from consumers.audit.events import describe_body, is_about
from consumers.materializer.fold import Outcome
from consumers.materializer.recovery import recovery_offset
from producers.listener.diff import state
from schemas.events import (
    ConfigKey,
    ConfigState,
    Instance,
    ServiceKey,
    ServicePart,
    ServiceState,
    SyncCompleted,
    SyncStarted,
)
from tests.unit.conversions import PUBLIC, TOPIC, Log, make, seen

SERVICE, OTHER = ServiceKey("DEFAULT_GROUP", "svc"), ServiceKey("DEFAULT_GROUP", "other")
ITEM, FOREIGN = ConfigKey("ISTIO", "routes"), ConfigKey("OTHER", "routes")
ROUTE = """
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: %s}
spec: {host: a.example}
"""


def item(key: ConfigKey) -> ConfigState:
    """A config item that states a destination rule."""
    return ConfigState(key=key, content=ROUTE % key.group.lower(), content_type="yaml", md5=key.group)


def keyframe(log: Log, completed: SyncCompleted, *bodies: ConfigState | ServiceState | ServicePart) -> None:
    """A keyframe that states these."""
    log.add(SyncStarted(reason="test"))
    for body in bodies:
        log.add(body)
    log.add(completed)


def filled() -> Log:
    """Two services and a config item."""
    log = Log()
    bodies = [state(key, seen(make()))[0] for key in (SERVICE, OTHER)]
    keyframe(log, SyncCompleted(services=2, config_items=1), *bodies, item(ITEM))
    return log


def lose_one(log: Log) -> None:
    """An event that the fold never reads."""
    log.events.append(log.events[-1])


def services(log: Log) -> set[ServiceKey]:
    """The services that the fold has."""
    return set(log.fold.state.datacenters[log.datacenter].namespaces[PUBLIC].services)


def items(log: Log) -> set[ConfigKey]:
    """The config items that the fold has."""
    return set(log.fold.state.datacenters[log.datacenter].namespaces[PUBLIC].items)


@pytest.mark.parametrize(
    ("completed", "left"),
    [
        (SyncCompleted(services=0, config_items=0), set()),
        (SyncCompleted(services=0, config_items=0, kept_services=(OTHER,)), {OTHER}),
        (SyncCompleted(services=0, config_items=0, keeps_all_services=True), {SERVICE, OTHER}),
        (SyncCompleted(services=0, config_items=0, kept_services=(ServiceKey("g", "unknown"),)), set()),
    ],
)
def test_services_that_a_keyframe_keeps_stay_as_they_were(completed: SyncCompleted, left: set[ServiceKey]) -> None:
    """The others that it does not state are gone."""
    log = filled()
    keyframe(log, completed)
    assert services(log) == left


@pytest.mark.parametrize(
    ("completed", "left"),
    [
        (SyncCompleted(services=0, config_items=0), set()),
        (SyncCompleted(services=0, config_items=0, kept_items=(ITEM,)), {ITEM}),
        (SyncCompleted(services=0, config_items=0, kept_item_groups=("*",)), {ITEM}),
        (SyncCompleted(services=0, config_items=0, kept_item_groups=("IST*",)), {ITEM}),
        (SyncCompleted(services=0, config_items=0, kept_item_groups=("OTHER",)), set()),
    ],
)
def test_config_items_that_a_keyframe_keeps_stay_as_they_were(
    completed: SyncCompleted, left: set[ConfigKey]
) -> None:
    """By name, or all of a group of which nothing is known."""
    log = filled()
    keyframe(log, completed)
    assert items(log) == left


def test_a_fold_never_begins_at_a_keyframe_that_kept_something() -> None:
    """What it kept was stated before it; a keyframe that kept nothing is one to begin at."""
    log = filled()
    keyframe(log, SyncCompleted(services=0, config_items=0, keeps_all_services=True, kept_item_groups=("*",)))
    assert recovery_offset(log.fold.state, TOPIC, len(log.events)) == 0
    begin = len(log.events)
    keyframe(log, SyncCompleted(services=0, config_items=0, kept_services=(ServiceKey("g", "unknown"),)))
    assert recovery_offset(log.fold.state, TOPIC, len(log.events)) == begin


def test_a_fault_in_what_a_keyframe_kept_is_not_healed_by_it() -> None:
    """A hole may have been an event of what it did not state; the next whole keyframe heals it."""
    log = filled()
    lose_one(log)
    keyframe(log, SyncCompleted(services=1, config_items=0, kept_services=(OTHER,)),
             state(SERVICE, seen(make()))[0])  # fmt: skip
    assert log.fold.state.datacenters[log.datacenter].namespaces[PUBLIC].suspect
    bodies = [state(key, seen(make()))[0] for key in (SERVICE, OTHER)]
    keyframe(log, SyncCompleted(services=2, config_items=0), *bodies)
    assert not log.fold.state.datacenters[log.datacenter].namespaces[PUBLIC].suspect


def part(number: int, parts: int, *instances: Instance) -> ServicePart:
    """A part of the service's state."""
    return ServicePart(key=SERVICE, instances=instances, protect_threshold=0.5, part=number, parts=parts)


FIRST, SECOND, THIRD = make("10.0.0.7"), make("10.0.0.8"), make("10.0.0.9")


def addresses(log: Log) -> set[str]:
    """The addresses of the service that the fold has."""
    here = log.fold.state.datacenters[log.datacenter].namespaces[PUBLIC].services[SERVICE]
    return {key.ip for key in here.instances}


def test_a_state_in_parts_applies_with_its_last_part() -> None:
    """Before that the service is as it was; afterwards as one ServiceState would have made it."""
    log = filled()
    log.add(part(0, 3, FIRST))
    log.add(part(1, 3, SECOND))
    assert addresses(log) == {"10.0.0.1"}
    log.add(part(2, 3, THIRD))
    assert addresses(log) == {"10.0.0.7", "10.0.0.8", "10.0.0.9"}
    whole = filled()
    whole.add(ServiceState(key=SERVICE, instances=(FIRST, SECOND, THIRD), protect_threshold=0.5))
    assert log.snapshot().manifest.digest == whole.snapshot().manifest.digest


def test_a_state_in_parts_is_one_service_of_a_keyframe() -> None:
    """It is counted once, and what the keyframe did not state goes."""
    log = filled()
    keyframe(log, SyncCompleted(services=1, config_items=0), part(0, 2, FIRST), part(1, 2, SECOND))
    assert log.outcome is Outcome.APPLIED
    assert services(log) == {SERVICE}


def test_parts_that_do_not_follow_each_other_change_nothing() -> None:
    """One is missing, or a new state begins: the service stays as it was, and the namespace is suspect."""
    log = filled()
    log.add(part(0, 3, FIRST))
    log.add(part(2, 3, THIRD))
    assert log.outcome is Outcome.MISMATCH
    assert addresses(log) == {"10.0.0.1"}
    assert log.fold.state.datacenters[log.datacenter].namespaces[PUBLIC].suspect
    log.add(part(0, 2, FIRST))
    log.add(part(0, 2, SECOND))
    log.add(part(1, 2, THIRD))
    assert addresses(log) == {"10.0.0.8", "10.0.0.9"}


def test_parts_on_both_sides_of_a_hole_are_not_put_together() -> None:
    """Nor are those of two sessions."""
    log = filled()
    log.add(part(0, 2, FIRST))
    lose_one(log)
    log.add(part(1, 2, SECOND))
    assert addresses(log) == {"10.0.0.1"}


def test_answers_name_what_a_keyframe_kept_and_which_part_it_is() -> None:
    """For a person who reads the log."""
    kept = SyncCompleted(services=0, config_items=0, kept_services=(OTHER,), kept_item_groups=("*",))
    assert describe_body(kept) == (
        "a keyframe is complete; kept as they were: DEFAULT_GROUP@@other, config items of *"
    )
    assert describe_body(part(1, 3, FIRST)) == "DEFAULT_GROUP@@svc, part 2 of 3: 10.0.0.7:8080"
    assert is_about(part(1, 3, FIRST), SERVICE)
