"""Registry events written straight into the log, as a listener of one datacenter writes them; without a Nacos."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from producers.listener.diff import diff, state
from producers.listener.observation import Observation
from producers.listener.session import Session
from schemas.avro_codec import codecs
from schemas.events import (
    Datacenter,
    Heartbeat,
    Link,
    Namespace,
    RegistryBody,
    ServiceKey,
    SessionId,
    SyncCompleted,
    SyncStarted,
)
from schemas.partitioner import partition_of
from schemas.topics import REGISTRY_EVENTS
from tests.harness.load import make_instance
from tests.harness.servers import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producers.listener.diff import StatedService
    from schemas.events import Instance
    from tests.harness.servers import Kafka

GROUP = "DEFAULT_GROUP"


def namespace_in(partition: int) -> Namespace:
    """A namespace whose records are in that partition."""
    names = (Namespace(f"ns-{number}") for number in range(1000))
    return next(name for name in names if partition_of(name, PARTITIONS) == partition)


@dataclass(slots=True)
class WrittenLog:
    """One session in one partition of a topic; each event is in Kafka when the method that writes it returns.

    With a `transactional_id` each call is a transaction and ends in a marker, as with MirrorMaker's exactly-once.
    """

    kafka: Kafka
    namespace: Namespace
    topic: str = REGISTRY_EVENTS
    datacenter: str = "dc1"
    epoch: int = 1
    transactional_id: str = ""
    services: dict[str, list[Instance]] = field(default_factory=dict)
    _session: Session = field(init=False)
    _stated: dict[ServiceKey, StatedService] = field(default_factory=dict)
    producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        config = self.kafka.settings.client_config("producer", "test-writer") | {"enable.idempotence": True}
        if self.transactional_id:
            config["transactional.id"] = self.transactional_id
        self.producer = Producer(config)
        if self.transactional_id:
            self.producer.init_transactions(30)
        self.begin(self.epoch)

    def begin(self, epoch: int) -> None:
        """A new session, as after a listener's restart; nothing is stated yet."""
        self.epoch, self._stated = epoch, {}
        self._session = Session(
            datacenter=Datacenter(self.datacenter),
            partition=self.partition,
            id=SessionId(f"session-{epoch}"),
            epoch=epoch,
        )

    @property
    def partition(self) -> int:
        return partition_of(self.namespace, PARTITIONS)

    def keyframe(self, services: dict[str, list[Instance]] | None = None) -> None:
        """States the namespace: these services, or those that it has."""
        if services is not None:
            self.services = dict(services)
        self._stated = {}
        bodies: list[RegistryBody] = [SyncStarted(reason="test")]
        for name, instances in self.services.items():
            key = ServiceKey(GROUP, name)
            body, self._stated[key] = state(key, Observation(visible=tuple(instances)))
            bodies.append(body)
        self.write([*bodies, SyncCompleted(services=len(self.services), config_items=0)])

    def change(self, name: str, instances: list[Instance]) -> None:
        """The service has these instances now."""
        key = ServiceKey(GROUP, name)
        self.services[name] = instances
        delta, self._stated[key] = diff(key, self._stated[key], Observation(visible=tuple(instances)))
        assert delta is not None
        self.write([delta])

    def heartbeat(self) -> None:
        """The listener lives, and so does its link."""
        self.write([Heartbeat(link=Link.LIVE, detail="")], Namespace(""))

    def write(self, bodies: Iterable[RegistryBody], namespace: Namespace | None = None) -> None:
        """The next events of the session."""
        name = self.namespace if namespace is None else namespace
        encode = codecs().registry_event.encode
        if self.transactional_id:
            self.producer.begin_transaction()
        for body in bodies:
            event = self._session.event(name, body, time.time_ns() // 1000)
            self._session.taken()
            self.producer.produce(self.topic, encode(event), name.encode(), partition=self.partition)
        if self.transactional_id:
            self.producer.commit_transaction(30)
        assert self.producer.flush(30) == 0


def some(services: int, instances: int = 2) -> dict[str, list[Instance]]:
    """svc-0 to svc-n, each with so many instances."""
    return {
        f"svc-{number}": [make_instance(number, index) for index in range(instances)] for number in range(services)
    }
