"""What pushes hide, on a real Nacos: disabled instances, true health, thresholds; and its config center."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import httpx

from producers.nacos.connection import Endpoint, NacosConnection
from schemas.events import ConfigGone, ConfigKey, ConfigState, ServiceDelta
from tests.harness.load import make_instance
from tests.harness.pilot import wait_for
from tests.harness.watcher import Watcher

if TYPE_CHECKING:
    from tests.harness.load import Load
    from tests.harness.servers import NacosServer


def call(nacos: NacosServer, method: str, path: str, **params: Any) -> None:
    """A call of Nacos's HTTP API that must succeed."""
    httpx.request(method, f"{nacos.url}/nacos/v1{path}", params=params, timeout=10).raise_for_status()


def facts(watcher: Watcher, service: str) -> dict[str, tuple[bool, bool, bool]]:
    """Of each instance: enabled, healthy, ephemeral."""
    known = next((found for key, found in watcher.view.observed.items() if key.service == service), None)
    return {one.ip: (one.enabled, one.healthy, one.ephemeral) for one in known.instances} if known else {}


def test_disabling_is_not_removing(nacos: NacosServer, namespace: str, load: Load) -> None:
    """An instance that is disabled stays in the log as that, is seen when enabled again, and goes when it goes."""
    one, other = make_instance(0, 0), make_instance(0, 1)
    load.state("svc-0", [one, other])
    with Watcher(nacos.url, namespace=namespace, settings={"sweep_interval_s": 2.0}) as watcher:
        wait_for(lambda: len(facts(watcher, "svc-0")) == 2, timeout_s=10, what="both")
        load.state("svc-0", [one, other._replace(enabled=False)])
        wait_for(lambda: facts(watcher, "svc-0") == {one.ip: (True, True, True), other.ip: (False, True, True)},
                 timeout_s=10, what="one disabled")  # fmt: skip
        load.state("svc-0", [one, other])
        wait_for(
            lambda: facts(watcher, "svc-0")[other.ip] == (True, True, True), timeout_s=10, what="enabled again"
        )
        load.state("svc-0", [one, other._replace(enabled=False)])
        wait_for(
            lambda: facts(watcher, "svc-0").get(other.ip, (True,))[0] is False, timeout_s=10, what="disabled again"
        )
        load.state("svc-0", [one])
        wait_for(lambda: facts(watcher, "svc-0") == {one.ip: (True, True, True)}, timeout_s=15, what="removed")


def test_health_below_the_protect_threshold_is_the_true_one(nacos: NacosServer, namespace: str) -> None:
    """Persistent instances that nobody answers for: Nacos tells its clients that all are well."""
    with socket.create_server(("127.0.0.1", 0)) as alive:
        port = alive.getsockname()[1]
        service = {"namespaceId": namespace, "serviceName": "db", "groupName": "DEFAULT_GROUP"}
        for ip in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            call(nacos, "POST", "/ns/instance", **service, ip=ip, port=port, ephemeral="false")
        call(nacos, "PUT", "/ns/service", **service, protectThreshold=0.8)
        with Watcher(nacos.url, namespace=namespace, settings={"sweep_interval_s": 2.0}) as watcher:
            truth = {"127.0.0.1": (True, True, False), "127.0.0.2": (True, False, False)}
            wait_for(
                lambda: truth.items() <= facts(watcher, "db").items(), timeout_s=40, what="who is healthy, truly"
            )
            known = next(iter(watcher.view.observed.values()))
            assert known.protect_threshold == 0.8
            corrections = len(watcher.of_type(ServiceDelta))
            wait_for(lambda: not watcher.view.dirty, timeout_s=5, what="all published")
            assert corrections < 20, "it goes back and forth"


def test_config_items_of_a_real_config_center(nacos: NacosServer, namespace: str) -> None:
    """Found by search, changed by push, deleted; other groups are left alone; 10 MB arrive whole."""
    configs = "/cs/configs"
    item = {"tenant": namespace, "group": "ISTIO", "dataId": "routes.yaml"}
    call(nacos, "POST", configs, **item, content="a: 1", type="yaml")
    call(nacos, "POST", configs, **(item | {"group": "OTHER"}), content="b: 1")
    call(nacos, "POST", configs, **(item | {"dataId": "notes.txt"}), content="c: 1")
    wanted = {"config_groups": ("IST*",), "config_data_ids": ("*.yaml",)}
    with Watcher(nacos.url, namespace=namespace, nacos=wanted) as watcher:
        wait_for(lambda: watcher.view.complete, timeout_s=20, what="a whole view")
        key = ConfigKey("ISTIO", "routes.yaml")
        assert watcher.view.configs.keys() == {key}
        assert watcher.view.configs[key].content_type == "yaml"
        for text in ("a: 2", "a: 3"):
            call(nacos, "POST", configs, **item, content=text, type="yaml")
            wait_for(lambda text=text: watcher.view.configs[key].content == text, timeout_s=10, what=text)
        call(nacos, "POST", configs, **(item | {"dataId": "late.yaml"}), content="d: 1")
        late = ConfigKey("ISTIO", "late.yaml")
        wait_for(lambda: late in watcher.view.configs, timeout_s=10, what="a new item")
        call(nacos, "DELETE", configs, **item)
        wait_for(lambda: watcher.of_type(ConfigGone) == [ConfigGone(key=key)], timeout_s=30, what="the item gone")
        _publish_large(nacos, namespace, "x" * 9_900_000)
        wait_for(
            lambda: any(len(body.content) == 9_900_000 for body in watcher.of_type(ConfigState)),
            timeout_s=30,
            what="an item of 10 MB",
        )


def _publish_large(nacos: NacosServer, namespace: str, text: str) -> None:
    """Over gRPC: Nacos's HTTP takes no forms of this size."""

    async def publish() -> None:
        endpoint = Endpoint(f"127.0.0.1:{nacos.port + 1000}")
        connection = NacosConnection(endpoint, namespace=namespace, on_push=lambda _: None, module="config")
        await connection.open()
        body = {"dataId": "large.yaml", "group": "ISTIO", "tenant": namespace, "content": text}
        await connection.request("ConfigPublishRequest", body, timeout_s=60)
        await connection.close()

    asyncio.run(publish())
