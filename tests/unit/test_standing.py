"""What stands published is not replaced by a fold that does not know all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumers.materializer.partition import MaterializedPartition
from consumers.materializer.recovery import Beginning, LogFault
from consumers.materializer.view import PublishedNamespace
from consumers.settings import ConversionSettings, ExpectedSettings
from schemas.control import ControlBody, ControlEvent, ExcludeDatacenter, Freeze, Unfreeze
from schemas.events import (
    ConfigKey,
    ConfigState,
    Datacenter,
    Heartbeat,
    Link,
    Namespace,
    NamespaceGone,
    RegistryBody,
    RegistryEvent,
    ServiceKey,
    ServiceState,
    SessionId,
    SyncCompleted,
    SyncStarted,
)
from schemas.topics import CONTROL_EVENTS
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, make

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.view import NamespaceView, Update
    from schemas.events import Instance

OTHER_TOPIC = f"dc2.{TOPIC}"
DC1, DC2 = Datacenter("dc1"), Datacenter("dc2")
A, B = ServiceKey("g", "a"), ServiceKey("g", "b")
NOBODY: dict[Namespace, frozenset[Datacenter]] = {}
ITEM = ConfigState(
    key=ConfigKey("ISTIO", "routes"),
    content="""
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: routes}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
""",
    content_type="yaml",
    md5="",
)


class Writer:
    """One datacenter's session in one topic; time is counted in events."""

    def __init__(self, datacenter: Datacenter = DC1, topic: str = TOPIC, *, at: int = 0, epoch: int = 1) -> None:
        self.datacenter, self.topic, self.epoch = datacenter, topic, epoch
        self.at, self.sequence, self.offset = at, 0, 0

    def event(self, body: RegistryBody, namespace: Namespace = PUBLIC) -> RegistryEvent:
        """The next event."""
        made = RegistryEvent(
            datacenter=self.datacenter,
            namespace=namespace,
            session=SessionId(f"s-{self.epoch}"),
            epoch=self.epoch,
            sequence=self.sequence,
            observed_at=self.at,
            body=body,
        )
        self.sequence += 1
        self.at += 1
        return made

    def write(self, partition: MaterializedPartition, *bodies: RegistryBody) -> None:
        """Further events, folded at once."""
        for body in bodies:
            partition.apply(self.topic, self.offset, self.event(body))
            self.offset += 1


def keyframe(services: dict[ServiceKey, Iterable[Instance]], *items: ConfigState) -> list[RegistryBody]:
    """A whole statement of a namespace."""
    states = [ServiceState(key=key, instances=tuple(instances)) for key, instances in services.items()]
    return [
        SyncStarted(reason="test"),
        *states,
        *items,
        SyncCompleted(services=len(states), config_items=len(items)),
    ]


def partition(
    published: PublishedNamespace | None = None, *beginnings: tuple[str, Beginning], void_from: int | None = None
) -> MaterializedPartition:
    """A partition at its start."""
    made = MaterializedPartition(
        number=0,
        settings=ConversionSettings(),
        guard=UNGUARDED,
        expected=ExpectedSettings(),
        published={PUBLIC: published} if published else {},
        control_void_from=void_from,
    )
    for topic, beginning in beginnings:
        made.begin(topic, beginning)
    return made


def publish(updates: Iterable[tuple[NamespaceView, Update]]) -> list[Update]:
    """What was to be written, as if it were."""
    found = []
    for view, update in updates:
        view.published(update)
        found.append(update)
    return found


def standing(of: MaterializedPartition, *updates: Update, written_at: int = 0) -> PublishedNamespace:
    """What another materializer reads back after these updates."""
    records = {}
    for update in updates:
        records.update(update.records)
    return PublishedNamespace(
        versions=dict(of.views[PUBLIC].versions),
        datacenters={
            name: frozenset(part.datacenter for part in record.parts)
            for name, record in records.items()
            if record is not None
        },
        manifest=of.views[PUBLIC].manifest,
        written_at=written_at,
    )


def published_by(*datacenters: Datacenter) -> PublishedNamespace:
    """What stands published of datacenters that have a service each, and both of them another one."""
    first = partition()
    for number, datacenter in enumerate(datacenters):
        writer = Writer(datacenter, TOPIC if datacenter == DC1 else OTHER_TOPIC)
        services = {
            A: [make(f"10.0.{number}.1")],
            ServiceKey("g", f"only-{datacenter}"): [make(f"10.0.{number}.2")],
        }
        writer.write(first, *keyframe(services))
    return standing(first, *publish(first.recovered()))


def lost(end: int = 0, fault: LogFault = LogFault.SHORTER) -> Beginning:
    """A log that is not the one that was folded."""
    return Beginning(0, end, 0, fault)


def whole(end: int = 0) -> Beginning:
    """A log that is as it was left."""
    return Beginning(0, end, end)


def test_an_empty_log_takes_nothing_away() -> None:
    """The topic was made anew, and nobody has written into it yet."""
    again = partition(published_by(DC1), (TOPIC, lost()))
    assert again.has_caught_up()
    assert publish(again.recovered()) == []
    assert again.awaited() == {PUBLIC: {DC1}}
    assert again.suspect == 1
    assert again.is_unsettled(TOPIC)
    assert again.namespaces()[PUBLIC].awaited == (DC1,)


def test_the_next_keyframe_publishes_and_takes_away_what_it_does_not_state() -> None:
    """Half of it changes nothing; what stood before and is gone meanwhile goes."""
    before = published_by(DC1)
    again = partition(before, (TOPIC, lost()))
    publish(again.recovered())
    listener = Writer(at=100, epoch=2)
    listener.write(again, *keyframe({A: [make("10.0.0.9")]})[:-1])
    assert publish(again.updates()) == []
    listener.write(again, SyncCompleted(services=1, config_items=0))
    (update,) = publish(again.updates())
    assert (update.manifest.resources, update.manifest.removed, update.manifest.changed) == (1, 1, 1)
    assert update.manifest.version == {TOPIC: 2}
    assert (again.awaited(), again.suspect, again.is_unsettled(TOPIC)) == (NOBODY, 0, False)
    listener.write(again, ServiceState(key=B, instances=(make("10.0.0.3"),)))
    assert [one.manifest.added for one in publish(again.updates())] == [1]


def test_equal_content_makes_no_version() -> None:
    """The topic was made anew and states what stands published: nothing is written."""
    again = partition(published_by(DC1), (TOPIC, lost()))
    publish(again.recovered())
    services = {A: [make("10.0.0.1")], ServiceKey("g", "only-dc1"): [make("10.0.0.2")]}
    Writer(at=100, epoch=2).write(again, *keyframe(services))
    assert publish(again.updates()) == []
    assert again.awaited() == NOBODY


def test_a_keyframe_that_is_already_in_the_new_log_publishes_at_the_end_of_the_recovery() -> None:
    """The listener was faster than the materializer."""
    again = partition(published_by(DC1), (TOPIC, lost(end=3)))
    Writer(at=100, epoch=2).write(again, *keyframe({A: [make("10.0.0.9")]}))
    assert again.has_caught_up()
    (update,) = publish(again.recovered())
    assert update.manifest.resources == 1
    assert again.awaited() == NOBODY


def test_what_was_cut_off_waits_for_the_next_keyframe() -> None:
    """The log lost its last records (a restored broker): its older keyframe does not tell what they said."""
    first, listener = partition(), Writer()
    listener.write(first, *keyframe({A: [make("10.0.0.1")]}))
    updates = publish(first.recovered())
    listener.write(first, ServiceState(key=A, instances=(make("10.0.0.2"),)))
    updates += publish(first.updates())
    again = partition(standing(first, *updates), (TOPIC, lost(end=3)))
    Writer().write(again, *keyframe({A: [make("10.0.0.1")]}))
    assert publish(again.recovered()) == []
    assert again.awaited() == {PUBLIC: {DC1}}
    listener.offset = 3
    listener.write(again, Heartbeat(link=Link.LIVE, detail=""))  # a hole in the sequence is before it
    assert publish(again.updates()) == []
    listener.write(again, *keyframe({A: [make("10.0.0.3")]}))
    (update,) = publish(again.updates())
    assert update.manifest.changed == 1
    assert again.suspect == 0


def test_a_log_that_reaches_beyond_what_stands_published_without_a_hole_is_believed() -> None:
    """A mirrored topic that was made anew holds the same events under other offsets."""
    first, listener = partition(), Writer()
    listener.write(first, *keyframe({A: [make("10.0.0.1")]}))
    listener.write(first, ServiceState(key=A, instances=(make("10.0.0.2"),)))
    before = standing(first, *publish(first.recovered()))
    again, mirror = partition(before, (TOPIC, lost(end=4))), Writer()
    mirror.write(again, *keyframe({A: [make("10.0.0.1")]}))
    mirror.write(again, ServiceState(key=A, instances=(make("10.0.0.2"),)))
    assert publish(again.recovered()) == []
    assert (again.awaited(), again.suspect) == (NOBODY, 0)


def test_one_datacenters_lost_log_takes_nothing_of_it_away() -> None:
    """The other one's changes wait with it: a snapshot is what the logs give, or stands."""
    again = partition(published_by(DC1, DC2), (TOPIC, whole(4)), (OTHER_TOPIC, lost()))
    here = Writer()
    here.write(again, *keyframe({A: [make("10.0.0.1")], ServiceKey("g", "only-dc1"): [make("10.0.0.2")]}))
    assert publish(again.recovered()) == []
    assert again.awaited() == {PUBLIC: {DC2}}
    here.write(again, ServiceState(key=A, instances=(make("10.0.0.7"),)))
    assert publish(again.updates()) == []
    Writer(DC2, OTHER_TOPIC, at=100, epoch=2).write(again, *keyframe({A: [make("10.0.1.1")]}))
    (update,) = publish(again.updates())
    assert update.manifest.resources == 2
    assert {part.datacenter for record in update.records.values() if record for part in record.parts} == {DC1, DC2}


def test_a_topic_that_is_no_longer_read_takes_nothing_away_either() -> None:
    """A datacenter's topic was taken out of the settings, and the datacenter not excluded."""
    again = partition(published_by(DC1, DC2), (TOPIC, whole(4)))
    Writer().write(again, *keyframe({A: [make("10.0.0.1")], ServiceKey("g", "only-dc1"): [make("10.0.0.2")]}))
    assert publish(again.recovered()) == []
    assert again.awaited() == {PUBLIC: {DC2}}
    updates = publish(again.decide(0, control(ExcludeDatacenter(datacenter=DC2))))
    assert [one.manifest.resources for one in updates] == [2]
    assert again.awaited() == NOBODY


def test_config_items_of_a_lost_log_stay() -> None:
    """Their resources have no endpoints that would name the datacenter."""
    first, services = partition(), {A: [make("10.0.0.1")]}
    Writer().write(first, *keyframe(services))
    Writer(DC2, OTHER_TOPIC).write(first, *keyframe({}, ITEM))
    before = standing(first, *publish(first.recovered()))
    again = partition(before, (TOPIC, whole(3)), (OTHER_TOPIC, lost()))
    Writer().write(again, *keyframe(services))
    assert publish(again.recovered()) == []
    assert again.awaited() == {PUBLIC: {DC2}}
    Writer(DC2, OTHER_TOPIC, at=100, epoch=2).write(again, *keyframe({}, ITEM))
    assert publish(again.updates()) == []
    assert again.awaited() == NOBODY


def test_a_namespace_that_is_gone_meanwhile_goes() -> None:
    """The listener says so in the new log, where it was never stated."""
    again = partition(published_by(DC1), (TOPIC, lost()))
    publish(again.recovered())
    Writer(at=100, epoch=2).write(again, NamespaceGone())
    (update,) = publish(again.updates())
    assert (update.manifest.resources, update.manifest.removed) == (0, 2)


def test_decisions_over_what_awaits_a_keyframe_change_no_content() -> None:
    """Freezing and unfreezing are written down, and nothing is taken away."""
    again = partition(published_by(DC1), (TOPIC, lost()))
    publish(again.recovered())
    for offset, body in enumerate((Freeze(), Unfreeze())):
        (update,) = publish(again.decide(offset, control(body)))
        assert (update.records, update.manifest.resources) == ({}, 2)
    Writer(at=100, epoch=2).write(again, *keyframe({A: [make("10.0.0.9")]}))
    assert [one.manifest.resources for one in publish(again.updates())] == [1]


def test_an_excluded_datacenter_is_not_awaited() -> None:
    """An operator's word lets go of what a lost log would keep."""
    again = partition(published_by(DC1), (TOPIC, lost()))
    publish(again.recovered())
    (update,) = publish(again.decide(0, control(ExcludeDatacenter(datacenter=DC1))))
    assert update.manifest.resources == 0
    assert again.suspect == 0


@pytest.mark.parametrize(("written_at", "refusal"), [(50, ""), (5, None)])
def test_offsets_of_a_former_control_topic_pass_no_decision_over(written_at: int, refusal: str | None) -> None:
    """Made anew, its decisions have low offsets again: what is younger than the manifest is carried out."""
    first, listener = partition(), Writer()
    listener.write(first, *keyframe({A: [make("10.0.0.1")]}))
    updates = publish(first.recovered()) + publish(first.decide(40, control(Freeze())))
    before = standing(first, *updates, written_at=written_at)
    assert before.manifest is not None
    assert before.manifest.version[CONTROL_EVENTS] == 40
    again = partition(before, (TOPIC, whole(3)), void_from=2)
    assert again.refusal(1, control(Unfreeze(), issued_at=10)) == refusal


def test_offsets_without_records_count_as_read() -> None:
    """A recovery whose range ends in transaction markers ends; nothing is left to read."""
    again = partition(None, (TOPIC, Beginning(0, 9, 9)))
    Writer().write(again, *keyframe({A: [make()]}))
    assert not again.has_caught_up()
    assert again.progress.left == 6
    again.reach(TOPIC, 9)
    assert again.has_caught_up()
    assert again.next_offsets[TOPIC] == 9
    again.reach(TOPIC, 4)
    assert again.next_offsets[TOPIC] == 9


def test_a_recovery_ends_where_the_log_can_be_read_no_further() -> None:
    """A transaction that is open behind the last record hides the end that Kafka names."""
    again = partition(None, (TOPIC, Beginning(0, 9, 9)))
    again.reach_end(TOPIC, 3)
    assert again.has_caught_up()
    assert (again.progress.left, again.next_offsets[TOPIC]) == (0, 3)


def control(body: ControlBody, issued_at: int = 0) -> ControlEvent:
    """A decision over the namespace."""
    return ControlEvent(namespace=PUBLIC, author="a", reason="r", issued_at=issued_at, body=body)
