"""What the listener makes of what Nacos says, before any Kafka."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.errors import NacosGarbageError
from producers.listener.diff import diff, state
from producers.listener.namespace_view import NamespaceView
from producers.listener.observation import (
    Observation,
    agrees,
    corrected,
    is_doubtful,
    pushed,
    without_removals,
)
from producers.listener.session import Session, keyframe_due
from producers.nacos.payload import decode, encode
from producers.nacos.service_info import BadInstance, parse_instance, parse_service_info
from schemas.digests import service_digest
from schemas.events import (
    ConfigGone,
    ConfigKey,
    ConfigState,
    Datacenter,
    Instance,
    Namespace,
    RegistryBody,
    ServiceDelta,
    ServiceGone,
    ServiceKey,
    ServiceState,
    SessionId,
    SyncStarted,
)
from tests.unit.conversions import make, seen

KEY = ServiceKey("DEFAULT_GROUP", "svc")
HOST: dict[str, Any] = {
    "ip": "10.0.0.1", "port": 8080, "weight": 1.0, "healthy": True, "enabled": True, "ephemeral": True,
    "clusterName": "DEFAULT", "metadata": {"k": "v"},
}  # fmt: skip


def info(*hosts: object) -> dict[str, Any]:
    """A serviceInfo with these hosts."""
    return {"name": "svc", "groupName": "DEFAULT_GROUP", "hosts": list(hosts)}


def test_a_service_info_is_read() -> None:
    """Every fact of an instance, in the order of their keys."""
    parsed = parse_service_info(info({**HOST, "ip": "10.0.0.2"}, HOST))
    assert parsed.key == KEY
    assert parsed.hosts.instances == (make(metadata={"k": "v"}), make("10.0.0.2", metadata={"k": "v"}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ip": ""}, "bad_ip"), ({"ip": None}, "bad_ip"), ({"ip": "a\x00b"}, "bad_ip"),
        ({"port": 0}, "bad_port"), ({"port": 70000}, "bad_port"), ({"port": "x"}, "bad_port"),
        ({"port": True}, "bad_port"), ({"weight": -1.0}, "bad_weight"), ({"weight": float("nan")}, "bad_weight"),
        ({"weight": float("inf")}, "bad_weight"), ({"weight": "1"}, "bad_weight"),
        ({"metadata": "x"}, "bad_metadata"), ({"metadata": {"k": "x" * 1_000_000}}, "metadata_too_long"),
        ({"metadata": {"k": "\ud800"}}, "bad_text"), ({"ip": "a" * 254}, "bad_ip"),
    ],
)  # fmt: skip
def test_a_bad_instance_is_left_out_and_says_why(change: dict[str, Any], reason: str) -> None:
    """The service goes on with the others."""
    parsed = parse_service_info(info({**HOST, **change}, {**HOST, "ip": "10.0.0.2"}, 5))
    assert [bad.reason for bad in parsed.hosts.bad] == [reason, "not_an_object"]
    assert [instance.ip for instance in parsed.hosts.instances] == ["10.0.0.2"]


DEEP: Any = []
for _ in range(1020):  # what the reader of JSON lets through is deeper than Python writes down
    DEEP = [DEEP]


@pytest.mark.parametrize("field", ["ip", "port", "weight", "clusterName", "metadata", "in metadata", "x"])
def test_a_field_that_is_nested_without_end_costs_its_instance(field: str) -> None:
    """Writing it down raises RecursionError; the others are read, and what is told of it is short."""
    odd = {**HOST, **({"metadata": {"k": DEEP}} if field == "in metadata" else {field: DEEP})}
    parsed = parse_service_info(info(odd, {**HOST, "ip": "10.0.0.2"}, DEEP))
    assert [bad.reason for bad in parsed.hosts.bad][-1] == "not_an_object"
    assert all(bad.reason != "internal_fault" and len(bad.detail) < 300 for bad in parsed.hosts.bad)
    assert parsed.hosts.instances[-1].ip == "10.0.0.2"
    for value in (
        {"name": DEEP},
        {"name": "a", "hosts": {"x": DEEP}},
        {"name": "a", "groupName": DEEP, "hosts": 1},
    ):
        with pytest.raises(NacosGarbageError):
            parse_service_info(value)


def test_a_fault_of_ours_costs_the_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reading one raises, the others are read."""

    def faulty(host: Any, lowest_port: int) -> Instance | BadInstance:
        if host["ip"] == "10.0.0.1":
            raise MemoryError
        return parse_instance(host, lowest_port)

    monkeypatch.setattr("producers.nacos.service_info.parse_instance", faulty)
    parsed = parse_service_info(info(HOST, {**HOST, "ip": "10.0.0.2"}))
    assert [bad.reason for bad in parsed.hosts.bad] == ["internal_fault"]
    assert [one.ip for one in parsed.hosts.instances] == ["10.0.0.2"]


@given(
    st.dictionaries(
        st.sampled_from([*HOST, "other"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())),
    )
)
def test_no_instance_crashes_the_reader(host: dict[str, Any]) -> None:
    """Whatever JSON may hold, it is an instance or a bad one."""
    assert isinstance(parse_instance(host), Instance | BadInstance)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        {},
        {"name": ""},
        {"name": 5},
        {"name": "a", "hosts": "x"},
        {"name": "a", "hosts": 0},
        {"name": "a", "hosts": False},
        {"name": "a", "hosts": {}},
    ],
)
def test_garbage_instead_of_a_service_is_refused(value: object) -> None:
    """An empty service is something else than no service: nothing is made up."""
    with pytest.raises(NacosGarbageError):
        parse_service_info(value)


def test_an_address_that_two_clients_registered_is_decided_alike_by_all() -> None:
    """Nacos lists it twice, in any order."""
    one, other = {**HOST, "metadata": {"k": "1"}}, {**HOST, "metadata": {"k": "2"}}
    assert parse_service_info(info(one, other)) == parse_service_info(info(other, one))


def test_the_envelope_survives_the_way_and_garbage_does_not() -> None:
    """Type and JSON; anything else is one error."""
    assert decode(encode("HealthCheckRequest", {"a": 1})) == ("HealthCheckRequest", {"a": 1})
    for garbage in (b"\xff\xff", encode("X", {})[:-1] + b"]"):
        with pytest.raises(NacosGarbageError):
            decode(garbage)


def test_a_delta_names_what_changed_and_what_it_amounts_to() -> None:
    """Upserts, removals, count and digest of all."""
    _, stated = state(KEY, seen(make(), make("10.0.0.2")))
    after = (make(weight=2.0), make("10.0.0.3"))
    delta, standing = diff(KEY, stated, seen(*after))
    assert isinstance(delta, ServiceDelta)
    assert delta.upserts == after
    assert [key.ip for key in delta.removals] == ["10.0.0.2"]
    assert (delta.count, delta.digest) == (2, service_digest(after))
    assert diff(KEY, standing, seen(*after))[0] is None


def test_a_changed_threshold_states_the_service() -> None:
    """A delta can't tell of it."""
    _, stated = state(KEY, seen(make()))
    body, standing = diff(KEY, stated, Observation(visible=(make(),), protect_threshold=0.5))
    assert isinstance(body, ServiceState)
    assert (body.protect_threshold, standing.protect_threshold) == (0.5, 0.5)


def test_without_removals_nothing_is_taken_away() -> None:
    """What is new or changed counts; what is missing stays."""
    before, after = seen(make(), make("10.0.0.2")), seen(make(weight=2.0))
    assert without_removals(before, after) == (seen(make(weight=2.0), make("10.0.0.2")), True)
    assert without_removals(after, before) == (before, False)


def test_a_push_does_not_take_what_it_hides() -> None:
    """A disabled instance stays known until it is enabled or the catalog lacks it."""
    disabled = make("10.0.0.2", enabled=False)
    known = Observation(visible=(make(),), hidden=(disabled,), protect_threshold=0.5)
    after = pushed(known, parse_service_info(info({**HOST, "weight": 2.0})))
    assert after.instances == (make(weight=2.0, metadata={"k": "v"}), disabled)
    assert after.protect_threshold == 0.5
    enabled = pushed(known, parse_service_info(info({**HOST, "ip": "10.0.0.2"})))
    assert enabled.hidden == ()


def test_a_protected_push_says_nothing_of_health() -> None:
    """Nacos calls all healthy then: what is known of each stays."""
    known = seen(make(healthy=False, metadata={"k": "v"}))
    told = parse_service_info(info(HOST, {**HOST, "ip": "10.0.0.2"}) | {"reachProtectionThreshold": True})
    after = pushed(known, told)
    assert [instance.healthy for instance in after.visible] == [True, True], "no threshold explains it yet"
    assert is_doubtful(known, after, told)
    explained = Observation(visible=known.visible, protect_threshold=0.5)
    assert [instance.healthy for instance in pushed(explained, told).visible] == [False, True]


def test_a_push_that_is_not_protected_overrules_a_threshold() -> None:
    """It was lowered; Nacos gives out the healthy ones, and so do we, until the catalog says what it is."""
    known = Observation(visible=(make(), make("10.0.0.2", healthy=False)), protect_threshold=0.8)
    told = parse_service_info(info(HOST, {**HOST, "ip": "10.0.0.2", "healthy": False}))
    after = pushed(known, told)
    assert after.protect_threshold == 0.0
    assert is_doubtful(known, after, told)


def test_a_push_that_lacks_an_instance_is_doubtful() -> None:
    """It may have been disabled."""
    one, two = parse_service_info(info(HOST)), parse_service_info(info(HOST, {**HOST, "ip": "10.0.0.2"}))
    assert is_doubtful(seen(make(), make("10.0.0.2")), seen(make()), one)
    assert not is_doubtful(seen(make()), seen(make(), make("10.0.0.2")), two)


def test_the_catalog_corrects_but_takes_no_enabled_instance() -> None:
    """Health, weight, metadata and what is disabled; who is enabled and there is asked again."""
    known = seen(make(), make("10.0.0.2"))
    truth = (make(healthy=False), make("10.0.0.2"), make("10.0.0.3", enabled=False))
    correction = corrected(known, truth, 0.5)
    assert correction.observation.instances == truth
    assert not correction.ask_again
    fewer = corrected(known, truth[:1], 0.0)
    assert [instance.ip for instance in fewer.observation.instances] == ["10.0.0.1", "10.0.0.2"]
    assert fewer.ask_again
    assert corrected(known, (*truth[:2], make("10.0.0.4")), 0.0).ask_again


def test_a_page_of_the_catalog_that_tells_nothing_new_is_passed_over() -> None:
    """It does not say who is ephemeral."""
    known = seen(make(ephemeral=False), make("10.0.0.2", ephemeral=False))
    assert agrees(known, (make(), make("10.0.0.2")), 0.0)
    assert not agrees(known, (make(), make("10.0.0.2", enabled=False)), 0.0)
    assert not agrees(known, (make(), make("10.0.0.2")), 0.1)
    assert not agrees(known, (make(),), 0.0)


def pending(view: NamespaceView) -> list[RegistryBody]:
    """Publishes everything that differs."""
    bodies = []
    for difference in view.differences():
        view.publish(difference)
        bodies.append(difference.body)
    return bodies


def test_a_view_publishes_the_latest_of_many_observations() -> None:
    """While Kafka is away memory is bounded by the registry: a hundred observations are one event."""
    view = NamespaceView(Namespace("public"))
    for weight in range(1, 101):
        view.observe(KEY, seen(make(weight=float(weight))), at=weight)
    (body,) = pending(view)
    assert isinstance(body, ServiceState)
    assert body.instances[0].weight == 100.0
    view.observe(KEY, seen(make(weight=1.0)), at=200)
    view.observe(KEY, seen(make(weight=100.0)), at=201)
    assert pending(view) == [], "back where it was"


def test_a_view_tells_what_came_changed_and_went() -> None:
    """State, delta, gone; an empty service is not a gone one."""
    view = NamespaceView(Namespace("public"))
    view.observe(KEY, seen(make()), at=1)
    assert isinstance(pending(view)[0], ServiceState)
    view.observe(KEY, seen(), at=2)
    (emptied,) = pending(view)
    assert isinstance(emptied, ServiceDelta)
    assert emptied.count == 0
    assert view.stated_instances == 0
    view.forget(KEY, at=3)
    assert pending(view) == [ServiceGone(key=KEY)]
    view.forget(KEY, at=4)
    assert pending(view) == []


def test_what_the_log_did_not_take_is_offered_again() -> None:
    """A full queue ends the turn in the middle: nothing is lost, nothing comes twice."""
    view = NamespaceView(Namespace("public"))
    for name in ("a", "b", "c"):
        view.observe(ServiceKey("g", name), seen(make()), at=1)
    view.publish(next(view.differences()))
    assert len(pending(view)) == 2
    assert pending(view) == []


def test_config_items_are_published_like_services() -> None:
    """State, nothing while equal, gone; one that has the names of a service is another thing."""
    view = NamespaceView(Namespace("public"))
    item = ConfigState(key=ConfigKey(*KEY), content="a: 1", content_type="yaml", md5="1")
    view.observe(KEY, seen(make()), at=1)
    view.observe_config(item, at=1)
    assert [type(body) for body in pending(view)] == [ServiceState, ConfigState]
    view.observe_config(replace(item, content="a: 1"), at=2)
    assert pending(view) == []
    view.observe_config(replace(item, content="a: 2", md5="2"), at=3)
    assert len(pending(view)) == 1
    view.forget_config(item.key, at=4)
    assert pending(view) == [ConfigGone(key=item.key)]
    assert view.observed.keys() == {KEY}


def test_a_session_numbers_what_was_taken() -> None:
    """An event that the queue refused leaves no hole."""
    session = Session(datacenter=Datacenter("dc1"), partition=0, id=SessionId("s"), epoch=7)
    assert session.event(Namespace("n"), SyncStarted(reason="x"), 1).sequence == 0
    assert session.event(Namespace("n"), SyncStarted(reason="x"), 1).sequence == 0
    session.taken()
    assert session.event(Namespace("n"), SyncStarted(reason="x"), 1).sequence == 1


@pytest.mark.parametrize(
    ("deltas", "instances", "age_s", "due"),
    [
        (49_999, 0, 0, False),
        (50_000, 0, 0, True),
        (50_000, 30_000, 0, False),
        (60_000, 30_000, 0, True),
        (0, 0, 21_600, True),
    ],
)
def test_keyframes_follow_the_size_of_the_state(deltas: int, instances: int, age_s: float, due: bool) -> None:  # noqa: FBT001
    """So that recovery never reads more than a few times of it."""
    facts = {"min_events": 50_000, "max_age_s": 21_600.0}
    assert keyframe_due(deltas=deltas, instances=instances, age_s=age_s, **facts) is due  # type: ignore[arg-type]
