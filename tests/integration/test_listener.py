"""What the listener finds and believes, on a real Nacos."""

from __future__ import annotations

import socket
import time
import uuid
from typing import TYPE_CHECKING, Any

import httpx

from tests.harness.load import GROUP, Load, make_instance
from tests.harness.pilot import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import NacosServer

SERVICES = 20


class Console:
    """Nacos's HTTP API, as any other client uses it, for one persistent instance."""

    def __init__(self, nacos: NacosServer, namespace: str, service: str) -> None:
        self._url = f"{nacos.url}/nacos/v1/ns"
        self._facts = {"namespaceId": namespace, "serviceName": f"apps@@{service}", "ephemeral": "false"}

    def call(self, method: str, path: str, **facts: Any) -> None:
        answer = httpx.request(method, self._url + path, params={**self._facts, **facts}, timeout=10)
        assert answer.is_success, answer.text


def test_whatever_a_client_does_to_an_instance_is_seen(
    processes: Processes, nacos: NacosServer, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """Register, weight, metadata, health, disable, protect threshold, remove: over HTTP, in a group of its own.

    The instances are persistent, and really there: Nacos itself finds out whether they are healthy.
    """
    load.register(1, 1)
    _, _, gateway = processes.start_all(SHIPLOG_CONVERSION__ALLOW_LOCAL_ADDRESSES="true")
    pilot = pilots(gateway.address)
    console = Console(nacos, namespace, "shop")
    first, second = socket.create_server(("127.0.0.1", 0)), socket.socket()
    port = first.getsockname()[1]
    second.bind(("127.0.0.2", port))
    second.listen()
    here: dict[str, Any] = {"ip": "127.0.0.1", "port": port, "clusterName": "c1"}
    there: dict[str, Any] = {"ip": "127.0.0.2", "port": port, "clusterName": "c1"}
    name = f"{namespace}/shop.apps.{namespace}"

    def shows(*expected: tuple[str, int, dict[str, str]]) -> None:
        wanted = {
            (ip, port, weight, frozenset({"cluster": "c1", **labels}.items())) for ip, weight, labels in expected
        }
        wait_for(lambda: pilot.endpoints().get(name) == wanted, timeout_s=40, what=str(wanted))

    console.call("POST", "/instance", **here)
    console.call("POST", "/instance", **there)
    shows(("127.0.0.1", 100, {}), ("127.0.0.2", 100, {}))
    console.call("PUT", "/instance", **here, weight=2.5)
    shows(("127.0.0.1", 250, {}), ("127.0.0.2", 100, {}))
    console.call("PUT", "/instance", **here, weight=2.5, metadata='{"version":"v9"}')
    shows(("127.0.0.1", 250, {"version": "v9"}), ("127.0.0.2", 100, {}))
    second.close()
    shows(("127.0.0.1", 250, {"version": "v9"}))
    # Nacos pushes a new threshold with the service's next change only.
    console.call("PUT", "/service", protectThreshold=0.8)
    console.call("PUT", "/instance", **here, weight=2, metadata='{"version":"v9"}')
    shows(("127.0.0.1", 200, {"version": "v9"}), ("127.0.0.2", 100, {}))
    console.call("PUT", "/service", protectThreshold=0)
    console.call("PUT", "/instance", **here, weight=2.5, metadata='{"version":"v9"}')
    shows(("127.0.0.1", 250, {"version": "v9"}))
    with socket.create_server(("127.0.0.2", port)):
        shows(("127.0.0.1", 250, {"version": "v9"}), ("127.0.0.2", 100, {}))
        console.call("PUT", "/instance", **here, weight=2.5, enabled="false")
        shows(("127.0.0.2", 100, {}))
        console.call("DELETE", "/instance", **there)
        console.call("DELETE", "/instance", **here)
        shows()  # its entry stays for a while
    first.close()


def test_services_and_namespaces_that_come_later_are_found(
    processes: Processes, nacos: NacosServer, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """A new service in a new group within seconds; a new namespace at its next look, with what is in it."""
    load.register(1, 1)
    processes.namespaces.clear()  # all of them
    listener = processes.start("listener", SHIPLOG_LISTENER__NAMESPACE_INTERVAL_S="1")
    others = [processes.start("materializer"), processes.start("gateway")]
    for process in (listener, *others):
        process.wait()
    pilot = pilots(others[1].address)
    load.state("late", [make_instance(3, 1)])
    wait_for(
        lambda: f"{load.namespace}/late.default-group.{load.namespace}" in pilot.endpoints(),
        timeout_s=10,
        what="the late service",
    )
    new = f"ns-{uuid.uuid4().hex[:8]}"
    nacos.create_namespace(new)
    second = Load(nacos.url, new)
    second.state("svc-0", [make_instance(1, 1)])
    wait_for(
        lambda: f"{new}/svc-0.default-group.{new}" in pilot.endpoints(), timeout_s=20, what="the new namespace"
    )
    assert listener.debug("services")["namespaces"][new]["link"] == "LIVE"
    second.close()


def test_a_deleted_service_is_gone_once_confirmed_and_may_come_back(
    processes: Processes, nacos: NacosServer, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """Two listings must lack it; registered again, it is found, subscribed and shown again.

    Its entry stays for a while without endpoints.
    """
    load.register(3, 1)
    listener = processes.start("listener")
    materializer = processes.start("materializer", SHIPLOG_CONVERSION__EMPTY_GRACE_S="5")
    gateway = processes.start("gateway")
    for process in (listener, materializer, gateway):
        process.wait()
    pilot = pilots(gateway.address)
    name = f"{namespace}/svc-0.default-group.{namespace}"
    wait_for(lambda: name in pilot.endpoints(), timeout_s=20, what="the service")

    def is_watched() -> bool:
        page = listener.debug(f"services?namespace={namespace}")
        return "svc-0" in {service["service"] for service in page["on_this_page"]}

    load.state("svc-0", [])
    wait_for(lambda: pilot.endpoints().get(name) == set(), timeout_s=20, what="its entry without endpoints")
    wait_for(lambda: name not in pilot.endpoints(), timeout_s=30, what="the empty service without an entry")
    assert is_watched(), "an empty service is not a gone one"
    params = {"serviceName": "svc-0", "namespaceId": namespace}
    wait_for(
        lambda: httpx.delete(f"{nacos.url}/nacos/v1/ns/service", params=params, timeout=10).is_success,
        timeout_s=20,
        what="Nacos deletes the service",
    )
    wait_for(lambda: not is_watched(), timeout_s=20, what="the service gone")
    assert listener.metric("shiplog_listener_events_total", kind="ServiceGone") == 1
    load.state("svc-0", [make_instance(0, 5)])
    wait_for(lambda: "10.0.0.6" in str(pilot.endpoints().get(name)), timeout_s=20, what="the service again")


def test_a_nacos_that_restarts_empty_takes_nothing_while_its_clients_come_back(
    processes: Processes, nacos: NacosServer, namespace: str, pilots: Callable[..., Pilot]
) -> None:
    """Killed and started without its instances: nothing is removed in the grace period, then all is as before."""
    load = Load(nacos.url, namespace)
    load.register(SERVICES, 3)
    listener = processes.start("listener", SHIPLOG_LISTENER__REMOVAL_GRACE_S="10")
    others = [processes.start("materializer"), processes.start("gateway")]
    for process in (listener, *others):
        process.wait()
    pilot = pilots(others[1].address)
    wait_for(lambda: len(pilot.endpoints()) == SERVICES, timeout_s=20, what="all services")
    before = pilot.endpoints()

    nacos.child.kill()
    wait_for(
        lambda: listener.debug("services")["namespaces"][namespace]["link"] == "BLIND", timeout_s=20, what="blind"
    )
    nacos.child.start()
    nacos.wait()
    time.sleep(3)  # connected again, and everything is empty
    returned = Load(nacos.url, namespace)
    returned.register(SERVICES, 3)
    wait_for(
        lambda: listener.debug("services")["namespaces"][namespace]["link"] == "LIVE",
        timeout_s=40,
        what="live again",
    )
    time.sleep(12)
    returned.state("svc-0", [make_instance(0, 9)])
    name = f"{namespace}/svc-0.default-group.{namespace}"
    wait_for(lambda: "10.0.0.10" in str(pilot.endpoints()[name]), timeout_s=20, what="changes go on")
    assert pilot.sizes == [SERVICES] * len(pilot.sizes)
    assert len(pilot.versions) == 2, "something changed in between"
    assert {key: value for key, value in pilot.endpoints().items() if key != name} == {
        key: value for key, value in before.items() if key != name
    }
    hosts = nacos.hosts(namespace, [(GROUP, "svc-0")])
    assert len(hosts[GROUP, "svc-0"]) == 1
    returned.close()
