"""A Nacos that lies, stumbles and sends garbage: nothing crashes, nothing false is published, all is counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from producers import metrics
from producers.nacos.payload import encode
from schemas.events import Link, ServiceDelta, ServiceGone, ServiceState
from tests.harness.fake_nacos.registry import host
from tests.harness.fake_nacos.server import FakeNacos
from tests.harness.pilot import wait_for
from tests.harness.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES = 40
KEY = ("public", "DEFAULT_GROUP", "svc-0")


@pytest.fixture
def nacos() -> Iterator[FakeNacos]:
    """A fake server with services of two instances."""
    with FakeNacos() as server:
        for number in range(SERVICES):
            server.state("public", f"svc-{number}", [host(f"10.0.{number}.1"), host(f"10.0.{number}.2")])
        yield server


@pytest.fixture
def watcher(nacos: FakeNacos) -> Iterator[Watcher]:
    """A watch of its public namespace that has seen all."""
    with Watcher(nacos.url) as watching:
        wait_for(lambda: watching.view.complete, timeout_s=10, what="a whole view")
        yield watching


def stays_whole(watcher: Watcher) -> bool:
    """All services with both instances, and never told otherwise."""
    removed = [body for body in watcher.of_type(ServiceDelta) if body.removals]
    return (
        not removed
        and not watcher.of_type(ServiceGone)
        and len(watcher.view.observed) == SERVICES
        and all(len(known.instances) == 2 for known in watcher.view.observed.values())
    )


def works(nacos: FakeNacos, watcher: Watcher, *, timeout_s: float = 15) -> None:
    """A change still arrives."""
    ip = f"10.9.{time.monotonic_ns() % 250}.{time.monotonic_ns() // 250 % 250}"
    nacos.state("public", "probe", [host(ip)])
    wait_for(lambda: watcher.ips("probe") == {ip}, timeout_s=timeout_s, what="a change after the fault")


def test_a_listing_that_lacks_some_services_takes_none(nacos: FakeNacos, watcher: Watcher) -> None:
    """They are asked for one by one, and there they are."""
    nacos.registry.faults.listing = lambda entries: entries[5:]
    time.sleep(3)
    assert stays_whole(watcher)
    works(nacos, watcher)


def test_a_listing_that_lacks_most_services_is_not_believed(nacos: FakeNacos, watcher: Watcher) -> None:
    """The link is blind until it shows them again."""
    before = watcher.count(metrics.LISTINGS_DOUBTED)
    nacos.registry.faults.listing = lambda entries: entries[:3]
    wait_for(lambda: watcher.link() is Link.BLIND, timeout_s=10, what="blind")
    assert "lacks" in watcher.detail()
    time.sleep(2)
    assert stays_whole(watcher)
    assert watcher.count(metrics.LISTINGS_DOUBTED) > before
    nacos.registry.faults.listing = None
    wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=10, what="live again")


@pytest.mark.parametrize("kind", ["repeat", "skip", "empty", "reversed"])
def test_pages_of_the_catalog_that_repeat_or_skip_change_nothing(
    kind: str, nacos: FakeNacos, watcher: Watcher
) -> None:
    """They are hints, no more."""
    nacos.registry.faults.page = {
        "repeat": lambda entries, _: entries[:3] * 40,
        "skip": lambda entries, _: entries[::7],
        "empty": lambda _entries, _: [],
        "reversed": lambda entries, _: entries[::-1],
    }[kind]
    time.sleep(2.5)
    assert stays_whole(watcher)
    works(nacos, watcher)


def test_empty_lists_after_a_reconnect_take_nothing(nacos: FakeNacos, watcher: Watcher) -> None:
    """A server that has not loaded its peers' data: what it lacks is asked for again after the grace period."""
    before = watcher.count(metrics.REMOVALS_WITHHELD)
    nacos.registry.faults.empty_answers = True
    nacos.call(nacos.grpc.end_streams)
    wait_for(lambda: watcher.count(metrics.REMOVALS_WITHHELD) > before, timeout_s=10, what="removals withheld")
    nacos.registry.faults.empty_answers = False
    time.sleep(2.5)
    assert stays_whole(watcher)
    works(nacos, watcher)


def test_what_stays_gone_after_a_reconnect_is_removed_once_confirmed(nacos: FakeNacos, watcher: Watcher) -> None:
    """The grace period ends: a removal that a second look confirms is a fact."""
    nacos.call(nacos.grpc.end_streams)
    nacos.call(nacos.registry.services.__getitem__, KEY).hosts.pop()
    wait_for(lambda: watcher.ips("svc-0") == {"10.0.0.1"}, timeout_s=15, what="the instance gone")


def test_clocks_that_go_back_and_pushes_that_come_twice(nacos: FakeNacos, watcher: Watcher) -> None:
    """The order of arrival counts, not the server's clock; what is told twice is published once."""
    for ref_time, ip in ((2000, "10.1.0.1"), (1000, "10.1.0.2")):
        nacos.call(nacos.registry.service, *KEY).hosts = [host(ip)]
        info = nacos.call(nacos.registry.service_info, KEY) | {"lastRefTime": ref_time}
        nacos.call(nacos.grpc.push, KEY, info, times=3)
    wait_for(lambda: watcher.ips("svc-0") == {"10.1.0.2"}, timeout_s=5, what="the later push")
    time.sleep(0.5)
    assert sum(body.key.service == "svc-0" for body in watcher.of_type(ServiceDelta)) == 2


def test_a_push_of_5_megabytes(nacos: FakeNacos, watcher: Watcher) -> None:
    """A service of 20,000 instances; then one of them changes, and one is told."""
    ips = (f"10.{1 + n // 62500}.{n // 250 % 250}.{n % 250}" for n in range(20_000))
    many = [host(ip, metadata={"v": "x" * 80}) for ip in ips]
    nacos.state("public", "big", many)
    wait_for(lambda: len(watcher.ips("big") or ()) == 20_000, timeout_s=30, what="all instances")
    nacos.state("public", "big", [{**many[0], "weight": 5.0}, *many[1:]])

    def deltas() -> list[ServiceDelta]:
        return [body for body in watcher.of_type(ServiceDelta) if body.key.service == "big"]

    wait_for(lambda: bool(deltas()), timeout_s=20, what="a delta")
    (delta,) = deltas()
    assert (len(delta.upserts), len(delta.removals), delta.count) == (1, 0, 20_000)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff",
        encode("NotifySubscriberRequest", {})[:-2] + b"[[",
        encode("NotifySubscriberRequest", {"serviceInfo": {"name": "svc-0", "hosts": "none"}}),
        encode("NotifySubscriberRequest", {"serviceInfo": None}),
        encode("UnknownRequest", {"a": [1, 2]}),
    ],
)
def test_garbage_on_the_stream_is_counted_and_passed_over(data: bytes, nacos: FakeNacos, watcher: Watcher) -> None:
    """Nothing of it is used; the link says so for a while, unless it is only a message of a later version."""
    before = watcher.count(metrics.GARBAGE)
    nacos.call(nacos.grpc.send_raw, data)
    works(nacos, watcher)
    assert watcher.ips("svc-0") == {"10.0.0.1", "10.0.0.2"}
    if b"Unknown" not in data:
        assert watcher.count(metrics.GARBAGE) > before
        wait_for(lambda: watcher.link() is Link.DEGRADED, timeout_s=5, what="degraded")


def test_garbage_instead_of_lists(nacos: FakeNacos, watcher: Watcher) -> None:
    """HTML from a proxy: the link is degraded, pushes go on."""
    nacos.registry.faults.garbage_lists = True
    wait_for(lambda: watcher.link() is Link.DEGRADED, timeout_s=10, what="degraded")
    nacos.state("public", "svc-0", [host("10.7.7.7")])
    wait_for(lambda: watcher.ips("svc-0") == {"10.7.7.7"}, timeout_s=5, what="a push")
    assert not watcher.of_type(ServiceGone)


def test_a_connection_that_is_half_open_is_given_up(nacos: FakeNacos, watcher: Watcher) -> None:
    """It stands, nothing is answered: within seconds the link is blind, and afterwards all is well again."""
    nacos.registry.faults.silent = True
    wait_for(lambda: watcher.link() is Link.BLIND, timeout_s=20, what="blind")
    assert watcher.count(metrics.RECONNECTS, cause="health_check") >= 1
    nacos.registry.faults.silent = False
    wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=40, what="live again")
    assert stays_whole(watcher)


def test_endless_resets_are_met_with_patience(nacos: FakeNacos, watcher: Watcher) -> None:
    """Each leads to a new connection, later and later; nothing is removed."""
    nacos.registry.faults.reset_at_once = True
    nacos.call(nacos.grpc.end_streams)
    opened = nacos.grpc.opened
    time.sleep(6)
    assert nacos.grpc.opened - opened < 25, "it hammers"
    assert watcher.count(metrics.RECONNECTS, cause="connect_reset") >= 2
    assert not watcher.of_type(ServiceGone)
    nacos.registry.faults.reset_at_once = False
    works(nacos, watcher, timeout_s=20)


def test_a_reset_that_names_a_server_is_followed(nacos: FakeNacos, watcher: Watcher) -> None:
    """Acknowledged, and the next connection goes to the server that was named."""
    with FakeNacos() as other:
        other.registry.services = nacos.registry.services
        body = {"serverIp": "127.0.0.1", "serverPort": str(other.port)}
        for connection in list(nacos.grpc.connections.values()):
            nacos.call(nacos.grpc.send, connection, "ConnectResetRequest", body)
        wait_for(lambda: other.grpc.opened >= 1, timeout_s=10, what="a connection to the other server")
        wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=10, what="live")
        assert stays_whole(watcher)


@pytest.mark.parametrize("fault", ["starting", "not_registered", "busy"])
def test_a_server_that_is_not_ready_is_tried_again(fault: str, nacos: FakeNacos, watcher: Watcher) -> None:
    """It answers with an error code; nothing is removed meanwhile."""
    setattr(nacos.registry.faults, fault, True)
    nacos.call(nacos.grpc.end_streams)
    wait_for(lambda: watcher.link() is Link.BLIND, timeout_s=15, what="blind")
    time.sleep(1)
    setattr(nacos.registry.faults, fault, False)
    wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=20, what="live again")
    assert stays_whole(watcher)


def test_a_subscription_that_is_refused_is_tried_again(nacos: FakeNacos, watcher: Watcher) -> None:
    """Of a new service, while the connection stands; and of many, while it is being set up."""
    nacos.registry.faults.refused_subscriptions = 3
    works(nacos, watcher)
    nacos.registry.faults.refused_subscriptions = 5
    nacos.call(nacos.grpc.end_streams)
    wait_for(lambda: nacos.registry.faults.refused_subscriptions == 0, timeout_s=20, what="all refusals used up")
    works(nacos, watcher)
    assert not watcher.of_type(ServiceGone)


def test_instances_with_anything_in_them(nacos: FakeNacos, watcher: Watcher) -> None:
    """Bad ones are set aside with their reasons, the service goes on with the good ones."""
    bad = [
        host(""), host("10.0.0.3", 0), host("10.0.0.4", 70000), host("10.0.0.5", weight=-1),
        host("10.0.0.6", weight="NaN"), host("10.0.0.7", metadata={"k": "x" * 1_000_000}),
        host("10.0.0.8\u0000"), host("10.0.0.9", metadata=[1]),
    ]  # fmt: skip
    good = [host("10.0.0.1", weight=1e300, metadata={"名": "值\u0007"}), host("10.0.0.1"), host("支付.example")]
    nacos.state("public", "支付服务", [*bad, *good], group="中文组")
    wait_for(
        lambda: watcher.ips("支付服务", "中文组") == {"10.0.0.1", "支付.example"},
        timeout_s=10,
        what="the good ones",
    )
    assert {"bad_ip", "bad_port", "bad_weight", "metadata_too_long", "bad_metadata"} <= set(
        watcher.quarantine.reasons
    )
    stated = [body for body in watcher.of_type(ServiceState) if body.key.service == "支付服务"]
    assert stated
