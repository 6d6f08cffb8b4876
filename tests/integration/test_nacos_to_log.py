"""From a Nacos that is asked much to what stands in Kafka: namespaces, quarantine, logins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import orjson
import pytest

from schemas.avro_codec import codecs
from schemas.events import ConfigState, NamespaceGone, ServiceState
from schemas.topics import QUARANTINE, REGISTRY_EVENTS
from tests.harness.fake_nacos.registry import host
from tests.harness.fake_nacos.server import FakeNacos
from tests.harness.logs import read_all
from tests.harness.pilot import wait_for
from tests.harness.processes import Processes
from tests.harness.servers import start_nacos
from tests.harness.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemas.events import RegistryEvent
    from schemas.records import Quarantined
    from tests.harness.servers import KafkaServer, NacosServer


@pytest.fixture
def fake() -> Iterator[FakeNacos]:
    """A fake server; of version 2.3.2."""
    with FakeNacos() as server:
        yield server


@pytest.fixture
def listeners(kafka: KafkaServer, fake: FakeNacos, tmp_path: Path) -> Iterator[Processes]:
    """Starts listeners of the fake server, over new topics."""
    kafka.renew_topics()
    started = Processes(tmp_path, kafka, fake, [], group=tmp_path.name)
    yield started
    started.stop()


def events(kafka: KafkaServer) -> list[RegistryEvent]:
    """All of them."""
    decode = codecs().registry_event.decode
    return [decode(message.value()) for message in read_all(kafka, REGISTRY_EVENTS)]


def quarantined(kafka: KafkaServer) -> list[Quarantined]:
    """All of them."""
    decode = codecs().quarantined.decode
    return [decode(message.value()) for message in read_all(kafka, QUARANTINE)]


def test_namespaces_that_match_come_and_go(listeners: Processes, kafka: KafkaServer, fake: FakeNacos) -> None:
    """By pattern; one that vanishes is gone once nothing is registered in it; public is called `public`."""
    listeners.namespaces[:] = ["team-*", "public"]
    fake.registry.namespaces |= {"team-a", "other"}
    for namespace in ("team-a", "other", "public"):
        fake.state(namespace, "svc", [host()])
    settings = {"SHIPLOG_LISTENER__NAMESPACE_INTERVAL_S": "0.5", "SHIPLOG_LISTENER__REMOVAL_GRACE_S": "1"}
    listener = listeners.start("listener", **settings)
    listener.wait()
    watched = lambda: set(listener.debug("services")["namespaces"])  # noqa: E731
    wait_for(lambda: watched() == {"team-a", "public"}, timeout_s=10, what="the namespaces")
    fake.registry.namespaces.add("team-b")
    wait_for(lambda: "team-b" in watched(), timeout_s=10, what="a new one")
    fake.registry.namespaces.discard("team-a")
    time.sleep(3)
    assert "team-a" in watched(), "an application is registered in it"
    fake.state("team-a", "svc", [])
    wait_for(lambda: "team-a" not in watched(), timeout_s=15, what="the namespace gone")
    wait_for(
        lambda: [e.namespace for e in events(kafka) if isinstance(e.body, NamespaceGone)] == ["team-a"],
        timeout_s=10,
        what="its event",
    )
    stated = {e.namespace for e in events(kafka) if isinstance(e.body, ServiceState)}
    assert stated == {"team-a", "public"}


def test_what_cannot_be_used_stands_in_the_quarantine(
    listeners: Processes, kafka: KafkaServer, fake: FakeNacos
) -> None:
    """Once, whole, with its reason, however often it is pushed; the good ones and the service go on."""
    listeners.namespaces[:] = ["public"]
    bad = host("10.0.0.9", 70000)
    fake.state("public", "svc", [host(), bad])
    fake.configure("public", "large.yaml", "x" * (17 * 1024 * 1024))
    fake.configure("public", "ten.yaml", "x" * (10 * 1024 * 1024))
    fake.configure("public", "small.yaml", "a: 1")
    listener = listeners.start("listener")
    listener.wait()
    for weight in (2.0, 3.0, 4.0):
        fake.state("public", "svc", [host(weight=weight), bad])
    wait_for(lambda: len(quarantined(kafka)) == 2, timeout_s=20, what="both in the quarantine")
    found = {record.reason: record for record in quarantined(kafka)}
    assert orjson.loads(found["bad_port"].value) == bad
    assert found["bad_port"].key == b"public|DEFAULT_GROUP|svc"
    assert "10.0.0.9:70000" in found["bad_port"].detail
    assert "large.yaml" in found["too_large"].detail
    wait_for(lambda: listener.metric("shiplog_listener_queued_events") == 0, timeout_s=10, what="all written")
    bodies = [event.body for event in events(kafka)]
    assert {body.key.data_id for body in bodies if isinstance(body, ConfigState)} == {"small.yaml", "ten.yaml"}
    assert listener.metric("shiplog_listener_quarantined_total", namespace="public", reason="bad_port") == 1


def test_a_token_is_renewed_before_it_ends(fake: FakeNacos) -> None:
    """Of a life of one second; all that while lists and connections stand."""
    with FakeNacos(users={"shiplog": "s3cret"}) as nacos:
        nacos.http.token_life_s = 1.0
        nacos.registry.service("public", "g", "svc").hosts = [host()]
        login = {"username": "shiplog", "password": "s3cret"}
        with Watcher(nacos.url, nacos=login) as watcher:
            wait_for(lambda: nacos.http.logins >= 4, timeout_s=15, what="renewals")
            nacos.state("public", "svc", [host("10.3.0.1")], group="g")
            wait_for(lambda: watcher.ips("svc", "g") == {"10.3.0.1"}, timeout_s=5, what="a change")
    assert fake.http.logins == 0


def test_a_real_server_that_wants_a_login(tmp_path: Path) -> None:
    """Over HTTP and gRPC, with a user who may read and write; a wrong password leads to a clear error."""
    nacos = start_nacos(tmp_path, wants_login=True)
    login = {"username": "shiplog", "password": "s3cret"}
    try:
        nacos.wait()
        token = sign_up(nacos, tmp_path, **login)
        instance = {"serviceName": "svc", "ip": "10.0.0.1", "port": 80, "accessToken": token}
        httpx.post(f"{nacos.url}/nacos/v1/ns/instance", params=instance, timeout=10).raise_for_status()
        with Watcher(nacos.url, nacos=login) as watcher:
            wait_for(lambda: watcher.view.complete and watcher.ips("svc"), timeout_s=20, what="the service")
        with Watcher(nacos.url, nacos=login | {"password": "wrong"}) as stranger:
            wait_for(lambda: "check its password" in stranger.detail(), timeout_s=20, what="the remedy")
        with Watcher(nacos.url) as stranger:
            wait_for(lambda: "set nacos.username" in stranger.detail(), timeout_s=20, what="the remedy")
    finally:
        nacos.child.kill()


def sign_up(nacos: NacosServer, folder: Path, *, username: str, password: str) -> str:
    """Makes a user who may do anything in the public namespace, with the servers' own identity; a token of his."""
    lines = (folder / "nacos" / "conf" / "application.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    identity = "nacos.core.auth.server.identity"
    headers = {properties[f"{identity}.key"]: properties[f"{identity}.value"]}
    url = f"{nacos.url}/nacos/v1/auth"
    for path, params in (
        ("users", {"username": username, "password": password}),
        ("roles", {"role": "watchers", "username": username}),
        ("permissions", {"role": "watchers", "resource": "*:*:*", "action": "rw"}),
        ("permissions", {"role": "watchers", "resource": "public:*:*", "action": "rw"}),
    ):
        httpx.post(f"{url}/{path}", params=params, headers=headers, timeout=10).raise_for_status()
    form = {"username": username, "password": password}
    # Nacos reads its users again every few seconds.
    wait_for(lambda: httpx.post(f"{url}/login", data=form, timeout=10).is_success, timeout_s=40, what="a login")
    return str(httpx.post(f"{url}/login", data=form, timeout=10).json()["accessToken"])
