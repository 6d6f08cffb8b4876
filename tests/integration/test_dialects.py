"""Nacos 1.x, 2.x and 3.x: each is recognised and followed; logins, TLS, many connections."""

from __future__ import annotations

import contextlib
import ssl
import time
from typing import TYPE_CHECKING

import grpc
import pytest
import trustme

from schemas.events import ConfigGone, ConfigState, Link, ServiceDelta, ServiceGone
from tests.harness.fake_nacos.registry import host
from tests.harness.fake_nacos.server import FakeNacos
from tests.harness.load import GROUP, Load, make_instance
from tests.harness.pilot import wait_for
from tests.harness.servers import free_port
from tests.harness.watcher import Watcher

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.servers import NacosServer

VERSIONS = ("1.4.6", "2.3.2", "3.1.0")


def fill(nacos: FakeNacos, services: int = 30, namespace: str = "public") -> None:
    """svc-0 to svc-n of two instances."""
    for number in range(services):
        hosts = [host(f"10.{number // 250}.{number % 250}.{index}") for index in (1, 2)]
        nacos.registry.service(namespace, GROUP, f"svc-{number}").hosts = hosts


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_is_recognised_and_followed(version: str) -> None:
    """New services, changes, disabled ones, true health, vanished services and config items, in its dialect."""
    with FakeNacos(version=version) as nacos:
        fill(nacos)
        nacos.configure("public", "routes.yaml", "a: 1")
        with Watcher(nacos.url) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=10, what="a whole view")
            assert watcher.version() == f"{version}, spoken to as {version[0]}.x"
            assert len(watcher.view.observed) == 30
            nacos.state("public", "late", [host("10.5.0.1")], group="other")
            wait_for(lambda: watcher.ips("late", "other") == {"10.5.0.1"}, timeout_s=5, what="a new service")
            disabled = host("10.0.0.1", enabled=False), host("10.0.0.2", healthy=False)
            nacos.state("public", "svc-0", list(disabled))
            wait_for(lambda: _facts(watcher, "svc-0") == {("10.0.0.1", False, True), ("10.0.0.2", True, False)},
                     timeout_s=10, what="who is disabled, who is unhealthy")  # fmt: skip
            nacos.delete(("public", GROUP, "svc-1"))
            wait_for(lambda: watcher.ips("svc-1") is None, timeout_s=10, what="the service gone")
            nacos.configure("public", "routes.yaml", "a: 2")
            wait_for(
                lambda: [item.content for item in watcher.of_type(ConfigState)] == ["a: 1", "a: 2"],
                timeout_s=10,
                what="the changed config item",
            )
            nacos.configure("public", "routes.yaml", None)
            wait_for(lambda: watcher.of_type(ConfigGone), timeout_s=15, what="the config item gone")
            assert [body.key.service for body in watcher.of_type(ServiceGone)] == ["svc-1"]
            wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=5, what="live")


def _facts(watcher: Watcher, service: str) -> set[tuple[str, bool, bool]]:
    known = next(found for key, found in watcher.view.observed.items() if key.service == service)
    return {(one.ip, one.enabled, one.healthy) for one in known.instances}


def test_a_real_server_can_be_followed_over_http_alone(nacos: NacosServer, namespace: str, load: Load) -> None:
    """Forced to 1.x, whose paths 2.3.2 still serves: names, instances and changes by sweeps."""
    load.register(20, 3)
    with Watcher(nacos.url, namespace=namespace, nacos={"mode": "1.x"}) as watcher:
        wait_for(
            lambda: len(watcher.view.observed) == 20 and watcher.view.complete, timeout_s=20, what="all services"
        )
        assert watcher.version() == "2.3.2, spoken to as 1.x"
        load.state("svc-0", [make_instance(0, 5), make_instance(0, 6)])
        wait_for(lambda: watcher.ips("svc-0") == {"10.0.0.6", "10.0.0.7"}, timeout_s=15, what="a change")


@pytest.mark.parametrize("code", [50310, 50311])
def test_names_are_listed_where_they_cannot_be_pushed(code: int) -> None:
    """A 3.x server with too many patterns or too many matches: new services are found all the same."""
    with FakeNacos(version="3.0.1") as nacos:
        nacos.registry.faults.patterns_over_limit = code
        fill(nacos)
        with Watcher(nacos.url) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=10, what="a whole view")
            nacos.state("public", "late", [host()])
            wait_for(lambda: watcher.ips("late") is not None, timeout_s=5, what="a new service")


def test_names_that_are_pushed_need_no_listing() -> None:
    """On 3.x a new service is subscribed at once, although listings are far apart."""
    with FakeNacos(version="3.1.0") as nacos:
        fill(nacos, 25)
        slow = {"sweep_interval_s": 600.0, "listing_interval_s": 2.0}
        with Watcher(nacos.url, settings=slow) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=10, what="a whole view")
            wait_for(lambda: "NamingFuzzyWatchRequest" in nacos.registry.asked, timeout_s=10, what="the watch")
            time.sleep(2.5)
            nacos.state("public", "late", [host()])
            wait_for(lambda: watcher.ips("late") is not None, timeout_s=1.5, what="a new service")


def test_a_namespace_of_many_services_is_spread_over_connections() -> None:
    """Five connections of ten; one that ends takes nothing with it."""
    with FakeNacos() as nacos:
        fill(nacos, 50)
        with Watcher(nacos.url, settings={"services_per_connection": 10}) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=10, what="a whole view")
            sizes = [len(one.subscribed) for one in nacos.grpc.connections.values() if one.subscribed]
            assert sizes == [10] * 5
            victim = next(one for one in nacos.grpc.connections.values() if one.subscribed)
            nacos.call(victim.out.put_nowait, None)
            wait_for(lambda: watcher.link() is Link.DEGRADED, timeout_s=5, what="degraded, not blind")
            wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=10, what="live")
            nacos.state(
                "public", "svc-7", [host("10.8.8.8"), *nacos.registry.service("public", GROUP, "svc-7").hosts]
            )
            wait_for(lambda: "10.8.8.8" in (watcher.ips("svc-7") or ()), timeout_s=10, what="a change")
            assert not [body for body in watcher.of_type(ServiceDelta) if body.removals]


@pytest.mark.parametrize("version", ["2.3.2", "3.1.0"])
def test_a_login_is_renewed_and_a_403_leads_to_one_more(version: str, tmp_path: Path) -> None:
    """With the password from a file; over HTTP and gRPC."""
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    with FakeNacos(version=version, users={"shiplog": "s3cret"}) as nacos:
        fill(nacos)
        login = {"username": "shiplog", "password_file": password}
        with Watcher(nacos.url, nacos=login) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=10, what="a whole view")
            assert nacos.http.logins == 1
            nacos.call(nacos.registry.faults.refuse_tokens.add, nacos.http.token)
            nacos.state("public", "late", [host()])
            wait_for(lambda: watcher.ips("late") is not None, timeout_s=10, what="a service after a new login")
            assert nacos.http.logins == 2


@pytest.mark.parametrize(
    ("login", "remedy"),
    [
        ({"username": "shiplog", "password": "wrong"}, "check its password"),
        ({}, "set nacos.username"),
    ],
)
def test_a_refused_login_says_what_to_do(
    login: dict[str, str], remedy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The link names the remedy; the password stands nowhere."""
    with FakeNacos(users={"shiplog": "s3cret"}) as nacos, Watcher(nacos.url, nacos=login) as watcher:
        wait_for(lambda: remedy in watcher.detail(), timeout_s=10, what="the remedy")
        assert watcher.link() is Link.BLIND
        time.sleep(0.5)
    shown = capfd.readouterr()
    assert "wrong" not in shown.out + shown.err


@pytest.mark.parametrize("client_certificate", [True, False])
def test_tls_for_https_and_grpc(client_certificate: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """With an authority of one's own, a server name that is not the address, and a client certificate."""
    authority = trustme.CA()
    server = authority.issue_cert("nacos.example")
    client = authority.issue_cert("shiplog")
    ca, pair = tmp_path / "ca.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(str(ca))
    client.private_key_and_cert_chain_pem.write_to_path(str(pair))
    https = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.configure_cert(https)
    if client_certificate:
        https.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(https)
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    grpc_tls = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), chain)],
        root_certificates=authority.cert_pem.bytes() if client_certificate else None,
        require_client_auth=client_certificate,
    )
    tls = {"ca_file": ca, "server_name": "nacos.example"}
    if client_certificate:
        tls["certificate_file"] = pair
    with FakeNacos(https=https, grpc_tls=grpc_tls) as nacos:
        fill(nacos)
        with Watcher(nacos.url, nacos={"tls": tls}) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=15, what="a whole view")
            wait_for(lambda: watcher.link() is Link.LIVE, timeout_s=5, what="live")
        with Watcher(nacos.url, nacos={"tls": {"server_name": "nacos.example"}}) as stranger:
            wait_for(
                lambda: "certificate" in stranger.detail().lower(), timeout_s=15, what="a fault that names TLS"
            )
            assert not stranger.view.observed


def test_a_failed_server_is_left_for_the_next_one() -> None:
    """Two servers; the one that is connected goes away."""
    with FakeNacos() as second, FakeNacos() as first:
        first.registry.services = second.registry.services
        fill(second)
        with Watcher(first.url, second.url) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=10, what="a whole view")
            connected = first if any(one.subscribed for one in first.grpc.connections.values()) else second
            other = second if connected is first else first
            connected.registry.faults.silent = True
            wait_for(
                lambda: any(len(one.subscribed) == 30 for one in other.grpc.connections.values()),
                timeout_s=30,
                what="all subscribed at the other one",
            )
            wait_for(lambda: watcher.link() in {Link.LIVE, Link.DEGRADED}, timeout_s=20, what="seeing again")
            assert not [body for body in watcher.of_type(ServiceDelta) if body.removals]
            connected.registry.faults.silent = False


def test_a_server_that_was_upgraded_is_spoken_to_anew() -> None:
    """From 2.x to 3.x under the same address: the old paths answer 410, and the new ones are taken."""
    port = free_port(1000)
    with contextlib.ExitStack() as watching:
        with FakeNacos(version="2.3.2", port=port) as old:
            fill(old)
            watcher = watching.enter_context(Watcher(old.url))
            wait_for(lambda: watcher.view.complete, timeout_s=10, what="a whole view")
        with FakeNacos(version="3.1.0", port=port) as new:
            fill(new)
            wait_for(lambda: watcher.version() == "3.1.0, spoken to as 3.x", timeout_s=30, what="the new version")
            new.state("public", "late", [host()])
            wait_for(lambda: watcher.ips("late") is not None, timeout_s=20, what="a new service")
            assert not [body for body in watcher.of_type(ServiceDelta) if body.removals]
