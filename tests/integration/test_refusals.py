"""What one service, one item or one message says costs itself, and nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from producers import metrics
from producers.listener import watched
from producers.nacos.payload import encode
from schemas.events import ConfigGone, ConfigKey, Link, ServiceGone, ServiceKey
from tests.harness.fake_nacos.registry import host
from tests.harness.fake_nacos.server import FakeNacos
from tests.harness.load import GROUP
from tests.harness.pilot import wait_for
from tests.harness.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD = ServiceKey(GROUP, "odd name")
VERSIONS = ("1.4.6", "2.3.2", "3.0.3")


def fill(nacos: FakeNacos, services: int = 20) -> None:
    """svc-0 to svc-n of two instances."""
    for number in range(services):
        nacos.state("public", f"svc-{number}", [host(f"10.0.{number}.1"), host(f"10.0.{number}.2")])


@pytest.fixture(params=VERSIONS)
def nacos(request: pytest.FixtureRequest) -> Iterator[FakeNacos]:
    """Twenty ordinary services and an odd one."""
    with FakeNacos(version=request.param) as server:
        fill(server)
        server.state("public", ODD.service, [host("10.9.9.9")])
        yield server


def goes_on(nacos: FakeNacos, watcher: Watcher) -> None:
    """A change, a new service, and a vanished one arrive."""
    nacos.state("public", "svc-1", [host("10.7.7.7")])
    wait_for(lambda: watcher.ips("svc-1") == {"10.7.7.7"}, timeout_s=10, what="a change")
    nacos.state("public", "late", [host("10.8.8.8")])
    wait_for(lambda: watcher.ips("late") == {"10.8.8.8"}, timeout_s=10, what="a new service")
    nacos.delete(("public", GROUP, "svc-2"))
    wait_for(lambda: watcher.ips("svc-2") is None, timeout_s=15, what="a vanished service")


@pytest.mark.parametrize("code", [400, 403, 500])
def test_a_service_that_is_refused_is_set_aside_and_the_others_go_on(code: int, nacos: FakeNacos) -> None:
    """At the start: parameter checks, permissions, a fault of the server's; taken back, it is found."""
    nacos.registry.faults.refused[ODD.service] = code
    with Watcher(nacos.url) as watcher:
        wait_for(lambda: watcher.view.complete, timeout_s=15, what="a view of what can be had")
        assert len(watcher.view.observed) == 20
        assert list(watcher.view.left_out) == [ODD]
        assert list(watcher.watch.refused_services) == [ODD]
        assert watcher.link() is Link.DEGRADED
        assert "odd name" in watcher.detail()
        assert not watcher.watch.is_complete
        goes_on(nacos, watcher)
        nacos.registry.faults.refused.clear()
        wait_for(lambda: watcher.ips(ODD.service) == {"10.9.9.9"}, timeout_s=20, what="the odd one")
        wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=20, what="live")
        wait_for(lambda: watcher.watch.is_complete, timeout_s=10, what="complete")
        assert not watcher.watch.refused_services


def test_a_service_that_is_refused_after_an_upgrade_stays_as_it_was(nacos: FakeNacos) -> None:
    """It was known; its connection is made anew, and the new server does not take its name."""
    with Watcher(nacos.url) as watcher:
        wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
        nacos.registry.faults.refused[ODD.service] = 400
        nacos.call(nacos.grpc.end_streams)
        nacos.state("public", ODD.service, [host("10.9.9.9", healthy=False)])
        wait_for(lambda: ODD in watcher.watch.refused_services, timeout_s=20, what="the odd one set aside")
        goes_on(nacos, watcher)
        assert watcher.ips(ODD.service) == {"10.9.9.9"}
        assert ODD not in watcher.view.left_out
        assert [body.key.service for body in watcher.of_type(ServiceGone)] == ["svc-2"]


def test_a_refused_service_that_is_deleted_is_forgotten(nacos: FakeNacos) -> None:
    """The listings decide, where the service itself can't be asked."""
    nacos.registry.faults.refused[ODD.service] = 403
    with Watcher(nacos.url) as watcher:
        wait_for(lambda: watcher.view.complete, timeout_s=15, what="a view of what can be had")
        nacos.delete(("public", *ODD))
        wait_for(lambda: ODD not in watcher.view.left_out, timeout_s=20, what="the odd one forgotten")
        wait_for(lambda: watcher.watch.is_complete, timeout_s=10, what="complete")


def test_a_server_that_refuses_every_service_tells_nothing(nacos: FakeNacos) -> None:
    """That is no view that could be published: the link is blind until they are told."""
    nacos.registry.faults.refused[GROUP] = 403
    with Watcher(nacos.url) as watcher:
        wait_for(lambda: "Nacos answered 403" in watcher.detail(), timeout_s=10, what="the reason")
        time.sleep(1)
        assert watcher.link() is Link.BLIND
        assert not watcher.view.complete
        nacos.registry.faults.refused.clear()
        wait_for(lambda: watcher.watch.is_complete, timeout_s=20, what="a whole view")


@pytest.mark.parametrize("nacos", ["2.3.2", "3.0.3"], indirect=True)
def test_a_message_that_cannot_be_handled_costs_itself(nacos: FakeNacos, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in what a push leads to: noted, the link degraded, the service asked again."""
    with Watcher(nacos.url) as watcher:
        wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
        connections = nacos.grpc.opened
        before, parse, failed = watcher.count(metrics.GARBAGE), watched.parse_service_info, []

        def parse_or_fail(info: Any, known: Any) -> Any:
            if info["name"] == "svc-0" and not failed:
                failed.append(info)
                raise ZeroDivisionError("a fault of ours")
            return parse(info, known)

        monkeypatch.setattr(watched, "parse_service_info", parse_or_fail)
        nacos.state("public", "svc-0", [host("10.6.6.6")])
        wait_for(lambda: watcher.link() is Link.DEGRADED, timeout_s=5, what="degraded")
        wait_for(lambda: watcher.ips("svc-0") == {"10.6.6.6"}, timeout_s=10, what="what the push had said")
        assert failed
        assert watcher.count(metrics.GARBAGE) == before + 1
        goes_on(nacos, watcher)
        assert nacos.grpc.opened == connections


@pytest.mark.parametrize("nacos", ["2.3.2"], indirect=True)
@pytest.mark.parametrize(
    "data",
    [
        encode("ConnectResetRequest", {"serverIp": "127.0.0.1", "serverPort": "\u00b2"}),
        encode("NotifySubscriberRequest", {"serviceInfo": {"name": "svc-0", "groupName": GROUP, "hosts": 5}}),
        encode("NotifySubscriberRequest", {"serviceInfo": {"name": "nobody's", "hosts": []}}),
        encode("SetupAckRequest", {"abilityTable": [1]}),
        encode("NamingFuzzyWatchSyncRequest", {"contexts": {"a": 1}}),
    ],
)
def test_odd_messages_of_the_server_silence_nothing(data: bytes, nacos: FakeNacos) -> None:
    """Whatever is in them, the next one is read."""
    with Watcher(nacos.url) as watcher:
        wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
        nacos.call(nacos.grpc.send_raw, data)
        goes_on(nacos, watcher)
        assert watcher.ips("svc-0") == {"10.0.0.1", "10.0.0.2"}
        assert watcher.ips("nobody's") is None


@pytest.mark.parametrize("version", VERSIONS)
def test_services_are_published_while_the_config_center_is_away(version: str) -> None:
    """Its database is; a keyframe keeps the items that the log has, and the next one states them."""
    with FakeNacos(version=version) as nacos:
        fill(nacos)
        nacos.configure("public", "routes.yaml", "a: 1")
        nacos.registry.faults.config_center_away = True
        with Watcher(nacos.url, nacos={"config_groups": ("ISTIO", "MORE")}) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=10, what="services")
            assert len(watcher.view.observed) == 20
            assert watcher.view.keep().item_groups == ("ISTIO", "MORE")
            assert watcher.link() is Link.DEGRADED
            goes_on(nacos, watcher)
            nacos.registry.faults.config_center_away = False
            wait_for(lambda: watcher.view.configs_complete, timeout_s=20, what="the items")
            assert watcher.view.keep().item_groups == ()
            assert list(watcher.view.configs) == [ConfigKey("ISTIO", "routes.yaml")]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_of_config_items_that_is_refused_leaves_the_others(version: str) -> None:
    """Of that group nothing is known; the other one is followed."""
    with FakeNacos(version=version) as nacos:
        fill(nacos, 3)
        nacos.configure("public", "routes.yaml", "a: 1")
        nacos.configure("public", "secret.yaml", "a: 1", group="SECRET")
        nacos.registry.faults.refused["SECRET"] = 403
        with Watcher(nacos.url, nacos={"config_groups": ("ISTIO", "SECRET")}) as watcher:
            wait_for(lambda: watcher.view.configs_complete, timeout_s=10, what="what can be had")
            assert watcher.view.keep().item_groups == ("SECRET",)
            assert list(watcher.view.configs) == [ConfigKey("ISTIO", "routes.yaml")]
            nacos.configure("public", "routes.yaml", "a: 2")
            wait_for(
                lambda: [one.content for one in watcher.view.configs.values()] == ["a: 2"],
                timeout_s=10,
                what="a change",
            )
            nacos.registry.faults.refused.clear()
            wait_for(lambda: len(watcher.view.configs) == 2, timeout_s=20, what="the other group")
            assert watcher.view.keep().item_groups == ()


@pytest.mark.parametrize("version", ["2.3.2", "3.0.3"])
@pytest.mark.parametrize("code", [400, 403])
def test_a_config_item_that_is_refused_leaves_the_others(code: int, version: str) -> None:
    """Listened to in one batch with them; a keyframe keeps it, and it is asked for again."""
    odd = ConfigKey("ISTIO", "odd.yaml")
    with FakeNacos(version=version) as nacos:
        fill(nacos, 3)
        for number in range(7):
            nacos.configure("public", f"routes-{number}.yaml", "a: 1")
        nacos.configure("public", odd.data_id, "a: 1")
        nacos.registry.faults.refused[odd.data_id] = code
        with Watcher(nacos.url) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=15, what="what can be had")
            assert len(watcher.view.configs) == 7
            assert watcher.view.keep().items == (odd,)
            assert list(watcher.watch.refused_items) == [odd]
            nacos.configure("public", "routes-3.yaml", "a: 2")
            wait_for(
                lambda: watcher.view.configs[ConfigKey("ISTIO", "routes-3.yaml")].content == "a: 2",
                timeout_s=10,
                what="a change",
            )
            nacos.registry.faults.refused.clear()
            wait_for(lambda: odd in watcher.view.configs, timeout_s=20, what="the odd one")


def test_a_config_item_that_grew_too_large_stands_as_it_was() -> None:
    """Its last good text; with a new listener the keyframe keeps what the log has; deleted, it is gone."""
    key = ConfigKey("ISTIO", "routes.yaml")
    with FakeNacos() as nacos:
        fill(nacos, 3)
        nacos.configure("public", key.data_id, "a: 1")
        with Watcher(nacos.url) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=15, what="a whole view")
            nacos.configure("public", key.data_id, "x" * 17_000_000)
            wait_for(lambda: "too_large" in watcher.quarantine.reasons, timeout_s=20, what="the item set aside")
            time.sleep(1.5)
            assert nacos.registry.asked.count("ConfigQueryRequest") < 10, "fetched again and again"
            assert watcher.view.configs[key].content == "a: 1"
        with Watcher(nacos.url) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=20, what="a view")
            assert watcher.view.keep().items == (key,)
            nacos.configure("public", key.data_id, None)
            wait_for(lambda: watcher.of_type(ConfigGone), timeout_s=20, what="the item gone")
