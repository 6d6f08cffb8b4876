"""Faults of our own, put into each step of the fold and the view: each costs what it came from, and nothing else.

The steps raise for marked instances, services and items: a function of the log, as a fault of the code would be.
"""

from __future__ import annotations

from contextlib import ExitStack
from decimal import InvalidOperation
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.audit.verdict import Verdict
from consumers.audit.verification import Foreknowledge, Verification
from consumers.materializer import claimed_names, folded_item, held_service, namespace_records
from consumers.materializer.conversion.endpoint import EndpointConverter
from consumers.materializer.folded_service import FoldedService
from consumers.materializer.replay import Replay
from consumers.materializer.view import PublishedNamespace
from schemas.control import Freeze, Unfreeze
from schemas.events import Heartbeat, Link, ServiceKey
from tests.property.test_decisions import CONVERSION, GUARD, World, partition, topic_of
from tests.property.test_fold import Publisher
from tests.unit.conversions import PUBLIC, UNGUARDED, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumers.settings import GuardSettings

CONVERT, JOIN, REPLACE = 7001, 7002, 7003
"""Ports of instances that a step raises for: when one is converted, joined, put into its service."""
ERRORS: list[Callable[[], Exception]] = [
    lambda: ValueError("Exceeds the limit (4300 digits) for integer string conversion"),
    lambda: OverflowError("int too large to convert to float"),
    lambda: RecursionError("maximum recursion depth exceeded"),
    MemoryError,
    lambda: KeyError("x"),
    InvalidOperation,
    lambda: DecodeError("bad"),
    lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    AssertionError,
]
ITEM = (
    "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {0}}}, spec: {{hosts: [{1}]}}}}"
)

keys = st.sampled_from([ServiceKey("g", name) for name in ("a", "b", "c", "unnamed")])
instances = st.builds(
    make,
    st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
    st.sampled_from([80, 8080, CONVERT, JOIN, REPLACE]),
    weight=st.sampled_from([1.0, 2.0]),
)
services = st.lists(instances, max_size=3, unique_by=lambda one: one.key).map(tuple)
registries = st.dictionaries(keys, services, min_size=1, max_size=4)
texts = st.one_of(
    st.builds(
        ITEM.format,
        st.sampled_from(["a.g.public", "x", "claimed"]),
        st.sampled_from(["h1.x", "convert.x", "state.x"]),
    ),
    st.just("kind: nonsense"),
    st.none(),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), keys, st.one_of(services, st.none())),
        st.tuples(st.just("change"), keys, st.one_of(services, st.none())),
        st.tuples(st.just("write"), st.sampled_from(["one", "two"]), texts),
        st.tuples(st.just("lay"), st.none(), st.none()),
        st.tuples(st.just("decide"), st.sampled_from([Freeze(), Unfreeze()]), st.none()),
    ),
    max_size=15,
)


class Faulty:
    """While it is entered, steps raise for what is marked."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self.error = error
        self._stack = ExitStack()

    def __enter__(self) -> None:
        self._wrap(EndpointConverter, "convert", lambda _, instance, *__: instance.port == CONVERT)
        self._wrap(FoldedService, "replace", self._has_marked_change)
        self._wrap(folded_item, "read_item", lambda _, __, text, *___: "convert.x" in text)
        self._wrap(held_service, "service_entry", self._has_marked_instance)
        self._wrap(namespace_records, "encode_stated", lambda _, stated: b"state.x" in stated.body)
        self._wrap_result(
            namespace_records,
            "claimants",
            lambda found: any(one.resource.name == "public/claimed" for one in found),
        )
        self._wrap(claimed_names, "service_name", lambda _, __, key, **___: key.service == "unnamed")

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wrap(self, where: Any, name: str, is_marked: Callable[..., bool]) -> None:
        step = getattr(where, name)

        def faulty(*args: Any, **kwargs: Any) -> Any:
            if is_marked(*args, **kwargs):
                raise self.error()
            return step(*args, **kwargs)

        self._stack.enter_context(patch.object(where, name, faulty))

    def _wrap_result(self, where: Any, name: str, is_marked: Callable[[Any], bool]) -> None:
        step = getattr(where, name)

        def faulty(*args: Any) -> Any:
            if is_marked(found := step(*args)):
                raise self.error()
            return found

        self._stack.enter_context(patch.object(where, name, faulty))

    @staticmethod
    def _has_marked_change(_: FoldedService, changes: dict[Any, Any], __: float) -> bool:
        return any(now is not None and now.port == REPLACE for now in changes.values())

    @staticmethod
    def _has_marked_instance(_: Any, __: Any, ___: Any, joined: dict[Any, Any]) -> bool:
        return any(one.port == JOIN for held in joined.values() for one in held.service.instances.values())


def one_datacenter(guard: GuardSettings) -> World:
    """A world of one datacenter, in which nothing happened yet."""
    return World(publishers={"dc1": Publisher(datacenter="dc1")}, partition=partition({}, guard))


def lived(first: dict[Any, Any], script: list[Any], guard: GuardSettings = UNGUARDED) -> World:
    """A world in which all of that happened, published after each event."""
    world = one_datacenter(guard)
    world.publishers["dc1"].lay(first)
    world.catch_up()
    for what, which, how in script:
        publisher = world.publishers["dc1"]
        match what:
            case "change":
                publisher.change(which, how)
            case "write":
                publisher.write(which, how)
            case "lay":
                publisher.lay(publisher.registry())
            case _ if world.history:
                world.decide(which)
        world.catch_up()
    return world


@given(first=registries, script=steps, error=st.sampled_from(ERRORS))
@settings(max_examples=120, deadline=None)
def test_every_manifest_is_proven_whatever_step_raises(first, script, error) -> None:
    """Replay gives its digest, an audit says VERIFIED, a restart publishes nothing."""
    with Faulty(error):
        world = lived(first, script, GUARD)
        log = world.logs["dc1"]
        verification, done = Verification(CONVERSION, GUARD, Foreknowledge()), 0
        for manifest, _ in world.history:
            if not manifest.frozen:
                replay = Replay(CONVERSION, GUARD, manifest)
                for offset, event in enumerate(log):
                    replay.apply(topic_of("dc1"), offset, event)
                assert replay.snapshot()[0] in {manifest.digest, ""}
            end = manifest.folded_to.get(topic_of("dc1"), -1) + 1
            for offset in range(done, end):
                verification.apply(topic_of("dc1"), offset, log[offset])
            done = max(done, end)
            finding = verification.check(manifest)
            assert finding.verdict is Verdict.VERIFIED, finding.reason
        assert restarted(world) == []


def restarted(world: World) -> list[dict[Any, Any]]:
    """What a partition publishes that recovers from what stands."""
    if not world.history:
        return []
    standing = PublishedNamespace(
        versions={name: record.version for name, record in world.records.items()}, manifest=world.history[-1][0]
    )
    again = partition({PUBLIC: standing}, world.partition.guard)
    start = world.partition.recovery_offset(topic_of("dc1"))
    for offset, event in enumerate(world.logs["dc1"][start:], start=start):
        again.apply(topic_of("dc1"), offset, event)
    found = [update.records for _, update in again.recovered()]
    assert again.take_view_faults() == [], "what is withheld was told of before"
    return found


@given(first=registries, script=steps, error=st.sampled_from(ERRORS))
@settings(max_examples=120, deadline=None)
def test_all_that_is_not_marked_is_published_as_if_nothing_had_raised(first, script, error) -> None:
    """A service or item that no marked thing ever touched has the same versions, event by event."""
    script = [step for step in script if step[0] != "decide"]
    touched = {key for key, here in first.items() if is_marked(here)}
    touched |= {which for what, which, how in script if what == "change" and how and is_marked(how)}
    marked_items = any(what == "write" for what, _, how in script)
    with Faulty(error):
        world = lived(first, script)
    sound = lived(first, script)
    mine, theirs = outcome(world), outcome(sound)
    for name in mine.keys() | theirs.keys():
        service = ServiceKey("g", name.partition("/")[2].partition(".")[0])
        if (
            service in touched
            or service.service == "unnamed"
            or (marked_items and service.service in {"a", "x", "claimed"})
        ):
            continue
        assert mine.get(name) == theirs.get(name), name


@given(first=registries, script=steps, error=st.sampled_from(ERRORS), mended=registries)
@settings(max_examples=120, deadline=None)
def test_good_statements_and_a_keyframe_mend_everything(first, script, error, mended) -> None:
    """Then the snapshot is as if nothing had ever raised, nothing is withheld, no namespace suspect."""
    mended = {
        key: tuple(one for one in here if one.port in {80, 8080})
        for key, here in mended.items()
        if key.service != "unnamed"
    } | {ServiceKey("g", "good"): (make("10.0.0.9"),)}
    with Faulty(error):
        world = lived(first, script)
        publisher = world.publishers["dc1"]
        for item in ("one", "two"):
            publisher.write(item, None)
        publisher.lay(mended)
        # Entries of services that are gone stay until then; what can't be made of them is told until a keyframe.
        publisher.add(Heartbeat(link=Link.LIVE, detail=""), observed_at=700_000_000)
        publisher.lay(mended)
        world.catch_up()
        if world.partition.namespaces()[PUBLIC].stands:
            world.decide(Unfreeze())
        assert (world.partition.suspect, world.partition.faulted()) == (0, {})
        assert restarted(world) == []
    sound = one_datacenter(UNGUARDED)
    sound.publishers["dc1"].lay(mended)
    sound.catch_up()
    assert outcome(world) == outcome(sound)


@given(first=registries, error=st.sampled_from(ERRORS), frame=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_fault_that_passes_is_mended_by_the_next_keyframe(first, error, frame) -> None:
    """The same content, stated again after the fault is gone: out of memory once, say."""
    world = one_datacenter(UNGUARDED)
    publisher = world.publishers["dc1"]
    publisher.write("one", ITEM.format("x", "convert.x"))
    publisher.write("two", ITEM.format("y", "state.x"))
    with Faulty(error):
        publisher.lay({} if frame else first)
        world.catch_up()
        for key, here in first.items():
            publisher.change(key, here)
        world.catch_up()
    publisher.lay(publisher.registry())
    world.catch_up()
    assert (world.partition.suspect, world.partition.faulted()) == (0, {})
    sound = one_datacenter(UNGUARDED)
    for name, text in (("one", ITEM.format("x", "convert.x")), ("two", ITEM.format("y", "state.x"))):
        sound.publishers["dc1"].write(name, text)
    sound.publishers["dc1"].lay(first)
    sound.catch_up()
    assert outcome(world) == outcome(sound)


def is_marked(here: tuple[Any, ...]) -> bool:
    """Whether a step raises for any of these instances."""
    return any(one.port in {CONVERT, JOIN, REPLACE} for one in here)


def outcome(world: World) -> dict[str, str]:
    """The versions of what is published, by name."""
    return {name: record.version for (_, name), record in world.records.items()}
