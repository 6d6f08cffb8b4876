"""Snapshots are a function of the log and of the decisions: whatever operators do, each can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.audit.verification import Foreknowledge, Verdict, Verification
from consumers.materializer.partition import MaterializedPartition
from consumers.materializer.replay import Replay
from consumers.materializer.view import PublishedNamespace
from consumers.settings import ConversionSettings, ExpectedSettings, GuardSettings
from schemas.control import (
    ControlEvent,
    ExcludeDatacenter,
    Freeze,
    IncludeDatacenter,
    Pin,
    Release,
    Unfreeze,
    Unpin,
)
from schemas.events import Datacenter, Namespace, ServiceKey
from tests.property.test_fold import Publisher, keys, registries, services
from tests.unit.conversions import PUBLIC, make

if TYPE_CHECKING:
    from consumers.materializer.view import Update
    from schemas.control import ControlBody
    from schemas.events import RegistryEvent
    from schemas.records import Manifest, ResourceRecord

CONVERSION = ConversionSettings()
SCOPE = {"max_share": 0.5, "min_size": 2, "window_s": 4e-6, "deadline_s": 12e-6}
GUARD = GuardSettings.model_validate({"service": SCOPE, "namespace": SCOPE, "datacenter": SCOPE})
DATACENTERS = ("dc1", "dc2")

datacenters = st.sampled_from(DATACENTERS)
releases = st.builds(
    Release,
    scope=st.sampled_from(["service", "namespace", "datacenter"]),
    datacenter=datacenters,
    service=keys.map(lambda key: f"{key.group}@@{key.service}"),
)
decisions = st.one_of(
    st.just(Freeze()),
    st.just(Unfreeze()),
    st.integers(0, 50).map(lambda back: Pin(version={"back": back})),
    st.just(Unpin()),
    releases,
    releases,
    st.builds(ExcludeDatacenter, datacenter=datacenters),
    st.builds(IncludeDatacenter, datacenter=datacenters),
)
ENTRY = (
    "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {0}}}, spec: {{hosts: [{1}]}}}}"
)
texts = st.one_of(
    st.builds(
        ENTRY.format, st.sampled_from(["a.g.public", "a-b.g.public", "x"]), st.sampled_from(["h1.x", "h2.x"])
    ),
    st.just("kind: nonsense"),
    st.none(),
)
steps = st.lists(
    st.one_of(
        st.tuples(datacenters, st.just("write"), st.tuples(st.sampled_from(["one", "two"]), texts)),
        st.tuples(datacenters, keys, st.one_of(services, st.none())),
        st.tuples(datacenters, keys, st.one_of(services, st.none())),
        st.tuples(datacenters, st.just("lay"), st.none()),
        st.tuples(datacenters, st.just("again"), st.integers(0, 9)),
        st.tuples(st.just("decide"), decisions, st.none()),
    ),
    max_size=40,
)


def topic_of(datacenter: str) -> str:
    """Each datacenter's events are mirrored in a topic of their own."""
    return f"{datacenter}.events"


@dataclass
class World:
    """Two datacenters' logs, operators, and a partition that is published after each event."""

    partition: MaterializedPartition = field(default_factory=lambda: partition({}))
    publishers: dict[str, Publisher] = field(
        default_factory=lambda: {name: Publisher(datacenter=name) for name in DATACENTERS}
    )
    logs: dict[str, list[RegistryEvent]] = field(default_factory=lambda: {name: [] for name in DATACENTERS})
    written: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DATACENTERS, 0))
    records: dict[tuple[str, str], ResourceRecord] = field(default_factory=dict)
    history: list[tuple[Manifest, dict[tuple[str, str], ResourceRecord]]] = field(default_factory=list)
    decided: int = 0

    def catch_up(self) -> None:
        """Folds and publishes what the datacenters have written."""
        for name, publisher in self.publishers.items():
            for event in publisher.events[self.written[name] :]:
                self.fold(name, event)
            self.written[name] = len(publisher.events)

    def fold(self, name: str, event: RegistryEvent) -> None:
        """An event is written, folded and published."""
        self.logs[name].append(event)
        self.partition.apply(topic_of(name), len(self.logs[name]) - 1, event)
        self.publish([update for _, update in self.partition.updates()])

    def publish(self, updates: list[Update]) -> None:
        """Takes the updates in as a committed transaction would be."""
        for update in updates:
            self.partition.views[PUBLIC].published(update)
            self.records |= {name: record for name, record in update.records.items() if record is not None}
            for name in [name for name, record in update.records.items() if record is None]:
                del self.records[name]
            self.history.append((update.manifest, dict(self.records)))

    def decide(self, body: ControlBody) -> None:
        """An operator's decision; a pin goes back so many versions."""
        pinned = None
        if isinstance(body, Pin):
            manifest, pinned = self.history[-1 - body.version["back"] % len(self.history)]
            body = Pin(version=manifest.version)
        event = ControlEvent(namespace=PUBLIC, author="a", reason="r", issued_at=0, body=body)
        assert self.partition.refusal(self.decided, event) is None
        self.publish([update for _, update in self.partition.decide(self.decided, event, pinned)])
        self.decided += 1


def partition(published: dict[str, PublishedNamespace], guard: GuardSettings = GUARD) -> MaterializedPartition:
    """A partition with what stands published."""
    made = MaterializedPartition(
        number=0,
        settings=CONVERSION,
        guard=guard,
        expected=ExpectedSettings(),
        published=published,  # type: ignore[arg-type]
    )
    made.recovering = False
    return made


def lived(first: dict, script: list) -> World:
    """A world in which all of that happened."""
    world = World()
    for publisher in world.publishers.values():
        publisher.lay(first)
    world.catch_up()
    for who, what, how in script:
        if who == "decide":
            world.decide(what)
        elif what == "again":
            world.fold(who, world.logs[who][-1 - how % len(world.logs[who])])
        elif what == "write":
            world.publishers[who].write(*how)
        elif what == "lay":
            world.publishers[who].lay(world.publishers[who].registry())
        else:
            world.publishers[who].change(what, how)
        world.catch_up()
    return world


@given(first=registries.filter(bool), script=steps)
@settings(max_examples=150, deadline=None)
def test_each_manifest_and_the_log_give_its_snapshot_again(first, script) -> None:
    """From where the manifest says, with the decisions that it names, in any order of datacenters."""
    world = lived(first, script)
    for manifest, records in world.history:
        if manifest.frozen:
            continue
        replay = Replay(CONVERSION, GUARD, manifest)
        for name, log in reversed(world.logs.items()):
            for offset, event in enumerate(log):
                replay.apply(topic_of(name), offset, event)
        digest, rebuilt = replay.snapshot()
        assert rebuilt == records
        assert digest in {manifest.digest, ""}


@given(first=registries.filter(bool), script=steps, forged=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_an_audit_proves_every_manifest_and_finds_a_forged_one(first, script, forged) -> None:
    """One fold along the history, whatever was decided; one other digest anywhere does not pass."""
    history = [manifest for manifest, _ in lived(first, script).history]
    world = lived(first, script)
    index = forged % len(history)
    for manifests in (history, [replace(m, digest="0" * 31 + "1") if m is history[index] else m for m in history]):
        foreknowledge = Foreknowledge()
        for manifest in manifests:
            foreknowledge.learn(manifest)
        verification = Verification(CONVERSION, GUARD, foreknowledge)
        done = dict.fromkeys(DATACENTERS, 0)
        findings = []
        for manifest in manifests:
            for name, log in world.logs.items():
                end = manifest.folded_to.get(topic_of(name), -1) + 1
                for offset in range(done[name], end):
                    verification.apply(topic_of(name), offset, log[offset])
                done[name] = max(done[name], end)
            findings.append(verification.check(manifest))
        verdicts = [finding.verdict for finding in findings]
        if manifests is history:
            assert set(verdicts) == {Verdict.VERIFIED}, findings
        else:
            assert verdicts[index] is Verdict.MISMATCH


@given(first=registries.filter(bool), script=steps)
@settings(max_examples=150, deadline=None)
def test_a_frozen_or_pinned_namespace_stands(first, script) -> None:
    """While it does, no manifest has another content than the one before, but the pin's own."""
    world = lived(first, script)
    for (before, _), (after, _) in zip(world.history, world.history[1:], strict=False):
        if before.frozen and after.frozen and after.reason != "control: Pin":
            assert after.digest == before.digest
        assert after.version != before.version


@given(first=registries.filter(bool), script=steps)
@settings(max_examples=150, deadline=None)
def test_a_restart_at_any_point_finds_what_stands_published(first, script) -> None:
    """Decisions in force and released holds come back from the manifest, and nothing is published anew."""
    assert_a_restart_finds_what_stands(lived(first, script))


def test_a_release_behind_a_repeated_event_is_carried_out_again() -> None:
    """Its position is that of the repeated event, which changes nothing by itself."""
    key = ServiceKey("g", "a")
    four = tuple(make(f"10.0.0.{number}") for number in range(4))
    release = Release(scope="service", datacenter=Datacenter("dc1"), service="g@@a")
    world = lived({key: four}, [("dc1", key, four[:1]), ("dc1", "again", 0), ("decide", release, None)])
    assert [hold.where for _, hold in world.partition.holds()] == [("public",), ()]
    assert_a_restart_finds_what_stands(world)


def test_what_the_log_no_longer_tells_of_is_not_taken_away() -> None:
    """A namespace that was frozen for longer than the log reaches back: unfrozen, it keeps what it has."""
    world = lived({ServiceKey("g", "a"): (make(),)}, [("decide", Freeze(), None)])
    manifest = world.history[-1][0]
    versions = {name: record.version for name, record in world.records.items()}
    again = partition({PUBLIC: PublishedNamespace(versions=versions, manifest=manifest)})
    unfreeze = ControlEvent(namespace=PUBLIC, author="a", reason="r", issued_at=0, body=Unfreeze())
    ((_, update),) = again.decide(1, unfreeze)
    assert update.records == {}
    assert (update.manifest.digest, update.manifest.resources) == (manifest.digest, 1)
    assert not update.manifest.frozen
    unknown = ControlEvent(namespace=Namespace("x"), author="a", reason="r", issued_at=0, body=Freeze())
    assert again.refusal(2, unknown) == "namespace x has no snapshot"
    assert "x" not in again.views


def assert_a_restart_finds_what_stands(world: World) -> None:
    """A partition that recovers from what was published publishes nothing, and holds what was held."""
    manifest = world.history[-1][0]
    standing = PublishedNamespace(
        versions={name: record.version for name, record in world.records.items()}, manifest=manifest
    )
    again = partition({PUBLIC: standing})
    for name, log in world.logs.items():
        start = world.partition.recovery_offset(topic_of(name))
        for offset, event in enumerate(log[start:], start=start):
            again.apply(topic_of(name), offset, event)
    assert [update.records for _, update in again.recovered()] == []
    assert again.refusal(world.decided, _nothing()) is None
    if world.decided:
        assert again.refusal(world.decided - 1, _nothing()) == "", "it would be carried out twice"
    assert [hold.where for _, hold in sorted(again.holds(), key=str)] == [
        hold.where for _, hold in sorted(world.partition.holds(), key=str)
    ]


@given(first=registries, scripts=st.tuples(steps, steps), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_the_order_across_datacenters_does_not_matter(first, scripts, seed) -> None:
    """However two topics are read side by side, the snapshot at their ends is the same."""
    logs: dict[str, list[RegistryEvent]] = {}
    for name, script in zip(DATACENTERS, scripts, strict=True):
        publisher = Publisher(datacenter=name)
        publisher.lay(first)
        for _, what, how in script:
            if what == "lay":
                publisher.lay(publisher.registry())
            elif what == "write":
                publisher.write(*how)
            elif isinstance(what, tuple):
                publisher.change(what, how)  # type: ignore[arg-type]
        logs[name] = publisher.events
    outcomes = []
    in_turn = [name for name, events in logs.items() for _ in events]
    mixed = list(in_turn)
    random.Random(seed).shuffle(mixed)
    for order in (in_turn, list(reversed(in_turn)), mixed):
        world = partition({})
        offsets = dict.fromkeys(DATACENTERS, 0)
        for name in order:
            world.apply(topic_of(name), offsets[name], logs[name][offsets[name]])
            offsets[name] += 1
        updates = [update for _, update in world.recovered()]
        outcomes.append([(u.manifest.digest, u.manifest.version, u.manifest.holds) for u in updates])
    assert outcomes[0] == outcomes[1] == outcomes[2]


def _nothing() -> ControlEvent:
    return ControlEvent(namespace=PUBLIC, author="", reason="", issued_at=0, body=Unfreeze())


@given(first=registries.filter(bool), says=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_expected_datacenters_are_waited_for(first, says) -> None:
    """A namespace is first published when all have stated it or the grace is over; the manifest names the missing.

    The clock is that of the log: an event a microsecond.
    """
    grace = 5
    made = partition({})
    made.expected = ExpectedSettings(datacenters=DATACENTERS, grace_s=grace / 1e6)
    one, other = (Publisher(datacenter=name) for name in DATACENTERS)
    one.lay(first)
    stated_at = len(one.events) - 1
    while len(one.events) <= stated_at + 10:
        one.lay(first)
    published: dict[int, Manifest] = {}
    other_stated = False
    for offset, event in enumerate(one.events):
        made.apply(topic_of("dc1"), offset, event)
        for _, update in made.updates():
            published.setdefault(offset, update.manifest)
        if offset == stated_at + says and not published:
            other.lay(first)
            for at, stated in enumerate(other.events):
                made.apply(topic_of("dc2"), at, stated)
            other_stated = True
            for _, update in made.updates():
                published[offset] = update.manifest
    at, manifest = min(published.items())
    if other_stated:
        assert (at, manifest.missing) == (stated_at + says, ())
    else:
        assert (at, manifest.missing) == (stated_at + grace, ("dc2",))


def test_an_empty_namespace_is_published_once_whether_live_or_recovered() -> None:
    """A manifest without resources, when its keyframe is whole; a recovery of the same log finds it standing."""
    publisher = Publisher(datacenter="dc1")
    publisher.lay({})
    live = partition({})
    for offset, event in enumerate(publisher.events):
        live.apply("dc1", offset, event)
    ((view, update),) = live.updates()
    assert update.manifest.resources == 0
    assert not update.records
    view.published(update)
    assert not list(live.updates())
    again = partition({PUBLIC: PublishedNamespace(manifest=update.manifest)})
    for offset, event in enumerate(publisher.events):
        again.apply("dc1", offset, event)
    assert not list(again.recovered())
    assert not list(again.updates())
