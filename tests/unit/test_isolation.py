"""One fault of ours at a time, and what it costs: a guard, a namespace, a decision, a record on its way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from consumers.audit.verdict import Verdict
from consumers.audit.verification import Foreknowledge, Verification
from consumers.errors import NotCarriedOutError
from consumers.materializer import held_service
from consumers.materializer import view as view_module
from consumers.materializer.decision_queue import CarryOut, DecisionQueue, Refuse
from consumers.materializer.decisions import MAX_DECISIONS_BYTES
from consumers.materializer.fold import Fold, Outcome
from consumers.materializer.folded_service import FoldedService
from consumers.materializer.guard import Guard
from consumers.materializer.partition import MaterializedPartition
from consumers.materializer.patience import Patience
from consumers.materializer.transaction import NamespaceUpdate, TransactionWriter
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings, ExpectedSettings, GuardSettings, MaterializerSettings
from mcp_gateway.snapshot_feed import SnapshotFeed
from producers.listener.diff import state
from runtime.settings import KafkaSettings
from runtime.supervision import Supervisor
from schemas.avro_codec import AvroCodec, Codecs, codecs
from schemas.control import ControlEvent, ExcludeDatacenter, Freeze, Pin, Release, Unfreeze
from schemas.errors import UndecodableRecordError
from schemas.events import (
    ConfigKey,
    ConfigState,
    Datacenter,
    Heartbeat,
    Link,
    Namespace,
    NamespaceGone,
    RegistryEvent,
    ServiceGone,
    ServiceKey,
    SyncCompleted,
    SyncStarted,
)
from schemas.topics import QUARANTINE, SNAPSHOTS
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, make, seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumers.materializer.view import Update

A, B = ServiceKey("g", "a"), ServiceKey("g", "b")
OTHER = Namespace("other")
GUARD = GuardSettings.model_validate({"service": {"min_size": 2}})


def raising(error: Exception) -> Callable[..., Any]:
    """A step that raises, whatever it is given."""

    def step(*_: Any, **__: Any) -> Any:
        raise error

    return step


def partition_of(log: Log, guard: GuardSettings = UNGUARDED) -> MaterializedPartition:
    """A partition that has folded the log, and published it."""
    made = MaterializedPartition(
        number=0, settings=log.settings, guard=guard, expected=ExpectedSettings(), published={}, live_from={},
        recovering=False,
    )  # fmt: skip
    for offset, event in enumerate(log.events):
        made.apply(TOPIC, offset, event)
    publish(made)
    return made


def publish(partition: MaterializedPartition) -> list[Update]:
    """What changed, taken as committed."""
    found = list(partition.updates())
    for view, update in found:
        view.published(update)
    return [update for _, update in found]


def two_services(guard: GuardSettings = UNGUARDED) -> Log:
    """Two services of four instances each in a whole keyframe."""
    log = Log(guard=guard)
    log.keyframe({key: [make(f"10.0.{n}.{i}") for i in range(4)] for n, key in enumerate((A, B))})
    return log


@pytest.mark.parametrize("method", ["tick", "change"])
def test_a_guard_that_raises_begins_anew_and_the_event_is_folded(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of once, the namespace is suspect until its next keyframe, and the guard guards again."""
    log = two_services(GUARD)
    partition = partition_of(log, GUARD)
    with monkeypatch.context() as patched:
        patched.setattr(Guard, method, raising(KeyError("x")))
        event = log.add(state(A, seen(*(make(f"10.0.0.{i}") for i in range(5))))[0])
        assert partition.apply(TOPIC, len(log.events) - 1, event) is Outcome.INTERNAL_FAULT
    (fault,) = partition.faults
    assert fault.place == "the guard, which begins anew"
    assert "KeyError" in fault.trace
    (update,) = publish(partition)
    assert (update.manifest.changed, update.manifest.suspect) == (1, ("dc1",))
    log.add(state(B, seen(make("10.0.1.0")))[0])
    assert partition.apply(TOPIC, len(log.events) - 1, log.events[-1]) is Outcome.APPLIED
    assert [hold.where for _, hold in partition.holds()] == [(PUBLIC, *B)], "what is lost from now on is held"
    log.keyframe({A: [make(f"10.0.0.{i}") for i in range(5)], B: [make("10.0.1.0")]})
    for offset, event in enumerate(log.events[-4:], start=len(log.events) - 4):
        partition.apply(TOPIC, offset, event)
    assert partition.suspect == 0


def test_what_a_guard_that_raises_had_held_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows any more what it was: the snapshot says what Nacos says, and replay says the same."""
    log = two_services(GUARD)
    partition = partition_of(log, GUARD)
    log.add(state(A, seen(make("10.0.0.0")))[0])
    partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
    publish(partition)
    assert partition.holds()
    beat = log.add(Heartbeat(link=Link.LIVE, detail=""), namespace=Namespace(""))
    with monkeypatch.context() as patched:
        patched.setattr(Guard, "tick", raising(RecursionError()))
        partition.apply(TOPIC, len(log.events) - 1, beat)
    (update,) = publish(partition)
    assert (update.manifest.changed, update.manifest.holds) == (1, ())


def test_a_namespace_that_cannot_be_viewed_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published of it stands, the others go on; told once; all of it is looked at again afterwards."""
    log = two_services()
    log.add(SyncStarted(reason="x"), namespace=OTHER)
    log.add(SyncCompleted(services=0, config_items=0), namespace=OTHER)
    partition = partition_of(log)
    standing = dict(partition.views[PUBLIC].versions)

    def circumstances(_: Any, namespace: str) -> dict[str, Any]:
        if namespace == PUBLIC:
            raise OverflowError
        return sound(_, namespace)

    sound = view_module.circumstances
    with monkeypatch.context() as patched:
        patched.setattr(view_module, "circumstances", circumstances)
        for number in range(3):
            log.add(state(A, seen(make(weight=number)))[0])
            partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
            log.add(state(A, seen(make(weight=number)))[0], namespace=OTHER)
            partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
            assert [update.manifest.namespace for update in publish(partition)] == [OTHER]
    (fault,) = partition.take_view_faults()
    assert (fault.reason, fault.place) == ("internal_fault", "namespace public")
    assert partition.views[PUBLIC].versions == standing
    assert partition.suspect == 1
    log.add(ServiceGone(key=B))
    partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
    (update,) = publish(partition)
    assert (update.manifest.changed, update.manifest.removed) == (1, 1)


def test_a_namespace_that_could_not_be_viewed_is_looked_at_with_its_next_keyframe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where that states what is folded already."""
    log = two_services()
    partition = partition_of(log)
    with monkeypatch.context() as patched:
        patched.setattr(view_module, "tally", raising(MemoryError()))
        log.add(state(A, seen(make(weight=5)))[0])
        partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
        assert publish(partition) == []
    log.keyframe({A: [make(weight=5)], B: [make(f"10.0.1.{i}") for i in range(4)]})
    for offset, event in enumerate(log.events[-4:], start=len(log.events) - 4):
        partition.apply(TOPIC, offset, event)
    (update,) = publish(partition)
    assert (update.manifest.changed, update.manifest.suspect) == (1, ())


def test_an_empty_namespace_that_could_not_be_viewed_is_published_with_its_next_keyframe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of it changes with that: it is published because it is whole."""
    log = Log()
    with monkeypatch.context() as patched:
        patched.setattr(view_module, "tally", raising(MemoryError()))
        log.keyframe({})
        partition = partition_of(log)
        assert partition.views[PUBLIC].manifest is None
    log.keyframe({})
    for offset, event in enumerate(log.events[-2:], start=len(log.events) - 2):
        partition.apply(TOPIC, offset, event)
    (update,) = publish(partition)
    assert (update.manifest.resources, update.manifest.suspect) == (0, ())


def control(body: Any, reason: str = "r") -> ControlEvent:
    """A decision over the namespace."""
    return ControlEvent(namespace=PUBLIC, author="a", reason=reason, issued_at=0, body=body)


@pytest.mark.parametrize(
    "body", [Freeze(), Pin(version={TOPIC: 3}), ExcludeDatacenter(datacenter=Datacenter("dc1"))]
)
def test_a_decision_that_meets_a_fault_is_as_if_it_had_not_been_taken(
    body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused; what is published, what is in force and what follows are as before."""
    log = two_services()
    partition = partition_of(log)
    standing = dict(partition.views[PUBLIC].versions)
    with monkeypatch.context() as patched:
        patched.setattr(view_module, "circumstances", raising(ValueError("odd")))
        with pytest.raises(NotCarriedOutError, match="odd"):
            list(partition.decide(7, control(body), {}))
    assert partition.views[PUBLIC].versions == standing
    assert not partition.namespaces()[PUBLIC].stands
    log.add(state(A, seen(make(weight=5)))[0])
    partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
    (update,) = publish(partition)
    assert update.manifest.version == {TOPIC: len(log.events) - 1}
    assert (update.manifest.decisions, update.manifest.frozen, update.manifest.removed) == ((), False, 0)
    assert partition.refusal(7, control(body)) is None, "it may be taken again"
    assert [one.manifest.frozen for _, one in partition.decide(8, control(Freeze()))] == [True]


def test_an_unfreezing_that_meets_a_fault_leaves_it_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an unfreezing would publish by surprise."""
    log = two_services()
    partition = partition_of(log)
    for view, update in partition.decide(1, control(Freeze())):
        view.published(update)
    with monkeypatch.context() as patched:
        patched.setattr(view_module, "tally", raising(ValueError("odd")))
        with pytest.raises(NotCarriedOutError):
            list(partition.decide(2, control(Unfreeze())))
    assert partition.namespaces()[PUBLIC].stands
    log.add(state(A, seen(make(weight=5)))[0])
    partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
    assert publish(partition) == []


def test_a_release_stands_although_the_view_met_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it let go of is not held again: it is carried out, and shows with the next update."""
    log = two_services(GUARD)
    partition = partition_of(log, GUARD)
    log.add(state(A, seen(make("10.0.0.0")))[0])
    partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
    publish(partition)
    release = Release(scope="service", datacenter=Datacenter("dc1"), service="g@@a")
    with monkeypatch.context() as patched:
        patched.setattr(view_module, "tally", raising(ValueError("odd")))
        assert list(partition.decide(1, control(release))) == []
    assert partition.holds() == []
    assert [fault.place for fault in partition.take_view_faults()] == ["namespace public"]


def test_decisions_that_no_manifest_has_room_for_are_refused() -> None:
    """Each manifest repeats those in force, with who took them and why."""
    partition = partition_of(two_services())
    long = "x" * (MAX_DECISIONS_BYTES // 3)
    for number in range(2):
        event = control(ExcludeDatacenter(datacenter=Datacenter(f"dc{number + 5}")), long)
        assert partition.refusal(number, event) is None
        for view, update in partition.decide(number, event):
            view.published(update)
    refusal = partition.refusal(9, control(ExcludeDatacenter(datacenter=Datacenter("dc9")), long))
    assert refusal is not None
    assert "room for" in refusal
    assert partition.refusal(9, control(Freeze())) is None


def test_a_fault_while_a_decision_is_looked_at_costs_the_decision() -> None:
    """The next one is looked at; nothing is looked at for ever."""
    queue = DecisionQueue(raising(RuntimeError("can't start new thread")))
    queue.add(1, control(Pin(version={})))
    queue.add(2, control(Freeze()))
    found = queue.take(lambda *_: None)
    assert isinstance(found, Refuse)
    assert (found.offset, found.reason) == (1, "RuntimeError: can't start new thread")
    assert isinstance(queue.take(lambda *_: None), CarryOut)
    assert queue.take(lambda *_: None) is None
    queue.add(3, control(Freeze()))
    assert isinstance(queue.take(raising(KeyError("x"))), Refuse)
    assert queue.first_waiting() is None


def test_a_fault_in_the_shortcut_is_for_fastavro_to_find_out() -> None:
    """What the reader of frequent events raises costs nothing."""
    codec = codecs().registry_event
    event = Log().add(SyncStarted(reason="x"))
    faulty: AvroCodec[RegistryEvent] = AvroCodec(
        name="registry_event", to_avro=codec.to_avro, from_avro=codec.from_avro, shortcut=raising(RecursionError())
    )
    assert faulty.decode(codec.encode(event)) == event


@pytest.mark.parametrize("name", ["", "a|b", "|", "x" * 257, "half \ud800"])
def test_a_namespace_or_datacenter_with_an_impossible_name_is_set_aside(name: str) -> None:
    """It could be no part of a record's key, or each manifest would repeat it; the others go on."""
    log = two_services()
    for changes in ({"namespace": Namespace(name)}, {"datacenter": Datacenter(name)}):
        log.add(SyncStarted(reason="x"), **changes)
        assert log.outcome is Outcome.BAD_NAME
        (fault,) = log.fold.faults
        assert fault.reason == "bad_name"
    log.add(ServiceGone(key=A))
    assert log.outcome is Outcome.APPLIED
    assert list(log.fold.state.datacenters) == ["dc1"]


def test_a_fold_that_raises_costs_the_event_and_a_keyframe_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted as stated, so that the keyframe is whole; no place to begin at; suspect until the next one."""
    log = two_services()
    log.add(SyncStarted(reason="test"))
    with monkeypatch.context() as patched:
        patched.setattr(
            "consumers.materializer.folded_service.FoldedService.replace", raising(AssertionError("x"))
        )
        log.add(state(A, seen(make("10.9.9.9")))[0])
        assert log.outcome is Outcome.INTERNAL_FAULT
        (fault,) = log.fold.faults
        assert (fault.place, fault.detail) == ("ServiceState of g/a", "AssertionError: x")
    log.add(state(B, seen(*(make(f"10.0.1.{i}") for i in range(4))))[0])
    log.add(SyncCompleted(services=2, config_items=0))
    assert log.outcome is Outcome.APPLIED
    assert len(log.entries()) == 2
    here = log.fold.state.datacenters[Datacenter("dc1")].namespaces[PUBLIC]
    assert (here.suspect, [one.is_whole for one in here.keyframes]) == (True, [True, False])
    log.keyframe({A: [make()], B: [make()]})
    assert not here.suspect


def test_a_service_that_cannot_be_removed_stays_and_the_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a keyframe, and with a namespace."""
    log, sound = two_services(), FoldedService.replace

    def replace(self: Any, changes: Any, threshold: float) -> Any:
        if any(now is None and key.ip.startswith("10.0.0.") for key, now in changes.items()):
            raise KeyError("x")
        return sound(self, changes, threshold)

    monkeypatch.setattr(FoldedService, "replace", replace)
    log.keyframe({})
    assert log.outcome is Outcome.INTERNAL_FAULT
    assert list(log.entries()) == ["public/a.g.public"]
    log.add(NamespaceGone())
    assert [fault.place for fault in log.fold.faults] == ["removal of g/a"]


def test_a_service_that_cannot_be_joined_stands_at_its_last_good_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest names it with its version; an audit arrives at the digest; the service is told of once."""
    log = two_services()
    partition = partition_of(log)
    manifests = [partition.views[PUBLIC].manifest]
    name = ("istio/networking/v1alpha3/serviceentries", "public/a.g.public")
    good = partition.views[PUBLIC].versions[name]
    sound = held_service.service_entry

    def service_entry(settings: Any, namespace: Any, name: Any, services: Any) -> Any:
        if name.name.startswith("a.") and any(len(one.service.instances) == 1 for one in services.values()):
            raise ValueError("odd")
        return sound(settings, namespace, name, services)

    monkeypatch.setattr(held_service, "service_entry", service_entry)
    told = []
    for number, here in enumerate(([make()], [make(weight=2)], [make(), make("10.0.0.2")])):
        log.add(state(A, seen(*here))[0])
        partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
        log.add(state(B, seen(make(weight=number)))[0])
        partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
        for view, update in partition.updates():
            view.published(update)
            manifests.append(update.manifest)
        told.append(partition.take_view_faults())
    assert [[fault.place for fault in faults] for faults in told] == [["service g@@a"], [], []]
    withheld = [manifest.withheld for manifest in manifests if manifest]
    assert withheld == [{}, {" ".join(name): good}, {" ".join(name): good}, {}]
    assert partition.views[PUBLIC].versions[name] != good
    verification = Verification(log.settings, UNGUARDED, Foreknowledge())
    done = 0
    for manifest in manifests:
        assert manifest is not None
        for offset in range(done, manifest.folded_to[TOPIC] + 1):
            verification.apply(TOPIC, offset, log.events[offset])
        done = manifest.folded_to[TOPIC] + 1
        assert verification.check(manifest).verdict is Verdict.VERIFIED
    late = Verification(log.settings, UNGUARDED, Foreknowledge())
    for offset in range(manifests[1].folded_to[TOPIC] + 1):  # type: ignore[union-attr]
        late.apply(TOPIC, offset, log.events[offset])
    finding = late.check(manifests[1])  # type: ignore[arg-type]
    assert (finding.verdict, finding.reason) == (
        Verdict.UNVERIFIABLE,
        f"stands at earlier content: {' '.join(name)}",
    ), "what it stands at is from before what was read"


class TakesUpTo:
    """Kafka's client as a transaction sees it; it refuses what is too large, as the real one does."""

    def __init__(self, *_: Any) -> None:
        self.produced: list[tuple[str, bytes, bytes | None]] = []

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None

    def produce(self, topic: str, *, partition: int, key: bytes, value: bytes | None, **_: Any) -> None:
        assert partition in {-1, 0}
        assert len(key) + len(value or b"") <= 16 * 1024 * 1024
        self.produced.append((topic, key, value))


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> TransactionWriter:
    """A transaction writer before a client that keeps what it is given."""
    monkeypatch.setattr("consumers.materializer.transactional_producer.make_producer", TakesUpTo)
    patience = Patience(threading.Event(), turned=lambda: None, waiting_for=lambda _: None)
    supervisor = Supervisor()
    return TransactionWriter(
        KafkaSettings(), MaterializerSettings(), codecs(), "x", patience=patience, supervisor=supervisor
    )


@pytest.mark.parametrize("how", ["too large", "not encodable"])
def test_a_resource_that_cannot_be_written_costs_itself(
    how: str, writer: TransactionWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are written, the manifest agrees, the quarantine has it; the next update tries it again."""
    log = two_services()
    view = NamespaceView(PUBLIC, log.settings)
    update = view.update_all(log.fold.state, Occasion("test"))
    assert update is not None
    encode_any = AvroCodec.encode

    def faulty(_: AvroCodec[Any], record: Any) -> bytes:
        if getattr(record, "name", "") == "public/a.g.public":
            if how == "too large":
                return bytes(17 * 1024 * 1024)
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        return encode_any(_, record)

    with monkeypatch.context() as patched:
        patched.setattr(AvroCodec, "encode", faulty)
        not_whole = writer.commit([NamespaceUpdate(0, view, update)], [], [], None)  # type: ignore[arg-type]
    assert [one.view for one in not_whole] == [view]
    produced = writer._producer._producer.produced  # type: ignore[attr-defined]
    assert [topic for topic, _, _ in produced].count(QUARANTINE) == 1
    (manifest,) = [
        codecs().manifest.decode(value)
        for topic, key, value in produced
        if topic == SNAPSHOTS and b"manifest" in key
    ]
    assert (manifest.resources, manifest.digest) == (1, view.manifest.digest if view.manifest else "")
    assert manifest.withheld == {"istio/networking/v1alpha3/serviceentries public/a.g.public": ""}
    log.add(state(B, seen(make(weight=9)))[0])
    after = view.update(log.fold.state, log.fold.state.changes[PUBLIC].dirty, Occasion("test"))
    assert after is not None
    assert (after.manifest.resources, after.manifest.withheld) == (2, {})


def test_a_manifest_that_cannot_be_written_costs_its_namespace(
    writer: TransactionWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is written, for without a manifest a gateway would wait; told once, tried again."""
    log = two_services()
    view = NamespaceView(PUBLIC, log.settings)
    encode = AvroCodec.encode

    def faulty(codec: AvroCodec[Any], record: Any) -> bytes:
        if codec.name == "manifest":
            raise OverflowError("int too large")
        return encode(codec, record)

    with monkeypatch.context() as patched:
        patched.setattr(AvroCodec, "encode", faulty)
        for _ in range(2):
            update = view.update_all(log.fold.state, Occasion("test"))
            assert update is not None
            writer.commit([NamespaceUpdate(0, view, update)], [], [], None)  # type: ignore[arg-type]
    produced = writer._producer._producer.produced  # type: ignore[attr-defined]
    assert [topic for topic, _, _ in produced] == [QUARANTINE]
    assert view.manifest is None
    assert view.update(log.fold.state, log.fold.state.changes[PUBLIC].dirty, Occasion("test")) is not None


def test_what_could_not_be_written_is_looked_at_with_the_next_keyframe() -> None:
    """Also where that states what is folded already; until then the namespace is suspect."""
    log = two_services()
    partition = partition_of(log)
    log.add(state(A, seen(make(weight=5)))[0])
    partition.apply(TOPIC, len(log.events) - 1, log.events[-1])
    ((view, _),) = partition.updates()
    view.fail(MemoryError())
    partition.note_unwritten(PUBLIC)
    assert (partition.suspect, publish(partition)) == (1, [])
    log.keyframe({A: [make(weight=5)], B: [make(f"10.0.1.{i}") for i in range(4)]})
    for offset, event in enumerate(log.events[-4:], start=len(log.events) - 4):
        partition.apply(TOPIC, offset, event)
    (update,) = publish(partition)
    assert (update.manifest.changed, update.manifest.suspect) == (1, ())


class Views:
    """The shapes in which views show resources: none."""

    shapes = ()


class Message:
    """A record of the snapshot topic."""

    def __init__(self, key: bytes, value: bytes | None, offset: int = 5) -> None:
        self._key, self._value, self._offset = key, value, offset

    def __getattr__(self, name: str) -> Callable[[], Any]:
        return lambda: {"topic": SNAPSHOTS, "partition": 0, "offset": self._offset}[name]

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes | None:
        return self._value


def test_a_record_that_a_gateway_cannot_decode_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever decoding it raises; it is set aside, cut, and the next one is decoded."""
    written: list[bytes] = []

    class Quarantine:
        def write(self, _: str, *, partition: int, key: bytes, value: bytes) -> bool:
            assert partition == -1
            assert len(key) + len(value) < 1024 * 1024
            written.append(value)
            return True

    feed = SnapshotFeed(
        codecs=codecs(),
        views=Views(),
        partitions=1,
        quarantine=Quarantine(),
        loop=None,  # type: ignore[arg-type]
    )
    assert feed.store.end_reached(0) == []
    monkeypatch.setattr("mcp_gateway.snapshot_feed.store_resource", raising(RecursionError()))
    log = two_services()
    (record, *_) = [one for one in log.snapshot().records.values() if one is not None]
    message = Message(b"public|c|n", codecs().resource.encode(record))
    assert feed._decode(message) is None  # type: ignore[arg-type]
    assert feed._decode(Message(b"public|c|n", b"x" * 15_000_000, 6)) is None  # type: ignore[arg-type]
    assert feed._decode(Message(b"\xff", b"", 7)) is None  # type: ignore[arg-type]
    found = [codecs().quarantined.decode(value) for value in written]
    assert [one.reason for one in found] == ["internal_fault", "bad_header", "bad_key"]
    assert found[1].value_size == 15_000_000


def test_a_fold_of_an_audit_meets_the_same_faults() -> None:
    """It is the same code: what a materializer set aside, an audit passes over."""
    log = Log()
    log.keyframe({A: [make(weight=float("nan")), make("10.0.0.2")]})
    log.add(ConfigState(key=ConfigKey("ISTIO", "x"), content="a: " + "9" * 5000, content_type="", md5=""))
    fold = Fold(ConversionSettings(), UNGUARDED)
    outcomes = [fold.apply(TOPIC, offset, event) for offset, event in enumerate(log.events)]
    assert outcomes[1:] == [Outcome.BAD_INSTANCE, Outcome.APPLIED, Outcome.BAD_ITEM]
    assert isinstance(codecs(), Codecs)
    with pytest.raises(UndecodableRecordError):
        codecs().registry_event.decode(b"")
