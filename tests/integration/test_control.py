"""Operators' decisions, through the command line, on real servers: what Pilots see, and that restarts keep it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from schemas.control import Freeze
from tests.harness.load import make_instance
from tests.harness.logs import read_history
from tests.harness.pilot import wait_for
from tests.harness.processes import guard
from tests.integration.test_faults import assert_converges

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Process, Processes
    from tests.harness.servers import KafkaServer, NacosServer

SERVICES = 10
WHY = ("--reason", "a test", "--author", "tester")


def decide(processes: Processes, namespace: str, *arguments: str) -> dict[str, Any]:
    """A decision that is carried out; what the command prints."""
    command, *options = arguments
    done = processes.control(command, "--namespace", namespace, *options, *WHY, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def restart(process: Process) -> None:
    """kill -9, and up again."""
    process.child.kill()
    process.start()
    process.wait()


def test_a_frozen_namespace_stands_through_restarts_until_it_is_unfrozen(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """Changes are folded on; a killed materializer comes back frozen; unfreezing publishes the present at once."""
    load.register(SERVICES, 3)
    _, materializer, gateway = processes.start_all()
    pilot = pilots(gateway.address)
    wait_for(lambda: len(pilot.endpoints()) == SERVICES, timeout_s=20, what="all services")
    frozen = decide(processes, namespace, "freeze")
    before = pilot.endpoints()
    assert frozen["frozen"]
    assert [decision["kind"] for decision in frozen["decisions"]] == ["Freeze"]
    load.change(30, per_second=100)
    time.sleep(1)
    restart(materializer)
    time.sleep(1)
    assert pilot.endpoints() == before
    page = materializer.debug(f"namespace/{namespace}")
    assert (page["frozen"], page["manifest"]["decisions"][0]["author"]) == (True, "tester")
    assert page["datacenters"]["dc1"]["services"] == SERVICES
    (line,) = materializer.debug("namespaces")
    assert (line["namespace"], line["frozen"], line["resources"]) == (namespace, True, SERVICES)
    assert materializer.metric("shiplog_materializer_standing_namespaces") == 1
    last = read_history(kafka)[-1]
    assert isinstance(last.decisions[0].event.body, Freeze)
    assert (last.decisions[0].event.author, last.decisions[0].event.reason) == ("tester", "a test")
    assert decide(processes, namespace, "unfreeze")["decisions"] == []
    assert_converges(pilot, nacos, namespace, load)


def test_a_pinned_namespace_goes_back_to_a_former_version(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """Rebuilt from the log, equal by its digest; it stands through a restart, and gives way to the present."""
    load.register(SERVICES, 3)
    _, materializer, gateway = processes.start_all()
    pilot = pilots(gateway.address)
    load.state("svc-0", [make_instance(0, 4), make_instance(0, 5)])
    wait_for(lambda: len(pilot.endpoints()) == SERVICES, timeout_s=20, what="all services")
    assert_converges(pilot, nacos, namespace, load)
    former, endpoints = read_history(kafka)[-1], pilot.endpoints()
    load.change(100, per_second=200)
    assert_converges(pilot, nacos, namespace, load)
    assert pilot.endpoints() != endpoints

    pinned = decide(processes, namespace, "pin", "--version", former.digest[:12])
    assert pinned["digest"] == former.digest
    wait_for(lambda: pilot.endpoints() == endpoints, timeout_s=10, what="the former version")
    load.change(20, per_second=100)
    restart(materializer)
    time.sleep(1)
    assert pilot.endpoints() == endpoints
    decide(processes, namespace, "freeze")
    decide(processes, namespace, "unfreeze")
    assert pilot.endpoints() == endpoints, "still pinned"
    decide(processes, namespace, "unpin")
    assert_converges(pilot, nacos, namespace, load)


def test_an_excluded_datacenter_has_no_endpoints_until_it_is_included(
    processes: Processes, nacos: NacosServer, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """The last datacenter too: an operator's word is no accident."""
    load.register(SERVICES, 3)
    _, materializer, gateway = processes.start_all()
    pilot = pilots(gateway.address)
    wait_for(lambda: len(pilot.endpoints()) == SERVICES, timeout_s=20, what="all services")
    assert decide(processes, namespace, "exclude", "--datacenter", "dc1")["resources"] == 0
    wait_for(lambda: not pilot.endpoints(), timeout_s=10, what="nothing left")
    load.change(20, per_second=100)
    restart(materializer)
    time.sleep(1)
    assert not pilot.endpoints()
    decide(processes, namespace, "include", "--datacenter", "dc1")
    assert_converges(pilot, nacos, namespace, load)


def test_a_released_hold_lets_go_at_once_and_stays_released(
    processes: Processes, kafka: KafkaServer, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """A real decommissioning: held by the guard, released by an operator; a recovery comes out the same."""
    load.register(SERVICES, 3)
    load.state("old", [make_instance(9, number) for number in range(20)])
    processes.start("listener")
    materializer = processes.start("materializer", **guard("enforce", "service"))
    gateway = processes.start("gateway")
    for process in processes.started:
        process.wait()
    pilot = pilots(gateway.address)
    name = f"{namespace}/old.default-group.{namespace}"
    wait_for(lambda: len(pilot.endpoints().get(name, ())) == 20, timeout_s=20, what="all endpoints")
    load.state("old", [make_instance(9, 0)])
    wait_for(
        lambda: materializer.metric("shiplog_materializer_holds", scope="service") == 1, timeout_s=20, what="held"
    )
    assert len(pilot.endpoints()[name]) > 1
    options = ("--scope", "service", "--datacenter", "dc1", "--service", "DEFAULT_GROUP@@old")
    assert decide(processes, namespace, "release", *options)["holds"] == []
    wait_for(lambda: len(pilot.endpoints()[name]) == 1, timeout_s=10, what="let go")
    versions = len(read_history(kafka))
    restart(materializer)
    time.sleep(1)
    assert len(pilot.endpoints()[name]) == 1
    assert len(read_history(kafka)) == versions, "the recovery came out otherwise"


def test_decisions_that_cannot_be_carried_out_say_why(processes: Processes, namespace: str, load: Load) -> None:
    """Exit code 1 and a text; the others go on."""
    load.register(2, 1)
    processes.start_all()
    unknown = processes.control("freeze", "-n", "nowhere", *WHY)
    assert unknown.returncode == 1
    assert "namespace nowhere has no snapshot" in unknown.stderr
    no_version = processes.control("pin", "-n", namespace, "--version", "123456789", *WHY)
    assert no_version.returncode == 1
    assert "no version 123456789" in no_version.stderr
    listed = processes.control("list")
    assert listed.returncode == 0
    assert f"{namespace}: live, 2 resources" in listed.stdout
