"""The guard on real servers: a registry that comes back empty does not empty the mesh."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.harness.load import GROUP, Load, make_instance
from tests.harness.logs import read_history
from tests.harness.pilot import wait_for
from tests.harness.processes import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import KafkaServer, NacosServer

SERVICES = 30


def test_a_registry_that_stays_empty_is_held_through_a_restart_until_it_returns(
    processes: Processes, kafka: KafkaServer, nacos: NacosServer, namespace: str, pilots: Callable[..., Pilot]
) -> None:
    """Confirmed by the listener, held by the guard; a killed materializer holds on; what returns ends the hold."""
    load = Load(nacos.url, namespace)
    load.register(SERVICES, 5)
    listener = processes.start("listener", SHIPLOG_LISTENER__REMOVAL_GRACE_S="1")
    materializer, gateway = processes.start("materializer", **guard("enforce")), processes.start("gateway")
    for process in (listener, materializer, gateway):
        process.wait()
    pilot = pilots(gateway.address)
    wait_for(lambda: len(pilot.endpoints()) == SERVICES, timeout_s=20, what="all services")
    before = pilot.endpoints()

    nacos.child.kill()
    nacos.child.start()
    nacos.wait()
    held = "shiplog_materializer_holds"
    wait_for(lambda: materializer.metric(held, scope="namespace") == 1, timeout_s=60, what="the namespace held")
    gone = "shiplog_listener_events_total"
    wait_for(
        lambda: listener.metric(gone, kind="ServiceGone") == SERVICES, timeout_s=60, what="all gone, confirmed"
    )
    time.sleep(2)
    assert pilot.endpoints() == before
    assert min(pilot.sizes) >= SERVICES / 2, "more than the share that may go went"
    while_held = len(pilot.sizes)
    manifest = read_history(kafka)[-1]
    assert any(hold.startswith(f"namespace dc1/{namespace}") for hold in manifest.holds)

    versions = len(read_history(kafka))
    materializer.child.kill()
    materializer.start()
    materializer.wait()
    wait_for(lambda: materializer.metric(held, scope="namespace") == 1, timeout_s=20, what="still held")
    assert len(read_history(kafka)) == versions, "the restart made a new version"

    returned = Load(nacos.url, namespace)
    returned.register(SERVICES, 5)
    wait_for(lambda: materializer.metric(held) == 0, timeout_s=30, what="nothing held")
    assert materializer.metric("shiplog_materializer_holds_ended_total", ending="returned") >= 1
    returned.state("svc-0", [make_instance(0, 9)])
    name = f"{namespace}/svc-0.default-group.{namespace}"
    wait_for(lambda: "10.0.0.10" in str(pilot.endpoints()[name]), timeout_s=20, what="changes go on")
    assert min(pilot.sizes[while_held:]) >= SERVICES - 2
    assert len(nacos.hosts(namespace, [(GROUP, "svc-0")])[GROUP, "svc-0"]) == 1
    returned.close()
    load.close()
