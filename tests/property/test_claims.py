"""Facts about names that hold for every registry: nobody shares one, and batches and restarts move none."""

from __future__ import annotations

import re
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.materializer.allotment import Allotment
from consumers.materializer.conversion.names import service_name
from consumers.materializer.fold import Fold
from consumers.materializer.fold_state import Touched
from consumers.materializer.recovery import recovery_offset
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings
from schemas.events import Datacenter, ServiceKey
from tests.property.test_fold import Publisher
from tests.unit.conversions import PUBLIC, UNGUARDED, Log, make

CONVERSION = ConversionSettings(empty_grace_s=0)
HOST = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z"
)
VICTIM = ServiceKey("g", "Orders")
HASHED = [service_name(CONVERSION, PUBLIC, VICTIM, attempt=n).name.removesuffix(".g.public") for n in range(1, 4)]

texts = st.one_of(
    st.sampled_from(
        ["orders", "Orders", "ORDERS", "o_rders", "orders.v1", "v1", "prod", "a.b", "", ".", "-", "x" * 300]
    ),
    st.sampled_from(HASHED),
    st.text(st.sampled_from("aA._-:é"), max_size=4),
    st.text(max_size=70),
)
groups = st.one_of(
    st.sampled_from(["g", "G", "DEFAULT_GROUP", "DEFAULT-GROUP", "default-group", "v1.prod"]), texts
)
keys = st.builds(ServiceKey, groups, texts)
few = st.sampled_from(
    [
        *(
            ServiceKey("g", "Orders"),
            ServiceKey("g", "orders"),
            ServiceKey("G", "orders"),
            ServiceKey("g", HASHED[0]),
        ),
        *(ServiceKey("g", HASHED[1]), ServiceKey("DEFAULT_GROUP", "a_b"), ServiceKey("default-group", "a.b")),
        *(ServiceKey("b.default-group", "a"), ServiceKey("DEFAULT-GROUP", "a-b")),
    ]
)
changes = st.lists(st.tuples(few, st.booleans()), max_size=20)


def instances_of(key: ServiceKey, *, is_there: bool) -> tuple[object, ...] | None:
    """One instance; the number of its port tells services apart."""
    return (make(port=1 + sum(map(ord, "".join(key))) % 60000),) if is_there else None


@given(st.lists(keys, max_size=12, unique=True))
@settings(max_examples=200)
def test_no_two_services_have_one_name_or_one_host(here) -> None:
    """Whatever they are called, all of them are there, under names that Istio takes."""
    log = Log(CONVERSION)
    log.keyframe({key: [make()] for key in here})
    entries = log.entries()
    assert len(entries) == len(here)
    hosts = [entry.hosts[0] for entry in entries.values()]
    assert len(set(hosts)) == len(hosts)
    assert all(map(HOST.match, hosts))
    assert all(HOST.match(name.partition("/")[2]) for name in entries)


class Wishes:
    """Claimants are numbers in order; each wants the numbers that are drawn for it."""

    def __init__(self, wishes: list[list[tuple[int, int]]], moved: dict[int, int]) -> None:
        self.wishes, self.moved = wishes, moved

    def rank(self, claimant: int, /) -> tuple[object, ...]:
        return self.moved.get(claimant, claimant), claimant

    def wish(self, claimant: int, number: int, /) -> tuple[int, tuple[str, str]] | None:
        wishes = self.wishes[claimant]
        if number >= len(wishes):
            return None
        one, other = wishes[number]
        return number, (f"a{one}", f"b{other}")


numbers = st.integers(0, 4)
wish_lists = st.lists(st.lists(st.tuples(numbers, numbers), max_size=4), min_size=6, max_size=6)


@given(wish_lists, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 5)), max_size=20))
def test_what_each_has_does_not_depend_on_the_way_there(wishes, steps) -> None:
    """One by one, with ranks that move meanwhile, comes to the same as everybody at once in the end's order."""
    order = Wishes(wishes, {})
    one_by_one: Allotment[int, int] = Allotment(order)
    for claimant, what, rank in steps:
        had = {one: one_by_one.get(one) for one in one_by_one}
        if what == 2 and claimant in one_by_one and one_by_one.is_disputed(claimant):
            order.moved[claimant] = rank
            former = one_by_one.change(moved=[claimant])
        elif what == 2:
            continue
        else:
            former = one_by_one.change(*(([claimant], []) if what else ([], [claimant])))
        now = {one: one_by_one.get(one) for one in one_by_one}
        assert former.keys() == {one for one in had.keys() | now.keys() if had.get(one, -1) != now.get(one, -1)}
        assert all(had.get(one) == before for one, before in former.items())
    at_once: Allotment[int, int] = Allotment(order)
    at_once.change(coming=list(one_by_one))
    assert {one: at_once.get(one) for one in at_once} == {one: one_by_one.get(one) for one in one_by_one}
    assert at_once.disputes() == one_by_one.disputes()


def versions_of(fold: Fold) -> dict[tuple[str, str], str]:
    """What a fresh view makes of a fold."""
    view = NamespaceView(PUBLIC, CONVERSION)
    update = view.update_all(fold.state, Occasion("test")) if PUBLIC in fold.state.changes else None
    return {} if update is None else {name: one.version for name, one in update.records.items() if one is not None}


@given(changes, st.sets(st.integers(0, 60)))
def test_names_do_not_depend_on_batches(after, cuts) -> None:
    """A view that follows event by event, or in batches, or is made anew at the end, has the same names."""
    log = Publisher()
    log.lay({})
    for key, is_there in after:
        log.change(key, instances_of(key, is_there=is_there))
    fold, view = Fold(CONVERSION, UNGUARDED), NamespaceView(PUBLIC, CONVERSION)
    for offset, event in enumerate(log.events):
        fold.apply("t", offset, event)
        changed = fold.state.changes.get(PUBLIC)
        if changed is not None and (offset in cuts or offset == len(log.events) - 1):
            dirty, changed.dirty = changed.dirty, Touched()
            if dirty and (update := view.update(fold.state, dirty, Occasion("test"))) is not None:
                view.published(update)
    assert view.versions == versions_of(fold)


@given(changes, changes, st.data())
def test_names_do_not_depend_on_the_order_in_which_topics_are_read(one, other, data) -> None:
    """Two datacenters, whose events have times of their own, interleaved anyhow."""
    logs = []
    times = count()
    for number, steps in enumerate((one, other)):
        log = Publisher(datacenter=f"dc{number}")
        log.lay({})
        for key, is_there in steps:
            log.change(key, instances_of(key, is_there=is_there))
        logs.append([event._replace(observed_at=7 * next(times) % 50) for event in log.events])
    sequence = data.draw(st.permutations([0] * len(logs[0]) + [1] * len(logs[1])))
    found = []
    for order in (sequence, sorted(sequence), sorted(sequence, reverse=True)):
        fold, left = Fold(CONVERSION, UNGUARDED), [iter(enumerate(log)) for log in logs]
        for number in order:
            offset, event = next(left[number])
            fold.apply(f"t{number}", offset, event)
        found.append(versions_of(fold))
    assert found[0] == found[1] == found[2]


@given(changes, changes, changes)
def test_a_recovery_gives_names_to_the_same_services(first, second, third) -> None:
    """From the keyframe where it may begin, with what the last manifest says of who came first."""
    log = Publisher()
    log.lay({})
    for steps in (first, second, third):
        for key, is_there in steps:
            log.change(key, instances_of(key, is_there=is_there))
        log.lay(log.registry())
    manifest = log.snapshot().manifest
    start = recovery_offset(log.fold.state, "shiplog.registry.events", len(log.events))
    fold = Fold(CONVERSION, UNGUARDED)
    for offset, event in enumerate(log.events[start:], start=start):
        fold.apply("shiplog.registry.events", offset, event)
    fold.state.adopt_claims(PUBLIC, manifest.claims)
    assert versions_of(fold) == versions_of(log.fold)
    assert Datacenter("dc1") in fold.state.datacenters
