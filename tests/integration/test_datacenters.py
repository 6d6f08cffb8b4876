"""Two datacenters with a Kafka and a Nacos each, and MirrorMaker 2 between them: one snapshot of both."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from shiplog.watch.client import entry_of
from tests.harness.load import GROUP, Load, make_instance
from tests.harness.logs import read_history
from tests.harness.mirror import mirrored, start_mirror
from tests.harness.pilot import wait_for
from tests.harness.processes import Processes
from tests.harness.servers import start_kafka, start_nacos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.harness.pilot import Pilot
    from tests.harness.servers import KafkaServer, NacosServer

SERVICES = 10
WHY = ("--reason", "a test")


@pytest.fixture
def kafka_of_dc2(tmp_path: Path) -> Iterator[KafkaServer]:
    """A second broker."""
    server = start_kafka(tmp_path / "kafka2")
    server.wait()
    yield server
    server.child.kill()


@pytest.fixture
def nacos_of_dc2(tmp_path: Path) -> Iterator[NacosServer]:
    """A second Nacos."""
    server = start_nacos(tmp_path / "nacos2")
    yield server
    server.child.kill()


def by_locality(pilot: Pilot) -> dict[str, set[tuple[str, str, str]]]:
    """The endpoints that a pilot holds, by their locality: resource, address, the label that changes."""
    found: dict[str, set[tuple[str, str, str]]] = {}
    for name, resource in (pilot.last.resources if pilot.last else {}).items():
        entry = entry_of(resource)
        assert entry is not None
        for one in entry.endpoints:
            assert one.network == f"net-{one.locality}"
            found.setdefault(one.locality, set()).add((name, one.address, one.labels["rev"]))
    return found


def in_nacos(nacos: NacosServer, namespace: str, load: Load) -> set[tuple[str, str, str]]:
    """The same, as a Nacos knows them."""
    hosts = nacos.hosts(namespace, [(GROUP, name) for name in load.services])
    return {
        (f"{namespace}/{service}.default-group.{namespace}", host["ip"], host["metadata"]["rev"])
        for (_, service), instances in hosts.items()
        for host in instances
        if host["enabled"] and host["healthy"] and host["weight"] > 0
    }


@pytest.mark.timeout(400)
def test_two_datacenters_are_one_snapshot(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    kafka_of_dc2: KafkaServer,
    nacos_of_dc2: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
    tmp_path: Path,
) -> None:
    """Joined by locality; mirrored twice is once; a blind one keeps what it has, and changes nobody else's."""
    kafka_of_dc2.renew_topics()
    nacos_of_dc2.wait()
    nacos_of_dc2.create_namespace(namespace)
    away = Processes(tmp_path / "away", kafka_of_dc2, nacos_of_dc2, [namespace], group=namespace)
    load_of_dc2 = Load(nacos_of_dc2.url, namespace, seed=2, network=11)
    load.register(SERVICES, 3)
    load_of_dc2.register(SERVICES, 2)
    mirror = start_mirror(tmp_path, "dc2", there=kafka_of_dc2, here=kafka)
    try:
        listener_of_dc2 = away.start("listener", SHIPLOG_LISTENER__DATACENTER="dc2")
        processes.start("listener")
        materializer = processes.start(
            "materializer",
            SHIPLOG_MATERIALIZER__EVENT_TOPICS=json.dumps(["shiplog.registry.events", mirrored("dc2")]),
            SHIPLOG_MATERIALIZER__EXPECTED__DATACENTERS=json.dumps(["dc1", "dc2"]),
            SHIPLOG_CONVERSION__DATACENTERS=json.dumps(
                {name: {"locality": name, "network": f"net-{name}"} for name in ("dc1", "dc2")}
            ),
        )
        gateway = processes.start("gateway")
        for process in (*processes.started, listener_of_dc2):
            process.wait()
        pilot = pilots(gateway.address)

        def is_whole() -> bool:
            return by_locality(pilot) == {
                "dc1": in_nacos(nacos, namespace, load),
                "dc2": in_nacos(nacos_of_dc2, namespace, load_of_dc2),
            }

        wait_for(is_whole, timeout_s=60, what="both datacenters")
        assert read_history(kafka)[0].missing == (), "published before all that are expected had stated it"
        load.change(50, per_second=100)
        load_of_dc2.change(50, per_second=100)
        mirror.kill()
        load_of_dc2.change(50, per_second=100)
        mirror.start()
        wait_for(is_whole, timeout_s=90, what="both again, after the mirror was killed")
        assert materializer.metric("shiplog_materializer_suspect_namespaces") == 0

        nacos_of_dc2.child.kill()
        wait_for(
            lambda: materializer.debug("partitions") and "BLIND" in str(materializer.debug("partitions")),
            timeout_s=60,
            what="dc2 blind",
        )
        of_dc2 = by_locality(pilot)["dc2"]
        load.state("svc-0", [make_instance(0, 7)])
        wait_for(
            lambda: by_locality(pilot)["dc1"] == in_nacos(nacos, namespace, load),
            timeout_s=20,
            what="dc1's change",
        )
        assert by_locality(pilot)["dc2"] == of_dc2

        arguments = ("-n", namespace, "-d", "dc2", *WHY)
        assert processes.control("exclude", *arguments).returncode == 0
        wait_for(lambda: by_locality(pilot).keys() == {"dc1"}, timeout_s=10, what="dc1 alone")
        materializer.child.kill()
        materializer.start()
        materializer.wait()
        time.sleep(1)
        assert by_locality(pilot).keys() == {"dc1"}
        assert processes.control("include", *arguments).returncode == 0
        wait_for(lambda: by_locality(pilot).get("dc2") == of_dc2, timeout_s=10, what="both again")
    finally:
        mirror.kill()
        away.stop()
        load_of_dc2.close()
