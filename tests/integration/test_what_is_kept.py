"""From a listener over a real Kafka to a Pilot: what can't be stated, or not in one record, stays as it was."""

from __future__ import annotations

import base64
import random
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from consumers.materializer.fold import Fold
from consumers.settings import ConversionSettings, GuardSettings
from schemas.avro_codec import codecs
from schemas.events import Datacenter, Namespace, ServiceKey, ServicePart, SyncCompleted, SyncStarted
from schemas.topics import MAX_RECORD_BYTES, REGISTRY_EVENTS
from tests.harness.fake_nacos.registry import host
from tests.harness.fake_nacos.server import FakeNacos
from tests.harness.load import GROUP
from tests.harness.logs import read_all
from tests.harness.pilot import wait_for
from tests.harness.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from schemas.events import RegistryEvent
    from tests.harness.fake_nacos.registry import Host
    from tests.harness.pilot import Pilot
    from tests.harness.servers import KafkaServer

PUBLIC = Namespace("public")
BIG = ServiceKey(GROUP, "big")
INSTANCES = 8000
RULES = "istio/networking/v1alpha3/destinationrules"
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders.example}
"""


@pytest.fixture
def fake() -> Iterator[FakeNacos]:
    """A server that takes metadata of any length, as 1.x and servers without parameter checks do."""
    with FakeNacos() as server:
        server.state("public", "small", [host()])
        yield server


@pytest.fixture
def started(kafka: KafkaServer, fake: FakeNacos, tmp_path: Path) -> Iterator[Processes]:
    """Processes that follow it, over new topics."""
    kafka.renew_topics()
    processes = Processes(tmp_path, kafka, fake, ["public"], group=tmp_path.name)
    yield processes
    processes.stop()
    alter(kafka, MAX_RECORD_BYTES)


def big(instances: int = INSTANCES, **changes: str) -> list[Host]:
    """Instances with a good 2 KB of metadata each, which no compression makes smaller: 17 MB of state."""
    dice = random.Random(1)
    return [
        host(
            f"10.1.{number // 250}.{number % 250}",
            metadata={"note": base64.b64encode(dice.randbytes(1600)).decode(), **changes},
        )
        for number in range(instances)
    ]


def alter(kafka: KafkaServer, most_bytes: int) -> None:
    """The size of records that the event topic takes."""
    entry = ConfigEntry("max.message.bytes", str(most_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, REGISTRY_EVENTS, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka.servers})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(20)


def events(kafka: KafkaServer) -> list[RegistryEvent]:
    """All events of the namespace."""
    decode = codecs().registry_event.decode
    found = [decode(message.value()) for message in read_all(kafka, REGISTRY_EVENTS)]
    return [event for event in found if event.namespace == PUBLIC]


def folded(kafka: KafkaServer) -> dict[ServiceKey, int]:
    """How many instances each service has, by a fold of the log; none before the namespace is stated."""
    fold = Fold(ConversionSettings(), GuardSettings())
    decode = codecs().registry_event.decode
    for message in read_all(kafka, REGISTRY_EVENTS):
        fold.apply(REGISTRY_EVENTS, message.offset(), decode(message.value()))
    datacenter = fold.state.datacenters.get(Datacenter("dc1"))
    state = None if datacenter is None else datacenter.namespaces.get(PUBLIC)
    if state is None:
        return {}
    assert not state.suspect
    return {key: len(service.instances) for key, service in state.services.items()}


def test_a_service_that_outgrows_a_record_stays_in_the_mesh(
    started: Processes, fake: FakeNacos, kafka: KafkaServer
) -> None:
    """8,000 instances with 2 KB of metadata: stated in parts, by each keyframe, and by the next listener."""
    fake.state("public", BIG.service, big(10))
    quick = {"SHIPLOG_LISTENER__KEYFRAME_MAX_AGE_S": "4", "SHIPLOG_LISTENER__LISTING_INTERVAL_S": "2"}
    listener = started.start("listener", **quick)
    listener.wait()
    fake.state("public", BIG.service, big())
    keyframes = lambda: listener.metric("shiplog_listener_keyframes_total", reason="periodic")  # noqa: E731
    grown = keyframes()
    wait_for(lambda: keyframes() >= grown + 2, timeout_s=60, what="keyframes of the grown service")
    listener.child.kill()
    listener.start()
    listener.wait()
    wait_for(
        lambda: (
            listener.metric("shiplog_listener_keyframes_total", reason="session") == 1
            and listener.metric("shiplog_listener_queued_events") == 0
        ),
        timeout_s=60,
        what="the keyframe of the next session",
    )
    listener.child.stop(8)
    assert folded(kafka)[BIG] == INSTANCES
    bodies = [event.body for event in events(kafka)]
    assert sum(isinstance(body, ServicePart) for body in bodies) >= 4
    assert not any(body.kept_services for body in bodies if isinstance(body, SyncCompleted))


def test_a_topic_that_takes_1_mib_gets_smaller_parts_and_few_keyframes(
    started: Processes, fake: FakeNacos, kafka: KafkaServer
) -> None:
    """Kafka's own limit, set under a listener that runs: only the namespace concerned is stated again."""
    started.namespaces.append("other")
    fake.registry.namespaces.add("other")
    fake.state("other", "small", [host()])
    listener = started.start("listener")
    listener.wait()
    wait_for(lambda: len(folded(kafka)) == 1, timeout_s=20, what="a first keyframe")
    alter(kafka, 1_048_588)
    fake.state("public", BIG.service, big(1500, revision="1"))
    wait_for(lambda: listener.metric("shiplog_listener_events_lost_total") >= 1, timeout_s=20, what="a refusal")
    wait_for(
        lambda: (
            listener.metric("shiplog_listener_keyframes_total", reason="lost") >= 1
            and listener.metric("shiplog_listener_queued_events") == 0
        ),
        timeout_s=30,
        what="the namespace stated again",
    )
    written = listener.metric("shiplog_listener_events_total")
    time.sleep(5)
    assert listener.metric("shiplog_listener_events_total") - written < 20, "events without end"
    assert folded(kafka)[BIG] == 1500
    begun = [event.namespace for event in events(kafka) if isinstance(event.body, SyncStarted)]
    assert len(begun) <= 4
    assert listener.metric("shiplog_listener_keyframes_total") <= 2 + 3


def test_items_stay_when_a_listener_takes_over_without_the_config_center(
    started: Processes, fake: FakeNacos, pilots: Callable[..., Pilot]
) -> None:
    """Its database is away: services are published, the rules of the mesh stand; back, what was deleted goes."""
    fake.configure("public", "orders.yaml", RULE)
    fake.configure("public", "payments.yaml", RULE.replace("orders", "payments"))
    listener, _, gateway = started.start_all()
    rules, services = pilots(gateway.address, collection=RULES), pilots(gateway.address)
    names = lambda pilot: set() if pilot.last is None else set(pilot.last.resources)  # noqa: E731
    both = {"public/orders", "public/payments"}
    wait_for(lambda: names(rules) == both, timeout_s=30, what="both rules")
    listener.child.kill()
    fake.registry.faults.config_center_away = True
    fake.call(fake.registry.configs.pop, ("public", "ISTIO", "payments.yaml"))
    fake.state("public", "late", [host("10.8.8.8")])
    listener.start()
    wait_for(lambda: len(names(services)) == 2, timeout_s=40, what="the new service")
    page = listener.debug("services")["namespaces"]["public"]
    assert page["stated"]
    assert not page["complete"]
    assert list(page["config_items_unknown"]) == ["ISTIO"]
    assert listener.metric("shiplog_listener_config_items_unknown", namespace="public") == 1
    assert names(rules) == both
    fake.registry.faults.config_center_away = False
    wait_for(lambda: names(rules) == {"public/orders"}, timeout_s=40, what="the deleted one gone")
    wait_for(lambda: listener.debug("services")["namespaces"]["public"]["complete"], timeout_s=20, what="complete")
