"""New services are found and vanished ones confirmed, whatever else goes wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from producers.listener.names import ServiceNames
from runtime import metrics as runtime_metrics
from schemas.events import Link, ServiceGone, ServiceKey
from tests.harness.fake_nacos.registry import host
from tests.harness.fake_nacos.server import FakeNacos
from tests.harness.load import GROUP
from tests.harness.pilot import wait_for
from tests.harness.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = ("1.4.6", "2.3.2", "3.0.3")
SERVICES = 20


def fill(nacos: FakeNacos, services: int = SERVICES) -> None:
    """svc-0 to svc-n of one instance."""
    for number in range(services):
        nacos.registry.service("public", GROUP, f"svc-{number}").hosts = [host(f"10.0.{number}.1")]


@pytest.fixture(params=VERSIONS)
def nodes(request: pytest.FixtureRequest) -> Iterator[tuple[FakeNacos, FakeNacos]]:
    """Two servers of one cluster."""
    with FakeNacos(version=request.param) as first, FakeNacos(version=request.param) as second:
        second.registry.services = first.registry.services
        fill(first)
        yield first, second


def test_a_service_is_found_while_another_node_is_away_and_a_service_vanished(
    nodes: tuple[FakeNacos, FakeNacos],
) -> None:
    """The second opinion gates removals only: without it nothing is confirmed, and nothing else waits."""
    with Watcher(*[node.url for node in nodes]) as watcher:
        wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
        # The node that answers lists goes on; the other one, which would confirm, does not answer.
        lists = ("/v1/ns/catalog/services", "/v3/admin/ns/service/list")
        asked = [sum(one in lists for one in node.registry.asked) for node in nodes]
        away = nodes[0] if asked[0] < asked[1] else nodes[1]
        other = nodes[1] if away is nodes[0] else nodes[0]
        away.registry.faults.starting = True
        nodes[0].call(nodes[0].registry.services.pop, ("public", GROUP, "svc-0"))
        for node in nodes:
            node.call(node.grpc.name_changed, ("public", GROUP, "svc-0"), "DELETE_SERVICE")
        time.sleep(2)
        other.state("public", "late", [host("10.8.8.8")])
        wait_for(lambda: watcher.ips("late") == {"10.8.8.8"}, timeout_s=5, what="a new service")
        assert watcher.ips("svc-0") is not None, "removed without a second opinion"
        away.registry.faults.starting = False
        wait_for(lambda: watcher.ips("svc-0") is None, timeout_s=40, what="the removal confirmed")


@pytest.mark.parametrize("version", ["2.3.2", "3.0.3"])
@pytest.mark.parametrize("request_type", ["SubscribeServiceRequest", "NamingFuzzyWatchRequest"])
def test_a_reset_while_a_call_is_in_flight_does_not_end_the_search(version: str, request_type: str) -> None:
    """The connection is made anew, and new services are followed, vanished ones removed, as before."""
    with FakeNacos(version=version) as nacos:
        fill(nacos)
        with Watcher(nacos.url) as watcher:
            wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
            left = [2]

            def cancelled(kind: str) -> bool:
                left[0] -= kind == request_type
                return kind == request_type and left[0] >= 0

            nacos.registry.faults.cancelled = cancelled
            if request_type == "NamingFuzzyWatchRequest":
                nacos.call(nacos.grpc.end_streams)
            nacos.state("public", "late", [host("10.8.8.8")])
            wait_for(lambda: watcher.ips("late") == {"10.8.8.8"}, timeout_s=20, what="the new service")
            nacos.state("public", "later", [host("10.8.8.9")])
            wait_for(lambda: watcher.ips("later") == {"10.8.8.9"}, timeout_s=10, what="the next one")
            nacos.delete(("public", GROUP, "svc-0"))
            wait_for(lambda: watcher.of_type(ServiceGone), timeout_s=15, what="the vanished one")
            wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=10, what="live")


def test_1500_services_within_seconds_are_found_within_5_s_though_500_are_pushed() -> None:
    """3.x leaves out what is over its limit, in silence; until all are found nothing says that it is complete."""
    with FakeNacos(version="3.0.3") as nacos:
        fill(nacos, 5)
        slow = {"listing_interval_s": 1.0, "sweep_interval_s": 60.0}
        with Watcher(nacos.url, settings=slow) as watcher:
            wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
            wait_for(lambda: "NamingFuzzyWatchRequest" in nacos.registry.asked, timeout_s=10, what="the watch")
            time.sleep(1.2)
            for number in range(1500):
                nacos.call(nacos.registry.service, "public", GROUP, f"new-{number}").hosts = [host()]
                nacos.call(nacos.grpc.name_changed, ("public", GROUP, f"new-{number}"), "ADD_SERVICE")
            registered = time.monotonic()
            while len(watcher.view.observed) < 1505:
                if time.monotonic() - registered > 1.5:  # a count is asked for each second
                    assert not watcher.watch.is_complete
                assert time.monotonic() - registered < 5, f"{len(watcher.view.observed)} of 1505 after 5 s"
                time.sleep(0.02)
            wait_for(lambda: watcher.watch.is_complete, timeout_s=5, what="complete")
            assert watcher.link() is Link.LIVE


@pytest.mark.parametrize("version", ["2.3.2", "3.0.3"])
def test_while_services_are_counted_and_not_listed_nothing_is_complete(version: str) -> None:
    """The view can be published all the same, and says that it lacks some; found, it says that it is whole."""
    with FakeNacos(version=version) as nacos:
        fill(nacos)
        nacos.registry.faults.listing = lambda entries: entries[3:]
        nacos.http.count_all = True
        nacos.grpc.most_matches = 0
        with Watcher(nacos.url) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=20, what="a view of what was found")
            assert watcher.view.keep().all_services
            assert watcher.watch.left_to_find == 3
            assert not watcher.watch.is_complete
            assert watcher.link() is Link.DEGRADED
            assert "3 services are counted and not found yet" in watcher.detail()
            nacos.registry.faults.listing = None
            wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="complete")
            assert not watcher.view.keep().all_services


@pytest.mark.parametrize("version", VERSIONS)
def test_a_listing_that_fails_now_and_then_delays_and_loses_nothing(version: str) -> None:
    """3.0.3 answers 500 to a listing while services are being registered."""
    with FakeNacos(version=version) as nacos:
        fill(nacos)
        with Watcher(nacos.url) as watcher:
            wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
            nacos.registry.faults.listing_code = 500
            nacos.state("public", "late", [host("10.8.8.8")])
            wait_for(lambda: watcher.link() is not Link.LIVE, timeout_s=10, what="a failed listing")
            nacos.registry.faults.listing_code = 0
            wait_for(lambda: watcher.ips("late") == {"10.8.8.8"}, timeout_s=10, what="the new service")
            wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=10, what="live")


def test_on_1x_additions_do_not_wait_in_the_grace_period() -> None:
    """After an outage removals do: the servers may have been restarted. At its end they are believed."""
    with FakeNacos(version="1.4.6") as nacos:
        fill(nacos)
        with Watcher(nacos.url, settings={"removal_grace_s": 6.0}) as watcher:
            wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
            nacos.registry.faults.starting = True
            wait_for(lambda: watcher.link() is Link.BLIND, timeout_s=10, what="blind")
            nacos.registry.faults.starting = False
            wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=10, what="live again")
            nacos.state("public", "svc-0", [host("10.0.0.2")])
            nacos.state("public", "late", [host("10.8.8.8")])
            wait_for(lambda: watcher.ips("late") == {"10.8.8.8"}, timeout_s=3, what="a new service")
            wait_for(
                lambda: watcher.ips("svc-0") == {"10.0.0.1", "10.0.0.2"}, timeout_s=3, what="one more instance"
            )
            wait_for(lambda: watcher.ips("svc-0") == {"10.0.0.2"}, timeout_s=15, what="the removal believed")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_watch_that_failed_is_started_again_and_lacks_nothing(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours in the search, and in the watch itself: what was known is followed on."""
    with FakeNacos(version=version) as nacos:
        fill(nacos)
        with Watcher(nacos.url, parts_may_fail=True) as watcher:
            wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
            look, failed = ServiceNames._look, []

            async def look_or_fail(self: ServiceNames) -> None:
                if not failed:
                    failed.append(1)
                    raise ZeroDivisionError("a fault of ours")
                await look(self)

            monkeypatch.setattr(ServiceNames, "_look", look_or_fail)
            wait_for(lambda: bool(failed), timeout_s=10, what="the fault")
            nacos.state("public", "late", [host("10.8.8.8")])
            wait_for(lambda: watcher.ips("late") == {"10.8.8.8"}, timeout_s=10, what="a new service")
            watcher.call(watcher.watch._names.dialect_changed.set)  # type: ignore[union-attr]
            nacos.state("public", "svc-3", [host("10.7.7.7"), host("10.7.7.8")])
            wait_for(lambda: watcher.ips("svc-3") == {"10.7.7.7", "10.7.7.8"}, timeout_s=20, what="a change")
            nacos.delete(("public", GROUP, "svc-4"))
            wait_for(lambda: watcher.ips("svc-4") is None, timeout_s=20, what="a vanished service")
            assert [body.key for body in watcher.of_type(ServiceGone)] == [ServiceKey(GROUP, "svc-4")]


def test_no_part_of_a_watch_ends_without_being_heard_of() -> None:
    """Every task of it is the supervisor's: cancelled by anything else it is started again."""
    with FakeNacos() as nacos:
        fill(nacos)
        with Watcher(nacos.url, parts_may_fail=True) as watcher:
            wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
            assert {part.name for part in watcher.supervisor._parts.values()} == {
                "watch of a namespace", "config items", "search for services", "removals", "sweep", "close looks",
                "subscriptions",
            }  # fmt: skip
            restarts = runtime_metrics.PART_RESTARTS.labels("search for services")._value.get()

            def is_started_again() -> bool:
                names = watcher.watch._names
                assert names is not None
                for waiter in list(names._woken._waiters):  # type: ignore[attr-defined]
                    waiter.cancel()  # what it waits for, not the task
                return runtime_metrics.PART_RESTARTS.labels("search for services")._value.get() > restarts

            wait_for(lambda: watcher.call(is_started_again), timeout_s=10, what="the search started again")
            nacos.state("public", "late", [host("10.8.8.8")])
            wait_for(lambda: watcher.ips("late") == {"10.8.8.8"}, timeout_s=10, what="a new service")
