"""A real cluster of three Nacos nodes: killed one after another, then all, and restarted empty."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from schemas.events import Link, ServiceDelta, ServiceGone
from tests.harness.load import Load, make_instance
from tests.harness.pilot import wait_for
from tests.harness.servers import start_nacos_cluster, start_together, wait_for_cluster
from tests.harness.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.servers import NacosServer

SERVICES = 30
OTHER = "other"
"""A namespace of its own for the first test: Nacos shows services without instances for two minutes."""
OUTAGE_S = float(os.environ.get("SHIPLOG_CLUSTER_OUTAGE_S", "10"))
"""`make soak` sets 60."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NacosServer]]:
    """The cluster; its data goes with the test."""
    started = start_nacos_cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    for node in started:
        node.child.kill()


class Applications:
    """Services whose weights change; they register with a node that lives, as real clients do."""

    def __init__(self) -> None:
        self.node: NacosServer | None = None
        self._load: Load | None = None
        self._weights = dict.fromkeys(range(SERVICES), 1.0)

    def move(self, node: NacosServer) -> None:
        former, self.node = self._load, node
        self._load = Load(node.url, "public")
        for number in range(SERVICES):
            self._state(number)
        if former is not None:
            former.close()

    def change(self, number: int) -> float:
        """A weight that no service had before."""
        self._weights[number] = max(self._weights.values()) + 1
        self._state(number)
        return self._weights[number]

    def _state(self, number: int) -> None:
        assert self._load is not None
        instances = [make_instance(number, index)._replace(weight=self._weights[number]) for index in (0, 1)]
        self._load.state(f"svc-{number}", instances)

    def close(self) -> None:
        if self._load is not None:
            self._load.close()


def has_weight(watcher: Watcher, number: int, weight: float) -> bool:
    """Whether both instances have it."""
    found = next((known for key, known in watcher.view.observed.items() if key.service == f"svc-{number}"), None)
    return found is not None and [one.weight for one in found.instances] == [weight] * 2


@pytest.mark.timeout(400)
def test_services_are_found_and_removals_confirmed_while_a_node_is_down(nodes: list[NacosServer]) -> None:
    """It would be asked first for a second opinion: the third one gives it, and nothing else waits."""
    load = Load(nodes[0].url, OTHER)
    load.register(5, 1)
    quick = {"removal_grace_s": 2.0, "sweep_interval_s": 60.0, "listing_interval_s": 1.0}
    urls = [node.url for node in nodes]
    with Watcher(*urls, namespace=OTHER, nacos={"config_groups": ()}, settings=quick) as watcher:
        wait_for(lambda: watcher.watch.is_complete, timeout_s=60, what="a whole view")
        load.state("svc-0", [])
        wait_for(lambda: watcher.ips("svc-0") == set(), timeout_s=20, what="a service without instances")
        nodes[1].child.kill()
        wait_for(lambda: delete_service(nodes[0], "svc-0"), timeout_s=60, what="Nacos deletes the service")
        load.state("late", [make_instance(9, 1)])
        wait_for(lambda: watcher.ips("late") is not None, timeout_s=10, what="a new service")
        wait_for(lambda: watcher.ips("svc-0") is None, timeout_s=60, what="the removal confirmed")
        assert [body.key.service for body in watcher.of_type(ServiceGone)] == ["svc-0"]
    nodes[1].child.start()
    wait_for_cluster(nodes)
    load.close()


def delete_service(node: NacosServer, name: str) -> bool:
    """Deletes an empty service; whether the server did."""
    params = {"serviceName": name, "namespaceId": OTHER}
    return httpx.delete(f"{node.url}/nacos/v1/ns/service", params=params, timeout=10).is_success


@pytest.mark.timeout(900)
def test_nodes_killed_one_after_another_and_all_at_once(nodes: list[NacosServer]) -> None:
    """Changes go on, and no removal is ever published: every application stays or comes back."""
    applications = Applications()
    applications.move(nodes[2])
    # The grace period is that of operations.md: a minute for a cluster that may restart as a whole.
    settings = {"removal_grace_s": 60.0, "sweep_interval_s": 10.0}
    with Watcher(*[node.url for node in nodes], nacos={"config_groups": ()}, settings=settings) as watcher:
        wait_for(lambda: len(watcher.view.observed) == SERVICES, timeout_s=60, what="all services")
        for turn, victim in enumerate(nodes):
            victim.child.kill()
            if applications.node is victim:
                applications.move(nodes[turn - 1])
            weight = applications.change(turn)
            wait_for(lambda n=turn, w=weight: has_weight(watcher, n, w), timeout_s=60, what="a change")
            victim.child.start()
            wait_for_cluster(nodes)
        for node in nodes:
            node.child.kill()
        wait_for(lambda: watcher.link() is Link.BLIND, timeout_s=30, what="blind")
        time.sleep(OUTAGE_S)
        start_together(nodes)
        wait_for_cluster(nodes)
        applications.close()
        applications = Applications()
        applications.move(nodes[0])
        weight = applications.change(7)
        wait_for(lambda: has_weight(watcher, 7, weight), timeout_s=60, what="a change after the outage")
        wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=90, what="live")
        time.sleep(3)
        assert not watcher.of_type(ServiceGone)
        assert not [body for body in watcher.of_type(ServiceDelta) if body.removals]
        assert all(len(known.instances) == 2 for known in watcher.view.observed.values())
    applications.close()
