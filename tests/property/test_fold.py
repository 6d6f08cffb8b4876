"""Facts about the fold and the conversion that hold for every log."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.materializer.fold import Fold, Outcome
from consumers.materializer.fold_state import Touched
from consumers.materializer.recovery import recovery_offset
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings, GuardSettings
from producers.listener.diff import diff, state
from schemas.events import (
    ConfigGone,
    ConfigKey,
    ConfigState,
    Instance,
    RegistryEvent,
    ServiceGone,
    ServiceKey,
    SyncCompleted,
    SyncStarted,
)
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producers.listener.diff import StatedService

CONVERSION = ConversionSettings(empty_grace_s=0)

instances = st.builds(
    Instance,
    ip=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "db.example.com", "bad address"]),
    port=st.sampled_from([80, 8080]),
    cluster=st.sampled_from(["DEFAULT", "c1"]),
    weight=st.sampled_from([0.0, 0.5, 1.0]),
    healthy=st.booleans(),
    enabled=st.booleans(),
    ephemeral=st.just(True),
    metadata=st.dictionaries(
        st.sampled_from(["version", "protocol", "zone"]), st.sampled_from(["a", "grpc"]), max_size=2
    ),
)
services = st.lists(instances, max_size=5, unique_by=lambda instance: instance.key).map(tuple)
keys = st.sampled_from([ServiceKey("g", name) for name in ("a", "a_b", "a-b", "a:b", "c")])
registries = st.dictionaries(keys, services, max_size=5)
changes = st.lists(st.tuples(keys, st.one_of(services, st.none())), max_size=20)


class Publisher(Log):
    """Publishes registries as a listener does: keyframes, then what differs."""

    def __init__(self, guard: GuardSettings = UNGUARDED, datacenter: str = "dc1") -> None:
        super().__init__(CONVERSION, guard=guard, datacenter=datacenter)
        self.stated: dict[ServiceKey, StatedService] = {}
        self.items: dict[ConfigKey, ConfigState] = {}

    def write(self, data_id: str, text: str | None) -> None:
        """A config item's text; None deletes it."""
        key = ConfigKey("ISTIO", data_id)
        if text is not None:
            self.items[key] = ConfigState(key=key, content=text, content_type="yaml", md5="")
            self.add(self.items[key])
        elif self.items.pop(key, None) is not None:
            self.add(ConfigGone(key=key))

    def lay(self, registry: dict[ServiceKey, tuple[Instance, ...]]) -> None:
        self.add(SyncStarted(reason="test"))
        self.stated = {}
        for key, here in registry.items():
            body, self.stated[key] = state(key, seen(*here))
            self.add(body)
        for item in self.items.values():
            self.add(item)
        self.add(SyncCompleted(services=len(registry), config_items=len(self.items)))

    def change(self, key: ServiceKey, here: tuple[Instance, ...] | None) -> None:
        if here is None:
            if self.stated.pop(key, None) is not None:
                self.add(ServiceGone(key=key))
        elif key not in self.stated:
            body, self.stated[key] = state(key, seen(*here))
            self.add(body)
        else:
            delta, self.stated[key] = diff(key, self.stated[key], seen(*here))
            if delta is not None:
                self.add(delta)

    def registry(self) -> dict[ServiceKey, tuple[Instance, ...]]:
        return {key: tuple(stated.instances.values()) for key, stated in self.stated.items()}


def contents(
    events: list[RegistryEvent],
    first: int = 0,
    guard: GuardSettings = UNGUARDED,
    claims: Mapping[str, int] = MappingProxyType({}),
) -> dict[tuple[str, str], str]:
    """Names and versions of the resources after folding these events."""
    return folded(events, first, guard, claims)[0]


def claims_of(log: Log) -> Mapping[str, int]:
    """What a manifest says of who wants one name: a fold that begins later is told of it."""
    return log.snapshot().manifest.claims if PUBLIC in log.fold.state.changes else {}


def folded(
    events: list[RegistryEvent],
    first: int,
    guard: GuardSettings,
    claims: Mapping[str, int] = MappingProxyType({}),
) -> tuple[dict[tuple[str, str], str], tuple[str, ...]]:
    """Names and versions of the resources after folding these events, and the holds."""
    fold = Fold(CONVERSION, guard)
    for offset, event in enumerate(events, start=first):
        fold.apply(TOPIC, offset, event)
    view = NamespaceView(PUBLIC, CONVERSION)
    if PUBLIC not in fold.state.changes:
        return {}, ()
    fold.state.adopt_claims(PUBLIC, claims)
    update = view.update_all(fold.state, Occasion("test"))
    if update is None:
        return {}, ()
    return {name: record.version for name, record in update.records.items() if record}, update.manifest.holds


@given(first=registries, between=changes, after=changes)
def test_folding_from_a_keyframe_is_folding_from_the_beginning(first, between, after) -> None:
    """Whatever came before a whole keyframe, recovery from it ends with the same resources and versions."""
    log = Publisher()
    log.lay(first)
    for key, here in between:
        log.change(key, here)
    log.lay(log.registry())
    for key, here in after:
        log.change(key, here)
    start = recovery_offset(log.fold.state, TOPIC, len(log.events))
    assert start > 0
    assert contents(log.events[start:], start, claims=claims_of(log)) == contents(log.events)


@given(
    first=registries,
    rounds=st.lists(changes, min_size=1, max_size=5),
    window=st.integers(1, 15),
    deadline=st.integers(1, 40),
    share=st.sampled_from([0.3, 0.5, 0.9]),
)
def test_with_a_guard_folding_from_an_old_enough_keyframe_is_folding_from_the_beginning(
    first, rounds, window, deadline, share
) -> None:
    """Older than the window and than what open holds keep: then resources and holds come out the same.

    The log's clock is an event a microsecond, so windows and deadlines pass within it.
    """
    scope = {"max_share": share, "min_size": 2, "window_s": window / 1e6, "deadline_s": deadline / 1e6}
    head = {"min_size": 2, "delay_s": deadline / 1e6}
    guard = GuardSettings.model_validate({"service": scope, "namespace": scope, "datacenter": scope, "head": head})
    log = Publisher(guard)
    log.lay(first)
    for between in rounds:
        for key, here in between:
            log.change(key, here)
        log.lay(log.registry())
    start = recovery_offset(log.fold.state, TOPIC, len(log.events))
    assert folded(log.events[start:], start, guard, claims_of(log)) == folded(log.events, 0, guard)


@given(first=registries, after=changes)
def test_the_fold_is_what_was_published(first, after) -> None:
    """Every delta amounts to what it says, and the outcome is a fresh conversion of the registry.

    Of services that want one name the one that came first has it.
    """
    log = Publisher()
    log.lay(first)
    for key, here in after:
        log.change(key, here)
        assert log.outcome is Outcome.APPLIED
    fresh = Publisher()
    fresh.lay(log.registry())
    assert contents(log.events) == contents(fresh.events, claims=claims_of(log))


@given(first=registries, after=changes, cuts=st.sets(st.integers(0, 20)))
def test_batching_is_invisible(first, after, cuts) -> None:
    """Wherever batches are cut, the version, the digest and the resources at the end are the same."""
    log = Publisher()
    log.lay(first)
    for key, here in after:
        log.change(key, here)
    outcomes = []
    for batch_ends in (set(range(len(log.events))), {cut + len(first) for cut in cuts}):
        fold, view = Fold(CONVERSION, UNGUARDED), NamespaceView(PUBLIC, CONVERSION)
        for offset, event in enumerate(log.events):
            fold.apply(TOPIC, offset, event)
            if (offset in batch_ends or offset == len(log.events) - 1) and PUBLIC in fold.state.changes:
                changed = fold.state.changes[PUBLIC]
                dirty, changed.dirty = changed.dirty, Touched()
                if dirty and (update := view.update(fold.state, dirty, Occasion("test"))) is not None:
                    view.published(update)
        outcomes.append((view.versions, view.manifest and (view.manifest.version, view.manifest.digest)))
    assert outcomes[0] == outcomes[1]


@given(services, st.randoms(use_true_random=False))
def test_any_order_of_instances_gives_equal_bytes(here, dice) -> None:
    """Endpoints are sorted, maps are sorted, fields have one order."""
    shuffled = list(here)
    dice.shuffle(shuffled)
    key = ServiceKey("g", "a")
    bodies = []
    for order in (list(here), shuffled):
        log = Publisher()
        log.keyframe({key: order})
        bodies.append(contents_of(log))
    assert bodies[0] == bodies[1]


def contents_of(log: Log) -> list[tuple[str, bytes]]:
    """Versions and bodies of the resources."""
    view = NamespaceView(PUBLIC, CONVERSION)
    if PUBLIC not in log.fold.state.changes:
        return []
    update = view.update_all(log.fold.state, Occasion("test"))
    return (
        sorted((record.version, record.body()) for record in update.records.values() if record) if update else []
    )


@given(services, services)
def test_a_version_is_its_content(one, other) -> None:
    """Equal bodies have equal versions, different bodies have different ones."""
    made = []
    for here in (one, other):
        log = Publisher()
        log.keyframe({ServiceKey("g", "a"): list(here)})
        made.append(contents_of(log))
    versions, bodies = zip(*[([v for v, _ in m], [b for _, b in m]) for m in made], strict=True)
    assert (versions[0] == versions[1]) == (bodies[0] == bodies[1])


@given(first=registries, stale=changes, after=changes)
def test_a_zombie_changes_nothing(first, stale, after) -> None:
    """Events of an older session that come late are passed over, wherever they stand."""
    log = Publisher()
    log.lay(first)
    zombie = Publisher()
    zombie.lay(first)
    for key, here in stale:
        zombie.change(key, here)
    log.epoch = 2
    log.lay(first)
    for key, here in after:
        log.change(key, here)
    mixed = log.events + zombie.events[len(first) + 2 :]
    assert contents(mixed) == contents(log.events)


@given(first=registries, after=changes, lost=st.integers(0, 19))
@settings(max_examples=50)
def test_a_hole_is_noticed_and_the_next_keyframe_mends_it(first, after, lost) -> None:
    """An event that is missing makes the namespace suspect until a whole keyframe was read."""
    log = Publisher()
    log.lay(first)
    began = len(log.events)
    for key, here in after:
        log.change(key, here)
    missing = began + lost
    log.lay(log.registry())
    if missing >= len(log.events) - 1:
        return
    fold = Fold(CONVERSION, UNGUARDED)
    suspected = False
    for offset, event in enumerate(log.events):
        if offset == missing:
            continue
        fold.apply(TOPIC, offset, event)
        suspected = suspected or fold.state.datacenters["dc1"].namespaces[PUBLIC].suspect
    assert suspected
    whole = missing < len(log.events) - 2 - len(log.registry())
    assert fold.state.datacenters["dc1"].namespaces[PUBLIC].suspect is not whole


@given(services)
def test_the_order_of_datacenters_does_not_matter(here) -> None:
    """Events of two datacenters may be interleaved anyhow: each keeps its own order only."""
    logs = [Log(CONVERSION, datacenter=name) for name in ("dc1", "dc2")]
    for index, log in enumerate(logs):
        log.keyframe({ServiceKey("g", "a"): [i._replace(weight=i.weight + index) for i in here]})
    one_after_the_other = logs[0].events + logs[1].events
    interleaved = [event for pair in zip(logs[0].events, logs[1].events, strict=True) for event in pair]
    assert contents(one_after_the_other) == contents(interleaved)
